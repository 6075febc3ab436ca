//! How sync stands, for people and probes.

use ait_engine::types::Height;

use crate::peer::PeerId;

/// Why a node is where it is: a closed list, so that no stall is without a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SyncReason {
    /// As far as every peer.
    InSync,
    /// Blocks come and are applied.
    Fetching,
    /// No peer is connected: how far the chain is, is not known.
    NoPeers,
    /// Peers that are ahead were asked and have not answered for a while.
    PeersSilent,
    /// Blocks are here, but applying them takes long: the disk or the processor is slow.
    Applying,
    /// Every peer that is ahead sent blocks that were refused.
    BadBlocks,
}

impl SyncReason {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InSync => "in_sync",
            Self::Fetching => "fetching",
            Self::NoPeers => "no_peers",
            Self::PeersSilent => "peers_silent",
            Self::Applying => "applying",
            Self::BadBlocks => "bad_blocks",
        }
    }

    /// What it means, and what the operator may do.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::InSync => "this node has every block that its peers have",
            Self::Fetching => "blocks are fetched from peers and applied",
            Self::NoPeers => {
                "no peer is connected; check p2p.peers, the firewall (UDP) and the peers' logs"
            }
            Self::PeersSilent => "peers that are ahead do not answer; others are asked in turn",
            Self::Applying => "blocks wait to be applied; the disk or the processor is the limit",
            Self::BadBlocks => {
                "every peer that is ahead sent blocks that were refused; the log says why"
            }
        }
    }
}

/// How sync stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncState {
    /// Why.
    pub reason: SyncReason,
    /// Newest block here.
    pub height: Height,
    /// Newest block that a connected peer has.
    pub target: Height,
    /// Peers that were asked and have not answered yet.
    pub from: Vec<PeerId>,
    /// Milliseconds since the height last changed while behind; 0 if not behind.
    pub waiting_ms: u64,
}
