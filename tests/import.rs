//! `blocks/import` and `importBlock` over HTTP: blocks of every kind come through whole, and
//! everything else is refused with its code and the old words.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "common/follower.rs"]
mod follower;
#[path = "../engine/tests/common/mod.rs"]
mod world;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use ait_engine::block::Block;
use ait_engine::certificate::{Certificate, CommitSignature};
use ait_engine::transaction::Kind;
use ait_engine::types::{BlockId, Round, StateRoot};
use ait_engine::vote::{Vote, VoteKind};
use ait_net::wire::canonical_block;
use ait_node::archive::ArchiveReader;
use ait_node::import::{ImportBlock, ImportDesk, Imported};
use follower::Follower;
use serde_json::{Value, json};
use world::{VALIDATOR, address, key};

/// The golden chain: its genesis document and its blocks.
fn golden() -> (String, Vec<ImportBlock>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/blocks/golden.ait");
    let mut archive = ArchiveReader::begin(std::fs::File::open(path).unwrap()).unwrap();
    let mut blocks = Vec::new();
    while let Some((block, certificate)) = archive.next_block().unwrap() {
        blocks.push(ImportBlock { block, certificate });
    }
    (archive.genesis().to_owned(), blocks)
}

/// A node with the golden chain.
fn source() -> (String, Follower) {
    let (genesis, blocks) = golden();
    let source = Follower::start(&genesis);
    for block in blocks {
        assert_eq!(source.import(block), Ok(Imported::Committed));
    }
    (genesis, source)
}

/// A certificate of the golden chain's only validator.
fn certify(block: &Block) -> Certificate {
    let (height, id) = (block.header.height, block.header.id());
    let (kind, round, validator) = (VoteKind::Precommit, Round::ZERO, address(VALIDATOR));
    let vote = Vote { kind, height, round, block_id: Some(id), validator };
    let signature = key(VALIDATOR).sign(vote.sign_hash(&block.header.chain_id).as_bytes());
    Certificate::new(height, round, id, vec![CommitSignature { validator, signature }])
}

fn canonical(import: &ImportBlock) -> Value {
    json!({ "canonical": canonical_block(&import.block, &import.certificate) })
}

#[test]
fn every_kind_of_transaction_comes_through_both_forms_whole() {
    let (genesis, source) = source();
    let (by_view, by_bytes) = (Follower::start(&genesis), Follower::start(&genesis));
    let mut kinds = BTreeSet::new();
    for height in 1..=source.height() {
        let (status, view) = source.get(&format!("/rpc/blocks/{height}"));
        assert_eq!((status, view.get("canonical")), (200, None));
        let imported = json!({"status": "imported", "height": height, "hash": view["hash"],
            "tx_count": view["tx_count"]});
        let exists = json!({"status": "exists", "height": height, "hash": view["hash"]});
        assert_eq!(by_view.post("/rpc/blocks/import", &view), (200, imported));
        assert_eq!(by_view.post("/rpc/blocks/import", &view), (200, exists));

        let (_, whole) = source.get(&format!("/rpc/blocks/{height}?canonical=true"));
        let body = json!({ "canonical": whole["canonical"] });
        let (_, outcome) = by_bytes.post("/rpc/importBlock", &body);
        let appended = json!({"accepted": true, "height": height, "hash": view["hash"],
            "reason": "Appended to chain", "reorged": false, "reorg_depth": 0});
        assert_eq!(outcome, appended);
        let (_, outcome) = by_bytes.post("/rpc/importBlock", &body);
        assert_eq!(
            (&outcome["accepted"], &outcome["reason"]),
            (&json!(true), &json!("Block already exists"))
        );

        let (ours, theirs) = (source.block(height), by_view.block(height));
        assert_eq!((&ours, &ours), (&theirs, &by_bytes.block(height)));
        kinds.extend(ours.block.transactions.iter().map(|one| one.payload.kind().name()));
    }
    assert_eq!(kinds.len(), Kind::ALL.len(), "the golden chain has not every kind: {kinds:?}");
    assert_eq!((source.root(), source.root()), (by_view.root(), by_bytes.root()));

    let (_, range) = source.get("/rpc/blocks-range?start=0&end=99&canonical=true");
    assert_eq!(range["count"], source.height() + 1);
    assert_eq!(range["blocks"][0].get("canonical"), None, "genesis has no certificate");
    assert_eq!(range["blocks"][1]["canonical"], canonical(&source.block(1))["canonical"]);
    let (status, error) = source.get("/rpc/blocks-range?start=1&end=101&canonical=true");
    assert_eq!((status, &error["detail"]), (400, &json!("range cannot exceed 100 blocks")));
    let (_, plain) = source.get("/rpc/blocks-range?start=1&end=2");
    assert_eq!(plain["blocks"][0].get("canonical"), None);
}

#[test]
fn refuses_with_the_old_words_in_the_old_order() {
    let (genesis, source) = source();
    let node = Follower::start(&genesis);
    let view = |height: u64| source.get(&format!("/rpc/blocks/{height}")).1;
    let other = BlockId([9; 32]).to_string();
    let with = |mut body: Value, field: &str, value: Value| {
        body[field] = value;
        body
    };
    let first = view(1);
    let refused = |body: &Value, status: u16, code: &str, detail: &str| {
        let (found, error) = node.post("/rpc/blocks/import", body);
        assert_eq!(
            (found, &error["code"], &error["detail"]),
            (status, &json!(code), &json!(detail))
        );
        assert_ne!(error["hint"], "", "{code} has no hint");
        let (status, outcome) = node.post("/rpc/importBlock", body);
        let code = json!(code);
        assert_eq!((status, &outcome["accepted"], &outcome["code"]), (200, &json!(false), &code));
        outcome["reason"].as_str().unwrap().to_owned()
    };
    // The parent before the hash, and the hash before the rest.
    let orphan = with(with(first.clone(), "parent_hash", json!(other)), "hash", json!(other));
    let reason = refused(&orphan, 400, "unknown_parent", "Parent block not found");
    assert_eq!(reason, "Parent block not found");
    let reason = refused(&view(3), 400, "unknown_parent", "Parent block not found");
    assert_eq!(reason, "Gap detected (our height: 0, received: 3)");
    let expected = first["hash"].as_str().unwrap();
    let detail = format!("Invalid block hash. Expected: {expected}, Got: {other}");
    refused(&with(first.clone(), "hash", json!(other)), 400, "bad_hash", &detail);

    // As the old sync client sends it: without header and certificate.
    let names = [
        "height",
        "hash",
        "parent_hash",
        "proposer",
        "timestamp",
        "tx_count",
        "state_root",
        "transactions",
        "receipts",
    ];
    let old: Value = names.iter().map(|name| ((*name).to_owned(), first[*name].clone())).collect();
    refused(&old, 422, "certificate_missing", "the block has no certificate");
    let zero = with(first.clone(), "height", json!(0));
    refused(&zero, 422, "block_invalid", "height: Input should be greater than 0");
    let body = json!({ "canonical": "AAAA" });
    let (status, error) = node.post("/rpc/blocks/import", &body);
    assert_eq!((status, &error["code"]), (422, &json!("block_invalid")), "{error}");
    let (status, error) = node.post("/rpc/blocks/import", &json!([]));
    assert_eq!((status, &error["code"]), (422, &json!("json_invalid")));

    assert_eq!(node.post("/rpc/blocks/import", &first).0, 200);
    assert_eq!(node.post("/rpc/blocks/import", &old).1["status"], "exists");
    // The height before the parent.
    let fork = with(orphan, "height", json!("1"));
    let detail = "Block at height 1 already exists with different hash";
    let reason = refused(&fork, 409, "conflict", detail);
    assert!(reason.starts_with("Fork rejected: our chain is longer or equal ("), "{reason}");
    assert_eq!(node.height(), 1);
}

#[test]
fn forged_and_foreign_blocks_are_refused_and_nothing_is_applied() {
    let (genesis, blocks) = golden();
    let node = Follower::start(&genesis);
    let refused = |body: &Value, status: u16, code: &str| {
        let (found, error) = node.post("/rpc/blocks/import", body);
        assert_eq!((found, &error["code"]), (status, &json!(code)), "{error}");
        assert_eq!(node.height(), 0);
    };
    let good = &blocks[0];

    let mut foreign = good.clone();
    foreign.block.header.chain_id = "elsewhere".parse().unwrap();
    foreign.certificate = certify(&foreign.block);
    refused(&canonical(&foreign), 400, "other_chain");

    let mut altered = good.clone();
    altered.block.header.state_root = StateRoot([1; 32]);
    refused(&canonical(&altered), 400, "bad_certificate");
    let mut of_other = good.clone();
    of_other.certificate = blocks[1].certificate.clone();
    refused(&canonical(&of_other), 400, "bad_certificate");
    let empty =
        Certificate::new(good.block.header.height, Round::ZERO, good.block.header.id(), vec![]);
    refused(
        &canonical(&ImportBlock { certificate: empty, ..good.clone() }),
        400,
        "bad_certificate",
    );

    let mut swapped = good.clone();
    swapped.block.transactions[0].signature.0[5] ^= 1;
    refused(&canonical(&swapped), 400, "bad_body");

    // What no honest quorum signs: a wrong root, and a transaction with a bad signature.
    let certified = |change: &dyn Fn(&mut Block)| {
        let mut block = good.block.clone();
        change(&mut block);
        let certificate = certify(&block);
        ImportBlock { block, certificate }
    };
    refused(
        &canonical(&certified(&|block| {
            block.transactions[0].signature.0[5] ^= 1;
            let (leaves, _) = ait_engine::block::transaction_leaves(&block.transactions);
            block.header.transactions_root = ait_engine::list::root(&leaves);
        })),
        400,
        "bad_body",
    );
    let wrong_root = certified(&|block| block.header.state_root = StateRoot([1; 32]));
    refused(&canonical(&wrong_root), 503, "bad_root");

    assert_eq!(node.post("/rpc/blocks/import", &canonical(good)).0, 200);
    assert_eq!(node.height(), 1);
}

#[test]
fn who_sends_a_good_block_is_not_blamed_for_a_forged_one_before_it() {
    let (genesis, blocks) = golden();
    let node = Follower::start(&genesis);
    let mut forged = blocks[0].clone();
    forged.block.header.state_root = StateRoot([1; 32]);
    let importer = node.node.importer();
    // In one line, so that they are verified together.
    let bad: Vec<_> = (0..20).map(|_| importer.hand_in(forged.clone()).unwrap()).collect();
    let good = importer.hand_in(blocks[0].clone()).unwrap();
    let first = node.block_on(async { bad.into_iter().next().unwrap().await.unwrap() });
    assert!(first.unwrap_err().is_senders_fault());
    let good = node.block_on(async { good.await.unwrap() });
    // Either it is here, or it is to come again.
    assert!(good.is_ok() || good.is_err_and(|error| !error.is_senders_fault()));
}

#[test]
fn says_when_it_cannot_import() {
    let (genesis, blocks) = golden();
    let node = Follower::start(&genesis);
    let body = canonical(&blocks[0]).to_string();
    let asked = |url: &str| {
        let (status, error) = node.post_at(url, "/rpc/blocks/import", body.clone());
        (status, error["code"].as_str().unwrap_or_default().to_owned())
    };
    let none = node.serve(|backend| backend.importer = None);
    assert_eq!(asked(&none), (503, "not_importing".to_owned()));
    // Nobody takes from this queue of one.
    let (importer, desk) = ImportDesk::new(1);
    let full = node.serve(|backend| backend.importer = Some(importer.clone()));
    let waiting = importer.hand_in(blocks[0].clone()).unwrap();
    assert_eq!(asked(&full), (503, "busy".to_owned()));
    drop((waiting, desk));
    assert_eq!(asked(&full), (503, "stopping".to_owned()));
    assert_eq!(asked(&node.url), (200, String::new()));
}

/// Status and code of the answer to a body of this stated length, of which nothing is sent:
/// who sends it all may be cut off before the answer.
fn of_length(url: &str, path: &str, length: u64) -> (u16, String) {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    (answer[9..12].parse().unwrap(), body["code"].as_str().unwrap().to_owned())
}

#[test]
fn takes_bodies_as_long_as_a_block_and_no_longer() {
    let (genesis, blocks) = golden();
    let node = Follower::start(&genesis);
    let too_large = (413, "body_too_large".to_owned());
    assert_eq!(of_length(&node.url, "/rpc/sendTx", 2 << 20), too_large);
    let mut body = canonical(&blocks[0]);
    body["note"] = json!("x".repeat(8 << 20));
    assert_eq!(node.post("/rpc/blocks/import", &body).0, 200);
    // As long as all may be together, which is less than 8 times block_bytes_max and 1 MiB.
    for path in ["/rpc/blocks/import", "/rpc/importBlock"] {
        assert_eq!(of_length(&node.url, path, (64 << 20) + 1), too_large);
    }
    // Two large bodies under way keep a third one waiting, and small ones not.
    let stuck: Vec<_> = (0..2).map(|_| begin_body(&node.url, 3 << 20)).collect();
    assert_eq!(of_length(&node.url, "/rpc/blocks/import", 3 << 20), (503, "busy".to_owned()));
    assert_eq!(node.post("/rpc/blocks/import", &canonical(&blocks[1])).0, 200);
    // Who sends nothing, or next to nothing, loses the place long before the idle time-out.
    let began = std::time::Instant::now();
    let mut body = canonical(&blocks[2]);
    body["note"] = json!("x".repeat(3 << 20));
    while node.post("/rpc/blocks/import", &body).0 != 200 {
        assert!(began.elapsed() < std::time::Duration::from_secs(30), "the places stay taken");
    }
    drop(stuck);
}

/// A request whose body never comes.
fn begin_body(url: &str, length: u64) -> TcpStream {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    let head = format!(
        "POST /rpc/blocks/import HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    stream
}
