#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::codec::Canonical;
use crate::hash::Domain;
use crate::types::{Amount, Height, StateRoot};

/// The root by definition, from all leaves, sharing no code with the tree.
fn naive_root(leaves: &[Leaf]) -> StateRoot {
    let mut width = 8;
    while width < leaves.len() {
        width *= 2;
    }
    let mut level: Vec<[u8; 32]> = (0..width)
        .map(|at| match leaves.get(at) {
            Some(leaf) => {
                let mut bytes = leaf.key.0.to_vec();
                bytes.extend(leaf.next.to_le_bytes());
                bytes.extend(leaf.value.as_bytes());
                blake3::derive_key(Domain::StateLeaf.context(), &bytes)
            }
            None => [0; 32],
        })
        .collect();
    let mut is_empty: Vec<bool> = (0..width).map(|at| at >= leaves.len()).collect();
    let mut height = 0;
    while level.len() > 1 {
        height += 1;
        let pairs = level.chunks(2).zip(is_empty.chunks(2));
        let next: Vec<_> = pairs
            .map(|(pair, empty)| {
                // Above the groups of eight, a place without leaves is all zero.
                let absent = empty[0] && empty[1] && height >= 3;
                let hash = blake3::derive_key(Domain::StateNode.context(), &pair.concat());
                (if absent { [0; 32] } else { hash }, empty[0] && empty[1])
            })
            .collect();
        (level, is_empty) = next.into_iter().unzip();
    }
    let mut bytes = (leaves.len() as u64).to_le_bytes().to_vec();
    bytes.extend(level[0]);
    StateRoot(blake3::derive_key(Domain::StateRoot.context(), &bytes))
}

fn key(n: u16) -> Key {
    Key(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn value(n: u64) -> Value {
    if n.is_multiple_of(5) {
        Value::from_bytes(&vec![9; 30 + n as usize % 7]).unwrap()
    } else {
        Account { balance: Amount::saturating(n), ..Account::default() }.into()
    }
}

/// Writes through a draft, as the execution does.
fn write(state: &mut MemoryState, writes: &BTreeMap<Key, Value>) -> WriteSet {
    let mut draft = crate::execute::test_draft(&*state);
    for (key, value) in writes {
        draft.put(*key, value.clone());
    }
    draft.keep().unwrap();
    let set = draft.finish().unwrap();
    state.apply(&set);
    set
}

fn check(state: &MemoryState, model: &BTreeMap<Key, Value>) {
    let count = state.entry_count().unwrap();
    assert_eq!(count, model.len() as u64 + 1);
    let leaves: Vec<_> = (0..count).map(|n| state.leaf(n).unwrap()).collect();
    assert_eq!(root(state).unwrap(), naive_root(&leaves));
    let mut at = 0;
    for (key, value) in model {
        at = leaves[at].next as usize;
        assert_eq!((&leaves[at].key, &leaves[at].value), (key, value));
    }
    assert_eq!(leaves[at].next, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn tree_links_and_root_follow_a_model(
        genesis in prop::collection::btree_map(0_u16..400, 1_u64..1_000, 0..40),
        batches in prop::collection::vec(
            prop::collection::btree_map(0_u16..400, 1_u64..1_000, 1..60), 0..6),
    ) {
        let mut tree = GenesisTree::default();
        let mut model = BTreeMap::new();
        for (n, v) in &genesis {
            prop_assert!(tree.insert(key(*n), value(*v)));
            model.insert(key(*n), value(*v));
        }
        let mut state = MemoryState::default();
        state.apply(&tree.build());
        check(&state, &model);
        for batch in &batches {
            let writes: BTreeMap<_, _> =
                batch.iter().map(|(n, v)| (key(*n), value(*v))).collect();
            let set = write(&mut state, &writes);
            model.extend(writes);
            prop_assert_eq!(set.root, root(&state).unwrap());
            check(&state, &model);
        }
    }

    #[test]
    fn proves_every_key_or_its_absence(
        present in prop::collection::btree_set(0_u16..200, 0..80),
    ) {
        let mut tree = GenesisTree::default();
        for n in &present {
            prop_assert!(tree.insert(key(*n), value(u64::from(*n))));
        }
        let mut state = MemoryState::default();
        state.apply(&tree.build());
        let root = root(&state).unwrap();
        for n in 0..200 {
            let proof = StateProof::new(&state, &key(n)).unwrap();
            let expected = if present.contains(&n) {
                Claim::Present(value(u64::from(n)))
            } else {
                Claim::Absent
            };
            prop_assert_eq!(proof.verify(&root, &key(n)), Ok(expected));
            prop_assert_eq!(StateProof::decode(&proof.encode()).unwrap(), proof.clone());
            prop_assert_eq!(proof.verify(&StateRoot([1; 32]), &key(n)), Err(ProofError::Root));
            // A proof may speak of other keys too (of all above the greatest), but never wrongly.
            for other in [n / 2, n + 1] {
                if let Ok(Claim::Present(_)) = proof.verify(&root, &key(other)) {
                    prop_assert!(present.contains(&other));
                }
                if proof.verify(&root, &key(other)) == Ok(Claim::Absent) {
                    prop_assert!(!present.contains(&other));
                }
            }
        }
    }
}

#[test]
fn a_changed_proof_proves_nothing() {
    let mut tree = GenesisTree::default();
    for n in 0..100 {
        assert!(tree.insert(key(n), value(u64::from(n))));
    }
    let mut state = MemoryState::default();
    state.apply(&tree.build());
    let root = root(&state).unwrap();
    for wanted in [key(7), key(1_000)] {
        let proof = StateProof::new(&state, &wanted).unwrap();
        let claim = proof.verify(&root, &wanted).unwrap();
        let bytes = proof.encode();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let accepted = StateProof::decode(&changed)
                .is_ok_and(|proof| proof.verify(&root, &wanted) == Ok(claim.clone()));
            assert!(!accepted, "byte {at} of the proof does not matter");
        }
    }
}

#[test]
fn genesis_does_not_depend_on_the_order_of_insertion() {
    let build = |order: &mut dyn Iterator<Item = u16>| {
        let mut tree = GenesisTree::default();
        for n in order {
            assert!(tree.insert(key(n), Value::job(Height::saturating(u64::from(n)))));
        }
        tree.build()
    };
    assert_eq!(build(&mut (0..50)), build(&mut (0..50).rev()));
    let mut tree = GenesisTree::default();
    assert!(tree.insert(key(1), value(1)));
    assert!(!tree.insert(key(1), value(2)), "a key was taken twice");
    assert!(!tree.insert(Key::SENTINEL, value(2)), "the sentinel's key was taken");
}
