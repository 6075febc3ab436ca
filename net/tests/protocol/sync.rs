//! Fetching blocks: of whom, how much, what is believed of how far others are, and what is said of it.

use std::collections::{BTreeMap, BTreeSet};

use ait_net::sync::SyncReason;

use crate::world::{Manner, World, id};

#[test]
fn a_new_follower_fetches_from_several_at_once_and_applies_in_order() {
    let mut world = World::default();
    for n in 0..4 {
        world.add(&(0..n).collect::<Vec<_>>(), 5_000);
    }
    world.run(1_000);
    let new = world.add(&[0, 1, 2, 3], 0);
    while world.nodes[new].asked.len() < 8 {
        assert!(world.now_ms < 2_000, "it never asks");
        world.run(1);
    }
    let state = world.nodes[new].protocol.sync_state(world.now_ms);
    assert_eq!(state.reason, SyncReason::Fetching);
    assert_eq!((state.target.get(), state.from.len()), (5_000, 4), "{state:?}");
    world.run(20_000);
    let node = &world.nodes[new];
    assert_eq!(node.imported, (1..=5_000).collect::<Vec<_>>(), "each once, in order");
    let state = node.protocol.sync_state(world.now_ms);
    assert_eq!((state.reason, state.height.get()), (SyncReason::InSync, 5_000));
    let asked: BTreeSet<_> = node.asked.iter().collect();
    assert_eq!(asked.len(), 4);
    assert!(node.asked.len() <= 5_000 / 256 + 8, "{} requests", node.asked.len());
}

#[test]
fn sync_gets_round_peers_that_are_silent_or_answer_nonsense() {
    for manner in [Manner::Silent, Manner::Wrong, Manner::Invalid] {
        let mut world = World::default();
        for n in 0..3 {
            world.add(&(0..n).collect::<Vec<_>>(), 2_000);
        }
        world.nodes[0].manner = manner;
        world.nodes[1].manner = manner;
        world.run(1_000);
        let new = world.add(&[0, 1, 2], 0);
        world.run(300_000);
        let node = &world.nodes[new];
        assert_eq!(node.height, 2_000, "{manner:?}: {:?}", node.protocol.sync_state(world.now_ms));
        let mut accepted = node.imported.clone();
        accepted.dedup();
        assert!(accepted.len() < 4_000, "{manner:?}: the same again and again");
    }
}

#[test]
fn a_slow_line_is_asked_for_less_until_it_answers_in_time() {
    let mut world = World::default();
    world.add(&[], 300);
    world.nodes[0].manner = Manner::Slow;
    let new = world.add(&[0], 0);
    world.run(400_000);
    let state = world.nodes[new].protocol.sync_state(world.now_ms);
    assert_eq!(world.nodes[new].height, 300, "{state:?}");
    assert_eq!(world.nodes[new].calls.len(), 1, "it did nothing wrong, and is never cut off");
}

#[test]
fn who_has_too_much_to_do_is_left_in_peace_for_a_moment_and_not_banned() {
    let mut world = World::default();
    world.add(&[], 20_000);
    world.nodes[0].manner = Manner::Busy;
    let new = world.add(&[0], 0);
    world.run(200_000);
    assert_eq!(world.nodes[new].height, 20_000);
    assert_eq!(world.nodes[new].calls.len(), 1, "it was banned for being busy");
}

#[test]
fn who_claims_a_height_and_never_gives_a_block_is_banned_in_the_end() {
    let mut world = World::default();
    world.add(&[], u64::MAX / 2);
    world.nodes[0].manner = Manner::Empty;
    world.add(&[], 10);
    let new = world.add(&[0, 1], 0);
    world.run(5_000);
    assert_eq!(world.nodes[new].height, 10, "others are asked meanwhile");
    world.run(55_000);
    let state = world.nodes[new].protocol.sync_state(world.now_ms);
    assert!(!world.is_connected(0, new));
    assert_eq!((state.reason, state.target.get()), (SyncReason::InSync, 10), "{state:?}");
    assert!(world.nodes[new].asked.len() < 200, "{} requests", world.nodes[new].asked.len());
}

#[test]
fn a_height_that_one_stranger_claims_is_not_how_far_a_node_is_behind() {
    let mut world = World::default();
    world.add(&[], 10);
    let node = world.add(&[0], 0);
    for _ in 0..2 {
        world.add(&[node], u64::MAX / 2);
    }
    world.nodes[2].manner = Manner::Silent;
    world.nodes[3].manner = Manner::Empty;
    // They are of one host: two keys cost nothing.
    world.hosts = BTreeMap::from([(id(2), "192.0.2.1"), (id(3), "192.0.2.1")]);
    let state = |world: &World| world.nodes[node].protocol.sync_state(world.now_ms);
    world.run(300);
    assert!(world.is_connected(2, node) && world.is_connected(3, node));
    for _ in 0..800 {
        world.run(100);
        assert!(state(&world).target.get() <= 10, "{:?}", state(&world));
    }
    assert_eq!((state(&world).reason, world.nodes[node].height), (SyncReason::InSync, 10));
    let views = world.nodes[node].protocol.peers(world.now_ms);
    let banned = |n| views.iter().any(|view| view.id == id(n) && view.banned_ms.is_some());
    assert!(banned(2) && !banned(0), "who is silent is banned soon");
}

#[test]
fn a_stranger_with_blocks_is_believed_as_far_as_it_gives_them_and_two_at_their_word() {
    let mut world = World::default();
    let node = world.add(&[], 0);
    world.add(&[node], 2_000);
    let state = |world: &World| world.nodes[node].protocol.sync_state(world.now_ms);
    let mut seen = 0;
    while world.nodes[node].height < 2_000 {
        world.run(1);
        let state = state(&world);
        seen = seen.max(state.target.get() - state.height.get());
        assert!(world.now_ms < 60_000, "{state:?}");
    }
    assert!(seen > 10, "it never said that it was behind");
    // Nobody gives what these have, and yet it is true.
    for _ in 0..2 {
        let n = world.add(&[node], 9_000);
        world.nodes[n].manner = Manner::Silent;
    }
    world.run(5_000);
    assert_eq!(state(&world).target.get(), 9_000);
}

#[test]
fn silent_strangers_keep_no_blocks_of_others_away() {
    let mut world = World::default();
    world.add(&[], 6_000);
    let node = world.add(&[0], 0);
    for _ in 0..8 {
        let n = world.add(&[node], 6_000);
        world.nodes[n].manner = Manner::Silent;
    }
    world.run(10_000);
    let asked = &world.nodes[node].asked;
    assert!(asked.iter().filter(|peer| **peer != id(0)).count() <= 2, "{asked:?}");
    world.run(50_000);
    assert_eq!(world.nodes[node].height, 6_000);
}

#[test]
fn a_stalled_sync_says_why() {
    for (manner, expected) in
        [(Manner::Silent, SyncReason::PeersSilent), (Manner::Invalid, SyncReason::BadBlocks)]
    {
        let mut world = World::default();
        world.add(&[], 100);
        world.nodes[0].manner = manner;
        let new = world.add(&[0], 0);
        let state = |world: &World| world.nodes[1].protocol.sync_state(world.now_ms);
        assert_eq!(state(&world).reason, SyncReason::NoPeers);
        world.run(14_000);
        let state = state(&world);
        assert_eq!((state.reason, state.height.get()), (expected, 0), "{state:?}");
        assert!(state.waiting_ms >= 10_000);
        assert_eq!(world.nodes[new].height, 0);
    }
}
