//! Room on the disk of the data directory: looked at, kept in reserve, and what follows
//! when there is too little.
//!
//! A full disk is expected, not an accident: long before a write fails, the node stops
//! whatever writes (it takes no transaction, votes for no block, leaves its peers) and goes
//! on serving what it has; once there is room it goes on by itself. A file of some size is
//! kept in reserve. It is given up when a write failed all the same, or when a start finds
//! no room, so that the databases can be opened and closed in order.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ait_storage::{StorageError, StorageErrorKind};
use rustix::fs::{FallocateFlags, Mode, OFlags, StatVfsMountFlags, fallocate, statvfs};

/// Name of the reserve in the data directory.
const RESERVE: &str = "reserve";

/// How much room there must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskOptions {
    /// Below this many free bytes the node only reads; 0: never.
    pub free_bytes_min: u64,
    /// Size of the file that is kept in reserve; 0: none.
    pub reserve_bytes: u64,
}

/// Why nothing may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    /// Too little room.
    #[error(
        "the disk of the data directory has {free_bytes} bytes free, {needed_bytes} are needed"
    )]
    Full {
        /// What is free, without the reserve.
        free_bytes: u64,
        /// From which on the node goes on.
        needed_bytes: u64,
    },
    /// Nothing can be written to the file system, as after an error of the disk.
    #[error("the file system of the data directory is read-only")]
    ReadOnly,
}

impl Shortage {
    /// Code of a full disk.
    pub const FULL: &'static str = "disk_full";
    /// Code of a read-only one.
    pub const READ_ONLY: &'static str = "disk_read_only";

    /// Stable code, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Full { .. } => Self::FULL,
            Self::ReadOnly => Self::READ_ONLY,
        }
    }

    /// What the operator may do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Full { .. } => {
                "free or add room on the disk of the data directory; the node goes on by itself"
            }
            Self::ReadOnly => {
                "look in the system's log for errors of the disk; the node goes on by itself once it is mounted writable again, which after an error means to stop the node, check the file system, mount it and start the node"
            }
        }
    }
}

/// What a look at the disk shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    free_bytes: u64,
    is_read_only: bool,
}

/// A file without a name, or why there is none: not every file system has such files.
#[derive(Debug)]
struct Probe(io::Result<File>);

impl Probe {
    fn new(directory: &Path) -> Self {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let opened = rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR);
        Self(opened.map(File::from).map_err(io::Error::from))
    }

    /// Whether nothing can be written. A file system that an error of the disk stopped need not
    /// say so of itself, as ext4 of newer kernels does not, but refuses even to write nothing.
    fn is_refused(&self) -> bool {
        let is_read_only = |error: &io::Error| error.kind() == io::ErrorKind::ReadOnlyFilesystem;
        match &self.0 {
            Ok(file) => (&*file).write(&[]).is_err_and(|error| is_read_only(&error)),
            Err(error) => is_read_only(error),
        }
    }
}

impl Room {
    fn of(directory: &Path, probe: &Probe) -> io::Result<Self> {
        let seen = statvfs(directory)?;
        Ok(Self {
            free_bytes: seen.f_bavail.saturating_mul(seen.f_frsize),
            is_read_only: seen.f_flag.contains(StatVfsMountFlags::RDONLY) || probe.is_refused(),
        })
    }

    /// Whether it is too little. `missing_bytes` of the reserve are to be had besides; a node
    /// that had paused waits for an eighth more, so that it does not stop again at once.
    fn shortage(self, options: &DiskOptions, missing_bytes: u64, paused: bool) -> Option<Shortage> {
        let slack = if paused { options.free_bytes_min / 8 } else { 0 };
        let needed_bytes = options.free_bytes_min.saturating_add(slack);
        let needed_bytes =
            if paused { needed_bytes.saturating_add(missing_bytes) } else { needed_bytes };
        if self.is_read_only {
            Some(Shortage::ReadOnly)
        } else if self.free_bytes < needed_bytes {
            Some(Shortage::Full { free_bytes: self.free_bytes, needed_bytes })
        } else {
            None
        }
    }
}

#[derive(Debug, Default)]
struct State {
    shortage: Option<Shortage>,
    free_bytes: u64,
    /// A write failed for want of room, and this is the code of it: the process is about to end.
    failed: Option<&'static str>,
}

/// The room of a data directory, shared by all that write there.
#[derive(Debug)]
pub struct Disk {
    directory: PathBuf,
    options: DiskOptions,
    probe: Probe,
    state: Mutex<State>,
}

impl Disk {
    /// Looks at the disk of `directory`, which must exist. The reserve is made if there is
    /// room for it, and given up if there is none for the node.
    ///
    /// # Errors
    /// When the system does not tell about the disk.
    pub fn open(directory: &Path, options: DiskOptions) -> io::Result<Self> {
        let (directory, probe) = (directory.to_owned(), Probe::new(directory));
        let disk = Self { directory, options, probe, state: Mutex::default() };
        let room = Room::of(&disk.directory, &disk.probe)?;
        let shortage = room.shortage(&options, 0, false);
        if let Some(Shortage::Full { .. }) = shortage {
            disk.give_up_reserve();
        }
        disk.lock().shortage = shortage;
        disk.look()?;
        Ok(disk)
    }

    // Whoever panicked holding it changed nothing that matters.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks again. Costs a system call or two.
    ///
    /// # Errors
    /// When the system does not tell about the disk.
    pub fn look(&self) -> io::Result<Option<Shortage>> {
        // The disk is not waited for under the lock: others only ask how it was.
        let room = Room::of(&self.directory, &self.probe)?;
        let missing_bytes = self.reserve_missing();
        let (before, has_failed) = {
            let state = self.lock();
            (state.shortage, state.failed.is_some())
        };
        let mut shortage = room.shortage(&self.options, missing_bytes, before.is_some());
        let has_room = room.free_bytes >= self.options.free_bytes_min.saturating_add(missing_bytes);
        if missing_bytes > 0 && shortage.is_none() && has_room && !has_failed {
            // Without its reserve a node runs as well, but a paused one waits for it.
            shortage = if self.make_reserve().is_err() { before } else { None };
        }
        let mut state = self.lock();
        state.shortage = shortage;
        state.free_bytes = room.free_bytes;
        Ok(shortage)
    }

    /// Why nothing may be written, as of the last look.
    #[must_use]
    pub fn shortage(&self) -> Option<Shortage> {
        self.lock().shortage
    }

    /// Free bytes as of the last look.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.lock().free_bytes
    }

    /// The code of the shortage for which a write failed, or would have, if any. Looks again: who
    /// writes may be told of an error a moment before its file system stops for it.
    #[must_use]
    pub fn failed(&self) -> Option<&'static str> {
        let _ = self.look();
        let state = self.lock();
        state.failed.or(state.shortage.as_ref().map(Shortage::code))
    }

    /// Takes note of a failure. If it is for want of room, or there is too little, the reserve is given
    /// up, so that the node can end in order.
    pub fn note_failure(&self, error: &(dyn Error + 'static)) {
        let seen = self.look().ok().flatten().map(|shortage| shortage.code());
        if let Some(code) = want_of_room(error).or(seen) {
            self.lock().failed = Some(code);
            self.give_up_reserve();
        }
    }

    fn reserve(&self) -> PathBuf {
        self.directory.join(RESERVE)
    }

    fn reserve_missing(&self) -> u64 {
        let kept = fs::metadata(self.reserve()).map_or(0, |meta| meta.len());
        self.options.reserve_bytes.saturating_sub(kept)
    }

    fn make_reserve(&self) -> io::Result<()> {
        let path = self.reserve();
        let made = File::create(&path).and_then(|file| {
            fallocate(&file, FallocateFlags::empty(), 0, self.options.reserve_bytes)?;
            file.sync_all()
        });
        made.inspect_err(|error| {
            tracing::warn!(path = %path.display(), %error, "no room can be kept in reserve");
            let _ = fs::remove_file(&path);
        })
    }

    fn give_up_reserve(&self) {
        match fs::remove_file(self.reserve()) {
            Ok(()) => tracing::warn!(bytes = self.options.reserve_bytes, "gave up the reserve"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "the reserve cannot be given up"),
        }
    }
}

/// Why something was not written or signed, in a form that can be kept and told again, as the
/// system's error cannot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct WriteFault {
    what: String,
    /// What the system said, if it was the system.
    kind: Option<io::ErrorKind>,
}

impl WriteFault {
    /// The fault of writing `what`.
    #[must_use]
    pub fn of(what: &impl std::fmt::Display, source: &io::Error) -> Self {
        Self { what: format!("{what}: {source}"), kind: Some(source.kind()) }
    }
}

impl From<io::Error> for WriteFault {
    fn from(error: io::Error) -> Self {
        Self { what: error.to_string(), kind: Some(error.kind()) }
    }
}

impl From<String> for WriteFault {
    fn from(what: String) -> Self {
        Self { what, kind: None }
    }
}

/// The code of the shortage that this error, or one that caused it, tells of, if any.
#[must_use]
pub fn want_of_room(error: &(dyn Error + 'static)) -> Option<&'static str> {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let mut next = Some(error);
    while let Some(error) = next {
        let kept = error.downcast_ref::<WriteFault>().and_then(|fault| fault.kind);
        match error.downcast_ref::<io::Error>().map(io::Error::kind).or(kept) {
            Some(StorageFull | QuotaExceeded) => return Some(Shortage::FULL),
            Some(ReadOnlyFilesystem) => return Some(Shortage::READ_ONLY),
            _ => {}
        }
        let of_storage = error.downcast_ref::<StorageError>();
        if of_storage.is_some_and(|error| error.kind() == StorageErrorKind::Full) {
            return Some(Shortage::FULL);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::ChainError;
    use crate::consensus::ConsensusFailure;
    use crate::node::NodeError;
    use crate::sequencer::SequencerError;

    const OPTIONS: DiskOptions = DiskOptions { free_bytes_min: 800, reserve_bytes: 50 };

    fn room(free_bytes: u64) -> Room {
        Room { free_bytes, is_read_only: false }
    }

    #[test]
    fn a_node_pauses_below_the_least_and_goes_on_an_eighth_above_it_with_its_reserve() {
        let short =
            |free, missing, paused| room(free).shortage(&OPTIONS, missing, paused).is_some();
        assert!(!short(800, 0, false) && short(799, 0, false));
        assert!(!short(800, 50, false), "a missing reserve stops nobody");
        assert!(short(899, 0, true) && !short(900, 0, true));
        assert!(short(949, 50, true) && !short(950, 50, true));
        let read_only = Room { free_bytes: u64::MAX, is_read_only: true };
        assert_eq!(read_only.shortage(&OPTIONS, 0, false), Some(Shortage::ReadOnly));
        let never = DiskOptions::default();
        assert_eq!(room(0).shortage(&never, 0, false), None);
    }

    #[test]
    fn the_reserve_is_kept_and_given_up_for_want_of_room_only() {
        let directory = tempfile::tempdir().expect("a directory");
        let options = DiskOptions { free_bytes_min: 1, reserve_bytes: 100_000 };
        let disk = Disk::open(directory.path(), options).expect("a disk");
        let kept = || fs::metadata(directory.path().join(RESERVE)).map(|meta| meta.len()).ok();
        assert_eq!(kept(), Some(100_000));
        disk.note_failure(&io::Error::other("something else"));
        assert_eq!((kept(), disk.failed()), (Some(100_000), None));
        disk.note_failure(&io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!((kept(), disk.failed()), (None, Some("disk_full")));
        // Not made again while the process that failed ends.
        disk.look().expect("a look");
        assert_eq!(kept(), None);
        let full = DiskOptions { free_bytes_min: u64::MAX / 2, ..options };
        let disk = Disk::open(directory.path(), options).expect("a disk");
        assert_eq!((kept(), disk.shortage()), (Some(100_000), None));
        let disk = Disk::open(directory.path(), full).expect("a disk");
        assert_eq!(disk.shortage().map(|shortage| shortage.code()), Some("disk_full"));
        assert_eq!(kept(), None, "a start without room has the reserve's");
    }

    #[test]
    fn want_of_room_is_found_below_every_wrapper() {
        let io = || io::Error::from(io::ErrorKind::StorageFull);
        let place = ait_storage::Place::Path("x".into());
        let storage = StorageError::Full { place, source: io() };
        assert_eq!(
            want_of_room(&NodeError::Chain(ChainError::Storage(storage))),
            Some("disk_full")
        );
        let journal =
            crate::mempool::JournalError { path: "x".into(), action: "write", source: io() };
        assert_eq!(want_of_room(&NodeError::Journal(journal)), Some("disk_full"));
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            let source = WriteFault::from(io::Error::from(kind));
            let log = SequencerError::from(ConsensusFailure::Log { source: source.clone() });
            assert_eq!(want_of_room(&log), Some("disk_full"));
            let signer = SequencerError::from(ConsensusFailure::Signer { source });
            assert_eq!(want_of_room(&NodeError::Sequencer(signer)), Some("disk_full"));
        }
        assert_eq!(want_of_room(&WriteFault::from("signed already".to_owned())), None);
        assert_eq!(want_of_room(&io::Error::other("full of surprises")), None);
        let read_only = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(want_of_room(&read_only), Some("disk_read_only"));
    }
}
