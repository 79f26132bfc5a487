"""The SDK's signer over our outbox, beyond what settling with it shows."""

from __future__ import annotations

import pytest
from eth_account import Account
from web3 import Web3
from web3.exceptions import ContractLogicError

from tests.chain.support import NETWORK, PRICE, SETTLER, TOKEN_ADDRESS, direct, node_down
from x402_django.chain.devchain import DevChain
from x402_django.chain.signer import OutboxSigner
from x402_django.exceptions import RpcUnavailable, SettlementUnknown
from x402_django.models import ChainTransaction
from x402_django.testing.chain import deploy_smart_wallet, new_payer, send_transaction

ACCOUNT = Account.from_key(SETTLER.private_key)
BALANCE_OF = [
    {
        "type": "function",
        "name": "balanceOf",
        "inputs": [{"name": "account", "type": "address"}],
        "outputs": [{"name": "", "type": "uint256"}],
    }
]
MINT = [
    {
        "type": "function",
        "name": "mint",
        "inputs": [{"name": "to", "type": "address"}, {"name": "value", "type": "uint256"}],
        "outputs": [],
    }
]
DOMAIN = {"name": "Shop", "version": "1", "chainId": 1337, "verifyingContract": TOKEN_ADDRESS}
TYPES = {"Order": [{"name": "number", "type": "uint256"}]}


@pytest.fixture
def signer(chain: DevChain) -> OutboxSigner:
    return OutboxSigner(NETWORK, ACCOUNT)


def test_reading(chain, signer) -> None:
    payer = new_payer(chain, 1)
    assert signer.get_addresses() == [SETTLER.address]
    assert signer.get_chain_id() == 1337
    assert signer.get_code(payer.address) == b""
    assert signer.get_code(TOKEN_ADDRESS.lower()) == bytes(direct().eth.get_code(TOKEN_ADDRESS))
    assert signer.get_balance(payer.address, TOKEN_ADDRESS) == 1_000_000
    assert signer.read_contract(TOKEN_ADDRESS, BALANCE_OF, "balanceOf", payer.address) == 1_000_000
    assert signer.read_contract(TOKEN_ADDRESS, MINT, "mint", payer.address, 1) is None
    assert signer.trouble is None


def test_a_contract_that_answers_nonsense_is_no_trouble_with_the_node(chain, signer) -> None:
    with pytest.raises(ContractLogicError):
        signer.read_contract(new_payer(chain, 0).address, BALANCE_OF, "balanceOf", SETTLER.address)
    with pytest.raises(ContractLogicError):
        signer.get_balance(SETTLER.address, new_payer(chain, 0).address)
    with pytest.raises(ValueError, match="no function"):
        signer.read_contract(TOKEN_ADDRESS, BALANCE_OF, "mint")
    assert signer.trouble is None


def test_the_first_trouble_is_kept(chain, signer) -> None:
    with node_down("eth_getCode"), pytest.raises(RpcUnavailable) as first:
        signer.get_code(TOKEN_ADDRESS)
    with node_down("eth_call"), pytest.raises(RpcUnavailable):
        signer.get_balance(SETTLER.address, TOKEN_ADDRESS)
    assert signer.trouble is signer.transport_error is first.value


def sign_order(key, number: int = 7) -> bytes:
    return bytes(key.sign_typed_data(DOMAIN, TYPES, {"number": number}).signature)


def test_typed_data_of_eoas_and_contract_wallets(chain, signer) -> None:
    owner, stranger = Account.create(), Account.create()
    wallet = deploy_smart_wallet(direct(), owner.address)

    def verify(address, signature):
        return signer.verify_typed_data(address, DOMAIN, TYPES, "Order", {"number": 7}, signature)

    assert verify(owner.address, sign_order(owner))
    assert not verify(owner.address, sign_order(owner, 8))
    assert not verify(owner.address, sign_order(stranger))
    assert not verify(owner.address, b"")
    assert verify(wallet, sign_order(owner))
    assert not verify(wallet, sign_order(stranger))
    # An address with code is never taken at a key's word.
    assert not verify(TOKEN_ADDRESS, sign_order(owner))


def offchain_lookup_code(url: str) -> bytes:
    """A contract that reverts with ``OffchainLookup(this, [url], …)`` (EIP-3668)."""
    from eth_abi import encode
    from eth_utils.crypto import keccak

    types = ["address", "string[]", "bytes", "bytes4", "bytes"]
    data = keccak(text=f"OffchainLookup({','.join(types)})")[:4]
    data += encode(types, ["0x" + "00" * 20, [url], b"", b"\0" * 4, b""])
    size = len(data).to_bytes(2, "big").hex()
    # CODECOPY the data to 0, MSTORE this contract's address over its first word, REVERT with it.
    return bytes.fromhex(f"61{size}6012600039 30600452 61{size}6000fd".replace(" ", "")) + data


def test_a_wallet_cannot_make_us_fetch_a_url(chain, signer, monkeypatch) -> None:
    import requests

    fetched = []
    monkeypatch.setattr(requests.Session, "request", lambda *a, **k: fetched.append(a))
    runtime = offchain_lookup_code("http://169.254.169.254/{sender}/{data}")
    init = (
        bytes.fromhex("61") + len(runtime).to_bytes(2, "big") + bytes.fromhex("80600c6000396000f3")
    )
    receipt = send_transaction(
        direct(), ACCOUNT, {"data": "0x" + (init + runtime).hex(), "value": 0, "gas": 400_000}
    )
    hostile = receipt["contractAddress"]
    w3 = Web3(chain.provider())
    with pytest.raises(ContractLogicError) as lookup:
        w3.eth.call({"to": hostile, "data": "0x"}, ccip_read_enabled=False)
    assert type(lookup.value).__name__ == "OffchainLookup"

    assert not signer.verify_typed_data(hostile, DOMAIN, TYPES, "Order", {"number": 7}, b"x" * 65)
    assert fetched == []


@pytest.mark.django_db(transaction=True)
def test_writing_and_waiting(chain, signer) -> None:
    payer = new_payer(chain, 0)
    hash_ = signer.write_contract(
        TOKEN_ADDRESS, MINT, "mint", payer.address, PRICE, data_suffix="0xbeef"
    )
    mined = signer.wait_for_transaction_receipt(hash_)
    assert (mined.status, mined.block_number, mined.tx_hash) == (1, chain.height, hash_)
    assert len(mined.logs) == 1
    assert chain.dollars(payer.address) == PRICE
    assert bytes(direct().eth.get_transaction(hash_)["input"]).endswith(b"\xbe\xef")
    assert [row.hash for row in signer.transactions] == [hash_]

    another = OutboxSigner(NETWORK, ACCOUNT)
    assert another.wait_for_transaction_receipt(hash_) == mined


@pytest.mark.django_db(transaction=True)
def test_preparing_transactions_are_not_the_payments(chain) -> None:
    from tests.chain.support import sign, store

    payment = store(sign(new_payer(chain, 1)))
    signer = OutboxSigner(NETWORK, ACCOUNT, payment_id=payment.pk)
    signer.send_transaction(TOKEN_ADDRESS, bytes.fromhex("06fdde03"))
    assert not ChainTransaction.objects.get().payments.exists()


@pytest.mark.django_db(transaction=True)
def test_waiting_ends(chain, signer) -> None:
    chain.set_automine(False)
    hash_ = signer.write_contract(TOKEN_ADDRESS, MINT, "mint", SETTLER.address, 1)
    with pytest.raises(SettlementUnknown) as unknown:
        signer.wait_for_transaction_receipt(hash_)
    assert unknown.value.transaction == hash_
    with node_down(), pytest.raises(SettlementUnknown):
        signer.wait_for_transaction_receipt(hash_)
    assert signer.transport_error is not None
