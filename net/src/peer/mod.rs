//! Who other nodes are: network keys, addresses, standing.
//!
//! A network key identifies a node on the transport and nothing else; it is not the key
//! that signs votes.

mod id;

pub use id::{PeerAddress, PeerAddressError, PeerId};
