//! The log as a file.

use super::*;

#[test]
fn a_log_torn_at_any_byte_keeps_what_was_flushed() {
    // Trap 7: a local file.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("consensus.log");
    let entries: Vec<Vec<u8>> = (0..5_u8).map(|n| vec![n; usize::from(n) * 9]).collect();
    let (log, found) = FileLog::open(&path).unwrap();
    assert_eq!(found, None);
    let mut writer = log.into_writer(None);
    writer.begin(Height::saturating(9)).unwrap();
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
        let (_, found) = FileLog::open(&path).unwrap();
        let found = found.map(|(height, entries)| {
            assert_eq!(height, Height::saturating(9));
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
        match FileLog::open(&path) {
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
    let (log, found) = FileLog::open(&path).unwrap();
    let mut writer = log.into_writer(found.as_ref());
    writer.append(b"more").unwrap();
    writer.flush().unwrap();
    let (_, found) = FileLog::open(&path).unwrap();
    assert_eq!(found.unwrap().1.len(), 7);
}

#[test]
fn a_log_whose_bytes_a_power_cut_left_zero_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("consensus.log");
    // The length of a file may be on the disk before its bytes.
    for left in [&[0; 400][..], b"AITW\0\0\0\0\0\0", b"AIT"] {
        std::fs::write(&path, left).unwrap();
        let seen = FileLog::inspect(&path).unwrap().unwrap();
        assert_eq!((seen.logged, seen.is_damaged), (None, false));
        assert_eq!(FileLog::open(&path).unwrap().1, None);
    }
    std::fs::write(&path, b"AITX another file").unwrap();
    assert!(FileLog::open(&path).is_err());
}
