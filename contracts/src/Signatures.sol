// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/// @notice The question a contract account answers about a signature (EIP-1271).
interface IERC1271 {
    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4);
}

/// @title Signature checks shared by the token and the smart wallet
/// @notice ECDSA with low `s` only (EIP-2), and EIP-1271 for accounts that have code.
library Signatures {
    /// @dev bytes4(keccak256("isValidSignature(bytes32,bytes)")), the EIP-1271 answer for "yes".
    bytes4 internal constant EIP1271_MAGIC = 0x1626ba7e;

    /// @dev Half the order of secp256k1: EIP-2 refuses `s` above it, because (r, n - s) signs the same digest.
    uint256 private constant HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    /// @notice Whether `signature` is `account`'s signature of `digest`.
    /// @dev An account with code answers for itself, whatever the length of the signature: that is how
    ///      USDC (FiatToken v2.2) routes, and it includes EOAs delegated by EIP-7702.
    function isValid(address account, bytes32 digest, bytes memory signature) internal view returns (bool) {
        if (account.code.length > 0) {
            return _contractAccepts(account, digest, signature);
        }
        return account != address(0) && recover(digest, signature) == account;
    }

    /// @notice The signer of a 65 byte `r || s || v` signature, or the zero address if there is none.
    /// @dev Only `v` of 27 or 28 is accepted; `s` above half the curve's order is refused.
    function recover(bytes32 digest, bytes memory signature) internal pure returns (address) {
        if (signature.length != 65) {
            return address(0);
        }
        bytes32 r;
        bytes32 s;
        uint8 v;
        assembly ("memory-safe") {
            r := mload(add(signature, 0x20))
            s := mload(add(signature, 0x40))
            v := byte(0, mload(add(signature, 0x60)))
        }
        if (uint256(s) > HALF_ORDER || (v != 27 && v != 28)) {
            return address(0);
        }
        return ecrecover(digest, v, r, s);
    }

    /// @dev A wallet that reverts, runs out of gas or answers with less than a word has not accepted.
    function _contractAccepts(address account, bytes32 digest, bytes memory signature) private view returns (bool) {
        (bool success, bytes memory answer) =
            account.staticcall(abi.encodeCall(IERC1271.isValidSignature, (digest, signature)));
        return success && answer.length >= 32 && bytes32(answer) == bytes32(EIP1271_MAGIC);
    }
}
