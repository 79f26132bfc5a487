"""The development chain as an object: blocks, the pool, time, snapshots and reorgs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from web3 import Web3

from x402_django.chain.devchain import DevChain
from x402_django.chain.devchain.accounts import DEPLOYER_INDEX, dev_accounts
from x402_django.chain.devchain.deployment import (
    DEPLOYED,
    FACTORY_ADDRESS,
    PLAIN_TOKEN_ADDRESS,
    TOKEN_ADDRESS,
)
from x402_django.chain.devchain.errors import TransactionRejected
from x402_django.testing.chain import (
    DOLLAR,
    dev_chain,
    dev_provider,
    new_payer,
    reset_dev_chains,
)

ROOT = Path(__file__).resolve().parents[2]
GWEI = 10**9
ETHER = 10**18
BOB = to_checksum_address("0x" + "b0b" + 37 * "0")


class FakeClock:
    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def chain() -> DevChain:
    return DevChain()


@pytest.fixture
def alice(chain: DevChain) -> LocalAccount:
    return Account.from_key(chain.accounts[0].private_key)


def signed(account: LocalAccount, nonce: int, **fields: Any) -> Any:
    transaction = {
        "chainId": 1337,
        "nonce": nonce,
        "to": BOB,
        "value": 1,
        "gas": 21_000,
        "maxFeePerGas": 10 * GWEI,
        "maxPriorityFeePerGas": GWEI,
        **fields,
    }
    return account.sign_transaction({k: v for k, v in transaction.items() if v is not None})


def send(chain: DevChain, account: LocalAccount, nonce: int, **fields: Any) -> bytes:
    return chain.send_raw(bytes(signed(account, nonce, **fields).raw_transaction))


def balance(chain: DevChain, address: str) -> int:
    return Web3(chain.provider()).eth.get_balance(to_checksum_address(address))


# ------------------------------------------------------------------- genesis


def test_addresses_are_what_the_deployer_would_create() -> None:
    import rlp
    from eth_utils.crypto import keccak

    deployer = bytes.fromhex(dev_accounts()[DEPLOYER_INDEX].address[2:])
    created = [to_checksum_address(keccak(rlp.encode([deployer, n]))[12:]) for n in (0, 1, 2)]
    assert created == [TOKEN_ADDRESS, FACTORY_ADDRESS, PLAIN_TOKEN_ADDRESS]


def test_genesis_has_contracts_and_money(chain: DevChain) -> None:
    w3 = Web3(chain.provider())
    assert chain.network == "eip155:1337"
    assert chain.height == 0
    for address in DEPLOYED:
        assert len(w3.eth.get_code(to_checksum_address(address))) > 1_000
    assert [account.address for account in chain.accounts][:2] == [
        "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    ]
    assert {balance(chain, account.address) for account in chain.accounts} == {10_000 * ETHER}


def test_chain_id_is_in_signatures() -> None:
    chain = DevChain(84532)
    account = Account.from_key(chain.accounts[0].private_key)
    assert chain.network == "eip155:84532"
    with pytest.raises(TransactionRejected, match="invalid chain id for signer: have 1337"):
        send(chain, account, 0)
    send(chain, account, 0, chainId=84532)
    assert chain.height == 1


def test_mint_and_fund_are_mined_even_without_automine(chain: DevChain) -> None:
    chain.set_automine(False)
    chain.mint(BOB, 5 * DOLLAR)
    chain.fund(BOB, 7)
    assert chain.dollars(BOB) == 5 * DOLLAR
    assert balance(chain, BOB) == 7
    assert chain.height == 2


def test_new_payer_has_dollars_and_no_gas(chain: DevChain) -> None:
    payer = new_payer(chain, 0.25)
    assert chain.dollars(payer.address) == 250_000
    assert balance(chain, payer.address) == 0
    assert balance(chain, new_payer(chain, 0, wei=3).address) == 3


# ---------------------------------------------------------------------- pool


def test_automine_puts_each_transaction_in_a_block(chain: DevChain, alice: LocalAccount) -> None:
    for nonce in range(3):
        send(chain, alice, nonce)
    assert chain.height == 3
    assert balance(chain, BOB) == 3


def test_without_automine_transactions_wait(chain: DevChain, alice: LocalAccount) -> None:
    chain.set_automine(False)
    w3 = Web3(chain.provider())
    hashes = [send(chain, alice, nonce) for nonce in range(3)]
    assert chain.height == 0
    assert w3.eth.get_transaction_count(alice.address, "latest") == 0
    assert w3.eth.get_transaction_count(alice.address, "pending") == 3
    waiting = w3.eth.get_transaction(hashes[0])
    assert waiting["blockNumber"] is None
    chain.mine()
    block = w3.eth.get_block("latest")
    assert [bytes(h) for h in block["transactions"]] == hashes
    assert block["number"] == 1
    assert len(chain.mempool) == 0


def test_nonce_gap_waits_until_it_is_filled(chain: DevChain, alice: LocalAccount) -> None:
    send(chain, alice, 1)
    assert chain.height == 0
    send(chain, alice, 0)
    assert chain.height == 1
    assert balance(chain, BOB) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"chainId": 1}, "invalid chain id for signer: have 1 want 1337"),
        ({"gas": 20_999}, "intrinsic gas too low: gas 20999, minimum needed 21000"),
        ({"gas": 30_000_001}, "exceeds block gas limit"),
        ({"value": 10_000 * ETHER}, "insufficient funds for gas * price + value: address 0xf39"),
        ({"maxPriorityFeePerGas": 11 * GWEI}, "max priority fee per gas higher than max fee"),
        (
            {
                "chainId": None,
                "maxFeePerGas": None,
                "maxPriorityFeePerGas": None,
                "gasPrice": 10 * GWEI,
            },
            "only replay-protected (EIP-155) transactions allowed over RPC",
        ),
    ],
)
def test_refused_transactions(
    chain: DevChain, alice: LocalAccount, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(TransactionRejected, match=re.escape(message)):
        send(chain, alice, 0, **fields)
    assert chain.height == 0
    assert len(chain.mempool) == 0


def test_same_transaction_again(chain: DevChain, alice: LocalAccount) -> None:
    chain.set_automine(False)
    send(chain, alice, 0)
    with pytest.raises(TransactionRejected, match=r"^already known$"):
        send(chain, alice, 0)
    chain.mine()
    with pytest.raises(TransactionRejected, match=r"^nonce too low: next nonce 1, tx nonce 0$"):
        send(chain, alice, 0)


@pytest.mark.parametrize("raw", [b"", b"\x02", b"\x03\xc0", b"\xff\xff", b"\x02" + bytes(100)])
def test_nonsense_is_refused(chain: DevChain, raw: bytes) -> None:
    with pytest.raises(TransactionRejected):
        chain.send_raw(raw)


def test_replacement_needs_ten_percent_more(chain: DevChain, alice: LocalAccount) -> None:
    chain.set_automine(False)
    first = send(chain, alice, 0)
    with pytest.raises(TransactionRejected, match="replacement transaction underpriced"):
        send(chain, alice, 0, value=2, maxFeePerGas=11 * GWEI)  # the tip has not risen
    second = send(
        chain, alice, 0, value=2, maxFeePerGas=11 * GWEI, maxPriorityFeePerGas=1_100_000_000
    )
    chain.mine()
    w3 = Web3(chain.provider())
    assert balance(chain, BOB) == 2
    assert w3.eth.get_transaction_receipt(second)["status"] == 1
    assert chain.handle(_request("eth_getTransactionReceipt", _hex(first)))["result"] is None


def test_underpriced_transaction_is_stuck_until_bumped(
    chain: DevChain, alice: LocalAccount
) -> None:
    stuck = send(chain, alice, 0, maxFeePerGas=1_000, maxPriorityFeePerGas=1_000)
    assert chain.height == 0
    assert chain.mempool.get(stuck) is not None
    send(chain, alice, 0)
    assert chain.height == 1
    assert len(chain.mempool) == 0


def test_dropped_transactions_are_forgotten(chain: DevChain, alice: LocalAccount) -> None:
    chain.set_automine(False)
    first = send(chain, alice, 0)
    send(chain, alice, 1)
    assert chain.drop_pending(first) == 1
    assert chain.drop_pending(first) == 0
    assert chain.drop_pending() == 1
    chain.mine()
    assert balance(chain, BOB) == 0
    assert chain.handle(_request("eth_getTransactionByHash", _hex(first)))["result"] is None
    send(chain, alice, 0)  # it may come back
    assert len(chain.mempool) == 1


def test_block_gas_limit_spreads_transactions(chain: DevChain, alice: LocalAccount) -> None:
    chain.set_automine(False)
    for nonce in range(3):
        send(chain, alice, nonce, gas=12_000_000)
    chain.mine()
    assert balance(chain, BOB) == 2
    chain.mine()
    assert balance(chain, BOB) == 3


def test_transaction_that_became_impossible_is_left_out(
    chain: DevChain, alice: LocalAccount
) -> None:
    """Each is affordable when it arrives; together they are not."""
    chain.set_automine(False)
    send(chain, alice, 0, value=6_000 * ETHER)
    send(chain, alice, 1, value=6_000 * ETHER)
    chain.mine()
    assert balance(chain, BOB) == 6_000 * ETHER
    assert len(chain.mempool) == 0


# ---------------------------------------------------------------------- time


def test_blocks_of_one_second_share_its_timestamp() -> None:
    clock = FakeClock(1_800_000_000.9)
    chain = DevChain(clock=clock)
    chain.mine(5)
    assert chain.blocks.head.header.timestamp == 1_800_000_000
    clock.now += 0.1
    chain.mine()
    assert chain.blocks.head.header.timestamp == 1_800_000_001
    hashes = {chain.blocks.by_number(n).hash for n in range(7)}  # type: ignore[union-attr]
    assert len(hashes) == 7


def test_time_moves_forward_and_stays_moved() -> None:
    clock = FakeClock()
    chain = DevChain(clock=clock)
    assert chain.advance_time(100) == 100
    assert chain.now() == 1_800_000_100
    chain.mine()
    clock.now += 5
    chain.mine()
    assert chain.blocks.head.header.timestamp == 1_800_000_105
    chain.set_time(1_900_000_000)
    chain.mine()
    assert chain.blocks.head.header.timestamp == 1_900_000_000


def test_blocks_never_go_back_in_time() -> None:
    chain = DevChain(clock=FakeClock())
    chain.set_time(1_700_000_000)
    chain.mine()
    assert chain.blocks.head.header.timestamp == 1_800_000_000
    with pytest.raises(ValueError, match="before the newest"):
        chain.set_next_timestamp(1_799_999_999)


def test_next_timestamp_is_exact() -> None:
    chain = DevChain(clock=FakeClock())
    chain.set_next_timestamp(1_800_000_500)
    chain.mine()
    assert chain.blocks.head.header.timestamp == 1_800_000_500


def test_block_time_mines_what_has_fallen_due() -> None:
    clock = FakeClock()
    chain = DevChain(block_time=2, clock=clock)
    alice = Account.from_key(chain.accounts[0].private_key)
    send(chain, alice, 0)
    clock.now += 1.9
    assert chain.height == 0
    clock.now += 4.2
    assert chain.height == 3
    stamps = [block.header.timestamp for block in chain.blocks.between(0, 3)]
    assert stamps == [1_800_000_000, 1_800_000_002, 1_800_000_004, 1_800_000_006]
    assert len(chain.blocks.between(1, 1)[0].transactions) == 1
    assert balance(chain, BOB) == 1


def test_long_absence_is_not_mined_block_by_block() -> None:
    clock = FakeClock()
    chain = DevChain(block_time=1, clock=clock)
    clock.now += 100_000
    assert chain.height == 16
    assert chain.blocks.head.header.timestamp == 1_800_100_000


def test_heartbeat_mines_empty_blocks_between_transactions() -> None:
    clock = FakeClock()
    chain = DevChain(heartbeat=2, clock=clock)
    alice = Account.from_key(chain.accounts[0].private_key)
    clock.now += 1.5
    send(chain, alice, 0)
    assert chain.height == 1  # at once
    clock.now += 1.9
    assert chain.height == 1
    clock.now += 0.2
    assert chain.height == 2
    chain.set_interval(0)
    clock.now += 100
    assert chain.height == 2


# --------------------------------------------------------- snapshots, reorgs


def test_snapshot_and_revert(chain: DevChain, alice: LocalAccount) -> None:
    chain.set_automine(False)
    kept = send(chain, alice, 0)
    snapshot = chain.snapshot()
    later = chain.snapshot()
    chain.mine()
    chain.advance_time(1_000)
    chain.mint(BOB, DOLLAR)
    assert balance(chain, BOB) == 1
    mined = chain.blocks.head.hash

    assert chain.revert(snapshot) is True

    assert chain.height == 0
    assert chain.dollars(BOB) == 0
    assert balance(chain, BOB) == 0
    assert chain.mempool.get(kept) is not None
    assert chain.blocks.by_hash(mined) is None
    assert chain.handle(_request("eth_getTransactionReceipt", _hex(kept)))["result"] is None
    assert chain.revert(snapshot) is False  # used up
    assert chain.revert(later) is False
    chain.mine()
    assert balance(chain, BOB) == 1


def test_other_blocks_after_a_revert_have_other_hashes() -> None:
    chain = DevChain(clock=FakeClock())
    snapshot = chain.snapshot()
    chain.mine()
    first = chain.blocks.head.hash
    chain.revert(snapshot)
    chain.mine()
    assert chain.blocks.head.hash != first


@pytest.mark.parametrize("keep", [False, True])
def test_reorg(chain: DevChain, alice: LocalAccount, keep: bool) -> None:
    w3 = Web3(chain.provider())
    send(chain, alice, 0)
    lost = send(chain, alice, 1)
    chain.mine()
    before = w3.eth.get_transaction_receipt(lost)

    chain.reorg(2, keep_transactions=keep)

    assert chain.height == 4
    assert balance(chain, BOB) == (2 if keep else 1)
    result = chain.handle(_request("eth_getTransactionReceipt", _hex(lost)))["result"]
    if keep:
        assert result["blockNumber"] == "0x2"
        assert result["blockHash"] != before["blockHash"].to_0x_hex()
    else:
        assert result is None
    logs = chain.handle(_request("eth_getLogs", {"blockHash": before["blockHash"].to_0x_hex()}))
    assert logs["error"]["message"] == "unknown block"


def test_reorg_below_a_snapshot_voids_it(chain: DevChain) -> None:
    chain.mine(3)
    snapshot = chain.snapshot()
    chain.reorg(2)
    assert chain.revert(snapshot) is False
    assert chain.height == 4


@pytest.mark.parametrize("depth", [0, -1, 3])
def test_reorg_deeper_than_the_chain(chain: DevChain, depth: int) -> None:
    chain.mine(2)
    with pytest.raises(ValueError, match="cannot replace"):
        chain.reorg(depth)
    assert chain.height == 2


# ------------------------------------------------------------------ test kit


def test_dev_provider_is_one_chain_per_network() -> None:
    reset_dev_chains()
    try:
        first, second = dev_provider("eip155:1337"), dev_provider("eip155:84532")
        dev_chain("eip155:1337").mine(2)
        assert Web3(first).eth.block_number == 2
        assert Web3(second).eth.chain_id == 84532
        assert Web3(second).eth.block_number == 0
        assert dev_chain("eip155:1337") is dev_chain()
        reset_dev_chains()
        assert Web3(first).eth.block_number == 0  # a provider follows
    finally:
        reset_dev_chains()


@pytest.mark.parametrize("network", ["1337", "solana:1", "eip155:", "eip155:x"])
def test_dev_provider_refuses_other_networks(network: str) -> None:
    with pytest.raises(ValueError, match="not an EVM network"):
        dev_provider(network)


def _request(method: str, *params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}


def _hex(data: bytes) -> str:
    return f"0x{data.hex()}"


def test_addresses_and_artifacts_load_no_evm() -> None:
    """Settings of a site may name the test dollar where py-evm is not installed."""
    code = (
        "import sys\n"
        "import x402_django.testing.chain\n"
        "from x402_django.chain.devchain.deployment import TOKEN_ADDRESS\n"
        "from x402_django.chain.devchain.artifacts import load_artifact\n"
        "load_artifact('TestDollar')\n"
        "print(sorted({'eth', 'eth_account', 'web3', 'x402'} & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout == "[]\n"
