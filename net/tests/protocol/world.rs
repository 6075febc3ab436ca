//! Several protocol machines in virtual time, without a socket: what one sends arrives at
//! the other after a delay, or never.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ait_engine::block::{Block, Header};
use ait_engine::certificate::Certificate;
use ait_engine::codec::Canonical;
use ait_engine::message::Message;
use ait_engine::transaction::VerifiedTransaction;
use ait_engine::types::{
    Address, BlockId, ChainId, Hash, Height, Round, StateRoot, TimestampMs, TxHash,
};
use ait_net::gossip::TransactionBatch;
use ait_net::message::{Blocks, Body, Control, Request, hello};
use ait_net::peer::{PeerAddress, PeerId};
use ait_net::protocol::{Delivery, Frame, Input, Local, Output, Protocol, ProtocolOptions};

pub(crate) const DELAY_MS: u64 = 10;
const TICK_MS: u64 = 100;

/// How a node answers who asks it for blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Honest,
    /// Never.
    Silent,
    /// With blocks of other heights.
    Wrong,
    /// With blocks that nobody accepts.
    Invalid,
    /// Over a line that takes half a second for a block.
    Slow,
    /// Two times of five that it has too much to do.
    Busy,
    /// Always that it has nothing, whatever it said of its height.
    Empty,
}

/// How long [`Manner::Slow`] takes for a block.
const SLOW_MS: u64 = 500;

enum Arrival {
    Input(Input),
    Call { from: PeerId },
    Ask { from: PeerId, id: u64, request: Request },
    Imported(Height),
    Refused { peer: PeerId },
}

pub(crate) struct Node {
    pub(crate) id: PeerId,
    pub(crate) protocol: Protocol,
    pub(crate) height: u64,
    pub(crate) manner: Manner,
    /// What was handed to the node: messages, transactions, imported heights, bodies.
    pub(crate) messages: Vec<Hash>,
    pub(crate) transactions: Vec<TxHash>,
    pub(crate) imported: Vec<u64>,
    pub(crate) bodies: Vec<BlockId>,
    /// Bodies that it can give.
    pub(crate) has: BTreeMap<BlockId, Body>,
    /// Whom it asked for blocks, and for bodies.
    pub(crate) asked: Vec<PeerId>,
    pub(crate) asked_bodies: Vec<PeerId>,
    pub(crate) calls: Vec<u64>,
    /// Whose transactions it does not read, for how long.
    pub(crate) pauses: Vec<(PeerId, u64)>,
    /// Requests for blocks that came.
    requests: u64,
    connected: BTreeSet<PeerId>,
}

/// What went over which link: from, to, and a hash of what.
pub(crate) type Carried = BTreeMap<(PeerId, PeerId, Hash), u32>;

#[derive(Default)]
pub(crate) struct World {
    pub(crate) now_ms: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) cut: BTreeSet<PeerId>,
    pub(crate) carried: Carried,
    pub(crate) known: BTreeMap<TxHash, Arc<VerifiedTransaction>>,
    /// Where nodes are that are not at a host of their own.
    pub(crate) hosts: BTreeMap<PeerId, &'static str>,
    /// In the order of time, and of sending within a moment.
    queue: BTreeMap<(u64, u64), (PeerId, Arrival)>,
    sent: u64,
    ticked_ms: u64,
}

pub(crate) fn id(n: usize) -> PeerId {
    PeerId([n as u8 + 1; 32])
}

pub(crate) fn address(n: usize) -> PeerAddress {
    PeerAddress { id: id(n), host: format!("node-{n}.example"), port: 7_000 }
}

pub(crate) fn chain() -> ChainId {
    ChainId::from_bytes(b"protocol").unwrap()
}

pub(crate) fn block(height: u64) -> Block {
    let header = Header {
        version: 1,
        chain_id: chain(),
        height: Height::saturating(height),
        parent: BlockId([0; 32]),
        time: TimestampMs::saturating(height),
        proposer: Address([1; 32]),
        transactions_root: Hash([0; 32]),
        outcomes_root: Hash([0; 32]),
        state_root: StateRoot([0; 32]),
        validators_hash: Hash([0; 32]),
        next_validators_hash: Hash([0; 32]),
        transaction_count: 0,
        body_bytes: 0,
    };
    Block { header, transactions: Vec::new() }
}

fn certified(height: u64, is_valid: bool) -> (Block, Certificate) {
    let block = block(height);
    let block_id = if is_valid { block.header.id() } else { BlockId([9; 32]) };
    let round = Round::saturating(0);
    let certificate = Certificate::new(block.header.height, round, block_id, Vec::new());
    (block, certificate)
}

fn hash(bytes: &[u8]) -> Hash {
    Hash(*blake3::hash(bytes).as_bytes())
}

impl World {
    /// Adds a node that calls these.
    pub(crate) fn add(&mut self, calls: &[usize], height: u64) -> usize {
        let n = self.nodes.len();
        let options = ProtocolOptions {
            us: id(n),
            peers: calls.iter().map(|to| address(*to)).collect(),
            wanted: 4,
            connections_max: 32,
            exchanges_addresses: false,
            seed: n as u64 + 1,
        };
        self.add_with(options, height)
    }

    pub(crate) fn add_with(&mut self, options: ProtocolOptions, height: u64) -> usize {
        let protocol = Protocol::new(options.clone(), Height::saturating(height), self.now_ms);
        self.nodes.push(Node {
            id: options.us,
            protocol,
            height,
            manner: Manner::Honest,
            messages: Vec::new(),
            transactions: Vec::new(),
            imported: Vec::new(),
            bodies: Vec::new(),
            has: BTreeMap::new(),
            asked: Vec::new(),
            asked_bodies: Vec::new(),
            calls: Vec::new(),
            pauses: Vec::new(),
            requests: 0,
            connected: BTreeSet::new(),
        });
        self.nodes.len() - 1
    }

    pub(crate) fn say(&mut self, n: usize, local: Local) {
        self.feed(n, Input::Local(local));
    }

    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            let next_tick = self.ticked_ms + TICK_MS;
            let next = self.queue.keys().next().map_or(u64::MAX, |(at, _)| *at);
            self.now_ms = next_tick.min(next).min(end);
            while let Some(entry) = self.queue.first_entry()
                && entry.key().0 <= self.now_ms
            {
                let (to, arrival) = entry.remove();
                self.arrive(to, arrival);
            }
            if self.now_ms >= next_tick {
                self.ticked_ms = self.now_ms;
                (0..self.nodes.len()).for_each(|n| self.feed(n, Input::Tick));
            }
        }
    }

    /// Cuts a node off: its connections end at both sides, and calls lead to nothing.
    pub(crate) fn cut_off(&mut self, n: usize) {
        let gone = id(n);
        self.cut.insert(gone);
        for at in 0..self.nodes.len() {
            let peers: Vec<_> = self.nodes[at].connected.iter().copied().collect();
            for peer in peers.into_iter().filter(|peer| at == n || *peer == gone) {
                self.nodes[at].connected.remove(&peer);
                self.feed(at, Input::Disconnected { peer });
            }
        }
    }

    pub(crate) fn is_connected(&self, a: usize, b: usize) -> bool {
        self.nodes[a].connected.contains(&id(b)) && self.nodes[b].connected.contains(&id(a))
    }

    /// How often a thing went from one to another.
    pub(crate) fn carried(&self, from: usize, to: usize, what: Hash) -> u32 {
        self.carried.get(&(id(from), id(to), what)).copied().unwrap_or(0)
    }

    pub(crate) fn feed(&mut self, n: usize, input: Input) {
        let outputs = self.nodes[n].protocol.handle(self.now_ms, input);
        for output in outputs {
            self.perform(n, output);
        }
    }

    fn send(&mut self, to: PeerId, after_ms: u64, arrival: Arrival) {
        self.sent += 1;
        self.queue.insert((self.now_ms + after_ms, self.sent), (to, arrival));
    }

    fn at(&self, peer: &PeerId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == *peer)
    }

    fn host(&self, peer: &PeerId) -> String {
        let own = || format!("node-{}.example", self.at(peer).unwrap());
        self.hosts.get(peer).map_or_else(own, |host| (*host).to_owned())
    }

    fn reaches(&self, from: &PeerId, to: &PeerId) -> bool {
        !self.cut.contains(from) && !self.cut.contains(to) && self.at(to).is_some()
    }

    fn perform(&mut self, n: usize, output: Output) {
        let us = self.nodes[n].id;
        match output {
            Output::Dial(address) => {
                self.nodes[n].calls.push(self.now_ms);
                if self.reaches(&us, &address.id) {
                    self.send(address.id, DELAY_MS, Arrival::Call { from: us });
                } else {
                    let peer = address.id;
                    self.send(us, 1_000, Arrival::Input(Input::DialFailed { peer }));
                }
            }
            Output::Send { peers, frame } => {
                for peer in peers {
                    self.carry(n, peer, &frame);
                }
            }
            Output::Ask { id, peer, request } => {
                match request {
                    Request::Blocks { .. } => self.nodes[n].asked.push(peer),
                    Request::Body { .. } => self.nodes[n].asked_bodies.push(peer),
                }
                if self.nodes[n].connected.contains(&peer) {
                    self.send(peer, DELAY_MS, Arrival::Ask { from: us, id, request });
                }
            }
            Output::Disconnect { peer, .. } => {
                self.nodes[n].connected.remove(&peer);
                if let Some(at) = self.at(&peer)
                    && self.nodes[at].connected.remove(&us)
                {
                    self.send(peer, DELAY_MS, Arrival::Input(Input::Disconnected { peer: us }));
                }
            }
            Output::Deliver(delivery) => self.deliver(n, delivery),
            Output::Pause { peer, for_ms } => self.nodes[n].pauses.push((peer, for_ms)),
            Output::BookChanged => {}
        }
    }

    fn carry(&mut self, n: usize, peer: PeerId, frame: &Frame) {
        let us = self.nodes[n].id;
        if !self.nodes[n].connected.contains(&peer) {
            return;
        }
        let mut count = |what| *self.carried.entry((us, peer, what)).or_default() += 1;
        let input = match frame {
            Frame::Control(bytes) => {
                let control = Control::decode(bytes).unwrap();
                if let Control::Consensus(message) = &control {
                    count(hash(&message.encode()));
                }
                Input::Control { peer: us, control }
            }
            Frame::Transactions(batch) => {
                let (_, transactions) = TransactionBatch::decode(batch.bytes()).unwrap();
                let transactions: Vec<_> =
                    transactions.into_iter().map(|one| (one.hash(), one)).collect();
                transactions.iter().for_each(|(tx_hash, _)| count(Hash(tx_hash.0)));
                Input::Transactions { peer: us, transactions }
            }
            Frame::Body(bytes) => {
                let body = Body::decode(bytes).unwrap();
                count(Hash(body.proposal.proposal.block_id.0));
                Input::Body { peer: us, body: Box::new(body) }
            }
        };
        self.send(peer, DELAY_MS, Arrival::Input(input));
    }

    /// What a node does with what it is given.
    fn deliver(&mut self, n: usize, delivery: Delivery) {
        match delivery {
            Delivery::Message { from, message } => {
                self.nodes[n].messages.push(hash(&message.encode()));
                if let Message::Proposal(signed) = &message
                    && !self.nodes[n].has.contains_key(&signed.proposal.block_id)
                {
                    let (height, block_id) = (signed.proposal.height, signed.proposal.block_id);
                    self.say(n, Local::WantBody { from, height, block_id });
                }
                self.say(n, Local::Forward { from, message });
            }
            Delivery::Body { from, body } => {
                let proposal = body.proposal;
                self.nodes[n].bodies.push(proposal.proposal.block_id);
                self.nodes[n].has.insert(proposal.proposal.block_id, *body);
                self.say(n, Local::BodyAccepted { from, proposal });
            }
            Delivery::Transactions { transactions, .. } => {
                let hashes = transactions.iter().map(|(tx_hash, _)| *tx_hash);
                self.nodes[n].transactions.extend(hashes.clone());
                let accepted = hashes.map(|tx_hash| Arc::clone(&self.known[&tx_hash])).collect();
                self.say(n, Local::Accepted(accepted));
            }
            Delivery::Import { from, block, certificate } => {
                let height = block.header.height;
                self.nodes[n].imported.push(height.get());
                let is_good = certificate.block_id == block.header.id();
                let us = self.nodes[n].id;
                let arrival = match is_good {
                    true => Arrival::Imported(height),
                    false => Arrival::Refused { peer: from },
                };
                self.send(us, 1, arrival);
            }
            Delivery::Final { .. } | Delivery::Connected { .. } => {}
        }
    }

    fn arrive(&mut self, to: PeerId, arrival: Arrival) {
        let Some(n) = self.at(&to) else { return };
        match arrival {
            Arrival::Call { from } => self.called(n, from),
            Arrival::Input(input) => {
                let is_lost = match &input {
                    Input::Control { peer, .. }
                    | Input::Transactions { peer, .. }
                    | Input::Body { peer, .. } => !self.nodes[n].connected.contains(peer),
                    _ => false,
                };
                if !is_lost {
                    self.feed(n, input);
                }
            }
            Arrival::Ask { from, id, request } => self.answer(n, from, id, request),
            Arrival::Imported(height) => {
                // A restarted hand-over may import again what is here.
                self.nodes[n].height = self.nodes[n].height.max(height.get());
                self.say(n, Local::Committed { height, certificate: None });
            }
            Arrival::Refused { peer } => {
                self.say(n, Local::Refused { peer, is_senders_fault: true });
            }
        }
    }

    fn called(&mut self, n: usize, from: PeerId) {
        let (us, caller) = (self.nodes[n].id, self.at(&from).unwrap());
        let admits = |world: &Self, at: usize, peer: &PeerId| {
            let host = world.host(peer);
            world.nodes[at].protocol.admit(peer, &host, world.now_ms).is_ok()
        };
        let is_open = self.reaches(&from, &us) && !self.nodes[n].connected.contains(&from);
        if !is_open || !admits(self, n, &from) || !admits(self, caller, &us) {
            return self.feed(caller, Input::DialFailed { peer: us });
        }
        for (at, peer, is_outbound) in [(n, from, false), (caller, us, true)] {
            let mut hello = hello(chain(), BlockId([1; 32]), Hash([2; 32]));
            hello.height = Height::saturating(self.nodes[self.at(&peer).unwrap()].height);
            hello.port = 7_000;
            self.nodes[at].connected.insert(peer);
            let host = self.host(&peer);
            self.feed(at, Input::Connected { peer, is_outbound, host, hello });
        }
    }

    fn answer(&mut self, n: usize, from: PeerId, id: u64, request: Request) {
        let us = self.nodes[n].id;
        let manner = self.nodes[n].manner;
        if manner == Manner::Silent {
            return;
        }
        let mut after_ms = DELAY_MS;
        let input = match request {
            Request::Blocks { from: first, count } => {
                self.nodes[n].requests += 1;
                if manner == Manner::Slow {
                    after_ms += SLOW_MS * u64::from(count);
                }
                let is_refused = manner == Manner::Empty
                    || (manner == Manner::Busy && self.nodes[n].requests % 5 < 2);
                if is_refused {
                    let none = Arrival::Input(Input::Blocks { id, blocks: None });
                    return self.send(from, after_ms, none);
                }
                let first = first.get() + u64::from(manner == Manner::Wrong);
                let end = (first + u64::from(count)).min(self.nodes[n].height + 1);
                let is_valid = manner != Manner::Invalid;
                let blocks = (first..end).map(|height| certified(height, is_valid)).collect();
                Input::Blocks { id, blocks: Some(Blocks(blocks)) }
            }
            Request::Body { block_id, .. } => match self.nodes[n].has.get(&block_id) {
                Some(body) => Input::Body { peer: us, body: Box::new(body.clone()) },
                None => Input::NoBody { peer: us, block_id },
            },
        };
        self.send(from, after_ms, Arrival::Input(input));
    }
}
