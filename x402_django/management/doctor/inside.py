"""What can be told from inside: settings, database, nodes, tokens, facilitators, workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from django.core.checks import run_checks
from django.db import connections, router
from django.db.migrations.executor import MigrationExecutor

from x402_django import clock
from x402_django.conf import x402
from x402_django.exceptions import ConfigurationError, FacilitatorUnavailable, RpcUnavailable
from x402_django.management.doctor.symptom import Probe, Symptom
from x402_django.models import Payment
from x402_django.payments.health import findings
from x402_django.payments.periodic import conditions
from x402_django.pricing.methods import OfferTemplate
from x402_django.pricing.rules import load_templates
from x402_django.protocol.networks import is_evm

#: Seconds by which clocks may differ.
SKEW: Final = 60
#: Seconds that a node's newest block may be old: the slowest networks that are known here take 15.
_STALE: Final = 300
#: ``DOMAIN_SEPARATOR()`` (EIP-2612 and EIP-3009).
_DOMAIN_SEPARATOR: Final = "0x3644e515"
#: Seconds to wait for workers.
_PING: Final = 2


def settings() -> Iterator[Symptom]:
    """``manage.py check --deploy``: what it says of this app."""
    alias = router.db_for_read(Payment)
    messages = run_checks(include_deployment_checks=True, databases=[alias])
    for message in messages:
        if (message.id or "").startswith("x402_django.") and not message.is_silenced():
            name = str(message.id).removeprefix("x402_django.")
            yield Symptom(f"check_{name}", message.msg, message.hint or "See docs/checks.md.")


def database() -> Iterator[Symptom]:
    """Whether the ledger can be written to, and has its tables."""
    connection = connections[router.db_for_write(Payment)]
    executor = MigrationExecutor(connection)
    wanted = [node for node in executor.loader.graph.leaf_nodes() if node[0] == "x402_django"]
    if executor.migration_plan(wanted):
        yield Symptom(
            "migrations",
            "The ledger's tables are not those of this version.",
            "Run manage.py migrate.",
        )


def nodes() -> Iterator[Symptom]:
    """Whether each network's node answers, serves that network, and keeps up with it."""
    from x402_django.chain.rpc import get_web3, rpc_errors

    for name, network in x402.networks.items():
        if not network.has_rpc:
            continue
        try:
            with rpc_errors(name):
                block = get_web3(name).eth.get_block("latest")
        except ConfigurationError as error:
            yield Symptom("node_of_another_chain", str(error), f"Correct RPC_URLS of {name}.")
            continue
        except RpcUnavailable as error:
            yield Symptom(
                "node_unreachable",
                str(error),
                f"See whether RPC_URLS of {name} are right and paid for, and whether this machine "
                "may connect to them. Until then nothing settles there.",
            )
            continue
        age = clock.timestamp() - block["timestamp"]
        if age > _STALE:
            yield Symptom(
                "node_behind",
                f"The newest block of {name} is {age:.0f} seconds old.",
                "Use a node that keeps up, or several RPC_URLS; or this machine's clock is ahead.",
            )
        elif age < -SKEW:
            yield Symptom(
                "clock",
                f"This machine's clock is {-age:.0f} seconds behind {name}.",
                "Set it by NTP: payments are valid between two times.",
            )


def tokens() -> Iterator[Symptom]:
    """Whether each token that is offered is there, and has the EIP-712 domain that is signed."""
    from x402_django.chain.rpc import checksum, get_web3, rpc_errors
    from x402_django.protocol.typed_data import domain_separator

    for offer in _read_here():
        where = f"{offer.symbol} ({offer.asset}) on {offer.network}"
        try:
            with rpc_errors(offer.network):
                eth = get_web3(offer.network).eth
                if not eth.get_code(checksum(offer.asset)):
                    yield Symptom(
                        "no_token",
                        f"There is no contract at the address of {where}.",
                        "Correct the token's address, in ASSETS or in the payment method.",
                    )
                    continue
                call = {"to": checksum(offer.asset), "data": _DOMAIN_SEPARATOR}
                answer = eth.call(call)  # type: ignore[arg-type]
        except (RpcUnavailable, ConfigurationError):
            continue  # `nodes` says so
        except Exception:  # noqa: BLE001, S112 - the token has no such function: nothing to compare
            continue
        expected = domain_separator(
            offer.asset_name, offer.asset_version, offer.network, offer.asset
        )
        if len(answer) == 32 and bytes(answer) != expected:
            yield Symptom(
                "token_domain",
                f"What payers would sign for {where} is not what its contract checks: its EIP-712 "
                f"name is not {offer.asset_name!r} or its version not {offer.asset_version!r}.",
                "Take NAME and VERSION from the contract (eip712Domain(), or name() and "
                "version()). Until then every payment fails.",
            )


def _read_here() -> list[OfferTemplate]:
    networks = x402.networks
    return [
        offer
        for offer in load_templates()
        if is_evm(offer.network)
        and offer.network in networks
        and networks[offer.network].has_rpc
        and not offer.method.names_settler
        and offer.verifying_contract == offer.asset
    ]


def facilitators() -> Iterator[Symptom]:
    """Whether whoever settles is there, and settles what is offered."""
    from x402_django.facilitators.base import get_facilitator

    wanted = {(one.facilitator, one.scheme, one.network) for one in load_templates()}
    unreachable = set()
    for alias, scheme, network in sorted(wanted):
        if alias in unreachable:
            continue
        try:
            if get_facilitator(alias).supports(network, scheme):
                continue
        except (FacilitatorUnavailable, ConfigurationError) as error:
            unreachable.add(alias)
            yield Symptom(
                "facilitator_unreachable",
                f"The facilitator {alias!r} cannot be asked what it settles ({error})",
                f"See whether its URL, keys and network access are right: manage.py "
                f"x402_facilitators asks it, too. Until then payments by {alias!r} answer 503.",
            )
            continue
        yield Symptom(
            "facilitator_unsuitable",
            f"The facilitator {alias!r} does not settle {scheme!r} on {network}.",
            "Name another in FACILITATOR of the network or in the payment method; manage.py "
            "x402_facilitators lists what each settles.",
        )


def wallets() -> Iterator[Symptom]:
    """Whether the site's own settlement wallets have gas money, and nothing is stuck."""
    from x402_django.payments.wallet_report import wallet_reports

    for report in wallet_reports():
        for sentence in report.attention:
            if not sentence.startswith("The chain could not be read"):  # `nodes` says so
                yield Symptom(
                    "wallet",
                    f"{report.address} on {report.network}: {sentence}",
                    "Send it coin of that network for gas. manage.py x402_wallets shows more.",
                )


def workers() -> Iterator[Symptom]:
    """Whether the periodic tasks run; if not, who of broker, worker and beat is missing."""
    overdue = [one.name for one in conditions() if one.is_overdue]
    if not overdue:
        return
    what = f"{', '.join(overdue)} did not run lately, so nothing is confirmed or cleared up."
    timer = "Or run x402_confirm, x402_settle, x402_channels and x402_release from a timer."
    replies = _ping()
    if replies is None:
        yield Symptom(
            "broker", f"{what} The broker does not answer.", f"Start Celery's broker. {timer}"
        )
    elif not replies:
        yield Symptom(
            "worker",
            f"{what} No worker answers.",
            f"Start one: celery --app … worker. {timer}",
        )
    else:
        yield Symptom(
            "beat",
            f"{what} Workers answer ({replies}), so nobody gives them the tasks.",
            f"Start exactly one beat: celery --app … beat. {timer}",
        )


def _ping() -> int | None:
    """How many Celery workers answer; None without a broker."""
    from celery import current_app

    try:
        with current_app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=_PING)
        return len(current_app.control.ping(timeout=_PING) or ())
    except Exception:  # noqa: BLE001 - each transport has errors of its own
        return None


def books() -> Iterator[Symptom]:
    """What ``health/`` knows beside the tasks."""
    for finding in findings():
        if not finding.is_well and finding.name not in ("tasks", "wallets"):
            what, _, remedy = finding.sentence.partition(". ")
            yield Symptom(finding.name, f"{what}.", remedy or "See docs/operating.md.")


#: By the name that is shown, in the order in which they are made.
PROBES: Final[dict[str, Probe]] = {
    "settings": settings,
    "nodes": nodes,
    "tokens": tokens,
    "facilitators": facilitators,
    "wallets": wallets,
    "workers": workers,
    "books": books,
}
