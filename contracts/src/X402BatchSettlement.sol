// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IDepositCollector} from "./IDepositCollector.sol";
import {Signatures} from "./Signatures.sol";

interface IToken {
    function transfer(address to, uint256 value) external returns (bool);
    function balanceOf(address account) external view returns (uint256);
}

/// @title x402's escrow of payment channels, for development chains
/// @notice A payer deposits once and then signs vouchers; each says how much of the deposit the receiver
///         may have in all. The receiver claims by the newest of them, and sweeps what was claimed.
/// @dev Functions, events, EIP-712 domain and types are those of the deployed contract. Written anew.
contract X402BatchSettlement {
    struct ChannelConfig {
        address payer;
        address payerAuthorizer;
        address receiver;
        address receiverAuthorizer;
        address token;
        uint40 withdrawDelay;
        bytes32 salt;
    }

    struct Voucher {
        ChannelConfig channel;
        uint128 maxClaimableAmount;
    }

    struct VoucherClaim {
        Voucher voucher;
        bytes signature;
        uint128 totalClaimed;
    }

    /// @dev `balance` is what was deposited and not given back; claims do not lessen it.
    struct Channel {
        uint128 balance;
        uint128 totalClaimed;
    }

    struct Withdrawal {
        uint128 amount;
        uint40 initiatedAt;
    }

    struct Receiver {
        uint128 totalClaimed;
        uint128 totalSettled;
    }

    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant CONFIG_TYPEHASH = keccak256(
        "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)"
    );
    bytes32 private constant VOUCHER_TYPEHASH = keccak256("Voucher(bytes32 channelId,uint128 maxClaimableAmount)");
    bytes32 private constant REFUND_TYPEHASH = keccak256("Refund(bytes32 channelId,uint256 nonce,uint128 amount)");
    bytes32 private constant ENTRY_TYPEHASH =
        keccak256("ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)");
    bytes32 private constant BATCH_TYPEHASH = keccak256(
        "ClaimBatch(ClaimEntry[] claims)ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"
    );
    uint40 private constant MIN_DELAY = 15 minutes;
    uint40 private constant MAX_DELAY = 30 days;

    mapping(bytes32 channelId => Channel) public channels;
    mapping(bytes32 channelId => Withdrawal) public pendingWithdrawals;
    mapping(bytes32 channelId => uint256) public refundNonce;
    mapping(address receiver => mapping(address token => Receiver)) public receivers;

    event Deposited(bytes32 indexed channelId, address indexed sender, uint128 amount, uint128 newBalance);
    event Claimed(bytes32 indexed channelId, address indexed sender, uint128 amount, uint128 newTotalClaimed);
    event Settled(address indexed receiver, address indexed token, address indexed sender, uint128 amount);
    event Refunded(bytes32 indexed channelId, address indexed sender, uint128 amount);
    event WithdrawInitiated(bytes32 indexed channelId, uint128 amount, uint40 finalizeAfter);
    event WithdrawFinalized(bytes32 indexed channelId, address indexed sender, uint128 amount);

    error InvalidConfig();
    error InvalidAmount();
    error InvalidSignature();
    error NotAuthorized();
    error ExceedsVoucher();
    error ExceedsBalance();
    error NothingToSettle();
    error DepositMismatch();
    error InvalidNonce();
    error NotReady();

    // ---------------------------------------------------------------- money in

    function deposit(ChannelConfig calldata config, uint128 amount, address collector, bytes calldata collectorData)
        external
    {
        if (amount == 0) revert InvalidAmount();
        if (config.payer == address(0) || config.receiver == address(0) || config.receiverAuthorizer == address(0)) {
            revert InvalidConfig();
        }
        if (config.withdrawDelay < MIN_DELAY || config.withdrawDelay > MAX_DELAY) revert InvalidConfig();
        bytes32 id = getChannelId(config);
        uint256 before = IToken(config.token).balanceOf(address(this));
        IDepositCollector(collector).collect(config.payer, config.token, amount, id, msg.sender, collectorData);
        if (IToken(config.token).balanceOf(address(this)) != before + amount) revert DepositMismatch();
        channels[id].balance += amount;
        emit Deposited(id, msg.sender, amount, channels[id].balance);
    }

    // ------------------------------------------------------- money to the receiver

    /// @notice For the receiver's authorizer itself.
    function claim(VoucherClaim[] calldata claims) external {
        for (uint256 i = 0; i < claims.length; ++i) {
            if (msg.sender != claims[i].voucher.channel.receiverAuthorizer) revert NotAuthorized();
            _claim(claims[i]);
        }
    }

    /// @notice For anybody with the signature of the authorizer of all these channels.
    function claimWithSignature(VoucherClaim[] calldata claims, bytes calldata authorizerSignature) external {
        if (claims.length == 0) revert InvalidAmount();
        address authorizer = claims[0].voucher.channel.receiverAuthorizer;
        if (!Signatures.isValid(authorizer, getClaimBatchDigest(claims), authorizerSignature)) revert InvalidSignature();
        for (uint256 i = 0; i < claims.length; ++i) {
            if (claims[i].voucher.channel.receiverAuthorizer != authorizer) revert NotAuthorized();
            _claim(claims[i]);
        }
    }

    /// @notice Sends what was claimed for a receiver, of all its channels. For anybody.
    function settle(address receiver, address token) external {
        Receiver storage account = receivers[receiver][token];
        uint128 amount = account.totalClaimed - account.totalSettled;
        if (amount == 0) revert NothingToSettle();
        account.totalSettled = account.totalClaimed;
        if (!IToken(token).transfer(receiver, amount)) revert InvalidAmount();
        emit Settled(receiver, token, msg.sender, amount);
    }

    // ------------------------------------------------------- money back to the payer

    /// @notice Gives back what was not claimed, by the signature of the receiver's authorizer.
    function refundWithSignature(
        ChannelConfig calldata config,
        uint128 amount,
        uint256 nonce,
        bytes calldata receiverAuthorizerSignature
    ) external {
        bytes32 id = getChannelId(config);
        if (nonce != refundNonce[id]) revert InvalidNonce();
        bytes32 digest = getRefundDigest(id, nonce, amount);
        if (!Signatures.isValid(config.receiverAuthorizer, digest, receiverAuthorizerSignature)) {
            revert InvalidSignature();
        }
        refundNonce[id] = nonce + 1;
        _refund(config, id, amount);
    }

    function refund(ChannelConfig calldata config, uint128 amount) external {
        if (msg.sender != config.receiverAuthorizer) revert NotAuthorized();
        _refund(config, getChannelId(config), amount);
    }

    /// @notice The payer's own way out: after the delay, whatever was not claimed by then.
    function initiateWithdraw(ChannelConfig calldata config, uint128 amount) external {
        if (msg.sender != config.payer && msg.sender != config.payerAuthorizer) revert NotAuthorized();
        if (amount == 0) revert InvalidAmount();
        bytes32 id = getChannelId(config);
        pendingWithdrawals[id] = Withdrawal(amount, uint40(block.timestamp));
        emit WithdrawInitiated(id, amount, uint40(block.timestamp) + config.withdrawDelay);
    }

    function finalizeWithdraw(ChannelConfig calldata config) external {
        bytes32 id = getChannelId(config);
        Withdrawal memory pending = pendingWithdrawals[id];
        if (pending.initiatedAt == 0 || block.timestamp < pending.initiatedAt + config.withdrawDelay) revert NotReady();
        delete pendingWithdrawals[id];
        uint128 amount = _giveBack(config, id, pending.amount);
        emit WithdrawFinalized(id, msg.sender, amount);
    }

    // --------------------------------------------------------------------- several at once

    /// @dev Each call as if its sender had made it.
    function multicall(bytes[] calldata data) external returns (bytes[] memory results) {
        results = new bytes[](data.length);
        for (uint256 i = 0; i < data.length; ++i) {
            (bool success, bytes memory result) = address(this).delegatecall(data[i]);
            if (!success) {
                assembly ("memory-safe") {
                    revert(add(result, 0x20), mload(result))
                }
            }
            results[i] = result;
        }
    }

    // --------------------------------------------------------------------- what is signed

    /// @notice A channel's name: bound to this chain and this contract.
    function getChannelId(ChannelConfig calldata config) public view returns (bytes32) {
        return _digest(
            keccak256(
                abi.encode(
                    CONFIG_TYPEHASH,
                    config.payer,
                    config.payerAuthorizer,
                    config.receiver,
                    config.receiverAuthorizer,
                    config.token,
                    config.withdrawDelay,
                    config.salt
                )
            )
        );
    }

    function getVoucherDigest(bytes32 channelId, uint128 maxClaimableAmount) public view returns (bytes32) {
        return _digest(keccak256(abi.encode(VOUCHER_TYPEHASH, channelId, maxClaimableAmount)));
    }

    function getRefundDigest(bytes32 channelId, uint256 nonce, uint128 amount) public view returns (bytes32) {
        return _digest(keccak256(abi.encode(REFUND_TYPEHASH, channelId, nonce, amount)));
    }

    function getClaimBatchDigest(VoucherClaim[] calldata claims) public view returns (bytes32) {
        bytes32[] memory entries = new bytes32[](claims.length);
        for (uint256 i = 0; i < claims.length; ++i) {
            bytes32 id = getChannelId(claims[i].voucher.channel);
            entries[i] = keccak256(
                abi.encode(ENTRY_TYPEHASH, id, claims[i].voucher.maxClaimableAmount, claims[i].totalClaimed)
            );
        }
        return _digest(keccak256(abi.encode(BATCH_TYPEHASH, keccak256(abi.encodePacked(entries)))));
    }

    function _digest(bytes32 structHash) private view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                DOMAIN_TYPEHASH, keccak256("x402 Batch Settlement"), keccak256("1"), block.chainid, address(this)
            )
        );
        return keccak256(abi.encodePacked("\x19\x01", domain, structHash));
    }

    // --------------------------------------------------------------------- inside

    /// @dev Claims never go down: one that an earlier claim has overtaken changes nothing.
    function _claim(VoucherClaim calldata entry) private {
        ChannelConfig calldata config = entry.voucher.channel;
        bytes32 id = getChannelId(config);
        if (entry.totalClaimed > entry.voucher.maxClaimableAmount) revert ExceedsVoucher();
        Channel storage channel = channels[id];
        if (entry.totalClaimed > channel.balance) revert ExceedsBalance();
        if (entry.totalClaimed <= channel.totalClaimed) return;
        bytes32 digest = getVoucherDigest(id, entry.voucher.maxClaimableAmount);
        bool signed = config.payerAuthorizer == address(0)
            ? Signatures.isValid(config.payer, digest, entry.signature)
            : Signatures.recover(digest, entry.signature) == config.payerAuthorizer;
        if (!signed) revert InvalidSignature();
        uint128 amount = entry.totalClaimed - channel.totalClaimed;
        channel.totalClaimed = entry.totalClaimed;
        receivers[config.receiver][config.token].totalClaimed += amount;
        emit Claimed(id, msg.sender, amount, entry.totalClaimed);
    }

    function _refund(ChannelConfig calldata config, bytes32 id, uint128 amount) private {
        delete pendingWithdrawals[id];
        uint128 given = _giveBack(config, id, amount);
        if (given == 0) revert InvalidAmount();
        emit Refunded(id, msg.sender, given);
    }

    /// @dev As much of `amount` as was not claimed.
    function _giveBack(ChannelConfig calldata config, bytes32 id, uint128 amount) private returns (uint128) {
        Channel storage channel = channels[id];
        uint128 free = channel.balance - channel.totalClaimed;
        if (amount > free) amount = free;
        channel.balance -= amount;
        if (amount > 0 && !IToken(config.token).transfer(config.payer, amount)) revert InvalidAmount();
        return amount;
    }
}
