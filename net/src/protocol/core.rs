//! The state machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ait_engine::codec::Canonical;
use ait_engine::message::Message;
use ait_engine::transaction::{Transaction, VerifiedTransaction};
use ait_engine::types::{Height, TxHash};

use super::gossip::{Link, Repeats, SeenTransactions, Wants, remember};
use super::port::{Delivery, Frame, Input, Local, Output};
use crate::gossip::{Aging, TransactionBatch};
use crate::limits::{ADDRESSES_MAX, NEIGHBOURS_MAX};
use crate::message::{Body, Control, Hello, Request, Status};
use crate::peer::{Allowances, Book, Fault, Host, PeerAddress, PeerId, Scores, Tally};
use crate::sync::{BlockSync, Step};

/// Consensus messages are forgotten before they are said again on purpose.
const MESSAGE_TURN_MS: u64 = 1_500;
const MESSAGES_MAX: usize = 65_536;
/// Transactions are forgotten before pending ones are shared again.
const TRANSACTION_TURN_MS: u64 = 10_000;
const TRANSACTIONS_MAX: usize = 500_000;
/// Peers of which is remembered where they were when they left.
const LEFT_MAX: usize = 4_096;
/// Control messages that a peer may send a second, and at once.
const CONTROL_PER_SECOND: u32 = 2_000;
const CONTROL_BURST: u32 = 8_000;
/// How often a status is sent though nothing changed.
const STATUS_MS: u64 = 10_000;
/// Least time between two statuses that tell of changed neighbours.
const STATUS_MS_MIN: u64 = 250;

/// How the protocol behaves.
#[derive(Debug, Clone)]
pub struct ProtocolOptions {
    /// This node.
    pub us: PeerId,
    /// Peers that the operator named.
    pub peers: Vec<PeerAddress>,
    /// Connections that are sought by calling learned addresses.
    pub wanted: usize,
    /// Connections at most.
    pub connections_max: usize,
    /// Whether addresses are exchanged with peers.
    pub exchanges_addresses: bool,
    /// Any number; spreads calls.
    pub seed: u64,
}

/// What a node says to which peer.
#[derive(Debug)]
pub struct Protocol {
    pub(super) options: ProtocolOptions,
    pub(super) book: Book,
    pub(super) scores: Scores,
    pub(super) allowances: Allowances,
    pub(super) links: BTreeMap<PeerId, Link>,
    /// Where those were that left: what they sent may be judged later.
    pub(super) left: Aging<PeerId, Host>,
    pub(super) sync: BlockSync,
    height: Height,
    messages: Aging<[u8; 32], ()>,
    transactions: SeenTransactions,
    /// How many were new.
    seen: u64,
    bodies: Aging<[u8; 32], ()>,
    wants: Wants,
    next_id: u64,
    allowed_ms: u64,
    status_ms: u64,
    is_status_due: bool,
    pub(super) out: Vec<Output>,
}

impl Protocol {
    /// For a chain of this height.
    #[must_use]
    pub fn new(options: ProtocolOptions, height: Height, now_ms: u64) -> Self {
        let peers = options.peers.clone();
        Self {
            book: Book::new(options.us, peers, options.wanted, options.seed),
            scores: Scores::default(),
            allowances: Allowances::default(),
            links: BTreeMap::new(),
            left: Aging::new(TRANSACTION_TURN_MS, LEFT_MAX),
            sync: BlockSync::new(height, now_ms),
            height,
            messages: Aging::new(MESSAGE_TURN_MS, MESSAGES_MAX),
            transactions: Aging::new(TRANSACTION_TURN_MS, TRANSACTIONS_MAX),
            seen: 0,
            bodies: Aging::new(TRANSACTION_TURN_MS, 1_024),
            wants: Wants::default(),
            next_id: 0,
            allowed_ms: now_ms,
            status_ms: now_ms,
            is_status_due: false,
            out: Vec::new(),
            options,
        }
    }

    /// Takes an input and gives what is to be done, in order.
    pub fn handle(&mut self, now_ms: u64, input: Input) -> Vec<Output> {
        match input {
            Input::Tick => self.tick(now_ms),
            Input::Connected { peer, is_outbound, host, hello } => {
                self.connected(peer, is_outbound, host, &hello, now_ms);
            }
            Input::Disconnected { peer } => self.disconnected(&peer, now_ms),
            Input::DialFailed { peer } => self.book.failed(&peer, 0, now_ms),
            Input::Control { peer, control } => self.on_control(peer, control, now_ms),
            Input::Transactions { peer, transactions } => {
                self.on_transactions(peer, transactions, now_ms);
            }
            Input::Body { peer, body } => self.on_body(peer, body),
            Input::Blocks { id, blocks } => {
                let steps = self.sync.answered(id >> 1, blocks.map(|blocks| blocks.0), now_ms);
                self.do_steps(steps, now_ms);
            }
            Input::NoBody { peer, block_id } => {
                if let Some(link) = self.links.get_mut(&peer) {
                    link.offered.retain(|id| *id != block_id);
                }
                self.wants.failed(&block_id);
            }
            Input::Fault { peer, fault, reason } => self.fault(peer, fault, &reason, now_ms),
            Input::Local(local) => self.on_local(local, now_ms),
        }
        let steps = self.sync.steps(now_ms);
        self.do_steps(steps, now_ms);
        for (peer, height, block_id) in self.wants.due(&self.links, now_ms) {
            self.next_id = self.next_id.wrapping_add(1);
            let (id, request) = (self.next_id << 1 | 1, Request::Body { height, block_id });
            self.out.push(Output::Ask { id, peer, request });
        }
        std::mem::take(&mut self.out)
    }

    fn tick(&mut self, now_ms: u64) {
        self.messages.age(now_ms);
        self.transactions.age(now_ms);
        self.bodies.age(now_ms);
        self.left.age(now_ms);
        let seconds = now_ms.saturating_sub(self.allowed_ms) / 1_000;
        if seconds > 0 {
            self.allowed_ms = now_ms;
            let more = CONTROL_PER_SECOND.saturating_mul(u32::try_from(seconds).unwrap_or(1));
            for link in self.links.values_mut() {
                link.allowance = link.allowance.saturating_add(more).min(CONTROL_BURST);
            }
        }
        for link in self.links.values_mut() {
            link.has.age(now_ms);
        }
        let connected = self.links.keys().copied().collect();
        let scores = &self.scores;
        let banned = |peer: &PeerId| scores.banned_until(peer, now_ms).is_some();
        let due = self.book.due(&connected, banned, now_ms);
        self.out.extend(due.into_iter().map(Output::Dial));
        let since = now_ms.saturating_sub(self.status_ms);
        if since >= STATUS_MS || (self.is_status_due && since >= STATUS_MS_MIN) {
            (self.status_ms, self.is_status_due) = (now_ms, false);
            let all = self.links.keys().copied().collect();
            self.send(all, &Control::Status(self.status()));
        }
    }

    fn status(&self) -> Status {
        let neighbours = self.links.keys().take(NEIGHBOURS_MAX).copied().collect();
        Status { height: self.height, neighbours }
    }

    fn connected(
        &mut self,
        peer: PeerId,
        is_outbound: bool,
        host: String,
        hello: &Hello,
        now_ms: u64,
    ) {
        self.book.connected(&peer);
        if !is_outbound && self.options.exchanges_addresses && hello.port != 0 {
            let (host, port) = (host.clone(), hello.port);
            self.book.learn(PeerAddress { id: peer, host, port }, now_ms);
        }
        let at = Host::of(&host);
        let link = Link {
            is_outbound,
            host,
            at,
            agent: hello.agent.clone(),
            since_ms: now_ms,
            neighbours: BTreeSet::new(),
            bodies: Default::default(),
            offered: Default::default(),
            has: Aging::new(MESSAGE_TURN_MS, MESSAGES_MAX),
            allowance: CONTROL_BURST,
            has_asked_addresses: false,
            repeats: Repeats::new(self.seen, now_ms),
        };
        self.links.insert(peer, link);
        self.sync.connected(peer, at, self.is_named(&peer), hello.height);
        self.is_status_due = true;
        if self.options.exchanges_addresses && self.links.len() < self.options.wanted {
            self.send(vec![peer], &Control::AskAddresses);
        }
        if let Some(until) = self.allowances.paused_until(&peer, Some(at), now_ms) {
            let for_ms = until.saturating_sub(now_ms);
            self.out.push(Output::Pause { peer, for_ms });
        }
        self.out.push(Output::Deliver(Delivery::Connected { peer }));
    }

    pub(super) fn disconnected(&mut self, peer: &PeerId, now_ms: u64) {
        // The book hears of it in any case: it may still count the peer as being called.
        let link = self.links.remove(peer);
        let lasted_ms = link.as_ref().map_or(0, |link| now_ms.saturating_sub(link.since_ms));
        self.book.failed(peer, lasted_ms, now_ms);
        if let Some(link) = link {
            self.left.insert(*peer, link.at);
            self.sync.peer_gone(peer);
            self.is_status_due = true;
        }
    }

    fn on_control(&mut self, peer: PeerId, control: Control, now_ms: u64) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        let Some(allowance) = link.allowance.checked_sub(1) else {
            link.allowance = CONTROL_PER_SECOND;
            return self.fault(peer, Fault::Flood, "too many messages", now_ms);
        };
        link.allowance = allowance;
        match control {
            Control::Consensus(message) => {
                let id = *blake3::hash(&message.encode()).as_bytes();
                link.has.insert(id, ());
                if let Message::Proposal(signed) = &message {
                    // Whoever passes a proposal on has its body, or has it soon.
                    remember(&mut link.bodies, signed.proposal.block_id);
                }
                if self.messages.insert(id, ()) {
                    let from = peer;
                    self.out.push(Output::Deliver(Delivery::Message { from, message }));
                }
            }
            Control::Offer(proposal) => {
                remember(&mut link.bodies, proposal.proposal.block_id);
                if remember(&mut link.offered, proposal.proposal.block_id) {
                    let message = Message::Proposal(proposal);
                    self.out.push(Output::Deliver(Delivery::Message { from: peer, message }));
                }
            }
            Control::Final(certificate) => {
                self.sync.peer_height(&peer, certificate.height);
                if certificate.height > self.height {
                    self.out.push(Output::Deliver(Delivery::Final { from: peer, certificate }));
                }
            }
            Control::Status(status) => {
                link.neighbours = status.neighbours.into_iter().collect();
                self.sync.peer_height(&peer, status.height);
            }
            Control::AskAddresses if link.has_asked_addresses => {}
            Control::AskAddresses => {
                link.has_asked_addresses = true;
                if self.options.exchanges_addresses {
                    let addresses = self.book.share(ADDRESSES_MAX, &peer);
                    self.send(vec![peer], &Control::Addresses(addresses));
                }
            }
            Control::Addresses(addresses) => {
                if self.options.exchanges_addresses {
                    for address in addresses {
                        self.book.learn(address, now_ms);
                    }
                }
            }
        }
    }

    fn on_transactions(
        &mut self,
        peer: PeerId,
        transactions: Vec<(TxHash, Transaction)>,
        now_ms: u64,
    ) {
        let Some(link) = self.links.get(&peer) else {
            // Read before its connection was ended: it is banned, or gone.
            return;
        };
        if self.allowances.paused_until(&peer, Some(link.at), now_ms).is_some() {
            // Read before. They do not count as seen: others may send them.
            let labels = [("backend", "quic"), ("reason", "paused")];
            metrics::counter!("gossip_dropped_total", &labels).increment(transactions.len() as u64);
            return;
        }
        let is_new =
            |(hash, _): &(TxHash, Transaction)| self.transactions.insert(*hash, Some(peer));
        let all = transactions.len() as u64;
        let transactions: Vec<_> = transactions.into_iter().filter(is_new).collect();
        let new = transactions.len() as u64;
        self.seen = self.seen.saturating_add(new);
        let (known, seen) = (all.saturating_sub(new), self.seen);
        let repeats = self.links.get_mut(&peer).map(|link| &mut link.repeats);
        let excess = repeats.map_or(0, |repeats| repeats.take(known, seen, now_ms));
        if excess > 0 {
            let refused = u32::try_from(excess).unwrap_or(u32::MAX);
            self.judged(peer, Tally { refused, ..Tally::default() }, now_ms);
        }
        if !transactions.is_empty() {
            let delivery = Delivery::Transactions { from: peer, transactions };
            self.out.push(Output::Deliver(delivery));
        }
    }

    fn on_body(&mut self, peer: PeerId, body: Box<Body>) {
        let id = body.proposal.proposal.block_id;
        let Some(link) = self.links.get_mut(&peer) else { return };
        remember(&mut link.bodies, id);
        self.wants.remove(&id);
        let key = *blake3::hash(&body.proposal.encode()).as_bytes();
        if self.bodies.insert(key, ()) {
            self.out.push(Output::Deliver(Delivery::Body { from: peer, body }));
        }
    }

    fn on_local(&mut self, local: Local, now_ms: u64) {
        match local {
            Local::Publish(message) => {
                let all = self.links.keys().copied().collect();
                self.messages.insert(*blake3::hash(&message.encode()).as_bytes(), ());
                self.send(all, &Control::Consensus(message));
            }
            Local::Send { peer, message } => self.send(vec![peer], &Control::Consensus(message)),
            Local::Forward { from, message } => {
                let id = *blake3::hash(&message.encode()).as_bytes();
                let mut to = self.not_reached_by(Some(from));
                // Also a proposal that came once more, as an offer, is passed on once.
                to.retain(|peer| self.links.get_mut(peer).is_some_and(|l| l.has.insert(id, ())));
                self.send(to, &Control::Consensus(message));
            }
            Local::PublishBody { proposal, block } => {
                let mut bytes = proposal.encode();
                block.encode_to(&mut bytes);
                let lacking = |(_, link): &(&PeerId, &mut Link)| {
                    !link.bodies.contains(&proposal.proposal.block_id)
                };
                let links = self.links.iter_mut().filter(lacking);
                let peers = links.map(|(peer, link)| {
                    remember(&mut link.bodies, proposal.proposal.block_id);
                    *peer
                });
                let (peers, frame) = (peers.collect(), Frame::Body(Arc::new(bytes)));
                self.out.push(Output::Send { peers, frame });
            }
            Local::BodyAccepted { from, proposal } => {
                let id = proposal.proposal.block_id;
                let mut to = self.not_reached_by(Some(from));
                to.retain(|peer| self.links.get(peer).is_none_or(|l| !l.bodies.contains(&id)));
                self.send(to, &Control::Offer(proposal));
            }
            Local::OfferBody { peer, proposal } => self.send(vec![peer], &Control::Offer(proposal)),
            Local::WantBody { height, block_id, .. } => self.wants.add(block_id, height, now_ms),
            Local::Committed { height, certificate } => {
                self.height = self.height.max(height);
                self.sync.committed(height, now_ms);
                self.wants.committed(height);
                if let Some(certificate) = certificate {
                    let behind = |peer: &&PeerId| self.sync.height_of(peer) < Some(height);
                    let to = self.links.keys().filter(behind).copied().collect();
                    self.send(to, &Control::Final(certificate));
                }
            }
            Local::Refused { peer, is_senders_fault } => {
                self.sync.refused(peer, is_senders_fault, now_ms);
            }
            Local::Accepted(transactions) => self.spread(&transactions),
            Local::Share { peer, transactions } => {
                self.send_transactions(&[peer], transactions.iter().map(|one| one.transaction()));
            }
            Local::Judged { peer, tally, not_taken } => {
                for hash in not_taken {
                    self.transactions.remove(&hash);
                }
                self.judged(peer, tally, now_ms);
            }
            Local::AddPeer(address) => {
                self.sync.named(&address.id);
                if self.book.add(address, now_ms) {
                    self.out.push(Output::BookChanged);
                }
                self.tick(now_ms);
            }
            Local::Drop(peer) => {
                let reason = "the operator ended the connection".to_owned();
                self.out.push(Output::Disconnect { peer, reason });
            }
        }
    }

    /// Sends accepted transactions on, those of one sender together.
    fn spread(&mut self, transactions: &[Arc<VerifiedTransaction>]) {
        let mut groups: BTreeMap<Option<PeerId>, Vec<&Transaction>> = BTreeMap::new();
        for transaction in transactions {
            let hash = transaction.hash();
            let from = self.transactions.get(&hash).flatten();
            let is_new = self.transactions.insert(hash, None);
            self.seen = self.seen.saturating_add(u64::from(is_new));
            groups.entry(from).or_default().push(transaction.transaction());
        }
        for (from, group) in groups {
            let to = self.not_reached_by(from);
            self.send_transactions(&to, group.into_iter());
        }
    }

    fn send_transactions<'a>(
        &mut self,
        to: &[PeerId],
        transactions: impl Iterator<Item = &'a Transaction>,
    ) {
        if to.is_empty() {
            return;
        }
        for batch in TransactionBatch::split(transactions) {
            let (peers, frame) = (to.to_vec(), Frame::Transactions(Arc::new(batch)));
            self.out.push(Output::Send { peers, frame });
        }
    }

    /// Peers that `from` did not reach by itself.
    fn not_reached_by(&self, from: Option<PeerId>) -> Vec<PeerId> {
        let reached = from.and_then(|from| self.links.get(&from)).map(|link| &link.neighbours);
        let lacks = |peer: &&PeerId| {
            Some(**peer) != from && !reached.is_some_and(|reached| reached.contains(*peer))
        };
        self.links.keys().filter(lacks).copied().collect()
    }

    fn send(&mut self, peers: Vec<PeerId>, control: &Control) {
        if !peers.is_empty() {
            let frame = Frame::Control(Arc::new(control.encode()));
            self.out.push(Output::Send { peers, frame });
        }
    }

    fn do_steps(&mut self, steps: Vec<Step>, now_ms: u64) {
        for step in steps {
            match step {
                Step::Ask { id, peer, from, count } => {
                    let request = Request::Blocks { from, count };
                    self.out.push(Output::Ask { id: id << 1, peer, request });
                }
                Step::Apply { peer, block, certificate } => {
                    let delivery = Delivery::Import { from: peer, block, certificate };
                    self.out.push(Output::Deliver(delivery));
                }
                Step::BadAnswer { peer } => {
                    let reason = "no answer again and again, or not what was asked";
                    self.fault(peer, Fault::BadAnswer, reason, now_ms);
                }
                Step::Silent { peer } => {
                    let reason = "it says that it has blocks and never gave one";
                    self.fault(peer, Fault::Silent, reason, now_ms);
                }
            }
        }
    }
}
