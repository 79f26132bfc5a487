"""Reading networks: one web3 per process and network; several endpoints are ``endpoints``.

All trouble with a node surfaces as ``RpcUnavailable``; a contract that reverts stays
``web3.exceptions.ContractLogicError``.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, cast

from django.core.signals import setting_changed
from django.utils.module_loading import import_string
from eth_typing import ChecksumAddress
from web3 import Web3
from web3.exceptions import (
    ContractLogicError,
    InvalidAddress,
    TransactionNotFound,
    Web3Exception,
    Web3RPCError,
    Web3TypeError,
    Web3ValidationError,
)
from web3.middleware import AttributeDictMiddleware
from web3.providers.base import BaseProvider

from x402_django.chain.endpoints import FailoverProvider
from x402_django.conf import x402
from x402_django.conf_entries import NetworkSettings
from x402_django.exceptions import ConfigurationError, RpcUnavailable
from x402_django.protocol.assets import to_checksum_address

logger = logging.getLogger("x402_django.chain")

#: What nodes say, outside the code reserved for reverts, when a contract's execution fails. Geth
#: has sentences, revm (Reth, Anvil) names, some Ethereum clients one sentence for all of it.
_EXECUTION_FAILED: Final = re.compile(
    r"revert|out ?of ?gas|invalid ?(fe)?opcode|opcode ?not ?found|bad ?instruction|invalid ?jump|"
    r"stack ?(under|over)flow|stack limit|write protection|StateChangeDuringStaticCall|"
    r"CallNotAllowedInsideStatic|return data out of bounds|OutOfOffset|max call depth|CallTooDeep|"
    r"max (init)?code ?size|Create(InitCode|Contract)SizeLimit|VM execution error",
    re.I,
)

_lock = threading.RLock()
_web3s: dict[tuple[int, str], Web3] = {}


def get_web3(network: str) -> Web3:
    """The process's web3 for ``network`` (CAIP-2). Safe to share between threads.

    Raises:
        ConfigurationError: no endpoint is configured, or it serves another chain.
        RpcUnavailable: a ``PROVIDER`` could not be asked for its chain id.
    """
    # Keyed by process: sockets opened before a fork must not be shared with the child.
    key = (os.getpid(), network)
    w3 = _web3s.get(key)
    if w3 is None:
        with _lock:
            w3 = _web3s.get(key)
            if w3 is None:
                w3 = _connect(x402.network(network))
                _web3s[key] = w3
    return w3


@contextmanager
def rpc_errors(network: str) -> Iterator[None]:
    """Turn every trouble with the node into RpcUnavailable.

    Passed on are ``TransactionNotFound`` and ``ContractLogicError``; the latter is also raised
    for failed executions that web3 does not recognise as such.
    """
    try:
        yield
    except (ContractLogicError, TransactionNotFound, RpcUnavailable):
        raise
    except (InvalidAddress, Web3TypeError, Web3ValidationError):
        raise  # ours: arguments that never reached a node
    except Web3RPCError as error:
        code, message = error_of(error)
        if _EXECUTION_FAILED.search(message):
            raise ContractLogicError(message) from error
        logger.warning("RPC error of %s: %s %s", network, code, message[:200])
        raise RpcUnavailable(f"The RPC endpoint of {network} refused (code {code}).") from error
    except Web3Exception as error:
        raise RpcUnavailable(
            f"The RPC endpoint of {network} answered with an error ({type(error).__name__})."
        ) from error
    except (OSError, ValueError) as error:
        # Not chained: the text of a transport error holds the endpoint's address with its key.
        raise RpcUnavailable(
            f"The RPC endpoint of {network} did not answer ({type(error).__name__})."
        ) from None


def error_of(error: Web3RPCError) -> tuple[int | None, str]:
    """The code and message of a JSON-RPC error; the message is the node's, not for answers."""
    details = (error.rpc_response or {}).get("error")
    if isinstance(details, dict):
        return details.get("code"), str(details.get("message", ""))
    return None, ""


def checksum(address: str) -> ChecksumAddress:
    """An address of any letter case as web3 wants it. Raises ValueError if it is none."""
    return cast(ChecksumAddress, to_checksum_address(address))


def check_chain_id(found: int, expected: int, where: str) -> None:
    """Raise ConfigurationError unless the node serves the chain that the settings say."""
    if found != expected:
        raise ConfigurationError(
            f"The RPC endpoint {where} serves chain {found}, not {expected}. "
            "Correct X402['NETWORKS']."
        )


def _connect(settings: NetworkSettings) -> Web3:
    if settings.provider:
        w3 = _web3(_custom_provider(settings))
        with rpc_errors(settings.network):
            check_chain_id(w3.eth.chain_id, settings.chain_id, "of PROVIDER")
        return w3
    if not settings.rpc_urls:
        raise ConfigurationError(
            f"X402['NETWORKS'][{settings.network!r}] has no RPC_URLS, so the chain cannot be read."
        )
    return _web3(FailoverProvider(settings))


def _web3(provider: BaseProvider) -> Web3:
    # Of web3's default middleware only this one is wanted: the others serve accounts that the
    # node holds, ENS, and checks that cost requests or that proof-of-authority chains fail.
    return Web3(provider, middleware=[(AttributeDictMiddleware, "attrdict")])


def _custom_provider(settings: NetworkSettings) -> BaseProvider:
    path = cast(str, settings.provider)
    try:
        factory = import_string(path)
    except ImportError as error:
        raise ConfigurationError(
            f"X402['NETWORKS'][{settings.network!r}]['PROVIDER'] = {path!r} "
            f"cannot be imported: {error}"
        ) from error
    provider = cast(BaseProvider, factory(settings.network))
    provider.global_ccip_read_enabled = False
    return provider


def _reset(*, setting: str, **kwargs: object) -> None:
    if setting == "X402":
        with _lock:
            _web3s.clear()


setting_changed.connect(_reset, dispatch_uid="x402_django.chain.rpc.reset")
