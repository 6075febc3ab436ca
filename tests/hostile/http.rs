//! Attacks over HTTP, each from one or more addresses.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use ait_engine::codec::Canonical;
use ait_engine::crypto::SecretKey;
use ait_engine::transaction::{Payload, Transaction};
use ait_engine::types::{Address, Amount, Nonce};
use ait_net::wire::{BlockRange, read_canonical};
use socket2::SockRef;

use crate::client::{Kept, connect};
use crate::target::{ATTACKERS, Plan, attacker};

/// As much as one range may have.
const CANONICAL_RANGE: &str = "/rpc/blocks-range?start=1&end=100&canonical=true";

/// Asks for a WebSocket.
const SUBSCRIBE: &str = "GET /rpc/ws/transactions HTTP/1.1\r\nhost: node\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Works from each attacker's address until the time is over.
fn from_everywhere(lasting: Duration, work: impl Fn(usize, &(dyn Fn() -> bool + Sync)) + Sync) {
    let began = Instant::now();
    let goes_on = || began.elapsed() < lasting;
    thread::scope(|scope| {
        for at in 0..ATTACKERS {
            let (work, goes_on) = (&work, &goes_on);
            scope.spawn(move || work(at, goes_on));
        }
    });
}

/// Keeps so many connections open from each address, opening anew those that are ended. `begin`
/// is said first, `more` twice a second.
fn hold(plan: &Plan, lasting: Duration, connections: usize, begin: &[u8], more: &[u8]) {
    from_everywhere(lasting, |at, goes_on| {
        let mut open: Vec<TcpStream> = Vec::new();
        while goes_on() {
            while open.len() < connections && goes_on() {
                let Ok(mut stream) = connect(attacker(at), plan.rpc) else { break };
                if stream.write_all(begin).is_ok() {
                    open.push(stream);
                }
            }
            thread::sleep(Duration::from_millis(500));
            open.retain_mut(|stream| more.is_empty() || stream.write_all(more).is_ok());
        }
    });
}

/// Heads that come a byte at a time.
pub fn slow_heads(plan: &Plan, lasting: Duration) {
    hold(plan, lasting, 300, b"GET /rpc/head HTTP/1.1\r\nhost: node\r\nx-slow: ", b"z");
}

/// Bodies that come a byte at a time.
pub fn slow_bodies(plan: &Plan, lasting: Duration) {
    let begin =
        b"POST /rpc/sendTx HTTP/1.1\r\nhost: node\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{";
    hold(plan, lasting, 300, begin, b" ");
}

/// Bodies of a megabyte that lack their end, as many as connections allow.
pub fn held_bodies(plan: &Plan, lasting: Duration) {
    let head = "POST /rpc/sendTx HTTP/1.1\r\nhost: node\r\ncontent-length: 1048576\r\n\r\n";
    let begin = [head.as_bytes(), &vec![b' '; 1_000_000]].concat();
    hold(plan, lasting, 200, &begin, b" ");
}

/// Whole blocks, again and again, whose answers are not waited for.
pub fn whole_blocks(plan: &Plan, lasting: Duration) {
    let ask = (1..20).map(|at| format!("GET /rpc/blocks/{at} HTTP/1.1\r\nhost: node\r\n\r\n"));
    hold(plan, lasting, 100, ask.collect::<String>().as_bytes(), b"");
}

/// Subscribers that send parts of a message that never ends.
pub fn noisy_subscribers(plan: &Plan, lasting: Duration) {
    let noise = [0x01, 0x80, 0, 0, 0, 0].into_iter().chain([0x00, 0x80, 0, 0, 0, 0].repeat(2_000));
    let begin = [SUBSCRIBE.as_bytes(), &noise.collect::<Vec<u8>>()].concat();
    let more = [0x00, 0x80, 0, 0, 0, 0].repeat(10_000);
    hold(plan, lasting, 10, &begin, &more);
}

/// Connections that were answered once and stay.
pub fn idle_connections(plan: &Plan, lasting: Duration) {
    hold(plan, lasting, 300, b"GET /rpc/head HTTP/1.1\r\nhost: node\r\n\r\n", b"");
}

/// Heads of a megabyte.
pub fn huge_heads(plan: &Plan, lasting: Duration) {
    let head = [b"GET /rpc/head HTTP/1.1\r\nx-huge: ", &vec![b'a'; 1 << 20][..]].concat();
    hold(plan, lasting, 20, &head, b"");
}

/// Bodies of a gigabyte, and bodies that never end.
pub fn huge(plan: &Plan, lasting: Duration) {
    let piece = vec![b'a'; 256 << 10];
    from_everywhere(lasting, |at, goes_on| {
        let mut turn = at;
        while goes_on() {
            let Ok(mut stream) = connect(attacker(at), plan.rpc) else { continue };
            let (begin, between) = match turn % 2 {
                0 => (
                    "POST /rpc/sendTx HTTP/1.1\r\nhost: node\r\ncontent-length: 1000000000\r\n\r\n",
                    "",
                ),
                _ => {
                    let chunked = "POST /rpc/sendTx HTTP/1.1\r\nhost: node\r\ntransfer-encoding: chunked\r\n\r\n";
                    (chunked, "40000\r\n")
                }
            };
            let mut sent = stream.write_all(begin.as_bytes()).is_ok();
            for _ in 0..16 {
                sent = sent && stream.write_all(between.as_bytes()).is_ok();
                sent = sent && stream.write_all(&piece).is_ok();
                sent = sent && (between.is_empty() || stream.write_all(b"\r\n").is_ok());
            }
            turn += 1;
        }
    });
}

/// Subscribers that never read.
pub fn deaf_subscribers(plan: &Plan, lasting: Duration) {
    hold(plan, lasting, 100, SUBSCRIBE.as_bytes(), b"");
}

/// Connections from two addresses that are ended at once, and opened anew.
pub fn new_connections(plan: &Plan, lasting: Duration) {
    from_everywhere(lasting, |at, goes_on| {
        while goes_on() {
            if let Ok(stream) = connect(attacker(at % 2), plan.rpc) {
                // So that addresses of its own are not used up.
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
        }
    });
}

/// Large answers that nobody reads, asked for again before.
pub fn untaken_answers(plan: &Plan, lasting: Duration) {
    let ask = format!("GET {CANONICAL_RANGE} HTTP/1.1\r\nhost: node\r\n\r\n");
    hold(plan, lasting, 100, ask.repeat(8).as_bytes(), b"");
}

fn transfer(plan: &Plan, key: &SecretKey, nonce: u64) -> Transaction {
    let payload = Payload::Transfer { to: Address([66; 32]), amount: Amount::saturating(1) };
    let (nonce, fee) = (Nonce::saturating(nonce), Amount::saturating(1_000));
    Transaction::sign(key, plan.chain_id, nonce, fee, None, payload)
}

/// A key that nobody has funded.
pub fn poor(at: usize, turn: u64) -> SecretKey {
    let mut seed = [0x5a; 32];
    seed[..8].copy_from_slice(&turn.to_be_bytes());
    seed[8] = u8::try_from(at).unwrap();
    SecretKey::from_seed(seed)
}

/// Submits what `next` gives in batches of 50, over one connection an address.
fn submit(plan: &Plan, lasting: Duration, next: impl Fn(usize, u64) -> Transaction + Sync) {
    from_everywhere(lasting, |at, goes_on| {
        let (mut kept, mut turn) = (None, 0);
        while goes_on() {
            let mut body = Vec::new();
            for _ in 0..50 {
                next(at, turn).encode_to(&mut body);
                turn += 1;
            }
            let Some(mut open) = kept.take().or_else(|| Kept::new(attacker(at), plan.rpc).ok())
            else {
                continue;
            };
            if open.ask("POST", "/rpc/sendTxs", "application/octet-stream", &body).is_ok() {
                kept = Some(open);
            }
        }
    });
}

/// Well signed transfers of accounts that hold nothing, each of another.
pub fn unfunded(plan: &Plan, lasting: Duration) {
    submit(plan, lasting, |at, turn| transfer(plan, &poor(at, turn), 0));
}

/// Transfers of funded accounts whose first is missing.
pub fn nonce_gaps(plan: &Plan, lasting: Duration) {
    submit(plan, lasting, |at, turn| transfer(plan, &plan.attackers_account(at), turn + 1));
}

/// Transfers of honest clients that are final.
pub fn final_again(plan: &Plan, lasting: Duration) {
    let began = Instant::now();
    let all = loop {
        let mut kept = Kept::new(attacker(0), plan.rpc).unwrap();
        let (_, body) = kept.ask("GET", CANONICAL_RANGE, "", b"").unwrap();
        let range: BlockRange = serde_json::from_slice(&body).unwrap();
        let blocks = range.blocks.iter().filter_map(|block| block.canonical.as_deref());
        let blocks = blocks.map(|text| read_canonical(text).unwrap().0);
        let all: Vec<_> = blocks.flat_map(|block| block.transactions).collect();
        if !all.is_empty() {
            break all;
        }
        thread::sleep(Duration::from_millis(50));
    };
    submit(plan, lasting.saturating_sub(began.elapsed()), |_, turn| {
        all[usize::try_from(turn).unwrap() % all.len()].clone()
    });
}

/// The whole chain, again and again, over four connections an address.
pub fn whole_chain(plan: &Plan, lasting: Duration) {
    let ask = b"GET /rpc/blocks-range?start=0&end=999 HTTP/1.1\r\nhost: node\r\n\r\n";
    from_everywhere(lasting, |at, goes_on| {
        let read_all = || {
            let mut piece = vec![0; 256 << 10];
            while goes_on() {
                let Ok(mut stream) = connect(attacker(at), plan.rpc) else { continue };
                let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
                // Asked again before the answer has come.
                while goes_on() && stream.write_all(ask).is_ok() {
                    if !matches!(stream.read(&mut piece), Ok(count) if count > 0) {
                        break;
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(read_all);
            }
        });
    });
}
