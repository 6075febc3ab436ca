//! What nodes and clients say to each other: the JSON wire forms, the REST client,
//! and the verification of what a node answers.
//!
//! No execution rule lives here.

pub mod gossip;
pub mod light;
pub mod peer;
pub mod rest;
pub mod wire;
