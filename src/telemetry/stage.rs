//! Where a transaction's time goes: how long each stage of the pipeline worked.
//!
//! `pipeline_stage_seconds` has one sum per stage. Its rate is the share of one core that
//! the stage takes; the stage on the sequencer's thread and the one on a thread of its own
//! that come near 1 are those that saturate next. `specs/performance.md` has the budget.

use std::time::Instant;

use metrics::histogram;

/// A stage, in the order in which a transaction passes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Signatures, on the ingress threads or for a received block.
    Verify,
    /// Senders' accounts read, mempool filled, journal written; on the ingress threads.
    Admit,
    /// Transactions applied, on the sequencer's thread.
    Execute,
    /// State commitment and roots, on the sequencer's thread.
    CommitTree,
    /// Bodies and records put into bytes, on the sequencer's thread.
    Encode,
    /// Bodies and records made durable, on the sequencer's thread.
    Persist,
    /// Consensus log and signer made durable, on the sequencer's thread.
    Vote,
    /// Indexes, on a thread of their own.
    Index,
    /// State tables on disk, on a thread of their own.
    Checkpoint,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Verify,
        Self::Admit,
        Self::Execute,
        Self::CommitTree,
        Self::Encode,
        Self::Persist,
        Self::Vote,
        Self::Index,
        Self::Checkpoint,
    ];

    /// The label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Admit => "admit",
            Self::Execute => "execute",
            Self::CommitTree => "commit_tree",
            Self::Encode => "encode",
            Self::Persist => "persist",
            Self::Vote => "vote",
            Self::Index => "index",
            Self::Checkpoint => "checkpoint",
        }
    }

    /// Does a piece of this stage's work and notes how long it took.
    pub fn time<T>(self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        let took = began.elapsed().as_secs_f64();
        histogram!("pipeline_stage_seconds", "stage" => self.name()).record(took);
        done
    }
}
