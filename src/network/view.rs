//! How the network stands, for operators and probes.

use std::time::Duration;

use ait_net::protocol::PeerView;
use ait_net::sync::SyncState;

/// A peer with what only the transport knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerLine {
    /// What the protocol knows.
    pub peer: PeerView,
    /// Round-trip time.
    pub rtt: Option<Duration>,
}

/// How the network stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkView {
    /// How far this node is behind, and why.
    pub sync: Option<SyncState>,
    /// Every known peer.
    pub peers: Vec<PeerLine>,
}

impl NetworkView {
    /// Connected peers.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.peers.iter().filter(|line| line.peer.is_connected).count()
    }
}
