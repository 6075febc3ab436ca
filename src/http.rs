//! The listener that REST interface and mock coordinator share: bounded connections,
//! time-outs, a rate for each client, graceful end.
//!
//! What is answered is the service's affair; no endpoint is known here.

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

mod answers;
mod connection;
mod entrance;
mod offenders;
mod places;
mod takers;
mod turns;
mod woken;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use hyper::Request;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use warp::http::{HeaderMap, Version, header};
use warp::reply::Response;

pub use answers::{ANSWER_BYTES_MAX, UntilCounted};
use entrance::Entrance;
pub use offenders::{Offence, Offenders};
pub use places::{Share, Shares};
pub use takers::Takers;

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
    peer.to_canonical().is_loopback() || is_trusted(peer, trusted)
}

/// Whether this is one of the operator's own proxies.
fn is_trusted(peer: IpAddr, trusted: &[IpAddr]) -> bool {
    trusted.iter().any(|one| one.to_canonical() == peer.to_canonical())
}

/// Answers requests on `listener` until `shutdown` is done, then lets open ones end. Each connection
/// has a service of its own, which is told who asks.
pub async fn serve<S, F>(
    listener: TcpListener,
    limits: HttpLimits,
    trusted: &[IpAddr],
    offenders: &Offenders,
    services: impl Fn() -> S + Send + Sync + 'static,
    shutdown: impl Future<Output = ()> + Send + 'static,
) where
    S: Fn(Request<Incoming>, Client) -> F + Send + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let entrance = Entrance::new(limits, offenders);
    entrance.serve(listener, trusted, services, shutdown).await;
}

/// What counts as one client: an address, or the 64-bit network of an IPv6 one. An IPv4 address is
/// the same when a socket of IPv6 shows it, which would put all of them into one network.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
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
        let peer = peer.ip().to_canonical();
        let mut ip = peer;
        // From the last hop back, as far as our own proxies vouch for it; what is no address
        // ends the trust, and so does a value that cannot be read.
        let values = headers.get_all("x-forwarded-for").iter();
        let hops: Option<Vec<&str>> = values.map(|value| value.to_str().ok()).collect();
        for hop in hops.unwrap_or_default().iter().flat_map(|value| value.split(',')).rev() {
            match hop.trim().parse::<IpAddr>() {
                Ok(hop) if is_trusted(ip, trusted) => ip = hop.to_canonical(),
                _ => break,
            }
        }
        // There are fewer headers than names of these, and each look-up would hash its name.
        let shows_proxy = headers.keys().any(|name| PROXY_HEADERS.contains(&name.as_str()));
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
