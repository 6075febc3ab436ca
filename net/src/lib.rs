//! What nodes and clients say to each other: the JSON wire forms, the REST client,
//! and the verification of what a node answers.
//!
//! No execution rule lives here.

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

pub mod cross_site;
pub mod gossip;
pub mod light;
pub mod limits;
pub mod message;
pub mod peer;
pub mod protocol;
pub mod quic;
pub mod rest;
pub mod sync;
pub mod wire;
