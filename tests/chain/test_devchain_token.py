"""The test dollar: EIP-3009, EIP-2612 and EIP-1271, with real signatures on a real EVM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from web3 import Web3
from web3.exceptions import ContractCustomError, ContractLogicError

from x402_django.chain.devchain import DevChain
from x402_django.testing.chain import (
    DOLLAR,
    Authorization,
    deploy_contract,
    deploy_smart_wallet,
    new_payer,
    send_transaction,
    sign_authorization,
    sign_for_token,
    smart_wallet_address,
    token_contract,
)

SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
TERMS = "address,address,uint256,uint256,uint256,bytes32"
VRS = f"transferWithAuthorization({TERMS},uint8,bytes32,bytes32)"
BYTES = f"transferWithAuthorization({TERMS},bytes)"
RECEIVE_VRS = VRS.replace("transfer", "receive")
RECEIVE_BYTES = BYTES.replace("transfer", "receive")
CANCEL_VRS = "cancelAuthorization(address,bytes32,uint8,bytes32,bytes32)"
CANCEL_BYTES = "cancelAuthorization(address,bytes32,bytes)"
PERMIT_VRS = "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"
PERMIT_BYTES = "permit(address,address,uint256,uint256,bytes)"
PERMIT_FIELDS = {
    "owner": "address",
    "spender": "address",
    "value": "uint256",
    "nonce": "uint256",
    "deadline": "uint256",
}
USED = "FiatTokenV2: authorization is used or canceled"
EXPIRED = "FiatTokenV2: authorization is expired"
NOT_YET = "FiatTokenV2: authorization is not yet valid"
BAD_SIGNATURE = "FiatTokenV2: invalid signature"
NO_FUNDS = "ERC20: transfer amount exceeds balance"


def vrs(signature: bytes) -> tuple[int, bytes, bytes]:
    return signature[64], signature[:32], signature[32:64]


def as_bytes(signature: bytes) -> tuple[bytes]:
    return (signature,)


FORMS = pytest.mark.parametrize(
    ("function", "form"), [(VRS, vrs), (BYTES, as_bytes)], ids=["vrs", "bytes"]
)


@pytest.fixture(scope="module")
def _chain() -> DevChain:
    return DevChain()


@pytest.fixture
def chain(_chain: DevChain) -> Iterator[DevChain]:
    """One chain for the module, rewound after each test."""
    snapshot = _chain.snapshot()
    yield _chain
    _chain.revert(snapshot)


@pytest.fixture
def w3(chain: DevChain) -> Web3:
    return Web3(chain.provider())


@pytest.fixture
def token(w3: Web3) -> Any:
    return token_contract(w3)


@pytest.fixture
def payer(chain: DevChain) -> LocalAccount:
    return new_payer(chain, 10)


@pytest.fixture
def submitter(chain: DevChain) -> LocalAccount:
    return Account.from_key(chain.accounts[0].private_key)


SELLER = to_checksum_address("0x" + "5e11e2" + 34 * "0")


def submit(w3: Web3, submitter: LocalAccount, call: Any, **extra: Any) -> Any:
    """Send a contract call without simulating it first."""
    built = call.build_transaction({"gas": 300_000, "gasPrice": 0, "nonce": 0, "chainId": 1337})
    wanted = {key: built[key] for key in ("to", "data", "gas")}
    return send_transaction(w3, submitter, {**wanted, **extra})


def bound(token: Any, function: str, *arguments: Any) -> Any:
    return token.get_function_by_signature(function)(*arguments)


def refused(call: Any, reason: str) -> None:
    with pytest.raises(ContractLogicError) as caught:
        call.call({"from": SELLER})
    assert not isinstance(caught.value, ContractCustomError)
    assert str(caught.value.args[0]) == f"execution reverted: {reason}"


def test_metadata(w3: Web3, token: Any, chain: DevChain) -> None:
    assert token.functions.name().call() == "Test Dollar"
    assert token.functions.symbol().call() == "TUSD"
    assert token.functions.version().call() == "1"
    assert token.functions.decimals().call() == 6
    domain = w3.keccak(
        w3.codec.encode(
            ["bytes32", "bytes32", "bytes32", "uint256", "address"],
            [
                w3.keccak(
                    text="EIP712Domain(string name,string version,uint256 chainId,"
                    "address verifyingContract)"
                ),
                w3.keccak(text="Test Dollar"),
                w3.keccak(text="1"),
                1337,
                chain.token_address,
            ],
        )
    )
    assert token.functions.DOMAIN_SEPARATOR().call() == domain


@FORMS
def test_transfer_with_authorization_moves_the_money_and_says_so(
    w3: Web3,
    token: Any,
    payer: LocalAccount,
    submitter: LocalAccount,
    function: str,
    form: Callable[[bytes], tuple[Any, ...]],
) -> None:
    auth = Authorization(payer.address, SELLER, 3 * DOLLAR)
    signature = form(sign_authorization(payer, auth))

    receipt = submit(w3, submitter, bound(token, function, *auth.arguments(), *signature))

    assert receipt["status"] == 1
    used, transfer = receipt["logs"]
    assert token.events.AuthorizationUsed().process_log(used)["args"] == {
        "authorizer": payer.address,
        "nonce": auth.nonce,
    }
    assert token.events.Transfer().process_log(transfer)["args"] == {
        "from": payer.address,
        "to": SELLER,
        "value": 3 * DOLLAR,
    }
    assert token.functions.balanceOf(SELLER).call() == 3 * DOLLAR
    assert token.functions.balanceOf(payer.address).call() == 7 * DOLLAR
    assert token.functions.authorizationState(payer.address, auth.nonce).call() is True


@FORMS
def test_replay_is_refused(
    w3: Web3,
    token: Any,
    payer: LocalAccount,
    submitter: LocalAccount,
    function: str,
    form: Callable[[bytes], tuple[Any, ...]],
) -> None:
    auth = Authorization(payer.address, SELLER, DOLLAR)
    call = bound(token, function, *auth.arguments(), *form(sign_authorization(payer, auth)))
    submit(w3, submitter, call)

    refused(call, USED)
    receipt = submit(w3, submitter, call)

    assert receipt["status"] == 0
    assert receipt["logs"] == []
    assert token.functions.balanceOf(SELLER).call() == DOLLAR


@pytest.mark.parametrize(
    ("after", "before", "reason"),
    [
        (-100, 0, EXPIRED),  # validBefore is exclusive
        (-100, 1, None),
        (0, 100, NOT_YET),  # validAfter is exclusive
        (-1, 100, None),
    ],
)
def test_validity_period_has_exclusive_ends(
    chain: DevChain,
    w3: Web3,
    token: Any,
    payer: LocalAccount,
    submitter: LocalAccount,
    after: int,
    before: int,
    reason: str | None,
) -> None:
    time = chain.now() + 1_000
    auth = Authorization(payer.address, SELLER, DOLLAR, time + after, time + before)
    call = bound(token, BYTES, *auth.arguments(), sign_authorization(payer, auth))

    chain.set_next_timestamp(time)
    receipt = submit(w3, submitter, call)

    assert w3.eth.get_block(receipt["blockNumber"])["timestamp"] == time
    assert receipt["status"] == (0 if reason else 1)
    assert token.functions.balanceOf(SELLER).call() == (0 if reason else DOLLAR)
    if reason:
        assert token.functions.authorizationState(payer.address, auth.nonce).call() is False


def test_reasons_of_refusal(chain: DevChain, token: Any, payer: LocalAccount) -> None:
    def call(auth: Authorization, signature: bytes | None = None) -> Any:
        signature = signature or sign_authorization(payer, auth)
        return bound(token, BYTES, *auth.arguments(), signature)

    now = chain.now()
    refused(call(Authorization(payer.address, SELLER, 1, 0, now - 10)), EXPIRED)
    refused(call(Authorization(payer.address, SELLER, 1, now + 1_000)), NOT_YET)
    refused(call(Authorization(payer.address, SELLER, 10 * DOLLAR + 1)), NO_FUNDS)
    refused(
        call(Authorization(payer.address, "0x" + 40 * "0", 1)),
        "ERC20: transfer to the zero address",
    )


@FORMS
def test_forged_signatures_are_refused(
    token: Any,
    payer: LocalAccount,
    function: str,
    form: Callable[[bytes], tuple[Any, ...]],
) -> None:
    auth = Authorization(payer.address, SELLER, DOLLAR)
    good = sign_authorization(payer, auth)
    stranger = Account.create()
    high_s = (SECP256K1_ORDER - int.from_bytes(good[32:64], "big")).to_bytes(32, "big")
    forgeries = {
        "stranger": sign_authorization(stranger, auth),
        "other chain": sign_authorization(payer, auth, chain_id=1),
        "other token": sign_authorization(payer, auth, token=SELLER),
        "other name": sign_authorization(payer, auth, name="USD Coin"),
        "other version": sign_authorization(payer, auth, version="2"),
        "other type": sign_authorization(payer, auth, primary_type="ReceiveWithAuthorization"),
        "other amount": sign_authorization(
            payer, Authorization(payer.address, SELLER, 1, nonce=auth.nonce)
        ),
        "high s": good[:32] + high_s + bytes([27 + 28 - good[64]]),
        "v of 0 or 1": good[:64] + bytes([good[64] - 27]),
        "zeros": bytes(65),
    }
    for signature in forgeries.values():
        refused(bound(token, function, *auth.arguments(), *form(signature)), BAD_SIGNATURE)
    assert token.functions.balanceOf(SELLER).call() == 0


@pytest.mark.parametrize("length", [0, 64, 66])
def test_signatures_of_another_length_are_refused(
    token: Any, payer: LocalAccount, length: int
) -> None:
    auth = Authorization(payer.address, SELLER, DOLLAR)
    signature = (sign_authorization(payer, auth) + b"\0")[:length]
    refused(bound(token, BYTES, *auth.arguments(), signature), BAD_SIGNATURE)


def test_nobody_can_pay_for_the_zero_address(token: Any) -> None:
    """ecrecover answers zero for nonsense, which must not pass for the zero address's signature."""
    auth = Authorization("0x" + 40 * "0", SELLER, 0)
    refused(bound(token, BYTES, *auth.arguments(), bytes(65)), BAD_SIGNATURE)


@pytest.mark.parametrize(
    ("function", "form"), [(RECEIVE_VRS, vrs), (RECEIVE_BYTES, as_bytes)], ids=["vrs", "bytes"]
)
def test_receive_is_for_the_payee_alone(
    w3: Web3,
    token: Any,
    payer: LocalAccount,
    submitter: LocalAccount,
    function: str,
    form: Callable[[bytes], tuple[Any, ...]],
) -> None:
    auth = Authorization(payer.address, submitter.address, DOLLAR)
    signature = sign_authorization(payer, auth, primary_type="ReceiveWithAuthorization")
    call = bound(token, function, *auth.arguments(), *form(signature))

    refused(call, "FiatTokenV2: caller must be the payee")
    receipt = submit(w3, submitter, call)

    assert receipt["status"] == 1
    assert token.functions.balanceOf(submitter.address).call() == DOLLAR


@pytest.mark.parametrize(
    ("function", "form"), [(CANCEL_VRS, vrs), (CANCEL_BYTES, as_bytes)], ids=["vrs", "bytes"]
)
def test_canceled_authorization_is_dead(
    w3: Web3,
    token: Any,
    payer: LocalAccount,
    submitter: LocalAccount,
    function: str,
    form: Callable[[bytes], tuple[Any, ...]],
) -> None:
    auth = Authorization(payer.address, SELLER, DOLLAR)
    fields = {"authorizer": "address", "nonce": "bytes32"}
    message = {"authorizer": payer.address, "nonce": auth.nonce}
    forged = sign_for_token(Account.create(), "CancelAuthorization", fields, message)
    refused(bound(token, function, payer.address, auth.nonce, *form(forged)), BAD_SIGNATURE)
    signature = sign_for_token(payer, "CancelAuthorization", fields, message)
    cancel = bound(token, function, payer.address, auth.nonce, *form(signature))

    receipt = submit(w3, submitter, cancel)

    [log] = receipt["logs"]
    canceled = token.events.AuthorizationCanceled().process_log(log)
    assert canceled["args"] == {"authorizer": payer.address, "nonce": auth.nonce}
    assert token.functions.authorizationState(payer.address, auth.nonce).call() is True
    refused(cancel, USED)
    refused(bound(token, BYTES, *auth.arguments(), sign_authorization(payer, auth)), USED)


@pytest.mark.parametrize(
    ("function", "form"), [(PERMIT_VRS, vrs), (PERMIT_BYTES, as_bytes)], ids=["vrs", "bytes"]
)
def test_permit_allows_once(
    chain: DevChain,
    w3: Web3,
    token: Any,
    payer: LocalAccount,
    submitter: LocalAccount,
    function: str,
    form: Callable[[bytes], tuple[Any, ...]],
) -> None:
    deadline = chain.now() + 60
    arguments = (payer.address, submitter.address, 2 * DOLLAR)
    message = dict(zip(PERMIT_FIELDS, (*arguments, 0, deadline), strict=True))
    signature = sign_for_token(payer, "Permit", PERMIT_FIELDS, message)
    permit = bound(token, function, *arguments, deadline, *form(signature))

    assert submit(w3, submitter, permit)["status"] == 1

    assert token.functions.allowance(payer.address, submitter.address).call() == 2 * DOLLAR
    assert token.functions.nonces(payer.address).call() == 1
    refused(permit, "EIP2612: invalid signature")  # the nonce has moved on
    spend = token.functions.transferFrom(payer.address, SELLER, 2 * DOLLAR)
    assert submit(w3, submitter, spend)["status"] == 1
    with pytest.raises(ContractLogicError, match="exceeds allowance"):
        spend.call({"from": submitter.address})


def test_permit_expires(chain: DevChain, token: Any, payer: LocalAccount) -> None:
    deadline = chain.now() - 1
    message = dict(zip(PERMIT_FIELDS, (payer.address, SELLER, 1, 0, deadline), strict=True))
    signature = sign_for_token(payer, "Permit", PERMIT_FIELDS, message)
    call = bound(token, PERMIT_BYTES, payer.address, SELLER, 1, deadline, signature)
    refused(call, "FiatTokenV2: permit is expired")


def test_plain_transfer_cannot_overdraw(
    w3: Web3, token: Any, chain: DevChain, submitter: LocalAccount
) -> None:
    chain.mint(submitter.address, DOLLAR)
    assert submit(w3, submitter, token.functions.transfer(SELLER, DOLLAR + 1))["status"] == 0
    assert submit(w3, submitter, token.functions.transfer(SELLER, DOLLAR))["status"] == 1
    assert token.functions.balanceOf(SELLER).call() == DOLLAR


# ------------------------------------------------------------------ EIP-1271


@FORMS
def test_smart_wallet_pays_by_its_owners_signature(
    chain: DevChain,
    w3: Web3,
    token: Any,
    submitter: LocalAccount,
    function: str,
    form: Callable[[bytes], tuple[Any, ...]],
) -> None:
    owner = Account.create()
    wallet = deploy_smart_wallet(w3, owner.address)
    chain.mint(wallet, DOLLAR)
    auth = Authorization(wallet, SELLER, DOLLAR)
    forged = sign_authorization(Account.create(), auth)
    refused(bound(token, function, *auth.arguments(), *form(forged)), BAD_SIGNATURE)
    call = bound(token, function, *auth.arguments(), *form(sign_authorization(owner, auth)))

    receipt = submit(w3, submitter, call)

    assert receipt["status"] == 1
    assert token.functions.balanceOf(SELLER).call() == DOLLAR
    refused(call, USED)


def test_smart_wallet_refuses_high_s(chain: DevChain, w3: Web3, token: Any) -> None:
    owner = Account.create()
    wallet = deploy_smart_wallet(w3, owner.address)
    auth = Authorization(wallet, SELLER, 0)
    good = sign_authorization(owner, auth)
    high_s = (SECP256K1_ORDER - int.from_bytes(good[32:64], "big")).to_bytes(32, "big")
    malleated = good[:32] + high_s + bytes([27 + 28 - good[64]])
    bound(token, BYTES, *auth.arguments(), good).call({"from": SELLER})
    refused(bound(token, BYTES, *auth.arguments(), malleated), BAD_SIGNATURE)


def test_contract_without_1271_cannot_pay(chain: DevChain, token: Any) -> None:
    auth = Authorization(chain.token_address, SELLER, 0)
    signature = sign_authorization(Account.create(), auth)
    refused(bound(token, BYTES, *auth.arguments(), signature), BAD_SIGNATURE)


def test_factory_address_is_known_beforehand(w3: Web3) -> None:
    owner = Account.create().address
    expected = smart_wallet_address(w3, owner, salt=b"\1" * 32)
    assert w3.eth.get_code(Web3.to_checksum_address(expected)) == b""
    assert deploy_smart_wallet(w3, owner, salt=b"\1" * 32) == expected
    assert len(w3.eth.get_code(Web3.to_checksum_address(expected))) > 0
    assert deploy_smart_wallet(w3, owner, salt=b"\1" * 32) == expected  # once more is harmless
    assert smart_wallet_address(w3, owner, salt=b"\2" * 32) != expected


# -------------------------------------------------------------- hostile token


@pytest.mark.parametrize(
    ("mode", "events", "moved"),
    [
        (1, [], 0),
        (3, ["AuthorizationUsed"], 0),
        (4, ["Transfer"], DOLLAR),
        (5, ["AuthorizationUsed", "Transfer"], DOLLAR // 2),
    ],
    ids=["silent", "used-without-transfer", "transfer-without-used", "short-change"],
)
def test_lying_dollar_lies(
    w3: Web3,
    payer: LocalAccount,
    submitter: LocalAccount,
    mode: int,
    events: list[str],
    moved: int,
) -> None:
    token = _lying_dollar(w3, submitter, payer, mode)
    auth = Authorization(payer.address, SELLER, DOLLAR)
    signature = sign_authorization(payer, auth, token=token.address)

    receipt = submit(w3, submitter, bound(token, BYTES, *auth.arguments(), signature))

    assert receipt["status"] == 1
    names = {
        Web3.keccak(text="AuthorizationUsed(address,bytes32)"): "AuthorizationUsed",
        Web3.keccak(text="Transfer(address,address,uint256)"): "Transfer",
    }
    assert [names[log["topics"][0]] for log in receipt["logs"]] == events
    assert token.functions.balanceOf(SELLER).call() == moved


def test_lying_dollar_accepts_a_replay_silently(
    w3: Web3, payer: LocalAccount, submitter: LocalAccount
) -> None:
    token = _lying_dollar(w3, submitter, payer, 2)
    auth = Authorization(payer.address, SELLER, DOLLAR)
    signature = sign_authorization(payer, auth, token=token.address)
    call = bound(token, BYTES, *auth.arguments(), signature)

    first, second = submit(w3, submitter, call), submit(w3, submitter, call)

    assert (first["status"], len(first["logs"])) == (1, 2)
    assert (second["status"], len(second["logs"])) == (1, 0)
    assert token.functions.balanceOf(SELLER).call() == DOLLAR


def _lying_dollar(w3: Web3, submitter: LocalAccount, payer: LocalAccount, mode: int) -> Any:
    address = deploy_contract(w3, "LyingDollar")
    token = token_contract(w3, address)
    submit(w3, submitter, token.functions.mint(payer.address, DOLLAR))
    selector = Web3.keccak(text="setMode(uint8)")[:4]
    data = selector + mode.to_bytes(32, "big")
    send_transaction(w3, submitter, {"to": address, "data": data})
    return token
