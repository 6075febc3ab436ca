//! What a journal gives back, whole, torn, full of garbage and rewritten.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::disk::{Shortage, want_of_room};
use crate::mempool::{Candidate, Journal, Mempool, Recovered};

fn candidate(tx: Tx) -> Candidate {
    Candidate { transaction: tx.build().into(), account: account(RICH, 0), added_at: time(7) }
}

fn place(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("mempool.journal")
}

fn open(path: &Path) -> Recovered {
    Journal::open(path).unwrap().1
}

fn hashes(recovered: &Recovered) -> Vec<TxHash> {
    recovered.transactions.iter().map(|(_, one)| one.hash()).collect()
}

fn mempool(path: &Path) -> Mempool {
    Mempool::new(roomy(), Some(Journal::open(path).unwrap().0))
}

#[test]
fn gives_back_what_is_pending_without_a_shutdown() {
    let directory = tempfile::tempdir().unwrap();
    let path = place(&directory);
    let mempool = mempool(&path);
    let kept = [Tx::of(1).fee(200), Tx::of(2).expires(9)];
    mempool.insert(candidate(Tx::of(1)), &rules(0)).unwrap();
    for tx in &kept {
        mempool.insert(candidate(tx.clone()), &rules(0)).unwrap();
    }
    let refused = Tx::of(3);
    mempool.insert(candidate(refused.clone()), &rules(0)).unwrap();
    mempool.refuse(&refused.hash(), ait_engine::execute::Refusal::RewardZero, time(8));
    // Read while the first handle is still open, as after a kill.
    let recovered = open(&path);
    let expected: Vec<_> = kept.iter().map(|tx| (time(7), tx.0.clone())).collect();
    assert_eq!(recovered.transactions, expected);
    assert_eq!((recovered.discarded_bytes, recovered.set_aside), (0, None));
}

#[test]
fn a_file_torn_at_any_byte_gives_the_whole_records_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = place(&directory);
    let writer = mempool(&path);
    let mut ends = vec![fs::metadata(&path).unwrap().len()];
    let txs: Vec<Tx> = (1..4).map(Tx::of).collect();
    for tx in &txs {
        writer.insert(candidate(tx.clone()), &rules(0)).unwrap();
        ends.push(fs::metadata(&path).unwrap().len());
    }
    let whole = fs::read(&path).unwrap();
    let torn = directory.path().join("torn.journal");
    for length in 0..=whole.len() {
        fs::write(&torn, &whole[..length]).unwrap();
        let recovered = open(&torn);
        let count = ends.iter().filter(|end| **end <= length as u64).count().saturating_sub(1);
        let expected: Vec<_> = txs.iter().take(count).map(Tx::hash).collect();
        assert_eq!(hashes(&recovered), expected, "cut at {length}");
        assert_eq!(recovered.set_aside, None);
        // What is written after the cut is found again.
        let again = mempool(&torn);
        again.insert(candidate(Tx::of(9)), &rules(0)).unwrap();
        let mut expected = expected;
        expected.push(Tx::of(9).hash());
        assert_eq!(hashes(&open(&torn)), expected, "cut at {length}");
    }
}

#[test]
fn a_changed_byte_anywhere_never_gives_another_transaction() {
    let directory = tempfile::tempdir().unwrap();
    let path = place(&directory);
    let writer = mempool(&path);
    let first_record = fs::metadata(&path).unwrap().len();
    let txs: Vec<Tx> = (1..4).map(Tx::of).collect();
    for tx in &txs {
        writer.insert(candidate(tx.clone()), &rules(0)).unwrap();
    }
    let whole = fs::read(&path).unwrap();
    let expected: Vec<_> = txs.iter().map(Tx::hash).collect();
    let record = (whole.len() - usize::try_from(first_record).unwrap()) / txs.len();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x41;
        let bad = directory.path().join("bad.journal");
        fs::write(&bad, &changed).unwrap();
        let recovered = open(&bad);
        let header = usize::try_from(first_record).unwrap();
        // What is not hit stays; only of the last record it may be thought that it is torn.
        let hit = at.checked_sub(header).map(|offset| offset / record);
        let mut left = expected.clone();
        hit.map(|hit| left.remove(hit));
        assert_eq!(hashes(&recovered), left, "changed at {at}");
        let is_torn = hit == Some(txs.len() - 1);
        assert_eq!(recovered.set_aside.is_some(), !is_torn, "changed at {at}");
        assert!(open(&bad).set_aside.is_none());
    }
}

#[test]
fn garbage_is_set_aside_and_a_length_without_a_body_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let path = place(&directory);
    fs::write(&path, b"this is not a journal").unwrap();
    let recovered = open(&path);
    let aside = recovered.set_aside.unwrap();
    assert_eq!(fs::read(aside).unwrap(), b"this is not a journal");
    assert!(recovered.transactions.is_empty());

    let mut bytes = fs::read(&path).unwrap();
    bytes.extend([0xff; 64]);
    fs::write(&path, &bytes).unwrap();
    let recovered = open(&path);
    assert_eq!((recovered.transactions.len(), recovered.discarded_bytes), (0, 64));
}

#[test]
fn compaction_keeps_what_is_pending_in_order_of_arrival() {
    let directory = tempfile::tempdir().unwrap();
    let path = place(&directory);
    let writer = mempool(&path);
    for tx in [Tx::of(2).nonce(1), Tx::of(1), Tx::of(2).fee(7), Tx::of(1).fee(500)] {
        writer.insert(candidate(tx), &rules(0)).unwrap();
    }
    let before = hashes(&open(&path));
    let large = fs::metadata(&path).unwrap().len();
    writer.compact().unwrap();
    assert_eq!(hashes(&open(&path)), before);
    assert!(fs::metadata(&path).unwrap().len() < large);
    writer.insert(candidate(Tx::of(4)), &rules(0)).unwrap();
    assert_eq!(hashes(&open(&path)).last(), Some(&Tx::of(4).hash()));
    assert!(!path.with_extension("new").exists());
}

#[test]
fn grows_to_a_bound_however_often_one_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = place(&directory);
    let limits = MempoolLimits { per_sender_bytes_max: 1 << 20, ..roomy() };
    let writer = Mempool::new(limits, Some(Journal::open(&path).unwrap().0));
    let changes = (0..16)
        .map(|n| ait_engine::params::ParamChange::Param { name: format!("{n:0>64}"), value: 1 });
    let large = Payload::ParamSet(ait_engine::params::ParamSet::new(changes.collect()).unwrap());
    let settings = Settings { governor: Some(address(1)), ..Settings::default() };
    let rules = Rules { settings, ..rules(0) };
    let (mut fee, mut longest, mut written) = (1, 0, 0);
    // Each fee replaces the one before until the balance is spent; then again from the start.
    while written < 12 * 1024 * 1024 {
        let tx = Tx::of(1).fee(fee).payload(large.clone());
        let (hash, bytes) = (tx.hash(), u64::from(tx.clone().build().byte_count()));
        writer.insert(candidate(tx), &rules).unwrap();
        written += bytes;
        fee += fee.div_ceil(10);
        if fee > RICH {
            fee = 1;
            writer.refuse(&hash, ait_engine::execute::Refusal::RewardZero, time(7));
        }
        longest = longest.max(fs::metadata(&path).unwrap().len());
    }
    assert!(longest < 5 * 1024 * 1024, "{longest}");
}

#[test]
fn a_disk_that_fails_ends_all_acceptance() {
    let path = Path::new("/dev/full");
    if !path.exists() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&place(&directory)).unwrap().0;
    journal.redirect(path).unwrap();
    let mempool = Mempool::new(roomy(), Some(journal));
    let results = mempool.insert_batch(vec![candidate(Tx::of(1)), candidate(Tx::of(1))], &rules(0));
    for result in results {
        assert_eq!(result.unwrap_err().code(), "mempool_unavailable");
    }
    let failure = mempool.failure().unwrap();
    assert_eq!(want_of_room(&failure), Some(Shortage::FULL), "{failure}");
    let later = mempool.insert(candidate(Tx::of(2)), &rules(0));
    assert_eq!(later.unwrap_err().code(), "mempool_unavailable");
}

/// What is in the file is only a claim.
#[test]
fn a_transaction_noted_twice_comes_back_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = place(&directory);
    let tx = Tx::of(1);
    let (mut journal, _) = Journal::open(&path).unwrap();
    journal.note_added(time(1), &tx.0);
    journal.note_added(time(2), &tx.0);
    journal.write().unwrap();
    assert_eq!(open(&path).transactions, [(time(1), tx.0.clone())]);
    journal.note_dropped(&tx.hash());
    journal.note_added(time(3), &tx.0);
    journal.write().unwrap();
    assert_eq!(open(&path).transactions, [(time(3), tx.0)]);
}
