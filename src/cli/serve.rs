//! What `dev` and `run` share: start a node and its servers, wait for a signal or a
//! failure, stop within two seconds.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ait_engine::crypto::SecretKey;
use ait_engine::genesis::GenesisDocument;
use ait_engine::types::Height;
use ait_net::gossip::Incoming;
use ait_net::peer::PeerAddress;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::CliError;
use super::progress::SyncBar;
use crate::behind::TASKS_BETWEEN_EVENTS;
use crate::chain::{ChainError, GenesisSource, OpenProgress};
use crate::config::NodeConfig;
use crate::coordinator::{self, Coordinator};
use crate::cross_site::{self, CrossSiteError, CrossSiteView};
use crate::gossip;
use crate::ingress::Clock;
use crate::network::{
    self, EFFECTS_MAX, Network, NetworkError, NetworkKeyError, NetworkOptions, Parts,
};
use crate::node::{Joining, Node, NodeError, NodeOptions};
use crate::rpc::{self, AdminToken, DevEdge};
use crate::sequencer::Effect;
use crate::telemetry::metrics;

/// How long servers may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(900);
/// How often a failure of the node is looked for.
const LOOK: Duration = Duration::from_millis(200);

/// A node that is to be served.
pub(super) struct Served<'a> {
    pub config: &'a NodeConfig,
    /// The genesis document; read only where the chain is made, for it may be long.
    pub genesis: &'a Path,
    /// The validator's key; none for a node that follows.
    pub key: Option<SecretKey>,
    pub clock: Clock,
    /// Whether standard error is for people: progress is shown there.
    pub shows_progress: bool,
}

/// A node that serves.
pub(super) struct Serving<'a> {
    pub node: &'a Node,
    pub rpc: SocketAddr,
    pub coordinator: Option<SocketAddr>,
    /// How other nodes reach this one; none without a network.
    pub peer: Option<PeerAddress>,
    pub data_dir: &'a Path,
    pub admin_token: String,
}

impl Served<'_> {
    /// Serves until told to stop; `announce` is called once all listen.
    pub(super) fn until_stopped(
        self,
        dev: Option<(DevEdge, Coordinator)>,
        announce: impl FnOnce(&Serving<'_>) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let Self { config, genesis, key, clock, shows_progress } = self;
        let page = metrics::install(config.legacy_metric_names)
            .map_err(|error| CliError::failed("metrics", error))?;
        let token_file = &config.rpc.admin_token_file;
        let token = AdminToken::load_or_create(token_file)
            .map_err(|error| CliError::from(error).at_start())?;
        let options = NodeOptions::from_config(config);
        let unread = |source| {
            let what = format!("genesis {}", genesis.display());
            ChainError::Directory { what, source }
        };
        let build = || {
            let text = std::fs::read_to_string(genesis).map_err(unread)?;
            Ok(GenesisDocument::parse(&text)?.build()?)
        };
        let fingerprint =
            GenesisSource::fingerprint_of(genesis, &options.stores.directory).map_err(unread)?;
        let source = GenesisSource { fingerprint, build: &build };
        let (effects, spoken) = config.p2p.enabled.then(|| mpsc::channel(EFFECTS_MAX)).unzip();
        let joining = Joining { key, effects };
        let node = Node::join(&options, &source, joining, &clock, &mut log_progress)?;
        let mut backend = node.backend(&clock, page);
        let admin_token = token.reveal().to_owned();
        backend.admin_token = Some(token);
        let (edge, mock) = dev.unzip();
        backend.dev = edge;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .event_interval(TASKS_BETWEEN_EVENTS)
            .build()
            .map_err(|error| CliError::failed("runtime", error.to_string()))?;
        let served = runtime.block_on(async {
            let (stop, stopping) = watch::channel(false);
            let stopping = Arc::new(stopping);
            let until = || {
                let mut stopping = (*stopping).clone();
                async move {
                    let _ = stopping.wait_for(|stop| *stop).await;
                }
            };
            let (network, incoming) = match spoken {
                Some(spoken) => Some(connect(config, &node, spoken)?).unzip(),
                None => (None, None),
            };
            let quic: Option<gossip::Backend> =
                network.clone().zip(incoming).map(|(all, heard)| (Arc::new(all) as _, heard));
            gossip::start(&node, quic.into_iter().collect(), config.gossip.redis.as_ref())
                .map_err(|error| {
                    CliError::failed("gossip_failed", error.to_string())
                        .hint("check gossip.redis_url")
                })?;
            let peer = network.as_ref().and_then(reached_at);
            backend.network = network.clone();
            let remotes = cross_site::start(&config.cross_site, &node, until())?;
            backend.cross_site = remotes.clone();
            let (rpc, rpc_task) = rpc::serve(config.rpc.clone(), backend, until())
                .await
                .map_err(|error| CliError::new(&error, error.hint()))?;
            let mut tasks = vec![rpc_task];
            let mut coordinator = None;
            if let Some(mock) = mock {
                let mock = coordinator::serve(config.coordinator.bind, mock, until());
                let mock = mock.await.map_err(|error| {
                    CliError::new(&error, "choose another address with --coordinator")
                })?;
                coordinator = Some(mock.address);
                tasks.push(mock.task);
            }
            let data_dir = config.data_dir.as_path();
            announce(&Serving { node: &node, rpc, coordinator, peer, data_dir, admin_token })?;
            let mut bar = SyncBar::new(shows_progress);
            let look = || {
                let height = node.chain().head().height.get();
                let (target, what) = target(network.as_ref(), &remotes);
                bar.update(height, target, what);
            };
            let result = wait(&node, look).await;
            drop(bar);
            let _ = stop.send(true);
            // Connections that are still open then are cut.
            let close = futures_util::future::join_all(tasks);
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, close).await;
            if let Some(network) = network {
                network.close().await;
            }
            result
        });
        runtime.shutdown_background();
        let disk = Arc::clone(node.disk());
        let stopped = node.stop().map_err(|error| match disk.failed() {
            Some(code) => CliError::no_room(code, error.to_string()),
            None => error.into(),
        });
        served.and(stopped)
    }
}

/// Starts the network of a node.
fn connect(
    config: &NodeConfig,
    node: &Node,
    effects: mpsc::Receiver<Effect>,
) -> Result<(Network, mpsc::Receiver<Incoming>), CliError> {
    let p2p = &config.p2p;
    let options = NetworkOptions {
        bind: p2p.bind,
        peers: p2p.peers.clone(),
        wanted: p2p.peers_wanted,
        connections_max: p2p.peers_max,
        exchanges_addresses: p2p.exchange,
        book: config.data_dir.join("peers"),
    };
    let parts = Parts {
        chain: node.chain().clone(),
        mempool: Arc::clone(node.mempool()),
        importer: node.importer().clone(),
        disk: Arc::clone(node.disk()),
        inbox: Arc::clone(node.inbox()),
        effects,
    };
    let started = network::load_key(&p2p.key_file)
        .map_err(NetworkError::from)
        .and_then(|key| Network::start(options, key, parts));
    started.map_err(|error| {
        let failed = CliError::failed("network_failed", error.to_string());
        match error {
            NetworkError::Key(NetworkKeyError::File { source, .. }) => {
                CliError { hint: source.hint(), ..failed }.at_start()
            }
            _ => failed.hint(
                "choose another address with --p2p, or set p2p.enabled to false for a node that is alone",
            ),
        }
    })
}

/// How others reach a node, as far as it knows itself.
fn reached_at(network: &Network) -> Option<PeerAddress> {
    let address = network.local_addr().ok()?;
    let ip = match address.ip() {
        ip if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        ip => ip,
    };
    Some(PeerAddress { id: network.id(), host: ip.to_string(), port: address.port() })
}

fn log_progress(progress: OpenProgress) {
    let OpenProgress::Replay { done, total } = progress;
    if total > 0 && done % 100 == 0 {
        tracing::info!(done, total, "executing the blocks after the checkpoint");
    }
}

impl From<NodeError> for CliError {
    fn from(error: NodeError) -> Self {
        Self::of_node(&error, error.code(), error.hint())
    }
}

impl From<CrossSiteError> for CliError {
    fn from(error: CrossSiteError) -> Self {
        Self::failed("cross_site_failed", error.to_string()).hint("check cross_site.ca_file")
    }
}

/// How far others are, and what goes on.
fn target(network: Option<&Network>, remotes: &CrossSiteView) -> (u64, &'static str) {
    let sync = network.and_then(|network| network.view().sync.clone());
    let lines = remotes.remotes();
    let well = lines.iter().filter(|line| line.status.reason.is_well());
    let remote = well.filter_map(|line| line.status.height).max().map_or(0, Height::get);
    match sync {
        Some(sync) if sync.target.get() >= remote => (sync.target.get(), sync.reason.name()),
        _ => (remote, "from another site"),
    }
}

/// Until a signal, or until the node fails.
async fn wait(node: &Node, mut look: impl FnMut()) -> Result<(), CliError> {
    let io = |error: std::io::Error| CliError::new(&error, "");
    let mut terminate = signal(SignalKind::terminate()).map_err(io)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io)?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            () = tokio::time::sleep(LOOK) => {
                look();
                if let Some(message) = node.failure() {
                    // Who writes is told of an error of the disk before its file system stops.
                    tokio::time::sleep(LOOK).await;
                    if let Some(code) = node.disk().failed() {
                        return Err(CliError::no_room(code, message));
                    }
                    return Err(CliError::failed("node_failed", message).hint("the log says more"));
                }
            }
        }
    }
}
