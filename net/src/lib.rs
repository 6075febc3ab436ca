//! What nodes and clients say to each other: the JSON wire forms, the REST client,
//! and the verification of what a node answers.
//!
//! No execution rule lives here.

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
