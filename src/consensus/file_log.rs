//! The write-ahead log of one height as a local file.
//!
//! Header: magic, height, checksum. Then entries: length, checksum, bytes. A crash can
//! tear the tail only; opening cuts off what does not check out, which was never
//! flushed and so never acted upon. Where a good entry follows, it was flushed, and the
//! log is damaged: who went on with a part of it could break a lock. Always a local file:
//! a database that fails over could forget a vote that was sent.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ait_engine::types::Height;

use super::port::WriteAheadLog;
use crate::telemetry::Stage;

const MAGIC: &[u8; 8] = b"AITWAL01";
const CHECKSUM_BYTES: usize = 8;
const HEADER_BYTES: usize = 24;
/// Largest entry; those of the library are far smaller.
const ENTRY_BYTES_MAX: usize = 1 << 20;
/// Largest log that is read back.
const LOG_BYTES_MAX: u64 = 1 << 30;

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something in it was changed after it was flushed.
    #[error("{path} is damaged at byte {offset}: entries follow what is none")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
    /// The file is another kind of file.
    #[error("{path} is not a write-ahead log; move it away")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

/// The log of the height under way.
#[derive(Debug)]
pub struct FileLog {
    file: File,
}

fn checksum(parts: &[&[u8]]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM_BYTES]);
    sum
}

/// The height of a log and its entries.
pub type Logged = (Height, Vec<Vec<u8>>);

impl FileLog {
    /// Opens or makes the log; gives what it holds, without a torn tail.
    ///
    /// # Errors
    /// [`LogError`] when the file cannot be used or is damaged before its end; it is not
    /// changed then.
    pub fn open(path: &Path) -> Result<(Self, Option<Logged>), LogError> {
        let io = |source| LogError::Io { path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io)?;
        let mut bytes = Vec::new();
        (&mut file).take(LOG_BYTES_MAX).read_to_end(&mut bytes).map_err(io)?;
        if !may_be_log(&bytes) {
            return Err(LogError::Foreign { path: path.to_owned() });
        }
        let (logged, valid) = read(&bytes);
        if is_damaged(&bytes, logged.as_ref(), valid) {
            return Err(LogError::Damaged { path: path.to_owned(), offset: valid as u64 });
        }
        file.set_len(valid as u64).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        Ok((Self { file }, logged))
    }
}

/// What [`FileLog::inspect`] finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedLog {
    /// The height that was under way, and how many entries of it are whole.
    pub logged: Option<(Height, usize)>,
    /// Bytes up to the end of the last whole entry.
    pub whole_bytes: u64,
    /// Bytes behind them: of an entry that was being written at a crash, or damaged.
    pub other_bytes: u64,
    /// Whether whole entries follow those bytes, so that what is between was damaged later.
    pub is_damaged: bool,
}

impl FileLog {
    /// Looks at a log without changing it; none if there is no file.
    ///
    /// # Errors
    /// [`LogError`] when the file cannot be read or is another kind of file.
    pub fn inspect(path: &Path) -> Result<Option<InspectedLog>, LogError> {
        let io = |source| LogError::Io { path: path.to_owned(), source };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io(source)),
        };
        let mut bytes = Vec::new();
        file.take(LOG_BYTES_MAX).read_to_end(&mut bytes).map_err(io)?;
        if !may_be_log(&bytes) {
            return Err(LogError::Foreign { path: path.to_owned() });
        }
        let (logged, whole) = read(&bytes);
        let rest = bytes.get(whole..).unwrap_or_default();
        let is_damaged = is_damaged(&bytes, logged.as_ref(), whole);
        Ok(Some(InspectedLog {
            logged: logged.map(|(height, entries)| (height, entries.len())),
            whole_bytes: whole as u64,
            other_bytes: rest.len() as u64,
            is_damaged,
        }))
    }
}

/// Whether something that was flushed follows the first `whole` bytes, which are good.
fn is_damaged(bytes: &[u8], logged: Option<&Logged>, whole: usize) -> bool {
    let rest = bytes.get(whole..).unwrap_or_default();
    match (logged, bytes.first_chunk::<16>()) {
        (Some((_, entries)), Some(head)) => follows(rest, head, entries.len()),
        // A header is written at once, before any entry; unwritten bytes are zeros.
        _ => rest.iter().skip(HEADER_BYTES).any(|byte| *byte != 0),
    }
}

/// Whether a whole entry of a later number begins anywhere in these bytes.
fn follows(rest: &[u8], head: &[u8], entries: usize) -> bool {
    let begins = |at: &usize| {
        let tail = rest.get(*at..).unwrap_or_default();
        (entries + 1..entries + 4).any(|index| entry(tail, head, index).is_some())
    };
    (1..rest.len()).any(|at| begins(&at))
}

/// Whether the beginning is that of a log, or of one that a power cut left unwritten: a file
/// may have its length before its bytes, which are zeros then.
fn may_be_log(bytes: &[u8]) -> bool {
    let written = bytes.iter().zip(MAGIC).take_while(|(found, ours)| found == ours).count();
    bytes.iter().take(MAGIC.len()).skip(written).all(|byte| *byte == 0)
}

/// What a log holds, and how many bytes of it are good.
fn read(bytes: &[u8]) -> (Option<Logged>, usize) {
    let header = bytes.split_first_chunk::<16>().filter(|(_, rest)| rest.len() >= CHECKSUM_BYTES);
    // Entries are written under the header as it should be: one that differs is none.
    let header = header.filter(|(head, _)| head.starts_with(MAGIC));
    let Some((head, rest)) = header else { return (None, 0) };
    let (sum, mut rest) = rest.split_at(CHECKSUM_BYTES);
    if sum != checksum(&[head]) {
        return (None, 0);
    }
    let mut height = [0; 8];
    height.copy_from_slice(&head[8..]);
    let mut entries = Vec::new();
    let mut valid = HEADER_BYTES;
    while let Some((entry, tail)) = entry(rest, head, entries.len()) {
        valid += 4 + CHECKSUM_BYTES + entry.len();
        entries.push(entry.to_vec());
        rest = tail;
    }
    (Some((Height::saturating(u64::from_le_bytes(height)), entries)), valid)
}

fn entry<'a>(rest: &'a [u8], head: &[u8], index: usize) -> Option<(&'a [u8], &'a [u8])> {
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<CHECKSUM_BYTES>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (entry, tail) = rest.split_at_checked(length).filter(|_| length <= ENTRY_BYTES_MAX)?;
    // Place and height are part of the sum: an entry of an older log never passes.
    (*sum == checksum(&[head, &index.to_le_bytes(), entry])).then_some((entry, tail))
}

/// A log being written: the file, its header and how many entries it has.
#[derive(Debug)]
pub struct LogWriter {
    log: FileLog,
    head: [u8; 16],
    entries: usize,
}

impl FileLog {
    /// Goes on writing behind what [`FileLog::open`] gave.
    #[must_use]
    pub fn into_writer(self, logged: Option<&Logged>) -> LogWriter {
        let head = header(logged.map_or(Height::ZERO, |(height, _)| *height));
        LogWriter { log: self, head, entries: logged.map_or(0, |(_, entries)| entries.len()) }
    }
}

fn header(height: Height) -> [u8; 16] {
    let mut head = [0; 16];
    head[..8].copy_from_slice(MAGIC);
    head[8..].copy_from_slice(&height.get().to_le_bytes());
    head
}

impl WriteAheadLog for LogWriter {
    fn begin(&mut self, height: Height) -> Result<(), String> {
        let file = &mut self.log.file;
        let mut write = || {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            let head = header(height);
            file.write_all(&[&head[..], &checksum(&[&head])].concat())
        };
        write().map_err(|error: std::io::Error| error.to_string())?;
        self.head = header(height);
        self.entries = 0;
        Ok(())
    }

    fn append(&mut self, entry: &[u8]) -> Result<(), String> {
        let length = u32::try_from(entry.len()).ok().filter(|_| entry.len() <= ENTRY_BYTES_MAX);
        let length = length.ok_or_else(|| format!("an entry of {} bytes", entry.len()))?;
        let sum = checksum(&[&self.head, &self.entries.to_le_bytes(), entry]);
        let bytes = [&length.to_le_bytes()[..], &sum, entry].concat();
        self.log.file.write_all(&bytes).map_err(|error| error.to_string())?;
        self.entries += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        Stage::Vote.time(|| self.log.file.sync_data()).map_err(|error| error.to_string())
    }
}
