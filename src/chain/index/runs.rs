//! Sorted runs: records of one length in few large rows, appended and merged.
//!
//! A row for each record, spread over the whole of a table, costs a page write each once the
//! table is large. Here the records of many blocks are sorted in memory and written as one
//! run of chunks one after the other; runs of like size are merged into one eight times as
//! large, so that a record is written again once a size, and a reader looks into few runs.
//! (O'Neil et al., The log-structured merge-tree, 1996.)
//!
//! Invariants: runs stand in the order of the blocks that they hold, the newest last, and
//! only neighbours are merged; a run is never changed.

use ait_storage::{Batch, KeyRange, Snapshot, Table, Value};

use super::super::ChainError;
use super::super::tables::RunRecord;

/// Bytes of a chunk at most: with its row just under 32 KiB, because the embedded engine
/// rounds large values up to a power of two.
const CHUNK_BYTES: usize = 32_000;
/// Neighbours of one size that are merged.
const FAN_IN: usize = 8;
/// Records of a merged run at most, which bounds what a merge holds in memory. A chain has one
/// run for each two million records at most, and some sixty smaller ones.
const MERGED_RECORDS_MAX: u64 = 4_000_000;
/// Number of the row of a run that holds the first record of each of its chunks.
const FENCES: u32 = u32::MAX;

fn row(run: u64, chunk: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&run.to_be_bytes());
    key[8..].copy_from_slice(&chunk.to_be_bytes());
    key
}

const fn per_chunk<const N: usize>() -> usize {
    CHUNK_BYTES / N
}

/// Size of a run, in powers of [`FAN_IN`].
fn size(run: &RunRecord) -> u32 {
    run.records.max(1).ilog2() / FAN_IN.ilog2()
}

/// How many of the newest runs are to be merged into one; none if fewer than two.
///
/// Those that are no larger than the newest by their size, as many as fit, are merged once they
/// are [`FAN_IN`], or once another would not fit: the run that they make is then half full at
/// least, and is left alone.
fn due(runs: &[RunRecord]) -> Option<usize> {
    let newest = runs.last()?;
    let (mut count, mut sum) = (0, 0);
    for run in runs.iter().rev().take_while(|run| size(run) <= size(newest)) {
        if sum + run.records > MERGED_RECORDS_MAX {
            break;
        }
        sum += run.records;
        count += 1;
    }
    let is_due = count >= FAN_IN || sum + newest.records > MERGED_RECORDS_MAX;
    (is_due && count >= 2).then_some(count)
}

fn corrupt(table: Table, run: u64) -> ChainError {
    ChainError::corrupt(format!("run {run} of the table {} is not whole", table.name()))
}

/// Runs of records of `N` bytes in one table.
pub(super) struct Runs<'a, const N: usize> {
    pub(super) table: Table,
    pub(super) snapshot: &'a dyn Snapshot,
    /// From the oldest to the newest.
    pub(super) runs: &'a [RunRecord],
}

impl<const N: usize> Runs<'_, N> {
    fn get(&self, run: u64, chunk: u32) -> Result<Value, ChainError> {
        let value = self.snapshot.get(self.table, &row(run, chunk))?;
        value.ok_or_else(|| corrupt(self.table, run))
    }

    /// How many records of a run are below `key`, which may be a part of a record.
    fn below(&self, run: &RunRecord, key: &[u8]) -> Result<u64, ChainError> {
        let fences = self.get(run.id, FENCES)?;
        let (fences, _) = fences.as_chunks::<N>();
        // The first chunk that begins at or above the key; the one before it holds the place.
        let Some(chunk) = fences.partition_point(|first| &first[..] < key).checked_sub(1) else {
            return Ok(0);
        };
        let records = self.get(run.id, u32::try_from(chunk).unwrap_or(FENCES))?;
        let (records, _) = records.as_chunks::<N>();
        let within = records.partition_point(|record| &record[..] < key);
        Ok((chunk * per_chunk::<N>() + within) as u64)
    }

    /// The records of a run from place `from` to before `to`, the last first, until `each` says
    /// that it has enough.
    fn backwards(
        &self,
        run: &RunRecord,
        (from, to): (u64, u64),
        mut each: impl FnMut(&[u8; N]) -> Result<bool, ChainError>,
    ) -> Result<bool, ChainError> {
        let per_chunk = per_chunk::<N>() as u64;
        let mut end = to;
        while end > from {
            let chunk = (end - 1) / per_chunk;
            let start = (chunk * per_chunk).max(from);
            let records = self.get(run.id, u32::try_from(chunk).unwrap_or(FENCES))?;
            let (records, _) = records.as_chunks::<N>();
            for at in (start..end).rev() {
                let at = usize::try_from(at - chunk * per_chunk).unwrap_or(usize::MAX);
                let record = records.get(at).ok_or_else(|| corrupt(self.table, run.id))?;
                if !each(record)? {
                    return Ok(false);
                }
            }
            end = start;
        }
        Ok(true)
    }

    /// The newest record that begins with `prefix`.
    pub(super) fn newest(&self, prefix: &[u8]) -> Result<Option<[u8; N]>, ChainError> {
        let mut found = None;
        self.newest_first(prefix, &after(prefix), |record| {
            found = Some(*record);
            Ok(false)
        })?;
        Ok(found)
    }

    /// Records at or above `from` and below `to`: those of newer runs first, within a run the
    /// greatest first, until `each` says that it has enough.
    pub(super) fn newest_first(
        &self,
        from: &[u8],
        to: &[u8],
        mut each: impl FnMut(&[u8; N]) -> Result<bool, ChainError>,
    ) -> Result<(), ChainError> {
        for run in self.runs.iter().rev() {
            let places = (self.below(run, from)?, self.below(run, to)?);
            if !self.backwards(run, places, &mut each)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// How many records begin with `prefix`.
    pub(super) fn count(&self, prefix: &[u8]) -> Result<u64, ChainError> {
        let end = after(prefix);
        let each =
            self.runs.iter().map(|run| Ok(self.below(run, &end)? - self.below(run, prefix)?));
        each.sum()
    }
}

/// Records that are to be merged, in order: those of a run, a chunk at a time, or new ones.
struct Source<const N: usize> {
    records: Vec<[u8; N]>,
    at: usize,
    run: RunRecord,
    /// Records of the run that were not read yet.
    unread: u64,
    next_chunk: u32,
}

impl<const N: usize> Source<N> {
    const fn new(run: RunRecord, records: Vec<[u8; N]>) -> Self {
        Self { records, at: 0, run, unread: 0, next_chunk: 0 }
    }

    /// A run; `older` reads it.
    fn stored(run: RunRecord, older: &Runs<'_, N>) -> Result<Self, ChainError> {
        let mut source = Self { unread: run.records, ..Self::new(run, Vec::new()) };
        source.read(older)?;
        Ok(source)
    }

    fn read(&mut self, older: &Runs<'_, N>) -> Result<(), ChainError> {
        let chunk = older.get(self.run.id, self.next_chunk)?;
        self.records.clear();
        self.records.extend(chunk.as_chunks::<N>().0);
        let read = self.records.len() as u64;
        if read != self.unread.min(per_chunk::<N>() as u64) {
            return Err(corrupt(older.table, self.run.id));
        }
        (self.at, self.unread, self.next_chunk) = (0, self.unread - read, self.next_chunk + 1);
        Ok(())
    }

    /// The next record.
    fn first(&self) -> Option<&[u8; N]> {
        self.records.get(self.at)
    }

    /// Goes on behind it.
    fn step(&mut self, older: &Runs<'_, N>) -> Result<(), ChainError> {
        self.at += 1;
        if self.at == self.records.len() && self.unread > 0 {
            self.read(older)?;
        }
        Ok(())
    }
}

/// The first eight bytes as an integer, which mostly decides the order.
fn leading<const N: usize>(record: &[u8; N]) -> u64 {
    record.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

/// Records in the order of their bytes. Their places are sorted, which are shorter than they are.
fn in_order<const N: usize>(records: &[[u8; N]]) -> Vec<[u8; N]> {
    let mut places: Vec<_> = records.iter().map(|record| (leading(record), record)).collect();
    places.sort_unstable();
    places.into_iter().map(|(_, record)| *record).collect()
}

/// Above everything that begins with `prefix`, which is not all ones.
fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return end;
        }
        end.pop();
    }
    // Longer than any record of ones.
    vec![u8::MAX; 64]
}

/// Adds records as the newest run and merges what is due, all in `batch`.
pub(super) fn append<const N: usize>(
    table: Table,
    snapshot: &dyn Snapshot,
    runs: &mut Vec<RunRecord>,
    next_id: &mut u64,
    records: Vec<[u8; N]>,
    batch: &mut Batch,
) -> Result<(), ChainError> {
    if records.is_empty() {
        return Ok(());
    }
    let older = Runs::<N> { table, snapshot, runs: &[] };
    let count = records.len() as u64;
    // What is new is read from memory: it counts as a run without chunks.
    let new = RunRecord { id: *next_id, records: 0 };
    let mut sources = vec![Source::new(new, in_order(&records))];
    runs.push(RunRecord { id: *next_id, records: count });
    while let Some(count) = due(runs) {
        let merged: Vec<_> = runs.drain(runs.len() - count..).collect();
        let sum = merged.iter().map(|run| run.records).sum();
        // The last is the run to be, which is not in the table yet.
        for run in merged.into_iter().rev().skip(1) {
            batch.delete_range(table, KeyRange::prefix(run.id.to_be_bytes()));
            sources.push(Source::stored(run, &older)?);
        }
        runs.push(RunRecord { id: *next_id, records: sum });
    }
    write_merged(&older, *next_id, sources, batch)?;
    *next_id += 1;
    Ok(())
}

/// The source whose next record is the least, by their leading integers unless those are equal.
fn least<const N: usize>(sources: &[Source<N>], leadings: &[u64]) -> Option<usize> {
    let (mut least, mut at, mut is_tied) = (*leadings.first()?, 0, false);
    for (other, &leading) in leadings.iter().enumerate().skip(1) {
        is_tied = if leading < least { false } else { is_tied | (leading == least) };
        at = if leading < least { other } else { at };
        least = least.min(leading);
    }
    if !is_tied {
        return Some(at);
    }
    let tied = (0..).zip(sources).zip(leadings).filter(|(_, leading)| **leading == least);
    tied.min_by_key(|((_, source), _)| source.first()).map(|((at, _), _)| at)
}

/// Writes a run of all records of these sources. What is in memory beside the batch is a chunk of
/// each.
fn write_merged<const N: usize>(
    older: &Runs<'_, N>,
    id: u64,
    mut sources: Vec<Source<N>>,
    batch: &mut Batch,
) -> Result<(), ChainError> {
    let table = older.table;
    let mut leadings: Vec<u64> =
        sources.iter().map(|source| source.first().map_or(u64::MAX, leading)).collect();
    let (mut chunk, mut number) = (Vec::with_capacity(CHUNK_BYTES), 0);
    let mut fences = Vec::new();
    while let Some(at) = least(&sources, &leadings)
        && let Some(source) = sources.get_mut(at)
        && let Some(record) = source.first()
    {
        if chunk.is_empty() {
            fences.extend(record);
        }
        chunk.extend(record);
        if chunk.len() + N > CHUNK_BYTES {
            batch.put(
                table,
                row(id, number),
                std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK_BYTES)),
            );
            number += 1;
        }
        source.step(older)?;
        match source.first() {
            Some(next) => leadings[at] = leading(next),
            None => {
                sources.swap_remove(at);
                leadings.swap_remove(at);
            }
        }
    }
    if !chunk.is_empty() {
        batch.put(table, row(id, number), chunk);
    }
    batch.put(table, row(id, FENCES), fences);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use ait_storage::{Durability, MemoryStorage, Storage};

    use super::*;

    const TABLE: Table = Table::new("runs");

    /// Few first bytes, so that many records share a prefix; the rest grows with time.
    fn record(n: u32) -> [u8; 40] {
        let mut record = [0; 40];
        record[0] = (n.wrapping_mul(2_654_435_761) >> 24) as u8 % 5 + 251;
        record[1..5].copy_from_slice(&n.to_be_bytes());
        record
    }

    /// Of whatever sizes runs come, and however many there are.
    #[test]
    fn many_records_stand_in_few_runs_and_no_merge_is_larger_than_its_bound() {
        let sizes: [fn(u64) -> u64; 6] = [
            |_| 200_000,
            |_| 130_000,
            |n| [1_900_000, 300_000][n as usize % 2],
            |n| 1 + n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 250_000,
            |n| 1_000_000 + n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_000_000,
            |n| 1 << (n % 21),
        ];
        for (pattern, size_of) in sizes.into_iter().enumerate() {
            // As an index that was written when nothing that large was merged.
            let mut runs = vec![RunRecord { id: 0, records: 1_600_000 }; 20];
            let mut total = 32_000_000_u64;
            for n in 0..20_000 {
                total += size_of(n);
                runs.push(RunRecord { id: 0, records: size_of(n) });
                while let Some(count) = due(&runs) {
                    let from = runs.len() - count;
                    let records = runs.drain(from..).map(|run| run.records).sum();
                    assert!(records <= MERGED_RECORDS_MAX, "{records}");
                    runs.push(RunRecord { id: 0, records });
                }
                let most = total / 2_000_000 + 60;
                assert!((runs.len() as u64) < most, "{pattern}: {} runs of {total}", runs.len());
            }
        }
    }

    #[test]
    fn a_run_that_lacks_records_is_found_when_it_is_merged() {
        let storage = MemoryStorage::new();
        let (mut runs, mut next_id) = (Vec::new(), 0);
        let mut add = |from: u32| {
            let new = (from..from + 10).map(record).collect();
            let snapshot = storage.snapshot().unwrap();
            let mut batch = Batch::new();
            append(TABLE, &*snapshot, &mut runs, &mut next_id, new, &mut batch)?;
            storage.commit(batch, Durability::Immediate).unwrap();
            Ok::<_, ChainError>(runs.len())
        };
        for n in 1..FAN_IN {
            assert_eq!(add(10 * n as u32).unwrap(), n);
        }
        let mut batch = Batch::new();
        batch.put(TABLE, row(3, 0), [0; 9 * 40]);
        storage.commit(batch, Durability::Immediate).unwrap();
        assert!(matches!(add(0), Err(ChainError::Corrupt { .. })));
    }

    #[test]
    fn finds_counts_and_walks_as_a_set_does_and_keeps_few_runs() {
        let storage = MemoryStorage::new();
        let (mut runs, mut next_id, mut model) = (Vec::new(), 0, BTreeSet::new());
        let mut n = 0;
        for step in 0..300_u32 {
            let count = if step % 50 == 0 { 3_000 } else { step % 7 + 1 };
            let new: Vec<[u8; 40]> = (n..n + count).map(record).collect();
            n += count;
            model.extend(new.iter().copied());
            let snapshot = storage.snapshot().unwrap();
            let mut batch = Batch::new();
            append(TABLE, &*snapshot, &mut runs, &mut next_id, new, &mut batch).unwrap();
            storage.commit(batch, Durability::Immediate).unwrap();
            assert!(runs.len() < 40, "{} runs", runs.len());
        }
        let snapshot = storage.snapshot().unwrap();
        let all = Runs::<40> { table: TABLE, snapshot: &*snapshot, runs: &runs };
        for first in 250..=255_u8 {
            let expected: Vec<_> = model.iter().filter(|record| record[0] == first).collect();
            assert_eq!(all.count(&[first]).unwrap(), expected.len() as u64);
            let mut found = Vec::new();
            all.newest_first(&[first], &after(&[first]), |record| {
                found.push(*record);
                Ok(true)
            })
            .unwrap();
            // Runs hold one time after the other, so that this is the order of time.
            assert!(found.iter().eq(expected.iter().rev().copied()), "{first}");
            assert_eq!(all.newest(&[first]).unwrap().as_ref(), expected.last().copied());
        }
        for n in [0, 1, n / 2, n - 1] {
            assert_eq!(all.newest(&record(n)).unwrap(), Some(record(n)));
        }
        assert_eq!(all.newest(&record(n)).unwrap(), None);
        let stored: u64 = runs.iter().map(|run| run.records).sum();
        assert_eq!(stored, model.len() as u64);
        let rows = storage.stats().unwrap()[0].entries;
        let wanted: u64 = runs.iter().map(|run| run.records.div_ceil(800) + 1).sum();
        assert_eq!(rows, wanted, "nothing of merged runs is left");
    }
}
