// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/// @notice Whoever brings a payer's deposit into the escrow of payment channels.
interface IDepositCollector {
    function collect(
        address payer,
        address token,
        uint256 amount,
        bytes32 channelId,
        address caller,
        bytes calldata collectorData
    ) external;
}
