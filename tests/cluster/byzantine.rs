//! A validator that breaks every rule: the second program of this binary. It runs in the
//! namespace of a validator whose process was stopped, with that validator's two keys, and
//! speaks the protocol of nodes through their own transport.
//!
//! It follows the chain as any node does, so that its proposals are worth something. What it
//! does wrong is told to it line by line on standard input; what it did it says on standard
//! output, as a line of JSON twice a second.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ait_engine::block::Block;
use ait_engine::codec::Canonical;
use ait_engine::crypto::{SecretKey, Signature};
use ait_engine::genesis::GenesisDocument;
use ait_engine::message::Message;
use ait_engine::transaction::{Transaction, VerifiedTransaction, verify_transactions};
use ait_engine::types::{BlockId, Height, Round, StateRoot, TimestampMs, TxHash};
use ait_engine::vote::{ProposalMessage, SignedProposal, SignedVote, Vote, VoteKind};
use ait_net::gossip::TransactionBatch;
use ait_net::message::{Control, Request, Status, hello};
use ait_net::peer::{PeerAddress, PeerId};
use ait_net::protocol::Frame;
use ait_net::quic::{Event, Events, PeerKey, QuicOptions, Transport};
use ait_node::chain::{self, ChainError, ChainOptions, ChainWriter, GenesisSource, Stores};
use ait_node::keystore::{self, Passphrase};
use serde::{Deserialize, Serialize};

/// Transactions of one of its blocks, and of one batch of its floods.
const TOGETHER: usize = 200;
/// Proposals of one round in a storm.
const STORM: u64 = 2_000;
const TICK: Duration = Duration::from_millis(50);
const REDIAL: Duration = Duration::from_millis(1_000);

/// What it was told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Nothing wrong, and nothing right: it is silent.
    Silence,
    /// Votes twice in every round, proposes two good blocks on its turns.
    Equivocate,
    /// Proposes blocks whose state root is wrong.
    WrongRoot,
    /// Proposes blocks whose bodies it keeps back.
    Withhold,
    /// Proposes ever other blocks in one round.
    Storm,
    /// Sends bodies that are not the proposed block to the peers of these numbers.
    WrongBody,
    /// Sends more control messages than anybody may.
    FloodControl,
    /// Sends transactions whose signatures are wrong.
    FloodTransactions,
    /// Sends bytes that are no message.
    Garbage,
    /// Connects with ever new keys and sends what is wrong.
    Strangers,
}

impl Order {
    /// Whether it is carried out when it is the validator's turn to propose.
    const fn is_of_turns(self) -> bool {
        matches!(
            self,
            Self::Equivocate | Self::Withhold | Self::Storm | Self::WrongRoot | Self::WrongBody
        )
    }
}

/// An order and the numbers of the peers that it is for, in the order of the arguments.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Orders {
    pub order: Order,
    pub at: Vec<usize>,
}

/// What it did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Deeds {
    pub connected: usize,
    pub height: u64,
    pub double_votes: u64,
    pub double_proposals: u64,
    pub withheld: u64,
    pub storms: u64,
    pub wrong_roots: u64,
    pub wrong_bodies: u64,
    pub control_frames: u64,
    pub transactions: u64,
    pub garbage_frames: u64,
    pub strangers: u64,
    /// Connections that peers ended because of a ban.
    pub bans: u64,
}

struct Liar {
    key: SecretKey,
    writer: ChainWriter,
    transport: Transport,
    peers: Vec<PeerAddress>,
    connected: BTreeSet<PeerId>,
    pool: BTreeMap<TxHash, VerifiedTransaction>,
    /// Places at which it voted and proposed.
    voted: BTreeSet<(Height, Round)>,
    proposed: BTreeSet<(Height, Round)>,
    target: Height,
    is_asking: bool,
    orders: Orders,
    deeds: Deeds,
}

/// Runs until standard input ends. Arguments: data directory, address, peers.
pub async fn run(words: &[String]) {
    let directory = Path::new(&words[0]);
    let bind: SocketAddr = words[1].parse().unwrap();
    let peers: Vec<PeerAddress> = words[2..].iter().map(|word| word.parse().unwrap()).collect();
    let text = std::fs::read_to_string(directory.join("genesis.json")).unwrap();
    let writer = open(&serde_json::from_str(&text).unwrap());
    let secret = |name: &str| {
        let path = directory.join(name);
        keystore::resolve(&path.to_string_lossy(), &Passphrase { file: None }).unwrap()
    };
    let (transport, events) = bind_as(&writer, &secret("network.key"), bind);
    let liar = Liar {
        key: secret("validator.key"),
        writer,
        transport,
        peers,
        connected: BTreeSet::new(),
        pool: BTreeMap::new(),
        voted: BTreeSet::new(),
        proposed: BTreeSet::new(),
        target: Height::ZERO,
        is_asking: false,
        orders: Orders { order: Order::Silence, at: Vec::new() },
        deeds: Deeds::default(),
    };
    liar.work(events).await;
}

/// A chain in memory, to be filled from the peers.
fn open(document: &GenesisDocument) -> ChainWriter {
    let build = || document.build().map_err(ChainError::from);
    let source = GenesisSource { fingerprint: [1; 32], build: &build };
    chain::open(&Stores::memory(), &source, &ChainOptions::default(), &mut |_| {}).unwrap()
}

fn bind_as(writer: &ChainWriter, key: &SecretKey, bind: SocketAddr) -> (Transport, Events) {
    let chain = writer.chain();
    let rules = ait_node::network::consensus_hash();
    let hello = hello(chain.chain_id(), chain.genesis_id(), rules);
    Transport::bind(QuicOptions { bind, key: PeerKey::new(key).unwrap(), hello }).unwrap()
}

impl Liar {
    async fn work(mut self, mut events: Events) {
        let (orders, mut told) = tokio::sync::mpsc::channel::<Orders>(16);
        std::thread::spawn(move || {
            for line in std::io::stdin().lines().map_while(Result::ok) {
                let _ = orders.blocking_send(serde_json::from_str(&line).unwrap());
            }
        });
        let mut ticks = tokio::time::interval(TICK);
        let mut dials = tokio::time::interval(REDIAL);
        let mut reports = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                told = told.recv() => match told {
                    Some(orders) => self.orders = orders,
                    None => return,
                },
                Some(event) = events.urgent.recv() => self.on_event(event),
                Some(event) = events.bulk.recv() => self.on_event(event),
                _ = ticks.tick() => self.tick().await,
                _ = dials.tick() => self.dial(),
                _ = reports.tick() => self.report(),
            }
        }
    }

    fn report(&mut self) {
        self.deeds.connected = self.connected.len();
        self.deeds.height = self.writer.height().get();
        println!("{}", serde_json::to_string(&self.deeds).unwrap());
    }

    fn dial(&self) {
        for peer in self.peers.iter().filter(|peer| !self.connected.contains(&peer.id)) {
            self.transport.dial(peer.clone());
        }
    }

    /// The connected ones among the peers that the orders are for.
    fn ordered(&self) -> Vec<PeerId> {
        let peers = self.orders.at.iter().map(|at| self.peers[*at].id);
        peers.filter(|peer| self.connected.contains(peer)).collect()
    }

    async fn tick(&mut self) {
        self.catch_up();
        match self.orders.order {
            order if order.is_of_turns() => {
                let round = self.voted.last().filter(|(height, _)| Some(*height) == self.next());
                self.propose(round.map_or(Round::ZERO, |(_, round)| *round));
            }
            Order::FloodControl => self.flood_control(),
            Order::FloodTransactions => self.flood_transactions(),
            Order::Garbage => self.send_garbage(),
            Order::Strangers => self.send_a_stranger().await,
            _ => {}
        }
    }

    fn next(&self) -> Option<Height> {
        self.writer.height().next()
    }

    fn catch_up(&mut self) {
        let Some(from) = self.next().filter(|next| *next <= self.target) else { return };
        if self.is_asking {
            return;
        }
        if let Some(peer) = self.connected.first() {
            self.is_asking = true;
            self.transport.ask(1, *peer, Request::Blocks { from, count: 100 });
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected { peer, hello, .. } => {
                self.connected.insert(peer);
                self.target = self.target.max(hello.height);
            }
            Event::Disconnected { peer, reason } => {
                self.connected.remove(&peer);
                self.deeds.bans += u64::from(reason.contains("banned"));
            }
            Event::Blocks { blocks, .. } => {
                self.is_asking = false;
                for (block, certificate) in blocks.unwrap_or_default().0 {
                    self.follow(block, certificate);
                }
                self.catch_up();
            }
            Event::Transactions { transactions, .. } => {
                for (hash, transaction) in transactions {
                    let verified = VerifiedTransaction::assume_verified(transaction);
                    self.pool.insert(hash, verified);
                }
            }
            Event::Control { control, .. } => self.on_control(control),
            Event::Request { reply, .. } => drop(reply.send(None)),
            _ => {}
        }
    }

    fn follow(&mut self, block: Block, certificate: ait_engine::certificate::Certificate) {
        if Some(block.header.height) != self.next() {
            return;
        }
        for transaction in &block.transactions {
            self.pool.remove(&transaction.hash());
        }
        self.writer.receive(block, &mut |all| verify_transactions(all, None)).unwrap().unwrap();
        self.writer.commit(certificate).unwrap();
        self.transport.set_height(self.writer.height());
        self.propose(Round::ZERO);
    }

    fn on_control(&mut self, control: Control) {
        match control {
            Control::Final(certificate) => self.target = self.target.max(certificate.height),
            Control::Status(status) => self.target = self.target.max(status.height),
            Control::Consensus(message) => {
                let block_id = match &message {
                    Message::Proposal(signed) => Some(signed.proposal.block_id),
                    Message::Vote(signed) => signed.vote.block_id,
                    _ => None,
                };
                if let (Order::Equivocate, Some(block_id)) = (self.orders.order, block_id) {
                    self.vote_twice(message.height(), message.round(), block_id);
                }
            }
            _ => {}
        }
        self.catch_up();
    }

    fn say(&self, peers: &[PeerId], message: Message) {
        let frame = Frame::Control(Arc::new(Control::Consensus(message).encode()));
        self.transport.send(peers, &frame);
    }

    /// One half of the peers hears one vote first, the other half the other.
    fn halves(&self) -> (Vec<PeerId>, Vec<PeerId>) {
        let all: Vec<PeerId> = self.connected.iter().copied().collect();
        let (one, other) = all.split_at(all.len() / 2);
        (one.to_vec(), other.to_vec())
    }

    fn vote_twice(&mut self, height: Height, round: Round, block_id: BlockId) {
        if !self.voted.insert((height, round)) {
            return;
        }
        let (chain_id, validator) =
            (self.writer.parent().chain_id, self.key.public_key().address());
        let signed = |kind, block_id| {
            let vote = Vote { kind, height, round, block_id, validator };
            let signature = self.key.sign(vote.sign_hash(&chain_id).as_bytes());
            Message::Vote(SignedVote { vote, signature })
        };
        let (one, other) = self.halves();
        for kind in [VoteKind::Prevote, VoteKind::Precommit] {
            let (for_it, nil) = (signed(kind, Some(block_id)), signed(kind, None));
            for (peers, first, second) in [(&one, &for_it, &nil), (&other, &nil, &for_it)] {
                self.say(peers, first.clone());
                self.say(peers, second.clone());
            }
            self.deeds.double_votes += 1;
        }
    }

    /// Does what it was told on its turn.
    fn propose(&mut self, round: Round) {
        let Some(height) = self.next() else { return };
        let us = self.key.public_key().address();
        let is_turn = self.writer.validators().proposer(height, round).address() == us;
        if !is_turn || height <= self.target || self.proposed.contains(&(height, round)) {
            return;
        }
        if !self.orders.order.is_of_turns() {
            return;
        }
        let (Some(one), Some(other)) = (self.build(0), self.build(1)) else { return };
        self.proposed.insert((height, round));
        match self.orders.order {
            Order::Equivocate => self.propose_two(round, &one, &other),
            Order::WrongRoot => {
                let mut wrong = one;
                wrong.header.state_root = StateRoot([0xee; 32]);
                let everybody: Vec<PeerId> = self.connected.iter().copied().collect();
                self.send_body(&everybody, self.proposal(round, wrong.header.id()), &wrong);
                self.deeds.wrong_roots += 1;
            }
            Order::Withhold => {
                let everybody: Vec<PeerId> = self.connected.iter().copied().collect();
                self.say(&everybody, Message::Proposal(self.proposal(round, one.header.id())));
                self.deeds.withheld += 1;
            }
            Order::Storm => {
                let everybody: Vec<PeerId> = self.connected.iter().copied().collect();
                for n in 0..STORM {
                    let mut id = one.header.id();
                    id.0[..8].copy_from_slice(&n.to_le_bytes());
                    self.say(&everybody, Message::Proposal(self.proposal(round, id)));
                }
                self.deeds.storms += 1;
            }
            _ => {
                // The proposal of one block, the body of the other.
                self.send_body(&self.ordered(), self.proposal(round, one.header.id()), &other);
                self.deeds.wrong_bodies += 1;
            }
        }
    }

    /// Two blocks that both could be made final: in turns each half of the peers gets one,
    /// or everybody gets both.
    fn propose_two(&mut self, round: Round, one: &Block, other: &Block) {
        let (ones, others) = self.halves();
        let first = self.proposal(round, one.header.id());
        let second = self.proposal(round, other.header.id());
        self.send_body(&ones, first, one);
        self.send_body(&others, second, other);
        if self.deeds.double_proposals % 2 == 1 {
            self.send_body(&others, first, one);
            self.send_body(&ones, second, other);
        }
        self.deeds.double_proposals += 1;
    }

    /// A good block; another for each number.
    fn build(&mut self, more_ms: u64) -> Option<Block> {
        let mut all: Vec<VerifiedTransaction> = self.pool.values().cloned().collect();
        all.sort_by_key(|one| (one.sender(), one.transaction().nonce));
        all.truncate(TOGETHER);
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let now = u64::try_from(since.as_millis()).unwrap() + more_ms;
        let us = self.key.public_key().address();
        let built = self.writer.build(all, TimestampMs::saturating(now), us).unwrap();
        for (hash, refusal) in built.refused {
            // What waits for another nonce may do later.
            if refusal.code() == "nonce_used" {
                self.pool.remove(&hash);
            }
        }
        built.block_id.and_then(|id| self.writer.proposal(&id).cloned())
    }

    fn proposal(&self, round: Round, block_id: BlockId) -> SignedProposal {
        let (height, proposer) = (self.next().unwrap(), self.key.public_key().address());
        let proposal = ProposalMessage { height, round, pol_round: None, block_id, proposer };
        let hash = proposal.sign_hash(&self.writer.parent().chain_id);
        SignedProposal { proposal, signature: self.key.sign(hash.as_bytes()) }
    }

    fn send_body(&self, peers: &[PeerId], proposal: SignedProposal, block: &Block) {
        self.say(peers, Message::Proposal(proposal));
        let mut bytes = proposal.encode();
        block.encode_to(&mut bytes);
        self.transport.send(peers, &Frame::Body(Arc::new(bytes)));
    }

    fn flood_control(&mut self) {
        let peers = self.ordered();
        let status = Status { height: Height::ZERO, neighbours: Vec::new() };
        let frame = Frame::Control(Arc::new(Control::Status(status).encode()));
        // Somewhat less than the queue of the transport, which would end the connection.
        for _ in 0..3_000 {
            self.transport.send(&peers, &frame);
        }
        self.deeds.control_frames += 3_000 * peers.len() as u64;
    }

    /// Transactions of the pool, if there are any, with signatures of nothing.
    fn forged(&mut self) -> Vec<Transaction> {
        let forge = |(at, one): (usize, &VerifiedTransaction)| {
            let mut forged = one.transaction().clone();
            // Another fee makes another hash: nobody has seen it yet.
            let more = self.deeds.transactions + at as u64;
            forged.fee = ait_engine::types::Amount::saturating(1_000 + more);
            forged.signature = Signature([7; 64]);
            forged
        };
        let forged: Vec<_> = self.pool.values().take(TOGETHER).enumerate().map(forge).collect();
        self.deeds.transactions += forged.len() as u64;
        forged
    }

    fn flood_transactions(&mut self) {
        let peers = self.ordered();
        for _ in 0..4 {
            for batch in TransactionBatch::split(self.forged().iter()) {
                self.transport.send(&peers, &Frame::Transactions(Arc::new(batch)));
            }
        }
    }

    fn send_garbage(&mut self) {
        let peers = self.ordered();
        self.transport.send(&peers, &Frame::Control(Arc::new(vec![0xee; 999])));
        self.deeds.garbage_frames += peers.len() as u64;
    }

    /// Connects to everybody under a new name, and sends at once all that it can.
    async fn send_a_stranger(&mut self) {
        let bind = SocketAddr::new(self.transport.local_addr().unwrap().ip(), 0);
        let key = keystore::generate().unwrap();
        let (stranger, mut events) = bind_as(&self.writer, &key, bind);
        for peer in &self.peers {
            stranger.dial(peer.clone());
        }
        let until = tokio::time::Instant::now() + Duration::from_millis(400);
        let mut met = Vec::new();
        while let Ok(Some(event)) = tokio::time::timeout_at(until, events.urgent.recv()).await {
            let Event::Connected { peer, .. } = event else { continue };
            met.push(peer);
            for batch in TransactionBatch::split(self.forged().iter()) {
                stranger.send(&[peer], &Frame::Transactions(Arc::new(batch)));
            }
            let status = Status { height: Height::saturating(u64::MAX), neighbours: Vec::new() };
            let frame = Frame::Control(Arc::new(Control::Status(status).encode()));
            for _ in 0..3_000 {
                stranger.send(&[peer], &frame);
            }
            self.deeds.control_frames += 3_000;
        }
        stranger.send(&met, &Frame::Control(Arc::new(vec![0xee; 999])));
        self.deeds.garbage_frames += met.len() as u64;
        self.deeds.strangers += met.len() as u64;
        tokio::time::sleep(Duration::from_millis(50)).await;
        stranger.close().await;
    }
}
