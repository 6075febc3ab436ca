//! A transaction as JSON: `{type, chain_id, sender, public_key, nonce, fee,
//! expires_at?, payload, sig}`, and the payload of each kind.

use ait_engine::crypto::{PublicKey, Signature};
use ait_engine::params::{ParamChange, ParamSet};
use ait_engine::receipt::{Attestation, ReceiptClaim};
use ait_engine::transaction::{Kind, Payload, ProviderBind, Transaction};
use ait_engine::types::{Address, Amount, ChainId, Height, Nonce};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::integer::{integer, optional_integer, read_integer};

/// A signed transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TransactionJson {
    /// `TRANSFER`, `RECEIPT_CLAIM`, `PARAM_SET`, `MINT` or `PROVIDER_BIND`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The chain it is for.
    #[schema(value_type = String)]
    pub chain_id: ChainId,
    /// Address of the public key.
    #[schema(value_type = String)]
    pub sender: Address,
    /// The sender's Ed25519 key.
    #[schema(value_type = String)]
    pub public_key: PublicKey,
    /// The sender's next nonce.
    #[serde(deserialize_with = "integer")]
    pub nonce: u64,
    /// Base units paid to the proposer.
    #[serde(deserialize_with = "integer")]
    pub fee: u64,
    /// Last height at which it may be included; any if absent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "optional_integer"
    )]
    pub expires_at: Option<u64>,
    /// What it does.
    #[schema(value_type = Object)]
    pub payload: Value,
    /// Signature over the transaction's hash.
    #[schema(value_type = String)]
    pub sig: Signature,
}

/// Why a JSON object is not a transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// No such kind.
    #[error("unsupported transaction type: {found}")]
    Kind {
        /// The name given.
        found: String,
    },
    /// The sender is not the address of the public key.
    #[error("sender is {found}, but public_key belongs to {expected}")]
    Sender {
        /// The key's address.
        expected: Address,
        /// The sender given.
        found: Address,
    },
    /// A field is missing or has no acceptable value.
    #[error("{field}: {reason}")]
    Field {
        /// Where it stands.
        field: String,
        /// What is wrong and what is expected.
        reason: String,
    },
}

fn wrong(field: &str, reason: impl ToString) -> PayloadError {
    PayloadError::Field { field: field.to_owned(), reason: reason.to_string() }
}

impl From<&Transaction> for TransactionJson {
    fn from(transaction: &Transaction) -> Self {
        Self {
            kind: transaction.payload.kind().name().to_owned(),
            chain_id: transaction.chain_id,
            sender: transaction.sender(),
            public_key: transaction.public_key,
            nonce: transaction.nonce.get(),
            fee: transaction.fee.get(),
            expires_at: transaction.expires_at.map(Height::get),
            payload: payload_to_json(&transaction.payload),
            sig: transaction.signature,
        }
    }
}

impl TryFrom<&TransactionJson> for Transaction {
    type Error = PayloadError;

    fn try_from(json: &TransactionJson) -> Result<Self, PayloadError> {
        let kind = Kind::from_name(&json.kind)
            .ok_or_else(|| PayloadError::Kind { found: json.kind.chars().take(40).collect() })?;
        let expected = json.public_key.address();
        if json.sender != expected {
            return Err(PayloadError::Sender { expected, found: json.sender });
        }
        Ok(Self {
            chain_id: json.chain_id,
            public_key: json.public_key,
            nonce: Nonce::new(json.nonce).ok_or_else(|| wrong("nonce", "too large"))?,
            fee: amount("fee", json.fee)?,
            expires_at: match json.expires_at {
                None => None,
                Some(0) => return Err(wrong("expires_at", "0 is before the first block")),
                Some(height) => Height::new(height),
            },
            payload: payload_from_json(kind, &json.payload)?,
            signature: json.sig,
        })
    }
}

/// The payload of a transaction as JSON.
#[must_use]
pub fn payload_to_json(payload: &Payload) -> Value {
    match payload {
        Payload::Transfer { to, amount } | Payload::Mint { to, amount } => {
            json!({ "to": to, "amount": amount })
        }
        Payload::ReceiptClaim(claim) => json!({
            "receipt": String::from_utf8_lossy(&claim.receipt),
            "provider_key": claim.provider_key,
            "provider_signature": claim.provider_signature,
            "attestations": claim.attestations.iter()
                .map(|a| json!({ "coordinator": a.coordinator, "signature": a.signature }))
                .collect::<Vec<_>>(),
        }),
        Payload::ParamSet(set) => json!({
            "changes": set.changes().iter().map(change_to_json).collect::<Vec<_>>(),
        }),
        Payload::ProviderBind(bind) => json!({
            "name": bind.name,
            "receipt_key": bind.receipt_key,
            "key_signature": bind.key_signature,
        }),
    }
}

fn change_to_json(change: &ParamChange) -> Value {
    match change {
        ParamChange::Param { name, value } => json!({ "param": name, "value": value }),
        ParamChange::Coordinator { public_key, payout, active } => {
            json!({ "coordinator": public_key, "payout": payout, "active": active })
        }
        ParamChange::Governor { address } => json!({ "governor": address }),
    }
}

/// Reads the payload of a transaction of this kind.
///
/// A transfer is accepted with `to` or `recipient` and with `amount` or `value`; a
/// receipt claim also as the signed receipt itself, as the existing software hands it on.
///
/// # Errors
/// [`PayloadError::Field`] that names the field.
pub fn payload_from_json(kind: Kind, payload: &Value) -> Result<Payload, PayloadError> {
    if !payload.is_object() {
        return Err(wrong("payload", "expected an object"));
    }
    let payload = match kind {
        Kind::Transfer => {
            let (to, amount) = transfer(payload)?;
            Payload::Transfer { to, amount }
        }
        Kind::Mint => {
            let (to, amount) = transfer(payload)?;
            Payload::Mint { to, amount }
        }
        Kind::ReceiptClaim => Payload::ReceiptClaim(claim(payload)?),
        Kind::ParamSet => Payload::ParamSet(param_set(payload)?),
        Kind::ProviderBind => Payload::ProviderBind(ProviderBind {
            name: text(payload, "name")?.to_owned(),
            receipt_key: parsed(payload, "receipt_key")?,
            key_signature: parsed(payload, "key_signature")?,
        }),
    };
    payload.check_bounds().map_err(|error| wrong("payload", error))?;
    Ok(payload)
}

/// One field under its name or its old name; both are accepted only if they agree.
fn either<'a>(payload: &'a Value, name: &str, old: &str) -> Result<&'a Value, PayloadError> {
    let field = format!("payload.{name}");
    match (payload.get(name), payload.get(old)) {
        (Some(a), Some(b)) if a != b => {
            Err(wrong(&field, format!("{name} and {old} are both given and differ")))
        }
        (Some(value), _) | (None, Some(value)) => Ok(value),
        (None, None) => Err(wrong(&field, "is missing")),
    }
}

fn transfer(payload: &Value) -> Result<(Address, Amount), PayloadError> {
    let to = either(payload, "to", "recipient")?;
    let to = to.as_str().ok_or_else(|| wrong("payload.to", "expected an address as text"))?;
    let to = to.parse().map_err(|error| wrong("payload.to", error))?;
    let value = either(payload, "amount", "value")?;
    let value = read_integer(value).map_err(|reason| wrong("payload.amount", reason))?;
    Ok((to, amount("payload.amount", value)?))
}

fn amount(field: &str, value: u64) -> Result<Amount, PayloadError> {
    let over = || wrong(field, format!("{value} is over the maximum of {}", Amount::MAX));
    Amount::new(value).ok_or_else(over)
}

fn text<'a>(object: &'a Value, name: &str) -> Result<&'a str, PayloadError> {
    let value = object.get(name).ok_or_else(|| wrong(&format!("payload.{name}"), "is missing"))?;
    value.as_str().ok_or_else(|| wrong(&format!("payload.{name}"), "expected a text"))
}

fn parsed<T: std::str::FromStr<Err: ToString>>(
    object: &Value,
    name: &str,
) -> Result<T, PayloadError> {
    text(object, name)?.parse().map_err(|error: T::Err| wrong(&format!("payload.{name}"), error))
}

fn list<'a>(object: &'a Value, name: &str) -> Result<&'a [Value], PayloadError> {
    let field = format!("payload.{name}");
    let value = object.get(name).ok_or_else(|| wrong(&field, "is missing"))?;
    value.as_array().map(Vec::as_slice).ok_or_else(|| wrong(&field, "expected a list"))
}

fn claim(payload: &Value) -> Result<ReceiptClaim, PayloadError> {
    if payload.get("signature").is_some() {
        return ReceiptClaim::from_signed_json(payload.to_string().as_bytes())
            .map_err(|error| wrong("payload", error));
    }
    let mut attestations = Vec::new();
    for item in list(payload, "attestations")? {
        let coordinator = parsed(item, "coordinator")?;
        attestations.push(Attestation { coordinator, signature: parsed(item, "signature")? });
    }
    attestations.sort_unstable_by_key(|a| a.coordinator);
    Ok(ReceiptClaim {
        receipt: text(payload, "receipt")?.as_bytes().to_vec(),
        provider_key: parsed(payload, "provider_key")?,
        provider_signature: parsed(payload, "provider_signature")?,
        attestations,
    })
}

fn param_set(payload: &Value) -> Result<ParamSet, PayloadError> {
    let changes = list(payload, "changes")?.iter().map(change).collect::<Result<_, _>>()?;
    ParamSet::new(changes).map_err(|error| wrong("payload.changes", error))
}

fn change(item: &Value) -> Result<ParamChange, PayloadError> {
    if item.get("param").is_some() {
        let value = item.get("value").unwrap_or(&Value::Null);
        let value = read_integer(value).map_err(|reason| wrong("payload.value", reason))?;
        return Ok(ParamChange::Param { name: text(item, "param")?.to_owned(), value });
    }
    if item.get("coordinator").is_some() {
        let public_key: PublicKey = parsed(item, "coordinator")?;
        let payout = match item.get("payout") {
            None | Some(Value::Null) => public_key.address(),
            Some(_) => parsed(item, "payout")?,
        };
        let active = match item.get("active") {
            None => true,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => return Err(wrong("payload.active", "expected true or false")),
        };
        return Ok(ParamChange::Coordinator { public_key, payout, active });
    }
    if item.get("governor").is_some() {
        return Ok(ParamChange::Governor { address: parsed(item, "governor")? });
    }
    Err(wrong("payload.changes", "each change has one of: param, coordinator, governor"))
}

#[cfg(test)]
mod tests;
