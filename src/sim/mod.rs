//! The simulator: a whole cluster in one thread, with virtual time and one random seed.
//!
//! What ships runs here: protocol, sequencer, consensus with its log and signer, mempool
//! with its journal, chain and storage engines. Simulated are the clock, the links between
//! nodes, clients, and what goes wrong. A seed and a commit reproduce a run.

mod check;
mod device;
mod disk;
mod faults;
mod node;
mod plan;
mod ports;
mod replay;
mod shrink;
mod store;
mod violation;
mod world;

pub use crate::planted::Bug;
pub use faults::{FaultCounts, FaultKind, Faults};
pub use plan::SimOptions;
pub use shrink::shrink;
pub use violation::Violation;

use world::World;

/// How a run went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimReport {
    /// The seed.
    pub seed: u64,
    /// Height that every node reached.
    pub height: u64,
    /// Transactions that were accepted, and all of which are final.
    pub transactions: u64,
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    /// Events that were handled.
    pub events: u64,
    /// What went wrong on purpose.
    pub faults: FaultCounts,
    /// Rounds beyond the first that decided heights needed.
    pub extra_rounds: u64,
    /// Greatest round of a block made once nothing was wrong any more.
    pub healed_round: u64,
    /// How often all was mended meanwhile, but for validators that went on lying, and every node
    /// then had a new block.
    pub mended: u64,
    /// How often a node took nothing from a peer for a while that sent what is refused.
    pub pauses: u64,
    /// Hash of everything that happened: the same seed gives the same.
    pub trace: String,
}

/// A run that broke a promise.
#[derive(Debug, thiserror::Error)]
#[error("seed {seed}: {violation}")]
pub struct SimFailure {
    /// The seed.
    pub seed: u64,
    /// What was broken.
    pub violation: Violation,
    /// Virtual milliseconds when it was found.
    pub virtual_ms: u64,
    /// What went wrong on purpose until then.
    pub faults: FaultCounts,
    /// The last things that happened.
    pub trace: Vec<String>,
}

/// Runs a cluster with this seed.
///
/// # Errors
/// [`SimFailure`]: which promise was broken, and what led to it.
pub fn run(seed: u64, options: &SimOptions) -> Result<SimReport, Box<SimFailure>> {
    World::new(seed, options.clone()).run()
}
