//! Proofs. The first byte chooses what is asked: a state proof of one of the world's keys, a
//! list proof, an answer of the REST interface about an account, or a state proof of good paths
//! that do not belong together. Whatever proof verifies says what is so; good ones that were
//! changed never prove anything else.

use std::sync::LazyLock;

use ait_engine::codec::Canonical;
use ait_engine::genesis::{Genesis, GenesisDocument};
use ait_engine::list::{self, ListProof};
use ait_engine::state::{Claim, Key, MemoryState, StateProof, StateView};
use ait_engine::types::{Hash, Height};
use ait_net::light;
use ait_net::wire::{
    AccountProof, Anchor, CertificateJson, HeaderJson, ListProofJson, ValidatorJson,
};

use crate::world::WORLD;

/// The first state: small enough to know all of it.
static GENESIS: LazyLock<(Genesis, MemoryState)> = LazyLock::new(|| {
    let genesis = GenesisDocument::parse(&WORLD.genesis).unwrap().build().unwrap();
    let mut state = MemoryState::default();
    state.apply(&genesis.state);
    (genesis, state)
});

/// Keys that are there, and keys around them that are not.
static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let present: Vec<Key> = GENESIS.0.state.leaves.iter().map(|(_, leaf)| leaf.key).collect();
    let mut keys = present.clone();
    for key in present {
        let mut near = key;
        near.0[31] ^= 1;
        keys.push(near);
    }
    keys.extend([Key([0; 32]), Key([255; 32])]);
    keys
});

const ITEMS: [u32; 4] = [1, 2, 5, 8];

fn leaves(count: u32) -> Vec<Hash> {
    (0..count).map(|n| list::leaf_hash(&n.to_le_bytes())).collect()
}

fn state_proof(proof: &StateProof, which: u8) {
    let (genesis, state) = &*GENESIS;
    let key = KEYS[usize::from(which) % KEYS.len()];
    let Ok(claim) = proof.verify(&genesis.header.state_root, &key) else { return };
    let truth = match state.number_of(&key).unwrap() {
        Some(number) => Claim::Present(state.leaf(number).unwrap().value),
        None => Claim::Absent,
    };
    assert_eq!(claim, truth, "a proof of what is not so");
}

/// A proof of one or two paths, each good, of any entries.
fn joined(numbers: &[u8]) -> Option<StateProof> {
    let state = &GENESIS.1;
    let entries = &GENESIS.0.state.leaves;
    let path = |number: &u8| {
        let (_, leaf) = &entries[usize::from(*number) % entries.len()];
        StateProof::new(state, &leaf.key).unwrap().path
    };
    let (first, rest) = numbers.split_first()?;
    let entry_count = state.entry_count().unwrap();
    Some(StateProof { entry_count, path: path(first), successor: rest.first().map(path) })
}

fn list_proof(bytes: &[u8], which: u8) {
    let Ok(json) = serde_json::from_slice::<ListProofJson>(bytes) else { return };
    let proof = ListProof::from(&json);
    let leaves = leaves(ITEMS[usize::from(which / 16) % ITEMS.len()]);
    let item = u32::from(which % 16);
    let holds = proof.verify(&list::root(&leaves), &list::leaf_hash(&item.to_le_bytes()));
    let is_there = item < leaves.len() as u32 && proof.index == item;
    assert!(!holds || (is_there && proof.count == leaves.len() as u32), "{proof:?}");
    if let Some(good) = ListProof::new(&leaves, item) {
        assert_eq!(holds, good == proof, "one item has two proofs");
    }
}

fn account_proof(bytes: &[u8], which: u8) {
    let Ok(answer) = serde_json::from_slice::<AccountProof>(bytes) else { return };
    let address = WORLD.addresses[usize::from(which) % WORLD.addresses.len()];
    let Ok((header, account)) = light::account(&answer, &address, Some(&GENESIS.0)) else { return };
    assert!(header.pinned, "it was proved from the genesis");
    let id = WORLD.ids.get(header.header.height.get() as usize);
    assert_eq!(id, Some(&header.block_id), "a block that is not of the chain");
    let at = usize::from(which) % WORLD.addresses.len();
    if header.header.height == WORLD.chain.head().height {
        assert_eq!(account, WORLD.accounts[at], "what it does not hold");
    }
    let shown = (answer.exists, answer.balance, answer.nonce);
    let proved = account.unwrap_or_default();
    assert_eq!(shown, (account.is_some(), proved.balance, proved.nonce));
}

pub fn run(input: &[u8]) {
    let Some(([kind, which], bytes)) = input.split_first_chunk::<2>() else { return };
    match kind {
        0 => {
            let _ = StateProof::decode(bytes).map(|proof| state_proof(&proof, *which));
        }
        1 => list_proof(bytes, *which),
        2 => account_proof(bytes, *which),
        3 => {
            let _ = joined(bytes).map(|proof| state_proof(&proof, *which));
        }
        _ => {}
    }
}

/// Proofs of a present and an absent key of the first state.
pub fn proofs() -> Vec<StateProof> {
    let state = &GENESIS.1;
    let absent = KEYS.len() / 2 + 1;
    [0, 3, absent, KEYS.len() - 2, KEYS.len() - 1]
        .map(|at| StateProof::new(state, &KEYS[at]).unwrap())
        .to_vec()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for at in [0, 1, 5, KEYS.len() / 2 + 1, KEYS.len() - 2, KEYS.len() - 1] {
        let proof = StateProof::new(&GENESIS.1, &KEYS[at]).unwrap();
        seeds.push([&[0, at as u8][..], &proof.encode()].concat());
    }
    for (kind, count) in (0_u8..).zip(ITEMS) {
        for index in [0, count - 1] {
            let proof = ListProof::new(&leaves(count), index).unwrap();
            let json = serde_json::to_vec(&ListProofJson::from(&proof)).unwrap();
            seeds.push([&[1, kind * 16 + index as u8][..], &json].concat());
        }
    }
    seeds.extend([vec![3, 5, 0, 9], vec![3, 0, 3, 4], vec![3, 1, 1]]);
    let chain = &WORLD.chain;
    for (at, address) in WORLD.addresses.iter().enumerate().step_by(7) {
        let proven = chain.prove(&Key::account(address)).unwrap();
        let account = chain.account(address).unwrap();
        let shown = account.unwrap_or_default();
        let validators = ValidatorJson::list(&GENESIS.0.validators);
        assert!(proven.header.height > Height::ZERO);
        let answer = AccountProof {
            address: *address,
            exists: account.is_some(),
            balance: shown.balance,
            nonce: shown.nonce,
            proof: hex::encode(proven.proof.encode()),
            anchor: Anchor {
                header: HeaderJson::from(&proven.header),
                certificate: proven.certificate.as_ref().map(CertificateJson::from),
                validators,
            },
        };
        seeds.push([&[2, at as u8][..], &serde_json::to_vec(&answer).unwrap()].concat());
    }
    seeds
}
