//! Vectors for programs in other languages: `fixtures/vectors/encoding.json`, next to what
//! `fixtures/blocks/golden.json` records of transactions, headers, outcomes and certificates.
//! Written by `AIT_GOLDEN_WRITE=1 cargo test --test vectors`.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../engine/tests/common/mod.rs"]
mod world;

use std::fs;
use std::path::{Path, PathBuf};

use ait_engine::codec::Canonical;
use ait_engine::hash::Domain;
use ait_engine::list::{self, ListProof};
use ait_engine::state::{Claim, Key, StateProof};
use ait_engine::transaction::ProviderBind;
use ait_engine::types::{Address, BlockId, Hash, Height, Round};
use ait_engine::vote::{ProposalMessage, Vote, VoteKind};
use serde_json::{Value, json};
use world::*;

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/vectors/encoding.json")
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    format!("0x{}", hex::encode(bytes))
}

fn domains() -> Vec<Value> {
    let one = |domain: &Domain| {
        json!({
            "context": domain.context(),
            "of_nothing": domain.hash(&[]),
            "of_abc": domain.hash(&[b"abc"]),
        })
    };
    Domain::ALL.iter().map(one).collect()
}

fn addresses() -> Vec<Value> {
    let one = |n: u8| {
        let key = key(n);
        let address = key.public_key().address();
        json!({
            "seed": hex(key.seed().as_slice()),
            "public_key": key.public_key(),
            "bytes": hex(address.0),
            "text": address,
        })
    };
    (1..4).map(one).collect()
}

fn signed() -> Value {
    let (height, round, block_id) = (Height::saturating(7), Round::saturating(2), BlockId([9; 32]));
    let vote =
        |kind, block_id| Vote { kind, height, round, block_id, validator: address(VALIDATOR) };
    let shown = |vote: Vote| {
        let hash = vote.sign_hash(&chain());
        json!({
            "kind": format!("{:?}", vote.kind),
            "height": height, "round": round, "block_id": vote.block_id,
            "validator": vote.validator,
            "encoded": hex(vote.encode()),
            "sign_hash": hash,
            "signature": key(VALIDATOR).sign(hash.as_bytes()),
        })
    };
    let proposal = ProposalMessage {
        height,
        round,
        pol_round: Some(Round::saturating(1)),
        block_id,
        proposer: address(VALIDATOR),
    };
    json!({
        "chain_id": CHAIN,
        "votes": [
            shown(vote(VoteKind::Prevote, Some(block_id))),
            shown(vote(VoteKind::Precommit, Some(block_id))),
            shown(vote(VoteKind::Precommit, None)),
        ],
        "proposal": {
            "height": height, "round": round, "pol_round": 1, "block_id": block_id,
            "proposer": address(VALIDATOR),
            "encoded": hex(proposal.encode()),
            "sign_hash": proposal.sign_hash(&chain()),
        },
        "provider_binding": {
            "account": address(MINER), "name": "rig-1",
            "sign_hash": ProviderBind::sign_hash(&chain(), &address(MINER), "rig-1"),
        },
    })
}

fn lists() -> Vec<Value> {
    let items = |count: u8| (0..count).map(|n| vec![n; usize::from(n)]).collect::<Vec<_>>();
    let one = |count: u8| {
        let items = items(count);
        let leaves: Vec<Hash> = items.iter().map(|item| list::leaf_hash(item)).collect();
        let root = list::root(&leaves);
        let proofs = (0..u32::from(count)).map(|index| {
            let proof = ListProof::new(&leaves, index).unwrap();
            assert!(proof.verify(&root, &leaves[usize::try_from(index).unwrap()]));
            json!(proof.siblings)
        });
        json!({
            "items": items.iter().map(hex).collect::<Vec<_>>(),
            "leaves": leaves,
            "root": root,
            "siblings": proofs.collect::<Vec<_>>(),
        })
    };
    [0, 1, 2, 3, 5, 8].map(one).into()
}

/// The state after one block, and proofs of what it holds and does not hold.
fn state() -> Value {
    let mut world = World::new(&[]);
    let (block, _) = world.commit(&[sign(ALICE, 0, 10, transfer(BOB, 100))]);
    let root = block.header.state_root;
    let proof = |what: &str, key: Key| {
        let proof = StateProof::new(&world.state, &key).unwrap();
        let value = match proof.verify(&root, &key).unwrap() {
            Claim::Present(value) => Some(hex(value.as_bytes())),
            Claim::Absent => None,
        };
        json!({ "what": what, "key": hex(key.0), "value": value, "proof": hex(proof.encode()) })
    };
    json!({
        "root": root,
        "proofs": [
            proof("the sender's account", Key::account(&address(ALICE))),
            proof("an account that does not exist", Key::account(&Address([0x77; 32]))),
            proof("a receipt that nobody claimed", Key::receipt("r-1")),
            proof("the supply", Key::supply()),
        ],
    })
}

/// Receipt texts and the canonical text that is signed.
fn canonical_json() -> Vec<Value> {
    [
        r#"{"b": 1, "a": [1.50, null, true], "é": "\u00e9\n"}"#,
        r#"{"units":2500,"nothing":null,"nested":{"z":{},"y":[]}}"#,
        r#"{"emoji":"😀","slash":"a/b","quote":"\""}"#,
    ]
    .iter()
    .map(|text| {
        let json = ait_engine::json::parse(text.as_bytes()).unwrap();
        json!({ "text": text, "canonical": json.canonical() })
    })
    .collect()
}

#[test]
fn encodings_are_those_recorded() {
    let vectors = json!({
        "about": "made by: AIT_GOLDEN_WRITE=1 cargo test --test vectors; meaning in specs/encoding.md",
        "domains": domains(),
        "addresses": addresses(),
        "signed": signed(),
        "lists": lists(),
        "state": state(),
        "canonical_json": canonical_json(),
    });
    if std::env::var_os("AIT_GOLDEN_WRITE").is_some() {
        fs::write(path(), serde_json::to_string_pretty(&vectors).unwrap() + "\n").unwrap();
    }
    let recorded: Value = serde_json::from_slice(&fs::read(path()).unwrap()).unwrap();
    assert!(
        vectors == recorded,
        "an encoding changed; if that is meant, raise its version and write the vectors anew \
         (fixtures/README.md)"
    );
}
