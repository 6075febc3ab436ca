//! The write-ahead log of one height as a local file.
//!
//! Header: magic, height, checksum. Then a frame for each flush: length, checksum, and its
//! entries, each with its length. A crash can tear the last frame only, whatever of it the
//! disk wrote first; opening cuts off what does not check out, which was never flushed and so
//! never acted upon. Where a good frame follows, it was flushed, and the log is damaged: who
//! went on with a part of it could break a lock. Always a local file: a database that fails
//! over could forget a vote that was sent.

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
        let read = read(&bytes);
        if is_damaged(&bytes, &read) {
            return Err(LogError::Damaged { path: path.to_owned(), offset: read.whole as u64 });
        }
        file.set_len(read.whole as u64).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        let file = SyncedFile::new(file);
        Ok((Self { file, frames: read.count, bytes: read.whole as u64 }, read.logged))
    }
}

/// What [`FileLog::inspect`] finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedLog {
    /// The height that was under way, and the entries that are whole.
    pub logged: Option<Logged>,
    /// Bytes up to the end of the last whole frame.
    pub whole_bytes: u64,
    /// Bytes behind them: of a flush that a crash ended, or damaged.
    pub other_bytes: u64,
    /// Whether whole frames follow those bytes, so that what is between was damaged later.
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
        let read = read(&bytes);
        let is_damaged = is_damaged(&bytes, &read);
        Ok(Some(InspectedLog {
            whole_bytes: read.whole as u64,
            other_bytes: bytes.len().saturating_sub(read.whole) as u64,
            logged: read.logged,
            is_damaged,
        }))
    }
}

/// Whether something that was flushed follows what is whole.
fn is_damaged(bytes: &[u8], read: &Frames) -> bool {
    let rest = bytes.get(read.whole..).unwrap_or_default();
    match (&read.logged, bytes.first_chunk::<16>()) {
        (Some(_), Some(head)) => follows(rest, head, read.count),
        // A header is written at once, before any frame; unwritten bytes are zeros.
        _ => rest.iter().skip(HEADER_BYTES).any(|byte| *byte != 0),
    }
}

/// Whether a whole frame of a later number begins anywhere in these bytes.
fn follows(rest: &[u8], head: &[u8], frames: usize) -> bool {
    let begins = |at: &usize| {
        let tail = rest.get(*at..).unwrap_or_default();
        (frames + 1..frames + 4).any(|index| frame(tail, head, index).is_some())
    };
    (1..rest.len()).any(|at| begins(&at))
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

fn read(bytes: &[u8]) -> Frames {
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
    let (mut entries, mut count, mut whole) = (Vec::new(), 0, HEADER_BYTES);
    while let Some((of_frame, tail)) = frame(rest, head, count) {
        count += 1;
        whole += rest.len() - tail.len();
        entries.extend(of_frame.into_iter().map(<[u8]>::to_vec));
        rest = tail;
    }
    let logged = Some((Height::saturating(u64::from_le_bytes(height)), entries));
    Frames { logged, count, whole }
}

/// The entries of a frame, and what follows it.
fn frame<'a>(rest: &'a [u8], head: &[u8], index: usize) -> Option<(Vec<&'a [u8]>, &'a [u8])> {
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<CHECKSUM_BYTES>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (mut of_frame, tail) = rest.split_at_checked(length)?;
    // Place and height are part of the sum: a frame of an older log never passes.
    if *sum != checksum(&[head, &index.to_le_bytes(), of_frame]) {
        return None;
    }
    let mut entries = Vec::new();
    while let Some((length, more)) = of_frame.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (entry, more) = more.split_at_checked(length).filter(|_| length <= ENTRY_BYTES_MAX)?;
        entries.push(entry);
        of_frame = more;
    }
    of_frame.is_empty().then_some((entries, tail))
}

/// A log being written.
#[derive(Debug)]
pub struct LogWriter {
    log: FileLog,
    head: [u8; 16],
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
        let head = header(logged.map_or(Height::ZERO, |(height, _)| *height));
        LogWriter { log: self, head, frame: begun() }
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

    /// Writes the frame at once: whole, or of no use.
    fn write(&mut self) -> std::io::Result<()> {
        let of_frame = self.frame.get(FRAME_HEAD_BYTES..).unwrap_or_default();
        let length = u32::try_from(of_frame.len()).map_err(std::io::Error::other)?;
        let end = self.log.bytes.saturating_add(self.frame.len() as u64);
        if end > LOG_BYTES_MAX {
            return Err(std::io::Error::other("it would be too long to be read back"));
        }
        let sum = checksum(&[&self.head, &self.log.frames.to_le_bytes(), of_frame]);
        self.frame[..4].copy_from_slice(&length.to_le_bytes());
        self.frame[4..FRAME_HEAD_BYTES].copy_from_slice(&sum);
        self.log.file.write_all(&self.frame)?;
        self.log.file.sync_data()?;
        (self.log.frames, self.log.bytes) = (self.log.frames + 1, end);
        self.frame = begun();
        Ok(())
    }
}

impl WriteAheadLog for LogWriter {
    fn begin(&mut self, height: Height) -> Result<(), WriteFault> {
        let file = &self.log.file;
        let write = || {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            let head = header(height);
            file.write_all(&[&head[..], &checksum(&[&head])].concat())
        };
        write().map_err(|error: std::io::Error| WriteFault::from(error))?;
        self.head = header(height);
        (self.log.frames, self.log.bytes) = (0, HEADER_BYTES as u64);
        self.frame = begun();
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
