//! What a peer can do that is no node: it opens streams as it likes, over a real connection.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ait_engine::crypto::SecretKey;
use ait_engine::transaction::{Payload, Transaction};
use ait_engine::types::{Address, Amount, BlockId, ChainId, Hash, Nonce};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint, SendStream};

use super::hello::{Greeted, greet};
use super::link::{BODY, SLOW, TRANSACTIONS};
use super::socket::transport_config;
use super::{Event, Events, PeerKey, QuicOptions, Transport};
use crate::gossip::TransactionBatch;
use crate::message::{Hello, hello};
use crate::peer::PeerId;
use crate::protocol::Frame;

const PATIENCE: Duration = Duration::from_secs(60);

fn ours() -> Hello {
    hello(ChainId::from_bytes(b"raw").unwrap(), BlockId([1; 32]), Hash([2; 32]))
}

fn key(seed: u8) -> PeerKey {
    PeerKey::new(&SecretKey::from_seed([seed; 32])).unwrap()
}

fn node(bodies_bytes_max: usize) -> (Transport, Events) {
    let bind = "127.0.0.1:0".parse().unwrap();
    let options = QuicOptions { bind, key: key(1), hello: ours() };
    Transport::bind_with(options, bodies_bytes_max).unwrap()
}

/// A greeted connection with nothing behind it.
struct Raw {
    id: PeerId,
    connection: Connection,
    _held: (Endpoint, Greeted),
}

/// One from another address of this machine: each is a host of its own.
async fn raw(to: &Transport, seed: u8) -> Raw {
    let config = key(seed).client_config(&ours().genesis, to.id()).unwrap();
    let config = QuicClientConfig::try_from(config).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(config));
    config.transport_config(Arc::new(transport_config()));
    let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, seed], 0))).unwrap();
    let at = to.local_addr().unwrap();
    let connection = endpoint.connect_with(config, at, "ait").unwrap().await.unwrap();
    let greeted = greet(&connection, &ours()).await.unwrap();
    Raw { id: key(seed).id(), connection, _held: (endpoint, greeted) }
}

impl Raw {
    /// Begins a stream of this kind with these bytes.
    async fn begin(&self, kind: u8, bytes: &[u8]) -> SendStream {
        let mut stream = self.connection.open_uni().await.unwrap();
        stream.write_all(&[kind]).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }
}

fn batch() -> Arc<TransactionBatch> {
    let payload = Payload::Transfer { to: Address([1; 32]), amount: Amount::new(1).unwrap() };
    let chain = ChainId::from_bytes(b"raw").unwrap();
    let key = SecretKey::from_seed([9; 32]);
    let one = Transaction::sign(&key, chain, Nonce::ZERO, Amount::ZERO, None, payload);
    let all = vec![one; 512];
    Arc::new(TransactionBatch::split(&all).remove(0))
}

fn frame(batch: &TransactionBatch) -> Vec<u8> {
    let length = u32::try_from(batch.bytes().len()).unwrap();
    [&length.to_le_bytes(), batch.bytes()].concat()
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it comes")
}

/// Why the next peer that is at fault is, and which.
async fn fault(events: &mut Events) -> (PeerId, String) {
    loop {
        if let Event::Fault { peer, reason, .. } = soon(events.urgent.recv()).await.unwrap() {
            return (peer, reason);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_never_end_give_way_to_those_of_others() {
    const KIB: usize = 1_024;
    let (node, mut events) = node(1_000 * KIB);
    let (greedy, modest, comes) = (raw(&node, 2).await, raw(&node, 3).await, raw(&node, 4).await);
    let first = greedy.begin(BODY, &vec![0xee; 400 * KIB]).await;
    let second = greedy.begin(BODY, &vec![0xee; 400 * KIB]).await;
    let mut third = modest.begin(BODY, &vec![0xee; 100 * KIB]).await;
    // A hundred KiB are left. Who comes has room, and who has most makes it.
    let mut comes_whole = comes.begin(BODY, &vec![0xee; 300 * KIB]).await;
    let is_cut = async {
        tokio::select! {
            stopped = first.stopped() => stopped,
            stopped = second.stopped() => stopped,
        }
    };
    assert!(soon(is_cut).await.unwrap().is_some());
    // The others are read to their ends, else nobody would know that they are none.
    for (stream, whose) in [(&mut comes_whole, comes.id), (&mut third, modest.id)] {
        stream.finish().unwrap();
        let (peer, reason) = fault(&mut events).await;
        assert_eq!(peer, whose);
        assert!(reason.starts_with("a body: "), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_peer_one_stream_of_transactions_is_read() {
    let (node, mut events) = node(1 << 20);
    let peer = raw(&node, 2).await;
    let whole = frame(&batch());
    let mut begun = Vec::new();
    for _ in 0..20 {
        begun.push(peer.begin(TRANSACTIONS, &whole[..whole.len() / 2]).await);
    }
    let _last = peer.begin(TRANSACTIONS, &whole).await;
    for stream in &mut begun {
        assert!(soon(stream.stopped()).await.unwrap().is_some());
    }
    let Some(Event::Transactions { transactions, .. }) = soon(events.bulk.recv()).await else {
        panic!("no transactions")
    };
    assert_eq!(transactions.len(), 512);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_has_begun_ends_in_time_or_is_cut() {
    let (node, mut events) = node(1 << 20);
    let peer = raw(&node, 2).await;
    let whole = frame(&batch());
    let begun = peer.begin(TRANSACTIONS, &whole[..whole.len() - 1]).await;
    assert_eq!(soon(begun.stopped()).await.unwrap(), Some(SLOW.into()));
    // It may begin anew.
    let _again = peer.begin(TRANSACTIONS, &whole).await;
    assert!(matches!(soon(events.bulk.recv()).await, Some(Event::Transactions { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_a_peer_does_not_take_are_given_up() {
    let (node, _events) = node(1 << 20);
    let peer = raw(&node, 2).await;
    let send = || node.send(&[peer.id], &Frame::Transactions(batch()));
    // Until what is written fills the stream's window, and more waits.
    while node.sinks().batches.going_bytes() < 2 << 20 {
        send();
        tokio::task::yield_now().await;
    }
    assert!(!node.takes_batches(&peer.id));
    let mut stream = soon(peer.connection.accept_uni()).await.unwrap();
    let reset = async {
        let is_reset = stream.received_reset().await.unwrap();
        assert_eq!(is_reset, Some(SLOW.into()));
    };
    soon(reset).await;
    while node.sinks().batches.going_bytes() > 0 {
        tokio::task::yield_now().await;
    }
    // What comes later has a stream of its own.
    send();
    let mut stream = soon(peer.connection.accept_uni()).await.unwrap();
    let whole = frame(&batch());
    let mut read = vec![0; whole.len() + 1];
    soon(stream.read_exact(&mut read)).await.unwrap();
    assert!(read[0] == TRANSACTIONS && read[1..] == whole);
}
