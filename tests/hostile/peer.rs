//! Attacks by peers: whoever can make a key may call a node.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ait_engine::genesis::GenesisDocument;
use ait_engine::transaction::{Payload, Transaction};
use ait_engine::types::{Address, Amount, Height, Nonce};
use ait_net::gossip::TransactionBatch;
use ait_net::limits::ANSWER_BLOCKS_MAX;
use ait_net::message::{Request, hello};
use ait_net::protocol::Frame;
use ait_net::quic::{Event, Events, PeerKey, QuicOptions, Transport};
use ait_node::keystore;

use crate::http::poor;
use crate::target::{Plan, attacker};

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

/// A peer under a new key.
struct Stranger {
    transport: Transport,
    events: Events,
}

impl Stranger {
    fn new(plan: &Plan, at: usize) -> Self {
        let text = std::fs::read_to_string(plan.data_dir.join("genesis.json")).unwrap();
        let document: GenesisDocument = serde_json::from_str(&text).unwrap();
        let genesis = document.build().unwrap();
        let rules = ait_node::network::consensus_hash();
        let hello = hello(plan.chain_id, genesis.block_id, rules);
        let bind = (attacker(at), 0).into();
        let key = PeerKey::new(&keystore::generate().unwrap()).unwrap();
        let (transport, events) = Transport::bind(QuicOptions { bind, key, hello }).unwrap();
        Self { transport, events }
    }

    /// Calls the node until it is connected, or it is over.
    async fn connect(&mut self, plan: &Plan, until: tokio::time::Instant) -> bool {
        while tokio::time::Instant::now() < until {
            self.transport.dial(plan.peer.clone());
            loop {
                match tokio::time::timeout_at(until, self.events.urgent.recv()).await {
                    Ok(Some(Event::Connected { .. })) => return true,
                    Ok(Some(Event::DialFailed { .. })) => {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        break;
                    }
                    Ok(Some(_)) => {}
                    _ => return false,
                }
            }
        }
        false
    }
}

fn block_on(lasting: Duration, work: impl AsyncFn(tokio::time::Instant)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(work(tokio::time::Instant::now() + lasting));
}

/// Ever new keys that send garbage as long as they are let.
pub fn garbage(plan: &Plan, lasting: Duration) {
    block_on(lasting, async |until| {
        let mut at = 0;
        while tokio::time::Instant::now() < until {
            let mut stranger = Stranger::new(plan, at);
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

/// Ever new keys that call from two addresses, eight at once, and leave at once.
pub fn calling(plan: &Plan, lasting: Duration) {
    block_on(lasting, async |until| {
        let call = async |at| {
            while tokio::time::Instant::now() < until {
                let mut stranger = Stranger::new(plan, at);
                stranger.transport.dial(plan.peer.clone());
                let _ = tokio::time::timeout_at(until, stranger.events.urgent.recv()).await;
                stranger.transport.close().await;
            }
        };
        futures_util::future::join_all((0..8).map(|at| call(6 + at % 2))).await;
    });
}

/// Batches of transactions, each sent as often as `times` says.
async fn flood(plan: &Plan, until: tokio::time::Instant, times: usize) {
    let mut stranger = Stranger::new(plan, 0);
    // Others than those of the attack before, which the node may still know by their hashes.
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    let (mut turn, mut sent) = (since.as_micros() as u64, Vec::new());
    while tokio::time::Instant::now() < until {
        if !stranger.connect(plan, until).await {
            return;
        }
        while tokio::time::Instant::now() < until {
            let payload =
                Payload::Transfer { to: Address([66; 32]), amount: Amount::saturating(1) };
            let all = (0..100).map(|_| {
                turn += 1;
                let (nonce, fee) = (Nonce::ZERO, Amount::saturating(1_000));
                Transaction::sign(&poor(9, turn), plan.chain_id, nonce, fee, None, payload.clone())
            });
            let all: Vec<_> = all.collect();
            sent.extend(TransactionBatch::split(all.iter()).into_iter().map(Arc::new));
            // The newest first, then those before.
            for batch in sent.iter().rev().take(times) {
                stranger.transport.send(&[plan.peer.id], &Frame::Transactions(Arc::clone(batch)));
            }
            tokio::task::yield_now().await;
            if let Ok(Event::Disconnected { .. }) = stranger.events.urgent.try_recv() {
                break;
            }
        }
    }
}

/// Well signed transfers of accounts that hold nothing.
pub fn unfunded(plan: &Plan, lasting: Duration) {
    block_on(lasting, async |until| flood(plan, until, 1).await);
}

/// The same, each again and again and in another order.
pub fn replay(plan: &Plan, lasting: Duration) {
    block_on(lasting, async |until| flood(plan, until, 10).await);
}

/// The whole chain in a loop, as many requests at once as there may be.
pub fn whole_chain(plan: &Plan, lasting: Duration) {
    block_on(lasting, async |until| {
        let mut stranger = Stranger::new(plan, 0);
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
            let mut stranger = Stranger::new(plan, at);
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
        let mut stranger = Stranger::new(plan, 0);
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
