//! The transport over real sockets: who gets in, what comes through, what is cut off.

#![allow(clippy::unwrap_used, missing_docs)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ait_engine::codec::Canonical;
use ait_engine::crypto::SecretKey;
use ait_engine::transaction::{Payload, Transaction};
use ait_engine::types::{Address, Amount, BlockId, ChainId, Hash, Height, Nonce};
use ait_net::gossip::TransactionBatch;
use ait_net::message::{Control, Hello, Request, Status, hello};
use ait_net::peer::{Fault, PeerAddress, PeerId};
use ait_net::protocol::Frame;
use ait_net::quic::{Event, Events, PeerKey, QuicOptions, Transport};
use tokio::net::UdpSocket;

const PATIENCE: Duration = Duration::from_secs(20);

struct End {
    transport: Transport,
    events: Events,
}

fn ours() -> Hello {
    hello(ChainId::from_bytes(b"quic").unwrap(), BlockId([1; 32]), Hash([2; 32]))
}

fn bind(seed: u8, bind: &str, hello: Hello) -> End {
    let key = PeerKey::new(&SecretKey::from_seed([seed; 32])).unwrap();
    let options = QuicOptions { bind: bind.parse().unwrap(), key, hello };
    let (transport, events) = Transport::bind(options).unwrap();
    End { transport, events }
}

fn end(seed: u8) -> End {
    bind(seed, "127.0.0.1:0", ours())
}

impl End {
    fn id(&self) -> PeerId {
        self.transport.id()
    }

    fn address(&self) -> PeerAddress {
        at(self.id(), self.transport.local_addr().unwrap())
    }

    async fn urgent(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.events.urgent.recv()).await.unwrap().unwrap()
    }

    async fn bulk(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.events.bulk.recv()).await.unwrap().unwrap()
    }

    /// The peer that connected, and whether we called it.
    async fn connected(&mut self) -> (PeerId, bool) {
        match self.urgent().await {
            Event::Connected { peer, is_outbound, .. } => (peer, is_outbound),
            other => panic!("{other:?}"),
        }
    }

    async fn height_told(&mut self) -> u64 {
        match self.urgent().await {
            Event::Control { control: Control::Status(status), .. } => status.height.get(),
            other => panic!("{other:?}"),
        }
    }

    fn tell_height(&self, to: PeerId, height: u64) {
        let status = Status { height: Height::saturating(height), neighbours: Vec::new() };
        let frame = Frame::Control(Arc::new(Control::Status(status).encode()));
        self.transport.send(&[to], &frame);
    }
}

fn at(id: PeerId, address: SocketAddr) -> PeerAddress {
    PeerAddress { id, host: address.ip().to_string(), port: address.port() }
}

async fn pair() -> (End, End) {
    let (mut a, mut b) = (end(1), end(2));
    a.transport.dial(b.address());
    assert_eq!(a.connected().await, (b.id(), true));
    assert_eq!(b.connected().await, (a.id(), false));
    (a, b)
}

#[tokio::test]
async fn both_sides_know_whom_they_talk_to_also_over_ipv6() {
    let (a, mut b) = pair().await;
    a.tell_height(b.id(), 7);
    assert_eq!(b.height_told().await, 7);
    let (mut c, mut d) = (bind(3, "[::1]:0", ours()), bind(4, "[::]:0", ours()));
    let port = d.transport.local_addr().unwrap().port();
    d.transport.set_height(Height::saturating(9));
    c.transport.dial(PeerAddress { id: d.id(), host: "::1".to_owned(), port });
    match c.urgent().await {
        Event::Connected { peer, host, hello, .. } => {
            assert_eq!((peer, host.as_str(), hello.height.get()), (d.id(), "::1", 9));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(d.connected().await, (c.id(), false));
    // One socket for both families.
    let mut e = end(5);
    e.transport.dial(PeerAddress { id: d.id(), host: "127.0.0.1".to_owned(), port });
    assert_eq!(e.connected().await, (d.id(), true));
    match d.urgent().await {
        Event::Connected { peer, host, .. } => assert_eq!((peer, &*host), (e.id(), "127.0.0.1")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn whoever_is_of_another_chain_is_told_which_field_differs() {
    type Change = fn(&mut Hello);
    let changes: [(&str, Change); 3] = [
        ("chain id", |hello| hello.chain_id = ChainId::from_bytes(b"other").unwrap()),
        ("genesis hash", |hello| hello.genesis = BlockId([9; 32])),
        ("consensus parameters hash", |hello| hello.consensus = Hash([9; 32])),
    ];
    for (field, change) in changes {
        let mut other = ours();
        change(&mut other);
        // A chain of another name has another genesis.
        if field == "chain id" {
            other.genesis = BlockId([8; 32]);
        }
        let (mut a, b) = (end(1), bind(2, "127.0.0.1:0", other));
        a.transport.dial(b.address());
        match a.urgent().await {
            Event::DialFailed { peer, reason } => {
                assert_eq!(peer, b.id());
                assert!(reason.contains(field), "{field}: {reason}");
            }
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn who_has_another_key_than_expected_is_nobody() {
    let (mut a, b, c) = (end(1), end(2), end(3));
    a.transport.dial(at(c.id(), b.transport.local_addr().unwrap()));
    match a.urgent().await {
        Event::DialFailed { peer, reason } => {
            assert_eq!(peer, c.id());
            assert!(reason.contains(&b.id().to_string()), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn two_calls_at_once_leave_one_connection() {
    for (first, second) in [(1, 2), (2, 1)] {
        let (mut a, mut b) = (end(first), end(second));
        a.transport.dial(b.address());
        b.transport.dial(a.address());
        // Whatever came and went, in the end one connection carries both ways.
        for end in [&mut a, &mut b] {
            let mut up = 0_i32;
            // Until it is up and stays so; a busy machine takes its time.
            loop {
                let wait = Duration::from_millis(if up == 1 { 700 } else { 20_000 });
                let event = tokio::time::timeout(wait, end.events.urgent.recv()).await;
                match event.map(Option::unwrap) {
                    Ok(Event::Connected { .. }) => up += 1,
                    Ok(Event::Disconnected { .. }) => up -= 1,
                    Ok(other) => panic!("{other:?}"),
                    Err(_) => break,
                }
            }
            assert_eq!(up, 1);
        }
        a.tell_height(b.id(), 3);
        b.tell_height(a.id(), 4);
        assert_eq!((b.height_told().await, a.height_told().await), (3, 4));
    }
}

#[tokio::test]
async fn a_question_is_answered_or_known_not_to_be() {
    let (mut a, mut b) = pair().await;
    let request = Request::Blocks { from: Height::saturating(5), count: 9 };
    a.transport.ask(41, b.id(), request);
    match b.bulk().await {
        Event::Request { peer, request: found, reply } => {
            assert_eq!((peer, found), (a.id(), request));
            reply.send(None).unwrap();
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(a.bulk().await, Event::Blocks { id: 41, blocks: None }));
    a.transport.ask(42, b.id(), request);
    match b.bulk().await {
        Event::Request { reply, .. } => {
            let none = ait_net::message::Blocks::default();
            reply.send(Some(none.encode())).unwrap();
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(a.bulk().await, Event::Blocks { id: 42, blocks: Some(b) } if b.0.is_empty()));
    // Nobody is there, and an answer that is none.
    a.transport.ask(43, PeerId([9; 32]), request);
    assert!(matches!(a.bulk().await, Event::Blocks { id: 43, blocks: None }));
    let block_id = BlockId([4; 32]);
    a.transport.ask(44, b.id(), Request::Body { height: Height::saturating(5), block_id });
    match b.bulk().await {
        Event::Request { reply, .. } => reply.send(Some(vec![7; 100])).unwrap(),
        other => panic!("{other:?}"),
    }
    assert!(matches!(a.bulk().await, Event::NoBody { block_id: found, .. } if found == block_id));
    // None of the others was a fault: only the last was nonsense.
    match a.urgent().await {
        Event::Fault { peer, fault, .. } => assert_eq!((peer, fault), (b.id(), Fault::BadAnswer)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_peer_of_another_protocol_version_is_told_so() {
    let mut other = ours();
    // It shares the chain, and so no name but the one that asks why.
    (other.version, other.genesis) = (other.version + 1, BlockId([8; 32]));
    let (mut a, b) = (end(1), bind(2, "127.0.0.1:0", other));
    a.transport.dial(b.address());
    match a.urgent().await {
        Event::DialFailed { reason, .. } => {
            assert!(reason.contains("protocol version"), "{reason}")
        }
        other => panic!("{other:?}"),
    }
}

/// A line of so many bytes a second.
async fn narrow(to: SocketAddr, bytes_per_second: u64) -> SocketAddr {
    let inside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = inside.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut caller, mut bytes) = (None, vec![0; 65_536]);
        loop {
            let (count, from) = inside.recv_from(&mut bytes).await.unwrap();
            if from == to {
                inside.send_to(&bytes[..count], caller.unwrap()).await.unwrap();
                continue;
            }
            caller = Some(from);
            tokio::time::sleep(Duration::from_micros(count as u64 * 1_000_000 / bytes_per_second))
                .await;
            inside.send_to(&bytes[..count], to).await.unwrap();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_does_not_wait_behind_bodies() {
    let (mut a, mut b) = (end(1), end(2));
    let through = narrow(b.transport.local_addr().unwrap(), 2_000_000).await;
    a.transport.dial(at(b.id(), through));
    assert_eq!(a.connected().await, (b.id(), true));
    assert_eq!(b.connected().await, (a.id(), false));
    // Twenty seconds of bodies; they are no bodies, which shows only at their end.
    for _ in 0..2 {
        a.transport.send(&[b.id()], &Frame::Body(Arc::new(vec![0; 20 << 20])));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    for height in 0..5 {
        let began = std::time::Instant::now();
        a.tell_height(b.id(), height);
        assert_eq!(b.height_told().await, height);
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn garbage_is_a_fault_with_a_name() {
    for frame in [
        Frame::Control(Arc::new(vec![0xFF; 50])),
        Frame::Control(Arc::new(Vec::new())),
        Frame::Control(Arc::new(vec![1; 600 * 1024])),
        Frame::Body(Arc::new(vec![0; 1_000])),
        Frame::Body(Arc::new(vec![0; 60 << 20])),
    ] {
        let (a, mut b) = pair().await;
        a.transport.send(&[b.id()], &frame);
        match b.urgent().await {
            Event::Fault { peer, fault, reason } => {
                assert_eq!((peer, fault), (a.id(), Fault::Malformed), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_is_cut_off_and_costs_a_bounded_queue() {
    let (mut a, b) = pair().await;
    // 5 MB of votes a second would fill what the windows and queues hold within seconds.
    let frame = Frame::Control(Arc::new(vec![1; 100_000]));
    let began = std::time::Instant::now();
    loop {
        for _ in 0..100 {
            a.transport.send(&[b.id()], &frame);
        }
        if let Ok(event) = a.events.urgent.try_recv() {
            match event {
                Event::Disconnected { peer, .. } => {
                    assert_eq!(peer, b.id());
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(began.elapsed() < PATIENCE, "never cut off");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(a.transport.traffic(&b.id()).is_none());
}

/// Passes packets on, and from a moment on sends from another port, as a router does that
/// forgot who was who.
/// A batch of one transaction.
fn batch(seed: u8) -> Frame {
    let payload = Payload::Transfer { to: Address([7; 32]), amount: Amount::saturating(1) };
    let key = SecretKey::from_seed([seed; 32]);
    let chain_id = ChainId::from_bytes(b"quic").unwrap();
    let one = Transaction::sign(&key, chain_id, Nonce::ZERO, Amount::ZERO, None, payload);
    Frame::Transactions(Arc::new(TransactionBatch::split([&one]).remove(0)))
}

#[tokio::test]
async fn transactions_of_a_paused_peer_wait_at_the_peer() {
    let (a, mut b) = pair().await;
    let transactions = |event: &Event| matches!(event, Event::Transactions { .. });
    a.transport.send(&[b.id()], &batch(1));
    assert!(transactions(&b.bulk().await));
    let pause = Duration::from_millis(700);
    let began = std::time::Instant::now();
    b.transport.pause(&a.id(), pause);
    // One that is awaited already may still come.
    for seed in 2..5 {
        a.transport.send(&[b.id()], &batch(seed));
    }
    assert!(transactions(&b.bulk().await) && transactions(&b.bulk().await));
    assert!(began.elapsed() >= pause, "{:?}", began.elapsed());
    assert!(transactions(&b.bulk().await));
    a.tell_height(b.id(), 7);
    assert_eq!(b.height_told().await, 7);
}

async fn relay(to: SocketAddr, moves: Arc<AtomicBool>) -> SocketAddr {
    let inside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = inside.local_addr().unwrap();
    tokio::spawn(async move {
        let mut outside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (mut caller, mut moved) = (None, false);
        let (mut a, mut b) = (vec![0; 65_536], vec![0; 65_536]);
        loop {
            tokio::select! {
                got = inside.recv_from(&mut a) => {
                    let (count, from) = got.unwrap();
                    caller = Some(from);
                    if moves.load(Ordering::Relaxed) && !moved {
                        moved = true;
                        outside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                    }
                    outside.send_to(&a[..count], to).await.unwrap();
                }
                got = outside.recv_from(&mut b) => {
                    let (count, _) = got.unwrap();
                    if let Some(caller) = caller {
                        inside.send_to(&b[..count], caller).await.unwrap();
                    }
                }
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_outlives_a_change_of_address() {
    let (mut a, mut b) = (end(1), end(2));
    let moves = Arc::new(AtomicBool::new(false));
    let through = relay(b.transport.local_addr().unwrap(), Arc::clone(&moves)).await;
    a.transport.dial(at(b.id(), through));
    assert_eq!(a.connected().await, (b.id(), true));
    assert_eq!(b.connected().await, (a.id(), false));
    for height in 0..20 {
        if height == 10 {
            moves.store(true, Ordering::Relaxed);
        }
        a.tell_height(b.id(), height);
        assert_eq!(b.height_told().await, height);
        b.tell_height(a.id(), 100 + height);
        assert_eq!(a.height_told().await, 100 + height);
    }
    assert!(a.events.urgent.try_recv().is_err() && b.events.urgent.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_gone_without_a_word_is_noticed() {
    let (mut a, mut b) = (end(1), end(2));
    let is_cut = Arc::new(AtomicBool::new(false));
    let inside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let through = inside.local_addr().unwrap();
    let (to, cut) = (b.transport.local_addr().unwrap(), Arc::clone(&is_cut));
    tokio::spawn(async move {
        let (mut caller, mut bytes) = (None, vec![0; 65_536]);
        loop {
            let (count, from) = inside.recv_from(&mut bytes).await.unwrap();
            let target = if from == to { caller } else { Some(to) };
            if from != to {
                caller = Some(from);
            }
            if let (Some(target), false) = (target, cut.load(Ordering::Relaxed)) {
                inside.send_to(&bytes[..count], target).await.unwrap();
            }
        }
    });
    a.transport.dial(at(b.id(), through));
    assert_eq!(a.connected().await, (b.id(), true));
    assert_eq!(b.connected().await, (a.id(), false));
    is_cut.store(true, Ordering::Relaxed);
    for end in [&mut a, &mut b] {
        assert!(matches!(end.urgent().await, Event::Disconnected { .. }));
    }
}
