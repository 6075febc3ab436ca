//! The listener over real sockets.

#![allow(clippy::unwrap_used)]

use super::entrance::{PROMPT_MAX, WAITING_MAX};
use super::*;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use warp::Reply;

/// Serves with the same service for each connection.
async fn serve<S, F>(
    listener: TcpListener,
    limits: HttpLimits,
    trusted: &[IpAddr],
    offenders: &Offenders,
    service: S,
    shutdown: impl Future<Output = ()> + Send + 'static,
) where
    S: Fn(Request<Incoming>, Client) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    super::serve(listener, limits, trusted, offenders, move || service.clone(), shutdown).await;
}

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
    let local = |peer, pairs: &[_]| Client::of(peer, Version::HTTP_11, &headers(pairs), &[]).local;
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
    let ip =
        |trusted: &[IpAddr]| Client::of(proxy, Version::HTTP_11, &claimed, trusted).ip.to_string();
    assert_eq!(ip(&[]), "10.0.0.1");
    assert_eq!(ip(&trusted), "192.0.2.7");
    // What is no address ends the trust: nothing before it is believed.
    let odd = headers(&[("x-forwarded-for", "1.1.1.1, unknown, 10.0.0.2")]);
    let found = Client::of(proxy, Version::HTTP_11, &odd, &trusted).ip.to_string();
    assert_eq!(found, "10.0.0.2");
}

#[test]
fn an_ipv4_client_is_the_same_by_a_socket_of_ipv6() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let (a, b) = (ip("::ffff:192.0.2.1"), ip("::ffff:192.0.2.2"));
    assert_eq!((network(a), network(b)), (ip("192.0.2.1"), ip("192.0.2.2")));
    assert!(is_exempt(ip("::ffff:127.0.0.1"), &[]) && !is_exempt(a, &[]));
    assert!(is_exempt(a, &[ip("192.0.2.1")]) && is_exempt(ip("192.0.2.1"), &[a]));
    let forwarded = headers(&[("x-forwarded-for", "::ffff:192.0.2.2")]);
    let of = |peer: IpAddr, headers: &HeaderMap, trusted: &[IpAddr]| {
        Client::of(SocketAddr::new(peer, 1), Version::HTTP_11, headers, trusted)
    };
    assert_eq!(of(a, &forwarded, &[ip("192.0.2.1")]).ip, ip("192.0.2.2"));
    assert_eq!(of(a, &forwarded, &[]).ip, ip("192.0.2.1"));
    assert!(of(ip("::ffff:127.0.0.1"), &HeaderMap::new(), &[]).local);
}

#[tokio::test]
async fn a_client_of_ipv4_is_named_as_such_where_both_are_listened_on() {
    let Ok(listener) = TcpListener::bind("[::]:0").await else { return };
    let port = listener.local_addr().unwrap().port();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let answer = move |_: Request<Incoming>, client: Client| {
        tell.send((client, is_exempt(client.ip, &[]))).unwrap();
        async { "hello".into_response() }
    };
    tokio::spawn(async move {
        let (hour, never) = (Duration::from_secs(3_600), std::future::pending());
        serve(listener, limits(9, hour, hour), &[], &Offenders::default(), answer, never).await;
    });
    assert!(answers(SocketAddr::from(([127, 0, 0, 1], port))).await);
    let (client, is_exempt) = told.recv().await.unwrap();
    assert_eq!((client.ip, client.local, is_exempt), ([127, 0, 0, 1].into(), true, true));
}

fn limits(connections_max: usize, header_timeout: Duration, idle_timeout: Duration) -> HttpLimits {
    HttpLimits { connections_max, header_timeout, idle_timeout, new_per_minute: 0, new_burst: 0 }
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
    let limits = limits(1, Duration::from_millis(100), Duration::from_secs(60));
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
async fn a_kept_connection_without_another_head_is_closed_and_none_that_is_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Each answer takes longer than a connection may be silent.
    let answer = |_, _| async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        "hello".into_response()
    };
    tokio::spawn(async move {
        let limits = limits(9, Duration::from_secs(60), Duration::from_millis(200));
        let never = std::future::pending();
        serve(listener, limits, &[], &Offenders::default(), answer, never).await;
    });
    let mut kept = TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        kept.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            assert!(kept.read_buf(&mut answer).await.unwrap() > 0, "it is closed meanwhile");
        }
    }
    kept.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(30), kept.read_to_end(&mut rest)).await;
    assert_eq!(closed.expect("it is not closed").unwrap_or(0), 0);
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_cut() {
    let limits = limits(1, Duration::from_secs(60), Duration::from_millis(500));
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
        next.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
        next.read_exact(&mut start).await
    };
    let answered = tokio::time::timeout(Duration::from_secs(5), asked).await;
    answered.expect("it waits for a place").is_ok_and(|_| start == *b"HTTP/1.1 200")
}

#[tokio::test]
async fn who_finds_all_at_work_is_turned_away_and_holds_nobody_up() {
    let hour = Duration::from_secs(3_600);
    let limits = limits(1, hour, hour);
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
    let limits = limits(4, hour, hour);
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
async fn a_head_over_the_limit_is_refused_and_its_sender_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let offenders = Offenders::default();
    let noting = offenders.clone();
    tokio::spawn(async move {
        let (hour, never) = (Duration::from_secs(3_600), std::future::pending());
        let answer = |_, _| async { "hello".into_response() };
        serve(listener, limits(9, hour, hour), &[], &noting, answer, never).await;
    });
    let named = "{client=\"127.0.0.1\",offence=\"large_head\"}";
    for (length, status) in [(9, b"HTTP/1.1 200"), (100_000, b"HTTP/1.1 431")] {
        assert!(!offenders.metrics().contains(named));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx-huge: {}\r\n\r\n", "z".repeat(length));
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, status);
    }
    let began = std::time::Instant::now();
    while !offenders.metrics().contains(named) {
        assert!(began.elapsed() < Duration::from_secs(30), "{}", offenders.metrics());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let limits = limits(4, Duration::from_secs(60), Duration::from_millis(100));
    let (address, _stop) = start(limits).await;
    let mut kept = TcpStream::connect(address).await.unwrap();
    kept.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    kept.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn those_who_wait_for_a_place_hold_up_nobody_who_comes_later() {
    let hour = Duration::from_secs(3_600);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let offenders = Offenders::default();
    let mut entrance = Entrance::new(limits(1, hour, hour), &offenders);
    entrance.room_wait = hour;
    let (asked, mut has_asked) = tokio::sync::watch::channel(false);
    let answer = move |_, _| {
        asked.send_replace(true);
        async {
            std::future::pending::<()>().await;
            "hello".into_response()
        }
    };
    tokio::spawn(entrance.serve(listener, &[], move || answer.clone(), std::future::pending()));
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    has_asked.wait_for(|asked| *asked).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..share_of(WAITING_MAX) {
        waiting.push(TcpStream::connect(address).await.unwrap());
    }
    // As many wait as may: one more is turned away, and not after them.
    let mut next = TcpStream::connect(address).await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(60), next.read_u8()).await;
    assert!(closed.expect("it is not accepted").is_err());
    let waits = tokio::time::timeout(Duration::from_millis(50), waiting[0].read_u8()).await;
    assert!(waits.is_err(), "who waits goes on waiting");
}

#[test]
fn new_connections_have_a_rate_and_who_opens_more_is_named() {
    let hour = Duration::from_secs(3_600);
    let limits = HttpLimits { new_per_minute: 1, new_burst: 3, ..limits(99, hour, hour) };
    let offenders = Offenders::default();
    let entrance = Entrance::new(limits, &offenders);
    let (greedy, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
    let admitted =
        |ip, is_exempt| (0..9).filter(|_| entrance.admit(ip, is_exempt).is_some()).count();
    assert_eq!((admitted(greedy, false), admitted(other, false)), (3, 3));
    assert_eq!(admitted(greedy, true), 9, "an operator's proxy stands for many");
    let limits = HttpLimits { new_burst: 200, ..limits };
    let entrance = Entrance::new(limits, &offenders);
    offenders.note(other, Offence::LargeHead);
    let admitted = |ip| (0..9).filter(|_| entrance.admit(ip, false).is_some()).count();
    assert_eq!((admitted(greedy), admitted(other)), (9, 4), "a large head costs fifty");
    let named = "{client=\"192.0.2.1\",offence=\"new_connections\"} 6\n";
    assert!(offenders.metrics().contains(named), "{}", offenders.metrics());
}

#[test]
fn who_has_many_connections_or_was_limited_stands_behind() {
    let hour = Duration::from_secs(3_600);
    let offenders = Offenders::default();
    let entrance = Entrance::new(limits(999, hour, hour), &offenders);
    let (many, limited) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
    let mut held = Vec::new();
    let mut behind = |ip, is_exempt| {
        let (place, permit) = entrance.admit(ip, is_exempt).unwrap();
        let stands_behind = entrance.stands_behind(&place);
        held.push((place, permit));
        stands_behind
    };
    let all: Vec<_> = (0..=PROMPT_MAX).map(|_| behind(many, false)).collect();
    assert_eq!(all.iter().filter(|behind| **behind).count(), 1);
    assert!(all[PROMPT_MAX], "the last of them");
    assert!(!behind(limited, false));
    offenders.note(limited, Offence::Rate);
    assert!(behind(limited, false));
    // A proxy stands for many.
    assert!(!behind(limited, true));
}

#[tokio::test]
async fn an_answer_holds_its_room_until_its_client_has_it() {
    let minute = Duration::from_secs(60);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = |_, _| async { vec![0_u8; 128 << 20].into_response() };
    tokio::spawn(async move {
        let (limits, never) = (limits(9, minute, minute), std::future::pending());
        serve(listener, limits, &[], &Offenders::default(), answer, never).await;
    });
    let status = async |stream: &mut TcpStream| {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        start
    };
    let mut deaf = TcpStream::connect(address).await.unwrap();
    assert_eq!(&status(&mut deaf).await, b"HTTP/1.1 200");
    // All but what the system has taken of it is in memory, and there is no room for another.
    let mut other = TcpStream::connect(address).await.unwrap();
    assert_eq!(&status(&mut other).await, b"HTTP/1.1 503");
    drop(deaf);
    let began = std::time::Instant::now();
    loop {
        let mut next = TcpStream::connect(address).await.unwrap();
        if status(&mut next).await == *b"HTTP/1.1 200" {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "its room is not given back");
    }
}

#[tokio::test]
async fn clients_behind_a_proxy_have_shares_and_names_of_their_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let offenders = Offenders::default();
    let noting = offenders.clone();
    let answer = |_, _| async { vec![0_u8; 20 << 20].into_response() };
    tokio::spawn(async move {
        let (minute, never) = (Duration::from_secs(60), std::future::pending());
        let trusted = ["127.0.0.1".parse().unwrap()];
        serve(listener, limits(9, minute, minute), &trusted, &noting, answer, never).await;
    });
    let mut held = Vec::new();
    let mut status = async |client: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {client}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        held.push(stream);
        String::from_utf8_lossy(&start[9..]).into_owned()
    };
    // A quarter of the room has place for one of them.
    assert_eq!(status("192.0.2.1").await, "200");
    assert_eq!(status("192.0.2.1").await, "503");
    assert_eq!(status("192.0.2.2").await, "200");
    let page = offenders.metrics();
    assert!(page.contains("{client=\"192.0.2.1\",offence=\"untaken_answers\"} 1"), "{page}");
    assert!(!page.contains("127.0.0.1") && !page.contains("192.0.2.2"), "{page}");
}
