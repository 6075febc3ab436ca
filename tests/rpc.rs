//! The wire contract over HTTP: every endpoint of the real binary, as old clients and
//! new ones ask for it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use ait_engine::crypto::SecretKey;
use ait_engine::transaction::{Payload, Transaction};
use ait_engine::types::{Amount, Nonce};
use ait_net::wire::TransactionJson;
use common::Devnet;
use futures_util::StreamExt;
use serde_json::{Value, json};

fn object_has(value: &Value, keys: &[&str]) {
    for key in keys {
        assert!(value.get(key).is_some(), "{key} is missing in {value}");
    }
}

#[test]
fn blocks_and_lists_have_the_old_shapes_and_go_on_by_cursor() {
    let directory = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(directory.path());
    let hashes = devnet.fill();
    let (_, head) = devnet.get("/rpc/head");
    object_has(&head, &["height", "hash", "timestamp", "tx_count"]);
    assert!(head["timestamp"].as_str().unwrap().ends_with("+00:00"));
    let height = head["height"].as_u64().unwrap();
    let short = devnet.get("/rpc/getHead").1;
    assert_eq!(short, json!({"height": height, "hash": head["hash"]}));

    let list = devnet.get("/rpc/blocks?limit=2").1;
    assert_eq!((list["total"].as_u64(), list["limit"].as_u64()), (Some(height + 1), Some(2)));
    assert_eq!(list["blocks"][0]["height"], height);
    object_has(
        &list["blocks"][0],
        &["hash", "parent_hash", "timestamp", "tx_count", "state_root", "proposer"],
    );
    let mut seen = 0;
    let mut cursor = String::new();
    loop {
        let page = devnet.get(&format!("/rpc/blocks?limit=1{cursor}")).1;
        assert_eq!(page["blocks"][0]["height"], height - seen);
        seen += 1;
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, height + 1);

    let old = devnet.get("/rpc/blocks-range").1;
    assert_eq!(old.as_array().unwrap().len() as u64, height + 1);
    assert_eq!((&old[0]["height"], old[1]["proposer"].is_string()), (&json!(0), true));
    assert_eq!(devnet.get("/rpc/blocks-range?start_height=1&end_height=1").1[0]["height"], 1);
    let new = devnet.get("/rpc/blocks-range?start=0&end=1").1;
    assert_eq!((new["count"].as_u64(), &new["blocks"][1]["height"]), (Some(2), &json!(1)));
    for (query, status, detail) in [
        ("start=0", 422, "end is missing"),
        ("start=-1&end=2", 400, "start must be non-negative"),
        ("start=3&end=2", 400, "end must be greater than or equal to start"),
        ("start=0&end=1000", 400, "range cannot exceed 1000 blocks"),
    ] {
        let (found, answer) = devnet.get(&format!("/rpc/blocks-range?{query}"));
        assert_eq!((found, answer["detail"].as_str()), (status, Some(detail)));
    }
    for path in ["blocks", "transactions", "receipts", "addresses", "address/bob"] {
        let (status, answer) = devnet.get(&format!("/rpc/{path}?limit=101"));
        assert_eq!(
            (status, answer["detail"].as_str()),
            (400, Some("limit must be between 1 and 100"))
        );
        let (status, answer) = devnet.get(&format!("/rpc/{path}?offset=-1"));
        assert_eq!((status, answer["detail"].as_str()), (400, Some("offset must be non-negative")));
        assert_eq!(devnet.get(&format!("/rpc/{path}?limit=x")).0, 422);
    }
    assert_eq!(devnet.get("/rpc/blocks?limit=%zz%").0, 422);
    for path in ["blocks", "transactions", "receipts", "addresses"] {
        let (status, answer) = devnet.get(&format!("/rpc/{path}?cursor=nonsense"));
        assert_eq!((status, answer["code"].as_str()), (400, Some("page_invalid")), "{path}");
    }

    let list = devnet.get("/rpc/transactions").1;
    assert_eq!(list["total"].as_u64(), Some(hashes.len() as u64));
    assert_eq!(list["transactions"][0]["tx_hash"], hashes[2]);
    let page = devnet.get("/rpc/transactions?limit=2").1;
    let next = page["next_cursor"].as_str().unwrap().to_owned();
    devnet.send("carol", 1).unwrap();
    devnet.wait_for_nonce("alice", 3);
    let page = devnet.get(&format!("/rpc/transactions?limit=2&cursor={next}")).1;
    assert_eq!(page["transactions"][0]["tx_hash"], hashes[0], "a new block moved the cursor");
    assert!(page["next_cursor"].is_null());
}

#[test]
fn accounts_show_balances_histories_and_the_names_that_were_used() {
    let directory = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(directory.path());
    let hashes = devnet.fill();
    let transaction = devnet.committed(&hashes[0]);
    assert_eq!(
        (&transaction["sender"], &transaction["recipient"]),
        (&json!("alice"), &json!("bob"))
    );
    let address = devnet.announced["accounts"][0]["address"].clone();
    assert_eq!(transaction["sender_address"], address);
    object_has(
        &transaction,
        &["tx_hash", "block_height", "payload", "created_at", "nonce", "fee", "sig", "type"],
    );

    let unused = devnet.get("/rpc/getBalance/ait1nobody").1;
    assert_eq!(unused, json!({"address": "ait1nobody", "balance": 0, "nonce": 0}));
    let alice = devnet.get("/rpc/getBalance/alice").1;
    assert_eq!((alice["nonce"].as_u64(), alice["updated_at"].is_string()), (Some(2), true));
    assert_eq!(devnet.get("/rpc/getBalance?address=alice").1, alice);

    let view = devnet.get("/rpc/address/bob?limit=1").1;
    assert_eq!(view["total_transactions_received"], 2);
    assert_eq!(view["latest_received"][0]["tx_hash"], hashes[1]);
    assert_eq!(view["latest_received"][0]["direction"], "received");
    assert_eq!(view["latest_received"][0]["counterparty"], "alice");
    let cursor = view["next_received_cursor"].as_str().unwrap();
    let view = devnet.get(&format!("/rpc/address/bob?limit=1&received_cursor={cursor}")).1;
    assert_eq!(view["latest_received"][0]["tx_hash"], hashes[0]);
    assert!(view["next_received_cursor"].is_null());

    let richest = devnet.get("/rpc/addresses?limit=3").1;
    let balances: Vec<u64> = richest["addresses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["balance"].as_u64().unwrap())
        .collect();
    assert_eq!(balances.len(), 3);
    assert!(balances.is_sorted_by(|a, b| a >= b), "{balances:?}");
    let cursor = richest["next_cursor"].as_str().unwrap();
    let next = devnet.get(&format!("/rpc/addresses?limit=3&cursor={cursor}")).1;
    assert_ne!(next["addresses"][0]["address"], richest["addresses"][2]["address"]);
    let above = devnet.get("/rpc/addresses?min_balance=1000000000001&limit=100").1;
    assert!(above["addresses"].as_array().unwrap().len() < 10);
}

#[test]
fn a_claim_mints_once_and_is_shown_with_its_signatures() {
    let directory = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(directory.path());
    let before = devnet.get("/rpc/supply").1["total_supply"].as_u64().unwrap();
    let hashes = devnet.fill();
    let receipt = devnet.get("/rpc/receipts/r%2F1").1;
    assert_eq!(
        (&receipt["job_id"], receipt["minted_amount"].as_u64()),
        (&json!("job_1"), Some(2_625_000))
    );
    assert_eq!(receipt["payload"]["units"], 2500);
    assert_eq!(receipt["miner_signature"]["alg"], "Ed25519");
    assert_eq!(receipt["coordinator_attestations"].as_array().unwrap().len(), 1);
    assert_eq!(devnet.get("/rpc/receipts").1["receipts"][0], receipt);
    let supply = devnet.get("/rpc/supply").1;
    assert_eq!(supply["total_supply"].as_u64(), Some(before + 2_625_000));
    assert_eq!(supply["minted"], 2_625_000);
    let height = receipt["block_height"].as_u64().unwrap();
    assert_eq!(devnet.get(&format!("/rpc/blocks/{height}")).1["receipts"][0], receipt);
    assert_eq!(devnet.get("/rpc/receipts/none").0, 404);
    let proof = devnet.get("/rpc/proof/receipt/r%2F1").1;
    assert_eq!(
        (&proof["claimed"], proof["minted_amount"].as_u64()),
        (&json!(true), Some(2_625_000))
    );
    assert_eq!(devnet.get("/rpc/proof/receipt/none").1["claimed"], false);
    let proof = devnet.get(&format!("/rpc/proof/transaction/{}", hashes[2])).1;
    object_has(&proof, &["transaction", "proof", "header", "certificate", "validators"]);

    // A second claim, another receipt of the job, wrong units, an unknown job, a stranger.
    let claim = |sender: &str, receipt: &str, job: &str, units: u64| {
        let body = json!({"type": "RECEIPT_CLAIM", "sender": sender, "nonce": 0, "fee": 0,
            "payload": {"receipt_id": receipt, "job_id": job, "miner_addr": "miner-0",
                "client_addr": "client-0", "price": if job == "job_1" { 50000 } else { 25000 },
                "compute_units": units, "output_hash": "sha256:00"}});
        devnet.post("/rpc/sendTx", &body)
    };
    for (claimed, code) in [
        (claim("miner-0", "r/1", "job_1", 2500), "receipt_claimed"),
        (claim("miner-0", "r/2", "job_1", 2500), "already_attested"),
        (claim("miner-0", "r/3", "job_2", 9), "units_mismatch"),
        (claim("miner-0", "r/4", "job_999999", 1), "job_unknown"),
        (claim("bob", "r/5", "job_2", 1200), "provider_mismatch"),
    ] {
        assert_eq!(claimed.1["code"], code, "{claimed:?}");
        assert!(claimed.0 == 400 || claimed.0 == 422);
    }
    assert_eq!(devnet.get("/rpc/supply").1["minted"], 2_625_000);
}

fn transfer(key: &SecretKey, chain: &str, nonce: u64, amount: u64, fee: u64) -> Value {
    let to = SecretKey::from_seed([9; 32]).public_key().address();
    let transaction = Transaction::sign(
        key,
        chain.parse().unwrap(),
        Nonce::saturating(nonce),
        Amount::saturating(fee),
        None,
        Payload::Transfer { to, amount: Amount::saturating(amount) },
    );
    json!(TransactionJson::from(&transaction))
}

#[test]
fn signed_transactions_are_taken_and_everything_wrong_with_one_has_a_code() {
    let directory = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(directory.path());
    let (key, chain) = (devnet.alice(), "ait-devnet");
    let (status, sent) = devnet.post("/rpc/transaction", &transfer(&key, chain, 0, 5, 1));
    assert_eq!(status, 200, "{sent}");
    let hash = sent["tx_hash"].as_str().unwrap();
    let committed = devnet.committed(hash);
    // Spoken of by address only: shown by address.
    let address = key.public_key().address().to_string();
    assert_eq!(committed["sender"].as_str(), Some(address.as_str()));
    let digits = hash.trim_start_matches("0x").to_uppercase();
    for spelled in [hash.to_owned(), format!("0x{digits}"), digits] {
        assert_eq!(devnet.get(&format!("/rpc/tx/{spelled}")).1["tx_hash"], hash, "{spelled}");
    }
    let with = |field: &str, value: Value| {
        let mut body = transfer(&key, chain, 1, 5, 1);
        body[field] = value;
        body
    };
    let mut forged = transfer(&key, chain, 1, 5, 1);
    forged["payload"]["amount"] = json!(6);
    let other = SecretKey::from_seed([8; 32]).public_key();
    for (body, status, code) in [
        (transfer(&key, chain, 0, 6, 1), 400, "nonce_used"),
        (transfer(&key, "another", 1, 5, 1), 400, "wrong_chain"),
        (transfer(&key, chain, 5_000, 5, 1), 400, "nonce_too_far"),
        (transfer(&key, chain, 1, u64::MAX, u64::MAX), 400, "amount_overflow"),
        (transfer(&key, chain, 1, u64::MAX, 0), 400, "insufficient_funds"),
        (forged, 400, "bad_signature"),
        (with("sender", json!("bob")), 422, "transaction_invalid"),
        (with("sender", json!(other.address())), 422, "transaction_invalid"),
        (with("public_key", json!(other)), 422, "transaction_invalid"),
        (with("public_key", json!("0x12")), 422, "transaction_invalid"),
        (with("sig", json!("0xzz")), 422, "transaction_invalid"),
        (with("nonce", json!(-1)), 422, "transaction_invalid"),
        (with("nonce", json!(1.5)), 422, "transaction_invalid"),
        (with("nonce", json!("18446744073709551616")), 422, "transaction_invalid"),
        (with("fee", json!(1_u64 << 63)), 422, "transaction_invalid"),
        (with("chain_id", json!("")), 422, "transaction_invalid"),
        (with("type", json!("STAKE")), 422, "type_unsupported"),
        (with("type", json!(7)), 422, "type_unsupported"),
        (with("payload", json!([])), 422, "transaction_invalid"),
    ] {
        let (found, answer) = devnet.post("/rpc/sendTx", &body);
        assert_eq!((found, answer["code"].as_str()), (status, Some(code)), "{body}: {answer}");
        assert!(!answer["hint"].as_str().unwrap().is_empty(), "{answer}");
        // With a query it comes by the filters, and is the same.
        let (found, mut filtered) = devnet.post("/rpc/sendTx?by=filters", &body);
        filtered["request_id"] = answer["request_id"].clone();
        assert_eq!((found, filtered), (status, answer), "{body}");
    }
    // Integers may come as strings and whole floats; unknown fields are ignored.
    let mut lenient = transfer(&key, chain, 1, 5, 1);
    lenient["nonce"] = json!("1");
    lenient["fee"] = json!(1.0);
    lenient["comment"] = json!("hello");
    assert_eq!(devnet.post("/rpc/sendTx", &lenient).0, 200);
    let account = devnet.get(&format!("/rpc/getBalance/{address}")).1;
    let pending = account.get("pending_nonce").unwrap_or(&account["nonce"]);
    assert_eq!(pending, &json!(2), "{account}");
    // A gap waits, and says for what.
    let (status, gap) = devnet.post("/rpc/sendTx", &transfer(&key, chain, 3, 5, 1));
    assert_eq!(status, 200);
    let why = devnet.get(&format!("/rpc/tx/{}/why", gap["tx_hash"].as_str().unwrap())).1;
    assert_eq!((&why["status"], &why["code"]), (&json!("pending"), &json!("nonce_gap")));
    let listed = devnet.get("/rpc/mempool").1;
    assert!(listed.as_array().unwrap().iter().any(|tx| tx["hash"] == gap["tx_hash"]), "{listed}");
    assert_eq!(devnet.post("/rpc/sendTx", &transfer(&key, chain, 2, 5, 1)).0, 200);
    devnet.committed(gap["tx_hash"].as_str().unwrap());
    // The same one again is harmless while it is pending, and used once it is in a block.
    let (_, again) = devnet.post("/rpc/sendTx", &transfer(&key, chain, 3, 5, 1));
    assert_eq!(again["code"], "nonce_used");
    let unknown = devnet.get(&format!("/rpc/tx/0x{}/why", "0".repeat(64))).1;
    assert_eq!(unknown["status"], "unknown");
}

#[test]
fn a_batch_is_answered_in_its_order_as_each_would_be_alone() {
    let directory = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(directory.path());
    let (key, chain) = (devnet.alice(), "ait-devnet");
    let at = |nonce| transfer(&key, chain, nonce, 5, 1);
    // Plain ones only.
    let (status, sent) = devnet.post("/rpc/sendTxs", &json!([at(0), at(1)]));
    assert_eq!(status, 200, "{sent}");
    for one in sent.as_array().unwrap() {
        assert_eq!(one.as_object().unwrap().len(), 1, "{sent}");
        devnet.committed(one["tx_hash"].as_str().unwrap());
    }
    // All sorts.
    let mut forged = at(2);
    forged["payload"]["amount"] = json!(6);
    let mut lenient = at(3);
    lenient["fee"] = json!("1");
    let unsigned = json!({"type": "TRANSFER", "sender": "bob", "nonce": 0, "fee": 0,
        "payload": {"to": "carol", "amount": 1}});
    let (unknown, nothing) = (json!({"type": "STAKE"}), json!(7));
    let list = json!([at(0), at(2), forged, lenient, unsigned, unknown, nothing]);
    // Those that are refused are asked for alone first: what a refusal says of the next nonce
    // follows the last block, and the batch brings a block about.
    let alone = [0, 2, 5, 6].map(|index: usize| (index, devnet.post("/rpc/sendTx", &list[index])));
    let (status, sent) = devnet.post("/rpc/sendTxs", &list);
    assert_eq!((status, sent.as_array().unwrap().len()), (200, 7), "{sent}");
    for (index, (status, expected)) in alone {
        assert_eq!(sent[index]["status"], status, "{sent}");
        for field in ["detail", "code", "hint"] {
            assert_eq!(sent[index][field], expected[field], "{sent}");
        }
    }
    for hash in sent.as_array().unwrap().iter().filter_map(|one| one.get("tx_hash")) {
        devnet.committed(hash.as_str().unwrap());
    }
    let codes: Vec<_> = sent.as_array().unwrap().iter().map(|one| one["code"].clone()).collect();
    let expected = json!([
        "nonce_used",
        null,
        "bad_signature",
        null,
        null,
        "type_unsupported",
        "json_invalid"
    ]);
    assert_eq!(json!(codes), expected, "{sent}");

    // Canonical bytes, by the client that the load generator uses.
    let rest = ait_net::rest::RestClient::new(devnet.announced["rpc"].as_str().unwrap()).unwrap();
    let read = |body: Value| {
        let json: TransactionJson = serde_json::from_value(body).unwrap();
        Transaction::try_from(&json).unwrap()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let batch = [read(at(4)), read(at(4)), read(at(0)), read(at(5))];
    let items = runtime.block_on(rest.send_many(&batch)).unwrap();
    let codes: Vec<_> = items.iter().map(|item| item.code.as_deref()).collect();
    assert_eq!(codes, [None, None, Some("nonce_used"), None]);
    assert_eq!(items[3].tx_hash.as_deref(), Some(batch[3].hash().to_string().as_str()));
    devnet.committed(items[3].tx_hash.as_ref().unwrap());
    let bytes = [("content-type", "application/octet-stream")];
    let (status, _, body) = devnet.exchange("POST", "/rpc/sendTxs", &bytes, "no").unwrap();
    assert!(status == 422 && body.contains("begins at byte 0"), "{body}");

    // Not in its form, empty, and too much.
    for (body, status, code) in [
        (at(6), 422, "json_invalid"),
        (json!([]), 200, ""),
        (json!(vec![0; 4_097]), 413, "batch_too_large"),
    ] {
        let (found, answer) = devnet.post("/rpc/sendTxs", &body);
        assert_eq!((found, answer["code"].as_str().unwrap_or("")), (status, code), "{answer}");
    }
}

#[test]
fn fees_parameters_and_the_node_itself_can_be_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(directory.path());
    let fee = devnet.post("/rpc/estimateFee", &json!({"payload": {}})).1;
    assert_eq!(fee["payload_bytes"], 2);
    assert_eq!(
        (&fee["estimated_fee"], &fee["base_fee"], &fee["min_fee"]),
        (&json!(12), &json!(10), &json!(0))
    );
    let payload = json!({"type": "transfer", "payload": {"to": "bob", "amount": 1.0, "é": null}});
    let fee = devnet.post("/rpc/estimateFee", &payload).1;
    assert_eq!((&fee["type"], fee["payload_bytes"].as_u64()), (&json!("TRANSFER"), Some(25)));
    let params = devnet.get("/rpc/params").1;
    assert_eq!(params["params"]["mint_per_unit"], 1000);
    let info = devnet.get("/rpc/info").1;
    assert_eq!(
        (&info["chain_id"], &info["dev"], &info["height"]),
        (&json!("ait-devnet"), &json!(true), &json!(0))
    );
    let validators = devnet.get("/rpc/validators").1;
    assert_eq!(validators["validators"].as_array().unwrap().len(), 1);
    let status = devnet.get("/rpc/syncStatus").1;
    assert_eq!(
        (&status["total_blocks"], &status["validate_signatures"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(devnet.get("/rpc/test-endpoint").1, json!({"status": "updated_code_running"}));
    let (status, health) = devnet.get("/health");
    assert_eq!((status, &health["status"]), (200, &json!("ok")));
    object_has(&health, &["chain_id", "proposer_id"]);
    assert_eq!(devnet.get("/readyz").0, 200);
    let quote = devnet.post("/rpc/attest", &json!({"job_id": "job_1"})).1;
    assert_eq!((&quote["exists"], &quote["quote"]["compute_units"]), (&json!(true), &json!(2500)));
}

#[test]
fn parameters_change_with_the_token_alone() {
    let directory = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(directory.path());
    let token = devnet.announced["admin_token"].as_str().unwrap().to_owned();
    let set = |headers: &[(&str, &str)], body: &str| {
        let (status, _, body) =
            devnet.exchange("POST", "/rpc/admin/paramSet", headers, body).unwrap();
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    let body = r#"{"param": "mint_per_unit", "value": 5}"#;
    for headers in [&[][..], &[("authorization", "Bearer nonsense")], &[("x-admin-token", "")]] {
        let (status, answer) = set(headers, body);
        assert_eq!((status, answer["code"].as_str()), (401, Some("unauthorized")));
    }
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let typo = set(&headers, r#"{"param": "mint_per_unit", "valeu": 5}"#);
    assert_eq!((typo.0, typo.1["code"].as_str()), (422, Some("params_invalid")));
    let (status, answer) = set(&headers, body);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(devnet.get("/rpc/params").1["params"]["mint_per_unit"], 5);
    let (status, answer) = set(&headers, r#"{"param": "nothing", "value": 5}"#);
    assert!((400..=422).contains(&status), "{answer}");
}

#[test]
fn what_is_open_on_this_machine_is_closed_behind_a_proxy_and_to_other_sites() {
    let directory = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(directory.path());
    let send = json!({"type": "TRANSFER", "sender": "alice", "nonce": 0, "fee": 0,
        "payload": {"to": "bob", "amount": 1}})
    .to_string();
    let mint = json!({"address": "bob", "amount": 1}).to_string();
    for header in [
        ("x-forwarded-for", "192.0.2.1"),
        ("via", "1.1 proxy"),
        ("x-real-ip", "192.0.2.1"),
        ("origin", "https://example.org"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let (status, _, body) = devnet.exchange("POST", "/rpc/sendTx", &[header], &send).unwrap();
        assert_eq!(status, 403, "{body}");
        let mint = devnet.exchange("POST", "/rpc/admin/mintFaucet", &[header], &mint).unwrap();
        assert_eq!(mint.0, 401, "{}", mint.2);
    }
    assert_eq!(devnet.get("/rpc/head").1["height"], 0);
}

#[test]
fn rates_origins_and_request_ids_are_as_configured() {
    let directory = tempfile::tempdir().unwrap();
    let variables = [
        ("AIT_RPC_RATE_LIMIT_PER_MINUTE", "60"),
        ("AIT_RPC_RATE_LIMIT_BURST", "20"),
        ("AIT_RPC_CORS_ORIGINS", "https://explorer.example.org"),
    ];
    let devnet = Devnet::start_with(directory.path(), &variables);
    let origin = [("origin", "https://explorer.example.org"), ("x-request-id", "mine-1")];
    let (status, head, _) = devnet.exchange("GET", "/rpc/head", &origin, "").unwrap();
    assert_eq!(status, 200);
    assert!(head.contains("access-control-allow-origin: https://explorer.example.org"), "{head}");
    assert!(head.contains("x-request-id: mine-1"), "{head}");
    let foreign = [("origin", "https://example.org")];
    for (method, path) in [("GET", "/rpc/head"), ("POST", "/rpc/sendTx")] {
        let (status, _, body) = devnet.exchange(method, path, &foreign, "").unwrap();
        assert_eq!((status, body.contains("origin_forbidden")), (403, true), "{body}");
    }
    let (_, head, _) = devnet.exchange("POST", "/rpc/sendTx", &origin, "{}").unwrap();
    assert!(head.contains("access-control-allow-origin: https://explorer.example.org"), "{head}");
    let (_, head, _) = devnet.exchange("POST", "/rpc/sendTx", &origin[1..], "{}").unwrap();
    assert!(head.contains("x-request-id: mine-1"), "{head}");
    let (_, head, body) = devnet.exchange("GET", "/rpc/tx/zz", &[], "").unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    object_has(&body, &["detail", "code", "hint", "request_id"]);
    assert!(head.contains(&format!("x-request-id: {}", body["request_id"].as_str().unwrap())));
    let limited = (0..40).find_map(|_| {
        let (status, head, body) = devnet.exchange("GET", "/rpc/head", &[], "").unwrap();
        (status == 429).then_some((head, body))
    });
    let (head, body) = limited.unwrap();
    assert!(
        head.contains("retry-after: ") && body.contains("Rate limit exceeded"),
        "{head} {body}"
    );
}

#[test]
fn metrics_have_our_names_and_the_old_ones() {
    let directory = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(directory.path());
    devnet.fill();
    let (status, head, page) = devnet.exchange("GET", "/metrics", &[], "").unwrap();
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain"));
    for name in [
        "mempool_size 0",
        "chain_height ",
        "chain_transactions_total 3",
        "rpc_requests_total{route=\"send_tx\",status=\"200\"} 2",
        "rpc_request_duration_seconds_bucket{route=\"send_tx\",le=",
        "block_interval_seconds_count",
        "block_interval_seconds_sum",
        "rpc_send_tx_total 2",
        "rpc_submit_receipt_total 1",
        "rpc_send_tx_success_total 2",
        "rpc_send_tx_duration_seconds_sum",
        "blocks_proposed_total ",
        "chain_head_height ",
        "blockchain_block_height ",
        "mempool_queue_depth ",
        "poa_proposer_running 1",
        "circuit_breaker_state 0",
        "poa_blocks_proposed_total_ait1",
        "mempool_tx_drained_total 3",
    ] {
        assert!(page.contains(name), "{name} is missing in\n{page}");
    }
}

#[test]
fn documents_itself() {
    let directory = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(directory.path());
    let (status, document) = devnet.get("/openapi.json");
    assert_eq!((status, document["openapi"].as_str()), (200, Some("3.1.0")));
    // Every path without parameters that is only read answers, and as JSON where it says so.
    for (path, verbs) in document["paths"].as_object().unwrap() {
        let Some(get) = verbs.get("get").filter(|_| !path.contains('{')) else { continue };
        let (status, head, _) = devnet.exchange("GET", path, &[], "").unwrap();
        let needs_parameter = path == "/rpc/getBalance";
        assert!(needs_parameter || matches!(status, 200 | 303), "{path}: {status}");
        if status == 200 && get["responses"]["200"]["content"]["application/json"].is_object() {
            assert!(head.contains("content-type: application/json"), "{path}: {head}");
        }
    }
    let (_, head, page) = devnet.exchange("GET", "/docs", &[], "").unwrap();
    assert!(head.contains("text/html") && page.contains("/openapi.json"));
    assert!(!page.contains("https://") && !page.contains("src=\"//"), "the page asks another site");
    let (status, answer) = devnet.get("/rpc/nothing");
    assert_eq!((status, answer["detail"].as_str()), (404, Some("Not Found")));
    let (status, answer) = devnet.get("/rpc/sendTx");
    assert_eq!((status, answer["detail"].as_str()), (405, Some("Method Not Allowed")));
    assert_eq!(devnet.exchange("HEAD", "/rpc/head", &[], "").unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_hear_of_transactions_blocks_and_receipts() {
    let directory = tempfile::tempdir().unwrap();
    let devnet = std::sync::Arc::new(Devnet::start(directory.path()));
    let host = devnet.announced["rpc"].as_str().unwrap().replace("http://", "");
    let connect = async |topic: &str| {
        tokio_tungstenite::connect_async(format!("ws://{host}/rpc/ws/{topic}")).await.unwrap().0
    };
    let (mut blocks, mut transactions, mut receipts) =
        (connect("blocks").await, connect("transactions").await, connect("receipts").await);
    let unknown = tokio_tungstenite::connect_async(format!("ws://{host}/rpc/ws/nothing")).await;
    assert!(unknown.is_err());
    let plain = devnet.get("/rpc/ws/blocks");
    assert_eq!((plain.0, plain.1["code"].as_str()), (426, Some("upgrade_required")));
    let stream = std::net::TcpStream::connect(&host).unwrap();
    let events = std::thread::spawn({
        let host = host.clone();
        move || {
            use std::io::{BufRead, BufReader, Write};
            let mut stream = stream;
            write!(stream, "GET /rpc/events/blocks HTTP/1.1\r\nhost: {host}\r\n\r\n").unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let lines = BufReader::new(stream).lines().map(Result::unwrap);
            lines.filter(|line| line.starts_with("data:")).take(1).collect::<String>()
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let filled = std::sync::Arc::clone(&devnet);
    let hashes = tokio::task::spawn_blocking(move || filled.fill()).await.unwrap();
    async fn next<S>(socket: &mut S) -> Value
    where
        S: futures_util::Stream<
                Item = Result<
                    tokio_tungstenite::tungstenite::Message,
                    tokio_tungstenite::tungstenite::Error,
                >,
            > + Unpin,
    {
        let message = tokio::time::timeout(Duration::from_secs(10), socket.next()).await;
        serde_json::from_str(message.unwrap().unwrap().unwrap().to_text().unwrap()).unwrap()
    }
    let transaction = next(&mut transactions).await;
    assert_eq!(
        (&transaction["tx_hash"], &transaction["sender"]),
        (&json!(hashes[0]), &json!("alice"))
    );
    object_has(&transaction, &["recipient", "payload", "nonce", "fee", "type"]);
    let block = next(&mut blocks).await;
    object_has(&block, &["height", "hash", "parent_hash", "timestamp", "tx_count"]);
    assert_eq!(block["height"], 1);
    assert_eq!(next(&mut receipts).await["receipt_id"], "r/1");
    let event = tokio::task::spawn_blocking(|| events.join().unwrap()).await.unwrap();
    let event: Value = serde_json::from_str(event.trim_start_matches("data:")).unwrap();
    assert_eq!(event["height"], 1);
}
