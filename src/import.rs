//! Certified blocks from outside: the one way in for `blocks/import`, cross-site sync and
//! sync from peers. What is handed in is verified, executed and committed by the
//! sequencer's thread, or refused with a code.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ait_engine::block::{Block, CertifiedBlock, CertifyError};
use ait_engine::certificate::Certificate;
use ait_engine::transaction::VerifiedTransaction;
use ait_engine::types::{BlockId, Height};
use ait_engine::validator::ValidatorSet;

use tokio::sync::{mpsc, oneshot};

use crate::chain::{Chain, Verify};
use crate::disk::Shortage;
use crate::mempool::Mempool;
use crate::sequencer::{Full, Inbox, Input};

/// Blocks that are verified together at most.
const TOGETHER_MAX: usize = 64;

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
    /// The disk has no room for it.
    #[error("the node takes no block for now: {0}")]
    Paused(Shortage),
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
            Self::Paused(shortage) => shortage.code(),
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
            Self::Paused(shortage) => shortage.hint(),
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

/// A block on its way to the sequencer's thread, and who waits for the answer.
#[derive(Debug)]
struct Waiting {
    import: ImportBlock,
    reply: Reply,
}

/// Hands blocks in; clones share one queue.
#[derive(Debug, Clone)]
pub struct Importer {
    /// Nothing ends the desk.
    queue: mpsc::Sender<Option<Waiting>>,
}

impl Importer {
    /// Hands a block in and waits until it is committed or refused.
    ///
    /// # Errors
    /// [`ImportError`]: why it is not committed.
    pub async fn import(&self, import: ImportBlock) -> Result<Imported, ImportError> {
        self.hand_in(import)?.await.unwrap_or(Err(ImportError::Stopping))
    }

    /// Hands a block in; the answer comes later. Blocks that were handed in one after the
    /// other are verified together.
    ///
    /// # Errors
    /// [`ImportError::Busy`] when too many wait, [`ImportError::Stopping`].
    pub fn hand_in(
        &self,
        import: ImportBlock,
    ) -> Result<oneshot::Receiver<Result<Imported, ImportError>>, ImportError> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(Some(Waiting { import, reply })).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ImportError::Busy,
            mpsc::error::TrySendError::Closed(_) => ImportError::Stopping,
        })?;
        Ok(answer)
    }

    /// Ends the desk, once what waits before it is done. If the line is full the desk is at
    /// work, and looks at its flag itself.
    pub(crate) fn close(&self) {
        let _ = self.queue.try_send(None);
    }
}

/// The other end of [`Importer`]: verifies what is handed in, passes it to the sequencer,
/// and brings the answers back.
#[derive(Debug)]
pub struct ImportDesk {
    queue: mpsc::Receiver<Option<Waiting>>,
    answers: Arc<Answers>,
}

/// Who waits for which answer.
#[derive(Debug, Default)]
pub struct Answers(Mutex<BTreeMap<u64, Reply>>);

impl Answers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Reply>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the answer to whoever waits for it.
    pub fn give(&self, id: u64, result: Result<Imported, ImportError>) {
        if let Some(reply) = self.lock().remove(&id) {
            // Whoever asked may be gone.
            let _ = reply.send(result);
        }
    }
}

impl ImportDesk {
    /// An importer for at most `count_max` waiting blocks, and its other end.
    #[must_use]
    pub fn new(count_max: usize) -> (Importer, Self) {
        let (queue, out) = mpsc::channel(count_max);
        (Importer { queue }, Self { queue: out, answers: Arc::default() })
    }

    /// Where the sequencer's answers go.
    #[must_use]
    pub fn answers(&self) -> Arc<Answers> {
        Arc::clone(&self.answers)
    }

    /// Works until the importer is closed or told to stop. For a thread of its own.
    pub fn run(mut self, chain: &Chain, mempool: &Mempool, inbox: &Inbox, stop: &AtomicBool) {
        let mut next_id = 0;
        while let Some(Some(first)) = self.queue.blocking_recv() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let mut waiting = vec![first];
            while waiting.len() < TOGETHER_MAX
                && let Ok(Some(next)) = self.queue.try_recv()
            {
                waiting.push(next);
            }
            match chain.validators() {
                Ok(validators) => {
                    let (blocks, replies): (Vec<_>, Vec<_>) =
                        waiting.into_iter().map(|one| (one.import, one.reply)).unzip();
                    let verify = &mut |all| mempool.verify(all);
                    let (prepared, error) = prepare(blocks, &validators, verify);
                    let mut error = error;
                    let mut prepared = prepared.into_iter();
                    for reply in replies {
                        let Some(prepared) = prepared.next() else {
                            // The first is at fault; those behind it may be others' good ones.
                            let error = error.take().unwrap_or(ImportError::Busy);
                            let _ = reply.send(Err(error));
                            continue;
                        };
                        next_id += 1;
                        self.answers.lock().insert(next_id, reply);
                        self.hand_over(next_id, prepared, inbox, stop);
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "blocks cannot be imported");
                    return;
                }
            }
        }
    }

    fn hand_over(&self, id: u64, prepared: Prepared, inbox: &Inbox, stop: &AtomicBool) {
        let mut input = Input::Import { id, prepared: Box::new(prepared) };
        while let Err(Full(back)) = inbox.push(input) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            input = *back;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
