//! Bundles on disk: `<data directory>/divergence/<height>-<16 digits of the block id>.ait`.
//!
//! Every byte read is untrusted. A file has its name only once it is whole and durable.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ait_engine::codec::{Canonical, DecodeError};

use super::Divergence;

/// Files that a data directory keeps; the oldest go first.
pub const FILES_MAX: usize = 16;

/// What the file begins with.
const MAGIC: [u8; 8] = *b"AITDIVRG";
/// Version of the layout.
const VERSION: u8 = 1;
/// Largest content, in bytes.
const CONTENT_BYTES_MAX: u32 = 1 << 30;
/// Bytes before the content: magic, version, length.
const HEAD_BYTES: usize = 13;
/// Bytes of a checksum: the beginning of a BLAKE3 hash.
const CHECKSUM_BYTES: usize = 16;
/// How the names of files end, and of those that are not whole yet.
const SUFFIX: &str = ".ait";
const STAGED_SUFFIX: &str = ".ait.part";

/// Why a file is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("it is not a divergence file: those begin with AITDIVRG")]
    Magic,
    /// A newer program wrote it.
    #[error("it has version {found}, this program reads {VERSION}; upgrade the program")]
    Version {
        /// Its version.
        found: u8,
    },
    /// It breaks off, or goes on after its end.
    #[error("it has {found} bytes, expected {expected}; copy it again")]
    Length {
        /// Bytes that its head promises.
        expected: u64,
        /// Bytes there are, or one more than expected if there are more.
        found: u64,
    },
    /// Larger than any bundle.
    #[error("its content has {found} bytes, at most {CONTENT_BYTES_MAX} are possible")]
    TooLong {
        /// The length that its head names, in bytes.
        found: u32,
    },
    /// Bytes were changed.
    #[error("its checksum does not match; copy it again")]
    Checksum,
    /// The content is not in its form.
    #[error("its content is not in its form: {0}")]
    Form(#[from] DecodeError),
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut short = [0; CHECKSUM_BYTES];
    short.copy_from_slice(&blake3::hash(bytes).as_bytes()[..CHECKSUM_BYTES]);
    short
}

/// The bytes of a file.
fn encode(divergence: &Divergence) -> io::Result<Vec<u8>> {
    let content = divergence.encode();
    let length = u32::try_from(content.len()).ok().filter(|length| *length <= CONTENT_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("the block reads too much of the state"))?;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + content.len() + CHECKSUM_BYTES);
    bytes.extend(MAGIC);
    bytes.push(VERSION);
    bytes.extend(length.to_le_bytes());
    bytes.extend(content);
    bytes.extend(checksum(&bytes));
    Ok(bytes)
}

/// Reads a bundle to its end.
pub(super) fn decode(mut input: impl Read) -> Result<Divergence, BundleError> {
    let mut bytes = Vec::new();
    input.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut bytes)?;
    if !bytes.starts_with(&MAGIC) {
        return Err(BundleError::Magic);
    }
    let head: [u8; HEAD_BYTES] = bytes[..].try_into().map_err(|_| BundleError::Length {
        expected: HEAD_BYTES as u64,
        found: bytes.len() as u64,
    })?;
    let [.., version, a, b, c, d] = head;
    if version != VERSION {
        return Err(BundleError::Version { found: version });
    }
    let length = u32::from_le_bytes([a, b, c, d]);
    if length > CONTENT_BYTES_MAX {
        return Err(BundleError::TooLong { found: length });
    }
    let rest = u64::from(length) + CHECKSUM_BYTES as u64;
    // Memory follows what is there; one byte more shows that the file goes on.
    input.take(rest + 1).read_to_end(&mut bytes)?;
    let (expected, found) = (HEAD_BYTES as u64 + rest, bytes.len() as u64);
    if found != expected {
        return Err(BundleError::Length { expected, found });
    }
    let (summed, sum) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
    if sum != checksum(summed) {
        return Err(BundleError::Checksum);
    }
    Ok(Divergence::decode(&summed[HEAD_BYTES..])?)
}

/// Reads a bundle.
///
/// # Errors
/// [`BundleError`]: what it is instead.
pub fn read(path: &Path) -> Result<Divergence, BundleError> {
    decode(File::open(path)?)
}

/// Writes a bundle into a data directory, unless there is one of the same block; gives its
/// path. Durable when this returns. Of more than [`FILES_MAX`] files the oldest are deleted.
///
/// # Errors
/// When the disk refuses, or the bundle is over a GiB.
pub fn write(data_dir: &Path, divergence: &Divergence) -> io::Result<PathBuf> {
    let directory = data_dir.join("divergence");
    let header = &divergence.block.header;
    let id = hex::encode(&header.id().0[..8]);
    let path = directory.join(format!("{}-{id}{SUFFIX}", header.height));
    if path.exists() {
        return Ok(path);
    }
    let bytes = encode(divergence)?;
    if !directory.exists() {
        fs::create_dir_all(&directory)?;
        File::open(data_dir)?.sync_all()?;
    }
    let staged = path.with_extension(&STAGED_SUFFIX[1..]);
    let written = put(&staged, &bytes).and_then(|()| fs::rename(&staged, &path));
    written.inspect_err(|_| drop(fs::remove_file(&staged)))?;
    File::open(&directory)?.sync_all()?;
    if let Err(error) = prune(&directory, &path) {
        tracing::warn!(%error, "old divergence files cannot be deleted");
    }
    Ok(path)
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Deletes the oldest bundles and what a crash left half written; nothing else.
fn prune(directory: &Path, newest: &Path) -> io::Result<()> {
    let mut bundles: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let (entry, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let name = name.to_string_lossy();
        if name.strip_suffix(STAGED_SUFFIX).is_some_and(is_stem) {
            fs::remove_file(&entry)?;
        } else if name.strip_suffix(SUFFIX).is_some_and(is_stem) && entry != newest {
            bundles.push((fs::metadata(&entry)?.modified()?, entry));
        }
    }
    bundles.sort();
    let surplus = (bundles.len() + 1).saturating_sub(FILES_MAX);
    bundles[..surplus].iter().try_for_each(|(_, path)| fs::remove_file(path))
}

/// Whether this is a height and the beginning of a block id.
fn is_stem(text: &str) -> bool {
    text.split_once('-').is_some_and(|(height, id)| {
        height.parse::<u64>().is_ok() && id.len() == 16 && hex::decode(id).is_ok()
    })
}

/// Writes a bundle and says in the log where it is. A node that cannot write it goes on.
pub fn report(data_dir: &Path, divergence: &Divergence) {
    let header = &divergence.block.header;
    let (height, block_id, reason) = (header.height, header.id(), &divergence.reason);
    let what = "executing a block here does not give what its header says";
    match write(data_dir, divergence) {
        Ok(path) => {
            let path = path.display();
            tracing::error!(%height, %block_id, %reason, %path, "{what}; see: ait-node explain {path}");
        }
        Err(error) => {
            tracing::error!(%height, %block_id, %reason, %error, "{what}; no file could be written");
        }
    }
}
