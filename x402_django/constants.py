"""Names of the x402 protocol and of this app's answers, each in one place.

Header names: x402 specification v2, "HTTP transport"; v1, "HTTP transport" (legacy).
"""

from __future__ import annotations

from typing import Final

PAYMENT_REQUIRED_HEADER: Final = "PAYMENT-REQUIRED"
PAYMENT_SIGNATURE_HEADER: Final = "PAYMENT-SIGNATURE"
PAYMENT_RESPONSE_HEADER: Final = "PAYMENT-RESPONSE"
V1_PAYMENT_HEADER: Final = "X-PAYMENT"
V1_PAYMENT_RESPONSE_HEADER: Final = "X-PAYMENT-RESPONSE"

#: Transfer proofs (docs/transfer-proofs.md): what a challenge names, and what comes back.
TRANSFER_REQUIRED_HEADER: Final = "X-402-Required"
PAY_URL_HEADER: Final = "Pay-URL"
PROOF_HEADERS: Final = ("X-402-Proof", "X-Payment-Proof")

#: Request headers that carry a payment; answers vary on them.
PAYMENT_HEADERS: Final = (PAYMENT_SIGNATURE_HEADER, V1_PAYMENT_HEADER)
#: Response headers a browser-side client must be allowed to read (CORS).
EXPOSED_HEADERS: Final = (
    PAYMENT_REQUIRED_HEADER,
    PAYMENT_RESPONSE_HEADER,
    V1_PAYMENT_RESPONSE_HEADER,
    "X-402-Access",
    "X-402-Remaining",
)

#: Extensions that are built in, by their keys on the wire.
PAYMENT_IDENTIFIER: Final = "payment-identifier"
SIGN_IN_WITH_X: Final = "sign-in-with-x"
SIGN_IN_HEADER: Final = "SIGN-IN-WITH-X"
#: What says the same as a payment identifier, of clients without extensions.
IDEMPOTENCY_KEY_HEADER: Final = "Idempotency-Key"

#: Sent by the paywall's script: answer with a cookie that opens the page, not with the page.
PAYWALL_HEADER: Final = "X-402-Paywall"

SCHEME_EXACT: Final = "exact"
#: In the ledger alone: a transfer that the payer made itself. Never in a v2 or v1 challenge.
SCHEME_TRANSFER: Final = "transfer"
SCHEME_UPTO: Final = "upto"
#: Payment channels: a deposit in escrow, and vouchers for more and more of it.
SCHEME_BATCH: Final = "batch-settlement"
#: The schemes whose payments are signed by the payer and settled by somebody.
SIGNED_SCHEMES: Final = (SCHEME_EXACT, SCHEME_UPTO)

#: How the money of a payment is moved (the SDK's ``assetTransferMethod``).
TRANSFER_EIP3009: Final = "eip3009"
TRANSFER_SOLANA: Final = "solana"
TRANSFER_PERMIT2: Final = "permit2"
#: Ours alone, and never on the wire: by vouchers of a payment channel.
TRANSFER_CHANNEL: Final = "channel"

#: Extensions: an approval of Permit2 that the payer signs and the settling wallet pays for.
SPONSOR_EIP2612: Final = "eip2612GasSponsoring"
SPONSOR_ERC20_APPROVAL: Final = "erc20ApprovalGasSponsoring"

#: The same on every EVM network: Permit2, and the proxies that payers sign for as its spender.
PERMIT2_ADDRESS: Final = "0x000000000022D473030F116dDEE9F6B43aC78BA3"
EXACT_PROXY_ADDRESS: Final = "0x402085c248EeA27D92E8b30b2C58ed07f9E20001"
UPTO_PROXY_ADDRESS: Final = "0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002"

#: The escrow of payment channels, and who brings deposits into it by EIP-3009.
ESCROW_ADDRESS: Final = "0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003"
COLLECTOR_ADDRESS: Final = "0x4020806089470a89826cB9fB1f4059150b550004"
#: Seconds that a payer's own withdrawal from a channel may be put off by; the escrow's bounds.
MIN_WITHDRAW_DELAY: Final = 900
MAX_WITHDRAW_DELAY: Final = 2_592_000

#: Largest value of a Solidity ``uint256``.
UINT256_MAX: Final = 2**256 - 1

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

FLOW_AUTHORIZATION: Final = "authorization"
FLOW_UPFRONT: Final = "upfront"
FLOW_DEFERRED: Final = "deferred"
FLOWS: Final = (FLOW_AUTHORIZATION, FLOW_UPFRONT, FLOW_DEFERRED)


#: The primary key of the site's own merchant.
DEFAULT_MERCHANT: Final = 1

#: The longest session access, in seconds: a year.
MAX_SESSION_ACCESS: Final = 366 * 24 * 60 * 60


#: What a rule does: ask for its price, or let in free of charge.
EFFECT_CHARGE: Final = "charge"
EFFECT_FREE: Final = "free"

#: What a price buys: one request, a pass, or credits to be spent later.
GRANT_REQUEST: Final = "request"
GRANT_PASS: Final = "pass"  # noqa: S105
GRANT_CREDITS: Final = "credits"
#: Credits are counted in units of 10⁻⁸ US dollars.
CREDIT_DECIMALS: Final = 8
#: The longest pass, in hours: ten years.
MAX_PASS_HOURS: Final = 10 * 366 * 24

#: The bearer token of what was bought: given with the answer, and presented by a later request;
#: in ``Authorization`` it comes as ``Bearer``.
ACCESS_TOKEN_HEADER: Final = "X-402-Access"  # noqa: S105
#: What is left of the pass or of the credits that a request was let in by.
REMAINING_HEADER: Final = "X-402-Remaining"


class Code:
    """Stable machine-readable codes of every answer that is not the paid content.

    Codes that begin with ``invalid_`` and ``insufficient_funds`` are the specification's
    (x402 v2, "Error codes"); the others name what only a server with a ledger can say.
    """

    # 402, from the specification
    PAYMENT_REQUIRED: Final = "payment_required"
    INSUFFICIENT_FUNDS: Final = "insufficient_funds"
    INVALID_VALID_AFTER: Final = "invalid_exact_evm_payload_authorization_valid_after"
    INVALID_VALID_BEFORE: Final = "invalid_exact_evm_payload_authorization_valid_before"
    INVALID_VALUE: Final = "invalid_exact_evm_payload_authorization_value_mismatch"
    INVALID_SIGNATURE: Final = "invalid_exact_evm_payload_signature"
    INVALID_RECIPIENT: Final = "invalid_exact_evm_payload_recipient_mismatch"
    INVALID_NETWORK: Final = "invalid_network"
    INVALID_SCHEME: Final = "invalid_scheme"
    UNSUPPORTED_SCHEME: Final = "unsupported_scheme"
    INVALID_REQUIREMENTS: Final = "invalid_payment_requirements"
    INVALID_TRANSACTION_STATE: Final = "invalid_transaction_state"
    UNEXPECTED_VERIFY_ERROR: Final = "unexpected_verify_error"
    UNEXPECTED_SETTLE_ERROR: Final = "unexpected_settle_error"
    # In the PAYMENT-RESPONSE of a deferred payment; the SDKs know it as not terminal.
    SETTLEMENT_PENDING: Final = "settlement_pending"
    # 402, ours
    NONCE_USED: Final = "invalid_exact_evm_nonce_already_used"
    ALREADY_USED: Final = "payment_already_used"
    PAYMENT_REFUNDED: Final = "payment_refunded"
    PAYER_IN_DEFAULT: Final = "payer_in_default"
    # 402, of passes and credits
    INVALID_ACCESS_TOKEN: Final = "invalid_access_token"  # noqa: S105
    PASS_ENDED: Final = "pass_ended"  # noqa: S105
    INSUFFICIENT_CREDITS: Final = "insufficient_credits"
    # 402, of a sign-in by wallet; the SDKs' codes
    SIGN_IN_DOMAIN: Final = "invalid_siwx_domain_mismatch"
    SIGN_IN_URI: Final = "invalid_siwx_uri_mismatch"
    SIGN_IN_EXPIRED: Final = "invalid_siwx_expired"
    SIGN_IN_NONCE: Final = "invalid_siwx_nonce"
    SIGN_IN_CHAIN: Final = "invalid_siwx_unsupported_chain"
    SIGN_IN_SIGNATURE: Final = "invalid_siwx_signature"
    # 402, transfer proofs
    PAYMENT_PENDING: Final = "payment_pending"
    INVALID_CHALLENGE: Final = "invalid_challenge"
    CHALLENGE_EXPIRED: Final = "challenge_expired"
    CHALLENGE_MISMATCH: Final = "challenge_for_another_request"
    PROOF_NOT_SIGNED: Final = "proof_not_signed"
    INVALID_PROOF_SIGNATURE: Final = "invalid_proof_signature"
    TRANSFER_NOT_FOUND: Final = "transfer_not_found"
    TRANSFER_TOO_OLD: Final = "transfer_before_challenge"
    # 402, of payment channels; the SDKs' codes
    CHANNEL_PAYLOAD: Final = "invalid_batch_settlement_evm_payload_type"
    CHANNEL_ID: Final = "invalid_batch_settlement_evm_channel_id_mismatch"
    CHANNEL_RECEIVER: Final = "invalid_batch_settlement_evm_receiver_mismatch"
    CHANNEL_AUTHORIZER: Final = "invalid_batch_settlement_evm_receiver_authorizer_mismatch"
    CHANNEL_TOKEN: Final = "invalid_batch_settlement_evm_token_mismatch"  # noqa: S105
    CHANNEL_DELAY: Final = "invalid_batch_settlement_evm_withdraw_delay_mismatch"
    CHANNEL_SIGNATURE: Final = "invalid_batch_settlement_evm_voucher_signature"
    CHANNEL_MISMATCH: Final = "invalid_batch_settlement_evm_cumulative_amount_mismatch"
    CHANNEL_EXCEEDED: Final = "invalid_batch_settlement_evm_cumulative_exceeds_balance"
    CHANNEL_UNKNOWN: Final = "invalid_batch_settlement_evm_channel_not_found"
    CHANNEL_BUSY: Final = "invalid_batch_settlement_evm_channel_busy"
    CHANNEL_CLOSING: Final = "channel_is_closing"
    DEPOSIT_VALID_AFTER: Final = "invalid_batch_settlement_evm_payload_authorization_valid_after"
    DEPOSIT_VALID_BEFORE: Final = "invalid_batch_settlement_evm_payload_authorization_valid_before"
    # Of the facilitator service: reasons in its answers, and its own refusals (401, 413, 429)
    OTHER_NAME: Final = "invalid_exact_evm_token_name_mismatch"
    OTHER_VERSION: Final = "invalid_exact_evm_token_version_mismatch"
    UNSUPPORTED_ASSET: Final = "unsupported_asset"
    SETTLEMENT_EXCEEDS_AMOUNT: Final = "invalid_upto_evm_payload_settlement_exceeds_amount"
    DUPLICATE_SETTLEMENT: Final = "duplicate_settlement"
    INVALID_NOTICE: Final = "invalid_notice"
    INVALID_API_KEY: Final = "invalid_api_key"
    TOO_MANY_REQUESTS: Final = "too_many_requests"
    GAS_BUDGET_EXCEEDED: Final = "gas_budget_exceeded"
    # 400
    INVALID_PAYLOAD: Final = "invalid_payload"
    INVALID_REQUEST: Final = "invalid_request"
    INVALID_VERSION: Final = "invalid_x402_version"
    HEADER_TOO_LARGE: Final = "payment_header_too_large"
    AMBIGUOUS_HEADERS: Final = "ambiguous_payment_headers"
    INVALID_IDENTIFIER: Final = "invalid_payment_identifier"
    IDENTIFIER_REQUIRED: Final = "payment_identifier_required"
    BODY_TOO_LARGE: Final = "request_body_too_large"
    # 401, of the payer's own receipts
    SIGN_IN_REQUIRED: Final = "sign_in_required"
    # 404, of a payment asked for by its identifier
    PAYMENT_UNKNOWN: Final = "payment_unknown"
    # 409
    IN_PROGRESS: Final = "payment_in_progress"
    IDENTIFIER_USED: Final = "payment_identifier_used"
    # 429
    TOO_MANY_IN_FLIGHT: Final = "too_many_payments_in_flight"
    # 503
    SETTLEMENT_UNKNOWN: Final = "settlement_outcome_unknown"
    UNAVAILABLE: Final = "payment_service_unavailable"
    NO_PRICE: Final = "price_not_configured"
