//! The REST interface over warp: every endpoint of the wire contract, subscriptions, and
//! the OpenAPI document that describes them.
//!
//! `routes` is the table of all endpoints. Bodies are bounded, every error has the one
//! shape of `ait_net::wire::ErrorBody`, and reads of storage run on blocking threads.
//! Unsigned requests are served for a devnet's named accounts only.
//!
//! Nothing is decided here: what is well formed goes to the ingress.

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

mod accounts;
mod admin;
mod attest;
mod batch;
mod bodies;
mod call;
mod chain;
mod dev;
mod error;
mod hub;
mod import;
mod node;
mod openapi;
mod peers;
mod proofs;
mod quick;
mod reads;
mod receipts;
mod remotes;
mod route;
mod routes;
mod server;
mod submit;
mod subscribe;
mod transactions;
mod views;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use ait_engine::types::Address;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::chain::{Chain, StorageEngine};
use crate::config::RpcConfig;
use crate::cross_site::CrossSiteView;
use crate::health::Watchdog;
use crate::http::{ClientRate, HttpLimits, Offenders, Shares, Takers};
use crate::import::Importer;
use crate::ingress::{Clock, Ingress};
use crate::mempool::Mempool;
use crate::network::Network;

pub use admin::{AdminToken, AdminTokenError};
pub use bodies::{LARGE_BODIES_BYTES_MAX, ORDINARY_BODIES_BYTES_MAX};
pub use dev::DevEdge;
pub use error::ApiError;
pub use reads::BLOCKS_BYTES_MAX;

/// Mints a minute that one client may ask a faucet for, and at once.
const FAUCET_RATE: (u32, u32) = (600, 200);

/// Ranges of blocks that are read at once for clients, and for peers: half of the processors are
/// left to everything else.
pub(crate) fn ranges_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, |count| (count.get() / 2).max(1))
}

/// What a server needs of its node.
pub struct Backend {
    /// The chain.
    pub chain: Chain,
    /// Pending transactions.
    pub mempool: Arc<Mempool>,
    /// The way in.
    pub ingress: Ingress,
    /// How the node does.
    pub health: Arc<Watchdog>,
    /// This node's validator; none if it follows.
    pub validator: Option<Address>,
    /// Which storage engine holds the chain.
    pub storage_engine: StorageEngine,
    /// The present time.
    pub clock: Clock,
    /// The metrics page.
    pub metrics: PrometheusHandle,
    /// Who may administer; nobody if none.
    pub admin_token: Option<AdminToken>,
    /// A devnet's keys; only ever given to a server on loopback.
    pub dev: Option<DevEdge>,
    /// Other nodes; none for a node that is alone.
    pub network: Option<Network>,
    /// The way in for certified blocks; none for a server that takes none.
    pub importer: Option<Importer>,
    /// How remotes of other sites stand.
    pub cross_site: CrossSiteView,
}

/// What the handlers use.
struct Api {
    chain: Chain,
    mempool: Arc<Mempool>,
    ingress: Ingress,
    health: Arc<Watchdog>,
    validator: Option<Address>,
    storage_engine: StorageEngine,
    clock: Clock,
    metrics: PrometheusHandle,
    admin_token: Option<AdminToken>,
    dev: Option<DevEdge>,
    network: Option<Network>,
    importer: Option<Importer>,
    cross_site: CrossSiteView,
    options: RpcConfig,
    rate: ClientRate,
    faucet_rate: ClientRate,
    subscribers: Arc<Semaphore>,
    /// Subscriptions of each client.
    subscriptions: Shares,
    /// Whom this interface limited.
    offenders: Offenders,
    /// Who takes most of what it answers.
    takers: Takers,
    /// What subscribers are told.
    hub: hub::Hub,
    /// Reads of storage at once.
    reads: reads::Reads,
    /// Room for bodies of requests.
    bodies: bodies::Bodies,
    closing: watch::Receiver<bool>,
}

/// The interface as a connection has it. What all connections share is counted once for each of
/// them and not for each transaction that goes past the filters: cores that count the same take it
/// from each other. All that the filters let through has one of these together.
#[derive(Debug, Clone)]
#[expect(clippy::redundant_allocation, reason = "the outer count is the connection's own")]
struct Shared(Arc<Arc<Api>>);

impl Shared {
    fn new(api: &Arc<Api>) -> Self {
        Self(Arc::new(Arc::clone(api)))
    }
}

impl std::ops::Deref for Shared {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.0
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Api {
    /// The name under which an account was spoken of here, or its address.
    fn shown(&self, address: &Address) -> String {
        let name = self.dev.as_ref().and_then(|dev| dev.names.spoken(address));
        name.unwrap_or_else(|| address.to_string())
    }
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A devnet's open endpoints on an address that others reach.
    #[error(
        "{address} is not a loopback address: a devnet signs for anybody and is never opened to others"
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
}

impl ServeError {
    /// What to do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "is another node running? choose another address with --rpc",
            Self::NotLoopback { .. } => "use 127.0.0.1 or [::1]; ait-node run serves others",
        }
    }
}

/// Serves until `shutdown`; gives the address listened on, and the task.
///
/// # Errors
/// [`ServeError`] when the address cannot be used.
pub async fn serve(
    options: RpcConfig,
    backend: Backend,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(SocketAddr, tokio::task::JoinHandle<()>), ServeError> {
    let address = options.bind;
    if backend.dev.is_some() && !address.ip().is_loopback() {
        return Err(ServeError::NotLoopback { address });
    }
    let bind = |source| ServeError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(bind)?;
    let local = listener.local_addr().map_err(bind)?;
    let limits = HttpLimits {
        connections_max: options.connections_max,
        header_timeout: options.header_timeout,
        idle_timeout: options.idle_timeout,
        // Who may make a request may open a connection for it.
        new_per_minute: options.rate_limit_per_minute,
        new_burst: options.rate_limit_burst,
    };
    let trusted = options.trusted_proxies.clone();
    let (close, closing) = watch::channel(false);
    let offenders = Offenders::default();
    let Backend { chain, mempool, ingress, health, validator, storage_engine, .. } = backend;
    let Backend { clock, metrics, admin_token, dev, network, importer, cross_site, .. } = backend;
    let api = Arc::new(Api {
        rate: ClientRate::new(options.rate_limit_per_minute, options.rate_limit_burst),
        faucet_rate: ClientRate::new(FAUCET_RATE.0, FAUCET_RATE.1),
        subscribers: Arc::new(Semaphore::new(options.websocket_subscribers_max)),
        subscriptions: Shares::default(),
        offenders: offenders.clone(),
        takers: Takers::default(),
        hub: hub::Hub::default(),
        reads: reads::Reads::default(),
        bodies: bodies::Bodies::default(),
        chain,
        mempool,
        ingress,
        health,
        validator,
        storage_engine,
        clock,
        metrics,
        admin_token,
        dev,
        network,
        importer,
        cross_site,
        options,
        closing,
    });
    let routes = server::routes(&Shared::new(&api));
    let services = move || {
        let (api, routes) = (Shared::new(&api), routes.clone());
        move |request, client| server::answer(&api, &routes, request, client)
    };
    let closed = async move {
        shutdown.await;
        // Subscriptions end first, so that nothing waits for them.
        close.send_replace(true);
    };
    let serving = async move {
        crate::http::serve(listener, limits, &trusted, &offenders, services, closed).await;
    };
    Ok((local, tokio::spawn(serving)))
}
