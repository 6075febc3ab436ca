//! Transactions as JSON, against their canonical form. The first byte chooses which of the two
//! is read; it is written as the other, and read from there it is the same.

use ait_engine::codec::Canonical;
use ait_engine::transaction::{Payload, Transaction};
use ait_net::wire::TransactionJson;

use crate::world::transactions;

/// The JSON of a transaction is read as that transaction.
fn through_json(transaction: &Transaction) {
    if let Payload::ReceiptClaim(claim) = &transaction.payload
        && std::str::from_utf8(&claim.receipt).is_err()
    {
        // A receipt that is no text has no JSON; it is no receipt either.
        return;
    }
    let text = serde_json::to_string(&TransactionJson::from(transaction)).unwrap();
    let json: TransactionJson = serde_json::from_str(&text).expect("what is written is read");
    let read = Transaction::try_from(&json).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(read, *transaction, "{text}");
}

pub fn run(input: &[u8]) {
    match input.split_first() {
        Some((0, bytes)) => {
            if let Ok(transaction) = Transaction::decode(bytes) {
                through_json(&transaction);
            }
        }
        Some((1, text)) => {
            let Ok(json) = serde_json::from_slice::<TransactionJson>(text) else { return };
            let Ok(transaction) = Transaction::try_from(&json) else { return };
            assert_eq!(transaction.sender(), json.sender, "another sender than is named");
            through_json(&transaction);
            let bytes = transaction.encode();
            assert_eq!(Transaction::decode(&bytes).as_ref(), Ok(&transaction), "no canonical form");
        }
        _ => {}
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for transaction in transactions() {
        seeds.push([&[0][..], &transaction.encode()].concat());
        let json = serde_json::to_value(TransactionJson::from(&transaction)).unwrap();
        seeds.push([&[1][..], json.to_string().as_bytes()].concat());
        let mut old = json.clone();
        // The old names and spellings of a transfer.
        if let Some(payload) = old["payload"].as_object_mut()
            && let (Some(to), Some(amount)) = (payload.remove("to"), payload.remove("amount"))
        {
            payload.insert("recipient".to_owned(), to);
            payload.insert("value".to_owned(), amount.to_string().into());
            old["nonce"] = "20".into();
            seeds.push([&[1][..], old.to_string().as_bytes()].concat());
        }
    }
    seeds
}
