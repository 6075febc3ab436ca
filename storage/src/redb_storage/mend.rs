//! A file that redb refuses, or opens at an older commit, over a few bytes that no checksum covers.
//!
//! A file begins with a header: a byte of flags, one of which says which of two slots has the newest
//! commit, and the sizes of pages and regions, which every file made here has in common. The slots
//! that follow have checksums, as all other pages. So a file may be whole behind a damaged header, or
//! with a length that differs: it is read with each header and length that it may have had.

use std::{
    fs::OpenOptions,
    io::{self, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use redb::StorageBackend as _;

use crate::{
    Place, StorageError,
    redb_storage::{
        Handle, RedbOptions, RedbStorage, SimulatedDisk, contain::contain, damage, failure, open,
        watched::Watched,
    },
};

/// Bytes before the slots.
const HEADER_BYTES: usize = 64;
/// Where the flags are.
const FLAGS: usize = 9;
/// The newest commit is in the second slot.
const SECOND_SLOT: u8 = 1;
/// The file was not closed: how many pages it has is told by its length.
const UNCLEAN: u8 = 2;
/// The newest commit was synced before the flags named it, as all of ours are.
const TWO_PHASES: u8 = 4;
/// Where the sizes of a page and a region are, and where the counts of regions follow.
const SIZES: std::ops::Range<usize> = 12..24;
const REGION_PAGES: usize = 20;
const FULL_REGIONS: usize = 24;
const LAST_REGION_PAGES: usize = 28;
const PAGE_BYTES: u64 = 4096;

/// A header and a length that a file may have had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mend {
    header: [u8; HEADER_BYTES],
    length: u64,
}

impl Mend {
    /// Those of a file that is not open, the likeliest first.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn all(path: impl AsRef<Path>) -> Result<Vec<Self>, StorageError> {
        let place = Place::Path(path.as_ref().to_owned());
        let file = open::existing(path.as_ref(), &place)?;
        let io = |error| failure::io(&place, error);
        let length = file.len().map_err(io)?;
        let mut found = [0; HEADER_BYTES];
        if length < HEADER_BYTES as u64 {
            return Ok(Vec::new());
        }
        file.read(0, &mut found).map_err(io)?;
        let mut header = header_of_new()?;
        let region_pages = u64::from(number(&header, REGION_PAGES)).max(1);
        let pages = u64::from(number(&found, FULL_REGIONS))
            .saturating_mul(region_pages)
            .saturating_add(u64::from(number(&found, LAST_REGION_PAGES)));
        let stored = pages.saturating_add(1).saturating_mul(PAGE_BYTES);
        let (below, above) = (length / PAGE_BYTES, length.div_ceil(PAGE_BYTES));
        let mut lengths = vec![above * PAGE_BYTES];
        // A file is never made more than twice as long at once.
        if stored / 2 <= length {
            lengths.insert(0, stored);
        }
        lengths.push(below * PAGE_BYTES);
        lengths.dedup();
        let mut mends = Vec::new();
        for slot in [found[FLAGS] & SECOND_SLOT, !found[FLAGS] & SECOND_SLOT] {
            header[FLAGS] = slot | UNCLEAN | TWO_PHASES;
            for length in &lengths {
                let pages = (length / PAGE_BYTES).saturating_sub(1);
                put(&mut header, FULL_REGIONS, pages / region_pages);
                put(&mut header, LAST_REGION_PAGES, pages % region_pages);
                mends.push(Self { header, length: *length });
            }
        }
        Ok(mends)
    }

    /// Gives a file, which is a copy, this header and length, and syncs it.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn apply(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.set_len(self.length)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&self.header)?;
        file.sync_all()
    }
}

impl RedbStorage {
    /// Opens a file without changing it, as it is or as if it were mended. What is written, by the
    /// recovery of redb as well, stays in memory.
    ///
    /// # Errors
    ///
    /// As [`RedbStorage::open`].
    pub fn open_unchanged(
        path: impl AsRef<Path>,
        mend: Option<&Mend>,
        options: &RedbOptions,
    ) -> Result<Self, StorageError> {
        let place = Place::Path(path.as_ref().to_owned());
        let watched = Watched::over(open::existing(path.as_ref(), &place)?, &place)?;
        if let Some(mend) = mend {
            let io = |error| failure::io(&place, error);
            watched.set_len(mend.length).map_err(io)?;
            watched.write(0, &mend.header).map_err(io)?;
        }
        match contain(&place, || open::open_on(watched, &place, options)) {
            Ok(database) => Ok(Self::new(Handle::Writable(database), place, options)),
            Err(error) if mend.is_none() => Err(damage::located(error, path.as_ref(), options)),
            Err(error) => Err(error),
        }
    }
}

/// The header of a file that was just made: of what it says, only the sizes are of use.
fn header_of_new() -> Result<[u8; HEADER_BYTES], StorageError> {
    let disk = SimulatedDisk::new();
    RedbStorage::on_disk(&disk, &RedbOptions::default())?.close()?;
    let mut new = [0; HEADER_BYTES];
    disk.read(0, &mut new).map_err(|error| failure::io(&Place::Wrapper, error))?;
    let mut header = [0; HEADER_BYTES];
    header[..FLAGS].copy_from_slice(&new[..FLAGS]);
    header[SIZES].copy_from_slice(&new[SIZES]);
    Ok(header)
}

/// There are fewer regions and pages in a region than 2^32.
fn put(header: &mut [u8; HEADER_BYTES], at: usize, number: u64) {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    header[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

fn number(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&header[at..at + 4]);
    u32::from_le_bytes(bytes)
}
