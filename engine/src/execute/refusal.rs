//! Why a transaction does not apply to a state, each with a stable code.

use crate::params::ParamError;
use crate::receipt::ReceiptError;
use crate::types::{Address, Amount, ChainId, Height, Nonce};

/// Why a transaction does not apply. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are what the messages say")]
pub enum Refusal {
    /// Signed for another chain.
    #[error("the transaction is for chain {found}, this is {expected}")]
    WrongChain { expected: ChainId, found: ChainId },
    /// Its last height has passed.
    #[error("the transaction expired at height {expires_at}, the next block is {height}")]
    Expired { expires_at: Height, height: Height },
    /// The nonce was used.
    #[error("nonce {found} was already used, the next one is {expected}")]
    NonceUsed { expected: Nonce, found: Nonce },
    /// Transactions with lower nonces are missing.
    #[error("nonce {found} leaves a gap, the next one is {expected}")]
    NonceGap { expected: Nonce, found: Nonce },
    /// The nonce has no successor.
    #[error("nonce {found} is the last there is and cannot be used")]
    NonceExhausted { found: Nonce },
    /// The fee is below what a block enforces.
    #[error("the fee is {found}, at least {min} is needed")]
    FeeTooLow { found: Amount, min: u64 },
    /// Amount and fee together overflow.
    #[error("amount {amount} plus fee {fee} is over the largest amount")]
    AmountOverflow { amount: Amount, fee: Amount },
    /// The sender holds less than it spends.
    #[error("the sender holds {balance}, {needed} is needed")]
    InsufficientFunds { balance: Amount, needed: Amount },
    /// Nothing is moved.
    #[error("the amount must be at least 1")]
    AmountZero,
    /// Sender and recipient are one.
    #[error("sender and recipient are the same account")]
    SelfTransfer,
    /// The address is reserved.
    #[error("{address} is no account's address: it begins with eight zero bytes")]
    NotAnAccount { address: Address },
    /// The recipient's balance would overflow.
    #[error("the balance of {address} would be over the largest amount")]
    BalanceOverflow { address: Address },
    /// The total supply would overflow.
    #[error("the supply would be over the largest amount")]
    SupplyOverflow,
    /// The sender is not the minter, or there is none.
    #[error("the sender is not the minter of this chain")]
    NotMinter,
    /// The sender is not the governor, or there is none.
    #[error("the sender is not the governor of this chain")]
    NotGovernor,
    /// A parameter does not take its new value.
    #[error("{0}")]
    Param(ParamError),
    /// The receipt breaks a rule of its own.
    #[error("the receipt is not valid: {0}")]
    ReceiptMalformed(ReceiptError),
    /// The receipt names another chain.
    #[error("the receipt is for chain {found}, this is {expected}")]
    ReceiptWrongChain { expected: ChainId, found: String },
    /// Completed too long ago.
    #[error(
        "the receipt was completed at {completed_at}, more than {max_age} seconds before the block"
    )]
    ReceiptExpired { completed_at: u64, max_age: u64 },
    /// Completed after the block's time.
    #[error("the receipt is completed at {completed_at}, after the block's time {block_time}")]
    ReceiptFromFuture { completed_at: u64, block_time: u64 },
    /// More units than one receipt may have.
    #[error("the receipt has {found} millionths of a unit, at most {max} are allowed")]
    UnitsOverMaximum { found: u64, max: u64 },
    /// The units are worth nothing.
    #[error("the receipt's units are worth less than one base unit")]
    RewardZero,
    /// The reward overflows.
    #[error("the reward is over the largest amount")]
    RewardOverflow,
    /// The receipt id was claimed.
    #[error("receipt {receipt_id} was already claimed")]
    ReceiptClaimed { receipt_id: String },
    /// The job was claimed under another receipt.
    #[error("job {job_id} was already claimed")]
    JobClaimed { job_id: String },
    /// The provider's name belongs to no account.
    #[error("provider {provider:?} is not bound to an account")]
    ProviderUnknown { provider: String },
    /// The receipt belongs to somebody else.
    #[error("the receipt belongs to {expected}, not to the sender")]
    ProviderMismatch { expected: Address },
    /// Signed by a key that is not the provider's.
    #[error("the receipt is signed by a key that is not the provider's")]
    ProviderKeyMismatch,
    /// The name is an address, or empty or too long.
    #[error("a provider name has 1 to {max} characters and is not an address", max = crate::limits::NAME_BYTES_MAX)]
    ProviderNameInvalid,
    /// The name belongs to somebody else.
    #[error("provider name {name:?} is taken")]
    ProviderNameTaken { name: String },
    /// Too few known, active coordinators attested.
    #[error("{found} known coordinators attested, {needed} are needed")]
    AttestationsMissing { found: u64, needed: u64 },
    /// An attestation of a key that is no active coordinator.
    #[error("{coordinator} is not an active coordinator")]
    CoordinatorUnknown { coordinator: crate::crypto::PublicKey },
}

impl Refusal {
    /// Stable code, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::WrongChain { .. } => "wrong_chain",
            Self::Expired { .. } => "expired",
            Self::NonceUsed { .. } => "nonce_used",
            Self::NonceGap { .. } => "nonce_gap",
            Self::NonceExhausted { .. } => "nonce_exhausted",
            Self::FeeTooLow { .. } => "fee_too_low",
            Self::AmountOverflow { .. } => "amount_overflow",
            Self::InsufficientFunds { .. } => "insufficient_funds",
            Self::AmountZero => "amount_zero",
            Self::SelfTransfer => "self_transfer",
            Self::NotAnAccount { .. } => "not_an_account",
            Self::BalanceOverflow { .. } => "balance_overflow",
            Self::SupplyOverflow => "supply_overflow",
            Self::NotMinter => "not_minter",
            Self::NotGovernor => "not_governor",
            Self::Param(ParamError::Unknown { .. }) => "param_unknown",
            Self::Param(ParamError::OutOfBounds { .. }) => "param_out_of_bounds",
            Self::ReceiptMalformed(_) => "receipt_malformed",
            Self::ReceiptWrongChain { .. } => "receipt_wrong_chain",
            Self::ReceiptExpired { .. } => "receipt_expired",
            Self::ReceiptFromFuture { .. } => "receipt_from_future",
            Self::UnitsOverMaximum { .. } => "units_over_maximum",
            Self::RewardZero => "reward_zero",
            Self::RewardOverflow => "reward_overflow",
            Self::ReceiptClaimed { .. } => "receipt_claimed",
            Self::JobClaimed { .. } => "job_claimed",
            Self::ProviderUnknown { .. } => "provider_unknown",
            Self::ProviderMismatch { .. } => "provider_mismatch",
            Self::ProviderKeyMismatch => "provider_key_mismatch",
            Self::ProviderNameInvalid => "provider_name_invalid",
            Self::ProviderNameTaken { .. } => "provider_name_taken",
            Self::AttestationsMissing { .. } => "attestations_missing",
            Self::CoordinatorUnknown { .. } => "coordinator_unknown",
        }
    }

    /// Whether a later state may take the transaction as it is.
    #[must_use]
    pub const fn may_apply_later(&self) -> bool {
        matches!(
            self,
            Self::NonceGap { .. } | Self::InsufficientFunds { .. } | Self::ReceiptFromFuture { .. }
        )
    }
}
