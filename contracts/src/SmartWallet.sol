// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IERC1271, Signatures} from "./Signatures.sol";

/// @title A minimal contract account owned by one EOA
/// @notice Pays by signature: a digest is signed by this wallet when its owner signed it (EIP-1271).
/// @dev For tests. The owner signs the bare digest: a signature is bound to this wallet only by what the
///      digest says, as EIP-3009 and EIP-2612 digests do (they name the payer), but not every digest does.
contract SmartWallet is IERC1271 {
    address public immutable owner;

    constructor(address owner_) {
        require(owner_ != address(0), "SmartWallet: owner is the zero address");
        owner = owner_;
    }

    receive() external payable {}

    /// @notice EIP-1271: 0x1626ba7e if `signature` is the owner's 65 byte ECDSA signature (low `s`) of `digest`.
    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        return Signatures.recover(digest, signature) == owner ? Signatures.EIP1271_MAGIC : bytes4(0xffffffff);
    }

    /// @notice Calls `to` with `value` wei and `data` as this wallet; a revert is passed on as it is.
    function execute(address to, uint256 value, bytes calldata data) external payable returns (bytes memory) {
        require(msg.sender == owner, "SmartWallet: caller is not the owner");
        (bool success, bytes memory result) = to.call{value: value}(data);
        if (!success) {
            assembly ("memory-safe") {
                revert(add(result, 0x20), mload(result))
            }
        }
        return result;
    }
}
