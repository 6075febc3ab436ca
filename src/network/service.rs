//! The task that joins transport, protocol and node.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ait_engine::block::Block;
use ait_engine::certificate::Certificate;
use ait_engine::transaction::VerifiedTransaction;
use ait_net::gossip::{Incoming, Source};
use ait_net::message::Request;
use ait_net::peer::{Host, PeerAddress, PeerId};
use ait_net::protocol::{Delivery, Input, Local, Output, Protocol, ProtocolOptions};
use ait_net::quic::{Event, Events, Transport};
use ait_net::sync::SyncReason;
use metrics::{counter, gauge};
use tokio::sync::{Semaphore, mpsc, watch};

use super::bridge::{self, Given};
use super::serve::{self, Bodies};
use super::sharing::Sharing;
use super::view::{NetworkView, PeerLine};
use super::{Command, NetworkOptions, Parts};
use crate::import::{ImportBlock, ImportError};
use crate::keystore;
use crate::sequencer::{self, Effect};

const TICK: Duration = Duration::from_millis(100);
/// Requests of peers that are answered at once however few processors there are.
const ANSWERS_MIN: usize = 2;
/// How long a peer waits to hear that blocks cannot be read here. It asks again at once, and who
/// gives no answer too often counts as faulty.
const UNREADABLE_WAIT: Duration = Duration::from_secs(10);
/// How often progress is logged while behind, and how far behind that counts.
const PROGRESS: Duration = Duration::from_secs(5);
const PROGRESS_BLOCKS: u64 = 20;

pub(super) struct Service {
    protocol: Protocol,
    transport: Transport,
    parts: Parts,
    bodies: Bodies,
    sharing: Sharing,
    book: std::path::PathBuf,
    shown: watch::Sender<Arc<NetworkView>>,
    commands: mpsc::Sender<Command>,
    incoming: mpsc::Sender<Incoming>,
    answering: Arc<Semaphore>,
    began: Instant,
    progress_at: Instant,
    progress_height: u64,
    /// Since when it is far behind, and the height then.
    behind_since: Option<(Instant, u64)>,
}

impl Service {
    pub(super) fn new(
        mut options: NetworkOptions,
        transport: Transport,
        parts: Parts,
        shown: watch::Sender<Arc<NetworkView>>,
        commands: mpsc::Sender<Command>,
        incoming: mpsc::Sender<Incoming>,
    ) -> Self {
        options.peers.extend(read_book(&options.book));
        let head = parts.chain.head().height;
        let mut seed = [0; 8];
        seed.copy_from_slice(&transport.id().0[..8]);
        let protocol = ProtocolOptions {
            us: transport.id(),
            peers: options.peers,
            wanted: options.wanted,
            connections_max: options.connections_max,
            exchanges_addresses: options.exchanges_addresses,
            seed: u64::from_le_bytes(seed) | 1,
        };
        let now = Instant::now();
        Self {
            protocol: Protocol::new(protocol, head, 0),
            transport,
            parts,
            bodies: Bodies::default(),
            sharing: Sharing::default(),
            book: options.book,
            shown,
            commands,
            incoming,
            answering: Arc::new(Semaphore::new(crate::rpc::ranges_at_once().max(ANSWERS_MIN))),
            began: now,
            progress_at: now,
            progress_height: head.get(),
            behind_since: None,
        }
    }

    pub(super) async fn run(
        mut self,
        mut events: Events,
        mut commands: mpsc::Receiver<Command>,
        mut accepted: mpsc::Receiver<Vec<Arc<VerifiedTransaction>>>,
    ) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.name_peers();
        self.feed(Input::Tick);
        loop {
            // What is read brings one batch at most: there is room for it.
            let has_room = self.incoming.capacity() > 0;
            tokio::select! {
                biased;
                effect = self.parts.effects.recv() => match effect {
                    Some(effect) => self.on_effect(effect),
                    // The sequencer ended, and with it the node.
                    None => return,
                },
                Some(event) = events.urgent.recv() => self.on_event(event),
                Some(command) = commands.recv() => self.on_command(command),
                _ = ticks.tick() => self.tick(),
                Some(accepted) = accepted.recv() => self.local(Local::Accepted(accepted)),
                Some(event) = events.bulk.recv(), if has_room => self.on_event(event),
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn feed(&mut self, input: Input) {
        for output in self.protocol.handle(self.now_ms(), input) {
            self.perform(output);
        }
    }

    fn local(&mut self, local: Local) {
        self.feed(Input::Local(local));
    }

    fn tick(&mut self) {
        self.leave();
        self.feed(Input::Tick);
        self.share();
        let now_ms = self.now_ms();
        let sync = self.protocol.sync_state(now_ms);
        let peers = self.protocol.peers(now_ms).into_iter();
        let line = |peer: ait_net::protocol::PeerView| PeerLine {
            traffic: self.transport.traffic(&peer.id),
            peer,
        };
        let (peers, refused_calls) = (peers.map(line).collect(), self.transport.refused_calls());
        let view = NetworkView { peers, sync: Some(sync.clone()), refused_calls };
        self.shown.send_replace(Arc::new(view));
        let behind = sync.target.get().saturating_sub(sync.height.get());
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        gauge!("sync_blocks_behind").set(behind as f64);
        if behind >= PROGRESS_BLOCKS && self.progress_at.elapsed() >= PROGRESS {
            let done = sync.height.get().saturating_sub(self.progress_height);
            let seconds = self.progress_at.elapsed().as_secs();
            let per_second = done.checked_div(seconds).unwrap_or(done);
            let left_seconds = behind.checked_div(per_second);
            let (height, target, reason) = (sync.height, sync.target, sync.reason.name());
            tracing::info!(%height, %target, per_second, left_seconds, reason, "syncing");
            (self.progress_at, self.progress_height) = (Instant::now(), sync.height.get());
        } else if behind < PROGRESS_BLOCKS && sync.reason == SyncReason::InSync {
            self.progress_height = sync.height.get();
        }
        match self.behind_since {
            None if behind >= PROGRESS_BLOCKS => {
                let (height, target) = (sync.height, sync.target);
                tracing::info!(%height, %target, "behind, fetching blocks");
                self.behind_since = Some((Instant::now(), sync.height.get()));
            }
            Some((since, from)) if behind == 0 && sync.reason == SyncReason::InSync => {
                let (height, blocks) = (sync.height, sync.height.get().saturating_sub(from));
                let seconds = since.elapsed().as_secs_f32();
                tracing::info!(%height, blocks, seconds, "caught up");
                self.behind_since = None;
            }
            _ => {}
        }
    }

    /// Whose calls are greeted whoever else calls.
    fn name_peers(&self) {
        let named = self.protocol.static_peers();
        self.transport.name(&named.into_iter().map(|address| address.id).collect());
    }

    /// Tells new peers of pending transactions.
    fn share(&mut self) {
        let takes = |peer: &PeerId| self.transport.takes_batches(peer);
        let list = |limit, after| self.parts.mempool.list(limit, after);
        let now_ms = self.now_ms();
        for (peer, transactions) in self.sharing.parts(now_ms, takes, list) {
            self.local(Local::Share { peer, transactions });
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Add(address) => self.local(Local::AddPeer(address)),
            Command::Drop(peer) => self.local(Local::Drop(peer)),
            Command::Input(input) => self.feed(*input),
        }
    }

    /// Whether a peer may come.
    fn admit(&self, peer: &PeerId, host: &str) -> Result<(), String> {
        match self.parts.disk.shortage() {
            Some(shortage) => Err(format!("paused: {}", shortage.code())),
            None => self.protocol.admit(peer, host, self.now_ms()),
        }
    }

    /// Without room on the disk nothing of what peers say can be kept, and so they are left:
    /// they say all again once they are back.
    fn leave(&mut self) {
        let Some(shortage) = self.parts.disk.shortage() else { return };
        for peer in self.protocol.peers(self.now_ms()) {
            if peer.is_connected {
                self.transport.disconnect(&peer.id, &format!("paused: {}", shortage.code()));
                self.feed(Input::Disconnected { peer: peer.id });
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected { peer, is_outbound, host, hello } => {
                if let Err(reason) = self.admit(&peer, &host) {
                    tracing::info!(peer = %peer.short(), reason, "a peer was turned away");
                    self.transport.disconnect(&peer, &reason);
                    // If we called it, the call is over.
                    self.feed(Input::DialFailed { peer });
                    return;
                }
                let (agent, height) = (hello.agent.clone(), hello.height);
                tracing::info!(peer = %peer.short(), host, agent, %height, "peer connected");
                self.sharing.add(peer, Host::of(&host));
                self.feed(Input::Connected { peer, is_outbound, host, hello });
            }
            Event::Disconnected { peer, reason } => {
                self.sharing.gone(&peer);
                tracing::info!(peer = %peer.short(), reason, "peer disconnected");
                self.feed(Input::Disconnected { peer });
            }
            Event::DialFailed { peer, reason } => {
                tracing::info!(peer = %peer.short(), reason, "a peer cannot be reached");
                self.feed(Input::DialFailed { peer });
            }
            Event::Control { peer, control } => self.feed(Input::Control { peer, control }),
            Event::Transactions { peer, transactions, .. } => {
                self.feed(Input::Transactions { peer, transactions });
            }
            Event::Body { peer, body } => self.feed(Input::Body { peer, body }),
            Event::Blocks { id, blocks } => self.feed(Input::Blocks { id, blocks }),
            Event::NoBody { peer, block_id } => self.feed(Input::NoBody { peer, block_id }),
            Event::Fault { peer, fault, reason } => {
                self.feed(Input::Fault { peer, fault, reason });
            }
            Event::Request { request, reply, .. } => self.answer(request, reply),
        }
    }

    fn answer(&self, request: Request, reply: ait_net::quic::Reply) {
        match request {
            Request::Body { block_id, .. } => {
                // Whoever asked may be gone.
                let _ = reply.send(self.bodies.frame(&block_id));
            }
            Request::Blocks { from, count } => {
                let (chain, answering) = (self.parts.chain.clone(), Arc::clone(&self.answering));
                tokio::spawn(async move {
                    // Each connection has few requests under way, so that few wait here.
                    let Ok(permit) = answering.acquire_owned().await else { return };
                    if reply.is_closed() {
                        // Whoever asked has given up, or is gone.
                        return;
                    }
                    let read = move || {
                        let _permit = permit;
                        serve::blocks(&chain, from, count)
                    };
                    let Ok(read) = crate::behind::work(read).await else { return };
                    if read.is_none() {
                        tokio::time::sleep(UNREADABLE_WAIT).await;
                    }
                    let _ = reply.send(read);
                });
            }
        }
    }

    fn on_effect(&mut self, effect: Effect) {
        if let Effect::Committed(block) = &effect {
            self.transport.set_height(block.height());
        }
        if let Some(input) = bridge::said(effect, &mut self.bodies) {
            self.feed(input);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Dial(address) => self.transport.dial(address),
            Output::Send { peers, frame } => self.transport.send(&peers, &frame),
            Output::Ask { id, peer, request } => self.transport.ask(id, peer, request),
            Output::Disconnect { peer, reason } => self.transport.disconnect(&peer, &reason),
            Output::Pause { peer, for_ms } => {
                self.transport.pause(&peer, Duration::from_millis(for_ms));
            }
            Output::Deliver(delivery) => self.deliver(delivery),
            Output::BookChanged => {
                write_book(&self.book, &self.protocol.static_peers());
                self.name_peers();
            }
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        let input = match bridge::given(delivery) {
            Given::Sequencer(input) => input,
            Given::Connected(peer) => sequencer::Input::Connected { peer },
            Given::Transactions(from, transactions) => {
                let incoming = Incoming { source: Source::Peer(from), transactions };
                if self.incoming.try_send(incoming).is_err() {
                    // The node stops: else there is room.
                    counter!("gossip_dropped_total", "backend" => "quic", "reason" => "queue_full")
                        .increment(1);
                }
                return;
            }
            Given::Import(from, block, certificate) => {
                return self.import(from, *block, certificate);
            }
        };
        if self.parts.inbox.push(input).is_err() {
            counter!("sequencer_inputs_dropped_total").increment(1);
        }
    }

    /// Hands a block in; the order of calls is the order of the chain.
    fn import(&mut self, from: PeerId, block: Block, certificate: Certificate) {
        let height = block.header.height;
        let handed = self.parts.importer.hand_in(ImportBlock { block, certificate });
        let commands = self.commands.clone();
        tokio::spawn(async move {
            let result = match handed {
                Ok(answer) => answer.await.unwrap_or(Err(ImportError::Stopping)),
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                if !matches!(error, ImportError::UnknownParent { .. } | ImportError::Stopping) {
                    let peer = from.short();
                    tracing::warn!(%height, peer, %error, "a block of a peer was not imported");
                }
                for input in bridge::refused(from, &error) {
                    let _ = commands.send(Command::Input(Box::new(input))).await;
                }
            }
        });
    }
}

/// Peers that operators added, one a line.
fn read_book(path: &Path) -> Vec<PeerAddress> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

fn write_book(path: &Path, peers: &[PeerAddress]) {
    let text: String = peers.iter().map(|address| format!("{address}\n")).collect();
    if let Err(error) = keystore::write_public(path, text) {
        tracing::warn!(path = %path.display(), %error, "added peers cannot be remembered");
    }
}
