//! Blocks as large as they get, and what it costs to read them over HTTP.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "common/follower.rs"]
mod follower;
#[path = "../engine/tests/common/mod.rs"]
mod world;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::{fs, thread};

use ait_engine::block::Block;
use ait_engine::certificate::{Certificate, CommitSignature};
use ait_engine::transaction::{Transaction, VerifiedTransaction, verify_transactions};
use ait_engine::types::{Nonce, Round};
use ait_engine::vote::{Vote, VoteKind};
use ait_node::http::ANSWER_BYTES_MAX;
use ait_node::import::{ImportBlock, Imported};
use ait_node::rpc::BLOCKS_BYTES_MAX;
use follower::Follower;
use world::{ALICE, BOB, VALIDATOR, World, address, amount, chain, key, transfer};

/// Transfers that fill a block of the default `block_bytes_max`.
const FULL: u64 = 45_000;
/// Small blocks after it, so that it is no longer among those in memory.
const SMALL: u64 = 70;

fn certified(block: Block) -> ImportBlock {
    let (height, block_id) = (block.header.height, block.header.id());
    let (kind, round, validator) = (VoteKind::Precommit, Round::ZERO, address(VALIDATOR));
    let vote = Vote { kind, height, round, block_id: Some(block_id), validator };
    let signature = key(VALIDATOR).sign(vote.sign_hash(&block.header.chain_id).as_bytes());
    let signatures = vec![CommitSignature { validator, signature }];
    ImportBlock { block, certificate: Certificate::new(height, round, block_id, signatures) }
}

fn transfers(nonces: std::ops::Range<u64>) -> Vec<VerifiedTransaction> {
    let (key, chain) = (key(ALICE), chain());
    let sign = |nonce| {
        let (nonce, payload) = (Nonce::saturating(nonce), transfer(BOB, 1));
        Transaction::sign(&key, chain, nonce, amount(100), None, payload)
    };
    let all = verify_transactions(nonces.map(sign).collect(), None);
    all.into_iter().map(Result::unwrap).collect()
}

/// A node whose first block is full, and the hash of its last transaction.
fn with_a_full_block() -> (Follower, String) {
    let mut document = world::document(&[("block_transactions_max", FULL)]);
    document.accounts[0].balance = amount(1 << 40);
    let mut world = World::of(&document, &[]);
    let follower = Follower::start(&serde_json::to_string(&document).unwrap());
    let mut last = String::new();
    let mut next = 0;
    for count in std::iter::once(FULL).chain((0..SMALL).map(|_| 1)) {
        let transactions = transfers(next..next + count);
        next += count;
        let (block, transition) = world.build(&transactions);
        world.state.apply(&transition.writes);
        world.parent = block.header.clone();
        if count == FULL {
            assert!(block.header.body_bytes > 7 << 20, "{}", block.header.body_bytes);
            last = transactions.last().unwrap().hash().to_string();
        }
        assert_eq!(follower.import(certified(block)), Ok(Imported::Committed));
    }
    assert!(follower.node.chain().wait_until_indexed(std::time::Duration::from_secs(60)));
    (follower, last)
}

/// Reads so many other blocks that the first is no longer in memory.
fn forget(node: &Follower, url: &str) {
    for height in 2..2 + SMALL {
        assert_eq!(node.get_at(url, &format!("/rpc/blocks/{height}")).0, 200);
    }
}

/// Status of the answer, and how many bytes it has.
fn length_of(url: &str, path: &str) -> (u16, usize) {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let (mut piece, mut status, mut length) = (vec![0; 64 << 10], 0, 0);
    loop {
        let count = stream.read(&mut piece).unwrap();
        if count == 0 {
            return (status, length);
        }
        if length == 0 {
            status = std::str::from_utf8(&piece[9..12]).unwrap().parse().unwrap();
        }
        length += count;
    }
}

/// Resident bytes now, or at most since it was asked with `clear_refs`.
fn resident(field: &str) -> usize {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn reading_full_blocks_holds_a_bounded_amount_and_counts_for_the_rate() {
    let (node, last) = with_a_full_block();
    let free = node.serve_as(|_, options| options.rate_limit_per_minute = 0);
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = resident("VmRSS:");
    let (mut whole, mut asked) = (0, 0);
    thread::scope(|scope| {
        let readers = (0..8).map(|_| scope.spawn(|| length_of(&free, "/rpc/blocks/1")));
        for reader in readers.collect::<Vec<_>>() {
            let (status, length) = reader.join().unwrap();
            assert!(matches!((status, length > 30 << 20), (200, true) | (503, false)), "{status}");
            whole += usize::from(status == 200);
            asked += 1;
        }
    });
    assert!(whole > 0, "none of {asked} had the block");
    // The table of specs/security.md, and what the allocator keeps.
    let bound = ANSWER_BYTES_MAX + 11 * BLOCKS_BYTES_MAX as usize + (64 << 20);
    let peak = resident("VmHWM:").saturating_sub(before);
    assert!(peak < bound, "{} MiB of {} MiB", peak >> 20, bound >> 20);

    let limited = node.serve_as(|_, options| {
        (options.rate_limit_per_minute, options.rate_limit_burst) = (1, 100);
    });
    let status = |path: &str| node.get_at(&limited, path).0;
    // Written out whole, it costs some thirty requests, and so three times at most.
    let given = (0..9).take_while(|_| status("/rpc/blocks/1") == 200).count();
    assert!((2..=3).contains(&given), "{given}");
    assert_eq!(status("/rpc/blocks/2"), 200, "a small block costs one");
    // A history reads a block once, however much of it stands there.
    let listed = node.serve_as(|_, options| {
        (options.rate_limit_per_minute, options.rate_limit_burst) = (1, 100);
    });
    forget(&node, &free);
    let (status, page) =
        node.get_at(&listed, &format!("/rpc/address/{}?limit=100", address(ALICE)));
    let heights = page["latest_sent"].as_array().unwrap().iter().map(|one| &one["block_height"]);
    assert_eq!((status, heights.filter(|height| **height == 1).count()), (200, 30));
    let left = (0..100).take_while(|_| node.get_at(&listed, "/rpc/head").0 == 200).count();
    assert!((60..75).contains(&left), "{left}");
    // What is in memory costs nothing more.
    let again = node.serve_as(|_, options| {
        (options.rate_limit_per_minute, options.rate_limit_burst) = (1, 50);
    });
    let path = format!("/rpc/tx/{last}");
    assert!((0..20).all(|_| node.get_at(&again, &path).0 == 200));
}
