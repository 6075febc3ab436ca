//! Divergence: a block whose header does not say what executing it gives here, as a file
//! with everything that is needed to execute it again on any machine.
//!
//! The state comes with its proof from the parent's root, so that a reader believes nothing
//! but the parent's id, and can compare that with any copy of the chain. The layout is
//! written down in `specs/storage.md`. Nothing here decides what becomes of the block.

mod examine;
mod file;

use std::collections::BTreeMap;

use ait_engine::block::{Block, Header};
use ait_engine::codec::{Canonical, DecodeError, Reader, Writer};
use ait_engine::execute::{BlockError, StateFault, rebuild_block};
use ait_engine::limits::BLOCK_TRANSACTION_COUNT_MAX;
use ait_engine::outcome::Outcome;
use ait_engine::state::{Leaf, RecordedState, Recording, StateView, decode_leaves, encode_leaves};
use ait_engine::transaction::{Transaction, VerifiedTransaction};

pub use examine::{Examined, Field, SignatureFault, Touched, Verdict, examine};
pub use file::{BundleError, FILES_MAX, read, report, write};

/// Longest text in a bundle, in bytes.
const TEXT_BYTES_MAX: usize = 4_096;

/// What executing a block gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Executed {
    /// The block as it should be.
    Block(Box<Rebuilt>),
    /// There is no such block.
    Refused {
        /// Why not; at most 4 KiB.
        reason: String,
    },
}

/// A block as executing its transactions gives it, without them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// The header.
    pub header: Header,
    /// An outcome for each transaction, in order.
    pub outcomes: Vec<Outcome>,
    /// New and changed entries of the state by number.
    pub leaves: BTreeMap<u64, Leaf>,
}

impl Executed {
    /// The rebuilt block, if there is one.
    #[must_use]
    pub fn rebuilt(&self) -> Option<&Rebuilt> {
        match self {
            Self::Block(rebuilt) => Some(rebuilt),
            Self::Refused { .. } => None,
        }
    }
}

/// A block, the state that it is executed over, and what that gave where this was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// Program and machine that made it; at most 4 KiB.
    pub made_by: String,
    /// What was wrong with the block there; at most 4 KiB.
    pub reason: String,
    /// Header of the block before.
    pub parent: Header,
    /// The block as its proposer made it.
    pub block: Block,
    /// What executing it reads of the state after the parent, and the proof of that.
    pub state: RecordedState,
    /// What executing it gave there.
    pub executed: Executed,
}

impl Divergence {
    /// Executes a block over the state of `parent`, recording what that reads. The
    /// signatures of its transactions must have been verified.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn record<V: StateView>(
        view: V,
        parent: &Header,
        block: &Block,
        reason: &str,
    ) -> Result<Self, StateFault<V::Error>> {
        let recording = Recording::new(view);
        let transactions = block.transactions.iter().cloned();
        let verified = transactions.map(VerifiedTransaction::assume_verified).collect();
        let executed = execute(&recording, parent, &block.header, verified)?;
        if let Err(error) = recording.prove() {
            // What was executed is there all the same; the reader will see that it is unproven.
            tracing::warn!(%error, "the state that a block was executed over cannot be proven");
        }
        Ok(Self {
            made_by: made_by(),
            reason: bounded(reason),
            parent: parent.clone(),
            block: block.clone(),
            state: recording.into_recorded(),
            executed,
        })
    }
}

/// This program and machine.
#[must_use]
pub fn made_by() -> String {
    let (version, arch) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    format!("ait-node {version} on {arch}-{}", std::env::consts::OS)
}

/// Builds the block again.
fn execute<V: StateView>(
    view: V,
    parent: &Header,
    header: &Header,
    transactions: Vec<VerifiedTransaction>,
) -> Result<Executed, StateFault<V::Error>> {
    match rebuild_block(view, parent, header, &transactions) {
        Ok((block, transition)) => Ok(Executed::Block(Box::new(Rebuilt {
            header: block.header,
            outcomes: transition.outcomes,
            leaves: transition.writes.leaves.into_iter().collect(),
        }))),
        Err(BlockError::State(fault)) => Err(fault),
        Err(error) => Ok(Executed::Refused { reason: bounded(&error.to_string()) }),
    }
}

/// As much of a text as a bundle takes.
fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

impl Canonical for Executed {
    fn encode_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Refused { reason } => {
                out.put_u8(0);
                out.put_bytes(bounded(reason).as_bytes());
            }
            Self::Block(rebuilt) => {
                out.put_u8(1);
                rebuilt.header.encode_to(out);
                out.put_count(rebuilt.outcomes.len());
                for outcome in &rebuilt.outcomes {
                    outcome.encode_to(out);
                }
                encode_leaves(&rebuilt.leaves, out);
            }
        }
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if !reader.flag("execution result")? {
            let reason = reader.text("reason", TEXT_BYTES_MAX)?.to_owned();
            return Ok(Self::Refused { reason });
        }
        let header = Header::decode_from(reader)?;
        let outcomes = list(reader, "outcome count")?;
        Ok(Self::Block(Box::new(Rebuilt { header, outcomes, leaves: decode_leaves(reader)? })))
    }
}

impl Canonical for Divergence {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_bytes(bounded(&self.made_by).as_bytes());
        out.put_bytes(bounded(&self.reason).as_bytes());
        self.parent.encode_to(out);
        self.block.header.encode_to(out);
        // With a count of their own: the header's may be what is wrong.
        out.put_count(self.block.transactions.len());
        for transaction in &self.block.transactions {
            transaction.encode_to(out);
        }
        self.state.encode_to(out);
        self.executed.encode_to(out);
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let made_by = reader.text("program", TEXT_BYTES_MAX)?.to_owned();
        let reason = reader.text("reason", TEXT_BYTES_MAX)?.to_owned();
        let parent = Header::decode_from(reader)?;
        let header = Header::decode_from(reader)?;
        let transactions: Vec<Transaction> = list(reader, "transaction count")?;
        let state = RecordedState::decode_from(reader)?;
        let executed = Executed::decode_from(reader)?;
        let block = Block { header, transactions };
        Ok(Self { made_by, reason, parent, block, state, executed })
    }
}

/// Objects behind their count, as many as a block may hold. Memory follows what is there.
fn list<T: Canonical>(reader: &mut Reader<'_>, what: &'static str) -> Result<Vec<T>, DecodeError> {
    let max = usize::try_from(BLOCK_TRANSACTION_COUNT_MAX).unwrap_or(usize::MAX);
    let count = reader.count(what, max)?;
    (0..count).map(|_| T::decode_from(reader)).collect()
}

#[cfg(test)]
mod tests;
