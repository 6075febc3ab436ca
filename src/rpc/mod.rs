//! The REST interface over warp: the first endpoints of the wire contract.
//!
//! Bodies are bounded, every error has the one shape of `ait_net::wire::ErrorBody`, and
//! reads of storage run on blocking threads. Unsigned requests are served for a
//! devnet's named accounts only, and only where the server was given them.
//!
//! Nothing is decided here: what is well formed goes to the ingress.

mod error;
mod read;
mod submit;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use warp::{Filter, Reply};

use crate::chain::Chain;
use crate::devnet::DevAccounts;
use crate::ingress::Ingress;
use crate::mempool::Mempool;

pub use error::ApiError;

/// Largest body of a request, in bytes.
const BODY_BYTES_MAX: u64 = 64 * 1024;

/// Keys that a devnet's edge signs with.
#[derive(Debug)]
pub struct DevEdge {
    /// Unlocked accounts.
    pub names: DevAccounts,
    /// The key that may mint.
    pub minter: ait_engine::crypto::SecretKey,
    /// One signature at a time, so that nonces follow each other.
    pub signing: tokio::sync::Mutex<()>,
}

/// What the handlers use.
#[derive(Debug, Clone)]
pub struct Backend {
    /// The chain.
    pub chain: Chain,
    /// Pending transactions.
    pub mempool: Arc<Mempool>,
    /// The way in.
    pub ingress: Ingress,
    /// A devnet's keys; only ever given to a server on loopback.
    pub dev: Option<Arc<DevEdge>>,
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; is another node running? choose another address with --rpc"
    )]
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

/// Serves until `shutdown`; gives the address listened on, and the task.
///
/// # Errors
/// [`ServeError`] when the address cannot be used.
pub async fn serve(
    address: SocketAddr,
    backend: Backend,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(SocketAddr, tokio::task::JoinHandle<()>), ServeError> {
    if backend.dev.is_some() && !address.ip().is_loopback() {
        return Err(ServeError::NotLoopback { address });
    }
    let bind = |source| ServeError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(bind)?;
    let local = listener.local_addr().map_err(bind)?;
    let server = warp::serve(routes(backend)).incoming(listener).graceful(shutdown);
    Ok((local, tokio::spawn(server.run())))
}

/// All routes.
fn routes(
    backend: Backend,
) -> impl Filter<Extract = (impl Reply,), Error = std::convert::Infallible> + Clone {
    let with = warp::any().map(move || backend.clone());
    // The method comes after the path, so that an unknown path is a 404 and not a 405.
    let get = |name: &'static str| warp::path("rpc").and(warp::path(name)).and(warp::get());
    let post = |name: &'static str| {
        warp::path("rpc").and(warp::path(name)).and(warp::path::end()).and(warp::post())
    };
    let body = warp::body::content_length_limit(BODY_BYTES_MAX).and(warp::body::bytes());
    let one = || warp::path::param::<String>().and(warp::path::end());

    let head = get("head").and(warp::path::end()).and(with.clone()).then(read::head);
    let block = get("blocks").and(one()).and(with.clone()).then(read::block);
    let tx = get("tx").and(one()).and(with.clone()).then(read::transaction);
    let why = get("tx")
        .and(warp::path::param::<String>())
        .and(warp::path("why"))
        .and(warp::path::end())
        .and(with.clone())
        .then(read::why);
    let balance = get("getBalance").and(one()).and(with.clone()).then(read::balance);
    let supply = get("supply").and(warp::path::end()).and(with.clone()).then(read::supply);
    let proof = get("proof")
        .and(warp::path("account"))
        .and(one())
        .and(with.clone())
        .then(read::account_proof);
    let health = warp::path("health")
        .and(warp::path::end())
        .and(warp::get())
        .and(with.clone())
        .then(read::health);
    let send = post("sendTx").and(body).and(with.clone()).then(submit::send);
    let send_alias = post("transaction").and(body).and(with.clone()).then(submit::send);
    let mint = warp::path!("rpc" / "admin" / "mintFaucet")
        .and(warp::post())
        .and(body)
        .and(with)
        .then(submit::mint);

    let reads = head.or(block).unify().or(why).unify().or(tx).unify().or(balance).unify();
    let reads = reads.or(supply).unify().or(proof).unify().or(health).unify();
    let writes = send.or(send_alias).unify().or(mint).unify();
    reads.or(writes).unify().recover(error::recover).map(|reply| reply)
}
