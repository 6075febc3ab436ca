//! What a client verifies by itself: proofs of the real binary, and every forgery of them.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use ait_engine::genesis::GenesisDocument;
use ait_engine::types::TxHash;
use ait_net::light;
use ait_net::wire::{AccountProof, ReceiptProof, TransactionProof};
use common::Devnet;
use serde_json::{Value, json};

/// Every way to change one value in a JSON text.
fn forgeries(value: &Value) -> Vec<Value> {
    match value {
        Value::Number(number) => vec![json!(number.as_u64().unwrap() + 1)],
        Value::Bool(flag) => vec![json!(!flag)],
        Value::String(text) => {
            // Another digit in the middle, and at the end.
            let flip = |at: usize| {
                let mut bytes = text.clone().into_bytes();
                bytes[at] = if bytes[at] == b'0' { b'2' } else { b'0' };
                json!(String::from_utf8(bytes).unwrap())
            };
            vec![flip(text.len() / 2), flip(text.len() - 1), json!("")]
        }
        Value::Null => vec![json!(0)],
        Value::Array(items) => {
            let mut all: Vec<Value> = Vec::new();
            for (at, item) in items.iter().enumerate() {
                all.extend(forgeries(item).into_iter().map(|forged| {
                    let mut items = items.clone();
                    items[at] = forged;
                    json!(items)
                }));
            }
            all.extend((!items.is_empty()).then(|| json!([])));
            all
        }
        Value::Object(members) => {
            let mut all = Vec::new();
            for (name, member) in members {
                all.extend(forgeries(member).into_iter().map(|forged| {
                    let mut members = members.clone();
                    members.insert(name.clone(), forged);
                    json!(members)
                }));
            }
            all
        }
    }
}

#[test]
fn a_forged_proof_is_noticed_wherever_it_is_forged() {
    let directory = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(directory.path());
    let hashes = devnet.fill();
    let text = std::fs::read_to_string(directory.path().join("genesis.json")).unwrap();
    let genesis = GenesisDocument::parse(&text).unwrap().build().unwrap();
    let genesis = Some(&genesis);
    let address = devnet.alice().public_key().address();
    let hash: TxHash = hashes[0].parse().unwrap();
    type Check<'a> = Box<dyn Fn(&Value) -> bool + 'a>;
    let cases: [(String, Check<'_>); 4] = [
        (
            format!("/rpc/proof/account/{address}"),
            Box::new(|value| {
                let read = serde_json::from_value::<AccountProof>(value.clone());
                read.is_ok_and(|proof| light::account(&proof, &address, genesis).is_ok())
            }),
        ),
        (
            "/rpc/proof/receipt/r%2F1".to_owned(),
            Box::new(|value| {
                let read = serde_json::from_value::<ReceiptProof>(value.clone());
                read.is_ok_and(|proof| light::receipt(&proof, "r/1", genesis).is_ok())
            }),
        ),
        (
            "/rpc/proof/receipt/none".to_owned(),
            Box::new(|value| {
                let read = serde_json::from_value::<ReceiptProof>(value.clone());
                read.is_ok_and(|proof| light::receipt(&proof, "none", genesis).is_ok())
            }),
        ),
        (
            format!("/rpc/proof/transaction/{hash}"),
            Box::new(|value| {
                let read = serde_json::from_value::<TransactionProof>(value.clone());
                read.is_ok_and(|proof| light::transaction(&proof, &hash, genesis).is_ok())
            }),
        ),
    ];
    for (path, holds) in cases {
        let mut proof = devnet.get(&path).1;
        assert!(holds(&proof), "{path}: {proof}");
        // With a genesis given, the node's word about validators counts for nothing.
        let validators = proof.as_object_mut().unwrap().remove("validators").unwrap();
        let forged = forgeries(&proof);
        assert!(forged.len() > 20, "{path}: only {}", forged.len());
        for mut forgery in forged {
            forgery["validators"] = validators.clone();
            assert!(!holds(&forgery), "{path}: not noticed: {forgery}");
        }
    }
}
