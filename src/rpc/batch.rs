//! `POST /rpc/sendTxs`: many transactions in one request, as JSON or as canonical bytes.
//!
//! Each is answered as `sendTx` would answer it alone, in their order; one that is refused
//! keeps none of the others out.

use ait_engine::codec::{Canonical, Reader};
use ait_engine::transaction::{Kind, Transaction};
use ait_net::wire::SendTxsItem;
use serde_json::Value;
use serde_json::value::RawValue;
use warp::http::{StatusCode, header};

use super::call::{Answer, Call, json};
use super::submit::{kind_of, object_of, signed};
use super::{ApiError, dev, quick};
use crate::ingress::{SubmitError, Submitted};
use crate::telemetry::metrics;

/// Most transactions of a request; a quarter of those that may wait to be verified.
const BATCH_COUNT_MAX: usize = 4_096;

/// One of a list.
enum Item {
    /// Signed; to be verified with the others.
    Signed,
    /// Of a devnet's named account, with its text.
    Unsigned(Value, Kind, String),
    /// Not in its form.
    Refused(ApiError),
}

/// `POST /rpc/sendTxs`
pub(super) async fn send(call: Call) -> Answer {
    let media = call.headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    if media.is_some_and(|media| media.starts_with(b"application/octet-stream")) {
        let transactions = decode(&call)?;
        admit(&call, transactions.len())?;
        return answer(call.api.ingress.submit_many(transactions).await);
    }
    if let Some(transactions) = quick::transfers(&call.body) {
        admit(&call, transactions.len())?;
        return answer(call.api.ingress.submit_many(transactions).await);
    }
    one_by_one(&call).await
}

fn answer(results: Vec<Result<Submitted, SubmitError>>) -> Answer {
    let items = results.into_iter().map(|result| item(result.map_err(ApiError::from)));
    json(&items.collect::<Vec<_>>())
}

fn item(result: Result<Submitted, ApiError>) -> SendTxsItem {
    match result {
        Ok(submitted) => {
            SendTxsItem { tx_hash: Some(submitted.hash.to_string()), ..SendTxsItem::default() }
        }
        Err(error) => SendTxsItem {
            tx_hash: None,
            status: Some(error.status.as_u16()),
            detail: Some(error.detail),
            code: Some(error.code.to_owned()),
            hint: Some(error.hint),
        },
    }
}

/// Canonical transactions, one after the other.
fn decode(call: &Call) -> Result<Vec<Transaction>, ApiError> {
    let mut reader = Reader::new(&call.body);
    let mut transactions = Vec::new();
    while reader.remaining() > 0 {
        let (count, at) = (transactions.len(), reader.position());
        bounded(call, count.saturating_add(1))?;
        let transaction = Transaction::decode_from(&mut reader).map_err(|error| {
            let detail = format!("transaction {count}, which begins at byte {at}: {error}");
            let hint = "send canonical transactions one after the other; see specs/rpc.md";
            ApiError::unprocessable("transaction_invalid", detail, hint)
        })?;
        transactions.push(transaction);
    }
    Ok(transactions)
}

/// Most transactions of a request of a client: no more than it may send one by one.
fn count_max(call: &Call) -> usize {
    let options = &call.api.options;
    match options.rate_limit_per_minute {
        0 => BATCH_COUNT_MAX,
        _ => BATCH_COUNT_MAX.min(usize::try_from(options.rate_limit_burst).unwrap_or(usize::MAX)),
    }
}

fn bounded(call: &Call, count: usize) -> Result<(), ApiError> {
    let max = count_max(call);
    if count <= max {
        return Ok(());
    }
    let detail = format!("over {max} transactions in one request");
    let status = StatusCode::PAYLOAD_TOO_LARGE;
    Err(ApiError::new(status, "batch_too_large", detail, "send less at once"))
}

/// Counts a batch as the requests that it stands for; it was counted as one already.
fn admit(call: &Call, count: usize) -> Result<(), ApiError> {
    bounded(call, count)?;
    let more = u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX);
    call.api.rate.check_many(call.client.ip, more).map_err(|wait| {
        metrics::rate_limited();
        ApiError::rate_limited(wait)
    })
}

/// A list that holds more than plain transfers.
async fn one_by_one(call: &Call) -> Answer {
    let texts: Vec<&RawValue> = serde_json::from_slice(&call.body).map_err(|error| {
        let hint = "send a list of what sendTx takes, or application/octet-stream";
        ApiError::unprocessable("json_invalid", format!("not a JSON list: {error}"), hint)
    })?;
    admit(call, texts.len())?;
    let mut transactions = Vec::new();
    let items: Vec<Item> = texts
        .into_iter()
        .map(|text| match read(text) {
            Ok(Read::Signed(transaction)) => {
                transactions.push(*transaction);
                Item::Signed
            }
            Ok(Read::Unsigned(body, kind)) => Item::Unsigned(body, kind, text.get().to_owned()),
            Err(error) => Item::Refused(error),
        })
        .collect();
    let mut submitted = call.api.ingress.submit_many(transactions).await.into_iter();
    let mut answers = Vec::with_capacity(items.len());
    for one in items {
        answers.push(item(match one {
            Item::Signed => {
                submitted.next().unwrap_or(Err(SubmitError::Stopping)).map_err(ApiError::from)
            }
            Item::Unsigned(body, kind, text) => {
                dev::submit_unsigned(call, text.as_bytes(), &body, kind).await
            }
            Item::Refused(error) => Err(error),
        }));
    }
    json(&answers)
}

enum Read {
    Signed(Box<Transaction>),
    Unsigned(Value, Kind),
}

fn read(text: &RawValue) -> Result<Read, ApiError> {
    let text = text.get().as_bytes();
    if let Some(transaction) = quick::transfer(text) {
        return Ok(Read::Signed(Box::new(transaction)));
    }
    let body = object_of(text)?;
    let kind = kind_of(&body, None)?;
    if super::submit::is_unsigned(&body) {
        return Ok(Read::Unsigned(body, kind));
    }
    Ok(Read::Signed(Box::new(signed(text, body, kind)?)))
}
