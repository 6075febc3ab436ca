//! Fetching certified blocks from several peers at once, as a state machine.
//!
//! Peers' heights, answers and times go in; requests and blocks in order come out. It
//! knows what is missing, from whom it was asked, what waits to be handed over, and why
//! nothing moves when nothing moves. Blocks are not verified here: who applies them says
//! how far it came, and who sent one that was refused.

mod blocks;
mod claims;
mod state;

pub use blocks::{BlockSync, Step};
pub use state::{SyncReason, SyncState};
