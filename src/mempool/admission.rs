//! What is checked of a transaction before it may wait, by the rules of the chain
//! that need no more of the state than the sender's account and the settings.
//!
//! The engine decides what applies; nothing here lets anything into a block.

use ait_engine::execute::Refusal;
use ait_engine::params::Settings;
use ait_engine::state::Account;
use ait_engine::transaction::{Payload, Transaction, VerifiedTransaction};
use ait_engine::types::{Amount, ChainId, Height, Nonce};

/// What the chain demands of the transactions of its next block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The chain.
    pub chain_id: ChainId,
    /// Height of the state that accounts and settings were read from, or below it.
    pub head: Height,
    /// Parameters and roles.
    pub settings: Settings,
}

/// Checks all that holds whatever else is pending.
pub(super) fn check(
    verified: &VerifiedTransaction,
    account: &Account,
    rules: &Rules,
) -> Result<(), Refusal> {
    let transaction = verified.transaction();
    if transaction.chain_id != rules.chain_id {
        let (expected, found) = (rules.chain_id, transaction.chain_id);
        return Err(Refusal::WrongChain { expected, found });
    }
    check_expiry(transaction.expires_at, rules.head)?;
    check_nonce(transaction.nonce, account.nonce)?;
    let min = rules.settings.params.min_fee(transaction.payload.byte_count()).unwrap_or(u64::MAX);
    if transaction.fee.get() < min {
        return Err(Refusal::FeeTooLow { found: transaction.fee, min });
    }
    check_payload(verified, transaction, &rules.settings)
}

/// Whether one that expires at `expires_at` may stand in the block after `head`.
pub(super) fn check_expiry(expires_at: Option<Height>, head: Height) -> Result<(), Refusal> {
    match expires_at {
        Some(expires_at) if expires_at <= head => {
            Err(Refusal::Expired { expires_at, height: head.next().unwrap_or(head) })
        }
        _ => Ok(()),
    }
}

fn check_nonce(found: Nonce, expected: Nonce) -> Result<(), Refusal> {
    if found < expected {
        return Err(Refusal::NonceUsed { expected, found });
    }
    if found.next().is_none() {
        return Err(Refusal::NonceExhausted { found });
    }
    Ok(())
}

fn check_payload(
    verified: &VerifiedTransaction,
    transaction: &Transaction,
    settings: &Settings,
) -> Result<(), Refusal> {
    let sender = verified.sender();
    match &transaction.payload {
        Payload::Transfer { amount, .. } | Payload::Mint { amount, .. }
            if *amount == Amount::ZERO =>
        {
            Err(Refusal::AmountZero)
        }
        Payload::Transfer { to, .. } if *to == sender => Err(Refusal::SelfTransfer),
        Payload::Transfer { amount, .. } if amount.checked_add(transaction.fee).is_none() => {
            Err(Refusal::AmountOverflow { amount: *amount, fee: transaction.fee })
        }
        Payload::Mint { .. } if settings.minter != Some(sender) => Err(Refusal::NotMinter),
        Payload::ParamSet(_) if settings.governor != Some(sender) => Err(Refusal::NotGovernor),
        _ => Ok(()),
    }
}

/// Whether the account holds what this and the sender's earlier pending transactions take.
pub(super) fn check_funds(account: &Account, needed: u128) -> Result<(), Refusal> {
    if needed <= u128::from(account.balance.get()) {
        return Ok(());
    }
    let needed = u64::try_from(needed).ok().and_then(Amount::new).unwrap_or(Amount::MAX);
    Err(Refusal::InsufficientFunds { balance: account.balance, needed })
}
