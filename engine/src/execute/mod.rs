//! The state-transition function.
//!
//! A [`BlockBuilder`] applies transactions one by one to a state and gives a block
//! with its [`Transition`]; [`execute_block`] builds a received block again and
//! compares the headers, so that builder and validator cannot disagree. A
//! transaction that does not apply changes nothing and is refused; a block holds
//! none such. The rules are numbered in `specs/protocol.md`.
//!
//! Executing never commits: a transition is a value.

mod builder;
mod claim;
mod draft;
mod places;
mod refusal;

use draft::Draft;

pub use builder::{
    BlockBuilder, BlockError, EXPECTED_TOGETHER, Limit, Transition, execute_block, rebuild_block,
    refill_block,
};
pub use draft::StateFault;
pub use refusal::Refusal;

use crate::codec::DecodeError;
use crate::limits::NAME_BYTES_MAX;
use crate::outcome::{Outcome, Reward};
use crate::params::{ParamChange, ParamSet, Settings};
use crate::state::{Account, Coordinator, EntryKind, Key, Provider, StateView, Supply, Value};
use crate::transaction::{Payload, ProviderBind, VerifiedTransaction};
use crate::types::{Address, Amount, ChainId, Height, TimestampMs};

/// What a transaction may know of the block it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The chain.
    pub chain_id: ChainId,
    /// The block's height.
    pub height: Height,
    /// The block's time.
    pub time: TimestampMs,
}

/// Why a transaction was not applied: its own fault, or the state's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault<E> {
    /// The transaction does not apply; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The state cannot be used any more.
    #[error(transparent)]
    State(StateFault<E>),
}

impl<E> From<StateFault<E>> for Fault<E> {
    fn from(fault: StateFault<E>) -> Self {
        Self::State(fault)
    }
}

impl<E> Fault<E> {
    const fn corrupt(error: DecodeError) -> Self {
        Self::State(StateFault::Corrupt(error))
    }
}

/// A draft for the tests of the state's tree.
#[cfg(test)]
pub(crate) use draft::Draft as TestDraft;
#[cfg(test)]
pub(crate) fn test_draft<V: StateView>(view: V) -> TestDraft<V> {
    Draft::new(view, 7)
}

/// Applies one transaction; on `Err` nothing is staged.
fn apply<V: StateView>(
    draft: &mut Draft<V>,
    context: &Context,
    settings: &Settings,
    verified: &VerifiedTransaction,
) -> Result<Outcome, Fault<V::Error>> {
    let result = apply_staged(draft, context, settings, verified);
    match result {
        Ok(_) => draft.keep()?,
        Err(_) => draft.drop_staged(),
    }
    result
}

fn apply_staged<V: StateView>(
    draft: &mut Draft<V>,
    context: &Context,
    settings: &Settings,
    verified: &VerifiedTransaction,
) -> Result<Outcome, Fault<V::Error>> {
    let sender = verified.sender();
    pay_fee(draft, context, settings, verified)?;
    let transaction = verified.transaction();
    let rewards = match &transaction.payload {
        Payload::Transfer { to, amount } => {
            transfer(draft, &sender, to, *amount, transaction.fee)?;
            Vec::new()
        }
        Payload::ReceiptClaim(receipt_claim) => {
            claim::apply(draft, context, &settings.params, &sender, receipt_claim)?
        }
        Payload::Mint { to, amount } => {
            if settings.minter != Some(sender) {
                return Err(Refusal::NotMinter.into());
            }
            if *amount == Amount::ZERO {
                return Err(Refusal::AmountZero.into());
            }
            let rewards = vec![Reward { address: *to, amount: *amount }];
            mint(draft, &rewards)?;
            rewards
        }
        Payload::ParamSet(changes) => {
            if settings.governor != Some(sender) {
                return Err(Refusal::NotGovernor.into());
            }
            set_params(draft, settings, changes)?;
            Vec::new()
        }
        Payload::ProviderBind(bind) => {
            bind_provider(draft, &sender, bind)?;
            Vec::new()
        }
    };
    Ok(Outcome { tx_hash: verified.hash(), fee: transaction.fee, rewards })
}

/// Checks what every transaction must satisfy, takes its fee and uses its nonce.
fn pay_fee<V: StateView>(
    draft: &mut Draft<V>,
    context: &Context,
    settings: &Settings,
    verified: &VerifiedTransaction,
) -> Result<(), Fault<V::Error>> {
    let transaction = verified.transaction();
    if transaction.chain_id != context.chain_id {
        let (expected, found) = (context.chain_id, transaction.chain_id);
        return Err(Refusal::WrongChain { expected, found }.into());
    }
    if let Some(expires_at) = transaction.expires_at.filter(|last| *last < context.height) {
        return Err(Refusal::Expired { expires_at, height: context.height }.into());
    }
    let sender = verified.sender();
    let account = draft.account(&sender)?;
    let (expected, found) = (account.nonce, transaction.nonce);
    if found < expected {
        return Err(Refusal::NonceUsed { expected, found }.into());
    }
    if found > expected {
        return Err(Refusal::NonceGap { expected, found }.into());
    }
    let nonce = found.next().ok_or(Refusal::NonceExhausted { found })?;
    let fee = transaction.fee;
    let min = settings.params.min_fee(transaction.payload.byte_count()).unwrap_or(u64::MAX);
    if fee.get() < min {
        return Err(Refusal::FeeTooLow { found: fee, min }.into());
    }
    let balance = account
        .balance
        .checked_sub(fee)
        .ok_or(Refusal::InsufficientFunds { balance: account.balance, needed: fee })?;
    draft.put_account(&sender, Account { balance, nonce });
    Ok(())
}

fn transfer<V: StateView>(
    draft: &mut Draft<V>,
    sender: &Address,
    to: &Address,
    amount: Amount,
    fee: Amount,
) -> Result<(), Fault<V::Error>> {
    if amount == Amount::ZERO {
        return Err(Refusal::AmountZero.into());
    }
    if sender == to {
        return Err(Refusal::SelfTransfer.into());
    }
    let needed = amount.checked_add(fee).ok_or(Refusal::AmountOverflow { amount, fee })?;
    let account = draft.account(sender)?;
    let Some(left) = account.balance.checked_sub(amount) else {
        // The fee was taken already; say what the sender held before.
        let balance = account.balance.checked_add(fee).unwrap_or(Amount::MAX);
        return Err(Refusal::InsufficientFunds { balance, needed }.into());
    };
    draft.put_account(sender, Account { balance: left, ..account });
    credit(draft, to, amount)
}

/// Anybody may name any 32 bytes, the keys of other entries among them.
fn check_account(address: &Address) -> Result<(), Refusal> {
    if address.is_reserved() {
        return Err(Refusal::NotAnAccount { address: *address });
    }
    Ok(())
}

fn credit<V: StateView>(
    draft: &mut Draft<V>,
    address: &Address,
    amount: Amount,
) -> Result<(), Fault<V::Error>> {
    check_account(address)?;
    let account = draft.account(address)?;
    let balance = account
        .balance
        .checked_add(amount)
        .ok_or(Refusal::BalanceOverflow { address: *address })?;
    draft.put_account(address, Account { balance, ..account });
    Ok(())
}

/// Creates tokens: the supply grows by what the accounts get. Gives the sum.
fn mint<V: StateView>(draft: &mut Draft<V>, rewards: &[Reward]) -> Result<Amount, Fault<V::Error>> {
    let sum = rewards
        .iter()
        .try_fold(Amount::ZERO, |sum, reward| sum.checked_add(reward.amount))
        .ok_or(Refusal::RewardOverflow)?;
    let supply = supply(draft)?;
    let total = supply.total.checked_add(sum).ok_or(Refusal::SupplyOverflow)?;
    let minted = supply.minted.checked_add(sum).ok_or(Refusal::SupplyOverflow)?;
    draft.put(Key::supply(), Supply { total, minted }.into());
    for reward in rewards {
        credit(draft, &reward.address, reward.amount)?;
    }
    Ok(sum)
}

fn supply<V: StateView>(draft: &mut Draft<V>) -> Result<Supply, StateFault<V::Error>> {
    let value = draft.get(&Key::supply())?.ok_or(StateFault::Missing { what: "supply" })?;
    Supply::try_from(&value).map_err(StateFault::Corrupt)
}

fn set_params<V: StateView>(
    draft: &mut Draft<V>,
    settings: &Settings,
    changes: &ParamSet,
) -> Result<(), Fault<V::Error>> {
    let mut settings = *settings;
    for change in changes.changes() {
        match change {
            ParamChange::Param { name, value } => {
                settings.params.set(name, *value).map_err(Refusal::Param)?;
            }
            ParamChange::Coordinator { public_key, payout, active } => {
                check_account(payout)?;
                let coordinator = Coordinator { payout: *payout, active: *active };
                let value = Value::encoded(EntryKind::Coordinator, &coordinator);
                draft.put(Key::coordinator(public_key), value);
            }
            ParamChange::Governor { address } => settings.governor = Some(*address),
        }
    }
    draft.put(Key::settings(), Value::encoded(EntryKind::Settings, &settings));
    Ok(())
}

/// First come, first served; the owner may bind another key later.
fn bind_provider<V: StateView>(
    draft: &mut Draft<V>,
    sender: &Address,
    bind: &ProviderBind,
) -> Result<(), Fault<V::Error>> {
    let name = &bind.name;
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.parse::<Address>().is_ok() {
        return Err(Refusal::ProviderNameInvalid.into());
    }
    let key = Key::provider(name);
    if let Some(value) = draft.get(&key)? {
        let bound: Provider = value.decode(EntryKind::Provider).map_err(Fault::corrupt)?;
        if bound.account != *sender {
            return Err(Refusal::ProviderNameTaken { name: name.clone() }.into());
        }
    }
    let provider = Provider { account: *sender, receipt_key: bind.receipt_key };
    draft.put(key, Value::encoded(EntryKind::Provider, &provider));
    Ok(())
}
