//! Attacks by peers: whoever can make a key may call a node.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ait_engine::transaction::{Payload, Transaction};
use ait_engine::types::{Address, Amount, Height, Nonce};
use ait_net::gossip::TransactionBatch;
use ait_net::limits::ANSWER_BLOCKS_MAX;
use ait_net::message::Request;
use ait_net::peer::PeerAddress;
use ait_net::protocol::Frame;
use ait_net::quic::Event;

use crate::http::poor;
use crate::stranger::Stranger;
use crate::target::{ATTACKERS, Plan, attacker};

/// Datagrams that are nothing, as fast as they go.
pub fn udp_garbage(plan: &Plan, lasting: Duration) {
    let began = Instant::now();
    let socket = UdpSocket::bind((attacker(0), 0)).unwrap();
    socket.connect((plan.peer.host.as_str(), plan.peer.port)).unwrap();
    let mut datagram = [0; 1_200];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while began.elapsed() < lasting {
        for byte in &mut datagram {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state as u8;
        }
        let _ = socket.send(&datagram);
    }
}

fn block_on(lasting: Duration, work: impl AsyncFnOnce(tokio::time::Instant)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(work(tokio::time::Instant::now() + lasting));
}

/// Ever new keys that send garbage as long as they are let.
pub fn garbage(plan: &Plan, lasting: Duration) {
    block_on(lasting, async |until| {
        let mut at = 0;
        while tokio::time::Instant::now() < until {
            let mut stranger = Stranger::new(plan, attacker(at));
            at += 1;
            if !stranger.connect(plan, until).await {
                continue;
            }
            for _ in 0..200 {
                let frame = Frame::Control(Arc::new(vec![0xee; 60_000]));
                stranger.transport.send(&[plan.peer.id], &frame);
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            stranger.transport.close().await;
        }
    });
}

/// One key that sends garbage as fast as it goes, and calls again whenever it is thrown out.
pub fn garbage_of_one(plan: &Plan, lasting: Duration) {
    block_on(lasting, async |until| {
        let mut stranger = Stranger::new(plan, attacker(0));
        let frame = Frame::Control(Arc::new(vec![0xee; 500_000]));
        let body = Frame::Body(Arc::new(vec![0xee; 4 << 20]));
        while stranger.connect(plan, until).await {
            while stranger.events.urgent.try_recv().is_err() {
                stranger.transport.send(&[plan.peer.id], &frame);
                stranger.transport.send(&[plan.peer.id], &body);
                tokio::task::yield_now().await;
            }
        }
    });
}

/// Calls from eight addresses of which nothing more comes: no answer reaches who calls, as if each
/// address were another's.
pub fn silent_callers(plan: &Plan, lasting: Duration) {
    block_on(lasting, async |until| {
        let mut held = Vec::new();
        for at in 0..ATTACKERS {
            let to = (plan.peer.host.as_str(), plan.peer.port);
            let one_way = tokio::net::UdpSocket::bind((attacker(at), 0)).await.unwrap();
            let SocketAddr::V4(place) = one_way.local_addr().unwrap() else { unreachable!() };
            let to = tokio::net::lookup_host(to).await.unwrap().next().unwrap();
            let stranger = Stranger::new(plan, attacker(at));
            let from = stranger.transport.local_addr().unwrap();
            held.push((stranger, place));
            tokio::spawn(async move {
                let mut bytes = vec![0; 65_536];
                while let Ok((count, sender)) = one_way.recv_from(&mut bytes).await {
                    if sender == from {
                        let _ = one_way.send_to(&bytes[..count], to).await;
                    }
                }
            });
        }
        while tokio::time::Instant::now() < until {
            for (stranger, place) in &held {
                let (host, port) = (place.ip().to_string(), place.port());
                stranger.transport.dial(PeerAddress { id: plan.peer.id, host, port });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}

/// Ever new keys that call from two addresses, eight at once, and leave at once.
pub fn calling(plan: &Plan, lasting: Duration) {
    block_on(lasting, async |until| {
        let call = async |at| {
            while tokio::time::Instant::now() < until {
                let mut stranger = Stranger::new(plan, attacker(at));
                stranger.transport.dial(plan.peer.clone());
                let _ = tokio::time::timeout_at(until, stranger.events.urgent.recv()).await;
                stranger.transport.close().await;
            }
        };
        futures_util::future::join_all((0..8).map(|at| call(6 + at % 2))).await;
    });
}

/// A batch of well signed transfers of accounts that hold nothing, others each time.
fn unfunded_batches(plan: &Plan, turn: &mut u64) -> Vec<Arc<TransactionBatch>> {
    let payload = Payload::Transfer { to: Address([66; 32]), amount: Amount::saturating(1) };
    let all = (0..100).map(|_| {
        *turn += 1;
        let (nonce, fee) = (Nonce::ZERO, Amount::saturating(1_000));
        Transaction::sign(&poor(9, *turn), plan.chain_id, nonce, fee, None, payload.clone())
    });
    let all: Vec<_> = all.collect();
    TransactionBatch::split(all.iter()).into_iter().map(Arc::new).collect()
}

/// Sends what `next` gives, as fast as it goes.
async fn flood(
    plan: &Plan,
    until: tokio::time::Instant,
    mut next: impl FnMut() -> Vec<Arc<TransactionBatch>>,
) {
    let mut stranger = Stranger::new(plan, attacker(0));
    while stranger.connect(plan, until).await {
        while tokio::time::Instant::now() < until {
            for batch in next() {
                stranger.transport.send(&[plan.peer.id], &Frame::Transactions(batch));
            }
            tokio::task::yield_now().await;
            if let Ok(Event::Disconnected { .. }) = stranger.events.urgent.try_recv() {
                break;
            }
        }
    }
}

/// A number that no attack began with before: the node may still know what was sent then.
fn turn() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64
}

/// Ever new transfers of accounts that hold nothing.
pub fn unfunded(plan: &Plan, lasting: Duration) {
    let mut turn = turn();
    block_on(lasting, async |until| flood(plan, until, || unfunded_batches(plan, &mut turn)).await);
}

/// The same few batches again and again, each time in another order, and nothing else.
pub fn replay(plan: &Plan, lasting: Duration) {
    let mut turn = turn();
    let mut sent: Vec<_> = (0..20).flat_map(|_| unfunded_batches(plan, &mut turn)).collect();
    block_on(lasting, async |until| {
        let again = || {
            sent.rotate_left(7);
            sent.reverse();
            sent.clone()
        };
        flood(plan, until, again).await;
    });
}

/// The whole chain in a loop, as many requests at once as there may be.
pub fn whole_chain(plan: &Plan, lasting: Duration) {
    block_on(lasting, async |until| {
        let mut stranger = Stranger::new(plan, attacker(0));
        if !stranger.connect(plan, until).await {
            return;
        }
        let mut id = 0;
        loop {
            for _ in 0..8 {
                id += 1;
                // More in one answer is a request that is none.
                let (from, count) = (Height::saturating(1), ANSWER_BLOCKS_MAX);
                let request = Request::Blocks { from, count };
                stranger.transport.ask(id, plan.peer.id, request);
            }
            let mut answered = 0;
            while answered < 8 {
                let event = tokio::time::timeout_at(until, stranger.events.bulk.recv()).await;
                match event {
                    // What is accepted meanwhile is told to this peer, too.
                    Ok(Some(Event::Transactions { .. })) => {}
                    Ok(Some(Event::Blocks { blocks: Some(_), .. })) => answered += 1,
                    Ok(other) => panic!("any follower may have what is asked for: {other:?}"),
                    Err(_) => return,
                }
            }
        }
    });
}

/// Eight peers that ask for blocks and from then on do nothing, as a machine that is stopped.
pub fn untaken(plan: &Plan, lasting: Duration) {
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _held = runtime.block_on(async {
        let until = tokio::time::Instant::now() + lasting;
        let mut strangers = Vec::new();
        for at in 0..8 {
            let mut stranger = Stranger::new(plan, attacker(at));
            if !stranger.connect(plan, until).await {
                break;
            }
            strangers.push(stranger);
        }
        for stranger in &strangers {
            for id in 0..4 {
                let (from, count) = (Height::saturating(1), ANSWER_BLOCKS_MAX);
                stranger.transport.ask(id, plan.peer.id, Request::Blocks { from, count });
            }
        }
        // For as long as it takes to write what asks.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        strangers
    });
    std::thread::sleep(lasting.saturating_sub(began.elapsed()));
}

/// Transactions that are final, all that the chain has.
pub fn final_again(plan: &Plan, lasting: Duration) {
    block_on(lasting, async |until| {
        let mut stranger = Stranger::new(plan, attacker(0));
        if !stranger.connect(plan, until).await {
            return;
        }
        let (mut id, mut from) = (0, 1);
        while tokio::time::Instant::now() < until {
            id += 1;
            let request =
                Request::Blocks { from: Height::saturating(from), count: ANSWER_BLOCKS_MAX };
            stranger.transport.ask(id, plan.peer.id, request);
            let blocks = loop {
                match tokio::time::timeout_at(until, stranger.events.bulk.recv()).await {
                    Ok(Some(Event::Blocks { blocks, .. })) => break blocks.unwrap_or_default(),
                    Ok(Some(_)) => {}
                    _ => return,
                }
            };
            from = if blocks.0.is_empty() { 1 } else { from + blocks.0.len() as u64 };
            let all = blocks.0.iter().flat_map(|(block, _)| &block.transactions);
            for batch in TransactionBatch::split(all) {
                stranger.transport.send(&[plan.peer.id], &Frame::Transactions(Arc::new(batch)));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
}
