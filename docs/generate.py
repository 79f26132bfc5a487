"""Writes the reference pages that are made from the code: `make reference`.

A test compares them with the code, so that a change of one without the other is noticed.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any, Final

HERE: Final = Path(__file__).parent
MADE: Final = "<!-- Made by `make reference` from the code; edit that. -->"

if TYPE_CHECKING:
    from django.core.management.base import BaseCommand
    from django.db import models

#: The parts of the page of models: what they are about, and their modules.
PARTS: Final = {
    "Prices and merchants": ("merchant", "prices", "previous_prices", "rule_quotas"),
    "The ledger": ("ledger", "receipt_numbers", "refunds", "holdings", "channels"),
    "The chain": ("chain", "scan", "notices"),
    "The facilitator service": ("service",),
    "Webhooks, alerts and tasks": ("outgoing_webhooks", "alerts", "periodic", "sign_ins"),
    "Figures of the dashboard": ("desk",),
}
_INTRODUCTION_TO_MODELS: Final = """
Every table, as `x402_django.models` has it. Rows of the ledger are money: read them with the ORM
as you like, and let `x402_django.payments` and the admin write them. Amounts are whole numbers of
the token's smallest unit; times are in UTC. Migrations never rewrite what a payment was.
"""
_INTRODUCTION_TO_COMMANDS: Final = """
Every command of `manage.py`, beside Django's own. All take Django's `--settings`, `--verbosity`
and so on. They exit with 0 if all is well, and say in their description what else they exit with.
"""
_INTRODUCTION_TO_ERRORS: Final = """
What `x402_django` raises, all in `x402_django.exceptions`. A view may raise those that say so, and
the gate answers for it. What stands on the wire is in [answers](answers.md).
"""


# ------------------------------------------------------------------------------------ models


def models_page() -> str:
    from django.apps import apps

    everything = list(apps.get_app_config("x402_django").get_models())
    lines = ["# Models", "", MADE, _INTRODUCTION_TO_MODELS]
    for title, modules in PARTS.items():
        lines += [f"## {title}", ""]
        for name in modules:
            inside = [one for one in everything if one.__module__.rpartition(".")[2] == name]
            for model in inside:
                everything.remove(model)
                lines += _model(model)
    if everything:
        raise SystemExit(f"No part of the page has {', '.join(m.__name__ for m in everything)}.")
    return "\n".join(lines).rstrip() + "\n"


def _model(model: type[models.Model]) -> Iterator[str]:
    said = _comments(model)
    proxied = model._meta.proxy_for_model if model._meta.proxy else None
    yield f"### `{model.__name__}`"
    yield ""
    yield _markdown(inspect.getdoc(model) or "")
    yield ""
    if proxied is not None:
        yield f"The rows of `{proxied.__name__}` that are meant."
        yield ""
        return
    yield "| field | kind | meaning |"
    yield "|---|---|---|"
    for field in model._meta.get_fields():
        if field.auto_created or (not hasattr(field, "attname") and not field.many_to_many):
            continue
        yield f"| `{field.name}` | {_kind(field)} | {_cell(_meaning(field, said))} |"
    yield ""
    for constraint in model._meta.constraints:
        yield f"- `{constraint.name}`: {_rule(constraint)}"
    if model._meta.constraints:
        yield ""


def _kind(field: Any) -> str:
    name = type(field).__name__.removesuffix("Field")
    if field.is_relation:
        name = f"→ `{field.related_model.__name__}`"
        if field.many_to_many:
            name += ", many"
    elif getattr(field, "choices", None):
        name = ", ".join(f"`{value}`" for value, _ in field.flatchoices if value != "")
    elif getattr(field, "max_length", None):
        name += f"({field.max_length})"
    return name + (", or null" if field.null and not field.many_to_many else "")


def _meaning(field: Any, said: dict[str, str]) -> str:
    words = []
    verbose = str(field.verbose_name)
    if verbose != field.name.replace("_", " "):
        words.append(verbose)
    words.append(said.get(field.name, "") or str(field.help_text) or ("" if words else verbose))
    meaning = ". ".join(word.rstrip(".") for word in words if word)
    return meaning[:1].upper() + meaning[1:]


def _rule(constraint: Any) -> str:
    from django.db.models import CheckConstraint, UniqueConstraint

    if isinstance(constraint, UniqueConstraint):
        fields = ", ".join(f"`{one}`" for one in constraint.fields) or "an expression"
        return f"{fields} once" + (", under a condition" if constraint.condition else "")
    return "checked by the database" if isinstance(constraint, CheckConstraint) else "a constraint"


def _comments(model: type) -> dict[str, str]:
    """The ``#:`` comments above the fields of a class and of its bases."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if base.__module__.startswith("x402_django"):
            found |= _comments_of(base)
    return found


def _comments_of(cls: type) -> dict[str, str]:
    source = dedent(inspect.getsource(cls))
    lines = source.splitlines()
    found = {}
    for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            above = []
            for line in reversed(lines[: node.lineno - 1]):
                if not line.strip().startswith("#:"):
                    break
                above.append(line.strip().removeprefix("#:").strip())
            if above:
                found[node.targets[0].id] = " ".join(reversed(above))
    return found


# ---------------------------------------------------------------------------------- commands


def commands_page() -> str:
    from django.core.management import get_commands, load_command_class

    ours = sorted(name for name, app in get_commands().items() if app == "x402_django")
    lines = ["# Commands", "", MADE, _INTRODUCTION_TO_COMMANDS]
    for name in ours:
        lines += _command(name, load_command_class("x402_django", name))
    return "\n".join(lines).rstrip() + "\n"


def _command(name: str, command: BaseCommand) -> Iterator[str]:
    parser = command.create_parser("manage.py", name)
    yield f"## `{name}`"
    yield ""
    yield _markdown(str(parser.description or command.help))
    yield ""
    shown = [
        action
        for action in parser._actions
        if action.dest not in _DJANGOS and not isinstance(action, argparse._HelpAction)
    ]
    if shown:
        yield "| option | |"
        yield "|---|---|"
        for action in shown:
            yield f"| {_option(action)} | {_cell(_help(action))} |"
        yield ""


_DJANGOS: Final = frozenset(
    {"version", "verbosity", "settings", "pythonpath", "traceback", "no_color", "force_color",
     "skip_checks"}
)  # fmt: skip


def _option(action: argparse.Action) -> str:
    value = action.metavar or action.dest.upper()
    if action.choices:
        value = " or ".join(map(str, action.choices))
    names = [f"`{one}`" for one in action.option_strings] or [f"`{action.metavar or action.dest}`"]
    if not action.option_strings or action.nargs == 0:
        return ", ".join(names)
    return ", ".join([*names[:-1], f"{names[-1][:-1]} {value}`"])


def _help(action: argparse.Action) -> str:
    text = str(action.help or "")
    values = {**vars(action), "prog": "manage.py"}
    return text % values if "%(" in text else text.replace("%%", "%")


# ------------------------------------------------------------------------------------ errors


def errors_page() -> str:
    from x402_django import exceptions

    tree = inspect.cleandoc(exceptions.__doc__ or "")
    picture = "\n".join(line for line in tree.splitlines() if line.startswith("    "))
    found = [
        one
        for one in vars(exceptions).values()
        if inspect.isclass(one)
        and issubclass(one, exceptions.X402Error)
        and one.__module__ == exceptions.__name__
    ]
    lines = ["# Errors", "", MADE, _INTRODUCTION_TO_ERRORS, "```text", dedent(picture), "```", ""]
    for error in found:
        lines += [
            f"## `{error.__name__}`",
            "",
            _markdown(inspect.getdoc(error) or ""),
            "",
            f"`code` is `{error.code}`; the same request may "
            f"{'' if error.retryable else 'not '}succeed later without a new payment.",
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


# ------------------------------------------------------------------------------------- words


def _markdown(docstring: str) -> str:
    """A docstring as Markdown: code, literal blocks and the list of arguments."""
    text = re.sub(r"``(.+?)``", r"`\1`", docstring)
    written: list[str] = []
    literal = False
    for paragraph in re.split(r"\n\s*\n", text):
        lines = paragraph.splitlines()
        if literal and lines and lines[0].startswith("    "):
            written.append("\n".join(["```text", dedent(paragraph), "```"]))
            continue
        literal = paragraph.rstrip().endswith("::")
        if re.match(r"(Args|Raises|Returns):$", lines[0] if lines else ""):
            written.append(_arguments(lines))
        else:
            written.append(re.sub(r"::$", ":", paragraph.rstrip()))
    return "\n\n".join(written)


def _arguments(lines: list[str]) -> str:
    items: list[str] = []
    for line in dedent("\n".join(lines[1:])).splitlines():
        if line.startswith(" ") and items:
            items[-1] += f" {line.strip()}"
            continue
        name, _, meaning = line.partition(": ")
        names = ", ".join(f"`{one.strip()}`" for one in name.split(","))
        items.append(f"- {names}: {meaning}")
    return "\n".join(items)


def _cell(text: str) -> str:
    return re.sub(r"``(.+?)``", r"`\1`", " ".join(text.split())).replace("|", "\\|")


PAGES: Final[dict[str, Callable[[], str]]] = {
    "models.md": models_page,
    "commands.md": commands_page,
    "errors.md": errors_page,
}


def main() -> None:
    import django
    from django.utils.translation import override

    sys.path.insert(0, str(HERE.parent))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    with override(None):
        for name, page in PAGES.items():
            (HERE / name).write_text(page())


if __name__ == "__main__":
    main()
