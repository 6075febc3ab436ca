//! A recorded state: it gives what execution reads and nothing else, proves itself, and
//! decodes from no other bytes.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use ait_engine::block::Block;
use ait_engine::codec::{Canonical, DecodeError};
use ait_engine::execute::{BlockError, Transition, execute_block};
use ait_engine::genesis::Allocation;
use ait_engine::state::{
    MemoryState, NotRecorded, Question, RecordedState, Recording, StateView, Unproven,
};
use ait_engine::transaction::VerifiedTransaction;
use ait_engine::types::StateRoot;
use common::*;
use proptest::prelude::*;

/// A world with `extra` accounts more than usual, so that the tree has some levels.
fn world(extra: u8) -> World {
    let mut document = document(&[]);
    let accounts = (0..extra).map(|n| Allocation {
        address: address(100_u8.wrapping_add(n)),
        balance: amount(1),
        nonce: 0,
    });
    let taken: Vec<_> = document.accounts.iter().map(|account| account.address).collect();
    document.accounts.extend(accounts.filter(|account| !taken.contains(&account.address)));
    World::of(&document, &[])
}

/// Existing and new accounts, a mint, a claim.
fn transactions() -> Vec<VerifiedTransaction> {
    vec![
        sign(ALICE, 0, 3, transfer(BOB, 5)),
        sign(ALICE, 1, 3, transfer(40, 5)),
        sign(BOB, 0, 3, transfer(41, 5)),
        sign(MINTER, 0, 0, mint(42, 9)),
        Claim::default().by(MINER, 0),
    ]
}

fn record(world: &World, is_proven: bool) -> (Block, Transition, RecordedState) {
    let (block, transition) = world.build(&transactions());
    let recording = Recording::new(&world.state);
    let recorded = execute_block(&recording, &world.parent, &block.header, &transactions());
    assert_eq!(recorded.unwrap(), transition);
    if is_proven {
        recording.prove().unwrap();
    }
    (block, transition, recording.into_recorded())
}

/// Every question that the encoding of a recorded state answers, by asking the real one.
fn is_true_of(recorded: &RecordedState, state: &MemoryState) -> bool {
    // All keys and numbers that can be meant are those of the real state and of the probes.
    let count = state.entry_count().unwrap();
    let is_same = |a: Option<String>, b: String| a.is_none_or(|a| a == b);
    let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
    let leaves = (0..count).all(|n| {
        let real = state.leaf(n).unwrap();
        let number = recorded.number_of(&real.key).ok().map(|found| text(&found));
        let below = recorded.number_below(&real.key).ok().map(|found| text(&found));
        is_same(recorded.leaf(n).ok().map(|leaf| text(&leaf)), text(&real))
            && is_same(number, text(&Some(n)))
            && is_same(below, text(&state.number_below(&real.key).unwrap()))
    });
    let nodes = (3..8).all(|level| {
        (0..count.div_ceil(1 << level)).all(|index| {
            let found = recorded.node(level, index).ok();
            found.is_none_or(|hash| state.node(level, index) == Ok(hash))
        })
    });
    leaves && nodes && recorded.entry_count().is_ok_and(|found| found == count)
}

#[test]
fn gives_the_same_transition_and_lacks_everything_else() {
    for (extra, is_proven) in [(0, false), (0, true), (90, false), (90, true)] {
        let world = world(extra);
        let (block, transition, recorded) = record(&world, is_proven);
        let again = execute_block(&recorded, &world.parent, &block.header, &transactions());
        assert_eq!(again.unwrap(), transition);
        let other = vec![sign(PROBE, 0, 1, transfer(PROBE_TO, 1))];
        let lacking = execute_block(&recorded, &world.parent, &block.header, &other);
        assert!(matches!(lacking, Err(BlockError::State(_))), "{lacking:?}");
        assert!(!recorded.is_empty());
        assert_eq!(RecordedState::decode(&recorded.encode()).as_ref(), Ok(&recorded));
    }
    let empty = RecordedState::default();
    assert_eq!(empty.entry_count(), Err(NotRecorded(Question::EntryCount)));
    assert_eq!(RecordedState::decode(&empty.encode()), Ok(empty));
}

#[test]
fn proves_itself_only_after_the_proof_was_read() {
    for extra in [0, 1, 2, 3, 4, 5, 6, 7, 8, 40, 90] {
        let world = world(extra);
        let (_, _, recorded) = record(&world, true);
        assert_eq!(recorded.verify(&world.parent.state_root), Ok(()), "{extra}");
        let other = recorded.verify(&StateRoot([1; 32]));
        assert!(matches!(other, Err(Unproven::Root { .. })), "{other:?}");
    }
    // What execution reads of a larger state does not lead to its root.
    let world = world(90);
    let bare = record(&world, false).2.verify(&world.parent.state_root);
    assert!(matches!(bare, Err(Unproven::Lacks(_))), "{bare:?}");
}

#[test]
fn no_changed_bit_says_anything_untrue_of_the_state() {
    let world = world(30);
    let (_, _, recorded) = record(&world, true);
    let bytes = recorded.encode();
    let (mut refused, mut unproven) = (0, 0);
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        match RecordedState::decode(&changed) {
            Err(_) => refused += 1,
            Ok(other) => match other.verify(&world.parent.state_root) {
                Err(_) => unproven += 1,
                Ok(()) => assert!(is_true_of(&other, &world.state), "bit {bit}"),
            },
        }
    }
    assert!(refused > 1_000 && unproven > 10_000, "{refused} refused, {unproven} not proven");
}

#[test]
fn refuses_what_is_cut_off_too_long_or_out_of_order() {
    let world = world(0);
    let bytes = record(&world, true).2.encode();
    for end in 0..bytes.len() {
        assert!(RecordedState::decode(&bytes[..end]).is_err(), "{end}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(RecordedState::decode(&longer), Err(DecodeError::Trailing { count: 1 }));
    // A count that promises more than the input holds takes no memory.
    let promise = [&[1, 0][..], &u32::MAX.to_le_bytes()].concat();
    let refused = RecordedState::decode(&promise);
    assert!(matches!(refused, Err(DecodeError::TooLarge { .. })), "{refused:?}");
    // Two keys without numbers, in order, twice the same, and the wrong way round.
    let two = |first: u8, second: u8| {
        let mut bytes = vec![1, 0, 2, 0, 0, 0];
        for key in [first, second] {
            bytes.extend([key; 32]);
            bytes.push(0);
        }
        bytes.extend([0; 12]);
        RecordedState::decode(&bytes)
    };
    assert!(two(1, 2).is_ok());
    assert!(two(1, 1).is_err() && two(2, 1).is_err());
}

#[test]
fn executing_over_wrong_answers_ends_without_a_panic() {
    let world = world(20);
    let (block, _, recorded) = record(&world, true);
    let bytes = recorded.encode();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            let Ok(other) = RecordedState::decode(&changed) else { continue };
            let _ = execute_block(&other, &world.parent, &block.header, &transactions());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn decoding_any_bytes_ends(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(recorded) = RecordedState::decode(&bytes) {
            prop_assert_eq!(recorded.encode(), bytes);
        }
    }
}
