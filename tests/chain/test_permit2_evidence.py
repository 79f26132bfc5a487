"""What proves a payment by Permit2: the call data, the proxy's event and the transfer before it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from eth_account import Account
from web3.exceptions import ContractLogicError

from tests.chain.permits import (
    approving_payer,
    invalidate,
    permit2_offer,
    settle_data,
    sign_permit,
    submit,
    submit_together,
)
from tests.chain.support import PRICE, SETTLER, direct, node_down, sign
from x402_django.chain.devchain import DevChain
from x402_django.chain.evidence import authorization_state, authorization_used, find_settlement
from x402_django.chain.transfers import read_transfers
from x402_django.constants import EXACT_PROXY_ADDRESS, PERMIT2_ADDRESS
from x402_django.exceptions import RpcUnavailable
from x402_django.protocol.transfer_methods import PROXIES
from x402_django.testing.chain import send_transaction, token_contract


def call(signed) -> tuple[str, bytes]:
    return EXACT_PROXY_ADDRESS, settle_data(signed)


def test_a_settlement_is_found_by_its_logs(chain: DevChain) -> None:
    payer = approving_payer()
    signed = sign_permit(payer)
    assert (find_settlement(signed), authorization_used(signed)) == (None, False)
    transaction = submit(signed)
    chain.mine(4)

    found = find_settlement(signed)

    assert found is not None
    receipt = direct().eth.get_transaction_receipt(transaction)
    (transfer,) = [log for log in receipt["logs"] if log["address"] == signed.offer.asset]
    assert (found.transaction, found.log_index) == (transaction, transfer["logIndex"])
    assert (found.block_number, found.confirmations) == (receipt["blockNumber"], 5)
    assert authorization_used(signed)
    assert authorization_state(signed, depth=5).used is False
    assert find_settlement(signed, transaction=transaction) == found


@pytest.mark.parametrize("nonce", [0, 1, 255, 256, 2**255, 2**256 - 1])
def test_every_nonce_has_its_own_bit(chain: DevChain, nonce: int) -> None:
    payer = approving_payer()
    signed = sign_permit(payer, nonce=nonce)
    neighbours = [sign_permit(payer, nonce=(nonce + step) % 2**256) for step in (-256, -1, 1, 256)]
    submit(signed)
    assert authorization_used(signed)
    assert not any(authorization_used(one) for one in neighbours)


def test_the_same_nonce_for_another_token_or_scheme_is_used_too_and_pays_nothing(
    chain: DevChain,
) -> None:
    payer = approving_payer()
    signed = sign_permit(payer, nonce=7)
    for offer in (permit2_offer(asset=PERMIT2_ADDRESS), permit2_offer(scheme="upto")):
        other = sign_permit(payer, offer, nonce=7)
        assert signed.key == other.key
    submit(signed)
    assert authorization_used(other)
    assert find_settlement(other) is None


def test_eip3009_nonces_are_others(chain: DevChain) -> None:
    payer = approving_payer()
    permit, authorization = sign_permit(payer, nonce=7), sign(payer, nonce=bytes(31) + b"\x07")
    assert permit.nonce == authorization.nonce
    assert permit.key != authorization.key
    submit(permit)
    assert not authorization_used(authorization)


def test_a_cancelled_nonce_is_used_and_pays_nothing(chain: DevChain) -> None:
    payer = approving_payer()
    signed = sign_permit(payer)
    invalidate(payer, int(signed.nonce, 16))
    assert authorization_used(signed)
    assert find_settlement(signed) is None


def test_a_payment_does_not_prove_another_of_the_same_payer(chain: DevChain) -> None:
    """The transfers are alike to the unit; one nonce is spent by cancelling it."""
    payer = approving_payer()
    paid, cancelled = sign_permit(payer), sign_permit(payer)
    transaction = submit(paid)
    invalidate(payer, int(cancelled.nonce, 16))
    assert find_settlement(cancelled, transaction=transaction) is None
    assert find_settlement(paid) is not None


def test_payments_in_one_transaction_have_a_transfer_each(chain: DevChain) -> None:
    payer = approving_payer()
    payments = [sign_permit(payer) for _ in range(3)]
    transaction = submit_together(*map(call, payments))
    found = [find_settlement(signed) for signed in payments]
    assert {one.transaction for one in found if one} == {transaction}
    places = [one.log_index for one in found if one]
    assert len(set(places)) == 3
    assert places == sorted(places)


def test_of_payments_in_one_transaction_those_that_failed_prove_nothing(chain: DevChain) -> None:
    """Their permits stand in the call data too, and the transfer is alike to the unit."""
    payer = approving_payer()
    bad, good, late = sign_permit(payer), sign_permit(payer), sign_permit(payer, deadline=1)
    transaction = submit_together(call(replace(bad, signature=bytes(65))), call(good), call(late))
    assert find_settlement(good) is not None
    for failed in (bad, late):
        assert find_settlement(failed, transaction=transaction) is None
    submit(bad)  # later, by itself
    assert find_settlement(bad, transaction=transaction).transaction != transaction


def test_a_permit_that_is_only_mentioned_does_not_hide_or_take_a_payment(chain: DevChain) -> None:
    """Call data may say anything: an old nonce's permit beside a payment that is carried out."""
    payer = approving_payer()
    old, paid = sign_permit(payer), sign_permit(payer)
    first = submit(old)
    transaction = submit_together((paid.offer.pay_to, settle_data(old)), call(paid))
    assert find_settlement(paid).transaction == transaction
    assert find_settlement(old, transaction=transaction).transaction == first


def test_a_mentioned_permit_with_a_transfer_by_other_means_proves_nothing(chain: DevChain) -> None:
    """The nonce is spent, the permit mentioned, the amount moved: but not through the proxy."""
    payer = approving_payer()
    signed = sign_permit(payer)
    contract = token_contract(direct())
    data = bytes.fromhex(contract.encode_abi("transfer", [signed.offer.pay_to, PRICE])[2:])
    receipt = send_transaction(
        direct(), payer, {"to": contract.address, "data": data + settle_data(signed)}
    )
    invalidate(payer, int(signed.nonce, 16))
    transaction = "0x" + bytes(receipt["transactionHash"]).hex()
    assert receipt["status"] == 1
    assert find_settlement(signed, transaction=transaction) is None


@pytest.mark.parametrize(
    "change",
    [{"amount": PRICE + 1}, {"pay_to": PERMIT2_ADDRESS}, {"asset": PERMIT2_ADDRESS}],
)
def test_another_amount_payee_or_token_is_not_proven(chain: DevChain, change) -> None:
    payer = approving_payer()
    signed = sign_permit(payer)
    transaction = submit(signed)
    other = replace(signed, offer=replace(signed.offer, **change))
    assert find_settlement(other, transaction=transaction) is None


def test_anybody_may_settle_exact_and_only_the_facilitator_upto(chain: DevChain) -> None:
    payer = approving_payer()
    signed = sign_permit(payer, permit2_offer(scheme="upto"))
    with pytest.raises(ContractLogicError):
        submit(signed)
    transaction = submit(signed, by=Account.from_key(SETTLER.private_key))
    assert find_settlement(signed).transaction == transaction
    assert PROXIES["upto"] == direct().eth.get_transaction(transaction)["to"]


def test_a_chain_without_permit2_or_answer_is_not_taken_for_unused(chain: DevChain) -> None:
    signed = sign_permit(approving_payer())
    with node_down(), pytest.raises(RpcUnavailable):
        authorization_used(signed)


def test_what_a_proxy_moved_is_no_transfer_of_the_payers_own(chain: DevChain) -> None:
    """Else a payment by Permit2 could be presented as a transfer proof too (threat 25)."""
    signed = sign_permit(approving_payer())
    transaction = submit(signed)
    where = {"asset": signed.offer.asset, "pay_to": signed.offer.pay_to}
    mined = read_transfers(signed.offer.network, transaction, **where)
    assert (mined.succeeded, mined.transfers) == (True, ())

    together = submit_together(
        call(sign_permit(approving_payer())),
        (signed.offer.pay_to, b""),
        call(sign_permit(approving_payer())),
    )
    assert read_transfers(signed.offer.network, together, **where).transfers == ()
