//! A local file of what was accepted, so that it survives a restart.
//!
//! After a header of 8 bytes, records: length of the body (4 bytes, little endian),
//! first 8 bytes of the body's BLAKE3 hash, body. A body is a tag: 1, the time of
//! arrival (8 bytes) and the canonical transaction; or 2 and the hash of one that was
//! dropped. Included transactions leave no record: their nonces tell.
//!
//! A record is written before its acceptance is reported, and synced now and then: it
//! survives a kill of the process at once, a power cut from the last
//! [`SyncHandle::sync`] on. A file that ends within a record, or in garbage, is read up
//! to there. What is read is a claim: its signatures and rules are checked again by
//! who inserts it. No transaction is interpreted here.

use std::collections::{HashMap, hash_map::Entry};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ait_engine::codec::Canonical as _;
use ait_engine::hash::plain_hash_each;
use ait_engine::limits::TRANSACTION_BYTES_MAX;
use ait_engine::transaction::Transaction;
use ait_engine::types::{TimestampMs, TxHash};

use super::JournalError;
use crate::synced::SyncedFile;

const HEADER: [u8; 8] = *b"AITMPJ01";
const TAG_ADDED: u8 = 1;
const TAG_DROPPED: u8 = 2;
const ADDED_PREFIX_BYTES: usize = 9;
const BODY_BYTES_MAX: usize = ADDED_PREFIX_BYTES + TRANSACTION_BYTES_MAX;
const FRAME_BYTES: usize = 12;
/// The file may be this much larger than twice what is live.
const SLACK_BYTES: u64 = 4 * 1024 * 1024;

/// What a journal held when it was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Transactions that were pending or included since, in order of arrival.
    pub transactions: Vec<(TimestampMs, Transaction)>,
    /// Bytes at the end that were no record.
    pub discarded_bytes: u64,
    /// Where a file that is no journal was moved.
    pub set_aside: Option<PathBuf>,
}

/// What [`Journal::inspect`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InspectedJournal {
    /// Bytes up to the end of the last record before any damage.
    pub whole_bytes: u64,
    /// Bytes behind them: of a record that was being written at a crash, or damaged.
    pub other_bytes: u64,
    /// Whether it is more than a torn end: whole records follow, or it is another kind of file.
    pub is_damaged: bool,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Arc<SyncedFile>,
    bytes: u64,
    noted: Records,
    /// Whether something was written since the last [`Journal::unsynced`].
    is_dirty: bool,
}

/// Makes what was written so far survive a power cut, without holding anything up.
#[derive(Debug, Clone)]
pub struct SyncHandle {
    path: PathBuf,
    file: Arc<SyncedFile>,
}

impl SyncHandle {
    /// Waits until the disk has it.
    ///
    /// # Errors
    /// [`JournalError`] when the disk fails.
    pub fn sync(&self) -> Result<(), JournalError> {
        self.file.sync_data().map_err(|source| error(&self.path, "sync", source))
    }
}

fn error(path: &Path, action: &'static str, source: io::Error) -> JournalError {
    JournalError { path: path.display().to_string(), action, source }
}

impl Journal {
    /// Opens or makes the journal at `path` and reads what it holds. A torn end is cut off; a
    /// file that is damaged before that is set aside, and what is good of it taken over.
    ///
    /// # Errors
    /// [`JournalError`] when the file cannot be read or written.
    pub fn open(path: &Path) -> Result<(Self, Recovered), JournalError> {
        let bytes = match File::open(path) {
            Ok(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(|source| error(path, "read", source))?;
                bytes
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(error(path, "open", source)),
        };
        let (kept, goes_on) = salvage(&bytes);
        let records = bytes.strip_prefix(&HEADER);
        let Some(records) = records.filter(|_| !goes_on) else {
            // Damage within it: nothing that is good behind it is cut off. A header cut short is
            // a file that was never used.
            let is_unused = HEADER.starts_with(&bytes);
            let set_aside = if is_unused { None } else { Some(set_aside(path)?) };
            let journal = Self::create(path, &kept)?;
            let (transactions, _) = read_records(&kept);
            let header = records.map_or(0, |_| HEADER.len());
            let discarded_bytes = bytes.len().saturating_sub(kept.len() + header) as u64;
            return Ok((journal, Recovered { transactions, discarded_bytes, set_aside }));
        };
        let (transactions, good_bytes) = read_records(records);
        let length = (HEADER.len() + good_bytes) as u64;
        let mut file = OpenOptions::new()
            .write(true)
            .open(path)
            .map_err(|source| error(path, "open for writing", source))?;
        file.set_len(length).map_err(|source| error(path, "cut", source))?;
        file.seek(SeekFrom::End(0)).map_err(|source| error(path, "seek in", source))?;
        let journal = Self {
            path: path.to_owned(),
            file: Arc::new(SyncedFile::new(file)),
            bytes: length,
            noted: Records::default(),
            is_dirty: true,
        };
        let discarded_bytes = bytes.len() as u64 - length;
        Ok((journal, Recovered { transactions, discarded_bytes, set_aside: None }))
    }

    /// Looks at a journal without changing it; none if there is no file.
    ///
    /// # Errors
    /// [`JournalError`] when the file cannot be read.
    pub fn inspect(path: &Path) -> Result<Option<InspectedJournal>, JournalError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(error(path, "read", source)),
        };
        let whole = match bytes.strip_prefix(&HEADER) {
            Some(records) => HEADER.len() + read_records(records).1,
            None => 0,
        };
        let is_unused = HEADER.starts_with(&bytes);
        let is_damaged = salvage(&bytes).1 || (whole == 0 && !is_unused);
        let other_bytes = bytes.len().saturating_sub(whole) as u64;
        Ok(Some(InspectedJournal { whole_bytes: whole as u64, other_bytes, is_damaged }))
    }

    /// Writes a new file beside the old one and puts it in its place.
    fn create(path: &Path, records: &[u8]) -> Result<Self, JournalError> {
        let fresh = path.with_extension("new");
        let at = |action| move |source| error(&path.with_extension("new"), action, source);
        let mut file = File::create(&fresh).map_err(at("create"))?;
        file.write_all(&HEADER).map_err(at("write"))?;
        file.write_all(records).map_err(at("write"))?;
        file.sync_all().map_err(at("sync"))?;
        std::fs::rename(&fresh, path).map_err(|source| error(path, "replace", source))?;
        sync_directory(path).map_err(|source| error(path, "sync the directory of", source))?;
        let bytes = (HEADER.len() + records.len()) as u64;
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(SyncedFile::new(file)),
            bytes,
            noted: Records::default(),
            is_dirty: false,
        })
    }

    /// Notes an accepted transaction; [`Journal::write`] writes it.
    pub(super) fn note_added(&mut self, added_at: TimestampMs, transaction: &Transaction) {
        self.noted.add(added_at, transaction);
    }

    /// Notes one that was let go.
    pub(super) fn note_dropped(&mut self, hash: &TxHash) {
        self.noted.put(|body| {
            body.push(TAG_DROPPED);
            body.extend_from_slice(hash.as_bytes());
        });
    }

    /// Hands everything noted to the operating system.
    pub(super) fn write(&mut self) -> Result<(), JournalError> {
        let records = self.noted.close();
        if records.is_empty() {
            return Ok(());
        }
        self.is_dirty = true;
        let written = self.file.write_all(records);
        written.map_err(|source| error(&self.path, "write", source))?;
        self.bytes += records.len() as u64;
        self.noted.clear();
        Ok(())
    }

    /// Whether the file is much larger than `live_bytes` of transactions need.
    pub(super) const fn is_wasteful(&self, live_bytes: u64) -> bool {
        self.bytes > live_bytes.saturating_mul(2).saturating_add(SLACK_BYTES)
    }

    /// Replaces the file by one that holds these transactions only.
    pub(super) fn compact<'t>(
        &mut self,
        live: impl Iterator<Item = (TimestampMs, &'t Transaction)>,
    ) -> Result<(), JournalError> {
        let mut records = Records::default();
        for (added_at, transaction) in live {
            records.add(added_at, transaction);
        }
        *self = Self::create(&self.path, records.close())?;
        Ok(())
    }

    /// What syncs the records that were written since the last call; none if there are none.
    pub(super) fn unsynced(&mut self) -> Option<SyncHandle> {
        let is_dirty = std::mem::take(&mut self.is_dirty);
        is_dirty.then(|| SyncHandle { path: self.path.clone(), file: Arc::clone(&self.file) })
    }

    /// Whether all that was written is synced.
    pub(super) fn is_synced(&self) -> bool {
        self.file.is_synced()
    }

    /// Writes from now on to the end of this file, for disks that fail.
    pub(super) fn redirect(&mut self, path: &Path) -> io::Result<()> {
        let file = OpenOptions::new().append(true).open(path)?;
        self.file = Arc::new(SyncedFile::new(file));
        Ok(())
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn set_aside(path: &Path) -> Result<PathBuf, JournalError> {
    let aside = path.with_extension("corrupt");
    std::fs::rename(path, &aside).map_err(|source| error(path, "set aside", source))?;
    Ok(aside)
}

/// Records in the form of the file, whose heads are filled in last: checksums of many are made
/// together.
#[derive(Debug, Default)]
struct Records {
    bytes: Vec<u8>,
    /// Where each begins.
    begins: Vec<usize>,
}

impl Records {
    fn add(&mut self, added_at: TimestampMs, transaction: &Transaction) {
        self.put(|body| {
            body.push(TAG_ADDED);
            body.extend_from_slice(&added_at.get().to_le_bytes());
            transaction.encode_to(body);
        });
    }

    fn put(&mut self, append_body: impl FnOnce(&mut Vec<u8>)) {
        self.begins.push(self.bytes.len());
        self.bytes.extend_from_slice(&[0; FRAME_BYTES]);
        append_body(&mut self.bytes);
    }

    /// All of them, whole.
    fn close(&mut self) -> &[u8] {
        let ends = self.begins.iter().skip(1).copied().chain([self.bytes.len()]);
        let places: Vec<_> = self.begins.iter().copied().zip(ends).collect();
        let body = |(begin, end): &(usize, usize)| self.bytes.get(begin + FRAME_BYTES..*end);
        let bodies: Vec<&[u8]> = places.iter().map(|at| body(at).unwrap_or_default()).collect();
        let sums = plain_hash_each(&bodies);
        // A verified transaction is at most TRANSACTION_BYTES_MAX long.
        let length = |body: &[u8]| u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
        let lengths: Vec<[u8; 4]> = bodies.into_iter().map(length).collect();
        for ((begin, _), (length, sum)) in places.into_iter().zip(lengths.into_iter().zip(sums)) {
            let head = length.into_iter().chain(sum.0).take(FRAME_BYTES);
            for (place, byte) in self.bytes.iter_mut().skip(begin).zip(head) {
                *place = byte;
            }
        }
        &self.bytes
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.begins.clear();
    }
}

fn checksum(body: &[u8]) -> [u8; 8] {
    blake3::hash(body).as_bytes().first_chunk().copied().unwrap_or_default()
}

enum Record {
    Added(TimestampMs, Box<Transaction>),
    Dropped(TxHash),
}

/// The record at the beginning of `input` and its length; none if there is no whole one.
fn read_record(input: &[u8]) -> Option<(Record, usize)> {
    let (length, rest) = input.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let body = rest.get(..length).filter(|body| body.len() <= BODY_BYTES_MAX)?;
    if checksum(body) != *sum {
        return None;
    }
    let record = match body.split_first()? {
        (&TAG_ADDED, rest) => {
            let (added_at, bytes) = rest.split_first_chunk::<8>()?;
            let added_at = TimestampMs::new(u64::from_le_bytes(*added_at))?;
            Record::Added(added_at, Box::new(Transaction::decode(bytes).ok()?))
        }
        (&TAG_DROPPED, hash) => Record::Dropped(TxHash(hash.try_into().ok()?)),
        _ => return None,
    };
    Some((record, FRAME_BYTES + length))
}

/// The bytes of all records wherever they are, and whether one follows bytes that are none.
fn salvage(bytes: &[u8]) -> (Vec<u8>, bool) {
    let is_ours = bytes.starts_with(&HEADER);
    let (mut at, mut is_damaged) = (if is_ours { HEADER.len() } else { 0 }, !is_ours);
    let (mut records, mut goes_on) = (Vec::new(), false);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        if let Some((_, length)) = read_record(rest) {
            records.extend_from_slice(rest.get(..length).unwrap_or_default());
            goes_on |= is_damaged;
            at += length;
        } else {
            is_damaged = true;
            at += 1;
        }
    }
    (records, goes_on)
}

/// What the records leave pending, and the length of the whole records.
fn read_records(mut input: &[u8]) -> (Vec<(TimestampMs, Transaction)>, usize) {
    let mut good_bytes = 0;
    let mut slots: Vec<Option<(TimestampMs, Transaction)>> = Vec::new();
    let mut places: HashMap<TxHash, usize> = HashMap::new();
    while let Some((record, length)) = read_record(input) {
        match record {
            Record::Added(added_at, transaction) => match places.entry(transaction.hash()) {
                Entry::Occupied(_) => {}
                Entry::Vacant(vacant) => {
                    vacant.insert(slots.len());
                    slots.push(Some((added_at, *transaction)));
                }
            },
            Record::Dropped(hash) => {
                let place = places.remove(&hash);
                if let Some(slot) = place.and_then(|place| slots.get_mut(place)) {
                    *slot = None;
                }
            }
        }
        good_bytes += length;
        input = input.get(length..).unwrap_or_default();
    }
    (slots.into_iter().flatten().collect(), good_bytes)
}
