//! The coordinator's listener: bounded connections, time-outs, a rate for each client.
//!
//! What is answered stands in the routes.

use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultKeyedRateLimiter, Quota};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use warp::Filter;
use warp::http::StatusCode;
use warp::reply::Response;

use super::Coordinator;
use super::routes::{error, routes, unix_seconds};

/// The port that the old mock had.
pub const DEFAULT_PORT: u16 = 8090;

const CONNECTION_COUNT_MAX: usize = 256;
const CONNECTION_BUFFER_BYTES_MAX: usize = 64 * 1024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
const SIMULATION_INTERVAL: Duration = Duration::from_millis(2_500);
const RATE_PER_SECOND: NonZeroU32 = NonZeroU32::new(500).expect("not 0");
const RATE_BURST: NonZeroU32 = NonZeroU32::new(2_000).expect("not 0");
const RATE_CLIENT_COUNT_MAX: usize = 10_000;

/// Why the coordinator does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("the coordinator cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A coordinator that serves until its shutdown future is done.
#[derive(Debug)]
pub struct Serving {
    /// Where it listens; the port is a real one even if 0 was asked for.
    pub address: SocketAddr,
    /// Ends after the last connection, a second after shutdown at the latest.
    pub task: JoinHandle<()>,
}

/// Binds `address` and serves `coordinator` there, simulated jobs included, until
/// `shutdown` is done. Must be called inside a Tokio runtime.
///
/// # Errors
/// [`ServeError::Bind`] if the address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    coordinator: Coordinator,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Serving, ServeError> {
    let bind = |source| ServeError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(bind)?;
    let address = listener.local_addr().map_err(bind)?;
    let task = tokio::spawn(run(listener, coordinator, shutdown));
    Ok(Serving { address, task })
}

async fn run(listener: TcpListener, coordinator: Coordinator, shutdown: impl Future<Output = ()>) {
    let quota = Quota::per_second(RATE_PER_SECOND).allow_burst(RATE_BURST);
    let limiter = Arc::new(DefaultKeyedRateLimiter::keyed(quota));
    let connections = Arc::new(Semaphore::new(CONNECTION_COUNT_MAX));
    let graceful = GracefulShutdown::new();
    let filter = routes(coordinator.clone()).boxed();
    let mut simulation = tokio::time::interval(SIMULATION_INTERVAL);
    simulation.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            _ = simulation.tick() => {
                coordinator.book().tick(unix_seconds());
                if limiter.len() > RATE_CLIENT_COUNT_MAX {
                    limiter.retain_recent();
                }
                continue;
            }
            accepted = accept(&listener, &connections) => accepted,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        let (filter, limiter) = (filter.clone(), Arc::clone(&limiter));
        let service = hyper::service::service_fn(move |request| {
            let allowed = limiter.check_key(&peer.ip()).is_ok();
            answer(filter.clone(), request, allowed)
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(CONNECTION_BUFFER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // A client that breaks off is its own affair.
            let _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, graceful.shutdown()).await;
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

/// The next connection, once there is room for one.
async fn accept(listener: &TcpListener, connections: &Arc<Semaphore>) -> Option<Accepted> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, permit)),
        Err(error) => {
            tracing::warn!(%error, "the coordinator cannot accept a connection");
            // Out of descriptors: trying again at once would only spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

type Routes = warp::filters::BoxedFilter<(Response,)>;

async fn answer(
    filter: Routes,
    request: hyper::Request<hyper::body::Incoming>,
    allowed: bool,
) -> Result<Response, std::convert::Infallible> {
    if !allowed {
        let (detail, hint) = ("too many requests from this address", "wait a second");
        return Ok(error(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail, hint));
    }
    let service = TowerToHyperService::new(warp::service(filter));
    let answered = Service::call(&service, request);
    match tokio::time::timeout(REQUEST_TIMEOUT, answered).await {
        Ok(answered) => answered,
        Err(_) => {
            let (detail, hint) = ("the body did not arrive in time", "send it again");
            Ok(error(StatusCode::REQUEST_TIMEOUT, "timeout", detail, hint))
        }
    }
}
