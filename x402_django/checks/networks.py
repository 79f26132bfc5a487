"""Networks, tokens and the payee's address."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from django.core.checks import CheckMessage, Error, Warning, register
from django.utils.module_loading import import_string

from x402_django.checks.raw import (
    TAG,
    asset_entries,
    entries,
    is_list,
    is_readable,
    network_value,
    path_of,
)
from x402_django.checks.raw import value as setting
from x402_django.protocol import assets, networks
from x402_django.protocol.base58 import is_solana_address, is_solana_available

_ZERO_ADDRESS: Final = "0x" + "0" * 40
#: A token with more decimals could not express one whole unit in a uint256.
_MOST_DECIMALS: Final = 77


@register(TAG)
def check_pay_to(**kwargs: Any) -> list[CheckMessage]:
    """E003: an address at which money would be lost."""
    pay_to = setting("PAY_TO")
    if not pay_to or not isinstance(pay_to, str):
        return []  # absent is fine where rows name payees; other types are E008
    problem = _address_problem(pay_to)
    if problem is None and pay_to.lower() in _token_addresses():
        problem = ("is a token's contract", "Money sent there is lost. Write your own address.")
    if problem is None:
        return []
    message, hint = problem
    return [Error(f"X402['PAY_TO'] {message}.", hint=hint, id="x402_django.E003")]


def _token_addresses() -> set[str]:
    return {
        str(token.get("ADDRESS")).lower()
        for entry in entries("NETWORKS").values()
        for token in asset_entries(entry)
    }


def _address_problem(address: object) -> tuple[str, str] | None:
    """What is wrong with an address, and what to do; None if nothing is."""
    if not assets.is_address(address) or not isinstance(address, str):
        return "is not an address", "Write 0x and 40 hexadecimal digits."
    if address.lower() == _ZERO_ADDRESS:
        return "is the zero address", "Money sent there is lost. Write your own address."
    if not assets.has_valid_checksum(address):
        right = assets.to_checksum_address(address)
        return (
            "has capital letters that do not fit (EIP-55), so a character may be wrong",
            f"Compare it with the original. If every digit is right, write {right}.",
        )
    return None


def _solana_address_problem(address: object) -> tuple[str, str] | None:
    if is_solana_address(address):
        return None
    return "is not an address on Solana", "Write the mint's address, in base58."


@register(TAG)
def check_network_names(**kwargs: Any) -> list[CheckMessage]:
    """E004: a network that is not named as the protocol names it. W010: one without a dollar."""
    messages: list[CheckMessage] = []
    readable = is_readable()
    for name in entries("NETWORKS"):
        if networks.is_solana(name):
            messages += _solana_problems(name)
        elif not networks.is_evm(name):
            meant = networks.network_of_v1(name) if readable else None
            messages.append(
                Error(
                    f"X402['NETWORKS'] names {name!r}, which is not the CAIP-2 name of an EVM "
                    "network.",
                    hint=f"Write {meant or 'eip155: and the chain id, such as eip155:8453'}.",
                    id="x402_django.E004",
                )
            )
        elif readable and assets.default_asset(name) is None:
            messages.append(
                Warning(
                    f"No token is known on {networks.display_name(name)}, so code prices are not "
                    "offered there.",
                    hint=(
                        f"Describe one in {path_of('NETWORKS', name, 'ASSETS')}, or add a payment "
                        "method in the admin and silence this."
                    ),
                    id="x402_django.W010",
                )
            )
    return messages


def _solana_problems(name: str) -> Iterator[CheckMessage]:
    """E017, E018: a network of Solana that cannot be sold on, or whose keys say too much."""
    entry = entries("NETWORKS")[name]
    if not is_solana_available():
        yield Error(
            f"{path_of('NETWORKS', name)} needs what decodes Solana's transactions.",
            hint="Install x402-django[svm].",
            id="x402_django.E017",
        )
    for key in ("RPC_URLS", "PROVIDER"):
        if network_value(entry, key):
            yield Error(
                f"{path_of('NETWORKS', name, key)} is set, but Solana is not read: payments there "
                "rest on the facilitator's word.",
                hint="Remove it.",
                id="x402_django.E018",
            )
    pay_to = network_value(entry, "PAY_TO")
    if pay_to is not None and assets.canonical_address(name, str(pay_to)) is None:
        yield Error(
            f"{path_of('NETWORKS', name, 'PAY_TO')} is not an address on Solana.",
            hint="Write the base58 address of your own wallet; not that of a token account.",
            id="x402_django.E003",
        )


@register(TAG)
def check_network_pay_to(**kwargs: Any) -> list[CheckMessage]:
    """E003 for ``PAY_TO`` of an EVM network."""
    messages: list[CheckMessage] = []
    for name, entry in entries("NETWORKS").items():
        pay_to = network_value(entry, "PAY_TO")
        problem = None
        if pay_to is not None and not networks.is_solana(name):
            problem = _address_problem(pay_to)
        if problem is not None:
            where = path_of("NETWORKS", name, "PAY_TO")
            messages.append(Error(f"{where} {problem[0]}.", hint=problem[1], id="x402_django.E003"))
    return messages


@register(TAG)
def check_providers(**kwargs: Any) -> list[CheckMessage]:
    """E016: a PROVIDER that is no dotted path to a callable."""
    messages: list[CheckMessage] = []
    for name, entry in entries("NETWORKS").items():
        path = network_value(entry, "PROVIDER")
        if path is None:
            continue
        try:
            usable = isinstance(path, str) and callable(import_string(path))
        except ImportError:
            usable = False
        if not usable:
            messages.append(
                Error(
                    f"{path_of('NETWORKS', name, 'PROVIDER')} is {path!r}, which cannot be "
                    "imported or called.",
                    hint="Write the dotted path of a function that returns a web3 provider.",
                    id="x402_django.E016",
                )
            )
    return messages


@register(TAG)
def check_assets(**kwargs: Any) -> list[CheckMessage]:
    """E011: a token that is not described well enough to be signed for."""
    messages: list[CheckMessage] = []
    for name, entry in entries("NETWORKS").items():
        tokens = network_value(entry, "ASSETS")
        for position, token in enumerate(tokens if is_list(tokens) else ()):
            where = f"{path_of('NETWORKS', name, 'ASSETS')}[{position}]"
            messages += [
                Error(f"{where} {message}.", hint=hint, id="x402_django.E011")
                for message, hint in _asset_problems(token, is_solana=networks.is_solana(name))
            ]
    return messages


def _asset_problems(token: object, *, is_solana: bool) -> Iterator[tuple[str, str]]:
    if not isinstance(token, Mapping):
        yield "is not a dict", "Write ADDRESS, NAME, VERSION, DECIMALS and SYMBOL."
        return
    for key in ("ADDRESS", "NAME"):
        if not token.get(key):
            yield f"has no {key}", "The contract's address, and its EIP-712 name."
    if token.get("ADDRESS"):
        problem = (
            _solana_address_problem(token["ADDRESS"])
            if is_solana
            else _address_problem(token["ADDRESS"])
        )
        if problem is not None:
            yield f"has an ADDRESS that {problem[0]}", problem[1]
    for key in ("NAME", "SYMBOL"):
        if token.get(key) is not None and not isinstance(token[key], str):
            yield f"has a {key} that is not a string", "Write it in quotes."
    decimals = token.get("DECIMALS", 6)
    if (
        isinstance(decimals, bool)
        or not isinstance(decimals, int)
        or not 0 <= decimals <= _MOST_DECIMALS
    ):
        yield f"has DECIMALS {decimals!r}", f"A whole number from 0 to {_MOST_DECIMALS}."
