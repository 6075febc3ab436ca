//! The node's place among others: joins the transport, the protocol and the node.
//!
//! What to say to whom is decided in `ait_net::protocol`, what is valid in the sequencer;
//! here they are only connected. Votes go before everything else.

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

pub(crate) mod bridge;
mod key;
pub(crate) mod serve;
mod service;
mod sharing;
mod view;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ait_engine::codec::Writer;
use ait_engine::transaction::VerifiedTransaction;
use ait_engine::types::Hash;
use ait_net::gossip::{Gossip, Incoming, Source, Verdict};
use ait_net::peer::{Fault, PeerAddress, PeerId};
use ait_net::protocol::{Input, Local};
use ait_net::quic::{PeerKey, QuicError, QuicOptions, Transport};
use ait_net::{limits, message};
use metrics::counter;
use tokio::sync::{mpsc, watch};

use crate::chain::Chain;
use crate::disk::Disk;
use crate::import::Importer;
use crate::mempool::Mempool;
use crate::sequencer::{Effect, Inbox};

pub use key::{NetworkKeyError, load_or_create as load_key};
pub use view::{NetworkView, PeerLine};

/// Effects of the sequencer that wait to be sent.
pub const EFFECTS_MAX: usize = 8_192;
/// Commands of operators that wait.
const COMMANDS_MAX: usize = 64;
/// Batches of accepted transactions that wait to be told of, and of peers' to be verified.
const ACCEPTED_MAX: usize = 64;
const INCOMING_MAX: usize = 8;

/// How a node is connected with others.
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// Where it listens (UDP).
    pub bind: SocketAddr,
    /// Peers that are always called.
    pub peers: Vec<PeerAddress>,
    /// Connections that are sought by calling learned addresses.
    pub wanted: usize,
    /// Connections at most.
    pub connections_max: usize,
    /// Whether addresses are exchanged with peers.
    pub exchanges_addresses: bool,
    /// Where peers that an operator adds are remembered.
    pub book: PathBuf,
}

/// The parts of the node that the network needs.
#[derive(Debug)]
pub struct Parts {
    /// To read from.
    pub chain: Chain,
    /// Pending transactions.
    pub mempool: Arc<Mempool>,
    /// The way in for blocks.
    pub importer: Importer,
    /// Room on the disk; without it the node leaves its peers.
    pub disk: Arc<Disk>,
    /// The way in for what validators say.
    pub inbox: Arc<Inbox>,
    /// What the sequencer says.
    pub effects: mpsc::Receiver<Effect>,
}

/// Why the network does not start.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The network key cannot be had.
    #[error(transparent)]
    Key(#[from] NetworkKeyError),
    /// The transport cannot be had.
    #[error(transparent)]
    Quic(#[from] QuicError),
}

/// What an operator wants.
#[derive(Debug)]
pub(crate) enum Command {
    Add(PeerAddress),
    Drop(PeerId),
    /// Of a task of the network itself.
    Input(Box<Input>),
}

/// A running network; clones share it.
#[derive(Debug, Clone)]
pub struct Network {
    transport: Transport,
    commands: mpsc::Sender<Command>,
    accepted: mpsc::Sender<Vec<Arc<VerifiedTransaction>>>,
    view: watch::Receiver<Arc<NetworkView>>,
}

impl Network {
    /// Starts it; what peers publish comes out of the channel. To be called inside a
    /// runtime.
    ///
    /// # Errors
    /// [`NetworkError`] when the socket or the key cannot be used.
    pub fn start(
        options: NetworkOptions,
        key: PeerKey,
        parts: Parts,
    ) -> Result<(Self, mpsc::Receiver<Incoming>), NetworkError> {
        let (chain_id, genesis) = (parts.chain.chain_id(), parts.chain.genesis_id());
        let mut hello = message::hello(chain_id, genesis, consensus_hash());
        hello.height = parts.chain.head().height;
        let (transport, events) = Transport::bind(QuicOptions { bind: options.bind, key, hello })?;
        let (commands, to_do) = mpsc::channel(COMMANDS_MAX);
        let (shown, view) = watch::channel(Arc::default());
        let (accepted, to_tell) = mpsc::channel(ACCEPTED_MAX);
        let (heard, incoming) = mpsc::channel(INCOMING_MAX);
        let (shared, commands) = (transport.clone(), commands);
        let network = Self { transport: shared, commands: commands.clone(), accepted, view };
        let service = service::Service::new(options, transport, parts, shown, commands, heard);
        tokio::spawn(service.run(events, to_do, to_tell));
        Ok((network, incoming))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.transport.local_addr()
    }

    /// This node's id.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.transport.id()
    }

    /// How things stand; at most some 200 ms old.
    #[must_use]
    pub fn view(&self) -> Arc<NetworkView> {
        Arc::clone(&self.view.borrow())
    }

    /// Remembers a peer and calls it.
    pub async fn add_peer(&self, address: PeerAddress) {
        // The service outlives every handle but at a stop.
        let _ = self.commands.send(Command::Add(address)).await;
    }

    /// Ends the connection with a peer.
    pub async fn drop_peer(&self, peer: PeerId) {
        let _ = self.commands.send(Command::Drop(peer)).await;
    }

    /// Ends all connections.
    pub async fn close(&self) {
        self.transport.close().await;
    }
}

impl Gossip for Network {
    fn name(&self) -> &'static str {
        "quic"
    }

    fn publish(&self, transactions: &[Arc<VerifiedTransaction>]) -> bool {
        let is_queued = self.accepted.try_send(transactions.to_vec()).is_ok();
        if !is_queued {
            counter!("gossip_dropped_total", "backend" => "quic", "reason" => "queue_full")
                .increment(transactions.len() as u64);
        }
        is_queued
    }

    fn judged(&self, verdict: Verdict) {
        let Source::Peer(peer) = verdict.source else { return };
        let commands = self.commands.clone();
        // Waits for room: a fault that is not told of is one that is not punished.
        tokio::spawn(async move {
            if let Some(reason) = verdict.invalid {
                let input = Input::Fault { peer, fault: Fault::BadTransaction, reason };
                let _ = commands.send(Command::Input(Box::new(input))).await;
            }
            let (tally, not_taken) = (verdict.tally, verdict.not_taken);
            let input = Input::Local(Local::Judged { peer, tally, not_taken });
            let _ = commands.send(Command::Input(Box::new(input))).await;
        });
    }
}

/// Hash of what validators must agree on besides the genesis: the rules that this program
/// was built with. Peers that say another in their hello are refused.
#[must_use]
pub fn consensus_hash() -> Hash {
    let mut rules = Vec::new();
    rules.put_u16(ait_engine::block::PROTOCOL_VERSION);
    rules.put_u64(ait_engine::limits::BLOCK_TIME_DRIFT_MS_MAX);
    rules.put_u32(ait_engine::limits::BLOCK_TRANSACTION_COUNT_MAX);
    rules.put_u32(ait_engine::limits::BLOCK_BODY_BYTES_MAX);
    rules.put_u64(ait_engine::limits::STATE_ENTRY_COUNT_MAX);
    rules.put_u8(limits::PROTOCOL_VERSION);
    Hash(*blake3::hash(&rules).as_bytes())
}
