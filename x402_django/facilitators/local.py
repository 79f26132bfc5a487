"""Settles from the site's own wallet: the SDK's scheme code over our outbox."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from x402_django.chain import wallets
from x402_django.conf import x402
from x402_django.constants import SCHEME_EXACT, Code
from x402_django.exceptions import (
    ConfigurationError,
    FacilitatorUnavailable,
    PaymentRefused,
    RpcUnavailable,
    SettlementFailed,
    SettlementUnknown,
    X402Error,
)
from x402_django.facilitators.base import BaseFacilitator, Kind, reason_code
from x402_django.protocol import sdk
from x402_django.protocol.assets import is_address
from x402_django.protocol.types import Settlement

if TYPE_CHECKING:
    from django.core.checks import CheckMessage
    from eth_account.signers.local import LocalAccount

    from x402_django.chain.signer import MinedTransaction, OutboxSigner
    from x402_django.models import ChainTransaction, Payment
    from x402_django.protocol.types import SignedPayment

logger = logging.getLogger("x402_django.facilitators")

#: Gas a payment may use, see ``OPTIONS["MAX_GAS"]``.
DEFAULT_MAX_GAS = 500_000


class LocalFacilitator(BaseFacilitator):
    """Verifies and settles with the site's own RPC endpoints and wallet.

    Options:
        KEY_ENV, KEYSTORE, …: the wallet that pays the gas, see ``chain.wallets``.
        ALLOWED_FACTORIES: contracts that may be called to deploy a payer's wallet (ERC-6492);
            by default none.
        MAX_GAS: gas that verifying or settling one payment may use; default 500,000.

    It judges by the chain: a settlement is one whose receipt holds the transfer, and a failure
    is one that left the authorization unused.
    """

    trusted = True
    spends_gas = True
    needs_rpc = True
    option_names = wallets.OPTION_NAMES | {"ALLOWED_FACTORIES", "MAX_GAS"}
    number_names = frozenset({"MAX_GAS"})

    @cached_property
    def account(self) -> LocalAccount:
        """The settlement wallet. Raises ConfigurationError."""
        return wallets.settlement_account(self.options)

    def verify(self, signed: SignedPayment) -> None:
        if signed.offer.scheme != SCHEME_EXACT:
            raise PaymentRefused(code=Code.UNSUPPORTED_SCHEME)
        signer = self._signer(signed)
        scheme = self._scheme(signer)
        payload, requirements = _sdk_models(signed)
        try:
            answer = scheme.verify(payload, requirements)
        except (RuntimeError, X402Error) as error:
            raise _unavailable(signer.trouble or error) from error
        if answer.is_valid:
            return
        if signer.trouble is not None:
            raise _unavailable(signer.trouble) from signer.trouble
        raise PaymentRefused(
            code=reason_code(answer.invalid_reason, default=Code.INVALID_REQUIREMENTS)
        )

    def settle(self, signed: SignedPayment, payment: Payment) -> Settlement:
        from x402_django.chain import outbox

        signer = self._signer(signed, payment.pk)
        row = outbox.transaction_for(payment.pk)
        if row is not None and not self._may_start_over(row, signed):
            row = outbox.rebroadcast(row)
            if row.status != row.Status.DROPPED:
                return self._outcome(signer, row, signed)
        previous = row.pk if row is not None else 0
        reason = self._run_scheme(signer, signed)
        row = outbox.transaction_for(payment.pk)
        if row is None or row.pk == previous:
            raise self._not_sent(signer, signed, reason)
        return self._outcome(signer, row, signed)

    def supported(self) -> frozenset[Kind]:
        return frozenset(
            (SCHEME_EXACT, name) for name, network in x402.networks.items() if network.has_rpc
        )

    def check(self) -> list[CheckMessage]:
        from django.core.checks import Error

        found = super().check()
        try:
            wallets.check_source(self.options)
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

    def _signer(self, signed: SignedPayment, payment_id: int | None = None) -> OutboxSigner:
        from x402_django.chain.signer import OutboxSigner

        max_gas = int(self.options.get("MAX_GAS", DEFAULT_MAX_GAS))
        return OutboxSigner(
            signed.offer.network, self.account, payment_id=payment_id, max_gas=max_gas
        )

    def _scheme(self, signer: OutboxSigner) -> Any:
        return sdk.facilitator_scheme(
            cast(Any, signer),  # its receipts have the SDK's shape but are not of its class
            pending_store=_ForgetfulStore(),
            eip6492_allowed_factories=list(self.options.get("ALLOWED_FACTORIES", ())),
            # The outbox simulates before it takes a nonce; once is enough.
            simulate_in_settle=False,
        )

    def _may_start_over(self, row: ChainTransaction, signed: SignedPayment) -> bool:
        """Whether the payment's last transaction is over without having used the authorization."""
        from x402_django.chain.evidence import authorization_used
        from x402_django.chain.outbox import refresh

        try:
            return refresh(row).status == row.Status.REVERTED and not authorization_used(signed)
        except RpcUnavailable as error:
            raise SettlementUnknown(transaction=row.hash) from error

    def _run_scheme(self, signer: OutboxSigner, signed: SignedPayment) -> str | None:
        """The SDK's reason if it says the settlement failed; what it says is only a reason."""
        payload, requirements = _sdk_models(signed)
        try:
            answer = self._scheme(signer).settle(payload, requirements)
        except (RuntimeError, X402Error) as error:
            signer.trouble = signer.trouble or error
            return None
        return cast("str | None", answer.error_reason)

    def _not_sent(
        self, signer: OutboxSigner, signed: SignedPayment, reason: str | None
    ) -> X402Error:
        """What to raise where no transaction was stored, so that nothing can have been sent."""
        from x402_django.chain.evidence import authorization_used

        if signer.trouble is not None:
            logger.warning(
                "Facilitator %s sent nothing: %s", self.alias, type(signer.trouble).__name__
            )
            return _unavailable(signer.trouble)
        # Refused, though it had been verified: perhaps somebody else has submitted the payer's
        # authorization meanwhile. Then the payer has paid.
        try:
            used = authorization_used(signed)
        except RpcUnavailable:
            used = True
        if used:
            return SettlementUnknown()
        return SettlementFailed(code=reason_code(reason, default=Code.INVALID_TRANSACTION_STATE))

    def _outcome(
        self, signer: OutboxSigner, row: ChainTransaction, signed: SignedPayment
    ) -> Settlement:
        """Judge a stored transaction by its receipt."""
        from x402_django.chain.evidence import authorization_used, transfer_in_receipt

        mined: MinedTransaction = signer.wait_for_transaction_receipt(row.hash)
        log_index = transfer_in_receipt(mined.receipt, signed)
        if log_index is not None:
            return Settlement(
                transaction=row.hash,
                block_number=mined.block_number,
                block_hash="0x" + bytes(mined.receipt["blockHash"]).hex(),
                log_index=log_index,
            )
        # Reverted, or the token moved nothing. Was the authorization used by somebody else?
        try:
            used = authorization_used(signed)
        except RpcUnavailable as error:
            raise SettlementUnknown(transaction=row.hash) from error
        if used:
            raise SettlementUnknown(transaction=row.hash)
        raise SettlementFailed(transaction=row.hash)


class _ForgetfulStore:
    """Keeps the SDK from remembering broadcasts in memory: the ledger remembers them."""

    def get(self, key: str) -> str | None:
        return None

    def set(self, key: str, tx_hash: str) -> None:
        """Nothing is kept."""

    def delete(self, key: str) -> None:
        """Nothing was kept."""


def _sdk_models(signed: SignedPayment) -> tuple[Any, Any]:
    return sdk.to_sdk_payload(signed), sdk.to_sdk_requirements(signed.offer)


def _unavailable(trouble: Exception) -> X402Error:
    """Wrong settings stay what they are; everything else means: nothing was sent, try later."""
    if isinstance(trouble, ConfigurationError):
        return trouble
    if not isinstance(trouble, X402Error):
        logger.error("The local facilitator failed before sending anything.", exc_info=trouble)
    return FacilitatorUnavailable()
