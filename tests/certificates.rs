//! Certificates that a disk altered: the node gives them to nobody and says that it has them.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;

use common::{Devnet, height, init, make_block, run, until, validator_key};
use serde_json::json;

const BLOCKS: u64 = 40;

/// The first signature of the certificate of a block.
fn signature(node: &Devnet, height: u64) -> Vec<u8> {
    let block = node.get(&format!("/rpc/blocks/{height}")).1;
    let signature = block["certificate"]["signatures"][0]["signature"].as_str().unwrap();
    hex::decode(signature.trim_start_matches("0x")).unwrap()
}

/// Flips a bit of a signature wherever the store of blocks has it.
fn flip(directory: &Path, signature: &[u8]) {
    let path = directory.join("chain/blocks.redb");
    let mut bytes = fs::read(&path).unwrap();
    let windows = bytes.windows(signature.len()).enumerate();
    let found: Vec<_> = windows.filter(|(_, part)| *part == signature).map(|(at, _)| at).collect();
    assert!(!found.is_empty());
    for at in found {
        bytes[at + 40] ^= 4;
    }
    fs::write(&path, bytes).unwrap();
}

/// Status, code and reason of `/readyz`.
fn ready(node: &Devnet) -> (u16, String, String) {
    let (status, said) = node.get("/readyz");
    let text = |field: &str| said[field].as_str().unwrap_or_default().to_owned();
    (status, text("code"), text("detail"))
}

#[test]
fn an_altered_certificate_is_given_to_nobody_and_the_node_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (at_a, at_b) = (folder.path().join("a"), folder.path().join("b"));
    init(&at_a, &["--new-chain", "my-chain", "--no-passphrase"]);
    let a = run(&at_a, &["--block-interval", "1ms"]);
    let key = validator_key(&at_a);
    for _ in 0..BLOCKS {
        make_block(&a, &key);
    }
    let (old, newest) = (signature(&a, 15), signature(&a, BLOCKS));
    a.kill();

    // One that nobody has asked for since the start.
    flip(&at_a, &old);
    let a = run(&at_a, &[]);
    assert_eq!(ready(&a).0, 200);
    init(&at_b, &["--genesis", &at_a.join("genesis.json").display().to_string()]);
    let b = run(&at_b, &["--follow", "--peer", a.announced["p2p"].as_str().unwrap()]);
    until("the node says so", || ready(&a).0 == 503);
    let (_, code, reason) = ready(&a);
    assert_eq!(code, "database_corrupt");
    assert!(reason.contains("the certificate of block 15 proves nothing"), "{reason}");
    assert!(a.stderr().contains("the certificate of block 15"), "{}", a.stderr());
    until("what comes before is given", || height(&b) == 14);
    let peers = b.get("/rpc/peers").1;
    assert_eq!(
        (&peers["connected"], &peers["peers"][0]["fault_points"]),
        (&json!(1), &json!(0)),
        "{peers}"
    );
    let (status, said) = a.get("/rpc/blocks/15");
    assert_eq!((status, said["code"].as_str()), (503, Some("database_corrupt")), "{said}");
    assert_eq!(a.get("/rpc/blocks/14").0, 200);
    a.kill();
    b.kill();

    // The newest, which every proof leads to.
    flip(&at_a, &newest);
    let a = run(&at_a, &["--block-interval", "1ms"]);
    let (status, _, reason) = ready(&a);
    assert_eq!(status, 503);
    assert!(reason.contains(&format!("the certificate of block {BLOCKS} ")), "{reason}");
    let account = format!("/rpc/proof/account/{}", key.public_key().address());
    assert_eq!(a.get(&account).0, 503);
    // Of the next block there is nothing to say against.
    make_block(&a, &key);
    assert_eq!(a.get(&account).0, 200);
    assert_eq!(a.get("/health").0, 200);
}
