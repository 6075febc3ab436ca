//! Files of a validator and of the mempool. The first byte chooses: the log of consensus, the
//! signer's record, the mempool's journal. What a reader written here finds is what opening
//! gives; opened again it is the same, and goes on from there.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ait_engine::codec::Canonical;
use ait_engine::transaction::Transaction;
use ait_engine::types::{Height, TxHash};
use ait_engine::vote::{Vote, VoteKind};
use ait_node::consensus::{FileLog, FileSigner, LogError, VoteSigner, WriteAheadLog};
use ait_node::mempool::Journal;

use crate::world::{WORLD, directory, plan, transactions};

fn sum(parts: &[&[u8]]) -> [u8; 8] {
    let hash = blake3::hash(&parts.concat());
    *hash.as_bytes().first_chunk().unwrap()
}

/// Height and entries of a log.
type Entries<'a> = (u64, Vec<&'a [u8]>);

/// The entries of the frame of this number that begins at `at`, and where it ends.
fn frame(bytes: &[u8], at: usize, number: usize) -> Option<(Vec<&[u8]>, usize)> {
    let length_at = |at: usize| {
        let length = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(*length.first_chunk().unwrap()) as usize)
    };
    let end = at + 12 + length_at(at)?;
    let of_frame = bytes.get(at + 12..end)?;
    if bytes[at + 4..at + 12] != sum(&[&bytes[..16], &number.to_le_bytes(), of_frame]) {
        return None;
    }
    let (mut entries, mut at) = (Vec::new(), at + 12);
    while at < end {
        let entry = length_at(at)?;
        entries.push(bytes[..end].get(at + 4..at + 4 + entry)?);
        at += 4 + entry;
    }
    (!entries.is_empty()).then_some((entries, end))
}

/// The height after the newest of the chain.
const NEXT: Height = Height::saturating(5);

/// Height and entries of a log by `specs/consensus.md`, and the bytes that are good.
fn logged(bytes: &[u8]) -> (Option<Entries<'_>>, usize) {
    let Some((head, rest)) = bytes.split_first_chunk::<16>() else { return (None, 0) };
    if !head.starts_with(b"AITWAL02") || !rest.starts_with(&sum(&[head])) {
        return (None, 0);
    }
    let height = u64::from_le_bytes(*head.last_chunk().unwrap());
    if height < NEXT.get() {
        return (None, 0);
    }
    let (mut at, mut entries) = (24, Vec::new());
    for number in 0.. {
        let Some((of_frame, end)) = frame(bytes, at, number) else { break };
        entries.extend(of_frame);
        at = end;
    }
    (Some((height, entries)), at)
}

fn log(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    let inspected = FileLog::inspect(path, NEXT);
    let (expected, whole) = logged(bytes);
    let (log, found) = match FileLog::open(path, NEXT) {
        Ok(opened) => opened,
        Err(error) => {
            match error {
                LogError::Damaged { offset, .. } => {
                    assert!(inspected.unwrap().unwrap().is_damaged && offset == whole as u64);
                }
                _ => {
                    // A power cut leaves the beginning of ours, and zeros.
                    let mut unlike = bytes.iter().zip(b"AITWAL02").skip_while(|(a, b)| a == b);
                    assert!(inspected.is_err() && unlike.any(|(byte, _)| *byte != 0));
                }
            }
            assert_eq!(fs::read(path).unwrap(), bytes, "what is not opened is changed");
            return;
        }
    };
    let plain = found.as_ref().map(|(height, entries)| {
        (height.get(), entries.iter().map(Vec::as_slice).collect::<Vec<_>>())
    });
    assert_eq!(plain, expected, "another log than is there");
    let inspected = inspected.unwrap().unwrap();
    assert!(!inspected.is_damaged, "a damaged log is opened");
    assert_eq!(inspected.whole_bytes, whole as u64);
    assert_eq!(inspected.whole_bytes + inspected.other_bytes, bytes.len() as u64);
    assert_eq!(fs::read(path).unwrap(), &bytes[..whole], "it is cut elsewhere");
    let mut writer = log.into_writer(found.as_ref());
    let (height, mut entries) = found.unwrap_or((NEXT, Vec::new()));
    if entries.is_empty() && expected.is_none() {
        writer.begin(height).unwrap();
    }
    writer.append(b"next").unwrap();
    writer.flush().unwrap();
    drop(writer);
    entries.push(b"next".to_vec());
    let (log, again) = FileLog::open(path, NEXT).unwrap();
    assert_eq!(again.as_ref(), Some(&(height, entries)), "what was appended is lost");
    let Some(after) = height.next() else { return };
    let mut writer = log.into_writer(again.as_ref());
    writer.begin(after).unwrap();
    writer.append(b"over").unwrap();
    writer.flush().unwrap();
    drop(writer);
    let (_, again) = FileLog::open(path, NEXT).unwrap();
    assert_eq!(again, Some((after, vec![b"over".to_vec()])), "what was there shows through");
}

/// The last place of a record: height, round, step.
fn signed(bytes: &[u8]) -> Option<(u64, u64, u8)> {
    let slots = bytes[..bytes.len().min(512)].chunks(128).filter(|slot| slot.len() == 128);
    let is_good = |slot: &&[u8]| {
        slot.starts_with(b"AITSIGN1") && slot[64..96] == *blake3::hash(&slot[..64]).as_bytes()
    };
    let places = slots.filter(is_good).map(|slot| {
        let integer = |at: usize| u64::from_le_bytes(*slot[at..].first_chunk().unwrap());
        (integer(8), integer(16), slot[24])
    });
    places.filter(|place| place.1 <= u64::from(u32::MAX)).max()
}

fn record(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    // One that others may read is refused whatever it holds.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let inspected = FileSigner::inspect(path);
    let (chain_id, key) = (WORLD.plan.document.chain_id, plan().validator);
    let address = key.public_key().address();
    let Ok(mut signer) = FileSigner::open(path, chain_id, key) else {
        assert!(bytes.len() >= 128 && inspected.is_err(), "a record that inspection likes");
        assert_eq!(fs::read(path).unwrap(), bytes, "a damaged record is changed");
        return;
    };
    let height = signer.height();
    assert_eq!(inspected.unwrap().map(|record| record.height), height, "inspection differs");
    assert_eq!(height.map(Height::get), signed(bytes).map(|place| place.0), "another height");
    // Below what was signed nothing is signed; above it is, and then not twice.
    let vote = |height, byte: u8| Vote {
        kind: VoteKind::Prevote,
        height,
        round: ait_engine::types::Round::ZERO,
        block_id: Some(ait_engine::types::BlockId([byte; 32])),
        validator: address,
    };
    if let Some(below) = height.and_then(Height::previous) {
        assert!(signer.sign_vote(&vote(below, 1)).is_err(), "signs below what was signed");
    }
    let Some(next) = height.unwrap_or_default().next() else { return };
    signer.sign_vote(&vote(next, 1)).expect("signs above what was signed");
    signer.flush().expect("it can be written");
    drop(signer);
    let (chain_id, key) = (WORLD.plan.document.chain_id, plan().validator);
    let mut signer = FileSigner::open(path, chain_id, key).expect("its own record");
    assert_eq!(signer.height(), Some(next), "what was signed is forgotten");
    assert!(signer.sign_vote(&vote(next, 2)).is_err(), "signs two things at one place");
    signer.sign_vote(&vote(next, 1)).expect("signs the same again");
}

enum Record {
    Add(u64, Box<Transaction>),
    Remove(TxHash),
}

/// The record that begins here, and its length.
fn journaled(bytes: &[u8]) -> Option<(Record, usize)> {
    let frame = bytes.get(..12)?;
    let length = u32::from_le_bytes(*frame.first_chunk().unwrap()) as usize;
    let body = bytes.get(12..12 + length)?;
    if frame[4..] != sum(&[body]) {
        return None;
    }
    let record = match body.split_first()? {
        (1, rest) => {
            let (time, rest) = rest.split_first_chunk::<8>()?;
            let time = u64::from_le_bytes(*time);
            let transaction = Transaction::decode(rest).ok()?;
            (time <= 253_402_300_799_999).then(|| Record::Add(time, Box::new(transaction)))?
        }
        (2, hash) => Record::Remove(TxHash(hash.try_into().ok()?)),
        _ => return None,
    };
    Some((record, 12 + length))
}

/// Pending transactions of a journal, oldest first.
fn pending(records: Vec<Record>) -> Vec<(u64, Transaction)> {
    let (mut pending, mut known) = (Vec::<(u64, Transaction)>::new(), HashSet::new());
    for record in records {
        match record {
            Record::Add(time, transaction) if known.insert(transaction.hash()) => {
                pending.push((time, *transaction));
            }
            Record::Add(..) => {}
            Record::Remove(hash) => {
                known.remove(&hash);
                pending.retain(|(_, transaction)| transaction.hash() != hash);
            }
        }
    }
    pending
}

fn journal(path: &Path, bytes: &[u8]) {
    const HEADER: &[u8] = b"AITMPJ01";
    fs::write(path, bytes).unwrap();
    let (_, found) = Journal::open(path).expect("a journal never stops a node");
    let plain: Vec<_> = found.transactions.into_iter().map(|(time, t)| (time.get(), t)).collect();
    // Every record that is there, wherever it is.
    let is_ours = bytes.starts_with(HEADER);
    let mut at = if is_ours { HEADER.len() } else { 0 };
    let (mut end, mut is_torn) = (at, true);
    let (mut records, mut kept) = (Vec::new(), HEADER.to_vec());
    while at < bytes.len() {
        let Some((record, length)) = journaled(&bytes[at..]) else {
            at += 1;
            continue;
        };
        is_torn &= at == end;
        kept.extend(&bytes[at..at + length]);
        records.push(record);
        at += length;
        end = at;
    }
    let is_unused = HEADER.starts_with(bytes);
    assert_eq!(plain, pending(records), "another journal than is there");
    assert_eq!(fs::read(path).unwrap(), kept, "other records are kept");
    let header = if is_ours { 0 } else { HEADER.len() };
    assert_eq!(found.discarded_bytes as usize + kept.len(), bytes.len() + header);
    let aside = found.set_aside.map(|aside| fs::read(aside).unwrap());
    let is_lost = !(is_unused || is_ours && is_torn);
    assert_eq!(aside.as_deref(), is_lost.then_some(bytes), "what is damaged is lost");
    let (_, again) = Journal::open(path).unwrap();
    let again: Vec<_> = again.transactions.into_iter().map(|(time, t)| (time.get(), t)).collect();
    assert_eq!(again, plain, "opened again it is another");
}

pub fn run(input: &[u8]) {
    let Some((which, bytes)) = input.split_first() else { return };
    let folder = directory();
    let path = folder.path().join("file");
    match which {
        0 => log(&path, bytes),
        1 => record(&path, bytes),
        2 => journal(&path, bytes),
        _ => {}
    }
}

fn journal_seed() -> Vec<u8> {
    let mut bytes = b"AITMPJ01".to_vec();
    let mut add = |body: &[u8]| {
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(sum(&[body]));
        bytes.extend(body);
    };
    let all = transactions();
    for transaction in &all {
        let time = 1_700_000_000_000_u64.to_le_bytes();
        add(&[&[1][..], &time, &transaction.encode()].concat());
    }
    add(&[&[2][..], &all[0].hash().0].concat());
    bytes
}

pub fn seeds() -> Vec<Vec<u8>> {
    let folder = directory();
    let path = folder.path().join("file");
    let (log, _) = FileLog::open(&path, NEXT).unwrap();
    let mut log = log.into_writer(None);
    log.begin(Height::saturating(5)).unwrap();
    for message in super::canonical::messages() {
        log.append(&message.encode()).unwrap();
        log.flush().unwrap();
    }
    drop(log);
    let log = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let (chain_id, key) = (WORLD.plan.document.chain_id, plan().validator);
    let address = key.public_key().address();
    let mut signer = FileSigner::open(&path, chain_id, key).unwrap();
    let mut records = Vec::new();
    for height in 1..=3 {
        let (kind, height) = (VoteKind::Prevote, Height::saturating(height));
        let round = ait_engine::types::Round::ZERO;
        let vote = Vote { kind, height, round, block_id: None, validator: address };
        signer.sign_vote(&vote).unwrap();
        signer.flush().unwrap();
        records.push(fs::read(&path).unwrap());
    }
    let mut seeds = vec![[&[0][..], &log].concat(), [&[0][..], &log[..24]].concat()];
    seeds.extend(records.iter().map(|record| [&[1][..], record].concat()));
    seeds.push([&[2][..], &journal_seed()].concat());
    seeds.push(b"\x02AITMPJ".to_vec());
    seeds
}
