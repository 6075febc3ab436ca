//! The deterministic core: types, canonical encoding, signatures, state
//! transition, state commitment, certificates and proofs.
//!
//! Every function here depends on its arguments alone. No clock, no I/O, no
//! async, no threads whose order shows, no floats, no hash-map order, no
//! randomness, no logging.

// `clippy.toml` beside the manifest bans clocks, threads, files and hash maps.
#![deny(clippy::float_arithmetic, clippy::disallowed_types, clippy::disallowed_methods)]
// What no input may do here: panic, or overflow unseen. An exception says why it is none.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_in_result,
        clippy::unwrap_used
    )
)]

mod bech32m;
pub mod block;
pub mod certificate;
pub mod codec;
pub mod crypto;
pub mod execute;
pub mod genesis;
pub mod hash;
pub mod json;
pub mod limits;
pub mod list;
pub mod message;
pub mod outcome;
pub mod params;
pub mod receipt;
pub mod state;
pub mod transaction;
pub mod types;
pub mod validator;
pub mod vote;
