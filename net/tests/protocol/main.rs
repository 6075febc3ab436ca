//! The protocol between nodes in virtual time: who is told what, sync, standing, calls.

#![allow(clippy::unwrap_used, missing_docs)]

mod sync;
mod world;

use std::sync::Arc;

use ait_engine::codec::Canonical;
use ait_engine::crypto::SecretKey;
use ait_engine::message::Message;
use ait_engine::transaction::{Payload, Transaction, VerifiedTransaction};
use ait_engine::types::{Address, Amount, BlockId, Hash, Height, Nonce, Round};
use ait_engine::vote::{ProposalMessage, SignedProposal, SignedVote, Vote, VoteKind};
use ait_net::message::{Body, Control, hello};
use ait_net::peer::{Fault, Tally};
use ait_net::protocol::{Input, Local, ProtocolOptions};
use ait_net::sync::SyncReason;
use proptest::prelude::*;
use world::{Manner, World, address, block, chain, id};

fn vote(round: u64) -> Message {
    let vote = Vote {
        kind: VoteKind::Prevote,
        height: Height::saturating(1),
        round: Round::saturating(round),
        block_id: None,
        validator: Address([1; 32]),
    };
    let signature = SecretKey::from_seed([1; 32]).sign(&vote.sign_hash(&chain()).0);
    Message::Vote(SignedVote { vote, signature })
}

fn proposal(height: u64) -> (SignedProposal, Body) {
    let block = block(height);
    let proposal = ProposalMessage {
        height: Height::saturating(height),
        round: Round::saturating(0),
        block_id: block.header.id(),
        pol_round: None,
        proposer: Address([1; 32]),
    };
    let signature = SecretKey::from_seed([1; 32]).sign(&proposal.sign_hash(&chain()).0);
    let proposal = SignedProposal { proposal, signature };
    (proposal, Body { proposal, block })
}

fn hash(message: &Message) -> Hash {
    Hash(*blake3::hash(&message.encode()).as_bytes())
}

fn transactions(sender: u8, count: u64) -> Vec<Arc<VerifiedTransaction>> {
    let key = SecretKey::from_seed([sender; 32]);
    let payload = Payload::Transfer { to: Address([7; 32]), amount: Amount::new(1).unwrap() };
    let sign = |nonce| {
        let (nonce, fee) = (Nonce::saturating(nonce), Amount::ZERO);
        Transaction::sign(&key, chain(), nonce, fee, None, payload.clone()).verify().unwrap()
    };
    (0..count).map(|nonce| Arc::new(sign(nonce))).collect()
}

/// So many nodes, each calling those before it that `calls` names, connected.
fn world(count: usize, calls: impl Fn(usize, usize) -> bool) -> World {
    let mut world = World::default();
    for n in 0..count {
        let calls: Vec<_> = (0..n).filter(|to| calls(n, *to)).collect();
        world.add(&calls, 0);
    }
    world.run(2_000);
    world
}

fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |a| (0..count).filter(move |b| *b != a).map(move |b| (a, b)))
}

#[test]
fn in_a_mesh_each_link_carries_each_thing_once_and_nobody_passes_on() {
    let mut world = world(6, |_, _| true);
    assert!(pairs(6).all(|(a, b)| world.is_connected(a, b)));
    let (message, (proposal, body)) = (vote(0), proposal(1));
    let sent = transactions(3, 700);
    world.known = sent.iter().map(|one| (one.hash(), Arc::clone(one))).collect();
    world.say(2, Local::Publish(message.clone()));
    world.nodes[2].has.insert(proposal.proposal.block_id, body.clone());
    let block = Arc::new(body.block);
    world.say(2, Local::Publish(Message::Proposal(proposal)));
    world.say(2, Local::PublishBody { proposal, block });
    world.say(2, Local::Accepted(sent.clone()));
    world.run(5_000);
    let things = [
        hash(&message),
        hash(&Message::Proposal(proposal)),
        Hash(proposal.proposal.block_id.0),
        Hash(sent[0].hash().0),
        Hash(sent[699].hash().0),
    ];
    for ((from, to), thing) in pairs(6).flat_map(|pair| things.map(|thing| (pair, thing))) {
        assert_eq!(world.carried(from, to, thing), u32::from(from == 2), "{from} to {to}");
    }
    for (n, node) in world.nodes.iter().enumerate().filter(|(n, _)| *n != 2) {
        assert_eq!(node.transactions, sent.iter().map(|one| one.hash()).collect::<Vec<_>>());
        assert_eq!((node.messages.len(), node.bodies.len()), (2, 1), "node {n}");
        assert!(node.asked_bodies.is_empty());
    }
}

#[test]
fn on_a_line_everything_is_passed_on_to_the_end() {
    let mut world = world(5, |n, to| to + 1 == n);
    let (proposal, body) = proposal(1);
    let sent = transactions(3, 10);
    world.known = sent.iter().map(|one| (one.hash(), Arc::clone(one))).collect();
    world.nodes[0].has.insert(proposal.proposal.block_id, body.clone());
    let block = Arc::new(body.block);
    world.say(0, Local::Publish(Message::Proposal(proposal)));
    world.say(0, Local::PublishBody { proposal, block });
    world.say(4, Local::Accepted(sent.clone()));
    world.run(10_000);
    for node in &world.nodes[1..] {
        assert_eq!(node.bodies, [proposal.proposal.block_id]);
        assert_eq!(node.messages[0], hash(&Message::Proposal(proposal)));
    }
    assert!(world.nodes[..4].iter().all(|node| node.transactions.len() == sent.len()));
    for to in 1..5 {
        assert_eq!(world.carried(to - 1, to, hash(&Message::Proposal(proposal))), 1);
        assert_eq!(world.carried(to, to - 1, hash(&Message::Proposal(proposal))), 0);
        assert_eq!(world.carried(to, to - 1, Hash(sent[3].hash().0)), 1);
    }
}

#[test]
fn what_consensus_says_again_after_a_while_is_heard_again() {
    let mut world = world(3, |_, _| true);
    world.say(0, Local::Publish(vote(0)));
    world.run(500);
    world.say(0, Local::Publish(vote(0)));
    world.run(3_500);
    assert_eq!(world.nodes[1].messages.len(), 1, "not so soon");
    world.say(0, Local::Publish(vote(0)));
    world.run(500);
    assert_eq!(world.nodes[1].messages.len(), 2);
}

#[test]
fn a_body_that_does_not_come_is_asked_for_from_one_after_the_other() {
    let mut world = world(4, |_, _| true);
    let (proposal, body) = proposal(1);
    let id_of = proposal.proposal.block_id;
    // Two have it, of which one does not answer; the proposer never sends it.
    world.nodes[1].has.insert(id_of, body.clone());
    world.nodes[2].has.insert(id_of, body);
    world.nodes[1].manner = Manner::Silent;
    for n in [1, 2] {
        let control = Control::Offer(proposal);
        world.feed(3, Input::Control { peer: id(n), control });
    }
    world.run(12_000);
    assert_eq!(world.nodes[3].bodies, [id_of]);
    assert_eq!(world.nodes[3].asked_bodies, [id(1), id(2)]);
}

#[test]
fn whoever_was_cut_off_is_called_again_until_it_answers_and_then_catches_up() {
    let mut world = world(4, |_, _| true);
    world.cut_off(3);
    world.nodes[..3].iter_mut().for_each(|node| node.height = 300);
    for n in 0..3 {
        let height = Height::saturating(300);
        world.say(n, Local::Committed { height, certificate: None });
    }
    world.run(120_000);
    assert!(!world.is_connected(0, 3));
    let state = world.nodes[3].protocol.sync_state(world.now_ms);
    assert_eq!(state.reason, SyncReason::NoPeers);
    // About 1, 2, 4, 8, 16 s, then half a minute: three peers, and some of them call, too.
    let calls = world.nodes[3].calls.len();
    assert!((15..60).contains(&calls), "{calls} calls");
    world.cut.clear();
    world.run(35_000);
    assert!((0..3).all(|n| world.is_connected(n, 3)));
    assert_eq!(world.nodes[3].height, 300);
}

#[test]
fn who_is_banned_is_turned_away_and_not_called_until_the_ban_ends() {
    let mut world = world(3, |_, _| true);
    let fault = |peer| Input::Fault { peer, fault: Fault::BadBlock, reason: "test".to_owned() };
    world.feed(0, fault(id(1)));
    world.run(1_000);
    assert!(!world.is_connected(0, 1) && world.is_connected(1, 2));
    assert!(world.nodes[0].protocol.admit(&id(1), "node-1.example", world.now_ms).is_err());
    // What it had sent before is dropped, and is no ban anew.
    let sent = transactions(9, 1);
    let transactions = vec![(sent[0].hash(), sent[0].transaction().clone())];
    world.feed(0, Input::Transactions { peer: id(1), transactions });
    let (proposal, body) = proposal(1);
    world.feed(0, Input::Body { peer: id(1), body: Box::new(body) });
    world.feed(0, Input::Control { peer: id(1), control: Control::Offer(proposal) });
    assert!(world.nodes[0].transactions.is_empty() && world.nodes[0].bodies.is_empty());
    let banned = |world: &World| {
        let views = world.nodes[0].protocol.peers(world.now_ms);
        views.into_iter().find(|view| view.id == id(1)).unwrap().banned_ms
    };
    assert!(banned(&world).is_some_and(|left| left <= 59_000));
    world.run(57_000);
    assert!(!world.is_connected(0, 1));
    world.run(40_000);
    assert!(world.is_connected(0, 1), "it called again");
    assert_eq!(banned(&world), None);
}

#[test]
fn a_flood_of_control_messages_ends_in_a_ban() {
    let mut world = world(3, |_, _| true);
    for round in 0..40_000 {
        world.feed(0, Input::Control { peer: id(1), control: Control::Consensus(vote(round)) });
    }
    assert!(!world.is_connected(0, 1));
    assert!(world.nodes[0].messages.len() <= 8_000 + 4 * 2_000, "what was allowed");
    // Spread over time it is nothing remarkable.
    for round in 0..20_000 {
        world.feed(0, Input::Control { peer: id(2), control: Control::Consensus(vote(round)) });
        if round % 1_000 == 0 {
            world.run(1_000);
        }
    }
    assert!(world.is_connected(0, 2));
}

#[test]
fn who_sends_little_but_refused_transactions_is_not_listened_to_for_a_while() {
    let mut world = world(3, |_, _| true);
    let judged = |refused| {
        let tally = Tally { refused, ..Tally::default() };
        Input::Local(Local::Judged { peer: id(1), tally, not_taken: Vec::new() })
    };
    let all = transactions(9, 2);
    world.known.extend(all.iter().map(|one| (one.hash(), Arc::clone(one))));
    let sent = |by, at: usize| {
        let transactions = vec![(all[at].hash(), all[at].transaction().clone())];
        Input::Transactions { peer: id(by), transactions }
    };
    world.feed(0, judged(1_000));
    assert!(world.nodes[0].pauses.is_empty(), "it may be mistaken now and then");
    world.feed(0, judged(5_000));
    assert_eq!(world.nodes[0].pauses, [(id(1), 10_000)]);
    world.feed(0, sent(1, 0));
    assert!(world.nodes[0].transactions.is_empty());
    world.feed(0, sent(2, 0));
    assert_eq!(world.nodes[0].transactions, [all[0].hash()], "another says the same");
    // It is told apart, and is no less a peer for all else.
    let views = world.nodes[0].protocol.peers(world.now_ms);
    let paused = |n| views.iter().find(|view| view.id == id(n)).unwrap().paused_ms;
    assert_eq!((paused(1), paused(2)), (Some(10_000), None));
    world.feed(0, Input::Control { peer: id(1), control: Control::Consensus(vote(1)) });
    assert_eq!(world.nodes[0].messages, [hash(&vote(1))]);
    // To come again changes nothing.
    world.run(4_000);
    world.feed(0, Input::Disconnected { peer: id(1) });
    let (hello, host) = (hello(chain(), BlockId([1; 32]), Hash([2; 32])), "host".to_owned());
    world.feed(0, Input::Connected { peer: id(1), is_outbound: true, host, hello });
    assert_eq!(world.nodes[0].pauses[1..], [(id(1), 6_000)]);
    world.feed(0, sent(1, 1));
    assert_eq!(world.nodes[0].transactions.len(), 1);
    world.run(6_000);
    world.feed(0, sent(1, 1));
    assert_eq!(world.nodes[0].transactions[1..], [all[1].hash()]);
}

#[test]
fn addresses_spread_and_fill_up_to_what_is_wanted() {
    let mut world = World::default();
    for n in 0..10 {
        let options = ProtocolOptions {
            us: id(n),
            // All know the first, and nobody else.
            peers: if n == 0 { Vec::new() } else { vec![address(0)] },
            wanted: 4,
            connections_max: 16,
            exchanges_addresses: true,
            seed: n as u64 + 1,
        };
        world.add_with(options, 0);
        world.run(1_000);
    }
    world.run(60_000);
    for n in 0..10 {
        let connected = (0..10).filter(|other| world.is_connected(n, *other)).count();
        assert!(connected >= 4, "node {n} has {connected}");
    }
}

#[test]
fn no_more_connect_than_may_but_for_those_the_operator_named() {
    let mut world = World::default();
    let options = |n: usize, peers| ProtocolOptions {
        us: id(n),
        peers,
        wanted: 0,
        connections_max: 2,
        exchanges_addresses: false,
        seed: 1,
    };
    world.add_with(options(0, vec![address(4)]), 0);
    for n in 1..=4 {
        world.add_with(options(n, vec![address(0)]), 0);
        world.run(500);
    }
    world.run(60_000);
    let connected: Vec<_> = (1..=4).filter(|n| world.is_connected(0, *n)).collect();
    assert_eq!(connected, [1, 2, 4]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the graph, if it is connected everything reaches everybody, once each.
    #[test]
    fn in_any_connected_graph_everybody_hears_everything_once(
        count in 3_usize..9,
        extra in prop::collection::vec((0_usize..9, 0_usize..9), 0..12),
        publisher in 0_usize..9,
    ) {
        let publisher = publisher % count;
        let has = |a: usize, b: usize| extra.contains(&(a, b)) || extra.contains(&(b, a));
        // A path through all, and some more links.
        let mut world = world(count, |n, to| to + 1 == n || has(n, to));
        let sent = transactions(3, 5);
        world.known = sent.iter().map(|one| (one.hash(), Arc::clone(one))).collect();
        world.say(publisher, Local::Accepted(sent.clone()));
        world.say(publisher, Local::Publish(vote(0)));
        // Within the time in which nothing is said again.
        world.run(1_200);
        for (n, node) in world.nodes.iter().enumerate().filter(|(n, _)| *n != publisher) {
            prop_assert_eq!(node.messages.len(), 1, "node {}", n);
            prop_assert_eq!(node.transactions.len(), sent.len(), "node {}", n);
        }
        for (from, to) in pairs(count) {
            prop_assert!(world.carried(from, to, hash(&vote(0))) <= 1);
            prop_assert!(world.carried(from, to, Hash(sent[0].hash().0)) <= 1);
        }
    }
}
