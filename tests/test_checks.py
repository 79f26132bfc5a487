"""Each check: a clean site is silent, and one wrong thing says exactly its id."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, run_checks
from django.core.management import call_command
from django.test import override_settings

from x402_django.testing.instant import InstantFacilitator

PAY_TO = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
NETWORK = "eip155:84532"
GATE = "x402_django.http.middleware.PaymentMiddleware"
KEY = "0x" + "ab" * 32

TOKEN = {
    "ADDRESS": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
    "NAME": "USDC",
    "VERSION": "2",
    "DECIMALS": 6,
    "SYMBOL": "USDC",
}


class Doubtful(InstantFacilitator):
    """One whose word the chain must confirm."""

    trusted = False
    option_names = frozenset({"TRUST", "KEY", "NESTED"})


class Trusting(InstantFacilitator):
    """One that proves what it says without the site's own RPC."""

    trusted = True


class NotAFacilitator:
    """Importable, and of the wrong kind."""


def x402(**changes: Any) -> dict[str, Any]:
    """A right configuration with top-level keys changed."""
    return {
        "PAY_TO": PAY_TO,
        "BASE_URL": "https://shop.example",
        "NETWORKS": {NETWORK: {"RPC_URLS": ["https://rpc.example"]}},
        "FACILITATORS": {"default": {"BACKEND": "tests.test_checks.Doubtful"}},
        **changes,
    }


def network(**changes: Any) -> dict[str, Any]:
    """A right configuration with keys of its one network changed."""
    return x402(NETWORKS={NETWORK: {"RPC_URLS": ["https://rpc.example"], **changes}})


def facilitator(backend: str = "tests.test_checks.Doubtful", **options: Any) -> dict[str, Any]:
    """A right configuration with another facilitator."""
    return x402(FACILITATORS={"default": {"BACKEND": backend, "OPTIONS": options}})


def messages(**kwargs: Any) -> list[CheckMessage]:
    """What our checks say; those of databases only where ``databases`` are given."""
    tags = ["x402", "database"] if kwargs else ["x402"]
    found = run_checks(tags=tags, **kwargs)
    return [m for m in found if (m.id or "").startswith("x402_django.")]


def ids(**kwargs: Any) -> list[str]:
    """The short ids of ``messages``."""
    return [str(m.id).removeprefix("x402_django.") for m in messages(**kwargs)]


@pytest.fixture(autouse=True)
def _right_site() -> Any:
    with override_settings(X402=x402(), DEBUG=False):
        yield


def test_a_right_configuration_is_silent() -> None:
    assert messages() == []


def test_the_least_configuration_of_a_development_site_is_silent() -> None:
    least = {key: x402()[key] for key in ("PAY_TO", "NETWORKS", "FACILITATORS")}
    with override_settings(X402=least, DEBUG=True):
        assert messages() == []


def test_every_message_says_what_to_do() -> None:
    broken = {
        "PAY_TO": "0x123",
        "BASE_URL": "shop",
        "CLAIM_TIMEOUT": 1,
        "SETTLEMENT_TIMEOUT": 400,
        "RETRY_AFTER": "soon",
        "TYPO": 1,
        "NETWORKS": {"base": {}, NETWORK: {"FACILITATOR": "nobody", "ASSETS": [{}]}},
        "FACILITATORS": {"default": {"BACKEND": "nowhere.Nothing", "OPTIONS": {"KEY": KEY}}},
    }
    with override_settings(X402=broken, MIDDLEWARE=[], USE_TZ=False):
        found = messages()
    assert len(found) > 8
    assert [m for m in found if not m.hint] == []
    assert KEY not in "".join(f"{m.msg}{m.hint}" for m in found)


@pytest.mark.parametrize(
    "garbage",
    [
        None,
        "text",
        [],
        {"NETWORKS": None, "FACILITATORS": None},
        {"NETWORKS": [1], "FACILITATORS": "x"},
        {"NETWORKS": {NETWORK: None, 3: {}}, "FACILITATORS": {"default": None}},
        {"NETWORKS": {NETWORK: {"RPC_URLS": 3, "ASSETS": 4, "NAME": 5, "FACILITATOR": []}}},
        {"NETWORKS": {NETWORK: {"ASSETS": [None, {"ADDRESS": 3, "NAME": 4, "DECIMALS": "x"}]}}},
        {"NETWORKS": {NETWORK: {"RPC_TIMEOUT": "x", "RPC_URLS": [None]}}},
        {"PAY_TO": 5, "BASE_URL": 7, "FACILITATORS": {"default": {"OPTIONS": 3}}},
        {"BASE_URL": "https://[", "FACILITATORS": {"default": {"BACKEND": None}}},
        dict.fromkeys(settings.X402, object()),
    ],
)
def test_garbage_is_reported_and_never_raised(garbage: object) -> None:
    with override_settings(X402=garbage):
        found = ids()
    assert "E008" in found or "E007" in found or "E011" in found


class TestMiddleware:
    def test_e001_missing(self) -> None:
        with override_settings(MIDDLEWARE=[m for m in settings.MIDDLEWARE if m != GATE]):
            assert ids() == ["E001"]

    def test_a_subclass_is_as_good(self) -> None:
        others = [m for m in settings.MIDDLEWARE if m != GATE]
        with override_settings(MIDDLEWARE=[*others, "tests.test_checks.OwnGate"]):
            assert ids() == []

    def test_e012_twice(self) -> None:
        with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, GATE]):
            assert ids() == ["E012"]

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("django.middleware.cache.UpdateCacheMiddleware", "E013"),
            ("django.middleware.cache.CacheMiddleware", "E013"),
            ("django.middleware.csrf.CsrfViewMiddleware", "W006"),
            ("django.contrib.auth.middleware.LoginRequiredMiddleware", "W006"),
            ("django.middleware.gzip.GZipMiddleware", "W012"),
        ],
    )
    def test_what_may_not_stand_after_the_gate(self, path: str, expected: str) -> None:
        with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, path]):
            assert ids() == [expected]
        with override_settings(MIDDLEWARE=[path, *settings.MIDDLEWARE]):
            assert ids() == []

    def test_reading_the_cache_after_the_gate_does_no_harm(self) -> None:
        caches = "django.middleware.cache.%sCacheMiddleware"
        middleware = [caches % "Update", *settings.MIDDLEWARE, caches % "FetchFrom"]
        with override_settings(MIDDLEWARE=middleware):
            assert ids() == []

    def test_middleware_that_cannot_be_imported_is_djangos_business(self) -> None:
        with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, "nowhere.Middleware"]):
            assert ids() == []


def __getattr__(name: str) -> Any:
    # Named by a dotted path above; made late so that importing this module imports no gate.
    if name == "OwnGate":
        from x402_django.http.middleware import PaymentMiddleware

        return type("OwnGate", (PaymentMiddleware,), {})
    raise AttributeError(name)


class TestKeys:
    @pytest.mark.parametrize(
        ("wrong", "hint"),
        [
            (x402(PAYTO=PAY_TO), "Did you mean 'PAY_TO'?"),
            (x402(settlement_timeout=3), "Did you mean 'SETTLEMENT_TIMEOUT'?"),
            (network(RPC_URL="https://rpc.example"), "Did you mean 'RPC_URLS'?"),
            (network(ASSETS=[{**TOKEN, "DECIMAL": 6}]), "Did you mean 'DECIMALS'?"),
        ],
    )
    def test_e002_misspelt(self, wrong: dict[str, Any], hint: str) -> None:
        with override_settings(X402=wrong):
            (message,) = messages()
        assert message.id == "x402_django.E002"
        assert message.hint == hint

    def test_e002_in_a_facilitator(self) -> None:
        wrong = x402()
        wrong["FACILITATORS"]["default"]["zzz"] = 1
        with override_settings(X402=wrong):
            (message,) = messages()
        assert message.id == "x402_django.E002"
        assert message.hint == "Known are: BACKEND, OPTIONS."

    @pytest.mark.parametrize(
        "wrong",
        [
            None,
            [],
            x402(PAY_TO=5),
            x402(BASE_URL="shop.example"),
            x402(BASE_URL="https://shop.example/shop"),
            x402(BASE_URL="ftp://shop.example"),
            x402(BASE_URL="https://user@shop.example"),
            network(RPC_URLS="https://rpc.example"),
            network(RPC_URLS=["rpc.example"]),
            network(WALLET_RPC_URLS="https://rpc.example"),
            network(WALLET_RPC_URLS=["rpc.example"]),
            network(NAME=None),
        ],
    )
    def test_e008_shape(self, wrong: object) -> None:
        with override_settings(X402=wrong):
            assert "E008" in ids()
            assert set(ids()) <= {"E008", "E006"}

    def test_e008_does_not_quote_an_address_that_may_hold_an_access_key(self) -> None:
        with override_settings(X402=network(RPC_URLS=["wss://rpc.example/v2/secret"])):
            (message,) = messages()
        assert "secret" not in f"{message.msg}{message.hint}"


class TestNumbers:
    def test_no_limit_for_all_deferred_payments_is_a_choice(self) -> None:
        with override_settings(X402=x402(DEFERRED_MAX_EXPOSURE=None)):
            assert messages() == []

    @pytest.mark.parametrize(
        ("key", "number"),
        [
            ("RULES_MAX_AGE", -1),
            ("RULES_MAX_AGE", "often"),
            ("MAX_HEADER_BYTES", 100),
            ("MAX_HEADER_BYTES", 2**21),
            ("MAX_HEADER_BYTES", 8192.0),
            ("MAX_TIMEOUT_SECONDS", True),
            ("SETTLEMENT_TIMEOUT", 0),
            ("SETTLEMENT_TIMEOUT", float("nan")),
            ("MINIMUM_PRICE", 0),
            ("MINIMUM_PRICE", "a cent"),
            ("RESPONSE_STORE_MAX_BYTES", -1),
            ("RESPONSE_STORE_TTL", 0),
            ("CLAIM_TIMEOUT", None),
            ("RETRY_AFTER", 0),
            ("CONFIRMATION_INTERVAL", 0),
            ("DEFERRED_MAX_EXPOSURE_PER_PAYER", None),
            ("DEFERRED_MAX_EXPOSURE", -1),
            ("DEFERRED_MIN_SETTLED", 0.5),
            ("FAILED_PAYER_MEMORY", -1),
        ],
    )
    def test_e010_of_the_site(self, key: str, number: object) -> None:
        with override_settings(X402=x402(**{key: number})):
            (message,) = messages()
        assert message.id == "x402_django.E010"
        assert key in message.msg

    @pytest.mark.parametrize(
        ("key", "number"),
        [
            ("RPC_TIMEOUT", 0),
            ("RPC_CHECK_INTERVAL", -1),
            ("RPC_MAX_LAG", 0),
            ("CONFIRMATIONS", 0),
            ("CONFIRMATIONS", "latest"),
            ("CONFIRMATIONS", [(0, 3), (10, 1)]),
            ("LOG_RANGE", 0.5),
            ("POLL_INTERVAL", -1),
        ],
    )
    def test_e010_of_a_network(self, key: str, number: object) -> None:
        with override_settings(X402=network(**{key: number})):
            assert ids() == ["E010"]

    @pytest.mark.parametrize("depth", [3, "safe", "finalized", [(0, 1), ("10", 3), (99, "safe")]])
    def test_depths_and_tiers_are_silent(self, depth: object) -> None:
        with override_settings(X402=network(CONFIRMATIONS=depth)):
            assert ids() == []

    def test_e014_offers_that_expire_before_they_can_settle(self) -> None:
        with override_settings(X402=x402(SETTLEMENT_TIMEOUT=60, MAX_TIMEOUT_SECONDS=60)):
            assert ids() == ["E014"]
        with override_settings(X402=x402(SETTLEMENT_TIMEOUT=59.9, MAX_TIMEOUT_SECONDS=60)):
            assert ids() == []

    def test_e015_claims_that_die_before_they_can_settle(self) -> None:
        with override_settings(X402=x402(SETTLEMENT_TIMEOUT=30, CLAIM_TIMEOUT=30)):
            assert ids() == ["E015"]
        with override_settings(X402=x402(SETTLEMENT_TIMEOUT=30, CLAIM_TIMEOUT=31)):
            assert ids() == []


class TestMoneyGoesSomewhere:
    @pytest.mark.parametrize(
        "address",
        ["0x123", "shop.eth", PAY_TO.replace("C8", "c8"), "0x" + "0" * 40, "0x" + "g" * 40],
    )
    def test_e003(self, address: str) -> None:
        with override_settings(X402=x402(PAY_TO=address)):
            assert ids() == ["E003"]

    def test_e003_names_the_right_form(self) -> None:
        with override_settings(X402=x402(PAY_TO=PAY_TO.replace("C8", "c8"))):
            (message,) = messages()
        assert PAY_TO in str(message.hint)

    def test_e003_the_token_itself(self) -> None:
        wrong = network(ASSETS=[TOKEN]) | {"PAY_TO": str(TOKEN["ADDRESS"]).lower()}
        with override_settings(X402=wrong):
            assert ids() == ["E003"]

    @pytest.mark.parametrize("right", [PAY_TO.lower(), PAY_TO, "0x" + PAY_TO[2:].upper(), None, ""])
    def test_e003_not(self, right: str | None) -> None:
        with override_settings(X402=x402(PAY_TO=right)):
            assert ids() == []

    @pytest.mark.parametrize(
        ("changes", "part"),
        [
            ({"ADDRESS": "0x12"}, "not an address"),
            ({"ADDRESS": None}, "has no ADDRESS"),
            ({"ADDRESS": "0x036CbD53842c5426634e7929541eC2318f3dCF7E"}, "capital letters"),
            ({"NAME": ""}, "has no NAME"),
            ({"SYMBOL": 7}, "SYMBOL"),
            ({"DECIMALS": -1}, "DECIMALS"),
            ({"DECIMALS": "6"}, "DECIMALS"),
            ({"DECIMALS": 78}, "DECIMALS"),
        ],
    )
    def test_e011(self, changes: dict[str, Any], part: str) -> None:
        with override_settings(X402=network(ASSETS=[{**TOKEN, **changes}])):
            (message,) = messages()
        assert message.id == "x402_django.E011"
        assert part in message.msg


class TestNetworks:
    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("base-sepolia", "Write eip155:84532."),
            ("84532", "Write eip155: and the chain id, such as eip155:8453."),
            ("eip155:0", "Write eip155: and the chain id, such as eip155:8453."),
            ("solana:mainnet", "Write eip155: and the chain id, such as eip155:8453."),
        ],
    )
    def test_e004(self, name: str, hint: str) -> None:
        with override_settings(X402=x402(NETWORKS={name: {"RPC_URLS": ["https://rpc.example"]}})):
            (message,) = messages()
        assert (message.id, message.hint) == ("x402_django.E004", hint)

    def test_w010_no_token_known(self) -> None:
        unknown = {"eip155:999999999": {"RPC_URLS": ["https://rpc.example"]}}
        with override_settings(X402=x402(NETWORKS=unknown)):
            assert ids() == ["W010"]
        unknown["eip155:999999999"]["ASSETS"] = [TOKEN]  # type: ignore[assignment]
        with override_settings(X402=x402(NETWORKS=unknown)):
            assert ids() == []

    def test_e005_nobody_can_prove_a_payment(self) -> None:
        with override_settings(X402=network(RPC_URLS=[])):
            assert ids() == ["E005"]

    def test_e005_not_with_a_provider_or_a_trusted_facilitator(self) -> None:
        provider = "x402_django.testing.chain.dev_provider"
        with override_settings(X402=network(RPC_URLS=[], PROVIDER=provider)):
            assert ids() == []
        trusted = facilitator("tests.test_checks.Trusting") | {"NETWORKS": {NETWORK: {}}}
        with override_settings(X402=trusted):
            assert ids() == []

    @pytest.mark.parametrize("provider", ["nowhere.provider", "provider", "math.pi", 5, ""])
    def test_e016_a_provider_that_is_none(self, provider: object) -> None:
        with override_settings(X402=network(PROVIDER=provider)):
            assert ids() == ["E016"]

    def test_e005_a_wallet_of_our_own_needs_the_network(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SETTLER_KEY", KEY)
        own = facilitator("x402_django.facilitators.LocalFacilitator", KEY_ENV="SETTLER_KEY")
        with override_settings(X402=own):
            assert ids() == []
        with override_settings(X402=own | {"NETWORKS": {NETWORK: {}}}):
            assert ids() == ["E005"]


class TestFacilitators:
    def test_e006_none(self) -> None:
        with override_settings(X402=x402(FACILITATORS={}, NETWORKS={})):
            assert ids() == ["E006"]

    def test_e006_named_by_a_network(self) -> None:
        with override_settings(X402=network(FACILITATOR="other")):
            (message,) = messages()
        assert message.id == "x402_django.E006"
        assert str(message.hint).startswith("Configured are: default.")

    @pytest.mark.parametrize(
        "backend", ["", "nowhere.Nothing", "tests.test_checks.NotAFacilitator", "tests.test_checks"]
    )
    def test_e007(self, backend: str) -> None:
        with override_settings(X402=facilitator(backend)):
            assert ids() == ["E007"]

    def test_backends_report_their_own_options(self) -> None:
        with override_settings(X402=facilitator(SPEED="fast")):
            assert ids() == ["E030"]

    @pytest.mark.parametrize("seconds", ["10", 0, -1, True, None, float("inf"), float("nan")])
    def test_e035_a_number_that_is_none(self, seconds: object) -> None:
        remote = {
            "backend": "x402_django.facilitators.RemoteFacilitator",
            "URL": "https://f.example",
        }
        with override_settings(X402=facilitator(**remote, SETTLE_TIMEOUT=seconds)):
            assert ids() == ["E035"]
        with override_settings(X402=facilitator(**remote, SETTLE_TIMEOUT=2.5)):
            assert ids() == []

    def test_a_wallet_without_its_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SETTLER_KEY", raising=False)
        own = facilitator("x402_django.facilitators.LocalFacilitator", KEY_ENV="SETTLER_KEY")
        with override_settings(X402=own):
            assert ids() == ["E033"]

    def test_w004_trust(self) -> None:
        with override_settings(X402=facilitator(TRUST=True)):
            assert ids() == ["W004"]


class TestDeployment:
    @pytest.mark.parametrize(
        "options",
        [
            {"KEY": KEY},
            {"KEY": "anything at all"},
            {"NESTED": {"SIGNER": KEY.removeprefix("0x")}},
            {"NESTED": ["no key", KEY]},
        ],
    )
    def test_e009_a_key_in_the_settings(self, options: dict[str, Any]) -> None:
        with override_settings(X402=facilitator(**options)):
            (message,) = messages()
        assert message.id == "x402_django.E009"
        assert KEY[2:] not in f"{message.msg}{message.hint}"
        with override_settings(X402=facilitator(**options), DEBUG=True):
            assert ids() == []

    def test_w001_a_host_anybody_can_forge(self) -> None:
        wrong = x402(BASE_URL=None)
        with override_settings(X402=wrong, ALLOWED_HOSTS=["*"]):
            assert ids() == ["W001"]
        with override_settings(X402=wrong, ALLOWED_HOSTS=["*"], DEBUG=True):
            assert ids() == []
        with override_settings(X402=wrong, ALLOWED_HOSTS=["shop.example"]):
            assert ids() == []
        with override_settings(ALLOWED_HOSTS=["*"]):
            assert ids() == []

    def test_w008_plain_http(self) -> None:
        plain = x402(BASE_URL="http://shop.example")
        with override_settings(X402=plain):
            assert ids() == ["W008"]
        with override_settings(X402=plain, DEBUG=True):
            assert ids() == []

    @pytest.mark.parametrize("broker", ["memory://", "filesystem://", ["filesystem://", "amqp://"]])
    def test_w002_a_broker_for_one(self, broker: object, celery_conf: Any) -> None:
        celery_conf(broker_url=None, task_always_eager=False)
        with override_settings(CELERY_BROKER_URL=broker):
            assert ids() == ["W002"]
        with override_settings(CELERY_BROKER_URL=broker, DEBUG=True):
            assert ids() == []
        with override_settings(CELERY_BROKER_URL="redis://localhost/0"):
            assert ids() == []

    def test_w002_of_the_celery_app_itself(self, celery_conf: Any) -> None:
        celery_conf(broker_url="memory://", task_always_eager=False)
        with override_settings(CELERY_BROKER_URL="redis://localhost/0"):
            assert ids() == ["W002"]

    def test_w005_eager_tasks(self, celery_conf: Any) -> None:
        celery_conf(broker_url=None, task_always_eager=False)
        with override_settings(CELERY_TASK_ALWAYS_EAGER=True):
            assert ids() == ["W005"]
        celery_conf(broker_url="redis://localhost/0", task_always_eager=True)
        assert ids() == ["W005"]

    @pytest.mark.parametrize(
        ("engine", "options", "expected"),
        [
            ("sqlite3", {}, ["W003"]),
            ("sqlite3", {"transaction_mode": "DEFERRED"}, ["W003"]),
            ("sqlite3", {"transaction_mode": "immediate"}, []),
            ("postgresql", {}, []),
        ],
    )
    def test_w003_sqlite_that_does_not_wait(
        self,
        engine: str,
        options: dict[str, Any],
        expected: list[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from x402_django.checks import deployment

        databases = {"default": {"ENGINE": f"django.db.backends.{engine}", "OPTIONS": options}}
        stub = type("Connections", (), {"settings": databases})
        monkeypatch.setattr(deployment, "connections", stub)
        found = deployment.check_ledger_database()
        assert [str(m.id).removeprefix("x402_django.") for m in found] == expected
        with override_settings(DEBUG=True):
            assert deployment.check_ledger_database() == []

    def test_w007_no_page_for_the_status_of_a_payment(self) -> None:
        with override_settings(ROOT_URLCONF="tests.shop.urls"):
            assert ids() == ["W007"]

    def test_w009_times_without_a_zone(self) -> None:
        with override_settings(USE_TZ=False):
            assert ids() == ["W009"]


@pytest.mark.django_db
class TestDatabase:
    def test_w011_no_way_of_being_paid(self) -> None:
        with override_settings(X402=x402(PAY_TO=None)):
            assert ids(databases=["default"]) == ["W011"]
            assert ids() == []

    def test_w011_not_with_an_address_in_the_settings(self) -> None:
        assert ids(databases=["default"]) == []

    def test_w011_not_with_an_active_row(self) -> None:
        from x402_django.models import PaymentMethod

        method = PaymentMethod.objects.create(
            name="USDC",
            network=NETWORK,
            asset=TOKEN["ADDRESS"],
            asset_symbol="USDC",
            asset_name="USDC",
            asset_version="2",
            pay_to=PAY_TO,
        )
        with override_settings(X402=x402(PAY_TO=None)):
            assert ids(databases=["default"]) == []
            PaymentMethod.objects.update(active=False)
            assert method.pk
            assert ids(databases=["default"]) == ["W011"]


def test_checks_ask_no_database(django_assert_num_queries: Any, db: None) -> None:
    with django_assert_num_queries(0):
        assert messages() == []


def test_check_has_a_tag_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("check", "--tag", "x402")
    assert "no issues" in capsys.readouterr().out


def test_unsigned_proofs_are_warned_of() -> None:
    with override_settings(X402=x402(ALLOW_UNSIGNED_PROOFS=True)):
        assert ids() == ["W020"]


def test_transfer_proofs_need_an_endpoint() -> None:
    with override_settings(X402=x402(TRANSFER_PROOFS=True)):
        assert ids() == []
    trusting = {"default": {"BACKEND": "tests.test_checks.Trusting"}}
    with override_settings(
        X402=x402(TRANSFER_PROOFS=True, NETWORKS={NETWORK: {}}, FACILITATORS=trusting)
    ):
        assert ids() == ["W021"]


@pytest.mark.parametrize("key", ["TRANSFER_PROOFS", "ALLOW_UNSIGNED_PROOFS"])
def test_a_switch_is_true_or_false(key: str) -> None:
    with override_settings(X402=x402(**{key: "yes"})):
        assert ids() == ["E008"]


def test_every_id_is_in_the_docs() -> None:
    import re
    from pathlib import Path

    package = Path(apps.get_app_config("x402_django").path)
    sources = "\n".join(file.read_text() for file in package.rglob("*.py"))
    used = set(re.findall(r"x402_django\.([EW]\d{3})\b", sources))
    table = (package.parent / "docs" / "checks.md").read_text()
    documented = set(re.findall(r"^\| `x402_django\.([EW]\d{3})`", table, re.MULTILINE))
    assert used == documented


@pytest.fixture
def celery_conf() -> Any:
    """Sets values of the current Celery app's configuration; the app is the test's own."""
    import celery

    previous = celery.current_app._get_current_object()
    app = celery.Celery("checked", set_as_current=True)
    yield lambda **values: app.conf.update(values)
    previous.set_current()


@pytest.mark.parametrize(
    ("extensions", "expected"),
    [
        ([], ["E061"]),
        ({"loyalty": "on"}, ["E061"]),
        ({"loyalty": {"BACKED": "typo"}}, ["E061"]),
        ({"no-such": {}}, ["E061"]),
        ({"loyalty": {"BACKEND": "nowhere.Nothing"}}, ["E061"]),
        ({"loyalty": {"BACKEND": "tests.test_checks.NotAFacilitator"}}, ["E061"]),
        ({"loyalty": {"BACKEND": "tests.extensions.test_registry.OtherKey"}}, ["E061"]),
        (
            {
                "loyalty": {
                    "BACKEND": "tests.extensions.test_registry.Loyalty",
                    "OPTIONS": {"PROGRAM": "gold"},
                }
            },
            ["E062"],
        ),
        ({"loyalty": None}, []),
        ({"payment-identifier": {"OPTIONS": {"REQUIRED": "yes"}}}, ["E063"]),
        ({"sign-in-with-x": {"OPTIONS": {"LIFETIME": 60, "STATEMENT": "Come in."}}}, []),
        ({"sign-in-with-x": {"OPTIONS": {"LIFETIME": 0, "STATEMENT": "two\nlines"}}}, ["E064"] * 2),
    ],
)
def test_extensions_can_be_loaded(extensions: Any, expected: list[str]) -> None:
    with override_settings(X402=x402(EXTENSIONS=extensions)):
        assert ids() == expected
