//! An ordered map that is cheap to copy: a snapshot costs one pointer a chunk, and a change
//! copies the chunks it touches only while somebody else still reads them.
//!
//! Not a general container: it offers what the memory engine asks of a table.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use crate::{KeyRange, Table, TableStats};

/// A full chunk is split in two halves.
const CHUNK_ENTRIES_MAX: usize = 256;

type Key = Arc<[u8]>;
type Chunk = Vec<(Key, Arc<[u8]>)>;

/// Entries in chunks, each under a key that is not above any of its own and is above all of the
/// chunk before. No chunk is empty.
#[derive(Clone, Default)]
pub(super) struct Entries {
    chunks: BTreeMap<Key, Arc<Chunk>>,
}

impl Entries {
    pub(super) fn get(&self, key: &[u8]) -> Option<&Arc<[u8]>> {
        let (_, chunk) =
            self.chunks.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back()?;
        let at = find(chunk, key).ok()?;
        chunk.get(at).map(|(_, value)| value)
    }

    pub(super) fn insert(&mut self, key: &[u8], value: Arc<[u8]>) {
        let Some((_, chunk)) = self.chunk_of(key) else {
            return self.insert_before_all(key, value);
        };
        let chunk = Arc::make_mut(chunk);
        match find(chunk, key) {
            Ok(at) => {
                if let Some(entry) = chunk.get_mut(at) {
                    entry.1 = value;
                }
            }
            Err(at) => chunk.insert(at, (key.into(), value)),
        }
        if chunk.len() > CHUNK_ENTRIES_MAX {
            let upper = chunk.split_off(chunk.len() / 2);
            self.add_chunk(upper);
        }
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        let Some((first, chunk)) = self.chunk_of(key) else {
            return;
        };
        let Ok(at) = find(chunk, key) else {
            return;
        };
        if chunk.len() == 1 {
            self.chunks.remove(&first);
        } else {
            Arc::make_mut(chunk).remove(at);
        }
    }

    pub(super) fn remove_range(&mut self, range: &KeyRange) {
        if range.is_all() {
            self.chunks.clear();
        }
        self.chunks.retain(|_, chunk| {
            let (start, end) = positions(chunk, range);
            if start < end {
                Arc::make_mut(chunk).drain(start..end);
            }
            !chunk.is_empty()
        });
    }

    /// The entries of a range, in order and from both ends.
    pub(super) fn range(
        &self,
        range: KeyRange,
    ) -> impl DoubleEndedIterator<Item = (&Key, &Arc<[u8]>)> {
        let first = self.first_chunk(&range);
        let chunks = match range.is_empty() {
            true => None,
            false => Some(self.chunks.range::<[u8], _>((first, upper(&range)))),
        };
        let selected = chunks.into_iter().flatten().flat_map(move |(_, chunk)| {
            let (start, end) = positions(chunk, &range);
            chunk.get(start..end).unwrap_or_default()
        });
        selected.map(|(key, value)| (key, value))
    }

    pub(super) fn stats(&self, table: Table) -> TableStats {
        let mut stats = TableStats {
            name: table.name().to_owned(),
            entries: 0,
            stored_bytes: 0,
            metadata_bytes: 0,
            fragmented_bytes: 0,
        };
        for chunk in self.chunks.values() {
            let pair = size_of::<(Key, Arc<[u8]>)>() as u64;
            stats.entries += chunk.len() as u64;
            stats.metadata_bytes += chunk.len() as u64 * pair;
            stats.fragmented_bytes += (chunk.capacity() - chunk.len()) as u64 * pair;
            stats.stored_bytes +=
                chunk.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
        }
        stats
    }

    fn chunk_of(&mut self, key: &[u8]) -> Option<(Key, &mut Arc<Chunk>)> {
        let (first, chunk) = self
            .chunks
            .range_mut::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()?;
        Some((Arc::clone(first), chunk))
    }

    /// The key lies before every chunk: the first chunk takes it and is filed under it.
    fn insert_before_all(&mut self, key: &[u8], value: Arc<[u8]>) {
        let mut chunk = self.chunks.pop_first().map(|(_, chunk)| chunk).unwrap_or_default();
        Arc::make_mut(&mut chunk).insert(0, (key.into(), value));
        if chunk.len() > CHUNK_ENTRIES_MAX {
            let middle = chunk.len() / 2;
            let upper = Arc::make_mut(&mut chunk).split_off(middle);
            self.add_chunk(upper);
        }
        self.chunks.insert(key.into(), chunk);
    }

    fn add_chunk(&mut self, chunk: Chunk) {
        if let Some((first, _)) = chunk.first() {
            self.chunks.insert(Arc::clone(first), Arc::new(chunk));
        }
    }

    /// Where to begin among the chunks: with the one that may hold the start of the range.
    fn first_chunk(&self, range: &KeyRange) -> Bound<&[u8]> {
        let (Bound::Included(start) | Bound::Excluded(start)) = range.start() else {
            return Bound::Unbounded;
        };
        let mut before = self.chunks.range::<[u8], _>((Bound::Unbounded, Bound::Included(start)));
        before.next_back().map_or(Bound::Unbounded, |(first, _)| Bound::Included(first))
    }
}

/// No chunk that begins beyond the range's end can hold one of its keys.
fn upper(range: &KeyRange) -> Bound<&[u8]> {
    match range.end() {
        Bound::Unbounded => Bound::Unbounded,
        Bound::Included(end) | Bound::Excluded(end) => Bound::Included(end),
    }
}

fn find(chunk: &Chunk, key: &[u8]) -> Result<usize, usize> {
    chunk.binary_search_by(|(other, _)| (**other).cmp(key))
}

/// Positions of the first entry in the range and of the first behind it.
fn positions(chunk: &Chunk, range: &KeyRange) -> (usize, usize) {
    let start = chunk.partition_point(|(key, _)| range.is_before_start(key));
    let end = chunk.partition_point(|(key, _)| !range.is_after_end(key));
    (start, end)
}
