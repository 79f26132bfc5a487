// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {SmartWallet} from "./SmartWallet.sol";

/// @title Deploys SmartWallets at addresses known beforehand (EIP-1014, CREATE2)
/// @notice What an ERC-6492 signature names as its factory: a wallet may sign before it is deployed.
contract SmartWalletFactory {
    event WalletCreated(address indexed wallet, address indexed owner, bytes32 salt);

    /// @notice The wallet of `owner` and `salt`; deploys it unless it is there already (ERC-6492 asks for that).
    function create(address owner, bytes32 salt) external returns (address wallet) {
        wallet = addressOf(owner, salt);
        if (wallet.code.length == 0) {
            new SmartWallet{salt: salt}(owner);
            emit WalletCreated(wallet, owner, salt);
        }
    }

    /// @notice The address that `create(owner, salt)` deploys to.
    function addressOf(address owner, bytes32 salt) public view returns (address) {
        bytes32 initCodeHash = keccak256(abi.encodePacked(type(SmartWallet).creationCode, abi.encode(owner)));
        return address(uint160(uint256(keccak256(abi.encodePacked(bytes1(0xff), address(this), salt, initCodeHash)))));
    }
}
