//! The coordinator's endpoints. Every error is `{detail, code, hint}`.

use std::convert::Infallible;
use std::time::{SystemTime, UNIX_EPOCH};

use ait_engine::json::{self, Json};
use ait_engine::limits::RECEIPT_BYTES_MAX;
use ait_engine::receipt::Receipt;
use serde_json::{Value, json};
use warp::http::{StatusCode, header};
use warp::hyper::body::Bytes;
use warp::reply::Response;
use warp::{Filter, Rejection, Reply};

use super::attest::read_request;
use super::{AttestRefusal, Coordinator, metrics, text};

/// Largest body of a request, in bytes: what the receipt reader takes.
const BODY_BYTES_MAX: u64 = RECEIPT_BYTES_MAX as u64;

pub(super) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

fn reply(status: StatusCode, body: &Value) -> Response {
    warp::reply::with_status(warp::reply::json(body), status).into_response()
}

pub(super) fn error(status: StatusCode, code: &str, detail: &str, hint: &str) -> Response {
    reply(status, &json!({"detail": detail, "code": code, "hint": hint}))
}

fn refusal(refusal: &AttestRefusal) -> Response {
    let status = match refusal {
        AttestRefusal::JobUnknown { .. } => StatusCode::NOT_FOUND,
        AttestRefusal::AlreadyAttested { .. } => StatusCode::CONFLICT,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    error(status, refusal.code(), &refusal.to_string(), refusal.hint())
}

fn answer(result: Result<Value, AttestRefusal>) -> Response {
    match result {
        Ok(body) => reply(StatusCode::OK, &body),
        Err(error) => refusal(&error),
    }
}

fn read_json(body: &[u8]) -> Result<Json, AttestRefusal> {
    json::parse(body).map_err(|error| AttestRefusal::Request {
        reason: format!("the body cannot be read: {error}"),
    })
}

impl Coordinator {
    /// The old mock's answer to `POST /attest/receipt` with this body.
    ///
    /// # Errors
    /// [`AttestRefusal::Request`] if the body is none that it takes.
    pub fn answer_old(&self, body: &[u8]) -> Result<Value, AttestRefusal> {
        let job_id = text::read_old_body(&read_json(body)?)?;
        Ok(text::old_answer(self.book().quote(&job_id).as_ref()))
    }
}

fn create_job(coordinator: &Coordinator, body: &[u8]) -> Result<Value, AttestRefusal> {
    let order = text::read_order(&read_json(body)?)?;
    Ok(text::job(&coordinator.book().create(order, unix_seconds())))
}

fn get_job(coordinator: &Coordinator, id: &str) -> Result<Value, AttestRefusal> {
    let book = coordinator.book();
    let job = book.get(id).map(text::job);
    job.ok_or_else(|| AttestRefusal::JobUnknown { job_id: id.chars().take(64).collect() })
}

fn attest(coordinator: &Coordinator, body: &[u8]) -> Result<Value, AttestRefusal> {
    let mut claim = read_request(&read_json(body)?)?;
    let attestation = coordinator.attest_claim(&claim)?;
    let receipt = Receipt::parse(&claim.receipt)?;
    let signature =
        ait_engine::receipt::signature_json(&attestation.coordinator, &attestation.signature);
    crate::receipts::attach(&mut claim, attestation);
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    Ok(json!({
        "receipt_id": receipt.receipt_id,
        "job_id": receipt.job_id,
        "coordinator": attestation.coordinator.to_string(),
        "attestation": parse(&signature.canonical()),
        // A text, so that no reader respells the numbers that were signed.
        "signed_receipt": claim.to_signed_json()?,
    }))
}

/// All endpoints; never rejects.
pub(super) fn routes(
    coordinator: Coordinator,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    let with = warp::any().map(move || coordinator.clone());
    let body = || {
        warp::post()
            .and(warp::body::content_length_limit(BODY_BYTES_MAX))
            .and(warp::body::bytes())
            .boxed()
    };
    let health = warp::path!("health").and(warp::get()).map(|| answer(Ok(json!({"status": "ok"}))));
    let metrics = warp::path!("metrics").and(warp::get()).and(with.clone()).map(
        |coordinator: Coordinator| {
            let page = metrics::page(&coordinator.book());
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            warp::reply::with_header(page, header::CONTENT_TYPE, kind).into_response()
        },
    );
    let old = warp::path!("attest" / "receipt")
        .and(with.clone())
        .and(body())
        .map(|coordinator: Coordinator, body: Bytes| answer(coordinator.answer_old(&body)));
    let create = warp::path!("v1" / "jobs").and(with.clone()).and(body()).map(
        |coordinator: Coordinator, body: Bytes| match create_job(&coordinator, &body) {
            Ok(job) => reply(StatusCode::CREATED, &job),
            Err(error) => refusal(&error),
        },
    );
    let get = warp::path!("v1" / "jobs" / String)
        .and(warp::get())
        .and(with.clone())
        .map(|id: String, coordinator: Coordinator| answer(get_job(&coordinator, &id)));
    let attest = warp::path!("v1" / "receipts" / "attest")
        .and(with)
        .and(body())
        .map(|coordinator: Coordinator, body: Bytes| answer(attest(&coordinator, &body)));
    health
        .or(metrics)
        .unify()
        .or(old)
        .unify()
        .or(create)
        .unify()
        .or(get)
        .unify()
        .or(attest)
        .unify()
        .recover(|rejection: Rejection| async move { Ok::<_, Infallible>(rejected(&rejection)) })
        .unify()
}

fn rejected(rejection: &Rejection) -> Response {
    use warp::reject::{LengthRequired, MethodNotAllowed, PayloadTooLarge};
    let (status, code, detail, hint) = if rejection.find::<PayloadTooLarge>().is_some() {
        let detail = "the body has more bytes than a request may have";
        (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail, "send at most 16384 bytes")
    } else if rejection.find::<LengthRequired>().is_some() {
        let detail = "the request has no content length";
        (StatusCode::LENGTH_REQUIRED, "length_required", detail, "send Content-Length")
    } else if rejection.find::<MethodNotAllowed>().is_some() {
        let detail = "this path takes another method";
        (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail, ENDPOINTS)
    } else if rejection.is_not_found() {
        (StatusCode::NOT_FOUND, "not_found", "there is no such path", ENDPOINTS)
    } else {
        let detail = "the request cannot be read";
        (StatusCode::BAD_REQUEST, "bad_request", detail, ENDPOINTS)
    };
    error(status, code, detail, hint)
}

const ENDPOINTS: &str = "GET /health, GET /metrics, POST /attest/receipt, POST /v1/jobs, \
GET /v1/jobs/{id}, POST /v1/receipts/attest";
