//! The coordinator's listener, with its bounds.
//!
//! What is answered stands in the routes.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use warp::Filter;
use warp::http::{Method, StatusCode};
use warp::reply::Response;

use super::Coordinator;
use super::routes::{error, routes, unix_seconds};
use crate::http::{Client, ClientRate, HttpLimits, Offenders};

/// The port that the old mock had.
pub const DEFAULT_PORT: u16 = 8090;

const CONNECTION_COUNT_MAX: usize = 256;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const SIMULATION_INTERVAL: Duration = Duration::from_millis(2_500);
const RATE_PER_MINUTE: u32 = 30_000;
const RATE_BURST: u32 = 2_000;

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

async fn run(
    listener: TcpListener,
    coordinator: Coordinator,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let rate = Arc::new(ClientRate::new(RATE_PER_MINUTE, RATE_BURST));
    let filter = routes(coordinator.clone()).boxed();
    let service = move |request: hyper::Request<hyper::body::Incoming>, client: Client| {
        let refusal = if rate.check(client.ip).is_err() {
            let (detail, hint) = ("too many requests from this address", "wait a second");
            Some(error(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail, hint))
        } else if request.method() == Method::POST
            && request.uri().path().starts_with("/v1/jobs")
            && !client.local
        {
            let detail = "jobs are ordered by programs on the coordinator's own machine only";
            let hint = "a proxy or a page of another site is not this machine";
            Some(error(StatusCode::FORBIDDEN, "not_local", detail, hint))
        } else {
            None
        };
        answer(filter.clone(), request, refusal)
    };
    let limits = HttpLimits {
        connections_max: CONNECTION_COUNT_MAX,
        header_timeout: HEADER_TIMEOUT,
        idle_timeout: IDLE_TIMEOUT,
        new_per_minute: RATE_PER_MINUTE,
        new_burst: RATE_BURST,
    };
    let simulate = async {
        let mut simulation = tokio::time::interval(SIMULATION_INTERVAL);
        simulation.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            simulation.tick().await;
            coordinator.book().tick(unix_seconds());
        }
    };
    let services = move || service.clone();
    let offenders = Offenders::default();
    tokio::select! {
        () = crate::http::serve(listener, limits, &[], &offenders, services, shutdown) => {}
        () = simulate => {}
    }
}

type Routes = warp::filters::BoxedFilter<(Response,)>;

async fn answer(
    filter: Routes,
    request: hyper::Request<hyper::body::Incoming>,
    refusal: Option<Response>,
) -> Response {
    if let Some(refusal) = refusal {
        return refusal;
    }
    let service = TowerToHyperService::new(warp::service(filter));
    let answered = Service::call(&service, request);
    match tokio::time::timeout(REQUEST_TIMEOUT, answered).await {
        Ok(Ok(answered)) => answered,
        Err(_) => {
            let (detail, hint) = ("the body did not arrive in time", "send it again");
            error(StatusCode::REQUEST_TIMEOUT, "timeout", detail, hint)
        }
    }
}
