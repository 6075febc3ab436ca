//! What a node says to which peer, as one state machine without socket and clock.
//!
//! It composes gossip (who needs what), sync, the address book and the standing of peers.
//! The transport feeds it what arrives and does what comes out; the node feeds it what it
//! has to say. A message goes to a peer unless that peer has it: it sent it, or it is a
//! neighbour of who sent it here. In a full mesh each link carries each thing once.

mod core;
mod gossip;
mod port;
mod standing;
mod view;

pub use self::core::{Protocol, ProtocolOptions};
pub use port::{Delivery, Frame, Input, Local, Output, PeerView};
