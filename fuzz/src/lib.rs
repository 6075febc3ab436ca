//! Properties of everything that reads bytes from outside, each a plain function of bytes, and
//! what feeds them: a random driver on the stable compiler, and libFuzzer.
//!
//! A property says more than that nothing panics: what is read is written back as the same
//! bytes, two readers of one form agree, what was not proved is not believed. `README.md` has
//! the list. No fixture is written here: a target only ever touches a directory of its own.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a property fails by panicking; what a target checks stands in its header"
)]

pub mod drive;
pub mod mutate;
pub mod target;
mod targets;
mod watch;
mod world;

pub use target::{TARGETS, Target};
