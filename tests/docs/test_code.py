"""Every block of Python in the documentation runs, and its settings and views do what is said."""

from __future__ import annotations

import ast
import inspect
import json
import sys
import unittest
from types import ModuleType
from typing import Any

import pytest
import yaml
from django.core.checks import run_checks
from django.http import HttpResponse
from django.template import engines
from django.test import Client, TestCase
from django.urls import path

from tests.docs.blocks import PAGES, ROOT, Block, blocks_of, taken_for_granted
from tests.settings import X402 as TEST_X402
from x402_django.http.middleware import OPTIONS_ATTRIBUTE
from x402_django.models import Payment
from x402_django.pricing.cache import forget_rules


def all_blocks(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks_of(page, language)]


WITH_CODE = [page for page in PAGES if blocks_of(page, "python")]
#: What is under a key of ``X402``, by a key of it.
HOMES = {"default": "FACILITATORS", "OPTIONS": "FACILITATORS"}
LOCAL = {"BACKEND": "x402_django.facilitators.LocalFacilitator"}


def names(page: Any) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", WITH_CODE, ids=names)
def test_every_block_runs(page, settings, monkeypatch):
    run_page(page, settings, monkeypatch)


@pytest.mark.django_db
@pytest.mark.parametrize("page", WITH_CODE, ids=names)
def test_every_paid_view_asks_for_its_money(page, settings, monkeypatch, client):
    """But those that need more of the site: a rule, a payment method, an extension."""
    namespace = run_page(page, settings, monkeypatch)
    views = {name: view for name, value in namespace.items() if (view := paid_view(name, value))}
    module = ModuleType("documented_urls")
    module.urlpatterns = [path(route(name, view), view) for name, view in views.items()]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    settings.ROOT_URLCONF = module.__name__
    settings.X402 = TEST_X402
    forget_rules()
    for name, view in views.items():
        response = client.get("/" + route(name, view).replace("<slug:slug>", "a-story"))
        assert (response.status_code, "PAYMENT-REQUIRED" in response) == (402, True), name


@pytest.mark.django_db
@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs/testing.md"], ids=names)
def test_the_tests_of_a_paid_view_pass(page, settings, monkeypatch):
    readme = run_page(ROOT / "README.md", settings, monkeypatch)
    module = ModuleType("documented_shop")
    module.urlpatterns = [path("weather/", readme["weather"])]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    namespace = run_page(page, settings, monkeypatch)
    settings.ROOT_URLCONF = module.__name__
    settings.X402 = TEST_X402
    cases = [value for value in namespace.values() if is_test_case(value)]
    assert len(cases) == 1
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(cases[0]).run(result)
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])


def is_test_case(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, TestCase) and value is not TestCase


# ------------------------------------------------------------------------------------ running


def run_page(page: Any, settings: Any, monkeypatch: Any) -> dict[str, Any]:
    """Run the blocks of a page one after the other; what they define."""
    namespace = taken_for_granted()
    module = ModuleType(namespace["__name__"])
    monkeypatch.setitem(sys.modules, module.__name__, module)
    module.__dict__.update(namespace)
    shop = ModuleType("shop")  # the reader's own package; its files are one here
    shop.views = module
    monkeypatch.setitem(sys.modules, "shop", shop)
    for block in blocks_of(page, "python"):
        if block.is_fragment:
            check_settings(block, fragment(block), settings)
            continue
        module.X402 = {}
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile("\n" * (block.line - 1) + block.code, str(page), "exec", flags=flags)
        if not code.co_flags & inspect.CO_COROUTINE:  # what is awaited would leave the machine
            exec(code, module.__dict__)
        if module.X402 and "BACKEND" not in str(module.X402.get("EXTENSIONS")):
            check_settings(block, module.X402, settings)
    return module.__dict__


def fragment(block: Block) -> dict[str, Any]:
    """The setting ``X402`` with the block where it belongs."""
    part = ast.literal_eval("{" + block.code + "}")
    first = next(iter(part))
    if first == "OPTIONS":
        part = {"default": {**LOCAL, **part}}
    return {HOMES[first]: part} if first in HOMES else part


def check_settings(block: Block, documented: dict[str, Any], settings: Any) -> None:
    """No check finds fault, but with what a reader brings: keys, and code of their own."""
    settings.X402 = {**TEST_X402, **documented}
    if "FACILITATORS" in documented:  # what a page leaves out is what it was before
        mine = {name: entry for name, entry in documented["FACILITATORS"].items() if entry != {...}}
        settings.X402["FACILITATORS"] = {**TEST_X402["FACILITATORS"], **mine}
    if "SERVICE_FACILITATOR" in documented:
        settings.X402["FACILITATORS"] = {"default": {**LOCAL, "OPTIONS": {"KEY_ENV": "KEY"}}}
    theirs = ("_ENV", "environment", "shop.")
    found = [
        problem
        for problem in run_checks()
        if problem.id.startswith("x402_django.E")
        and not any(word in f"{problem.msg} {problem.hint}" for word in theirs)
    ]
    assert found == [], str(block)


# -------------------------------------------------------------------------------------- views


def paid_view(name: str, value: Any) -> Any:
    """The view if ``value`` is one that is sold for a price in code; else None."""
    if name == "payment_required" or getattr(value, "__module__", None) != "documented":
        return None
    if isinstance(value, type) and hasattr(value, "as_view") and hasattr(value, "price"):
        return value.as_view()
    options = getattr(value, OPTIONS_ATTRIBUTE, None)
    if options is None or options.rule or options.is_metered or options.extensions:
        return None
    return value


def route(name: str, view: Any) -> str:
    return f"{name}/<slug:slug>/" if "slug" in inspect.signature(view).parameters else f"{name}/"


# ---------------------------------------------------------------------------- other languages


@pytest.mark.parametrize("block", all_blocks("json"), ids=str)
def test_json_is_json(block):
    assert json.loads(block.text)


@pytest.mark.parametrize("block", all_blocks("yaml"), ids=str)
def test_yaml_is_yaml(block):
    assert isinstance(yaml.safe_load(block.text), dict)


@pytest.mark.parametrize("block", all_blocks("html"), ids=str)
def test_templates_render(block, rf):
    """With the page that they extend, or as a part of one."""
    request = rf.get("/")
    request.payment = Payment(public_id="a" * 40)
    template = engines["django"].from_string(block.text)
    context = {"description": "Bees", "nonce": "n0nce"}
    assert template.render(context, request).strip() or "{% block" in block.text


def test_a_page_that_lies_is_found(tmp_path, settings, monkeypatch):
    """The tests above can fail."""
    page = tmp_path / "page.md"
    page.write_text('```python\n@payment_needed("$1")\ndef view(request): ...\n```\n')
    with pytest.raises(Exception, match="payment_needed"):
        run_page(page, settings, monkeypatch)
    page.write_text('```python\n"NETWORKS": {"base": {}}\n```\n')
    monkeypatch.setattr(Block, "__str__", lambda block: "here")
    with pytest.raises(AssertionError, match="here"):
        run_page(page, settings, monkeypatch)
    assert isinstance(Client().get("/nowhere/"), HttpResponse)
