//! The UDP socket with all its connections.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics::{counter, gauge};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, Endpoint, EndpointConfig};
use tokio::sync::mpsc;

use super::answers::AnswersRoom;
use super::batches::{self, BatchesRoom};
use super::bodies::BodiesRoom;
use super::callers::{Callers, Place, Verdict};
use super::hello::{Greeted, greet};
use super::link::{Event, Link, Sinks};
use super::socket::{socket, transport_config};
use super::tls::PeerKey;
use crate::limits::BODIES_BYTES_MAX;
use crate::message::{Hello, Request};
use crate::peer::{PeerAddress, PeerId};
use crate::protocol::Frame;

/// How long a call may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the other side's call may take to be greeted once it ended ours.
const REACHED_TIMEOUT: Duration = Duration::from_secs(1);
const REACHED_POLL: Duration = Duration::from_millis(20);
/// Events that wait for the node.
const URGENT_MAX: usize = 4_096;
const BULK_MAX: usize = 256;
/// Codes of a close.
const REFUSED: u32 = 1;
const ENDED: u32 = 2;

/// What an endpoint needs.
#[derive(Debug)]
pub struct QuicOptions {
    /// Where it listens.
    pub bind: SocketAddr,
    /// This node's key.
    pub key: PeerKey,
    /// What it says first.
    pub hello: Hello,
}

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    /// The socket cannot be had.
    #[error("UDP {bind}: {source}")]
    Bind {
        /// Where.
        bind: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(String),
}

/// What comes out of the transport.
#[derive(Debug)]
pub struct Events {
    /// What votes depend on; to be read first.
    pub urgent: mpsc::Receiver<Event>,
    /// The rest.
    pub bulk: mpsc::Receiver<Event>,
}

/// What was measured of a connection since it began, headers of UDP and IP left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Round-trip time, as its packets show it.
    pub rtt: Duration,
    /// Bytes that were sent, lost ones among them.
    pub sent_bytes: u64,
    /// Bytes that came.
    pub received_bytes: u64,
    /// Packets that were sent.
    pub sent_packets: u64,
    /// Packets of those that are thought to be lost.
    pub lost_packets: u64,
    /// Bytes of answers to requests of the peer.
    pub answer_bytes: u64,
    /// Bytes of those that the peer has not taken yet.
    pub held_answer_bytes: u64,
    /// Answers that it did not take in time.
    pub untaken_answers: u64,
}

#[derive(Debug)]
struct Shared {
    endpoint: Endpoint,
    key: PeerKey,
    hello: Mutex<Hello>,
    links: Mutex<BTreeMap<PeerId, Link>>,
    generation: AtomicU64,
    sinks: Sinks,
    callers: Mutex<Callers>,
    began: Instant,
}

/// A call that is being greeted.
struct Greeting {
    transport: Transport,
    place: Place,
}

impl Drop for Greeting {
    fn drop(&mut self) {
        self.transport.callers().greeted(self.place);
    }
}

/// The transport; clones share one socket.
#[derive(Debug, Clone)]
pub struct Transport(Arc<Shared>);

impl Transport {
    /// Binds the socket and accepts connections. To be called inside a runtime.
    ///
    /// # Errors
    /// [`QuicError`] when the socket or the keys cannot be used.
    pub fn bind(options: QuicOptions) -> Result<(Self, Events), QuicError> {
        Self::bind_with(options, BODIES_BYTES_MAX)
    }

    /// The same with other room for the bodies that all peers are sending.
    pub(super) fn bind_with(
        options: QuicOptions,
        bodies_bytes_max: usize,
    ) -> Result<(Self, Events), QuicError> {
        let QuicOptions { bind, key, mut hello } = options;
        let tls = |error: &dyn std::fmt::Display| QuicError::Tls(error.to_string());
        let crypto = key.server_config(&hello.genesis).map_err(|error| tls(&error))?;
        let crypto = QuicServerConfig::try_from(crypto).map_err(|error| tls(&error))?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        server.transport_config(Arc::new(transport_config()));
        server.migration(true);
        let failed = |source| QuicError::Bind { bind, source };
        let socket = socket(bind).map_err(failed)?;
        let runtime = Arc::new(quinn::TokioRuntime);
        let config = EndpointConfig::default();
        let endpoint = Endpoint::new(config, Some(server), socket, runtime).map_err(failed)?;
        hello.port = endpoint.local_addr().map_err(failed)?.port();
        let (urgent, urgent_out) = mpsc::channel(URGENT_MAX);
        let (bulk, bulk_out) = mpsc::channel(BULK_MAX);
        let transport = Self(Arc::new(Shared {
            endpoint,
            key,
            hello: Mutex::new(hello),
            links: Mutex::default(),
            generation: AtomicU64::new(0),
            sinks: Sinks {
                urgent,
                bulk,
                answers: AnswersRoom::default(),
                bodies: BodiesRoom::new(bodies_bytes_max),
                batches: BatchesRoom::default(),
            },
            callers: Mutex::default(),
            began: Instant::now(),
        }));
        tokio::spawn(transport.clone().accept());
        Ok((transport, Events { urgent: urgent_out, bulk: bulk_out }))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.endpoint.local_addr()
    }

    /// This node.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.0.key.id()
    }

    /// What later connections are told of this node's height.
    pub fn set_height(&self, height: ait_engine::types::Height) {
        self.0.hello.lock().unwrap_or_else(PoisonError::into_inner).height = height;
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<PeerId, Link>> {
        self.0.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hello(&self) -> Hello {
        self.0.hello.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes to peers; those that are not connected are passed over.
    pub fn send(&self, peers: &[PeerId], frame: &Frame) {
        let links = self.links();
        let links = peers.iter().filter_map(|peer| links.get(peer));
        let Frame::Transactions(batch) = frame else {
            links.for_each(|link| link.send(frame));
            return;
        };
        let Some(going) = self.0.sinks.batches.go(batch) else {
            return batches::dropped("no_room", batch.count().saturating_mul(links.count()));
        };
        links.for_each(|link| link.send_batch(Arc::clone(&going)));
    }

    /// Whether a peer is connected and has taken all transactions that it was sent.
    #[must_use]
    pub fn takes_batches(&self, peer: &PeerId) -> bool {
        self.links().get(peer).is_some_and(Link::takes_batches)
    }

    /// Asks a peer; an event follows in any case.
    pub fn ask(&self, id: u64, peer: PeerId, request: Request) {
        let link = self.links().get(&peer).cloned();
        match link {
            Some(link) => link.ask(id, request, &self.0.sinks),
            None => {
                let event = match request {
                    Request::Blocks { .. } => Event::Blocks { id, blocks: None },
                    Request::Body { block_id, .. } => Event::NoBody { peer, block_id },
                };
                let bulk = self.0.sinks.bulk.clone();
                tokio::spawn(async move { bulk.send(event).await });
            }
        }
    }

    /// Reads no transactions of a peer for so long.
    pub fn pause(&self, peer: &PeerId, lasting: Duration) {
        if let Some(link) = self.links().get(peer) {
            link.pause(lasting);
        }
    }

    /// Ends the connection with a peer.
    pub fn disconnect(&self, peer: &PeerId, reason: &str) {
        if let Some(link) = self.links().get(peer) {
            link.connection.close(ENDED.into(), reason.as_bytes());
        }
    }

    /// Ends all connections, and waits a moment for the peers to hear of it.
    pub async fn close(&self) {
        self.0.endpoint.close(ENDED.into(), b"the node stops");
        let _ = tokio::time::timeout(Duration::from_millis(200), self.0.endpoint.wait_idle()).await;
    }

    /// What was measured of the connection with a peer.
    #[must_use]
    pub fn traffic(&self, peer: &PeerId) -> Option<Traffic> {
        let links = self.links();
        let link = links.get(peer)?;
        let stats = link.connection.stats();
        let (answer_bytes, held_answer_bytes, untaken_answers) = link.given.read();
        Some(Traffic {
            rtt: stats.path.rtt,
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            sent_packets: stats.path.sent_packets,
            lost_packets: stats.path.lost_packets,
            answer_bytes,
            held_answer_bytes,
            untaken_answers,
        })
    }

    #[cfg(test)]
    pub(super) fn sinks(&self) -> &Sinks {
        &self.0.sinks
    }

    fn callers(&self) -> MutexGuard<'_, Callers> {
        self.0.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Addresses whose calls were refused because there were too many, and how many, for those that
    /// called last.
    #[must_use]
    pub fn refused_calls(&self) -> Vec<(IpAddr, u64)> {
        self.callers().refused()
    }

    /// The operator named these peers: their calls are greeted whoever else calls.
    pub fn name(&self, peers: &BTreeSet<PeerId>) {
        self.callers().name(peers);
    }

    /// What becomes of a call.
    fn judge(&self, ip: IpAddr, is_proven: bool) -> Verdict {
        let now_ms = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.callers().called(ip, is_proven, now_ms)
    }

    /// Calls a peer; [`Event::DialFailed`] follows unless a connection is up in the end,
    /// whoever of the two called.
    pub fn dial(&self, address: PeerAddress) {
        let transport = self.clone();
        tokio::spawn(async move {
            let peer = address.id;
            let called = tokio::time::timeout(DIAL_TIMEOUT, transport.call(&address)).await;
            let result = match called {
                Ok(Ok(connection)) => transport.welcome(connection, true).await,
                Ok(Err(reason)) => Err(reason),
                Err(_) => Err("no answer".to_owned()),
            };
            if let Err(reason) = result {
                if transport.is_reached(&peer).await {
                    return;
                }
                tracing::debug!(%address, reason, "a call led to nothing");
                let _ = transport.0.sinks.urgent.send(Event::DialFailed { peer, reason }).await;
            }
        });
    }

    /// Whether a peer is connected although a call to it failed. When both call at once the
    /// other side may end our call for its own, which is not greeted here yet.
    async fn is_reached(&self, peer: &PeerId) -> bool {
        let up = async {
            while !self.links().contains_key(peer) {
                tokio::time::sleep(REACHED_POLL).await;
            }
        };
        tokio::time::timeout(REACHED_TIMEOUT, up).await.is_ok()
    }

    async fn call(&self, address: &PeerAddress) -> Result<Connection, String> {
        let config = self.0.key.client_config(&self.hello().genesis, address.id);
        let config = config.map_err(|error| error.to_string())?;
        let config = QuicClientConfig::try_from(config).map_err(|error| error.to_string())?;
        let mut config = quinn::ClientConfig::new(Arc::new(config));
        config.transport_config(Arc::new(transport_config()));
        let resolved = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
        let resolved: Vec<_> =
            resolved.map_err(|error| format!("{}: {error}", address.host))?.collect();
        self.callers().found(&address.id, resolved.iter().map(SocketAddr::ip));
        let mut reason = format!("{} has no address", address.host);
        for socket in resolved {
            // The name means nothing: the key is the identity.
            let connecting = self.0.endpoint.connect_with(config.clone(), socket, "ait");
            match connecting.map_err(|error| error.to_string()) {
                Ok(connecting) => match connecting.await {
                    Ok(connection) => return Ok(connection),
                    Err(error) => reason = error.to_string(),
                },
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }

    async fn accept(self) {
        while let Some(incoming) = self.0.endpoint.accept().await {
            let is_proven = incoming.remote_address_validated();
            let place = match self.judge(incoming.remote_address().ip(), is_proven) {
                Verdict::Greet(place) => place,
                // A flood: each must show that its address is its own, and call more rarely.
                Verdict::Prove => {
                    counter!("peer_calls_unproven_total").increment(1);
                    let _ = incoming.retry();
                    continue;
                }
                Verdict::Refuse => {
                    incoming.refuse();
                    continue;
                }
            };
            let transport = self.clone();
            let greeting = Greeting { transport: self.clone(), place };
            tokio::spawn(async move {
                let _greeting = greeting;
                let Ok(connecting) = incoming.accept() else { return };
                let Ok(Ok(connection)) = tokio::time::timeout(DIAL_TIMEOUT, connecting).await
                else {
                    return;
                };
                let host = connection.remote_address().ip();
                if let Err(reason) = transport.welcome(connection, false).await {
                    tracing::info!(%host, reason, "a connection was refused");
                }
            });
        }
    }

    /// Exchanges hellos and takes the connection up.
    async fn welcome(&self, connection: Connection, is_outbound: bool) -> Result<(), String> {
        let greeted = match greet(&connection, &self.hello()).await {
            Ok(greeted) => greeted,
            Err(reason) => {
                connection.close(REFUSED.into(), reason.as_bytes());
                return Err(reason);
            }
        };
        let Greeted { peer, hello, control_out, control_in } = greeted;
        let host = connection.remote_address().ip().to_canonical().to_string();
        let generation = self.0.generation.fetch_add(1, Ordering::Relaxed);
        let sinks = &self.0.sinks;
        // What is told here comes before all that the connection brings.
        let Ok(mut places) = sinks.urgent.reserve_many(2).await else { return Ok(()) };
        {
            let mut links = self.links();
            if let Some(old) = links.get(&peer)
                && !self.prefers(peer, is_outbound, old)
            {
                connection.close(ENDED.into(), b"there is a connection already");
                return Ok(());
            }
            if let Some(old) = links.remove(&peer) {
                old.connection.close(ENDED.into(), b"there is a newer connection");
                let reason = "replaced by another connection".to_owned();
                if let Some(place) = places.next() {
                    place.send(Event::Disconnected { peer, reason });
                }
            }
            if let Some(place) = places.next() {
                place.send(Event::Connected { peer, is_outbound, host, hello });
            }
            let streams = (control_out, control_in);
            let link =
                Link::start(connection.clone(), generation, is_outbound, peer, streams, sinks);
            links.insert(peer, link);
            gauge!("peers_connected").set(u32::try_from(links.len()).unwrap_or(u32::MAX));
        }
        let transport = self.clone();
        tokio::spawn(async move {
            let reason = connection.closed().await.to_string();
            transport.ended(peer, generation, reason).await;
        });
        Ok(())
    }

    /// Whether a second connection with a peer replaces the first. When both called at once
    /// both keep the call of the smaller key.
    fn prefers(&self, peer: PeerId, is_outbound: bool, old: &Link) -> bool {
        if old.is_outbound == is_outbound || old.since.elapsed() > DIAL_TIMEOUT {
            // The other side started anew, and the first is dead.
            return true;
        }
        is_outbound == (self.0.key.id() < peer)
    }

    async fn ended(&self, peer: PeerId, generation: u64, reason: String) {
        let was_current = {
            let mut links = self.links();
            let is_current = links.get(&peer).is_some_and(|link| link.generation == generation);
            if is_current {
                links.remove(&peer);
            }
            gauge!("peers_connected").set(u32::try_from(links.len()).unwrap_or(u32::MAX));
            is_current
        };
        if was_current {
            let _ = self.0.sinks.urgent.send(Event::Disconnected { peer, reason }).await;
        }
    }
}
