// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IDepositCollector} from "./IDepositCollector.sol";

interface IToken3009 {
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes memory signature
    ) external;
    function transfer(address to, uint256 value) external returns (bool);
}

/// @title x402's collector of deposits by EIP-3009, for development chains
/// @notice Receives what the payer has authorized for one channel, and passes it on to the escrow.
/// @dev The authorization's nonce names the channel, so it cannot fund another one. Written anew.
contract X402Erc3009Collector is IDepositCollector {
    address public constant ESCROW = 0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003;

    error OnlyEscrow();
    error NotForwarded();

    function collect(
        address payer,
        address token,
        uint256 amount,
        bytes32 channelId,
        address,
        bytes calldata collectorData
    ) external {
        if (msg.sender != ESCROW) revert OnlyEscrow();
        (uint256 validAfter, uint256 validBefore, uint256 salt, bytes memory signature) =
            abi.decode(collectorData, (uint256, uint256, uint256, bytes));
        bytes32 nonce = keccak256(abi.encode(channelId, salt));
        IToken3009(token).receiveWithAuthorization(
            payer, address(this), amount, validAfter, validBefore, nonce, signature
        );
        if (!IToken3009(token).transfer(ESCROW, amount)) revert NotForwarded();
    }
}
