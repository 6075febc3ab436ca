#![allow(clippy::unwrap_used)]
use ait_engine::block::transaction_leaves;
use ait_engine::certificate::CommitSignature;
use ait_engine::crypto::SecretKey;
use ait_engine::list;
use ait_engine::transaction::Payload;
use ait_engine::types::{Address, Amount, Hash, Nonce, Round, StateRoot, TimestampMs};
use serde_json::{Value, json};

use super::*;

fn block() -> (Block, Certificate) {
    let key = SecretKey::from_seed([3; 32]);
    let chain_id: ChainId = "test".parse().unwrap();
    let payload = Payload::Transfer { to: Address([4; 32]), amount: Amount::saturating(5) };
    let sign =
        |nonce| Transaction::sign(&key, chain_id, nonce, Amount::ZERO, None, payload.clone());
    let transactions: Vec<_> = (0..3).map(|n| sign(Nonce::saturating(n))).collect();
    let (leaves, bytes) = transaction_leaves(&transactions);
    let header = Header {
        version: PROTOCOL_VERSION,
        chain_id,
        height: Height::saturating(7),
        parent: BlockId([1; 32]),
        time: TimestampMs::saturating(9),
        proposer: key.public_key().address(),
        transactions_root: list::root(&leaves),
        outcomes_root: Hash([2; 32]),
        state_root: StateRoot([3; 32]),
        validators_hash: Hash([4; 32]),
        next_validators_hash: Hash([5; 32]),
        transaction_count: 3,
        body_bytes: bytes.try_into().unwrap(),
    };
    let validator = key.public_key().address();
    let signatures = vec![CommitSignature { validator, signature: key.sign(b"x") }];
    let certificate = Certificate::new(header.height, Round::ZERO, header.id(), signatures);
    (Block { header, transactions }, certificate)
}

fn view(block: &Block, certificate: &Certificate) -> Value {
    json!({
        "height": block.header.height,
        "hash": block.header.id(),
        "parent_hash": block.header.parent,
        "anything": {"else": [1, 2]},
        "header": HeaderJson::from(&block.header),
        "transactions": block.transactions.iter().map(TransactionJson::from).collect::<Vec<_>>(),
        "certificate": CertificateJson::from(certificate),
    })
}

fn read(body: &Value) -> Result<(Block, Certificate), ImportFormError> {
    let text = body.to_string();
    ImportForm::parse(text.as_bytes())?.block()
}

fn field_of(body: &Value) -> &'static str {
    match read(body).unwrap_err() {
        ImportFormError::Field { field, .. } => field,
        other => panic!("{body} gave {other:?}"),
    }
}

#[test]
fn both_forms_give_the_very_block() {
    let (block, certificate) = block();
    let whole = (block.clone(), certificate.clone());
    assert_eq!(read(&view(&block, &certificate)), Ok(whole.clone()));
    let canonical = canonical_block(&block, &certificate);
    assert_eq!(read_canonical(&canonical), Ok(whole.clone()));
    assert_eq!(read(&json!({ "canonical": canonical })), Ok(whole.clone()));
    let mut both = view(&block, &certificate);
    both["canonical"] = json!(canonical);
    assert_eq!(read(&both), Ok(whole));
}

#[test]
fn names_what_is_missing_or_wrong() {
    let (block, certificate) = block();
    let good = view(&block, &certificate);
    for field in ["height", "hash", "parent_hash", "header", "transactions"] {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(field);
        assert_eq!(field_of(&body), field);
        body[field] = json!([[]]);
        assert_eq!(field_of(&body), field);
        body[field] = json!("x".repeat(HEADER_TEXT_BYTES_MAX + 1));
        assert_eq!(field_of(&body), field);
    }
    let mut unsigned = good.clone();
    unsigned["certificate"] = Value::Null;
    assert_eq!(read(&unsigned), Err(ImportFormError::Unsigned));
    let mut other = good.clone();
    other["hash"] = json!(BlockId([9; 32]));
    let (expected, found) = (block.header.id(), BlockId([9; 32]));
    assert_eq!(read(&other), Err(ImportFormError::Hash { expected, found }));
    let mut other = good.clone();
    other["parent_hash"] = json!(BlockId([9; 32]));
    assert_eq!(field_of(&other), "header");
    let mut zero = good.clone();
    zero["height"] = json!(0);
    assert_eq!(field_of(&zero), "height");
    let mut newer = good;
    newer["header"]["version"] = json!(2);
    assert_eq!(field_of(&newer), "header");
    for text in ["", "[]", "7", "null", "{", "{\"height\":1,\"height\":2}"] {
        let found = ImportForm::parse(text.as_bytes()).map(|_| ()).unwrap_err();
        let is_refused =
            matches!(found, ImportFormError::Json { .. } | ImportFormError::Field { .. });
        assert!(is_refused, "{text}: {found:?}");
    }
}

#[test]
fn bounds_every_part_of_a_transaction() {
    let (block, certificate) = block();
    let good = view(&block, &certificate);
    for (field, value) in [
        ("payload", json!({ "x": "y".repeat(PAYLOAD_TEXT_BYTES_MAX) })),
        ("nonce", json!([[[]]])),
        ("nonce", json!("1".repeat(SHORT_TEXT_BYTES_MAX))),
        ("fee", json!(-1)),
        ("expires_at", json!(0)),
        ("type", json!("STEAL")),
        ("sig", json!("0x00")),
        ("public_key", json!(1)),
    ] {
        let mut body = good.clone();
        body["transactions"][1][field] = value;
        assert_eq!(field_of(&body), "transactions", "{field}");
    }
}

#[test]
fn canonical_bytes_have_one_spelling() {
    let (block, certificate) = block();
    let good = canonical_block(&block, &certificate);
    for length in (0..good.len()).step_by(7) {
        assert!(read_canonical(&good[..length]).is_err());
    }
    assert!(read_canonical(&format!("{good}AAAA")).is_err());
    assert!(read_canonical(&good.replace('A', "\n")).is_err());
    let body = json!({ "canonical": good, "height": 8 });
    assert_eq!(field_of(&body), "height");
    let body = json!({ "canonical": good, "hash": BlockId([9; 32]) });
    assert!(matches!(read(&body), Err(ImportFormError::Hash { .. })));
}

#[test]
fn no_more_than_the_header_is_decoded_before_the_block_is_asked_for() {
    let (block, certificate) = block();
    let mut bytes = block.header.encode();
    bytes.resize(2 * HEADER_BASE64_BYTES, 0xff);
    let body = json!({ "canonical": BASE64.encode(&bytes) }).to_string();
    let form = ImportForm::parse(body.as_bytes()).unwrap();
    assert_eq!((form.height, form.parent), (block.header.height, block.header.parent));
    assert_eq!(form.hash, block.header.id());
    assert!(matches!(form.block(), Err(ImportFormError::Decode(_))));
    // A short one is whole within what is decoded.
    let short = canonical_block(&block, &certificate);
    let form = json!({ "canonical": short }).to_string();
    assert!(ImportForm::parse(form.as_bytes()).and_then(ImportForm::block).is_ok());
}

#[test]
fn damaged_bodies_are_refused_or_are_another_spelling_of_the_same() {
    let (block, certificate) = block();
    let view = view(&block, &certificate).to_string();
    let canonical = json!({ "canonical": canonical_block(&block, &certificate) }).to_string();
    for body in [view, canonical] {
        for length in 0..body.len() {
            let read = ImportForm::parse(&body.as_bytes()[..length]).and_then(ImportForm::block);
            assert!(read.is_err());
        }
        for at in 0..body.len() {
            for byte in [b'0', b'1', b'"', b'[', b'{', 0x80] {
                let mut bytes = body.clone().into_bytes();
                bytes[at] = byte;
                let read = ImportForm::parse(&bytes).and_then(ImportForm::block);
                // Only what the stated hash does not cover may differ.
                if let Ok((found, _)) = read {
                    assert!(found.header.id() == block.header.id() || body.contains("canonical"));
                }
            }
        }
    }
}
