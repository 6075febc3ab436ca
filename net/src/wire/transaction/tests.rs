#![allow(clippy::unwrap_used)]
use ait_engine::crypto::SecretKey;

use super::*;

fn sign(payload: Payload) -> Transaction {
    Transaction::sign(
        &SecretKey::from_seed([7; 32]),
        "ait-devnet".parse().unwrap(),
        Nonce::new(3).unwrap(),
        Amount::new(11).unwrap(),
        Height::new(9),
        payload,
    )
}

fn payloads() -> Vec<Payload> {
    let key = SecretKey::from_seed([9; 32]);
    let to = key.public_key().address();
    let amount = Amount::new(5).unwrap();
    let signature = key.sign(b"x");
    let receipt = r#"{"client":"caf\u00e9","units":1.50}"#;
    vec![
        Payload::Transfer { to, amount },
        Payload::Mint { to, amount },
        Payload::ReceiptClaim(ReceiptClaim {
            receipt: receipt.as_bytes().to_vec(),
            provider_key: key.public_key(),
            provider_signature: signature,
            attestations: vec![Attestation { coordinator: key.public_key(), signature }],
        }),
        Payload::ParamSet(
            ParamSet::new(vec![
                ParamChange::Param { name: "base_fee".to_owned(), value: 4 },
                ParamChange::Coordinator {
                    public_key: key.public_key(),
                    payout: to,
                    active: false,
                },
                ParamChange::Governor { address: to },
            ])
            .unwrap(),
        ),
        Payload::ProviderBind(ProviderBind {
            name: "miner-0".to_owned(),
            receipt_key: key.public_key(),
            key_signature: signature,
        }),
    ]
}

#[test]
fn every_kind_survives_the_way_through_json() {
    assert_eq!(payloads().len(), Kind::ALL.len());
    for payload in payloads() {
        let transaction = sign(payload);
        let text = serde_json::to_string(&TransactionJson::from(&transaction)).unwrap();
        let json: TransactionJson = serde_json::from_str(&text).unwrap();
        assert_eq!(Transaction::try_from(&json).unwrap(), transaction);
    }
}

#[test]
fn accepts_old_names_and_lenient_integers() {
    let to = SecretKey::from_seed([9; 32]).public_key().address();
    let payload = json!({ "recipient": to, "value": "25" });
    let read = payload_from_json(Kind::Transfer, &payload).unwrap();
    assert_eq!(read, Payload::Transfer { to, amount: Amount::new(25).unwrap() });
}

#[test]
fn names_the_field_that_is_wrong() {
    let to = SecretKey::from_seed([9; 32]).public_key().address();
    for (payload, field) in [
        (json!({ "to": to }), "payload.amount"),
        (json!({ "amount": 1 }), "payload.to"),
        (json!({ "to": "bob", "amount": 1 }), "payload.to"),
        (json!({ "to": to, "amount": -1 }), "payload.amount"),
        (json!({ "to": to, "amount": 1.5 }), "payload.amount"),
        (json!({ "to": to, "amount": 9_223_372_036_854_775_808_u64 }), "payload.amount"),
        (json!({ "to": to, "amount": 1, "value": 2 }), "payload.amount"),
        (json!([]), "payload"),
    ] {
        match payload_from_json(Kind::Transfer, &payload) {
            Err(PayloadError::Field { field: found, .. }) => assert_eq!(found, field, "{payload}"),
            other => panic!("{payload} gave {other:?}"),
        }
    }
}

#[test]
fn rejects_a_sender_that_is_not_the_keys() {
    let mut json = TransactionJson::from(&sign(payloads().remove(0)));
    json.sender = Address::ZERO;
    assert!(matches!(Transaction::try_from(&json), Err(PayloadError::Sender { .. })));
}

#[test]
fn what_has_no_canonical_form_is_refused() {
    let key = SecretKey::from_seed([9; 32]);
    let (public_key, signature) = (key.public_key(), key.sign(b"x"));
    let attested = |count: u8| {
        let coordinator = |n| SecretKey::from_seed([n; 32]).public_key();
        let item = |n| json!({ "coordinator": coordinator(n), "signature": signature });
        (0..count).map(item).collect::<Vec<_>>()
    };
    let claim = |receipt: &str, attestations: Vec<Value>| {
        json!({
            "receipt": receipt, "provider_key": public_key, "provider_signature": signature,
            "attestations": attestations,
        })
    };
    let bind = |name: String| json!({ "name": name, "receipt_key": public_key, "key_signature": signature });
    let set = |name: String| json!({ "changes": [{ "param": name, "value": 1 }] });
    let twice = [attested(1), attested(1)].concat();
    for (kind, good, bad) in [
        (Kind::ProviderBind, bind("n".repeat(64)), bind("n".repeat(65))),
        (Kind::ParamSet, set("n".repeat(64)), set("n".repeat(65))),
        (Kind::ReceiptClaim, claim("{}", attested(16)), claim("{}", attested(17))),
        (Kind::ReceiptClaim, claim("{}", attested(1)), claim("{}", twice)),
        (
            Kind::ReceiptClaim,
            claim(&"x".repeat(16 * 1024), attested(1)),
            claim(&"x".repeat(16 * 1024 + 1), attested(1)),
        ),
    ] {
        payload_from_json(kind, &good).unwrap();
        let refused = payload_from_json(kind, &bad).unwrap_err();
        assert!(matches!(refused, PayloadError::Field { .. }), "{refused}");
    }
}
