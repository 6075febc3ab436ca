//! Bodies of requests that do not end: what they hold, how long, and who is named.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "common/follower.rs"]
mod follower;
#[path = "../engine/tests/common/mod.rs"]
mod world;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ait_node::rpc::ORDINARY_BODIES_BYTES_MAX;
use follower::Follower;

const MIB: usize = 1 << 20;

/// A request whose body is a byte short.
fn begin(url: &str) -> TcpStream {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    let head = format!("POST /rpc/sendTx HTTP/1.1\r\nhost: x\r\ncontent-length: {MIB}\r\n\r\n");
    // Who is refused may be cut off before all was sent.
    let _ = stream.write_all(&[head.as_bytes(), &vec![b' '; MIB - 1]].concat());
    stream
}

/// The code of the answer, if one comes in time.
fn code(stream: &mut TcpStream, patience: Duration) -> Option<String> {
    stream.set_read_timeout(Some(patience)).unwrap();
    let (mut text, mut piece) = (String::new(), [0; 4_096]);
    loop {
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        text.push_str(&String::from_utf8_lossy(&piece[..count]));
        let code = text.split_once("\"code\":\"").and_then(|(_, rest)| rest.split_once('"'));
        if let Some((code, _)) = code {
            return Some(code.to_owned());
        }
    }
}

fn page(url: &str) -> String {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

fn node() -> Follower {
    Follower::start(&serde_json::to_string(&world::document(&[])).unwrap())
}

#[test]
fn bodies_that_do_not_end_hold_a_bounded_amount_and_their_sender_is_named() {
    let node = node();
    let fit = ORDINARY_BODIES_BYTES_MAX / MIB;
    let mut held: Vec<_> = (0..fit + 8).map(|_| begin(&node.url)).collect();
    // Those that came when there was no room are refused; which ones is not said.
    let codes = held.iter_mut().filter_map(|one| code(one, Duration::from_millis(100)));
    let (codes, began) = (codes.collect::<Vec<_>>(), Instant::now());
    assert!(codes.len() >= 8 && codes.iter().all(|code| code == "busy"), "{codes:?}");
    assert!(codes.len() < fit, "{codes:?}");
    assert_eq!(node.get("/rpc/head").0, 200);
    let named = "{client=\"127.0.0.1\",offence=\"held_bodies\"}";
    assert!(page(&node.url).contains(named), "{}", page(&node.url));
    drop(held);
    loop {
        let mut next = begin(&node.url);
        next.write_all(b" ").unwrap();
        match code(&mut next, Duration::from_secs(30)).as_deref() {
            // Blanks are no JSON: it was read.
            Some("json_invalid") => break,
            found => assert!(began.elapsed() < Duration::from_secs(60), "no room: {found:?}"),
        }
    }
}

#[test]
fn a_body_that_does_not_come_in_time_is_refused_and_its_sender_named() {
    let node = node();
    let url = node.serve_as(|_, options| options.idle_timeout = Duration::from_millis(300));
    let mut slow = begin(&url);
    assert_eq!(code(&mut slow, Duration::from_secs(30)).as_deref(), Some("timeout"));
    let named = "{client=\"127.0.0.1\",offence=\"slow_body\"}";
    assert!(page(&url).contains(named), "{}", page(&url));
}
