// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IERC1271, Signatures} from "./Signatures.sol";

/// @title Code for an EOA to delegate to (EIP-7702)
/// @notice An EOA with this code has code, so that tokens ask it (EIP-1271) instead of recovering its key.
/// @dev For tests. There is no storage: the answer is chosen when the code is deployed.
contract Delegate is IERC1271 {
    enum Mode {
        Accepts, // the EOA's own signature, as a plain account's
        Refuses, // every signature, the EOA's own too
        Burns // all the gas it is given
    }

    Mode public immutable mode;

    constructor(Mode mode_) {
        mode = mode_;
    }

    receive() external payable {}

    /// @notice EIP-1271, as `mode` says; `address(this)` is the EOA.
    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        if (mode == Mode.Burns) {
            assembly ("memory-safe") {
                invalid()
            }
        }
        bool valid = mode == Mode.Accepts && Signatures.recover(digest, signature) == address(this);
        return valid ? Signatures.EIP1271_MAGIC : bytes4(0xffffffff);
    }
}
