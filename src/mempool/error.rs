//! Why the mempool does not take a transaction, and why it let one go.
//!
//! No fault of a peer or of storage is described here, but the journal's.

use ait_engine::execute::Refusal;
use ait_engine::types::{Amount, Height, Nonce, TimestampMs, TxHash};

use crate::disk::{Shortage, WriteFault};

/// Why a transaction is not taken. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MempoolError {
    /// The rules of the chain refuse it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its nonce is too far ahead of what the account uses next.
    #[error("nonce {found} is too far ahead, the highest that is kept is {expected}")]
    NonceTooFar {
        /// The highest nonce that would be kept.
        expected: Nonce,
        /// The transaction's.
        found: Nonce,
    },
    /// Another transaction has this nonce and the fee is not enough to replace it.
    #[error("nonce taken by a pending transaction; a fee of {expected} replaces it, found {found}")]
    ReplacementUnderpriced {
        /// The least fee that replaces it.
        expected: Amount,
        /// The transaction's.
        found: Amount,
    },
    /// The sender's pending transactions take all the bytes that one sender may.
    #[error(
        "the sender's pending transactions would take {found} bytes, at most {expected} are kept"
    )]
    SenderFull {
        /// Most bytes of one sender.
        expected: u64,
        /// What it would take.
        found: u64,
    },
    /// Full of transactions that pay at least as much for a byte.
    #[error("the mempool is full of transactions that pay at least as much per byte")]
    Full,
    /// The disk has no room for its record. Nothing is accepted until it has.
    #[error("the node accepts nothing for now: {0}")]
    Paused(Shortage),
    /// The account was read before a block that the mempool has already seen.
    #[error("the account was read at height {found}, the mempool is at {expected}")]
    Outdated {
        /// The mempool's height.
        expected: Height,
        /// Height of the account.
        found: Height,
    },
    /// The journal cannot be written, so that nothing may be promised any more. The
    /// exception to "nothing was changed": until the node ends, a block may still hold it.
    #[error("the mempool's journal cannot be written: {reason}")]
    Journal {
        /// What the system says.
        reason: String,
    },
}

impl MempoolError {
    /// Stable code, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::NonceTooFar { .. } => "nonce_too_far",
            Self::ReplacementUnderpriced { .. } => "replacement_underpriced",
            Self::SenderFull { .. } => "sender_full",
            Self::Full => "mempool_full",
            Self::Paused(shortage) => shortage.code(),
            Self::Outdated { .. } => "outdated",
            Self::Journal { .. } => "mempool_unavailable",
        }
    }

    /// What the caller may do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal_hint(refusal),
            Self::NonceTooFar { .. } => "send the transactions with the lower nonces first",
            Self::ReplacementUnderpriced { .. } => {
                "raise the fee by at least a tenth, or use the next free nonce"
            }
            Self::SenderFull { .. } => {
                "wait until some of the sender's transactions are in a block"
            }
            Self::Full => "raise the fee, or try again after the next block",
            Self::Paused(_) => "send it to another node, or again when this one has room",
            Self::Outdated { .. } => "send it again",
            Self::Journal { .. } => "the node's operator must free or repair its disk",
        }
    }
}

const fn refusal_hint(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::WrongChain { .. } => "sign it for this chain's id",
        Refusal::Expired { .. } => "sign it again with a later expiry height",
        Refusal::NonceUsed { .. } => "sign it again with the account's next nonce",
        Refusal::FeeTooLow { .. } => "sign it again with the fee that estimateFee answers",
        Refusal::InsufficientFunds { .. } => {
            "lower the amount, or fund the account; pending transactions count too"
        }
        Refusal::NotAnAccount { .. } | Refusal::SelfTransfer => "name another recipient",
        Refusal::AmountZero | Refusal::AmountOverflow { .. } => "sign it again with another amount",
        Refusal::ReceiptClaimed { .. } | Refusal::JobClaimed { .. } => {
            "a receipt and its job are paid once; claim another"
        }
        Refusal::AttestationsMissing { .. } | Refusal::CoordinatorUnknown { .. } => {
            "have coordinators of this chain attest it: ait-node receipt attest"
        }
        Refusal::ProviderMismatch { .. } => "let the receipt's provider send the claim",
        Refusal::ProviderUnknown { .. } => {
            "bind the name to an account with a PROVIDER_BIND transaction, or use an address"
        }
        Refusal::ProviderKeyMismatch => "sign the receipt with the provider's own key",
        Refusal::ReceiptFromFuture { .. } => "wait until the job's end has passed",
        Refusal::NotMinter | Refusal::NotGovernor => "sign it with the key of that role",
        Refusal::NonceGap { .. } => "send the transactions with the lower nonces first",
        _ => "correct the transaction and sign it again",
    }
}

/// Why a transaction that was taken is no longer pending, though no block holds it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DropReason {
    /// The rules of the chain refuse it now.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Another with the same nonce and a higher fee took its place.
    #[error("replaced by {by}, which has the same nonce and pays more")]
    Replaced {
        /// The other's hash.
        by: TxHash,
    },
    /// The mempool was full and another paid more for a byte.
    #[error("the mempool was full and a transaction that pays more per byte took its place")]
    Evicted,
    /// The sender's bytes were used up, and one with a lower nonce came.
    #[error("the sender's room in the mempool was needed for a lower nonce")]
    SenderFull,
    /// It waited too long.
    #[error("it was pending since {added_at} ms, longer than the {ttl_ms} ms that one is kept")]
    TooOld {
        /// When it came.
        added_at: TimestampMs,
        /// How long one is kept.
        ttl_ms: u64,
    },
    /// It did not verify, or was not taken again, when the node started.
    #[error("not taken again when the node started: {reason}")]
    NotRestored {
        /// Code of the refusal.
        code: &'static str,
        /// Its text.
        reason: String,
    },
}

impl DropReason {
    /// Stable code, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Replaced { .. } => "replaced",
            Self::Evicted => "evicted",
            Self::SenderFull => "sender_full",
            Self::TooOld { .. } => "too_old",
            Self::NotRestored { code, .. } => code,
        }
    }
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("mempool journal {path}: cannot {action}: {source}")]
pub struct JournalError {
    /// Which file.
    pub path: String,
    /// What was tried.
    pub action: &'static str,
    /// What the system says.
    pub source: std::io::Error,
}

impl JournalError {
    /// The same, to be kept and told again.
    pub(super) fn kept(&self) -> WriteFault {
        let Self { path, action, source } = self;
        WriteFault::of(&format_args!("mempool journal {path}: cannot {action}"), source)
    }
}
