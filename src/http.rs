//! The listener that REST interface and mock coordinator share: bounded connections,
//! time-outs, a rate for each client, graceful end.
//!
//! What is answered is the service's affair; no endpoint is known here.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warp::http::{HeaderMap, Version, header};
use warp::reply::Response;

/// How long open connections may go on after shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(700);
/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Clients whose rate is remembered before idle ones are forgotten.
const CLIENT_COUNT_MAX: usize = 10_000;

/// Bounds of a listener.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Most connections at once; more wait to be accepted. A client on another machine has a
    /// quarter of them at most, unless it is an operator's own proxy.
    pub connections_max: usize,
    /// Time that a new connection has to send the head of its first request.
    pub header_timeout: Duration,
    /// Time that a kept connection may be silent, take for the head of a later request, or not
    /// take what is sent to it.
    pub idle_timeout: Duration,
}

/// Answers requests on `listener` until `shutdown` is done, then lets open ones end.
pub async fn serve<S, F>(
    listener: TcpListener,
    limits: HttpLimits,
    trusted: &[IpAddr],
    service: S,
    shutdown: impl Future<Output = ()>,
) where
    S: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let connections = Arc::new(Semaphore::new(limits.connections_max));
    let clients = Clients::default();
    let per_client_max = (limits.connections_max / 4).max(1);
    let graceful = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        let exempt = peer.ip().is_loopback() || trusted.contains(&peer.ip());
        let Some(place) =
            clients.enter(peer.ip(), if exempt { usize::MAX } else { per_client_max })
        else {
            continue;
        };
        // A client that does not take its answer is cut as well.
        let patience = Some(limits.idle_timeout);
        if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(patience) {
            tracing::debug!(%error, "a connection has no time-out for writing");
        }
        let service = service.clone();
        let (first, mut first_seen) = tokio::sync::watch::channel(false);
        let service = hyper::service::service_fn(move |request| {
            first.send_replace(true);
            let answer = service(request, peer);
            async move { Ok::<_, std::convert::Infallible>(answer.await) }
        });
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            // Held until the connection ends.
            let _held = (permit, place);
            let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
            builder
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.idle_timeout)
                .max_buf_size(HEAD_BYTES_MAX);
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
            let connection = watcher.watch(connection);
            let mut connection = std::pin::pin!(connection);
            // A client that breaks off is its own affair.
            tokio::select! {
                _ = &mut connection => return,
                begun = tokio::time::timeout(limits.header_timeout, first_seen.wait_for(|seen| *seen)) => {
                    if begun.is_err() {
                        return;
                    }
                }
            }
            let _ = connection.await;
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, graceful.shutdown()).await;
}

/// The next connection, once there is room for one.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Answers are small and written at once.
            let _ = stream.set_nodelay(true);
            Some((stream, peer, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection cannot be accepted");
            // Out of descriptors: trying again at once would only spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

/// Connections of each client: an address, or the 64-bit network of an IPv6 one.
#[derive(Debug, Clone, Default)]
struct Clients(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A connection that is counted until it is dropped.
struct Place(Clients, IpAddr);

fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => IpAddr::from((u128::from(v6) >> 64 << 64).to_be_bytes()),
    }
}

impl Clients {
    fn count(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, ip: IpAddr, max: usize) -> Option<Place> {
        let ip = network(ip);
        let mut clients = self.count();
        let count = clients.entry(ip).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Place(self.clone(), ip))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.0.count();
        if let Some(count) = clients.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.1);
            }
        }
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use warp::Reply;

    #[test]
    fn bounds_the_rate_of_each_client_apart() {
        let rate = ClientRate::new(60, 3);
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        for _ in 0..3 {
            assert!(rate.check(a).is_ok());
        }
        let wait = rate.check(a).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert!(rate.check(b).is_ok());
        let unbounded = ClientRate::new(0, 1);
        assert!((0..1_000).all(|_| unbounded.check(a).is_ok()));
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_client_has_its_share_of_connections_and_no_more() {
        let clients = Clients::default();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = clients.enter(ip("2001:db8::1"), 2);
        let second = clients.enter(ip("2001:db8::2"), 2);
        assert!(first.is_some() && second.is_some());
        assert!(clients.enter(ip("2001:db8::3"), 2).is_none(), "one network is one client");
        assert!(clients.enter(ip("192.0.2.1"), 2).is_some());
        drop(first);
        assert!(clients.enter(ip("2001:db8::3"), 2).is_some());
        drop(second);
        assert!(clients.count().is_empty());
    }

    #[test]
    fn only_a_program_on_this_machine_is_local() {
        let here: SocketAddr = "127.0.0.1:5000".parse().unwrap();
        let there: SocketAddr = "192.0.2.7:5000".parse().unwrap();
        let local =
            |peer, pairs: &[_]| Client::of(peer, Version::HTTP_11, &headers(pairs), &[]).local;
        assert!(local(here, &[]));
        assert!(local(here, &[("host", "127.0.0.1:8080")]));
        assert!(local(here, &[("host", "[::1]:8080"), ("origin", "http://localhost:3000")]));
        assert!(!local(there, &[]));
        assert!(!local(here, &[("x-forwarded-for", "192.0.2.7")]));
        assert!(!local(here, &[("forwarded", "for=192.0.2.7")]));
        assert!(!local(here, &[("origin", "https://example.org")]));
        assert!(!local(here, &[("origin", "null")]));
        assert!(!local(here, &[("host", "rebound.example.org:8080")]));
        assert!(!local(here, &[("sec-fetch-site", "cross-site")]));
        for name in PROXY_HEADERS {
            assert!(!local(here, &[(name, "x")]), "{name}");
        }
        // What cannot be read is not nothing.
        let mut unreadable = HeaderMap::new();
        let value = warp::http::HeaderValue::from_bytes(b"\xff, 192.0.2.7").unwrap();
        unreadable.insert("x-forwarded-for", value);
        assert!(!Client::of(here, Version::HTTP_11, &unreadable, &[]).local);
        assert!(!Client::of(here, Version::HTTP_10, &HeaderMap::new(), &[]).local);
    }

    #[test]
    fn believes_forwarded_addresses_of_trusted_proxies_only() {
        let proxy: SocketAddr = "10.0.0.1:1".parse().unwrap();
        let claimed = headers(&[("x-forwarded-for", "1.1.1.1, 192.0.2.7, 10.0.0.2")]);
        let trusted = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let ip = |trusted: &[IpAddr]| {
            Client::of(proxy, Version::HTTP_11, &claimed, trusted).ip.to_string()
        };
        assert_eq!(ip(&[]), "10.0.0.1");
        assert_eq!(ip(&trusted), "192.0.2.7");
        // What is no address ends the trust: nothing before it is believed.
        let odd = headers(&[("x-forwarded-for", "1.1.1.1, unknown, 10.0.0.2")]);
        let found = Client::of(proxy, Version::HTTP_11, &odd, &trusted).ip.to_string();
        assert_eq!(found, "10.0.0.2");
    }

    async fn start(limits: HttpLimits) -> (SocketAddr, tokio::sync::oneshot::Sender<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let answer = |_, _| async { "hello".into_response() };
        tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            serve(listener, limits, &[], answer, stopped).await;
        });
        (address, stop)
    }

    #[tokio::test]
    async fn a_connection_that_sends_no_head_is_closed() {
        let limits = HttpLimits {
            connections_max: 1,
            header_timeout: Duration::from_millis(100),
            idle_timeout: Duration::from_secs(60),
        };
        let (address, _stop) = start(limits).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n").await.unwrap();
        // The only place is taken: this one is answered once the slow one is cut.
        let mut next = TcpStream::connect(address).await.unwrap();
        next.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        next.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let mut rest = Vec::new();
        assert_eq!(slow.read_to_end(&mut rest).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn a_client_that_does_not_take_its_answer_is_cut() {
        let limits = HttpLimits {
            connections_max: 1,
            header_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_millis(500),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = |_, _| async { vec![0_u8; 64 << 20].into_response() };
        tokio::spawn(serve(listener, limits, &[], answer, std::future::pending()));
        let ask = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        let mut deaf = TcpStream::connect(address).await.unwrap();
        deaf.write_all(ask).await.unwrap();
        // The only place becomes free once the deaf one is cut.
        let mut next = TcpStream::connect(address).await.unwrap();
        next.write_all(ask).await.unwrap();
        let mut start = [0; 12];
        let read = tokio::time::timeout(Duration::from_secs(30), next.read_exact(&mut start));
        read.await.expect("the deaf client is not cut").unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed() {
        let limits = HttpLimits {
            connections_max: 4,
            header_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_millis(100),
        };
        let (address, _stop) = start(limits).await;
        let mut kept = TcpStream::connect(address).await.unwrap();
        kept.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        kept.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
    }
}
