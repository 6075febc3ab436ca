//! The fingerprint of a genesis document in a file, without reading it at every start: one of ten
//! million accounts has a gigabyte.
//!
//! Beside the databases stands what the file was like when it was read last: its length, its
//! times and its place in the file system. A file that is still like that was not written
//! since, for nobody sets the time of a file's last change back.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::GenesisSource;

/// Name of the note in the directory of the databases.
const NOTE: &str = "genesis.seen";

impl GenesisSource<'_> {
    /// That of the text in a file. `databases` is where a note of it is kept.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn fingerprint_of(path: &Path, databases: &Path) -> io::Result<[u8; 32]> {
        let file = File::open(path)?;
        let like = like(&file.metadata()?);
        let note = databases.join(NOTE);
        if let Some(known) = fs::read_to_string(&note).ok().and_then(|text| noted(&text, &like)) {
            return Ok(known);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file)?;
        let fingerprint = *hasher.finalize().as_bytes();
        // Without the note the next start reads the file again.
        if databases.is_dir() {
            let _ = fs::write(note, format!("{like} {}\n", hex::encode(fingerprint)));
        }
        Ok(fingerprint)
    }
}

fn like(file: &Metadata) -> String {
    let (length, device, inode) = (file.len(), file.dev(), file.ino());
    let written = format!("{}.{:09}", file.mtime(), file.mtime_nsec());
    let changed = format!("{}.{:09}", file.ctime(), file.ctime_nsec());
    format!("{length} {device} {inode} {written} {changed}")
}

fn noted(note: &str, like: &str) -> Option<[u8; 32]> {
    let fingerprint = note.trim_end().strip_prefix(like)?.strip_prefix(' ')?;
    hex::decode(fingerprint).ok()?.try_into().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_once_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("genesis.json");
        let of = || GenesisSource::fingerprint_of(&path, directory.path()).unwrap();
        fs::write(&path, "one").unwrap();
        assert_eq!(of(), GenesisSource::fingerprint(b"one"));
        // The note is believed, and only while the file is what it was.
        let note = directory.path().join(NOTE);
        let text = fs::read_to_string(&note).unwrap();
        let (like, _) = text.trim_end().rsplit_once(' ').unwrap();
        fs::write(&note, format!("{like} {}\n", hex::encode([5; 32]))).unwrap();
        assert_eq!(of(), [5; 32]);
        // Times of files may be as coarse as the system's clock ticks.
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&path, "two").unwrap();
        assert_eq!(of(), GenesisSource::fingerprint(b"two"));
        for garbage in ["", "x", like, &format!("{like} zz")] {
            fs::write(&note, garbage).unwrap();
            assert_eq!(of(), GenesisSource::fingerprint(b"two"));
        }
    }
}
