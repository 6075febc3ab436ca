//! The bodies that come most: signed transfers in their plain form, read into their type at
//! once, without a tree of JSON values.
//!
//! Nothing is refused here. Whatever is spelled otherwise (other kinds, numbers as text,
//! fields that are not known, anything wrong) gives nothing, and is read by `submit`, which
//! has the words for it.

use ait_engine::transaction::{Kind, Payload, Transaction};
use ait_engine::types::{Address, Amount, Height, Nonce};
use serde::Deserialize;

/// A signed transfer, its texts not looked at yet.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Quick<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    chain_id: &'a str,
    sender: &'a str,
    public_key: &'a str,
    nonce: u64,
    fee: u64,
    #[serde(default)]
    expires_at: Option<u64>,
    #[serde(borrow)]
    payload: Transfer<'a>,
    sig: &'a str,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Transfer<'a> {
    to: &'a str,
    amount: u64,
}

/// The transfer in this body, if it is a plain one.
pub(super) fn transfer(body: &[u8]) -> Option<Transaction> {
    serde_json::from_slice::<Quick<'_>>(body).ok()?.transaction()
}

/// The transfers in this list, if all are plain ones.
pub(super) fn transfers(body: &[u8]) -> Option<Vec<Transaction>> {
    let all: Vec<Quick<'_>> = serde_json::from_slice(body).ok()?;
    all.iter().map(Quick::transaction).collect()
}

impl Quick<'_> {
    fn transaction(&self) -> Option<Transaction> {
        if !self.kind.eq_ignore_ascii_case(Kind::Transfer.name()) || self.expires_at == Some(0) {
            return None;
        }
        let transaction = Transaction {
            chain_id: self.chain_id.parse().ok()?,
            public_key: self.public_key.parse().ok()?,
            nonce: Nonce::new(self.nonce)?,
            fee: Amount::new(self.fee)?,
            expires_at: self.expires_at.and_then(Height::new),
            payload: Payload::Transfer {
                to: self.payload.to.parse().ok()?,
                amount: Amount::new(self.payload.amount)?,
            },
            signature: self.sig.parse().ok()?,
        };
        let sender: Address = self.sender.parse().ok()?;
        (sender == transaction.sender()).then_some(transaction)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ait_engine::crypto::SecretKey;
    use ait_net::wire::TransactionJson;
    use serde_json::{Value, json};

    use super::*;

    fn signed(expires_at: Option<Height>) -> Transaction {
        let key = SecretKey::from_seed([7; 32]);
        let to = SecretKey::from_seed([9; 32]).public_key().address();
        let payload = Payload::Transfer { to, amount: Amount::saturating(5) };
        let (nonce, fee) = (Nonce::saturating(3), Amount::saturating(11));
        Transaction::sign(&key, "ait-devnet".parse().unwrap(), nonce, fee, expires_at, payload)
    }

    #[test]
    fn reads_plain_transfers_alone_and_in_lists() {
        for transaction in [signed(None), signed(Height::new(9))] {
            let body = serde_json::to_vec(&TransactionJson::from(&transaction)).unwrap();
            assert_eq!(transfer(&body), Some(transaction.clone()));
            let list = [b"[", &body[..], b",", &body, b"]"].concat();
            assert_eq!(transfers(&list), Some(vec![transaction; 2]));
        }
    }

    /// Whatever it reads, the general way reads the same of it.
    #[test]
    fn never_reads_another_transaction_than_the_general_way() {
        let plain = serde_json::to_value(TransactionJson::from(&signed(None))).unwrap();
        let values = [
            json!(null),
            json!(0),
            json!(-1),
            json!(4.0),
            json!(1.5),
            json!(u64::MAX),
            json!("12"),
            json!(""),
            json!("transfer"),
            json!("MINT"),
            json!("0x00"),
            json!([]),
            json!({}),
            json!({ "to": plain["payload"]["to"], "amount": 1, "value": 2 }),
            json!({ "recipient": plain["payload"]["to"], "value": 2 }),
        ];
        let fields = plain.as_object().unwrap().keys().cloned();
        let (mut read, mut tried) = (0, 0);
        for field in fields.chain(["expires_at".to_owned(), "memo".to_owned()]) {
            for value in values.iter().map(Some).chain([None]) {
                let mut changed = plain.clone();
                let object = changed.as_object_mut().unwrap();
                match value {
                    Some(value) => object.insert(field.clone(), value.clone()),
                    None => object.remove(&field),
                };
                tried += 1;
                let Some(quick) = transfer(changed.to_string().as_bytes()) else { continue };
                let general: TransactionJson = serde_json::from_value(changed).unwrap();
                assert_eq!(quick, Transaction::try_from(&general).unwrap());
                read += 1;
            }
        }
        assert!(read > 5 && read < tried, "{read} of {tried}");
        // What stands twice, or behind the end, is for the general way.
        let text = plain.to_string();
        let twice = text.replacen('{', r#"{"nonce":3,"#, 1);
        for body in [twice, format!("{text} x"), format!("[{text}"), Value::Null.to_string()] {
            assert_eq!(transfer(body.as_bytes()), None, "{body}");
        }
    }
}
