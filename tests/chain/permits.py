"""Payments by Permit2 on the embedded chain, without HTTP, and ways to submit them."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from tests.chain.support import NETWORK, PRICE, SETTLER, direct
from tests.settings import PAY_TO
from x402_django.chain.devchain.accounts import dev_accounts
from x402_django.chain.devchain.artifacts import load_artifact
from x402_django.chain.devchain.deployment import MULTICALL3_ADDRESS, TOKEN_ADDRESS
from x402_django.constants import PERMIT2_ADDRESS, SCHEME_UPTO
from x402_django.models import PaymentMethod
from x402_django.protocol.transfer_methods import PROXIES
from x402_django.protocol.types import Offer, SignedPayment
from x402_django.testing.chain import approve_permit2, dev_chain, new_payer, send_transaction
from x402_django.testing.payer import Payer

_PROXY_ARTIFACTS = {"exact": "X402ExactPermit2Proxy", "upto": "X402UptoPermit2Proxy"}
#: Somebody with ether who has nothing to do with the site.
STRANGER = Account.from_key(dev_accounts()[7].private_key)


def approving_payer(dollars: float = 1, *, token: str | None = None) -> LocalAccount:
    """An account with test dollars that has approved Permit2."""
    account = new_payer(dev_chain(NETWORK), dollars, wei=10**17)
    approve_permit2(direct(), account, token)
    return account


def permit2_offer(**changes: Any) -> Offer:
    values: dict[str, Any] = {
        "scheme": "exact",
        "network": NETWORK,
        "asset": TOKEN_ADDRESS,
        "amount": PRICE,
        "pay_to": PAY_TO,
        "max_timeout_seconds": 300,
        "asset_name": "Test Dollar",
        "asset_version": "1",
        "decimals": 6,
        "symbol": "TUSD",
        "facilitator": "default",
        "transfer_method": "permit2",
    }
    if changes.get("scheme") == SCHEME_UPTO:
        values["settler"] = SETTLER.address
    return Offer(**(values | changes))


def offer_permit2(**changes: Any) -> PaymentMethod:
    """The row that makes the site ask for Permit2 payments."""
    values: dict[str, Any] = {
        "name": "Test dollars by Permit2",
        "network": NETWORK,
        "asset": TOKEN_ADDRESS,
        "asset_symbol": "TUSD",
        "asset_name": "Test Dollar",
        "asset_version": "1",
        "pay_to": PAY_TO,
        "transfer_method": "permit2",
    }
    return PaymentMethod.objects.create(**(values | changes))


def sign_permit(
    key: LocalAccount,
    offer: Offer | None = None,
    *,
    payer: str | None = None,
    nonce: int | None = None,
    deadline: int | None = None,
    valid_after: int = 0,
) -> SignedPayment:
    """A payment signed by ``key``, by the wire's fields."""
    offer = offer or permit2_offer()
    signer = Payer(key, address=payer)
    nonce = secrets.randbits(256) if nonce is None else nonce
    deadline = int(time.time()) + 600 if deadline is None else deadline
    signed = SignedPayment(
        offer=offer,
        payer=signer.address,
        valid_after=valid_after,
        valid_before=deadline,
        nonce=f"0x{nonce:064x}",
        signature=b"",
        resource_url="https://shop.example/report/",
        version=2,
    )
    permit = signed.payload_dict()["permit2Authorization"]
    return replace(signed, signature=bytes.fromhex(signer.sign_permit(offer.as_v2(), permit)[2:]))


def settle_data(signed: SignedPayment) -> bytes:
    """The call of the proxy that settles ``signed``."""
    offer = signed.offer
    contract = direct().eth.contract(abi=load_artifact(_PROXY_ARTIFACTS[offer.scheme]).abi)
    permit = ((offer.asset, offer.amount), int(signed.nonce, 16), signed.valid_before)
    if offer.scheme == SCHEME_UPTO:
        witness: Any = (offer.pay_to, offer.settler, signed.valid_after)
        arguments = [permit, signed.amount, signed.payer, witness, signed.signature]
    else:
        witness = (offer.pay_to, signed.valid_after)
        arguments = [permit, signed.payer, witness, signed.signature]
    return bytes.fromhex(contract.encode_abi("settle", arguments)[2:])


def submit(signed: SignedPayment, by: LocalAccount = STRANGER) -> str:
    """Settle by ``by``; the transaction's hash."""
    to = PROXIES[signed.offer.scheme]
    return _hash(send_transaction(direct(), by, {"to": to, "data": settle_data(signed)}))


def submit_together(*calls: tuple[str, bytes], failing: bool = True) -> str:
    """Any calls in one transaction (Multicall3), those that fail included; its hash."""
    contract = direct().eth.contract(
        address=MULTICALL3_ADDRESS,  # type: ignore[call-overload]
        abi=load_artifact("Multicall3").abi,
    )
    data = contract.encode_abi("aggregate3", [[(to, failing, data) for to, data in calls]])
    call = {"to": MULTICALL3_ADDRESS, "data": data, "gas": 2_000_000}
    return _hash(send_transaction(direct(), STRANGER, call))


def invalidate(owner: LocalAccount, nonce: int) -> None:
    """Make a nonce unusable without paying."""
    contract = direct().eth.contract(abi=load_artifact("Permit2").abi)
    data = contract.encode_abi("invalidateUnorderedNonces", [nonce >> 8, 1 << (nonce & 0xFF)])
    send_transaction(direct(), owner, {"to": PERMIT2_ADDRESS, "data": data})


def _hash(receipt: Any) -> str:
    assert receipt["status"] == 1
    return "0x" + bytes(receipt["transactionHash"]).hex()
