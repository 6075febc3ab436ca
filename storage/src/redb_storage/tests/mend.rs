//! Files that are whole but for a header that no checksum covers, or for their length.

use std::{fs, path::Path};

use tempfile::TempDir;

use super::{COMMITS, closed_file, killed_file, newest_whole_commit, options};
use crate::{Mend, RedbOptions, RedbStorage};

fn verified() -> RedbOptions {
    RedbOptions { verify: true, ..options() }
}

/// The newest commit that is found in the file as it is or mended, and the mend it takes.
fn newest(path: &Path) -> Option<(u32, Option<Mend>)> {
    let bytes = fs::read(path).unwrap();
    let all = std::iter::once(None).chain(Mend::all(path).unwrap().into_iter().map(Some));
    let found = all.filter_map(|mend| {
        let storage = RedbStorage::open_unchanged(path, mend.as_ref(), &verified()).ok()?;
        Some((newest_whole_commit(&storage).ok()?, mend))
    });
    let newest = found.max_by_key(|(newest, mend)| (*newest, mend.is_none()));
    assert!(fs::read(path).unwrap() == bytes, "it was changed");
    newest
}

#[test]
fn a_file_that_is_whole_behind_its_header_is_read_and_mended() {
    let directory = TempDir::new().unwrap();
    let originals = [closed_file(directory.path()), killed_file(directory.path())]
        .map(|path| fs::read(path).unwrap());
    let damaged = directory.path().join("damaged.redb");
    let mut mended = 0;
    let mut examine = |bytes: &[u8], what: &str| {
        fs::write(&damaged, bytes).unwrap();
        let (found, mend) = newest(&damaged).unwrap_or_else(|| panic!("{what}: nothing"));
        assert_eq!(found, COMMITS, "{what}");
        let Some(mend) = mend else { return };
        mended += 1;
        mend.apply(&damaged).unwrap();
        let storage = RedbStorage::open(&damaged, &verified()).unwrap();
        assert_eq!(newest_whole_commit(&storage).unwrap(), COMMITS, "{what}");
    };
    for original in &originals {
        examine(original, "as it was");
        for bit in 0..32 * 8 {
            let mut bytes = original.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            examine(&bytes, &format!("bit {bit}"));
        }
        for added in [1, 100, 4096, 5000] {
            examine(&[&original[..], &vec![7; added]].concat(), &format!("{added} bytes more"));
        }
        // The last page is free, as is mostly the case where a file was made longer.
        for cut in [1, 100] {
            examine(&original[..original.len() - cut], &format!("{cut} bytes fewer"));
        }
    }
    assert!(mended > 200, "only {mended} needed it");
}

#[test]
fn what_is_no_database_has_no_mend_that_opens() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("other.redb");
    for bytes in [vec![0; 10], vec![7; 4096], vec![7; 100_000]] {
        fs::write(&path, bytes).unwrap();
        for mend in Mend::all(&path).unwrap() {
            assert!(RedbStorage::open_unchanged(&path, Some(&mend), &verified()).is_err());
        }
    }
}
