//! An archive: a genesis document and the certified blocks after it in one file, to be
//! kept, handed on and replayed. The layout is written down in `specs/storage.md`.
//!
//! Every byte read is untrusted: lengths are bounded before memory is taken, every part
//! has a checksum, and a file that breaks off is told from one that ends. No block is
//! executed or believed here.

use std::io::{Read, Write};

use ait_engine::block::Block;
use ait_engine::certificate::Certificate;
use ait_engine::codec::{Canonical, DecodeError};
use ait_engine::limits::BLOCK_BODY_BYTES_MAX;
use ait_engine::types::{BlockId, Height};

/// What the file begins with.
const MAGIC: [u8; 8] = *b"AITCHAIN";
/// Version of the layout.
const VERSION: u8 = 1;
/// Longest genesis document, in bytes.
const GENESIS_BYTES_MAX: u32 = 1 << 30;
/// Longest record: a block of the largest body, and a certificate of the largest set.
const RECORD_BYTES_MAX: u32 = BLOCK_BODY_BYTES_MAX + (1 << 20);
/// Bytes of a checksum: the beginning of a BLAKE3 hash.
const CHECKSUM_BYTES: usize = 16;

/// Why an archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file cannot be read or written.
    #[error("byte {at}: {source}")]
    Io {
        /// Where.
        at: u64,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is something else.
    #[error("not an archive of a chain: it begins with {found:02x?}, expected {MAGIC:02x?}")]
    Magic {
        /// Its first bytes.
        found: [u8; 8],
    },
    /// A newer program wrote it.
    #[error("the archive has version {found}, this program reads {VERSION}; upgrade the program")]
    Version {
        /// Its version.
        found: u8,
    },
    /// It breaks off.
    #[error("the archive breaks off at byte {at}, inside {what}; copy or export it again")]
    Truncated {
        /// Where.
        at: u64,
        /// In what.
        what: &'static str,
    },
    /// A length that nothing of its kind has.
    #[error("byte {at}: {what} of {found} bytes, at most {max} are possible")]
    TooLong {
        /// Where.
        at: u64,
        /// Of what.
        what: &'static str,
        /// The length given.
        found: u32,
        /// The longest.
        max: u32,
    },
    /// Bytes were changed.
    #[error("byte {at}: the checksum of {what} does not match; copy or export it again")]
    Checksum {
        /// Where.
        at: u64,
        /// Of what.
        what: &'static str,
    },
    /// A record is not in its form.
    #[error("byte {at}: {what}: {reason}")]
    Form {
        /// Where.
        at: u64,
        /// What.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
}

fn checksum(parts: &[&[u8]]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut short = [0; CHECKSUM_BYTES];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM_BYTES]);
    short
}

/// Writes an archive.
#[derive(Debug)]
pub struct ArchiveWriter<W> {
    out: W,
    at: u64,
    count: u64,
    last: BlockId,
}

impl<W: Write> ArchiveWriter<W> {
    /// Begins an archive of the chain of this genesis document, whose first block will be
    /// that of height `first`.
    ///
    /// # Errors
    /// When it cannot be written, or the document is too long.
    pub fn begin(out: W, genesis: &str, first: Height) -> Result<Self, ArchiveError> {
        let mut writer = Self { out, at: 0, count: 0, last: BlockId([0; 32]) };
        let length = writer.length(genesis.len(), "the genesis", GENESIS_BYTES_MAX)?;
        let mut head = MAGIC.to_vec();
        head.push(VERSION);
        head.extend(first.get().to_le_bytes());
        head.extend(length.to_le_bytes());
        writer.put(&head)?;
        writer.put(genesis.as_bytes())?;
        writer.put(&checksum(&[&head, genesis.as_bytes()]))?;
        Ok(writer)
    }

    /// Adds the next block.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, block: &Block, certificate: &Certificate) -> Result<(), ArchiveError> {
        let (block, certificate, id) = (block.encode(), certificate.encode(), block.header.id());
        let total = block.len() + certificate.len() + 4;
        let total = self.length(total, "a record", RECORD_BYTES_MAX)?;
        let split = self.length(block.len(), "a block", RECORD_BYTES_MAX)?;
        let (total, split) = (total.to_le_bytes(), split.to_le_bytes());
        self.put(&total)?;
        self.put(&split)?;
        self.put(&block)?;
        self.put(&certificate)?;
        self.put(&checksum(&[&total, &split, &block, &certificate]))?;
        self.count = self.count.saturating_add(1);
        self.last = id;
        Ok(())
    }

    /// Ends the archive; gives what was written to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end(mut self) -> Result<W, ArchiveError> {
        let count = self.count.to_le_bytes();
        let last = self.last;
        self.put(&0_u32.to_le_bytes())?;
        self.put(&count)?;
        self.put(&last.0)?;
        self.put(&checksum(&[&count, &last.0]))?;
        self.out.flush().map_err(|source| ArchiveError::Io { at: self.at, source })?;
        Ok(self.out)
    }

    fn length(&self, length: usize, what: &'static str, max: u32) -> Result<u32, ArchiveError> {
        let found = u32::try_from(length).unwrap_or(u32::MAX);
        if found > max {
            return Err(ArchiveError::TooLong { at: self.at, what, found, max });
        }
        Ok(found)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.out.write_all(bytes).map_err(|source| ArchiveError::Io { at: self.at, source })?;
        self.at = self.at.saturating_add(bytes.len() as u64);
        Ok(())
    }
}

/// Reads an archive from its beginning to its end.
#[derive(Debug)]
pub struct ArchiveReader<R> {
    input: R,
    at: u64,
    genesis: String,
    first: Height,
    count: u64,
    last: BlockId,
    ended: bool,
}

impl<R: Read> ArchiveReader<R> {
    /// Reads the head and the genesis document.
    ///
    /// # Errors
    /// [`ArchiveError`]: what it is instead of an archive.
    pub fn begin(input: R) -> Result<Self, ArchiveError> {
        let mut reader = Self {
            input,
            at: 0,
            genesis: String::new(),
            first: Height::ZERO,
            count: 0,
            last: BlockId([0; 32]),
            ended: false,
        };
        let magic = reader.array::<8>("the head")?;
        if magic != MAGIC {
            return Err(ArchiveError::Magic { found: magic });
        }
        let [version] = reader.array::<1>("the head")?;
        if version != VERSION {
            return Err(ArchiveError::Version { found: version });
        }
        let first = reader.array::<8>("the head")?;
        let length = reader.array::<4>("the head")?;
        let genesis = reader.bytes(u32::from_le_bytes(length), "the genesis", GENESIS_BYTES_MAX)?;
        let found = reader.array::<CHECKSUM_BYTES>("the genesis")?;
        if found != checksum(&[&magic, &[version], &first, &length, &genesis]) {
            return Err(ArchiveError::Checksum { at: reader.at, what: "the genesis" });
        }
        let form = |reason: String| ArchiveError::Form { at: 21, what: "the genesis", reason };
        reader.genesis = String::from_utf8(genesis).map_err(|error| form(error.to_string()))?;
        reader.first = Height::new(u64::from_le_bytes(first))
            .ok_or_else(|| form("the first height is over any height".to_owned()))?;
        Ok(reader)
    }

    /// Text of the genesis document.
    #[must_use]
    pub fn genesis(&self) -> &str {
        &self.genesis
    }

    /// Height of the first block in it.
    #[must_use]
    pub const fn first(&self) -> Height {
        self.first
    }

    /// Bytes read so far, for a progress display.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.at
    }

    /// The next block with its certificate; none at the end.
    ///
    /// # Errors
    /// [`ArchiveError`]: what is wrong and where.
    pub fn next_block(&mut self) -> Result<Option<(Block, Certificate)>, ArchiveError> {
        if self.ended {
            return Ok(None);
        }
        let began = self.at;
        let total = self.array::<4>("a record")?;
        let length = u32::from_le_bytes(total);
        if length == 0 {
            self.end()?;
            return Ok(None);
        }
        let bytes = self.bytes(length, "a record", RECORD_BYTES_MAX)?;
        let found = self.array::<CHECKSUM_BYTES>("a record")?;
        if found != checksum(&[&total, &bytes]) {
            return Err(ArchiveError::Checksum { at: began, what: "a record" });
        }
        let form = |what, reason: String| ArchiveError::Form { at: began, what, reason };
        let parts = bytes.split_first_chunk::<4>().and_then(|(split, rest)| {
            rest.split_at_checked(usize::try_from(u32::from_le_bytes(*split)).ok()?)
        });
        let (block, certificate) =
            parts.ok_or_else(|| form("a record", "the block is longer than it".to_owned()))?;
        let wrong = |what| move |error: DecodeError| form(what, error.to_string());
        let block = Block::decode(block).map_err(wrong("a block"))?;
        let certificate = Certificate::decode(certificate).map_err(wrong("a certificate"))?;
        self.count = self.count.saturating_add(1);
        self.last = block.header.id();
        Ok(Some((block, certificate)))
    }

    fn end(&mut self) -> Result<(), ArchiveError> {
        let began = self.at;
        let count = self.array::<8>("the end")?;
        let last = self.array::<32>("the end")?;
        let found = self.array::<CHECKSUM_BYTES>("the end")?;
        if found != checksum(&[&count, &last]) {
            return Err(ArchiveError::Checksum { at: began, what: "the end" });
        }
        let count = u64::from_le_bytes(count);
        if (count, last) != (self.count, self.last.0) {
            let reason = format!(
                "{} blocks up to {} were read, the end names {count} up to {}",
                self.count,
                self.last,
                BlockId(last)
            );
            return Err(ArchiveError::Form { at: began, what: "the end", reason });
        }
        let mut more = [0];
        let left = self.input.read(&mut more);
        match left.map_err(|source| ArchiveError::Io { at: self.at, source })? {
            0 => {
                self.ended = true;
                Ok(())
            }
            _ => {
                let reason = "bytes follow it".to_owned();
                Err(ArchiveError::Form { at: self.at, what: "the end", reason })
            }
        }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ArchiveError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    fn bytes(
        &mut self,
        length: u32,
        what: &'static str,
        max: u32,
    ) -> Result<Vec<u8>, ArchiveError> {
        if length > max {
            return Err(ArchiveError::TooLong { at: self.at, what, found: length, max });
        }
        let mut bytes = Vec::new();
        // Memory follows what is really there, not what a length promises.
        let read = (&mut self.input).take(u64::from(length)).read_to_end(&mut bytes);
        let at = self.at;
        self.at = self.at.saturating_add(bytes.len() as u64);
        read.map_err(|source| ArchiveError::Io { at, source })?;
        if bytes.len() as u64 != u64::from(length) {
            return Err(ArchiveError::Truncated { at: self.at, what });
        }
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8], what: &'static str) -> Result<(), ArchiveError> {
        match self.input.read_exact(bytes) {
            Ok(()) => {
                self.at = self.at.saturating_add(bytes.len() as u64);
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(ArchiveError::Truncated { at: self.at, what })
            }
            Err(source) => Err(ArchiveError::Io { at: self.at, source }),
        }
    }
}
