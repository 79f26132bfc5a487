"""A chain to test against: start one, fill a payer's pockets, deploy contracts.

Needs nothing but this package and its requirements: no test runner, no network, no Node. Importing
this module loads neither web3 nor py-evm; its functions do.

In the settings of a test project, the chain of this process is a network like any other::

    X402 = {
        "NETWORKS": {"eip155:1337": {"PROVIDER": "x402_django.testing.chain.dev_provider"}},
    }
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from web3 import Web3

    from x402_django.chain.devchain import DevChain, DevServer

DOLLAR = 10**6
"""Atomic units of one test dollar."""

_chains: dict[int, DevChain] = {}
_chains_lock = Lock()


def dev_chain(network: str = "eip155:1337") -> DevChain:
    """This process's chain for ``network`` (CAIP-2), created when first asked for.

    Another process, also a forked one, has another chain: use ``running_devchain`` across
    processes. Raises ``ValueError`` if ``network`` is not an EVM network's CAIP-2 name.
    """
    from x402_django.chain.devchain import DevChain

    namespace, _, reference = network.partition(":")
    if namespace != "eip155" or not reference.isdecimal():
        raise ValueError(f"not an EVM network: {network!r}")
    with _chains_lock:
        chain = _chains.get(int(reference))
        if chain is None:
            chain = _chains[int(reference)] = DevChain(int(reference))
        return chain


def reset_dev_chains() -> None:
    """Forget this process's chains; the next ``dev_chain`` is a fresh one."""
    with _chains_lock:
        _chains.clear()


def dev_provider(network: str) -> Any:
    """A web3 provider for this process's chain: the value of ``NETWORKS[…]["PROVIDER"]``.

    It looks the chain up anew at each request, so that it outlives ``reset_dev_chains``.
    """
    from x402_django.chain.devchain.provider import DevChainProvider

    dev_chain(network)  # refuses what is no EVM network now rather than at the first request
    return DevChainProvider(lambda: dev_chain(network))


@contextmanager
def running_devchain(
    chain: DevChain | None = None,
    *,
    chain_id: int = 1337,
    block_time: float = 0,
    heartbeat: float = 0,
    port: int = 0,
) -> Iterator[DevServer]:
    """A chain on JSON-RPC over HTTP, on the loopback interface, while the block runs.

    ``.url`` is where it listens (port 0 takes a free one), ``.chain`` the chain itself, which may
    also be used directly. Times are in seconds; see ``DevChain``.
    """
    from x402_django.chain.devchain import DevChain, DevServer

    chain = chain or DevChain(chain_id, block_time=block_time, heartbeat=heartbeat)
    with DevServer(chain, port=port) as server:
        yield server


def new_payer(chain: DevChain, dollars: float = 100, *, wei: int = 0) -> LocalAccount:
    """A new account with a random key, so many test dollars, and no gas unless ``wei`` is given."""
    from eth_account import Account

    account: LocalAccount = Account.from_key(secrets.token_bytes(32))
    if dollars:
        chain.mint(account.address, round(dollars * DOLLAR))
    if wei:
        chain.fund(account.address, wei)
    return account


@dataclass(frozen=True, slots=True)
class Authorization:
    """What an EIP-3009 authorization says: amounts in atomic units, times in unix seconds."""

    payer: str
    to: str
    value: int
    valid_after: int = 0
    valid_before: int = 2**256 - 1
    nonce: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    def arguments(self) -> tuple[str, str, int, int, int, bytes]:
        """In the order of the token's functions."""
        return (
            self.payer,
            self.to,
            self.value,
            self.valid_after,
            self.valid_before,
            self.nonce,
        )


def sign_authorization(
    signer: LocalAccount,
    authorization: Authorization,
    *,
    primary_type: str = "TransferWithAuthorization",
    chain_id: int = 1337,
    token: str | None = None,
    name: str = "Test Dollar",
    version: str = "1",
) -> bytes:
    """``signer``'s 65 byte signature (r, s, v) of ``authorization`` as EIP-712 typed data.

    ``primary_type`` may also be ``"ReceiveWithAuthorization"``. ``token`` is the test dollar
    unless given. The signer need not be the payer: that is how forgeries are made.
    """
    keys = ("from", "to", "value", "validAfter", "validBefore", "nonce")
    types = ("address", "address", "uint256", "uint256", "uint256", "bytes32")
    return sign_for_token(
        signer,
        primary_type,
        dict(zip(keys, types, strict=True)),
        dict(zip(keys, authorization.arguments(), strict=True)),
        chain_id=chain_id,
        token=token,
        name=name,
        version=version,
    )


def sign_for_token(
    signer: LocalAccount,
    primary_type: str,
    fields: dict[str, str],
    message: dict[str, Any],
    *,
    chain_id: int = 1337,
    token: str | None = None,
    name: str = "Test Dollar",
    version: str = "1",
) -> bytes:
    """A signature of any typed data in a token's EIP-712 domain (``Permit``, …); 65 bytes."""
    from x402_django.chain.devchain.deployment import TOKEN_ADDRESS

    signed = signer.sign_typed_data(
        domain_data={
            "name": name,
            "version": version,
            "chainId": chain_id,
            "verifyingContract": token or TOKEN_ADDRESS,
        },
        message_types={primary_type: [{"name": key, "type": kind} for key, kind in fields.items()]},
        message_data=message,
    )
    return bytes(signed.signature)


def send_transaction(w3: Web3, account: LocalAccount, transaction: dict[str, Any]) -> Any:
    """Sign ``transaction`` (fees, gas and nonce filled in), send it, wait for its receipt.

    Raises ``web3.exceptions.ContractLogicError`` if it would revert: that is seen beforehand.
    """
    filled = {
        "from": account.address,
        "chainId": w3.eth.chain_id,
        "nonce": w3.eth.get_transaction_count(account.address, "pending"),
        "maxPriorityFeePerGas": w3.eth.max_priority_fee,
        **transaction,
    }
    base_fee = w3.eth.get_block("latest").get("baseFeePerGas", 0)
    filled.setdefault("maxFeePerGas", 2 * base_fee + filled["maxPriorityFeePerGas"])
    if "gas" not in filled:
        filled["gas"] = w3.eth.estimate_gas(filled)  # type: ignore[arg-type]
    signed = account.sign_transaction(filled)
    sent = w3.eth.send_raw_transaction(signed.raw_transaction)
    return w3.eth.wait_for_transaction_receipt(sent, timeout=30, poll_latency=0.05)


def deploy_contract(
    w3: Web3, name: str, arguments: Sequence[Any] = (), *, deployer: LocalAccount | None = None
) -> str:
    """Deploy one of the chain's contracts (``"LyingDollar"``, …); its address, EIP-55.

    ``deployer`` pays the gas; without one it is the first prefunded account.
    """
    from x402_django.chain.devchain.artifacts import load_artifact

    artifact = load_artifact(name)
    contract = w3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
    data = contract.constructor(*arguments).data_in_transaction
    receipt = send_transaction(w3, deployer or _prefunded(0), {"data": data, "value": 0})
    return str(receipt["contractAddress"])


def deploy_smart_wallet(
    w3: Web3, owner: str, *, salt: bytes = bytes(32), deployer: LocalAccount | None = None
) -> str:
    """Deploy an EIP-1271 wallet that pays by ``owner``'s signature; its address, EIP-55.

    The factory deploys it (CREATE2), so ``smart_wallet_address`` knows the address beforehand.
    """
    factory = _factory(w3)
    call = {"to": factory.address, "data": factory.encode_abi("create", [owner, salt])}
    send_transaction(w3, deployer or _prefunded(0), call)
    return smart_wallet_address(w3, owner, salt=salt)


def smart_wallet_address(w3: Web3, owner: str, *, salt: bytes = bytes(32)) -> str:
    """Where ``deploy_smart_wallet`` puts the wallet of ``owner`` and ``salt``."""
    return str(_factory(w3).functions.addressOf(owner, salt).call())


def token_contract(w3: Web3, address: str | None = None) -> Any:
    """The test dollar (or another token with its functions) as a web3 contract."""
    from x402_django.chain.devchain.artifacts import load_artifact
    from x402_django.chain.devchain.deployment import TOKEN_ADDRESS

    return w3.eth.contract(address=address or TOKEN_ADDRESS, abi=load_artifact("TestDollar").abi)  # type: ignore[call-overload]


def approve_permit2(
    w3: Web3, account: LocalAccount, token: str | None = None, *, amount: int = 2**256 - 1
) -> None:
    """Let Permit2 move ``account``'s tokens: what a wallet does once. It needs gas for it."""
    from x402_django.constants import PERMIT2_ADDRESS

    contract = token_contract(w3, token)
    call = {
        "to": contract.address,
        "data": contract.encode_abi("approve", [PERMIT2_ADDRESS, amount]),
    }
    send_transaction(w3, account, call)


def mint_plain_dollars(w3: Web3, address: str, amount: int) -> None:
    """Create ``amount`` atomic units of the token without EIP-3009 and EIP-2612."""
    from x402_django.chain.devchain.deployment import PLAIN_TOKEN_ADDRESS

    contract = token_contract(w3, PLAIN_TOKEN_ADDRESS)
    call = {"to": contract.address, "data": contract.encode_abi("mint", [address, amount])}
    send_transaction(w3, _prefunded(0), call)


def install_contracts(w3: Web3) -> None:
    """Bring the devchain's contracts to another development node, at the same addresses.

    For a fresh Anvil with its usual mnemonic; does nothing where they are already. Raises
    ``RuntimeError`` if the deployer account there has been used for something else.
    """
    from x402_django.chain.devchain import deployment
    from x402_django.chain.devchain.accounts import DEPLOYER_INDEX
    from x402_django.chain.devchain.artifacts import load_artifact

    deployer = _prefunded(DEPLOYER_INDEX)
    for address, name in deployment.CREATED.items():
        if w3.eth.get_code(address):  # type: ignore[arg-type]
            continue
        created = deploy_contract(w3, name, deployer=deployer)
        if created != address:
            raise RuntimeError(f"deployed at {created} instead of {address}: not a fresh node")
    for address, name in deployment.CANONICAL.items():
        if not w3.eth.get_code(address):  # type: ignore[arg-type]
            code = load_artifact(name).deployed_bytecode
            w3.provider.make_request("anvil_setCode", [address, code])  # type: ignore[arg-type]


def _factory(w3: Web3) -> Any:
    from x402_django.chain.devchain.artifacts import load_artifact
    from x402_django.chain.devchain.deployment import FACTORY_ADDRESS

    abi = load_artifact("SmartWalletFactory").abi
    return w3.eth.contract(address=FACTORY_ADDRESS, abi=abi)  # type: ignore[call-overload]


def _prefunded(index: int) -> LocalAccount:
    from eth_account import Account

    from x402_django.chain.devchain.accounts import dev_accounts

    account: LocalAccount = Account.from_key(dev_accounts()[index].private_key)
    return account
