#![allow(clippy::unwrap_used)]
use std::collections::BTreeSet;
use std::sync::Arc;

use ait_engine::block::{Block, Header, PROTOCOL_VERSION};
use ait_engine::certificate::Certificate;
use ait_engine::crypto::SecretKey;
use ait_engine::transaction::{Payload, Transaction, VerifiedTransaction};
use ait_engine::types::{
    Address, Amount, BlockId, ChainId, Hash, Height, Nonce, Round, StateRoot, TimestampMs, TxHash,
};

use super::mempool::PUSH_COUNT_MAX;
use super::remote::{BACKOFF_MS_MAX, SET_ASIDE_MS};
use super::*;

const GENESIS: BlockId = BlockId([7; 32]);
const INTERVAL: u64 = 10_000;

fn height(value: u64) -> Height {
    Height::saturating(value)
}

fn block(at: u64) -> RemoteBlock {
    let header = Header {
        version: PROTOCOL_VERSION,
        chain_id: "test".parse::<ChainId>().unwrap(),
        height: height(at),
        parent: BlockId([0; 32]),
        time: TimestampMs::saturating(at),
        proposer: Address::ZERO,
        transactions_root: Hash([0; 32]),
        outcomes_root: Hash([0; 32]),
        state_root: StateRoot([0; 32]),
        validators_hash: Hash([0; 32]),
        next_validators_hash: Hash([0; 32]),
        transaction_count: 0,
        body_bytes: 0,
    };
    let certificate = Certificate::new(header.height, Round::ZERO, header.id(), vec![]);
    (Block { header, transactions: vec![] }, certificate)
}

fn transaction(nonce: u64) -> Transaction {
    let payload = Payload::Transfer { to: Address([1; 32]), amount: Amount::saturating(1) };
    let key = SecretKey::from_seed([5; 32]);
    let (chain, nonce) = ("test".parse().unwrap(), Nonce::saturating(nonce));
    Transaction::sign(&key, chain, nonce, Amount::ZERO, None, payload)
}

fn core(remotes: usize, mempool: bool) -> CrossSite {
    let options = CrossSiteOptions {
        genesis: GENESIS,
        height: Height::ZERO,
        remotes,
        poll_interval_ms: INTERVAL,
        mempool,
        seed: 3,
    };
    CrossSite::new(0, options)
}

fn head(at: u64) -> Result<RemoteHead, Failure> {
    Ok(RemoteHead { genesis: GENESIS, height: height(at) })
}

fn down() -> Failure {
    Failure::Unreachable("down".to_owned())
}

/// What is to be done, short.
fn shown(effects: &[Effect]) -> Vec<String> {
    let show = |effect: &Effect| match effect {
        Effect::AskHead(remote) => format!("ask {remote}"),
        Effect::FetchBlocks(remote, from, to) => format!("fetch {remote} {from}-{to}"),
        Effect::Import(remote, blocks) => format!("import {remote} {}", blocks.len()),
        Effect::FetchMempool(remote, after) => format!("mempool {remote} {after:?}"),
        Effect::Submit(remote, all) => format!("submit {remote} {}", all.len()),
        Effect::ListPending(remote, after) => format!("list {remote} {after:?}"),
        Effect::Push(remote, all) => format!("push {remote} {}", all.len()),
    };
    effects.iter().map(show).collect()
}

fn reason(core: &CrossSite, remote: Remote) -> RemoteReason {
    core.status(0)[remote].reason
}

#[test]
fn fetches_the_next_range_while_one_is_imported() {
    let mut core = core(1, false);
    assert_eq!(shown(&core.handle(1_001, Input::Tick)), ["ask 0"]);
    assert_eq!(shown(&core.handle(1_002, Input::Tick)), [""; 0], "asked once");
    assert_eq!(shown(&core.handle(1_010, Input::Head(0, head(250)))), ["fetch 0 1-100"]);
    let blocks = |range: std::ops::RangeInclusive<u64>| {
        Input::Blocks(0, height(*range.start()), Ok(range.map(block).collect()))
    };
    let effects = core.handle(1_020, blocks(1..=100));
    assert_eq!(shown(&effects), ["import 0 100", "fetch 0 101-200"]);
    // Fewer than were asked for: the rest is asked for once these are taken.
    assert_eq!(shown(&core.handle(1_030, blocks(101..=150))), [""; 0]);
    assert_eq!(reason(&core, 0), RemoteReason::Fetching);
    core.handle(1_040, Input::LocalHead(height(100)));
    let effects = core.handle(1_040, Input::Imported(0, 100, None));
    assert_eq!(shown(&effects), ["import 0 50", "fetch 0 151-250"]);
    assert_eq!(shown(&core.handle(1_050, blocks(151..=250))), [""; 0]);
    core.handle(1_060, Input::LocalHead(height(150)));
    assert_eq!(shown(&core.handle(1_060, Input::Imported(0, 50, None))), ["import 0 100"]);
    core.handle(1_070, Input::LocalHead(height(250)));
    assert_eq!(shown(&core.handle(1_070, Input::Imported(0, 100, None))), [""; 0]);
    assert_eq!(reason(&core, 0), RemoteReason::InSync);
    // The next poll comes an interval later, a tenth sooner or later.
    let next = core.next_tick_ms().unwrap() - 1_010;
    assert!((INTERVAL * 9 / 10..=INTERVAL * 11 / 10).contains(&next), "{next}");
}

#[test]
fn backs_off_up_to_a_cap_and_comes_back() {
    let mut core = core(1, false);
    let mut now = INTERVAL;
    let mut pauses = Vec::new();
    for _ in 0..12 {
        assert_eq!(shown(&core.handle(now, Input::Tick)), ["ask 0"]);
        core.handle(now, Input::Head(0, Err(down())));
        let next = core.next_tick_ms().unwrap();
        assert_eq!(core.status(now)[0].retry_in_ms, Some(next - now));
        assert_eq!(shown(&core.handle(next - 1, Input::Tick)), [""; 0]);
        pauses.push(next - now);
        now = next;
    }
    assert!(pauses[0] >= 2 * INTERVAL && pauses[2] >= 8 * INTERVAL, "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= BACKOFF_MS_MAX * 9 / 8 + 1), "{pauses:?}");
    assert_eq!(reason(&core, 0), RemoteReason::Unreachable);
    assert_eq!(shown(&core.handle(now, Input::Tick)), ["ask 0"]);
    core.handle(now, Input::Head(0, head(0)));
    let status = core.status(now + 5).remove(0);
    assert_eq!((status.reason, status.success_ms_ago), (RemoteReason::InSync, Some(5)));
    assert_eq!((status.last_error, status.retry_in_ms), (None, None));
}

#[test]
fn a_remote_of_another_chain_is_left_alone() {
    let mut core = core(1, true);
    core.handle(INTERVAL, Input::Tick);
    let other = RemoteHead { genesis: BlockId([8; 32]), height: height(99) };
    assert_eq!(shown(&core.handle(INTERVAL, Input::Head(0, Ok(other)))), [""; 0]);
    let status = core.status(INTERVAL).remove(0);
    assert_eq!(status.reason, RemoteReason::OtherChain);
    assert!(status.last_error.unwrap().contains(&GENESIS.to_string()));
    assert!(status.retry_in_ms.unwrap() >= SET_ASIDE_MS);
    assert_eq!(shown(&core.handle(INTERVAL + SET_ASIDE_MS - 1, Input::Tick)), [""; 0]);
}

#[test]
fn after_bad_blocks_another_remote_is_asked() {
    let mut core = core(2, false);
    core.handle(INTERVAL, Input::Tick);
    assert_eq!(shown(&core.handle(INTERVAL, Input::Head(0, head(5)))), ["fetch 0 1-5"]);
    assert_eq!(shown(&core.handle(INTERVAL, Input::Head(1, head(4)))), [""; 0]);
    assert_eq!(reason(&core, 1), RemoteReason::Waiting);
    let blocks = (1..=5).map(block).collect();
    let effects = core.handle(INTERVAL, Input::Blocks(0, height(1), Ok(blocks)));
    assert_eq!(shown(&effects), ["import 0 5"]);
    core.handle(INTERVAL, Input::LocalHead(height(2)));
    let bad = Some((ImportFault::Remote, "forged".to_owned()));
    assert_eq!(shown(&core.handle(INTERVAL, Input::Imported(0, 2, bad))), ["fetch 1 3-4"]);
    let status = core.status(INTERVAL).remove(0);
    assert_eq!(status.reason, RemoteReason::BadBlocks);
    assert_eq!(status.last_error.as_deref(), Some("forged"));
    assert!(status.retry_in_ms.unwrap() >= SET_ASIDE_MS);
}

#[test]
fn an_answer_that_was_under_way_does_not_end_that_a_remote_is_left_alone() {
    let mut core = core(1, false);
    core.handle(INTERVAL, Input::Tick);
    core.handle(INTERVAL, Input::Head(0, head(5)));
    core.handle(INTERVAL, Input::Blocks(0, height(1), Ok((1..=5).map(block).collect())));
    // It is asked for its newest block while its blocks are imported.
    let now = core.next_tick_ms().unwrap();
    assert_eq!(shown(&core.handle(now, Input::Tick)), ["ask 0"]);
    let bad = Some((ImportFault::Remote, "forged".to_owned()));
    assert_eq!(shown(&core.handle(now, Input::Imported(0, 0, bad))), [""; 0]);
    for answer in [head(9), Err(down())] {
        assert_eq!(shown(&core.handle(now + 1, Input::Head(0, answer))), [""; 0]);
        let status = core.status(now).remove(0);
        assert_eq!(status.reason, RemoteReason::BadBlocks);
        assert!(status.retry_in_ms.unwrap() >= SET_ASIDE_MS);
    }
    // In the end it is asked again, and what it says counts.
    let now = core.next_tick_ms().unwrap();
    assert_eq!(shown(&core.handle(now, Input::Tick)), ["ask 0"]);
    assert_eq!(shown(&core.handle(now, Input::Head(0, head(9)))), ["fetch 0 1-9"]);
}

#[test]
fn answers_that_are_not_what_was_asked_for_lead_to_nothing() {
    for wrong in [vec![], vec![2], vec![1, 3], vec![1, 1], (1..=101).collect()] {
        let mut core = core(1, false);
        core.handle(INTERVAL, Input::Tick);
        core.handle(INTERVAL, Input::Head(0, head(100)));
        // Of a fetch that was given up: nobody's.
        let stale = Input::Blocks(0, height(9), Err(down()));
        assert_eq!(shown(&core.handle(INTERVAL, stale)), [""; 0]);
        let blocks = wrong.iter().map(|at| block(*at)).collect();
        let effects = core.handle(INTERVAL, Input::Blocks(0, height(1), Ok(blocks)));
        assert_eq!(shown(&effects), [""; 0], "{wrong:?}");
        assert_eq!(reason(&core, 0), RemoteReason::BadAnswer, "{wrong:?}");
    }
    // Numbers of no remote.
    let mut core = core(1, true);
    core.handle(INTERVAL, Input::Head(9, head(100)));
    core.handle(INTERVAL, Input::Imported(9, 1, None));
    core.handle(INTERVAL, Input::Mempool(9, Ok(MempoolPage::default())));
}

#[test]
fn waits_longer_each_time_that_blocks_find_no_place() {
    let mut core = core(1, false);
    let mut now = INTERVAL;
    let mut pauses = Vec::new();
    for _ in 0..4 {
        assert_eq!(shown(&core.handle(now, Input::Tick)), ["ask 0"]);
        assert_eq!(shown(&core.handle(now, Input::Head(0, head(1)))), ["fetch 0 1-1"]);
        core.handle(now, Input::Blocks(0, height(1), Ok(vec![block(1)])));
        let later = Some((ImportFault::Later, "busy".to_owned()));
        assert_eq!(shown(&core.handle(now, Input::Imported(0, 0, later))), [""; 0]);
        let next = core.next_tick_ms().unwrap();
        pauses.push(next - now);
        now = next;
    }
    assert!(pauses.is_sorted_by(|a, b| a < b) && pauses[0] <= 2_000, "{pauses:?}");
}

#[test]
fn a_remote_that_is_behind_pulls_by_itself() {
    let mut core = core(1, false);
    core.handle(INTERVAL, Input::LocalHead(height(9)));
    assert_eq!(shown(&core.handle(INTERVAL, Input::Head(0, head(3)))), [""; 0]);
    assert_eq!(reason(&core, 0), RemoteReason::Behind);
}

fn page(nonces: std::ops::Range<u64>, next: Option<u64>, is_full: bool) -> Input {
    let transactions = nonces.map(transaction).map(|one| (one.hash(), one)).collect();
    Input::Mempool(0, Ok(MempoolPage { transactions, next, is_full }))
}

fn pending(nonces: std::ops::Range<u64>) -> Input {
    let transactions: Vec<_> = nonces
        .map(|nonce| Arc::new(VerifiedTransaction::assume_verified(transaction(nonce))))
        .collect();
    let next = Some(transactions.len() as u64).filter(|count| *count > 0);
    Input::Pending(0, LocalPage { transactions, next })
}

#[test]
fn shares_each_transaction_once_in_each_direction() {
    let mut core = core(1, true);
    let now = INTERVAL;
    core.handle(now, Input::Tick);
    assert_eq!(shown(&core.handle(now, Input::Head(0, head(0)))), ["mempool 0 None"]);
    let effects = core.handle(now, page(0..3, Some(3), true));
    assert_eq!(shown(&effects), ["mempool 0 Some(3)", "submit 0 3"]);
    // Two of them were on the page before.
    let effects = core.handle(now, page(1..5, Some(5), false));
    assert_eq!(shown(&effects), ["list 0 None", "submit 0 2"]);
    // What came from the remote is not sent back.
    assert_eq!(shown(&core.handle(now, pending(0..7))), ["push 0 2"]);
    core.handle(now, Input::NotPushed(0, vec![]));

    core.handle(now, Input::Head(0, head(0)));
    assert_eq!(shown(&core.handle(now, page(0..0, None, false))), ["list 0 Some(7)"]);
    assert_eq!(shown(&core.handle(now, pending(0..7))), [""; 0]);
    // What did not arrive, or found no place, comes once more.
    let hash = |nonce| -> Vec<TxHash> { vec![transaction(nonce).hash()] };
    core.handle(now, Input::NotPushed(0, hash(6)));
    core.handle(now, Input::NotTaken(0, hash(0)));
    assert_eq!(shown(&core.handle(now, Input::Head(0, head(0)))), ["mempool 0 None"]);
    let effects = core.handle(now, page(0..5, Some(5), false));
    assert_eq!(shown(&effects), ["list 0 None", "submit 0 1"]);
    assert_eq!(shown(&core.handle(now, pending(0..7))), ["push 0 1"]);
}

#[test]
fn sends_so_many_transactions_a_poll_and_the_rest_later() {
    let mut core = core(1, true);
    let now = INTERVAL;
    let all = PUSH_COUNT_MAX as u64 + 10;
    let mut sent = BTreeSet::new();
    for expected in [PUSH_COUNT_MAX, 10] {
        core.handle(now, Input::Head(0, head(0)));
        core.handle(now, page(0..0, None, false));
        let effects = core.handle(now, pending(0..all));
        let [Effect::Push(0, some)] = effects.as_slice() else { panic!("{effects:?}") };
        assert_eq!(some.len(), expected);
        sent.extend(some.iter().map(|one| one.hash()));
        core.handle(now, Input::NotPushed(0, vec![]));
    }
    assert_eq!(sent.len() as u64, all);
    // An endless list is read a few pages at a time.
    core.handle(now, Input::Head(0, head(0)));
    let mut pages = 1;
    while shown(&core.handle(now, page(0..1, Some(pages), true)))[0].starts_with("mempool") {
        pages += 1;
    }
    assert_eq!(pages, 5);
}

#[test]
fn urls_keep_their_prefix_and_hide_passwords() {
    let url: RemoteUrl = "https://me:secret@site.example/rpc2/".parse().unwrap();
    assert_eq!(url.to_string(), "https://site.example/rpc2");
    assert_eq!(url.endpoint("info"), "https://me:secret@site.example/rpc2/info");
    for bad in ["", "site.example/rpc", "ftp://site/rpc", "http://site/rpc?x=1", "http://"] {
        assert!(bad.parse::<RemoteUrl>().is_err(), "{bad}");
    }
    assert!("http://[::1]:8080/rpc".parse::<RemoteUrl>().unwrap().is_local());
}
