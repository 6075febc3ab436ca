//! The QUIC transport: mutually authenticated connections between nodes.
//!
//! Each side proves its Ed25519 network key as a raw public key (RFC 7250); the ALPN name
//! carries the protocol version and the genesis hash, so that nodes of other chains never
//! get past the handshake but to hear which field differs. Each kind of traffic has streams
//! and a priority of its own. Thin on purpose: what to say to whom is decided in
//! [`crate::protocol`].

mod answers;
mod batches;
mod bodies;
mod callers;
mod endpoint;
pub mod frames;
mod hello;
mod link;
mod socket;
#[cfg(test)]
mod tests;
mod tls;

pub use endpoint::{Events, QuicError, QuicOptions, Traffic, Transport};
pub use link::{Event, Reply};
pub use tls::{PeerKey, alpn};
