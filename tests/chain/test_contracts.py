"""The kept artifacts are what the kept Solidity sources compile to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from eth_utils.abi import event_abi_to_log_topic, function_abi_to_4byte_selector

from x402_django.chain.devchain.artifacts import load_artifact
from x402_django.chain.devchain.deployment import DEPLOYED

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = ROOT / "contracts"
SOURCES = CONTRACTS / "src"
ARTIFACTS = ROOT / "x402_django" / "chain" / "devchain" / "artifacts"
NAMES = [
    "Delegate",
    "LyingDollar",
    "LyingFactory",
    "Multicall3",
    "Permit2",
    "PlainDollar",
    "SmartWallet",
    "SmartWalletFactory",
    "TestDollar",
    "X402BatchSettlement",
    "X402Erc3009Collector",
    "X402ExactPermit2Proxy",
    "X402UptoPermit2Proxy",
]


def test_every_artifact_is_listed_here() -> None:
    assert sorted(path.stem for path in ARTIFACTS.glob("*.json")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_artifact_was_built_from_these_sources(name: str) -> None:
    """Always runs; when it fails, ``make contracts`` rebuilds."""
    artifact = load_artifact(name)
    assert f"{name}.sol" in artifact.sources
    for source, digest in artifact.sources.items():
        assert sha256((SOURCES / source).read_bytes()).hexdigest() == digest, source
    pinned = json.loads((CONTRACTS / "package.json").read_text())["devDependencies"]["solc"]
    assert artifact.compiler.startswith(f"{pinned}+commit.")


@pytest.mark.node
def test_recompiling_gives_the_same_artifacts(tmp_path: Path) -> None:
    """Recompiles for real, with the pinned compiler."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node.js and npm are not installed")
    work = tmp_path / "contracts"
    shutil.copytree(CONTRACTS, work, ignore=shutil.ignore_patterns("node_modules"))
    install = subprocess.run(
        [npm, "ci", "--no-audit", "--no-fund"],
        cwd=work,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if install.returncode != 0 and "X402_REQUIRE_NODE" not in os.environ:
        pytest.skip(f"npm could not install solc: {install.stderr[-200:]}")
    assert install.returncode == 0, install.stderr
    built = tmp_path / "artifacts"
    subprocess.run([node, "build.js", str(built)], cwd=work, check=True, timeout=120)

    assert sorted(path.stem for path in built.iterdir()) == NAMES
    for path in built.iterdir():
        assert path.read_text() == (ARTIFACTS / path.name).read_text(), path.name


@pytest.mark.parametrize("name", DEPLOYED.values())
def test_genesis_contracts_need_no_constructor(name: str) -> None:
    kinds = {entry["type"] for entry in load_artifact(name).abi}
    assert "constructor" not in kinds
    assert load_artifact(name).bytecode.endswith(load_artifact(name).deployed_bytecode[2:])


def test_selectors_and_topics_that_clients_know() -> None:
    """From EIP-20, 3009, 2612 and 1271; computed nowhere, written down here."""
    selectors = {
        function_abi_to_4byte_selector(entry).hex()  # type: ignore[arg-type]
        for name in ("TestDollar", "SmartWallet")
        for entry in load_artifact(name).abi
        if entry["type"] == "function"
    }
    assert {
        "e3ee160e",  # transferWithAuthorization(…, v, r, s)
        "cf092995",  # transferWithAuthorization(…, bytes)
        "ef55bec6",  # receiveWithAuthorization(…, v, r, s)
        "88b7ab63",  # receiveWithAuthorization(…, bytes)
        "5a049a70",  # cancelAuthorization(…, v, r, s)
        "b7b72899",  # cancelAuthorization(…, bytes)
        "e94a0102",  # authorizationState(address,bytes32)
        "d505accf",  # permit(…, v, r, s)
        "9fd5a6cf",  # permit(…, bytes)
        "3644e515",  # DOMAIN_SEPARATOR()
        "1626ba7e",  # isValidSignature(bytes32,bytes)
        "a9059cbb",  # transfer(address,uint256)
        "70a08231",  # balanceOf(address)
    } <= selectors
    topics = {
        entry["name"]: event_abi_to_log_topic(entry).hex()  # type: ignore[arg-type]
        for entry in load_artifact("TestDollar").abi
        if entry["type"] == "event"
    }
    assert topics == {
        "Transfer": "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef",
        "Approval": "8c5be1e5ebec7d5bd14f71427d1e84f3dd0314c0f7b2291e5b200ac8c7c3b925",
        "AuthorizationUsed": "98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5",
        "AuthorizationCanceled": "1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81",
    }


def test_multicall_has_the_known_selectors() -> None:
    selectors = {
        entry["name"]: function_abi_to_4byte_selector(entry).hex()  # type: ignore[arg-type]
        for entry in load_artifact("Multicall3").abi
    }
    assert selectors == {
        "aggregate": "252dba42",
        "aggregate3": "82ad56cb",
        "aggregate3Value": "174dea71",
        "blockAndAggregate": "c3077fa9",
        "getBasefee": "3e64a696",
        "getBlockHash": "ee82ac5e",
        "getBlockNumber": "42cbb15c",
        "getChainId": "3408e470",
        "getCurrentBlockCoinbase": "a8b0574e",
        "getCurrentBlockDifficulty": "72425d9d",
        "getCurrentBlockGasLimit": "86d516e8",
        "getCurrentBlockTimestamp": "0f28c97d",
        "getEthBalance": "4d2301cc",
        "getLastBlockHash": "27e86d6e",
        "tryAggregate": "bce38bd7",
        "tryBlockAndAggregate": "399542e9",
    }


def test_permit2_and_its_proxies_have_the_selectors_that_the_sdk_calls() -> None:
    """Permit2's are written down; the proxies' are those of the SDK's own ABIs."""
    from x402.mechanisms.evm import constants as sdk

    permit2 = {
        entry["name"]: function_abi_to_4byte_selector(entry).hex()  # type: ignore[arg-type]
        for entry in load_artifact("Permit2").abi
        if entry["type"] == "function"
    }
    assert permit2 == {
        "DOMAIN_SEPARATOR": "3644e515",
        "invalidateUnorderedNonces": "3ff9dcb1",
        "nonceBitmap": "4fe02b44",
        "permitWitnessTransferFrom": "137c29fe",
    }
    for name, abis in (
        (
            "X402ExactPermit2Proxy",
            (
                sdk.X402_EXACT_PERMIT2_PROXY_ABI,
                sdk.X402_EXACT_PERMIT2_PROXY_SETTLE_WITH_PERMIT_ABI,
            ),
        ),
        (
            "X402UptoPermit2Proxy",
            (sdk.X402_UPTO_PERMIT2_PROXY_ABI, sdk.X402_UPTO_PERMIT2_PROXY_SETTLE_WITH_PERMIT_ABI),
        ),
    ):
        ours = {
            function_abi_to_4byte_selector(entry)  # type: ignore[arg-type]
            for entry in load_artifact(name).abi
            if entry["type"] == "function"
        }
        assert {function_abi_to_4byte_selector(abi[0]) for abi in abis} < ours  # type: ignore[arg-type]


def test_addresses_are_the_sdks() -> None:
    from x402.mechanisms.evm import constants as sdk

    from x402_django import constants

    assert constants.PERMIT2_ADDRESS == sdk.PERMIT2_ADDRESS
    assert constants.EXACT_PROXY_ADDRESS == sdk.X402_EXACT_PERMIT2_PROXY_ADDRESS
    assert constants.UPTO_PROXY_ADDRESS == sdk.X402_UPTO_PERMIT2_PROXY_ADDRESS
