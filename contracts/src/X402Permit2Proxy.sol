// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {ISignatureTransfer} from "./ISignatureTransfer.sol";

interface IERC20Permit {
    function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external;
}

/// @title What x402's two Permit2 proxies have in common, for development chains
/// @notice A proxy is the spender that payers sign for. It can do one thing with the money: send it to
///         the payee in the signed witness.
/// @dev Selectors, events and errors are those of the deployed proxies. Written anew.
abstract contract X402Permit2Proxy {
    ISignatureTransfer public constant PERMIT2 = ISignatureTransfer(0x000000000022D473030F116dDEE9F6B43aC78BA3);

    /// @dev An EIP-2612 permit for Permit2; owner and token are those of the payment.
    struct EIP2612Permit {
        uint256 value;
        uint256 deadline;
        bytes32 r;
        bytes32 s;
        uint8 v;
    }

    bool private entered;

    /// @dev They name no payment: which one was settled, the call data says.
    event Settled();
    event SettledWithPermit();
    event EIP2612PermitFailedWithReason(address indexed token, address indexed owner, string reason);
    event EIP2612PermitFailedWithPanic(address indexed token, address indexed owner, uint256 errorCode);
    event EIP2612PermitFailedWithData(address indexed token, address indexed owner, bytes data);

    error InvalidDestination();
    error PaymentTooEarly();
    error InvalidOwner();
    error InvalidAmount();
    error Permit2612AmountMismatch();
    error ReentrancyGuardReentrantCall();

    modifier nonReentrant() {
        if (entered) revert ReentrancyGuardReentrantCall();
        entered = true;
        _;
        entered = false;
    }

    function _settle(
        ISignatureTransfer.PermitTransferFrom calldata permit,
        uint256 amount,
        address owner,
        address to,
        uint256 validAfter,
        bytes32 witness,
        string memory witnessTypeString,
        bytes calldata signature
    ) internal {
        if (amount == 0) revert InvalidAmount();
        if (owner == address(0)) revert InvalidOwner();
        if (to == address(0)) revert InvalidDestination();
        if (block.timestamp < validAfter) revert PaymentTooEarly();
        ISignatureTransfer.SignatureTransferDetails memory details =
            ISignatureTransfer.SignatureTransferDetails(to, amount);
        PERMIT2.permitWitnessTransferFrom(permit, details, owner, witness, witnessTypeString, signature);
    }

    /// @dev A permit that fails is no obstacle: the allowance may be there already.
    function _permit(ISignatureTransfer.TokenPermissions calldata permitted, address owner, EIP2612Permit calldata p)
        internal
    {
        if (p.value != permitted.amount) revert Permit2612AmountMismatch();
        try IERC20Permit(permitted.token).permit(owner, address(PERMIT2), p.value, p.deadline, p.v, p.r, p.s) {}
        catch Error(string memory reason) {
            emit EIP2612PermitFailedWithReason(permitted.token, owner, reason);
        } catch Panic(uint256 errorCode) {
            emit EIP2612PermitFailedWithPanic(permitted.token, owner, errorCode);
        } catch (bytes memory data) {
            emit EIP2612PermitFailedWithData(permitted.token, owner, data);
        }
    }
}
