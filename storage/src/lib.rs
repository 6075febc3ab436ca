//! Storage: named tables of ordered byte keys, read through consistent snapshots and changed by
//! atomic batches, on whichever engine the operator chose.
//!
//! Every engine and every wrapper keeps the promises written on [`Storage`] and [`Snapshot`] and
//! passes the one suite in [`contract`]; `specs/storage.md` says the same for operators.
//!
//! The interface is synchronous. One thread owns writing; asynchronous code reads through
//! blocking tasks, because a read may wait for the disk.
//!
//! Nothing here knows what a block, an account or a table's contents are, reads a clock, or
//! decides to retry.

mod batch;
pub mod contract;
mod error;
mod faulty;
mod key_range;
pub mod limits;
mod memory;
mod redb_storage;
mod stats;
mod storage;
mod table;
mod value;

pub use batch::Batch;
pub use error::{LimitKind, Place, StorageError, StorageErrorKind};
pub use faulty::{Fault, FaultEffect, FaultMoment, FaultPlan, Faulty, Operation};
pub use key_range::{Direction, KeyRange};
pub use memory::MemoryStorage;
pub use redb_storage::{
    DiskFault, Mend, PanicIn, RedbOptions, RedbStorage, SimulatedDisk, note_panic,
};
pub use stats::TableStats;
pub use storage::{Durability, Entry, EntryIterator, NextPart, Snapshot, Storage};
pub use table::Table;
pub use value::Value;
