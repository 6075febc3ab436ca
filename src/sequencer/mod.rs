//! The sequencer: orders transactions into blocks with the other validators, and takes
//! the blocks that others made final.
//!
//! [`SequencerCore`] is a state machine without clock, thread or network: inputs and times
//! go in, effects come out. It owns the chain's single writer, so that whatever is
//! committed went through it. [`Inbox`] and [`run`] are the thread around it.
//!
//! A height is started only when something executable is pending and the block interval
//! has passed, or when another validator began it, so that an idle chain makes no block
//! and runs no time-out. A decision is committed before anything else is done. The first
//! fault ends the thread, and with it the node: to go on could sign twice.

mod core;
mod early;
mod inbox;
mod incoming;
mod port;
mod thread;

pub use core::{SequencerCore, Voter};
pub use inbox::{Full, Inbox};
pub use port::{Effect, Input, Offence, SequencerError, SequencerOptions};
pub use thread::{Begin, Outlet, run};
