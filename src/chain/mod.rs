//! The chain as this node has it: certified blocks, the state after them, and
//! indexes over both.
//!
//! Three stores, each atomic by itself: `blocks` is written and synced before a block
//! counts as final, but for what the log of consensus has, which is written right after;
//! `state` follows in checkpoints, with what
//! lies between in memory; `index` is derived, may fall behind, and catches up by
//! itself. One rule keeps them consistent: on disk no state and no index is above the
//! blocks. At start the blocks after the checkpoint are executed again.
//!
//! [`Chain`] reads and may be shared; [`ChainWriter`] is the single writer.
//! No rule of validity is here: `ait_engine::execute` decides.

mod background;
mod blocks;
mod certified;
mod checkpoint;
mod divergence;
mod error;
mod fingerprint;
mod import;
mod index;
mod numbers;
mod open;
mod pages;
mod proven;
mod read;
mod resident;
mod state;
mod stores;
mod tables;
mod view;
mod writer;

pub use background::Step;
pub use blocks::{BlockStore, CommittedBlock, GenesisSource};
pub use error::ChainError;
pub use import::ImportFailure;
pub use index::{AccountStats, Index, Location, Side};
pub use open::{ChainOptions, OpenProgress, open};
pub use read::{Chain, Head, Proven};
pub use state::{CheckpointPolicy, StateStore};
pub use stores::{StorageEngine, Stores, StoresOptions};
pub use view::{StateReader, ViewError};
pub(crate) use writer::trusted;
pub use writer::{BlockFault, Built, ChainWriter, CommitError, Verify};
