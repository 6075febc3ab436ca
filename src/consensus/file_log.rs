//! The write-ahead log of one height as a local file.
//!
//! Header: magic, height, checksum. Then a frame for each flush: length, checksum, and its
//! entries, each with its length. A crash can tear the last frame only, whatever of it the
//! disk wrote first; opening cuts off what does not check out, which was never flushed and so
//! never acted upon. Where a good frame follows, it was flushed, and the log is damaged: who
//! went on with a part of it could break a lock. Always a local file: a database that fails
//! over could forget a vote that was sent.
//!
//! A height is written over the one before, whose frames stay behind it until they are written
//! over in turn: a file that keeps its length is synced in half the time or less. They are told
//! apart by the header, which every checksum covers, and heights only rise while a file is
//! written; a start cuts off what is behind. Until the first flush of a height is whole, the file
//! is a mixture of two heights, neither of which matters: the one before is in the store.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use ait_engine::limits::BLOCK_BODY_BYTES_MAX;
use ait_engine::types::Height;

use super::port::WriteAheadLog;
use crate::disk::WriteFault;
use crate::synced::SyncedFile;
use crate::telemetry::Stage;

const MAGIC: &[u8; 8] = b"AITWAL02";
const CHECKSUM_BYTES: usize = 8;
const HEADER_BYTES: usize = 24;
const FRAME_HEAD_BYTES: usize = 4 + CHECKSUM_BYTES;
/// Largest entry: the body of a block and more than its header. Those of the library are far
/// smaller.
const ENTRY_BYTES_MAX: usize = BLOCK_BODY_BYTES_MAX as usize + (1 << 20);
/// Largest log that is written and read back: bodies of many rounds.
const LOG_BYTES_MAX: u64 = 1 << 30;
/// Longest file that is kept to be written over: some full blocks.
const KEPT_BYTES_MAX: u64 = 32 << 20;
/// Room for a frame that is kept in memory.
const FRAME_KEPT_BYTES: usize = 4 << 20;

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
    #[error("{path} is damaged at byte {offset}")]
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
    file: SyncedFile,
    frames: usize,
    bytes: u64,
    /// Length of the file: earlier heights may have been longer.
    length: u64,
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
    /// Opens or makes the log; gives what it holds, without a torn tail. Nothing is kept of a
    /// height before `next`, the one after the newest of the chain.
    ///
    /// # Errors
    /// [`LogError`] when the file cannot be used or is damaged before its end; it is not
    /// changed then.
    pub fn open(path: &Path, next: Height) -> Result<(Self, Option<Logged>), LogError> {
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
        let read = read(&bytes, next);
        let whole = read.whole as u64;
        if is_damaged(&bytes, &read, next) {
            return Err(LogError::Damaged { path: path.to_owned(), offset: whole });
        }
        file.set_len(whole).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        let file = SyncedFile::new(file);
        Ok((Self { file, frames: read.count, bytes: whole, length: whole }, read.logged))
    }
}

/// What [`FileLog::inspect`] finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedLog {
    /// The height that was under way, and the entries that are whole.
    pub logged: Option<Logged>,
    /// Bytes up to the end of the last whole frame.
    pub whole_bytes: u64,
    /// Bytes behind them: of earlier heights, of a flush that a crash ended, or damaged.
    pub other_bytes: u64,
    /// Whether whole frames follow those bytes, so that what is between was damaged later.
    pub is_damaged: bool,
}

impl FileLog {
    /// Looks at a log as [`FileLog::open`] does, without changing it; none if there is no file.
    ///
    /// # Errors
    /// [`LogError`] when the file cannot be read or is another kind of file.
    pub fn inspect(path: &Path, next: Height) -> Result<Option<InspectedLog>, LogError> {
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
        let read = read(&bytes, next);
        let is_damaged = is_damaged(&bytes, &read, next);
        Ok(Some(InspectedLog {
            whole_bytes: read.whole as u64,
            other_bytes: bytes.len().saturating_sub(read.whole) as u64,
            logged: read.logged,
            is_damaged,
        }))
    }
}

/// Whether something that was flushed follows what is whole: of its height, or, without a header,
/// of the height that would be under way. The first frame may be whole without a header that was
/// written with it.
fn is_damaged(bytes: &[u8], read: &Frames, next: Height) -> bool {
    let height = read.logged.as_ref().map_or(next, |(height, _)| *height);
    let rest = bytes.get(read.whole..).unwrap_or_default();
    follows(rest, &header(height), read.count)
}

/// Whether a whole frame of a later number begins anywhere in these bytes.
fn follows(rest: &[u8], head: &[u8], frames: usize) -> bool {
    // What is behind a log may be made to look like frames by who knows the next height, so that
    // every byte would cost a checksum over all that follow.
    let mut left = LOG_BYTES_MAX;
    let begins = |at: usize| {
        let tail = rest.get(at..).unwrap_or_default();
        let Some(parsed) = parse(tail) else { return false };
        left = left.saturating_sub(parsed.of_frame.len() as u64);
        left > 0 && (frames + 1..frames + 4).any(|index| parsed.is_frame(head, index))
    };
    (1..rest.len()).any(begins)
}

/// Whether the beginning is that of a log, or of one that a power cut left unwritten: a file
/// may have its length before its bytes, which are zeros then.
fn may_be_log(bytes: &[u8]) -> bool {
    let written = bytes.iter().zip(MAGIC).take_while(|(found, ours)| found == ours).count();
    bytes.iter().take(MAGIC.len()).skip(written).all(|byte| *byte == 0)
}

/// What the bytes of a log hold.
#[derive(Default)]
struct Frames {
    logged: Option<Logged>,
    count: usize,
    /// How many bytes are good.
    whole: usize,
}

fn read(bytes: &[u8], next: Height) -> Frames {
    let header = bytes.split_first_chunk::<16>().filter(|(_, rest)| rest.len() >= CHECKSUM_BYTES);
    // Frames are written under the header as it should be: one that differs is none.
    let header = header.filter(|(head, _)| head.starts_with(MAGIC));
    let Some((head, rest)) = header else { return Frames::default() };
    let (sum, mut rest) = rest.split_at(CHECKSUM_BYTES);
    if sum != checksum(&[head]) {
        return Frames::default();
    }
    let mut height = [0; 8];
    height.copy_from_slice(&head[8..]);
    let height = Height::saturating(u64::from_le_bytes(height));
    if height < next {
        return Frames::default();
    }
    let (mut entries, mut count, mut whole) = (Vec::new(), 0, HEADER_BYTES);
    while let Some((of_frame, tail)) = frame(rest, head, count) {
        count += 1;
        whole += rest.len() - tail.len();
        entries.extend(of_frame.into_iter().map(<[u8]>::to_vec));
        rest = tail;
    }
    Frames { logged: Some((height, entries)), count, whole }
}

/// What has the form of a frame.
struct Parsed<'a> {
    sum: [u8; CHECKSUM_BYTES],
    of_frame: &'a [u8],
    entries: Vec<&'a [u8]>,
    tail: &'a [u8],
}

impl Parsed<'_> {
    /// Whether it is that frame of the log with this header: place and height are part of the sum,
    /// so that a frame of an older log never passes.
    fn is_frame(&self, head: &[u8], index: usize) -> bool {
        self.sum == checksum(&[head, &index.to_le_bytes(), self.of_frame])
    }
}

fn parse(rest: &[u8]) -> Option<Parsed<'_>> {
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<CHECKSUM_BYTES>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (of_frame, tail) = rest.split_at_checked(length)?;
    let (mut left, mut entries) = (of_frame, Vec::new());
    while let Some((length, more)) = left.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (entry, more) = more.split_at_checked(length).filter(|_| length <= ENTRY_BYTES_MAX)?;
        entries.push(entry);
        left = more;
    }
    // A frame has an entry at least.
    let is_frame = left.is_empty() && !entries.is_empty();
    is_frame.then_some(Parsed { sum: *sum, of_frame, entries, tail })
}

/// The entries of a frame, and what follows it.
fn frame<'a>(rest: &'a [u8], head: &[u8], index: usize) -> Option<(Vec<&'a [u8]>, &'a [u8])> {
    let parsed = parse(rest).filter(|parsed| parsed.is_frame(head, index))?;
    Some((parsed.entries, parsed.tail))
}

/// A log being written.
#[derive(Debug)]
pub struct LogWriter {
    log: FileLog,
    height: Height,
    /// The next frame.
    frame: Vec<u8>,
}

impl FileLog {
    /// Bytes of the header and of every whole frame.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Goes on writing behind what [`FileLog::open`] gave.
    #[must_use]
    pub fn into_writer(self, logged: Option<&Logged>) -> LogWriter {
        let height = logged.map_or(Height::ZERO, |(height, _)| *height);
        LogWriter { log: self, height, frame: begun() }
    }
}

/// A frame without entries: room for its length and checksum.
fn begun() -> Vec<u8> {
    vec![0; FRAME_HEAD_BYTES]
}

fn header(height: Height) -> [u8; 16] {
    let mut head = [0; 16];
    head[..8].copy_from_slice(MAGIC);
    head[8..].copy_from_slice(&height.get().to_le_bytes());
    head
}

impl LogWriter {
    /// Whether all that was written is synced.
    pub(crate) fn is_synced(&self) -> bool {
        self.log.file.is_synced()
    }

    /// Begins a frame in the room of the last one, which a block takes again.
    fn begin_frame(&mut self) {
        self.frame.truncate(FRAME_HEAD_BYTES);
        self.frame.shrink_to(FRAME_KEPT_BYTES);
    }

    /// Writes the frame at once: whole, or of no use.
    fn write(&mut self) -> std::io::Result<()> {
        let of_frame = self.frame.get(FRAME_HEAD_BYTES..).unwrap_or_default();
        let length = u32::try_from(of_frame.len()).map_err(std::io::Error::other)?;
        let end = self.log.bytes.saturating_add(self.frame.len() as u64);
        if end > LOG_BYTES_MAX {
            return Err(std::io::Error::other("it would be too long to be read back"));
        }
        let head = header(self.height);
        let sum = checksum(&[&head, &self.log.frames.to_le_bytes(), of_frame]);
        self.frame[..4].copy_from_slice(&length.to_le_bytes());
        self.frame[4..FRAME_HEAD_BYTES].copy_from_slice(&sum);
        self.log.file.write_all(&self.frame)?;
        self.log.file.sync_data()?;
        (self.log.frames, self.log.bytes) = (self.log.frames + 1, end);
        self.log.length = self.log.length.max(end);
        self.begin_frame();
        Ok(())
    }
}

impl WriteAheadLog for LogWriter {
    fn begin(&mut self, height: Height) -> Result<(), WriteFault> {
        let log = &mut self.log;
        let head = header(height);
        // Frames of the same height that are left would pass for its own.
        if height <= self.height || log.length > KEPT_BYTES_MAX {
            log.file.set_len(0)?;
            log.length = 0;
        }
        log.file.seek(SeekFrom::Start(0))?;
        log.file.write_all(&[&head[..], &checksum(&[&head])].concat())?;
        (log.frames, log.bytes) = (0, HEADER_BYTES as u64);
        log.length = log.length.max(log.bytes);
        self.height = height;
        self.begin_frame();
        Ok(())
    }

    fn append(&mut self, entry: &[u8]) -> Result<(), WriteFault> {
        let length = u32::try_from(entry.len()).ok().filter(|_| entry.len() <= ENTRY_BYTES_MAX);
        let length = length.ok_or_else(|| format!("an entry of {} bytes", entry.len()))?;
        self.frame.extend(length.to_le_bytes());
        self.frame.extend(entry);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteFault> {
        if self.frame.len() == FRAME_HEAD_BYTES {
            return Ok(());
        }
        Ok(Stage::Vote.time(|| self.write())?)
    }
}
