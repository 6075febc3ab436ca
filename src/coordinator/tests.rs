#![allow(clippy::unwrap_used)]

use ait_engine::crypto::{self, SecretKey};
use ait_engine::receipt::ReceiptClaim;
use ait_engine::types::MicroUnits;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::routes::routes;
use super::*;
use crate::devnet::DevAccounts;
use crate::receipts::{self, ReceiptFields};

const NOW: u64 = 1_700_000_000;

fn provider() -> SecretKey {
    SecretKey::from_seed([3; 32])
}

fn coordinator() -> Coordinator {
    Coordinator::new(SecretKey::from_seed([9; 32]), None, NOW)
}

fn fields() -> ReceiptFields {
    ReceiptFields {
        receipt_id: "r-1".to_owned(),
        job_id: "job_1".to_owned(),
        provider: provider().public_key().address().to_string(),
        client: "client-0".to_owned(),
        units: MicroUnits::saturating(2_500_000_000),
        unit_type: "gpu_seconds".to_owned(),
        price: Some(MicroUnits::saturating(50_000_000_000)),
        started_at: NOW,
        completed_at: NOW,
        chain_id: None,
        artifact_hash: None,
    }
}

fn signed(change: impl FnOnce(&mut ReceiptFields)) -> ReceiptClaim {
    let mut fields = fields();
    change(&mut fields);
    receipts::sign(fields.canonical().unwrap(), &provider()).unwrap()
}

fn order(units: u64) -> Order {
    let (units, price) = (MicroUnits::saturating(units), MicroUnits::saturating(7));
    Order { client: None, provider: None, units, price }
}

async fn send(coordinator: &Coordinator, method: &str, path: &str, body: &str) -> (u16, Value) {
    let request = warp::test::request().method(method).path(path);
    let request = if body.is_empty() {
        request
    } else {
        request.header("content-length", body.len()).body(body)
    };
    let response = request.reply(&routes(coordinator.clone())).await;
    let text = String::from_utf8(response.body().to_vec()).unwrap();
    let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    (response.status().as_u16(), value)
}

fn assert_error(answer: &(u16, Value), status: u16, code: &str) {
    assert_eq!((answer.0, answer.1["code"].as_str()), (status, Some(code)), "{}", answer.1);
    for key in ["detail", "hint"] {
        assert!(answer.1[key].as_str().is_some_and(|text| !text.is_empty()), "{key} is missing");
    }
}

#[test]
fn the_same_seed_simulates_the_same_jobs_and_keeps_the_newest() {
    let run = |seed| {
        let mut book = JobBook::new(seed, NOW);
        for n in 0..300 {
            book.tick(NOW + n);
        }
        book
    };
    let (book, again, other) = (run(1), run(1), run(2));
    assert_eq!(book.get("job_302"), again.get("job_302"));
    assert_ne!(book.get("job_302"), other.get("job_302"));
    let kept: Vec<u64> = (1..=303).filter(|n| book.get(&format!("job_{n}")).is_some()).collect();
    let newest: Vec<u64> = [1, 2].into_iter().chain(183..=302).collect();
    assert_eq!(kept, newest);
    assert_eq!(book.counters().submitted, 302);
    assert_eq!(book.finished_count(), 300);
    assert!(book.counters().failed > 0);
}

#[test]
fn ordered_jobs_are_bounded_and_ids_never_come_again() {
    let mut book = JobBook::new(1, NOW);
    let first = book.create(order(1), NOW);
    let mut last = first.clone();
    for _ in 0..ORDERED_JOB_COUNT_MAX {
        let job = book.create(order(1), NOW);
        assert_ne!(job.id, last.id);
        last = job;
    }
    assert_eq!(book.get(&first.id), None);
    assert_eq!(book.get(&last.id), Some(&last));
    assert!(book.get("job_1").is_some(), "an old job was forgotten");
}

#[test]
fn attests_one_receipt_a_job_and_the_same_one_again() {
    let coordinator = coordinator();
    let claim = signed(|_| {});
    let attestation = coordinator.attest_claim(&claim).unwrap();
    assert_eq!(attestation.coordinator, coordinator.public_key());
    crypto::verify(&attestation.coordinator, &claim.receipt, &attestation.signature).unwrap();
    assert_eq!(coordinator.attest_claim(&claim), Ok(attestation));
    let other = signed(|fields| fields.receipt_id = "r-2".to_owned());
    let refused = coordinator.attest_claim(&other).unwrap_err();
    assert_eq!(refused, AttestRefusal::AlreadyAttested { job_id: "job_1".to_owned() });
    assert_eq!(coordinator.book().counters().receipts_attested, 1);
}

#[test]
fn a_refused_receipt_does_not_use_its_job_up() {
    let coordinator = coordinator();
    let mut forged = signed(|_| {});
    forged.provider_signature.0[0] ^= 1;
    let mut stranger = signed(|_| {});
    stranger.provider_key = SecretKey::from_seed([4; 32]).public_key();
    stranger.provider_signature = SecretKey::from_seed([4; 32]).sign(&stranger.receipt);
    let mut respelled = signed(|_| {});
    respelled.receipt.push(b' ');
    for (claim, code) in [
        (forged, "bad_provider_signature"),
        (stranger, "bad_provider_signature"),
        (respelled, "receipt_malformed"),
        (signed(|f| f.job_id = "job_99".to_owned()), "job_unknown"),
        (signed(|f| f.units = MicroUnits::saturating(2_500_000_001)), "units_mismatch"),
        (signed(|f| f.price = Some(MicroUnits::saturating(1))), "price_mismatch"),
    ] {
        assert_eq!(coordinator.attest_claim(&claim).unwrap_err().code(), code);
    }
    assert_eq!(coordinator.book().counters().receipts_attested, 0);
    assert_eq!(coordinator.book().counters().receipts_unknown, 1);
    coordinator.attest_claim(&signed(|f| f.price = None)).unwrap();
}

#[test]
fn holds_a_receipt_to_the_parties_of_its_job() {
    let names = DevAccounts::from_seed([1; 32]);
    let key = names.secret_key("miner-0");
    let coordinator = Coordinator::new(SecretKey::from_seed([9; 32]), Some(names.clone()), NOW);
    let parties = Order {
        client: Some("client-0".to_owned()),
        provider: Some("miner-0".to_owned()),
        ..order(5)
    };
    let job = coordinator.book().create(parties, NOW);
    let make = |key: &SecretKey, client: &str| {
        let receipt = ReceiptFields {
            job_id: job.id.clone(),
            provider: key.public_key().address().to_string(),
            client: client.to_owned(),
            units: MicroUnits::saturating(5),
            price: None,
            ..fields()
        };
        receipts::sign(receipt.canonical().unwrap(), key).unwrap()
    };
    let refused = coordinator.attest_claim(&make(&provider(), "client-0")).unwrap_err();
    assert_eq!(refused.code(), "provider_mismatch");
    let refused = coordinator.attest_claim(&make(&key, "client-1")).unwrap_err();
    assert_eq!(refused.code(), "client_mismatch");
    // The name of a development account and its address are one party.
    let client = names.resolve("client-0").unwrap().to_string();
    coordinator.attest_claim(&make(&key, &client)).unwrap();
}

#[tokio::test]
async fn the_old_endpoint_answers_as_the_old_mock() {
    let coordinator = coordinator();
    let post = async |body: &str| send(&coordinator, "POST", "/attest/receipt", body).await;
    let known = post(r#"{"job_id":"job_1","receipt_id":"r1"}"#).await;
    let quote = json!({"status": "running", "price": "50000", "compute_units": 2500});
    let expected = json!({"exists": true, "paid": true, "not_double_spent": true, "quote": quote});
    assert_eq!(known, (200, expected));
    let unknown = json!({"exists": false, "paid": false, "not_double_spent": false, "quote": {}});
    assert_eq!(post(r#"{"job_id":"job_77"}"#).await, (200, unknown.clone()));
    assert_eq!(post("{}").await, (200, unknown));
    coordinator.book().tick(NOW);
    let simulated = post(r#"{"job_id":"job_3"}"#).await;
    assert!(simulated.1["quote"]["assigned_miner"].as_str().unwrap().starts_with("miner-"));
    assert!(simulated.1["quote"]["client"].as_str().unwrap().starts_with("client-"));
    let bad = [
        r#"{"job_id":1}"#,
        r#"{"job_id":"job_1","units":2500}"#,
        "[]",
        "\"job_1\"",
        "{",
        "nul",
        r#"{"job_id":"job_1","job_id":"job_2"}"#,
        "\u{0}",
    ];
    for bad in bad {
        assert_error(&post(bad).await, 422, "invalid_request");
    }
}

#[tokio::test]
async fn a_job_is_created_read_and_attested_over_http() {
    let coordinator = coordinator();
    let body = r#"{"client":"client-0","units":2.5,"price":"10","note":"ignored"}"#;
    let (status, job) = send(&coordinator, "POST", "/v1/jobs", body).await;
    let id = job["job_id"].as_str().unwrap().to_owned();
    assert!(status == 201 && id.ends_with("_3"), "{job}");
    assert_eq!((&job["units"], &job["price"]), (&json!("2.5"), &json!(10)));
    let (status, read) = send(&coordinator, "GET", &format!("/v1/jobs/{id}"), "").await;
    assert_eq!((status, &read), (200, &job));

    let claim = signed(|f| {
        f.job_id = id.clone();
        f.units = MicroUnits::saturating(2_500_000);
        f.price = Some(MicroUnits::saturating(10_000_000));
    });
    let text = claim.to_signed_json().unwrap();
    let path = "/v1/receipts/attest";
    let (status, answer) = send(&coordinator, "POST", path, &text).await;
    assert_eq!(status, 200, "{answer}");
    let whole = answer["signed_receipt"].as_str().unwrap();
    let attested = ReceiptClaim::from_signed_json(whole.as_bytes()).unwrap();
    assert_eq!(attested.receipt, claim.receipt);
    let [attestation] = attested.attestations.as_slice() else { panic!("one attestation") };
    crypto::verify(&coordinator.public_key(), &claim.receipt, &attestation.signature).unwrap();
    assert_eq!(answer["attestation"]["alg"], "Ed25519");

    // The same receipt in every other form that is read.
    let object: Value = serde_json::from_slice(&claim.receipt).unwrap();
    let canonical = String::from_utf8(claim.receipt.clone()).unwrap();
    let signature = serde_json::from_str::<Value>(&text).unwrap()["signature"].clone();
    for body in [
        json!({"receipt": object, "provider_signature": signature}),
        json!({"receipt": canonical, "provider_signature": signature}),
        json!({"receipt": serde_json::from_str::<Value>(&text).unwrap()}),
        json!({
            "receipt": canonical,
            "provider_key": claim.provider_key.to_string(),
            "provider_signature": claim.provider_signature.to_string(),
        }),
    ] {
        let again = send(&coordinator, "POST", path, &body.to_string()).await;
        assert_eq!(again, (200, answer.clone()), "{body}");
    }
    let (_, job) = send(&coordinator, "GET", &format!("/v1/jobs/{id}"), "").await;
    assert_eq!(job["status"], "completed");
}

#[tokio::test]
async fn bad_requests_have_codes_and_change_nothing() {
    let coordinator = coordinator();
    let attest = "/v1/receipts/attest";
    let unsigned = String::from_utf8(signed(|_| {}).receipt).unwrap();
    let wrapped = format!("{{\"receipt\":{unsigned},\"provider_signature\":\"0x00\"}}");
    let unknown = signed(|f| f.job_id = "job_9".to_owned()).to_signed_json().unwrap();
    let deep = "[".repeat(100);
    for (path, body, status, code) in [
        ("/v1/jobs", "[]", 422, "invalid_request"),
        ("/v1/jobs", r#"{"units":1}"#, 422, "invalid_request"),
        ("/v1/jobs", r#"{"units":0,"price":1}"#, 422, "invalid_request"),
        ("/v1/jobs", r#"{"units":-1,"price":1}"#, 422, "invalid_request"),
        ("/v1/jobs", r#"{"units":1.0000001,"price":1}"#, 422, "invalid_request"),
        ("/v1/jobs", r#"{"units":99999999999999999999,"price":1}"#, 422, "invalid_request"),
        ("/v1/jobs", r#"{"units":1,"price":1,"client":""}"#, 422, "invalid_request"),
        ("/v1/jobs", &deep, 422, "invalid_request"),
        (attest, "{}", 422, "receipt_malformed"),
        (attest, r#"{"receipt":7}"#, 422, "invalid_request"),
        (attest, r#"{"receipt":"{"}"#, 422, "receipt_malformed"),
        (attest, &unsigned, 422, "receipt_malformed"),
        (attest, &wrapped, 422, "invalid_request"),
        (attest, &unknown, 404, "job_unknown"),
        ("/v1/nothing", "{}", 404, "not_found"),
        ("/health", "{}", 405, "method_not_allowed"),
        ("/v1/jobs", &"x".repeat(17_000), 413, "body_too_large"),
    ] {
        assert_error(&send(&coordinator, "POST", path, body).await, status, code);
    }
    assert_error(&send(&coordinator, "GET", "/v1/jobs/job_3", "").await, 404, "job_unknown");
    assert_error(&send(&coordinator, "GET", attest, "").await, 405, "method_not_allowed");
    let no_length = warp::test::request().method("POST").path("/v1/jobs");
    let reply = no_length.reply(&routes(coordinator.clone())).await;
    assert_eq!(reply.status(), 411);
    assert_eq!(coordinator.book().counters().submitted, 2);
    assert_eq!(coordinator.book().open_count(), 2);
}

#[tokio::test]
async fn metrics_have_the_old_names_and_values() {
    let coordinator = coordinator();
    coordinator.attest_claim(&signed(|_| {})).unwrap();
    coordinator.book().quote("job_404");
    let (status, page) = send(&coordinator, "GET", "/metrics", "").await;
    assert_eq!(status, 200);
    let page = page.as_str().unwrap();
    for line in [
        "# TYPE coordinator_jobs_submitted_total counter",
        "coordinator_jobs_submitted_total 2.0",
        "coordinator_jobs_completed_total 1.0",
        "coordinator_jobs_failed_total 0.0",
        "coordinator_job_price_count 2",
        "coordinator_job_price_sum 75000.0",
        "coordinator_job_compute_units_sum 3700.0",
        "miner_active_jobs 1.0",
        "miner_queue_depth 0.0",
        "miner_error_rate 0.0",
        "miner_job_duration_seconds_count 1",
        "miner_receipts_attested_total 1.0",
        "miner_receipts_unknown_total 1.0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is missing in:\n{page}");
    }
}

#[tokio::test]
async fn serves_on_a_socket_until_shutdown() {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async move { drop(stopped.await) };
    let any = "127.0.0.1:0".parse().unwrap();
    let serving = serve(any, coordinator(), shutdown).await.unwrap();
    let mut stream = tokio::net::TcpStream::connect(serving.address).await.unwrap();
    let request = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with(r#"{"status":"ok"}"#), "{answer}");
    let taken = serve(serving.address, coordinator(), async {}).await.unwrap_err();
    assert!(taken.to_string().contains(&serving.address.to_string()));
    stop.send(()).unwrap();
    serving.task.await.unwrap();
    assert!(tokio::net::TcpStream::connect(serving.address).await.is_err());
}
