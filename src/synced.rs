//! A file that knows whether what was written to it is synced. Who syncs a file before acting on
//! it is asked by the simulator whether it did: what was only written looks the same until the
//! power is cut.

use std::fs::File;
use std::io::{Result, Seek as _, SeekFrom, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

/// The only way to write to a file whose bytes somebody relies on.
#[derive(Debug)]
pub(crate) struct SyncedFile {
    file: File,
    is_dirty: AtomicBool,
}

impl SyncedFile {
    /// What was written to the file before is not looked at.
    pub(crate) const fn new(file: File) -> Self {
        Self { file, is_dirty: AtomicBool::new(false) }
    }

    /// Whether everything that was written is synced.
    pub(crate) fn is_synced(&self) -> bool {
        !self.is_dirty.load(Ordering::Acquire)
    }

    pub(crate) fn write_all(&self, bytes: &[u8]) -> Result<()> {
        self.is_dirty.store(true, Ordering::Release);
        (&self.file).write_all(bytes)
    }

    pub(crate) fn set_len(&self, bytes: u64) -> Result<()> {
        self.is_dirty.store(true, Ordering::Release);
        self.file.set_len(bytes)
    }

    pub(crate) fn seek(&self, to: SeekFrom) -> Result<u64> {
        (&self.file).seek(to)
    }

    pub(crate) fn sync_data(&self) -> Result<()> {
        // First, so that what another thread writes meanwhile does not pass for synced.
        self.is_dirty.store(false, Ordering::Release);
        self.file.sync_data().inspect_err(|_| self.is_dirty.store(true, Ordering::Release))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sync_after_the_last_write_makes_it_synced() {
        let file = SyncedFile::new(tempfile::tempfile().unwrap());
        assert!(file.is_synced());
        file.write_all(b"one").unwrap();
        assert!(!file.is_synced());
        file.sync_data().unwrap();
        assert!(file.is_synced());
        file.set_len(1).unwrap();
        assert!(!file.is_synced());
    }
}
