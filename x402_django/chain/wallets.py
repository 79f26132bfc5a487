"""The key that pays the gas: from the environment or an encrypted keystore file.

Options of a facilitator that name it, exactly one of:

``KEY_ENV``
    the environment variable that holds the key (0x-hex).
``KEYSTORE``
    path of an encrypted keystore file (Web3 Secret Storage, as Geth and Foundry write it), with
    its password in the variable ``KEYSTORE_PASSWORD_ENV`` or the file ``KEYSTORE_PASSWORD_FILE``.
``KEY``
    the key itself. For development: ``manage.py check`` refuses it where ``DEBUG`` is off.

The key is never written to the database or a log, and no message here quotes any of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from x402_django.exceptions import ConfigurationError

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

SOURCES: Final = ("KEY_ENV", "KEYSTORE", "KEY")
OPTION_NAMES: Final = frozenset({*SOURCES, "KEYSTORE_PASSWORD_ENV", "KEYSTORE_PASSWORD_FILE"})


def sources(options: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The options of each wallet: those of ``WALLETS``, or ``options`` themselves.

    Raises ConfigurationError where both name a key, or ``WALLETS`` is not a list of dicts.
    """
    pool = options.get("WALLETS")
    if pool is None:
        return [options]
    if not isinstance(pool, list | tuple) or not pool:
        raise ConfigurationError("WALLETS must be a list of wallets.")
    for entry in pool:
        if not isinstance(entry, Mapping) or set(entry) - OPTION_NAMES:
            raise ConfigurationError("Each of WALLETS must be a dict with a key source alone.")
    if any(options.get(name) for name in SOURCES):
        raise ConfigurationError("Name the keys in WALLETS or beside it, not both.")
    return pool


def low_balance(options: Mapping[str, Any]) -> int | None:
    """``LOW_BALANCE`` in wei; None without. Raises ConfigurationError."""
    coins = options.get("LOW_BALANCE")
    if coins is None:
        return None
    try:
        return int(Decimal(str(coins)) * 10**18)
    except (InvalidOperation, ValueError, OverflowError):
        raise ConfigurationError("LOW_BALANCE must be a number of coins.") from None


def settlement_account(options: Mapping[str, Any]) -> LocalAccount:
    """The account that ``options`` name. Decrypting a keystore takes about a second: keep it.

    Raises ConfigurationError if the key is missing or unusable; the sentence says which option
    to mend.
    """
    source = key_source(options)
    if source == "KEYSTORE":
        return _from_keystore(options)
    if source == "KEY_ENV":
        variable = str(options["KEY_ENV"])
        return _from_hex(_environment(variable), f"The environment variable {variable}")
    return _from_hex(str(options["KEY"]), "The option KEY")


def key_source(options: Mapping[str, Any]) -> str:
    """Which of ``SOURCES`` is used. Raises ConfigurationError unless exactly one is given."""
    given = [name for name in SOURCES if options.get(name)]
    if len(given) != 1:
        raise ConfigurationError(
            "A settlement wallet needs exactly one of KEY_ENV, KEYSTORE and KEY; "
            f"given: {', '.join(given) or 'none'}."
        )
    return given[0]


def check_source(options: Mapping[str, Any]) -> None:
    """Raise ConfigurationError as ``settlement_account`` would, but decrypt nothing."""
    if key_source(options) == "KEYSTORE":
        _read_keystore(Path(str(options["KEYSTORE"])))
        _password(options)
    else:
        settlement_account(options)


def _from_hex(text: str, what: str) -> LocalAccount:
    from eth_account import Account
    from eth_utils.exceptions import ValidationError as EthValidationError

    try:
        return cast("LocalAccount", Account.from_key(text.strip()))
    except (ValueError, TypeError, EthValidationError):
        # Not chained: the library's message may quote the key.
        raise ConfigurationError(f"{what} does not hold a private key (32 bytes, hex).") from None


def _from_keystore(options: Mapping[str, Any]) -> LocalAccount:
    from eth_account import Account

    path = Path(str(options["KEYSTORE"]))
    keystore = _read_keystore(path)
    password = _password(options)
    try:
        return cast("LocalAccount", Account.from_key(Account.decrypt(keystore, password)))
    except (ValueError, TypeError, KeyError, NotImplementedError):
        raise ConfigurationError(
            f"The keystore {path} cannot be decrypted: wrong password, or not a keystore."
        ) from None


def _read_keystore(path: Path) -> dict[str, Any]:
    try:
        keystore = json.loads(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"The keystore {path} cannot be read: {error.strerror}.") from None
    except ValueError:
        keystore = None
    if not isinstance(keystore, dict) or not ("crypto" in keystore or "Crypto" in keystore):
        raise ConfigurationError(f"{path} is not a keystore file.") from None
    return keystore


def _password(options: Mapping[str, Any]) -> str:
    variable = options.get("KEYSTORE_PASSWORD_ENV")
    file = options.get("KEYSTORE_PASSWORD_FILE")
    if bool(variable) == bool(file):
        raise ConfigurationError(
            "A KEYSTORE needs either KEYSTORE_PASSWORD_ENV or KEYSTORE_PASSWORD_FILE."
        )
    if variable:
        return _environment(str(variable))
    try:
        return Path(str(file)).read_text().rstrip("\r\n")
    except OSError as error:
        raise ConfigurationError(
            f"The password file {file} cannot be read: {error.strerror}."
        ) from None


def _environment(variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise ConfigurationError(f"The environment variable {variable} is not set.")
    return value
