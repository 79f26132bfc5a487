"""Settles from the site's own wallet: the SDK's scheme code over our outbox."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from x402_django.chain import wallets
from x402_django.conf import x402
from x402_django.constants import (
    SCHEME_BATCH,
    SCHEME_EXACT,
    SIGNED_SCHEMES,
    SPONSOR_EIP2612,
    SPONSOR_ERC20_APPROVAL,
    TRANSFER_PERMIT2,
    Code,
)
from x402_django.exceptions import (
    ConfigurationError,
    PaymentRefused,
    RpcUnavailable,
    SettlementFailed,
    SettlementUnknown,
    X402Error,
)
from x402_django.facilitators import permit2, single
from x402_django.facilitators.base import BaseFacilitator, Kind
from x402_django.facilitators.batches import settle_batch
from x402_django.facilitators.lane import Lane
from x402_django.facilitators.plain import PlainVerifier, is_plain
from x402_django.protocol.assets import is_address
from x402_django.protocol.types import Settlement

if TYPE_CHECKING:
    from django.core.checks import CheckMessage
    from eth_account.signers.local import LocalAccount

    from x402_django.chain.groups import Departure, Rider
    from x402_django.chain.upkeep import Keeper
    from x402_django.models import ChainTransaction, Payment
    from x402_django.protocol.types import SignedPayment

logger = logging.getLogger("x402_django.facilitators")

#: Gas a payment may use, see ``OPTIONS["MAX_GAS"]``.
DEFAULT_MAX_GAS = 500_000
#: Wei, see ``OPTIONS["MAX_APPROVAL_COST"]``: enough for the official clients on a cheap network,
#: which without an estimate of their own sign for 70,000 gas at 1 gwei.
DEFAULT_MAX_APPROVAL_COST = 10**14
#: Of groups: payments, gas, and seconds that one waits for its block before the next is sent.
DEFAULT_GROUP_SIZE = 80
DEFAULT_GROUP_MAX_GAS = 6_000_000
DEFAULT_GROUP_INTERVAL = 0.25


class LocalFacilitator(BaseFacilitator):
    """Verifies and settles with the site's own RPC endpoints and wallet.

    Options:
        KEY_ENV, KEYSTORE, …: the wallet that pays the gas, see ``chain.wallets``.
        ALLOWED_FACTORIES: contracts that may be called to deploy a payer's wallet (ERC-6492);
            by default none.
        MAX_GAS: gas that verifying or settling one payment may use; default 500,000.
        MAX_APPROVAL_COST: wei that a payer's approval of Permit2 may cost, where a payment method
            pays for it (``erc20ApprovalGasSponsoring``); default 10**14.
        MAX_GIFTS_PER_HOUR: wei that a wallet gives payers for such approvals per hour and network;
            default ten times ``MAX_APPROVAL_COST``.
        GROUP_SIZE: most payments in one transaction; 1 settles each by itself. Default 80, which
            is also the most.
        GROUP_MAX_GAS: gas that such a transaction may use; default 6,000,000.
        GROUP_INTERVAL: seconds after which the next group is sent though the last one is not
            mined; default 0.25. More makes larger groups and cheaper payments.
        WALLETS: a list of dicts, each with a key as above. The least busy wallet settles.
        GAS_PER_HOUR, GAS_PER_PAYER: gas per hour and network, in all and for one payer; beyond
            that payments are answered with 503. No limit by default.
        LOW_BALANCE: coins of the network below which a wallet is reported (log, admin, metrics,
            and the signal ``chain.upkeep.wallet_balance_low``), e.g. ``"0.01"``.

    It judges by the chain: a settlement is one whose receipt holds the transfer, and a failure
    is one that left the authorization unused.
    """

    trusted = True
    spends_gas = True
    needs_rpc = True
    sponsors = frozenset({SPONSOR_EIP2612, SPONSOR_ERC20_APPROVAL})
    option_names = wallets.OPTION_NAMES | {
        "ALLOWED_FACTORIES",
        "GAS_PER_HOUR",
        "GAS_PER_PAYER",
        "GROUP_INTERVAL",
        "GROUP_MAX_GAS",
        "GROUP_SIZE",
        "LOW_BALANCE",
        "MAX_APPROVAL_COST",
        "MAX_GIFTS_PER_HOUR",
        "MAX_GAS",
        "WALLETS",
    }
    number_names = frozenset(
        option for option in option_names if option.startswith(("GAS_", "GROUP_", "MAX_"))
    )

    def __init__(self, alias: str, options: Mapping[str, Any]) -> None:
        super().__init__(alias, options)
        self._lanes: dict[str, Lane] = {}

    @cached_property
    def accounts(self) -> tuple[LocalAccount, ...]:
        """The settlement wallets. Raises ConfigurationError."""
        return tuple(map(wallets.settlement_account, wallets.sources(self.options)))

    @property
    def account(self) -> LocalAccount:
        """The first of the wallets: the one that is simulated with."""
        return self.accounts[0]

    @property
    def gas_per_payment(self) -> int:  # type: ignore[override]
        return int(self.options.get("MAX_GAS", DEFAULT_MAX_GAS))

    @property
    def factories(self) -> Sequence[str]:
        """Contracts that may be called to deploy a payer's wallet."""
        return list(self.options.get("ALLOWED_FACTORIES", ()))

    @property
    def approval_cost(self) -> int:
        """Wei that a payer's approval of Permit2 may cost."""
        return int(self.options.get("MAX_APPROVAL_COST", DEFAULT_MAX_APPROVAL_COST))

    @property
    def gifts_per_hour(self) -> int:
        """Wei that a wallet gives payers for their approvals of Permit2, per hour and network."""
        return int(self.options.get("MAX_GIFTS_PER_HOUR", 10 * self.approval_cost))

    @cached_property
    def _plain(self) -> PlainVerifier:
        return PlainVerifier(max_gas=self.gas_per_payment)

    def keepers(self) -> Sequence[Keeper]:
        from x402_django.chain.upkeep import Keeper

        low = wallets.low_balance(self.options)
        return [Keeper(account, low) for account in self.accounts]

    def verify(self, signed: SignedPayment) -> None:
        self.refuse_over_budget(signed)  # before the view works for what cannot be settled
        if signed.channel is not None:
            if signed.channel.deposit is not None:  # a voucher alone, the ledger judges
                single.verify(self, signed)
            return
        if signed.offer.transfer_method == TRANSFER_PERMIT2:
            permit2.verify(self, signed)
            return
        if signed.offer.scheme != SCHEME_EXACT:
            raise PaymentRefused(code=Code.UNSUPPORTED_SCHEME)
        if is_plain(signed) and self._plain.settles(signed):
            return
        single.verify(self, signed)

    def claimant(self, address: str) -> LocalAccount | None:
        for account in self.accounts:
            if account.address == address:
                return account
        return None

    def settle(self, signed: SignedPayment, payment: Payment) -> Settlement:
        (result,) = self.settle_many([(signed, payment)])
        if isinstance(result, X402Error):
            raise result
        return result

    def settle_many(
        self, batch: Sequence[tuple[SignedPayment, Payment]]
    ) -> list[Settlement | X402Error]:
        return settle_batch(self, {payment.pk: signed for signed, payment in batch})

    def supported(self) -> frozenset[Kind]:
        return frozenset(
            (scheme, name)
            for name, network in x402.networks.items()
            if network.has_rpc
            for scheme in (*SIGNED_SCHEMES, SCHEME_BATCH)
        )

    def settlers(self, network: str) -> Sequence[str]:
        """The first of the wallets: payers sign for one."""
        return (self.account.address,)

    def claimants(self, network: str) -> Sequence[str]:
        """The first of the wallets; ``claimant`` knows them all."""
        return (self.account.address,)

    def check(self) -> list[CheckMessage]:
        from django.core.checks import Error

        found = super().check()
        try:
            for source in wallets.sources(self.options):
                wallets.check_source(source)
            wallets.low_balance(self.options)
        except ConfigurationError as error:
            found.append(
                Error(
                    f"X402['FACILITATORS'][{self.alias!r}]: {error}",
                    hint="Name the wallet's key with KEY_ENV, or with KEYSTORE and its password.",
                    id="x402_django.E033",
                )
            )
        factories = self.options.get("ALLOWED_FACTORIES", ())
        if isinstance(factories, str) or not all(is_address(one) for one in factories):
            found.append(
                Error(
                    f"X402['FACILITATORS'][{self.alias!r}]['OPTIONS']['ALLOWED_FACTORIES'] "
                    "must be a list of contract addresses.",
                    id="x402_django.E034",
                )
            )
        return found

    # ----------------------------------------------------- what ``batches`` and ``lane`` call

    @property
    def group_size(self) -> int:
        """Most payments in one transaction."""
        return min(int(self.options.get("GROUP_SIZE", DEFAULT_GROUP_SIZE)), DEFAULT_GROUP_SIZE)

    def lane(self, network: str) -> Lane:
        """The way to the outbox on ``network``: one per process."""
        lane = self._lanes.get(network)
        if lane is None:
            interval = float(self.options.get("GROUP_INTERVAL", DEFAULT_GROUP_INTERVAL))
            lane = Lane(network, self, size=self.group_size, interval=interval)
            lane = self._lanes.setdefault(network, lane)
        return lane

    def send_group(self, network: str, riders: Sequence[Rider]) -> Departure:
        """Send payments in one transaction. Raises RpcUnavailable if nothing was sent."""
        from x402_django.chain import groups

        return groups.depart(
            network,
            self._least_busy(network),
            riders,
            facilitator=self.alias,
            limits=groups.Limits(
                single=self.gas_per_payment,
                group=int(self.options.get("GROUP_MAX_GAS", DEFAULT_GROUP_MAX_GAS)),
            ),
        )

    def refuse_over_budget(self, signed: SignedPayment) -> None:
        """Raise FacilitatorUnavailable if no more gas may be used now, or not for this payer."""
        limits = [self.options.get(name) for name in ("GAS_PER_HOUR", "GAS_PER_PAYER")]
        if limits == [None, None]:
            return
        from x402_django.chain import budget

        budget.refuse_over(
            signed.offer.network,
            self.alias,
            signed.payer,
            gas_per_hour=limits[0],
            gas_per_payer=limits[1],
        )

    def account_for(self, signed: SignedPayment) -> LocalAccount:
        """The wallet that is to settle: the one that was signed for, or any.

        Raises SettlementFailed if it is none of ours.
        """
        if not signed.offer.settler:
            return self._least_busy(signed.offer.network)
        for account in self.accounts:
            if account.address == signed.offer.settler:
                return account
        raise SettlementFailed(code="upto_facilitator_mismatch")

    def _least_busy(self, network: str) -> LocalAccount:
        """The wallet with the fewest transactions that wait for their block."""
        if len(self.accounts) == 1:
            return self.account
        from x402_django.chain import outbox

        waiting = outbox.open_transactions(network)
        return min(self.accounts, key=lambda account: waiting[account.address])

    def not_settled(
        self, row: ChainTransaction, signed: SignedPayment, payment_id: int
    ) -> X402Error:
        """What it means that a mined transaction has not settled its payment."""
        from x402_django.chain import queue
        from x402_django.chain.evidence import authorization_used

        # Reverted, or the token moved nothing. Was the authorization used by somebody else?
        try:
            used = authorization_used(signed)
        except RpcUnavailable:
            used = True
        if used:
            return SettlementUnknown(transaction=row.hash)
        queue.mark_missed(row.pk, [payment_id])
        return SettlementFailed(transaction=row.hash)
