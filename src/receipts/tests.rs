#![allow(clippy::unwrap_used)]

use ait_engine::crypto;
use ait_engine::receipt::Receipt;

use super::*;
use crate::coordinator::{AttestRefusal, Coordinator};

const NOW: u64 = 1_700_000_000;

fn names() -> DevAccounts {
    DevAccounts::from_seed([5; 32])
}

fn coordinator(names: &DevAccounts) -> Coordinator {
    Coordinator::new(SecretKey::from_seed([9; 32]), Some(names.clone()), NOW)
}

fn chain_id() -> ChainId {
    "ait-devnet".parse().unwrap()
}

fn design(json: &str) -> ClaimBody {
    ClaimBody::read(json.as_bytes()).unwrap()
}

const DESIGN: &str = r#"{"receipt_id":"r1","job_id":"job_1","client_addr":"client-0",
    "miner_addr":"miner-0","compute_units":2500,"price":50000,
    "output_hash":"sha256:00","miner_sig":"whatever"}"#;

#[test]
fn decimals_are_spelled_the_shortest_way() {
    for (millionths, spelled) in
        [(0, "0"), (1, "0.000001"), (500_000, "0.5"), (1_000_000, "1"), (2_500_100, "2.5001")]
    {
        assert_eq!(decimal(MicroUnits::saturating(millionths)), spelled);
        assert_eq!(ait_engine::json::millionths(spelled), Some(millionths));
    }
    let largest = decimal(MicroUnits::MAX);
    assert_eq!(ait_engine::json::millionths(&largest), Some(u64::MAX));
}

#[test]
fn refuses_to_make_a_receipt_that_the_engine_would_not_read() {
    let good = ReceiptFields {
        receipt_id: "r".to_owned(),
        job_id: "j".to_owned(),
        provider: "p\u{e9}".to_owned(),
        client: "c".to_owned(),
        units: MicroUnits::saturating(1),
        unit_type: "gpu_seconds".to_owned(),
        price: None,
        started_at: 5,
        completed_at: 6,
        chain_id: Some(chain_id()),
        artifact_hash: None,
    };
    let expected = r#"{"chain_id":"ait-devnet","client":"c","completed_at":6,"job_id":"j","provider":"p\u00e9","receipt_id":"r","started_at":5,"unit_type":"gpu_seconds","units":0.000001,"version":"1.0"}"#;
    assert_eq!(String::from_utf8(good.canonical().unwrap()).unwrap(), expected);
    let field = |error: ReceiptError| match error {
        ReceiptError::Field { name, .. } => name,
        other => panic!("{other}"),
    };
    for (bad, name) in [
        (ReceiptFields { receipt_id: String::new(), ..good.clone() }, "receipt_id"),
        (ReceiptFields { units: MicroUnits::ZERO, ..good.clone() }, "units"),
        (ReceiptFields { completed_at: 4, ..good.clone() }, "completed_at"),
        (ReceiptFields { client: "x".repeat(129), ..good.clone() }, "client"),
    ] {
        assert_eq!(field(bad.canonical().unwrap_err()), name);
    }
    let key = SecretKey::from_seed([1; 32]);
    assert!(sign(b"{}".to_vec(), &key).is_err(), "signed what is no receipt");
}

#[tokio::test]
async fn a_design_claim_becomes_one_that_verifies() {
    let names = names();
    let coordinator = coordinator(&names);
    let edge =
        Edge { names: &names, coordinator: &coordinator, chain_id: chain_id(), now: NOW + 9 };
    let miner = names.resolve("miner-0").unwrap();
    let claim = edge.complete(design(DESIGN), &miner).await.unwrap();
    let receipt = Receipt::parse(&claim.receipt).unwrap();
    assert_eq!(receipt.provider, miner.to_string());
    assert_eq!(receipt.units.get(), 2_500_000_000);
    assert_eq!(receipt.chain_id.as_deref(), Some("ait-devnet"));
    assert_eq!(claim.provider_key.address(), miner);
    crypto::verify(&claim.provider_key, &claim.receipt, &claim.provider_signature).unwrap();
    let [attestation] = claim.attestations.as_slice() else { panic!("one attestation") };
    assert_eq!(attestation.coordinator, coordinator.public_key());
    crypto::verify(&attestation.coordinator, &claim.receipt, &attestation.signature).unwrap();
    let later = Edge { now: NOW + 100, ..edge };
    let again = later.complete(design(DESIGN), &miner).await.unwrap();
    assert_eq!(again, claim, "the same claim sent again became another receipt");
}

#[tokio::test]
async fn the_sender_is_the_provider_of_a_short_design_claim() {
    let names = names();
    let coordinator = coordinator(&names);
    let edge = Edge { names: &names, coordinator: &coordinator, chain_id: chain_id(), now: NOW };
    let sender = names.resolve("ait1miner").unwrap();
    let body = r#"{"compute_units":2500,"job_id":"job_1","receipt_id":"r1"}"#;
    let claim = edge.complete(design(body), &sender).await.unwrap();
    assert_eq!(claim.provider_key.address(), sender);
    // What is signed and attested already goes through unchanged, spelling included.
    let text = claim.to_signed_json().unwrap();
    let read = ClaimBody::read(text.as_bytes()).unwrap();
    assert_eq!(edge.complete(read, &sender).await.unwrap(), claim);
    // What is only signed gets its attestation.
    let bare = ReceiptClaim { attestations: Vec::new(), ..claim.clone() };
    let read = ClaimBody::read(bare.to_signed_json().unwrap().as_bytes()).unwrap();
    assert_eq!(edge.complete(read, &sender).await.unwrap(), claim);
}

#[tokio::test]
async fn what_cannot_be_completed_says_why() {
    let names = names();
    let coordinator = coordinator(&names);
    let edge = Edge { names: &names, coordinator: &coordinator, chain_id: chain_id(), now: NOW };
    let sender = names.resolve("miner-0").unwrap();
    let stranger = SecretKey::from_seed([200; 32]).public_key().address();
    let foreign = DESIGN.replace("\"miner-0\"", &format!("\"{stranger}\""));
    let overflow = DESIGN.replace("2500", "18446744073710");
    for (body, code) in [
        (foreign.as_str(), "provider_key_unknown"),
        (&overflow, "receipt_malformed"),
        (&DESIGN.replace("2500", "2501"), "units_mismatch"),
        (&DESIGN.replace("job_1", "job_9"), "job_unknown"),
        (&DESIGN.replace("\"r1\"", "\"\""), "receipt_malformed"),
    ] {
        let error = edge.complete(design(body), &sender).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(!error.hint().is_empty());
    }
    for bad in [
        "",
        "[]",
        "{}",
        r#"{"receipt_id":"r","job_id":"j","compute_units":-1}"#,
        r#"{"receipt_id":"r","job_id":"j","compute_units":1.5}"#,
        r#"{"signature":{}}"#,
    ] {
        assert_eq!(ClaimBody::read(bad.as_bytes()).unwrap_err().code(), "receipt_malformed");
    }
}

#[test]
fn attestations_are_kept_in_order_and_once_a_coordinator() {
    let keys: Vec<_> = (1..=3).map(|n| SecretKey::from_seed([n; 32])).collect();
    let names = names();
    let fields = ReceiptFields {
        receipt_id: "r".to_owned(),
        job_id: "j".to_owned(),
        provider: names.resolve("miner-0").unwrap().to_string(),
        client: "c".to_owned(),
        units: MicroUnits::saturating(1),
        unit_type: "u".to_owned(),
        price: None,
        started_at: 1,
        completed_at: 1,
        chain_id: None,
        artifact_hash: None,
    };
    let mut claim = sign(fields.canonical().unwrap(), &names.secret_key("miner-0")).unwrap();
    for key in keys.iter().chain(&keys).rev() {
        let signature = key.sign(&claim.receipt);
        attach(&mut claim, Attestation { coordinator: key.public_key(), signature });
    }
    let mut expected: Vec<_> = keys.iter().map(SecretKey::public_key).collect();
    expected.sort_unstable();
    let found: Vec<_> = claim.attestations.iter().map(|a| a.coordinator).collect();
    assert_eq!(found, expected);
    let refusal = AttestRefusal::ProviderSignature;
    let error = ClaimError::NotAttested { reason: refusal.to_string(), source: Box::new(refusal) };
    assert_eq!(error.code(), "bad_provider_signature");
}
