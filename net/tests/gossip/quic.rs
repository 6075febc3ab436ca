//! The contract over QUIC: the protocol's state machine and the transport that ship, joined
//! by a loop without a node behind it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ait_engine::crypto::SecretKey;
use ait_engine::transaction::VerifiedTransaction;
use ait_engine::types::{BlockId, ChainId, Hash};
use ait_net::gossip::{Gossip, Incoming, Source, Verdict};
use ait_net::message;
use ait_net::peer::PeerAddress;
use ait_net::protocol::{Delivery, Input, Local, Output, Protocol, ProtocolOptions};
use ait_net::quic::{Event, Events, PeerKey, QuicOptions, Transport};
use tokio::sync::{mpsc, watch};

use super::{Member, PATIENCE, contract, hashes, transactions};

struct QuicGossip {
    local: mpsc::Sender<Local>,
}

impl Gossip for QuicGossip {
    fn name(&self) -> &'static str {
        "quic"
    }

    fn publish(&self, transactions: &[Arc<VerifiedTransaction>]) -> bool {
        self.local.try_send(Local::Accepted(transactions.to_vec())).is_ok()
    }

    fn judged(&self, verdict: Verdict) {
        let Source::Peer(peer) = verdict.source else { return };
        let (tally, not_taken) = (verdict.tally, verdict.not_taken);
        let _ = self.local.try_send(Local::Judged { peer, tally, not_taken });
    }
}

struct Loop {
    protocol: Protocol,
    transport: Transport,
    heard: mpsc::Sender<Incoming>,
    connected: watch::Sender<usize>,
    began: Instant,
}

impl Loop {
    async fn run(mut self, mut events: Events, mut local: mpsc::Receiver<Local>) {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            let input = tokio::select! {
                _ = ticks.tick() => Input::Tick,
                Some(local) = local.recv() => Input::Local(local),
                Some(event) = events.urgent.recv() => match event {
                    Event::Connected { peer, is_outbound, host, hello } => {
                        Input::Connected { peer, is_outbound, host, hello }
                    }
                    Event::Disconnected { peer, .. } => Input::Disconnected { peer },
                    Event::DialFailed { peer, .. } => Input::DialFailed { peer },
                    Event::Control { peer, control } => Input::Control { peer, control },
                    _ => continue,
                },
                Some(event) = events.bulk.recv(), if self.heard.capacity() > 0 => match event {
                    Event::Transactions { peer, transactions, .. } => {
                        Input::Transactions { peer, transactions }
                    }
                    _ => continue,
                },
                else => return,
            };
            let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap();
            for output in self.protocol.handle(now_ms, input) {
                self.perform(output);
            }
            let links = self.protocol.peers(now_ms).iter().filter(|p| p.is_connected).count();
            self.connected.send_replace(links);
        }
    }

    fn perform(&self, output: Output) {
        match output {
            Output::Dial(address) => self.transport.dial(address),
            Output::Send { peers, frame } => self.transport.send(&peers, &frame),
            Output::Disconnect { peer, reason } => self.transport.disconnect(&peer, &reason),
            Output::Pause { peer, for_ms } => {
                self.transport.pause(&peer, Duration::from_millis(for_ms));
            }
            Output::Deliver(Delivery::Transactions { from, transactions }) => {
                let incoming = Incoming { source: Source::Peer(from), transactions };
                self.heard.try_send(incoming).expect("there was room");
            }
            _ => {}
        }
    }
}

/// A node's gossip on a socket of its own; how many it is connected with.
fn start(seed: u8, peers: Vec<PeerAddress>) -> (Member, PeerAddress, watch::Receiver<usize>) {
    let hello = message::hello(
        ChainId::from_bytes(b"gossip").unwrap(),
        BlockId(Hash([1; 32]).0),
        Hash([2; 32]),
    );
    let key = PeerKey::new(&SecretKey::from_seed([seed; 32])).unwrap();
    let bind = "127.0.0.1:0".parse().unwrap();
    let (transport, events) = Transport::bind(QuicOptions { bind, key, hello }).unwrap();
    let (host, port) = ("127.0.0.1".to_owned(), transport.local_addr().unwrap().port());
    let address = PeerAddress { id: transport.id(), host, port };
    let options = ProtocolOptions {
        us: transport.id(),
        peers,
        wanted: 8,
        connections_max: 16,
        exchanges_addresses: false,
        seed: u64::from(seed),
    };
    let protocol = Protocol::new(options, ait_engine::types::Height::ZERO, 0);
    let (local, to_say) = mpsc::channel(64);
    let (heard, incoming) = mpsc::channel(8);
    let (connected, links) = watch::channel(0);
    let began = Instant::now();
    let work = Loop { protocol, transport, heard, connected, began };
    tokio::spawn(work.run(events, to_say));
    (Member { gossip: Arc::new(QuicGossip { local }), incoming }, address, links)
}

/// Nodes of which each calls those before it that `calls` names, all connected.
async fn members(count: usize, calls: impl Fn(usize, usize) -> bool) -> Vec<Member> {
    network(count, calls).await.0
}

async fn network(
    count: usize,
    calls: impl Fn(usize, usize) -> bool,
) -> (Vec<Member>, Vec<PeerAddress>) {
    let mut members = Vec::new();
    let mut addresses: Vec<PeerAddress> = Vec::new();
    let mut links = Vec::new();
    for at in 0..count {
        let peers = addresses.iter().enumerate().filter(|(to, _)| calls(at, *to));
        let (member, address, connected) =
            start(at as u8 + 1, peers.map(|p| p.1.clone()).collect());
        members.push(member);
        addresses.push(address);
        links.push(connected);
    }
    for (at, connected) in links.iter_mut().enumerate() {
        let expected = (0..count).filter(|to| calls(at.max(*to), at.min(*to)) && *to != at).count();
        let wait = connected.wait_for(|links| *links == expected);
        tokio::time::timeout(PATIENCE, wait).await.expect("they connect").unwrap();
    }
    // Neighbours are told within a quarter of a second: then nobody sends what others do.
    tokio::time::sleep(Duration::from_millis(600)).await;
    (members, addresses)
}

async fn mesh(count: usize) -> Vec<Member> {
    members(count, |_, _| true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_other_hears_once_in_order() {
    contract::each_other_hears_once_in_order(mesh(3).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_heard_makes_no_second_round() {
    contract::what_was_heard_makes_no_second_round(mesh(4).await).await;
    // On a line each transaction has to be passed on.
    let line = members(4, |at, to| to + 1 == at).await;
    contract::what_was_heard_makes_no_second_round(line).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_taken_may_come_again() {
    let (members, addresses) = network(3, |_, _| true).await;
    let late = async {
        let (member, _, mut links) = start(9, addresses);
        let wait = links.wait_for(|links| *links == 3);
        tokio::time::timeout(PATIENCE, wait).await.expect("it connects").unwrap();
        member
    };
    contract::what_was_not_taken_may_come_again(members, late).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_that_nobody_reads_is_bounded() {
    contract::a_flood_that_nobody_reads_is_bounded(mesh(3).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_passes_on_in_order_without_sending_back() {
    let mut line = members(3, |at, to| to + 1 == at).await;
    let all = transactions(1, 100);
    line[0].publish(&all);
    assert_eq!(line[1].hear(100).await, hashes(&all));
    line[2].hears_nothing().await;
    // The one in the middle accepted them.
    line[1].publish(&all);
    assert_eq!(line[2].hear(100).await, hashes(&all));
    line[0].hears_nothing().await;
}
