//! Who other nodes are: network keys, addresses, standing, allowances.
//!
//! A network key identifies a node on the transport and nothing else; it is not the key
//! that signs votes. No clock and no socket here.

mod allowance;
mod book;
mod host;
mod id;
mod score;

pub use allowance::{Allowances, Paused, Tally};
pub use book::Book;
pub use host::Host;
pub(crate) use id::ADDRESS_BYTES_MAX;
pub use id::{PeerAddress, PeerAddressError, PeerId};
pub use score::{Fault, Scores};
