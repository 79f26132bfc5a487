// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {TestDollar} from "./TestDollar.sol";

/// @title Lying Dollar, a hostile token for tests
/// @notice A TestDollar whose transferWithAuthorization (EIP-3009) succeeds without moving the money it
///         should. A seller who believes a transaction's status, or a facilitator's word, instead of the
///         token's own `AuthorizationUsed` and `Transfer` events, is robbed by it.
contract LyingDollar is TestDollar {
    enum Mode {
        Honest, // as TestDollar
        Silent, // succeeds, moves nothing, emits nothing
        ReplaySilent, // honest the first time; on a used nonce succeeds, moves nothing, emits nothing
        UsedWithoutTransfer, // emits AuthorizationUsed, moves nothing
        TransferWithoutUsed, // moves the value, but neither marks the nonce nor emits AuthorizationUsed
        ShortChange // emits AuthorizationUsed, moves half
    }

    Mode public mode;

    /// @notice Chooses the lie; open to everybody.
    function setMode(Mode newMode) external {
        mode = newMode;
    }

    function _transferWithAuthorization(Authorization memory auth, bytes memory signature) internal override {
        if (mode == Mode.Silent) {
            return;
        }
        if (mode == Mode.ReplaySilent && authorizationState[auth.from][auth.nonce]) {
            return;
        }
        if (mode == Mode.TransferWithoutUsed) {
            _transfer(auth.from, auth.to, auth.value);
            return;
        }
        _useAuthorization(TRANSFER_WITH_AUTHORIZATION_TYPEHASH, auth, signature);
        if (mode == Mode.ShortChange) {
            _transfer(auth.from, auth.to, auth.value / 2);
        } else if (mode != Mode.UsedWithoutTransfer) {
            _transfer(auth.from, auth.to, auth.value);
        }
    }
}
