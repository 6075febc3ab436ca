//! The listener that REST interface and mock coordinator share: bounded connections,
//! time-outs, a rate for each client, graceful end.
//!
//! What is answered is the service's affair; no endpoint is known here.

mod answers;
mod connection;
mod offenders;
mod places;
mod takers;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::server::graceful::GracefulShutdown;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warp::http::{HeaderMap, Version, header};
use warp::reply::Response;

pub use answers::ANSWER_BYTES_MAX;
use answers::Answers;
use connection::Connection;
pub use offenders::{Offence, Offenders};
use places::{Place, Places, Room};
pub use places::{Share, Shares};
pub use takers::Takers;

/// How long open connections may go on after shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(700);
/// How long a new connection waits for another to end, and how many wait at once.
const ROOM_WAIT: Duration = Duration::from_millis(100);
const WAITING_MAX: usize = 256;
/// Clients whose rate is remembered before idle ones are forgotten.
const CLIENT_COUNT_MAX: usize = 10_000;

/// Bounds of a listener.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Most connections at once; for one more, one of the client that has most is ended, an idle
    /// one if there is one. A client on another machine has a quarter of them at most, unless it is an
    /// operator's own proxy.
    pub connections_max: usize,
    /// Time that a new connection has to send the head of its first request.
    pub header_timeout: Duration,
    /// Time that a kept connection may be silent, take for the head of a later request, or not
    /// take what is sent to it.
    pub idle_timeout: Duration,
    /// New connections that one client may open a minute, and at once; 0 a minute is any number.
    /// An operator's own proxy and programs of this machine may open any.
    pub new_per_minute: u32,
    /// See [`Self::new_per_minute`].
    pub new_burst: u32,
}

/// Most of something that one client may have, where `max` are for all.
#[must_use]
pub fn share_of(max: usize) -> usize {
    (max / 4).max(1)
}

/// Whether a client may have any number: a program of this machine, or the operator's own proxy,
/// behind which there are many.
#[must_use]
pub fn is_exempt(peer: IpAddr, trusted: &[IpAddr]) -> bool {
    peer.is_loopback() || trusted.contains(&peer)
}

/// Answers requests on `listener` until `shutdown` is done, then lets open ones end.
pub async fn serve<S, F>(
    listener: TcpListener,
    limits: HttpLimits,
    trusted: &[IpAddr],
    offenders: &Offenders,
    service: S,
    shutdown: impl Future<Output = ()>,
) where
    S: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let entrance = Entrance::new(limits, offenders);
    entrance.serve(listener, trusted, service, shutdown).await;
}

/// Lets connections in.
struct Entrance {
    limits: HttpLimits,
    /// New connections of each client.
    rate: ClientRate,
    offenders: Offenders,
    connections: Arc<Semaphore>,
    places: Places,
    /// New connections that wait for another to end, and each client's part of them.
    waiting: Arc<Semaphore>,
    waiting_shares: Shares,
    room_wait: Duration,
}

/// The permit of a connection.
enum Permit {
    Had(OwnedSemaphorePermit),
    /// It waits for another connection to end, and takes one of the places to wait.
    Awaited(OwnedSemaphorePermit, Share),
}

impl Entrance {
    fn new(limits: HttpLimits, offenders: &Offenders) -> Self {
        Self {
            limits,
            rate: ClientRate::new(limits.new_per_minute, limits.new_burst),
            offenders: offenders.clone(),
            connections: Arc::new(Semaphore::new(limits.connections_max)),
            places: Places::default(),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            waiting_shares: Shares::default(),
            room_wait: ROOM_WAIT,
        }
    }

    async fn serve<S, F>(
        self,
        listener: TcpListener,
        trusted: &[IpAddr],
        service: S,
        shutdown: impl Future<Output = ()>,
    ) where
        S: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let (answers, graceful) = (Answers::default(), GracefulShutdown::new());
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = accept(&listener) => accepted,
            };
            let Some((stream, peer)) = accepted else { continue };
            let Some((place, permit)) = self.admit(peer.ip(), is_exempt(peer.ip(), trusted)) else {
                // Without a farewell, of which the system would keep something.
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                continue;
            };
            // A client that does not take its answer is cut as well.
            let patience = Some(self.limits.idle_timeout);
            if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(patience) {
                tracing::debug!(%error, "a connection has no time-out for writing");
            }
            let (limits, place, answers) = (self.limits, Arc::new(place), answers.clone());
            let offenders = self.offenders.clone();
            let connection = Connection { stream, peer, limits, place, offenders, answers };
            let (service, watcher) = (service.clone(), graceful.watcher());
            let (free, room_wait) = (Arc::clone(&self.connections), self.room_wait);
            tokio::spawn(async move {
                // Held until the connection ends.
                let Some(_permit) = permit.wait(free, room_wait, &connection.place).await else {
                    return;
                };
                connection.answer(service, watcher).await;
            });
        }
        drop(listener);
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, graceful.shutdown()).await;
    }

    /// The place of a new connection, and its permit; none: it is turned away.
    fn admit(&self, client: IpAddr, is_exempt: bool) -> Option<(Place, Permit)> {
        if !is_exempt && self.rate.check(client).is_err() {
            self.offenders.note(client, Offence::NewConnections);
            return None;
        }
        let max = share_of(self.limits.connections_max);
        let Some(place) = self.places.enter(client, is_exempt, max) else {
            self.offenders.note(client, Offence::Connections);
            return None;
        };
        if let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() {
            return Some((place, Permit::Had(permit)));
        }
        // Others are accepted meanwhile: whoever comes next may have a place of another's.
        let share = self.waiting_shares.enter(client, 1, share_of(WAITING_MAX))?;
        let waiting = Arc::clone(&self.waiting).try_acquire_owned().ok()?;
        place.waits(true);
        match self.places.make_room(&place) {
            Room::Made(client) => self.offenders.note(client, Offence::IdleConnections),
            Room::Later => {}
            Room::Refused => {
                self.offenders.note(client, Offence::Connections);
                return None;
            }
        }
        Some((place, Permit::Awaited(waiting, share)))
    }
}

impl Permit {
    /// The permit, once there is one; none if there is none in time, or the place is given up.
    async fn wait(
        self,
        free: Arc<Semaphore>,
        room_wait: Duration,
        place: &Place,
    ) -> Option<OwnedSemaphorePermit> {
        let (_waiting, _share) = match self {
            Self::Had(permit) => return Some(permit),
            Self::Awaited(waiting, share) => (waiting, share),
        };
        let free = tokio::time::timeout(room_wait, free.acquire_owned()).await;
        place.waits(false);
        free.ok()?.ok()
    }
}

/// The next connection.
async fn accept(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Answers are small and written at once.
            let _ = stream.set_nodelay(true);
            Some((stream, peer))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection cannot be accepted");
            // Out of descriptors: trying again at once would only spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

/// What counts as one client: an address, or the 64-bit network of an IPv6 one.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => IpAddr::from((u128::from(v6) >> 64 << 64).to_be_bytes()),
    }
}

/// Headers by which a proxy or tunnel shows itself.
const PROXY_HEADERS: [&str; 9] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
    "true-client-ip",
    "cf-connecting-ip",
];

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// Address of the client; behind a trusted proxy that of the last hop that is none.
    pub ip: IpAddr,
    /// Whether it seems to be a program on this machine that asks directly: not through a
    /// proxy that shows itself, and not a web page of another site in somebody's browser. A
    /// tunnel that hides cannot be told from a program here.
    pub local: bool,
}

impl Client {
    /// The client of a request, where `trusted` are the operator's own proxies.
    #[must_use]
    pub fn of(peer: SocketAddr, version: Version, headers: &HeaderMap, trusted: &[IpAddr]) -> Self {
        let peer = peer.ip();
        let mut ip = peer;
        // From the last hop back, as far as our own proxies vouch for it; what is no address
        // ends the trust, and so does a value that cannot be read.
        let values = headers.get_all("x-forwarded-for").iter();
        let hops: Option<Vec<&str>> = values.map(|value| value.to_str().ok()).collect();
        for hop in hops.unwrap_or_default().iter().flat_map(|value| value.split(',')).rev() {
            match hop.trim().parse() {
                Ok(hop) if trusted.contains(&ip) => ip = hop,
                _ => break,
            }
        }
        let shows_proxy = PROXY_HEADERS.iter().any(|name| headers.contains_key(*name));
        // What forwards for others mostly speaks HTTP/1.0 unless told otherwise.
        let direct = !shows_proxy && version == Version::HTTP_11;
        Self { ip, local: peer.is_loopback() && direct && is_local_origin(headers) }
    }
}

/// Whether the request is not sent by a page of another machine's site.
fn is_local_origin(headers: &HeaderMap) -> bool {
    let host_of = |text: &str| {
        let text = text.split_once("://").map_or(text, |(_, rest)| rest);
        let host = if text.starts_with('[') {
            text.split_once(']').map_or(text, |(host, _)| host.trim_start_matches('['))
        } else {
            text.split_once(':').map_or(text, |(host, _)| host)
        };
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    };
    // The host as well: a foreign name may be made to point here.
    let local = [header::ORIGIN, header::HOST]
        .iter()
        .all(|name| headers.get(name).is_none_or(|value| value.to_str().is_ok_and(host_of)));
    let site = headers.get("sec-fetch-site").map(|value| value.as_bytes());
    local && site.is_none_or(|site| site != b"cross-site")
}

/// A rate of requests for each client.
#[derive(Debug)]
pub struct ClientRate {
    limiter: Option<DefaultKeyedRateLimiter<IpAddr>>,
}

impl ClientRate {
    /// At most `per_minute` requests a minute and `burst` at once; 0 a minute is no bound.
    #[must_use]
    pub fn new(per_minute: u32, burst: u32) -> Self {
        let limiter = NonZeroU32::new(per_minute).map(|per_minute| {
            let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
            DefaultKeyedRateLimiter::keyed(Quota::per_minute(per_minute).allow_burst(burst))
        });
        Self { limiter }
    }

    /// Counts a request of this client.
    ///
    /// # Errors
    /// How long to wait, if it makes too many.
    pub fn check(&self, client: IpAddr) -> Result<(), Duration> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        if limiter.len() > CLIENT_COUNT_MAX {
            limiter.retain_recent();
        }
        let clock = DefaultClock::default();
        limiter.check_key(&network(client)).map_err(|until| until.wait_time_from(clock.now()))
    }

    /// Counts `count` requests of this client, or none.
    ///
    /// # Errors
    /// How long to wait, if they are too many.
    pub fn check_many(&self, client: IpAddr, count: u32) -> Result<(), Duration> {
        let (Some(limiter), Some(count)) = (&self.limiter, NonZeroU32::new(count)) else {
            return Ok(());
        };
        let clock = DefaultClock::default();
        match limiter.check_key_n(&network(client), count) {
            Ok(checked) => checked.map_err(|until| until.wait_time_from(clock.now())),
            // More than may ever come at once: the caller bounds the count, so that waiting
            // is no lie.
            Err(_) => Err(Duration::from_secs(60)),
        }
    }
}

#[cfg(test)]
mod tests;
