//! The listener that REST interface and mock coordinator share: bounded connections,
//! time-outs, a rate for each client, graceful end.
//!
//! What is answered is the service's affair; no endpoint is known here.

mod answers;
mod offenders;
mod places;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use hyper::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warp::http::{HeaderMap, Version, header};
use warp::reply::Response;

use answers::Answers;
pub use offenders::{Offence, Offenders};
use places::{Busy, Place, Places, Room};
pub use places::{Share, Shares};

/// How long open connections may go on after shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(700);
/// How long a connection waits for another to end, while no other is accepted.
const ROOM_WAIT: Duration = Duration::from_millis(20);
/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
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
    let connections = Arc::new(Semaphore::new(limits.connections_max));
    let (places, answers) = (Places::default(), Answers::default());
    let graceful = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener) => accepted,
        };
        let Some((stream, peer)) = accepted else { continue };
        let is_exempt = is_exempt(peer.ip(), trusted);
        let place = places.enter(peer.ip(), is_exempt, share_of(limits.connections_max));
        let Some(place) = place else {
            offenders.note(peer.ip(), Offence::Connections);
            continue;
        };
        let permit = match Arc::clone(&connections).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                match places.make_room(&place) {
                    Room::Made(client) => offenders.note(client, Offence::IdleConnections),
                    Room::Later => {}
                    Room::Refused => {
                        offenders.note(peer.ip(), Offence::Connections);
                        continue;
                    }
                }
                // Not for long: whoever comes next may have a place of another's.
                let free = Arc::clone(&connections).acquire_owned();
                let permit = tokio::select! {
                    () = &mut shutdown => break,
                    permit = tokio::time::timeout(ROOM_WAIT, free) => permit,
                };
                let Ok(Ok(permit)) = permit else { continue };
                permit
            }
        };
        // A client that does not take its answer is cut as well.
        let patience = Some(limits.idle_timeout);
        if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(patience) {
            tracing::debug!(%error, "a connection has no time-out for writing");
        }
        let (service, watcher) = (service.clone(), graceful.watcher());
        let (place, offenders, answers) = (Arc::new(place), offenders.clone(), answers.clone());
        tokio::spawn(async move {
            // Held until the connection ends.
            let _permit = permit;
            let connection = Connection { stream, peer, limits, place, offenders, answers };
            connection.answer(service, watcher).await;
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, graceful.shutdown()).await;
}

/// An accepted connection.
struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    limits: HttpLimits,
    place: Arc<Place>,
    offenders: Offenders,
    answers: Answers,
}

impl Connection {
    /// Answers its requests until either side ends it.
    async fn answer<S, F>(self, service: S, watcher: Watcher)
    where
        S: Fn(Request<Incoming>, SocketAddr) -> F + Send + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let Self { stream, peer, limits, place, offenders, answers } = self;
        let (first, mut first_seen) = tokio::sync::watch::channel(false);
        let at_work = Arc::clone(&place);
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            first.send_replace(true);
            let busy = at_work.work(!request.body().is_end_stream());
            let (answer, answers) = (service(request, peer), answers.clone());
            async move {
                let (answer, room) = answers.admit(answer.await);
                busy.answers();
                // At work until the last of the answer is given away.
                let held = |body| HeldBody { body, _busy: busy, _room: room };
                Ok::<_, std::convert::Infallible>(answer.map(held))
            }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.idle_timeout)
            .max_buf_size(HEAD_BYTES_MAX);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(watcher.watch(connection));
        let begun = first_seen.wait_for(|seen| *seen);
        // A client that breaks off is its own affair.
        tokio::select! {
            _ = &mut connection => return,
            () = place.closed() => return,
            begun = tokio::time::timeout(limits.header_timeout, begun) => {
                if begun.is_err() {
                    offenders.note(peer.ip(), Offence::SlowHead);
                    return;
                }
            }
        }
        tokio::select! {
            _ = &mut connection => {}
            () = place.closed() => {}
        }
    }
}

/// The body of an answer: until the last of it is given away, its connection is at work.
struct HeldBody<B> {
    body: B,
    _busy: Busy,
    _room: Option<OwnedSemaphorePermit>,
}

impl<B: Body + Unpin> Body for HeldBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
            serve(listener, limits, &[], &Offenders::default(), answer, stopped).await;
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
        // The only place is taken: the slow one, which asks for nothing, gives it up.
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
        tokio::spawn(async move {
            let never = std::future::pending();
            serve(listener, limits, &[], &Offenders::default(), answer, never).await;
        });
        let ask = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        let mut deaf = TcpStream::connect(address).await.unwrap();
        deaf.write_all(ask).await.unwrap();
        // The only place becomes free once the deaf one is cut.
        let began = std::time::Instant::now();
        while !answers(address).await {
            assert!(began.elapsed() < Duration::from_secs(30), "the deaf client is not cut");
        }
    }

    /// Whether a new client is answered, and not turned away; one of both happens soon.
    async fn answers(address: SocketAddr) -> bool {
        let mut next = TcpStream::connect(address).await.unwrap();
        let mut start = [0; 12];
        let asked = async {
            next.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await?;
            next.read_exact(&mut start).await
        };
        let answered = tokio::time::timeout(Duration::from_secs(5), asked).await;
        answered.expect("it waits for a place").is_ok_and(|_| start == *b"HTTP/1.1 200")
    }

    #[tokio::test]
    async fn who_finds_all_at_work_is_turned_away_and_holds_nobody_up() {
        let hour = Duration::from_secs(3_600);
        let limits = HttpLimits { connections_max: 1, header_timeout: hour, idle_timeout: hour };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let turn = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let answer = move |_, _| {
            let turn = turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            async move {
                if turn == 0 {
                    std::future::pending::<()>().await;
                }
                "hello".into_response()
            }
        };
        tokio::spawn(async move {
            let never = std::future::pending();
            serve(listener, limits, &[], &Offenders::default(), answer, never).await;
        });
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        for _ in 0..3 {
            assert!(!answers(address).await);
        }
        drop(first);
        let began = std::time::Instant::now();
        while !answers(address).await {
            assert!(began.elapsed() < Duration::from_secs(30), "there is room");
        }
    }

    #[tokio::test]
    async fn whoever_asks_has_a_place_though_others_hold_all_of_them() {
        let hour = Duration::from_secs(3_600);
        let limits = HttpLimits { connections_max: 4, header_timeout: hour, idle_timeout: hour };
        let (address, _stop) = start(limits).await;
        let mut held = Vec::new();
        for n in 0..4 {
            let mut one = TcpStream::connect(address).await.unwrap();
            // Two of them were answered and wait, two never say what they want.
            let head = if n < 2 { "GET / HTTP/1.1\r\nhost: x\r\n\r\n" } else { "GET /" };
            one.write_all(head.as_bytes()).await.unwrap();
            if n < 2 {
                one.read_exact(&mut [0; 12]).await.unwrap();
            }
            held.push(one);
        }
        for _ in 0..3 {
            let mut next = TcpStream::connect(address).await.unwrap();
            next.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            let mut start = [0; 12];
            let read = tokio::time::timeout(Duration::from_secs(20), next.read_exact(&mut start));
            read.await.expect("there is no room for it").unwrap();
            assert_eq!(&start, b"HTTP/1.1 200");
            held.push(next);
        }
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
