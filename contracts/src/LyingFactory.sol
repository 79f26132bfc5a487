// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {SmartWalletFactory} from "./SmartWalletFactory.sol";

/// @title A factory that does not do what it is named for (ERC-6492), for tests
/// @notice Wallets come from an honest factory, if at all, so that their addresses are known beforehand.
contract LyingFactory {
    enum Mode {
        Honest, // deploys
        Nothing, // succeeds, deploys nothing
        Reverts,
        Pretends // deploys where it is simulated without a gas price, and nothing on chain
    }

    SmartWalletFactory public immutable honest;
    Mode public mode;

    constructor(SmartWalletFactory honest_) {
        honest = honest_;
    }

    /// @notice Chooses the lie; open to everybody.
    function setMode(Mode newMode) external {
        mode = newMode;
    }

    /// @notice Like SmartWalletFactory.create, as `mode` says.
    function create(address owner, bytes32 salt) external returns (address wallet) {
        require(mode != Mode.Reverts, "LyingFactory: no");
        if (mode == Mode.Nothing || (mode == Mode.Pretends && tx.gasprice > 0)) {
            return honest.addressOf(owner, salt);
        }
        return honest.create(owner, salt);
    }
}
