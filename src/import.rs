//! Certified blocks from outside: the one way in for `blocks/import`, cross-site sync and
//! sync from peers. What is handed in is verified, executed and committed by the
//! sequencer's thread, or refused with a code.

use ait_engine::block::{Block, CertifiedBlock, CertifyError};
use ait_engine::certificate::Certificate;
use ait_engine::transaction::VerifiedTransaction;
use ait_engine::types::{BlockId, Height};
use ait_engine::validator::ValidatorSet;

use crate::chain::Verify;

/// A block with the certificate that is said to make it final; nothing is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportBlock {
    /// Header and transactions.
    pub block: Block,
    /// The certificate.
    pub certificate: Certificate,
}

/// A block whose certificate and transactions were verified with the validators of some
/// height; whether it fits upon the chain is still open.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The block.
    pub certified: CertifiedBlock,
    /// Its transactions.
    pub transactions: Vec<VerifiedTransaction>,
}

/// Verifies certificates and signatures of blocks in few batches. Gives those before the
/// first that is not good, and what is wrong with that one. Takes a core for a while: not
/// for an async thread.
#[must_use]
pub fn prepare(
    blocks: Vec<ImportBlock>,
    validators: &ValidatorSet,
    verify: Verify<'_>,
) -> (Vec<Prepared>, Option<ImportError>) {
    let pairs = blocks.into_iter().map(|one| (one.block, one.certificate)).collect();
    let (certified, error) = CertifiedBlock::verify_all(pairs, validators);
    let mut error = error.map(|error| match error {
        CertifyError::Body => ImportError::BadBody { reason: error.to_string() },
        _ => ImportError::BadCertificate { reason: error.to_string() },
    });
    let all = certified.iter().flat_map(|one| one.block().transactions.iter().cloned()).collect();
    let mut verified = verify(all).into_iter();
    let mut prepared = Vec::with_capacity(certified.len());
    for certified in certified {
        let count = certified.block().transactions.len();
        match verified.by_ref().take(count).collect::<Result<Vec<_>, _>>() {
            Ok(transactions) => prepared.push(Prepared { certified, transactions }),
            Err(bad) => {
                error = Some(ImportError::BadBody { reason: bad.to_string() });
                break;
            }
        }
    }
    (prepared, error)
}

/// What became of a block that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    /// It is committed now.
    Committed,
    /// It was committed before.
    Exists,
}

/// Why a block was not imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Another block is final at its height.
    #[error("Block at height {height} already exists with different hash")]
    Conflict {
        /// The height.
        height: Height,
        /// The block that is final there.
        ours: BlockId,
    },
    /// The block before it is not here.
    #[error("Parent block not found: this node is at height {head}")]
    UnknownParent {
        /// Height of the newest block here.
        head: Height,
    },
    /// It is of another chain.
    #[error("the block is of chain {found}, this is {expected}")]
    OtherChain {
        /// The chain here.
        expected: String,
        /// The block's.
        found: String,
    },
    /// The certificate does not make it final.
    #[error("the certificate does not make the block final: {reason}")]
    BadCertificate {
        /// Why.
        reason: String,
    },
    /// A transaction's signature or the body is wrong.
    #[error("the block's transactions are not valid: {reason}")]
    BadBody {
        /// Why.
        reason: String,
    },
    /// Executing it gives something else than its header says, although a quorum signed it.
    #[error("executing the block does not give what its header says: {reason}")]
    BadRoot {
        /// Why.
        reason: String,
    },
    /// Too many blocks wait to be imported.
    #[error("too many blocks wait to be imported")]
    Busy,
    /// The node stops or failed.
    #[error("the node is stopping")]
    Stopping,
}

impl ImportError {
    /// Stable code, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "conflict",
            Self::UnknownParent { .. } => "unknown_parent",
            Self::OtherChain { .. } => "other_chain",
            Self::BadCertificate { .. } => "bad_certificate",
            Self::BadBody { .. } => "bad_body",
            Self::BadRoot { .. } => "bad_root",
            Self::Busy => "busy",
            Self::Stopping => "stopping",
        }
    }

    /// What the caller may do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => {
                "one of the two chains is not this one; compare genesis hashes"
            }
            Self::UnknownParent { .. } => "send the blocks before it first",
            Self::OtherChain { .. } => "send it to a node of its chain",
            Self::BadCertificate { .. } => {
                "a block needs the signatures of more than two thirds of the validators' power"
            }
            Self::BadBody { .. } => "fetch the block again from another node",
            Self::BadRoot { .. } => {
                "run ait-node explain on the divergence file that the log names"
            }
            Self::Busy => "try again in a moment",
            Self::Stopping => "send it to the node again once it is back",
        }
    }

    /// Whether who sent the block is at fault.
    #[must_use]
    pub const fn is_senders_fault(&self) -> bool {
        matches!(
            self,
            Self::Conflict { .. }
                | Self::OtherChain { .. }
                | Self::BadCertificate { .. }
                | Self::BadBody { .. }
        )
    }
}

type Reply = tokio::sync::oneshot::Sender<Result<Imported, ImportError>>;

/// Blocks on their way to the sequencer's thread, and who waits for the answer.
#[derive(Debug)]
pub struct Importing {
    /// The block.
    pub import: ImportBlock,
    /// Who waits.
    pub reply: Reply,
}

/// Hands blocks in; clones share one queue.
#[derive(Debug, Clone)]
pub struct Importer {
    queue: tokio::sync::mpsc::Sender<Importing>,
}

impl Importer {
    /// An importer and where its blocks come out.
    #[must_use]
    pub fn new(count_max: usize) -> (Self, tokio::sync::mpsc::Receiver<Importing>) {
        let (queue, out) = tokio::sync::mpsc::channel(count_max);
        (Self { queue }, out)
    }

    /// Hands a block in and waits until it is committed or refused.
    ///
    /// # Errors
    /// [`ImportError`]: why it is not committed.
    pub async fn import(&self, import: ImportBlock) -> Result<Imported, ImportError> {
        use tokio::sync::mpsc::error::TrySendError;
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.queue.try_send(Importing { import, reply }).map_err(|error| match error {
            TrySendError::Full(_) => ImportError::Busy,
            TrySendError::Closed(_) => ImportError::Stopping,
        })?;
        answer.await.unwrap_or(Err(ImportError::Stopping))
    }
}
