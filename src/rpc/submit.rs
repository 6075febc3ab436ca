//! Endpoints that submit a transaction, and what it will cost.

use ait_engine::receipt::ReceiptClaim;
use ait_engine::transaction::{Kind, Payload, Transaction};
use ait_net::wire::{
    FeeEstimate, SendTxResponse, TransactionJson, payload_from_json, payload_to_json,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json as object};

use super::call::{Answer, Call, json};
use super::{ApiError, dev, quick};
use crate::ingress::Submitted;
use crate::receipts::ClaimBody;

/// `POST /rpc/sendTx` and `POST /rpc/transaction`
pub(super) async fn send(call: Call) -> Answer {
    if let Some(transaction) = quick::transfer(&call.body) {
        return accepted(&call.api.ingress.submit(transaction).await?);
    }
    let body = call.object()?;
    let kind = kind_of(&body, None)?;
    let submitted = submit(&call, body, kind).await?;
    accepted(&submitted)
}

/// `POST /rpc/submitReceipt`: a `RECEIPT_CLAIM` whose type is not said.
pub(super) async fn receipt(call: Call) -> Answer {
    let mut body = call.object()?;
    set(&mut body, "type", object!(Kind::ReceiptClaim.name()));
    let submitted = submit(&call, body, Kind::ReceiptClaim).await?;
    accepted(&submitted)
}

fn accepted(submitted: &Submitted) -> Answer {
    let tx_hash = submitted.hash.to_string();
    json(&SendTxResponse { tx_hash_alias: tx_hash.clone(), tx_hash })
}

pub(super) fn kind_of(body: &Value, default: Option<Kind>) -> Result<Kind, ApiError> {
    let found = body.get("type").unwrap_or(&Value::Null);
    let kind = match found {
        Value::Null => default,
        Value::String(name) => Kind::from_name(name),
        _ => None,
    };
    kind.ok_or_else(|| {
        let shown: String = match found {
            Value::String(name) => name.chars().take(40).collect(),
            Value::Null => "none".to_owned(),
            _ => "not a text".to_owned(),
        };
        let detail = format!("Value error, unsupported transaction type: {shown}");
        let hint = "use TRANSFER, RECEIPT_CLAIM, PARAM_SET, MINT or PROVIDER_BIND";
        ApiError::unprocessable("type_unsupported", detail, hint)
    })
}

async fn submit(call: &Call, body: Value, kind: Kind) -> Result<Submitted, ApiError> {
    if is_unsigned(&body) {
        return dev::submit_unsigned(call, &call.body, &body, kind).await;
    }
    let transaction = signed(&call.body, body, kind)?;
    Ok(call.api.ingress.submit(transaction).await?)
}

/// Old scripts also leave the signature empty.
pub(super) fn is_unsigned(body: &Value) -> bool {
    body.get("sig").is_none_or(|sig| sig.is_null() || sig == "")
}

/// A JSON text as an object.
pub(super) fn object_of(text: &[u8]) -> Result<Value, ApiError> {
    let value: Value = serde_json::from_slice(text).map_err(|error| {
        let detail = format!("not JSON: {error}");
        ApiError::unprocessable("json_invalid", detail, "send one JSON object")
    })?;
    if value.is_object() {
        return Ok(value);
    }
    let detail = "the body is not a JSON object";
    Err(ApiError::unprocessable("json_invalid", detail, "send one JSON object"))
}

/// Sets a field of an object; nothing else has any.
pub(super) fn set(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

/// The signed transaction in `body`, which `text` spells.
pub(super) fn signed(text: &[u8], mut body: Value, kind: Kind) -> Result<Transaction, ApiError> {
    if kind == Kind::ReceiptClaim
        && body.get("payload").is_some_and(|payload| payload.get("signature").is_some())
    {
        // Numbers of a signed receipt must keep their spelling, which `Value` would not.
        let text = payload_text(text)?;
        let claim = ReceiptClaim::from_signed_json(text.as_bytes());
        let claim = claim.map_err(crate::receipts::ClaimError::from)?;
        set(&mut body, "payload", payload_to_json(&Payload::ReceiptClaim(claim)));
    }
    let json: TransactionJson = serde_json::from_value(body).map_err(|error| {
        let hint = "a transaction has type, chain_id, sender, public_key, nonce, fee, payload, sig";
        ApiError::unprocessable("transaction_invalid", error.to_string(), hint)
    })?;
    Transaction::try_from(&json).map_err(|error| {
        let hint = "correct it and sign it again";
        ApiError::unprocessable("transaction_invalid", error.to_string(), hint)
    })
}

/// The payload of a body as it was spelled.
pub(super) fn payload_text(body: &[u8]) -> Result<String, ApiError> {
    #[derive(Deserialize)]
    struct Outer<'a> {
        #[serde(borrow)]
        payload: Option<&'a RawValue>,
    }
    let outer: Result<Outer<'_>, _> = serde_json::from_slice(body);
    let outer = outer.map_err(|error| {
        ApiError::unprocessable(
            "json_invalid",
            format!("not JSON: {error}"),
            "send one JSON object",
        )
    })?;
    Ok(outer.payload.map_or("{}", RawValue::get).to_owned())
}

/// `POST /rpc/estimateFee`
pub(super) async fn estimate_fee(call: Call) -> Answer {
    let body = call.object()?;
    let kind = kind_of(&body, Some(Kind::Transfer))?;
    let text = payload_text(&call.body)?;
    let canonical = ait_engine::json::parse(text.as_bytes()).map(|json| json.canonical().len());
    let payload_bytes = canonical.map_err(|error| {
        ApiError::unprocessable("payload_invalid", error.to_string(), "send a smaller payload")
    })?;
    let encoded = payload_length(&call, kind, body, &text).unwrap_or(payload_bytes);
    let settings = call.read(|api| Ok(api.chain.settings()?)).await?;
    let params = settings.params;
    let over = || {
        let detail = "the fee is over 2^63 - 1";
        ApiError::unprocessable("fee_overflow", detail, "send a smaller payload")
    };
    let bounded = |fee: Option<u64>| fee.filter(|fee| i64::try_from(*fee).is_ok()).ok_or_else(over);
    let min_fee = bounded(params.min_fee(encoded))?;
    // Advice that a block would refuse were none.
    let fee = bounded(params.advised_fee(payload_bytes))?.max(min_fee);
    json(&FeeEstimate {
        kind: kind.name().to_owned(),
        base_fee: params.base_fee,
        payload_bytes: u64::try_from(payload_bytes).unwrap_or(u64::MAX),
        estimated_fee: fee,
        fee,
        min_fee,
    })
}

/// Length of the payload in the encoding that the chain charges for, if it is whole.
fn payload_length(call: &Call, kind: Kind, body: Value, text: &str) -> Option<usize> {
    if kind == Kind::ReceiptClaim
        && let Ok(ClaimBody::Signed(claim)) = ClaimBody::read(text.as_bytes())
    {
        return Some(Payload::ReceiptClaim(*claim).byte_count());
    }
    let mut payload = body.get("payload")?.clone();
    for name in ["to", "recipient"] {
        if let Some(Value::String(text)) = payload.get(name) {
            let address = call.resolve(text).ok()?;
            set(&mut payload, name, object!(address));
        }
    }
    Some(payload_from_json(kind, &payload).ok()?.byte_count())
}
