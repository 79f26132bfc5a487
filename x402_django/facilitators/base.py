"""What a facilitator is, and the registry of the configured ones.

To write your own, subclass and name it in the settings::

    # shop/facilitators.py
    class AuditedFacilitator(RemoteFacilitator):
        \"\"\"Refuses payers of a block list, then does as the remote one does.\"\"\"

        def verify(self, signed):
            if BlockedPayer.objects.filter(address=signed.payer).exists():
                raise PaymentRefused("This payer is not served.", code="payer_blocked")
            super().verify(signed)

    X402 = {
        "FACILITATORS": {
            "default": {
                "BACKEND": "shop.facilitators.AuditedFacilitator",
                "OPTIONS": {"URL": "https://facilitator.example"},
            },
        },
    }

One instance serves all threads of a process, so keep no state of a payment on ``self``. What you
raise decides what happens to money: read ``settle`` below twice.
"""

from __future__ import annotations

import logging
import math
import os
import re
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from x402_django.conf import x402
from x402_django.constants import SCHEME_BATCH, Code
from x402_django.exceptions import ConfigurationError, SettlementUnknown, X402Error

if TYPE_CHECKING:
    from django.core.checks import CheckMessage
    from eth_account.signers.local import LocalAccount

    from x402_django.chain.upkeep import Keeper
    from x402_django.models import Payment
    from x402_django.protocol.types import Offer, Settlement, SignedPayment

logger = logging.getLogger("x402_django.facilitators")

#: ``(scheme, network)``, e.g. ``("exact", "eip155:8453")``.
Kind = tuple[str, str]

_TOKEN: Final = re.compile(r"[a-z0-9_]{1,100}")

#: Reasons of other implementations that the specification has a code for.
_SPECIFIED: Final = {
    "invalid_exact_evm_insufficient_balance": Code.INSUFFICIENT_FUNDS,
    "invalid_exact_evm_network_mismatch": Code.INVALID_NETWORK,
    "network_mismatch": Code.INVALID_NETWORK,
    "permit2_insufficient_balance": Code.INSUFFICIENT_FUNDS,
    "permit2_invalid_nonce": Code.NONCE_USED,
}


class BaseFacilitator:
    """Verifies that a payment would succeed, and makes it succeed.

    Args:
        alias: its name in ``X402["FACILITATORS"]``.
        options: its ``OPTIONS``.
    """

    #: Whether ``settle`` proves what it says. Where False and the site has an RPC endpoint, the
    #: ledger looks at the chain before it releases anything.
    trusted: bool = False
    #: Whether settling spends gas from a wallet of this site.
    spends_gas: bool = False
    #: Whether it works only on networks with ``RPC_URLS`` or a ``PROVIDER``.
    needs_rpc: bool = False
    #: Extensions by which it pays for approvals of Permit2, as far as is known without asking.
    sponsors: frozenset[str] = frozenset()
    #: Gas that settling one payment may use at the most; 0 if it spends none.
    gas_per_payment: int = 0
    #: Names of the ``OPTIONS`` it knows; others are reported by ``check``.
    option_names: ClassVar[frozenset[str]] = frozenset()
    #: Those of them that are numbers above zero.
    number_names: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, alias: str, options: Mapping[str, Any]) -> None:
        self.alias = alias
        self.options = options

    def verify(self, signed: SignedPayment) -> None:
        """Return if the payment would settle now. Must not move money.

        Raises:
            PaymentRefused: it would not; ``code`` says why (answered 402).
            FacilitatorUnavailable: no answer could be had (answered 503).
        """
        raise NotImplementedError

    def verified_by(self, signed: SignedPayment) -> BaseFacilitator:
        """``verify``, and say whose word it was: the facilitator that is to settle the payment.

        That is this one, unless it asks others (see ``failover``). Raises as ``verify``.
        """
        self.verify(signed)
        return self

    def settle(self, signed: SignedPayment, payment: Payment) -> Settlement:
        """Move the money. Called outside any database transaction; ``payment`` is ``settling``.

        May be called again for the same payment after an unknown outcome, so it must be safe to
        repeat (an EIP-3009 authorization is: its nonce can be used once).

        Raises:
            SettlementFailed: definite. The payer was not charged and will not be by anything
                that was sent.
            SettlementUnknown: anything else that may have happened, above all silence. When in
                doubt, raise this one.
            FacilitatorUnavailable: provably nothing was sent.
        """
        raise NotImplementedError

    def settle_many(
        self, batch: Sequence[tuple[SignedPayment, Payment]]
    ) -> list[Settlement | X402Error]:
        """Move the money of several payments of one network; results in the order of ``batch``.

        An error that ``settle`` would raise stands in place of the settlement it prevents; one bad
        payment never hurts its neighbours. Override it where several settle cheaper together.
        """
        results: list[Settlement | X402Error] = []
        for signed, payment in batch:
            try:
                results.append(self.settle(signed, payment))
            except X402Error as error:
                results.append(error)
            except Exception:
                logger.exception("Facilitator %s broke off while settling.", self.alias)
                results.append(SettlementUnknown())
        return results

    def keepers(self) -> Sequence[Keeper]:
        """Its settlement wallets, for the periodic task to look after. May raise
        ConfigurationError."""
        return ()

    def supported(self) -> frozenset[Kind]:
        """The schemes and networks it can settle now. May ask over the network.

        Raises:
            FacilitatorUnavailable: no answer could be had.
        """
        raise NotImplementedError

    def settlers(self, network: str) -> Sequence[str]:
        """The wallets that settle the scheme ``upto`` on ``network``, the preferred one first.

        A payer signs for one of them, and no other can settle it then. Empty where it settles no
        such payments. Raises as ``supported``.
        """
        return ()

    def claimants(self, network: str) -> Sequence[str]:
        """The wallets that payment channels on ``network`` may name, the preferred one first.

        A channel names one for ever, and no other can claim from it: only wallets whose keys are
        at hand here. Empty where there are none. Raises as ``supported``.
        """
        return ()

    def wallets_for(self, offer: Offer) -> Sequence[str]:
        """Those that ``offer`` may name: ``claimants`` for channels, else ``settlers``."""
        named = self.claimants if offer.scheme == SCHEME_BATCH else self.settlers
        return named(offer.network)

    def claimant(self, address: str) -> LocalAccount | None:
        """The wallet at ``address``, to claim from payment channels; None if it is not at hand.

        May raise ConfigurationError.
        """
        return None

    def supports(self, network: str, scheme: str) -> bool:
        """Whether it settles ``scheme`` on ``network`` (CAIP-2). Raises as ``supported``."""
        return (scheme, network) in self.supported()

    def check(self) -> list[CheckMessage]:
        """Problems of its options, for ``manage.py check``. No network."""
        from django.core.checks import Error

        where = f"X402['FACILITATORS'][{self.alias!r}]['OPTIONS']"
        known = ", ".join(sorted(self.option_names)) or "none"
        unknown = [
            Error(
                f"{where} has an unknown key {name!r}.",
                hint=f"Known are: {known}.",
                id="x402_django.E030",
            )
            for name in sorted(set(self.options) - self.option_names)
        ]
        wrong = [
            Error(
                f"{where}[{name!r}] is {self.options[name]!r}.",
                hint="Write a number greater than 0.",
                id="x402_django.E035",
            )
            for name in sorted(self.number_names.intersection(self.options))
            if not is_positive(self.options[name])
        ]
        return [*unknown, *wrong]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.alias!r}>"


def reason_code(reason: str | None, *, default: str) -> str:
    """A facilitator's reason as a code of ours; ``default`` where it is no plain token.

    Reasons come from outside and end in answers and in the ledger, so only short tokens of
    lower-case letters, digits and underscores pass.
    """
    if reason is None or _TOKEN.fullmatch(reason) is None:
        return default
    return _SPECIFIED.get(reason, reason)


def is_positive(value: object) -> bool:
    """Whether an option is a finite number greater than 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 < value < math.inf


#: Reentrant: a facilitator that asks others gets them while it is built.
_lock = threading.RLock()
_instances: dict[tuple[int, str], BaseFacilitator] = {}


def get_facilitator(alias: str) -> BaseFacilitator:
    """The facilitator configured as ``alias``: one instance per process.

    Raises ConfigurationError for an unknown alias or a backend that cannot be imported.
    """
    # Keyed by process: sockets opened before a fork must not be shared with the child.
    key = (os.getpid(), alias)
    instance = _instances.get(key)
    if instance is None:
        with _lock:
            instance = _instances.get(key)
            if instance is None:
                instance = _instances[key] = build_facilitator(alias)
    return instance


def build_facilitator(alias: str) -> BaseFacilitator:
    """A new instance for ``alias``, for checks. Raises as ``get_facilitator``."""
    return facilitator_class(alias)(alias, x402.facilitators[alias].options)


def facilitator_class(alias: str) -> type[BaseFacilitator]:
    """The backend of ``alias``. Raises as ``get_facilitator``."""
    settings = x402.facilitators.get(alias)
    if settings is None:
        raise ConfigurationError(
            f"X402['FACILITATORS'] has no entry for {alias!r}. Configured are: "
            f"{', '.join(sorted(x402.facilitators)) or 'none'}."
        )
    try:
        backend = import_string(settings.backend)
    except ImportError as error:
        raise ConfigurationError(
            f"X402['FACILITATORS'][{alias!r}]['BACKEND'] = {settings.backend!r} "
            f"cannot be imported: {error}"
        ) from error
    if not (isinstance(backend, type) and issubclass(backend, BaseFacilitator)):
        raise ConfigurationError(
            f"X402['FACILITATORS'][{alias!r}]['BACKEND'] = {settings.backend!r} "
            "is not a subclass of BaseFacilitator."
        )
    return backend


def _reset(*, setting: str, **kwargs: object) -> None:
    if setting == "X402":
        with _lock:
            _instances.clear()


setting_changed.connect(_reset, dispatch_uid="x402_django.facilitators.reset")
