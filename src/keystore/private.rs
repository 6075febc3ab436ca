//! Files that only their owner may read, whoever else is on the machine.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::KeystoreError;

/// Everything to anybody but the owner.
pub const TO_OTHERS: u32 = 0o077;
/// Reading by whoever is not of its group, writing by anybody but the owner.
pub const TO_STRANGERS: u32 = 0o027;
/// Writing by anybody but the owner.
const WRITING: u32 = 0o022;
/// Where containers are given secrets: files that all of a container may read.
const CONTAINER_SECRETS: &str = "/run/secrets";

/// Permission bits of a file if any of `denied` is among them; none for what is no plain
/// file: a pipe or a terminal is not stored.
#[must_use]
pub fn allows(metadata: &Metadata, denied: u32) -> Option<u32> {
    let mode = metadata.permissions().mode() & 0o777;
    (metadata.is_file() && mode & denied != 0).then_some(mode)
}

/// Refuses a file that is open to others. What a service manager hands to this service only
/// may be readable to all who see it, which is nobody else.
fn check(path: &Path, metadata: &Metadata) -> Result<(), KeystoreError> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let places = [credentials, Some(PathBuf::from(CONTAINER_SECRETS))];
    check_but_in(path, metadata, places.iter().flatten())
}

pub(super) fn check_but_in<'a>(
    path: &Path,
    metadata: &Metadata,
    mut places: impl Iterator<Item = &'a PathBuf>,
) -> Result<(), KeystoreError> {
    let lies_in = |place: &PathBuf| {
        let (path, place) = (fs::canonicalize(path), fs::canonicalize(place));
        path.is_ok_and(|path| place.is_ok_and(|place| path.starts_with(place)))
    };
    let denied = if places.any(lies_in) { WRITING } else { TO_OTHERS };
    match allows(metadata, denied) {
        Some(found) => Err(KeystoreError::Permissions { path: path.to_owned(), found }),
        None => Ok(()),
    }
}

/// Reads a text of at most `bytes_max` bytes that others may not read. It is wiped when
/// dropped.
///
/// # Errors
/// [`KeystoreError::Permissions`] if it is open to others, [`KeystoreError::Io`] if it cannot
/// be read or is longer.
pub fn read_private(path: &Path, bytes_max: usize) -> Result<Zeroizing<String>, KeystoreError> {
    let io = |source| KeystoreError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    check(path, &file.metadata().map_err(io)?)?;
    // Room for all of it from the start: what grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(bytes_max + 1));
    file.take(bytes_max as u64 + 1).read_to_string(&mut text).map_err(io)?;
    if text.len() > bytes_max {
        return Err(io(io::Error::other(format!("longer than {bytes_max} bytes"))));
    }
    Ok(text)
}

/// Writes a file of mode 0600; what was there is replaced as a whole. It is on disk under
/// its name once this returns. A failed attempt leaves no copy behind.
///
/// # Errors
/// What the file system says.
pub fn write_private(path: &Path, text: impl AsRef<[u8]>) -> io::Result<()> {
    write(path, text.as_ref(), 0o600)
}

/// The same for what others may read, too: a genesis or a configuration that a power cut took
/// would leave a data directory of no use.
///
/// # Errors
/// What the file system says.
pub fn write_public(path: &Path, text: impl AsRef<[u8]>) -> io::Result<()> {
    write(path, text.as_ref(), 0o666)
}

fn write(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(&new)?;
    let written = file.write_all(text).and_then(|()| file.sync_all());
    let placed = written.and_then(|()| fs::rename(&new, path));
    if placed.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&new);
    }
    placed?;
    sync_directory(path)
}

/// Syncs the directory of a file: a new name in it outlives a power cut only then.
///
/// # Errors
/// What the file system says.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or_else(|| Path::new(".")))?.sync_all()
}
