//! The log as a file.

use std::path::Path;

use super::*;

/// The height under way.
const NEXT: Height = Height::saturating(9);

fn open(path: &Path) -> Result<(FileLog, Option<Logged>), LogError> {
    FileLog::open(path, NEXT)
}

#[test]
fn a_log_torn_at_any_byte_keeps_what_was_flushed() {
    // Trap 7: a local file.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("consensus.log");
    let entries: Vec<Vec<u8>> = (0..5_u8).map(|n| vec![n; usize::from(n) * 9]).collect();
    let (log, found) = open(&path).unwrap();
    assert_eq!(found, None);
    let mut writer = log.into_writer(None);
    writer.begin(NEXT).unwrap();
    for entry in &entries[..4] {
        writer.append(entry).unwrap();
        writer.flush().unwrap();
    }
    // Two of one flush are there together or not at all.
    writer.append(&entries[4]).unwrap();
    writer.append(b"with it").unwrap();
    writer.flush().unwrap();
    writer.append(b"never flushed").unwrap();
    let entries = [&entries[..], &[b"with it".to_vec()]].concat();
    let whole = std::fs::read(&path).unwrap();
    for length in 0..=whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let (_, found) = open(&path).unwrap();
        let found = found.map(|(height, entries)| {
            assert_eq!(height, NEXT);
            entries
        });
        let found = found.unwrap_or_default();
        assert_eq!(found, entries[..found.len()]);
        assert_ne!(found.len(), 5, "a part of a flush");
        let mut flipped = whole.clone();
        flipped[length.min(whole.len() - 1)] ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        // Where frames follow it was flushed: that is no torn tail, and nothing is cut off.
        let at = length.min(whole.len() - 1);
        let last = whole.len() - entries[4].len() - entries[5].len() - 8 - 12;
        match open(&path) {
            Err(LogError::Damaged { offset, .. }) => {
                assert!((8..last).contains(&at) && offset <= at as u64, "{at}");
                assert_eq!(std::fs::read(&path).unwrap(), flipped);
            }
            Err(LogError::Foreign { .. }) => assert!(at < 8),
            Ok((_, found)) => {
                let found = found.map(|(_, entries)| entries).unwrap_or_default();
                assert!(at >= last, "{at}");
                assert_eq!(found, entries[..4]);
            }
            Err(other) => panic!("{other}"),
        }
    }
    std::fs::write(&path, &whole).unwrap();
    let (log, found) = open(&path).unwrap();
    let mut writer = log.into_writer(found.as_ref());
    writer.append(b"more").unwrap();
    writer.flush().unwrap();
    let (_, found) = open(&path).unwrap();
    assert_eq!(found.unwrap().1.len(), 7);
}

/// A log of these heights, each with frames of so many bytes, and the file after each flush.
fn heights(path: &Path, heights: &[(u64, &[usize])]) -> Vec<Vec<u8>> {
    let (log, found) = open(path).unwrap();
    let mut writer = log.into_writer(found.as_ref());
    let mut files = vec![std::fs::read(path).unwrap()];
    for (height, frames) in heights {
        writer.begin(Height::saturating(*height)).unwrap();
        for bytes in *frames {
            writer.append(&vec![*height as u8; *bytes]).unwrap();
            writer.flush().unwrap();
            files.push(std::fs::read(path).unwrap());
        }
    }
    files
}

#[test]
fn a_height_is_written_over_the_one_before_and_torn_at_any_byte_is_one_or_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("consensus.log");
    let files = heights(&path, &[(8, &[60, 50, 70, 40]), (9, &[30, 90, 20, 10])]);
    assert!(files[5..].iter().all(|file| file.len() == files[4].len()), "its length is kept");
    // The flush that is torn, and how many frames of height 9 were flushed before it.
    for (flushed, pair) in files[4..].windows(2).enumerate() {
        let [before, after] = pair else { panic!("two files") };
        for at in 0..=after.len() {
            for (first, then) in [(after, before), (before, after)] {
                std::fs::write(&path, [&first[..at], &then[at..]].concat()).unwrap();
                let seen = FileLog::inspect(&path, NEXT).unwrap().unwrap();
                let (_, found) = open(&path).unwrap();
                assert_eq!((&seen.logged, seen.is_damaged), (&found, false));
                let found = found.map_or(0, |(height, entries)| {
                    assert_eq!(height, NEXT);
                    entries.len()
                });
                assert!((flushed..=flushed + 1).contains(&found), "{flushed} {at}: {found}");
                assert_eq!(std::fs::metadata(&path).unwrap().len(), seen.whole_bytes);
            }
        }
    }
    // A bit that flips later in what was flushed is found wherever whole frames follow.
    let whole = files.last().unwrap();
    let ends = 24 + [30, 90, 20].map(|bytes| bytes + 16).iter().sum::<usize>();
    for at in 8..ends {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        std::fs::write(&path, flipped).unwrap();
        assert!(matches!(open(&path), Err(LogError::Damaged { .. })), "{at}");
    }
}

#[test]
fn a_log_keeps_nothing_of_heights_that_are_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("consensus.log");
    heights(&path, &[(9, &[10, 10])]);
    let after = NEXT.next().unwrap();
    assert_eq!(FileLog::inspect(&path, after).unwrap().unwrap().logged, None);
    assert_eq!(FileLog::open(&path, after).unwrap().1, None);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
}

#[test]
fn frames_that_are_left_of_the_same_height_never_pass() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("consensus.log");
    heights(&path, &[(9, &[10, 20]), (10, &[10])]);
    // The chain was set back.
    let (log, found) = FileLog::open(&path, Height::saturating(5)).unwrap();
    let mut writer = log.into_writer(found.as_ref());
    for _ in 0..2 {
        writer.begin(NEXT).unwrap();
        writer.append(b"ten  bytes").unwrap();
        writer.flush().unwrap();
        assert_eq!(open(&path).unwrap().1, Some((NEXT, vec![b"ten  bytes".to_vec()])));
        // Where the second frame of this height may be left when it is begun again.
        writer.append(b"twenty bytes twenty.").unwrap();
        writer.flush().unwrap();
    }
}

#[test]
fn a_file_that_grew_long_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("consensus.log");
    let files = heights(&path, &[(7, &[6 << 20; 6]), (8, &[10]), (9, &[10])]);
    assert!(files[6].len() > 32 << 20);
    assert!(files[7..].iter().all(|file| file.len() == 24 + 16 + 10));
}

#[test]
fn a_log_whose_bytes_a_power_cut_left_zero_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("consensus.log");
    // The length of a file may be on the disk before its bytes.
    for left in [&[0; 400][..], b"AITW\0\0\0\0\0\0", b"AIT"] {
        std::fs::write(&path, left).unwrap();
        let seen = FileLog::inspect(&path, NEXT).unwrap().unwrap();
        assert_eq!((seen.logged, seen.is_damaged), (None, false));
        assert_eq!(open(&path).unwrap().1, None);
    }
    std::fs::write(&path, b"AITX another file").unwrap();
    assert!(open(&path).is_err());
}
