#![allow(clippy::unwrap_used)]

use super::*;
use crate::crypto::{SecretKey, verify};

const CANONICAL: &str = r#"{"client":"client-0","completed_at":1700000100,"job_id":"job_1","price":50,"provider":"miner-0","receipt_id":"r1","started_at":1700000000,"unit_type":"gpu_seconds","units":2500,"version":"1.0"}"#;

fn changed(from: &str, to: &str) -> Result<Receipt, ReceiptError> {
    assert!(CANONICAL.contains(from));
    Receipt::parse(CANONICAL.replace(from, to).as_bytes())
}

#[test]
fn reads_every_field() {
    let receipt = Receipt::parse(CANONICAL.as_bytes()).unwrap();
    assert_eq!(receipt.units.get(), 2_500_000_000);
    assert_eq!(receipt.price.get(), 50_000_000);
    assert_eq!((receipt.started_at, receipt.completed_at), (1_700_000_000, 1_700_000_100));
    assert_eq!((receipt.provider.as_str(), receipt.job_id.as_str()), ("miner-0", "job_1"));
    assert_eq!(receipt.chain_id, None);
}

#[test]
fn refuses_other_spellings_and_values() {
    let field = |result: Result<Receipt, ReceiptError>| match result.unwrap_err() {
        ReceiptError::Field { name, .. } | ReceiptError::Missing { name } => name,
        ReceiptError::NotCanonical => "spelling",
        ReceiptError::Unsigned { name } => name,
        ReceiptError::Json(_) => "json",
    };
    assert_eq!(field(changed(",\"job_id", ", \"job_id")), "spelling");
    assert_eq!(field(changed("job_1", "job_\\u0031")), "spelling");
    assert_eq!(field(changed("\"price\":50", "\"price\":null")), "spelling");
    assert_eq!(field(changed("2500", "0")), "units");
    assert_eq!(field(changed("2500", "-1")), "units");
    assert_eq!(field(changed("2500", "0.0000001")), "units");
    assert_eq!(field(changed("2500", "\"2500\"")), "units");
    assert_eq!(field(changed("\"units\":2500,", "")), "units");
    assert_eq!(field(changed("\"1.0\"", "\"2.0\"")), "version");
    assert_eq!(field(changed("\"r1\"", "\"\"")), "receipt_id");
    assert_eq!(field(changed("1700000100", "1600000000")), "completed_at");
    assert_eq!(field(changed("\"client\":", "\"attestations\":[],\"client\":")), "attestations");
    assert_eq!(field(changed("{\"client\"", "{\"client")), "json");
    let long = "x".repeat(RECEIPT_TEXT_BYTES_MAX + 1);
    assert_eq!(field(changed("job_1", &long)), "job_id");
}

#[test]
fn reads_the_existing_softwares_form_and_its_signatures() {
    let (provider, coordinator) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
    let claim = ReceiptClaim {
        receipt: CANONICAL.into(),
        provider_key: provider.public_key(),
        provider_signature: provider.sign(CANONICAL.as_bytes()),
        attestations: vec![Attestation {
            coordinator: coordinator.public_key(),
            signature: coordinator.sign(CANONICAL.as_bytes()),
        }],
    };
    let json = claim.to_signed_json().unwrap();
    assert_eq!(ReceiptClaim::from_signed_json(json.as_bytes()).unwrap(), claim);
    // Another spelling of the same object is the same claim, nulls left out.
    let spaced = json.replace(',', " ,\n ").replace("{\"attest", "{\"model\": null, \"attest");
    let read = ReceiptClaim::from_signed_json(spaced.as_bytes()).unwrap();
    assert_eq!(read, claim);
    verify(&read.provider_key, &read.receipt, &read.provider_signature).unwrap();
    assert_eq!(ReceiptClaim::decode(&claim.encode()).unwrap(), claim);
    for wrong in [json.replace("Ed25519", "RS256"), json.replace("\"sig\":\"", "\"sig\":\"=")] {
        assert!(ReceiptClaim::from_signed_json(wrong.as_bytes()).is_err());
    }
    for length in 0..claim.encode().len() {
        assert!(ReceiptClaim::decode(&claim.encode()[..length]).is_err());
    }
}

#[test]
fn attestations_have_one_order() {
    let attestation =
        |n: u8| Attestation { coordinator: PublicKey([n; 32]), signature: Signature([0; 64]) };
    let claim = |attestations| ReceiptClaim {
        receipt: CANONICAL.into(),
        provider_key: PublicKey([0; 32]),
        provider_signature: Signature([0; 64]),
        attestations,
    };
    for bad in [vec![attestation(2), attestation(1)], vec![attestation(1), attestation(1)]] {
        assert!(ReceiptClaim::decode(&claim(bad).encode()).is_err());
    }
}
