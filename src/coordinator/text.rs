//! The shapes of the coordinator's JSON. Nothing is decided here.

use ait_engine::json::{self, Json};
use ait_engine::limits::RECEIPT_TEXT_BYTES_MAX;
use ait_engine::types::MicroUnits;
use serde_json::{Value, json};

use super::{AttestRefusal, Job, Order};

pub(super) use crate::receipts::decimal;

/// A number as JSON: an integer if it is one, a decimal's text if not.
fn number(value: MicroUnits) -> Value {
    if value.get().is_multiple_of(1_000_000) {
        json!(value.get() / 1_000_000)
    } else {
        json!(decimal(value))
    }
}

/// A job in the new endpoints' shape.
pub(super) fn job(job: &Job) -> Value {
    json!({
        "job_id": job.id,
        "status": job.status(),
        "client": job.order.client,
        "provider": job.order.provider,
        "units": number(job.order.units),
        "price": number(job.order.price),
        "created_at": job.created_at,
        "attested_receipt": job.attested.map(|hash| hash.to_string()),
    })
}

/// The answer of the old endpoint.
pub(super) fn old_answer(job: Option<&Job>) -> Value {
    let Some(job) = job else {
        return json!({"exists": false, "paid": false, "not_double_spent": false, "quote": {}});
    };
    let mut quote = json!({
        "status": job.status(),
        "price": decimal(job.order.price),
        "compute_units": number(job.order.units),
    });
    let parties = [("client", &job.order.client), ("assigned_miner", &job.order.provider)];
    if let Value::Object(members) = &mut quote {
        for (name, party) in parties {
            if let Some(party) = party {
                members.insert(name.to_owned(), json!(party));
            }
        }
    }
    // What the old mock always said; the chain itself is the guard against a second claim.
    json!({"exists": true, "paid": true, "not_double_spent": true, "quote": quote})
}

/// Reads the order of a new job.
pub(super) fn read_order(body: &Json) -> Result<Order, AttestRefusal> {
    let wrong = |reason: String| AttestRefusal::Request { reason };
    if !matches!(body, Json::Object(_)) {
        return Err(wrong("the body must be a JSON object".to_owned()));
    }
    let amount = |name: &str| match body.get(name) {
        Some(Json::Number(text) | Json::Text(text)) => {
            json::millionths(text).and_then(MicroUnits::new).ok_or_else(|| {
                wrong(format!("{name} must be a decimal with at most six places, not negative"))
            })
        }
        Some(_) => Err(wrong(format!("{name} must be a number"))),
        None => Err(wrong(format!("{name} is missing"))),
    };
    let party = |name: &str| match body.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Text(text)) if (1..=RECEIPT_TEXT_BYTES_MAX).contains(&text.len()) => {
            Ok(Some(text.clone()))
        }
        Some(_) => Err(wrong(format!("{name} must be a text of 1 to 128 bytes"))),
    };
    let order = Order {
        client: party("client")?,
        provider: party("provider")?,
        units: amount("units")?,
        price: amount("price")?,
    };
    if order.units == MicroUnits::ZERO {
        return Err(wrong("units must be more than 0".to_owned()));
    }
    Ok(order)
}

/// Reads the body of the old endpoint: an object of strings. Gives the job id.
pub(super) fn read_old_body(body: &Json) -> Result<String, AttestRefusal> {
    let wrong = |reason: String| AttestRefusal::Request { reason };
    let Json::Object(members) = body else {
        return Err(wrong("the body must be a JSON object".to_owned()));
    };
    if let Some((name, _)) = members.iter().find(|(_, value)| !matches!(value, Json::Text(_))) {
        let name: String = name.chars().take(64).collect();
        return Err(wrong(format!("{name:?} must be a string; all values of this body are")));
    }
    match body.get("job_id") {
        Some(Json::Text(id)) => Ok(id.clone()),
        _ => Ok(String::new()),
    }
}
