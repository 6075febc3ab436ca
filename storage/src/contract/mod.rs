//! The one suite that every engine and every wrapper passes.
//!
//! It is a plain module, not a test, so that engines and wrappers of other crates can run it. A
//! broken promise panics with what was expected and what was found. No check knows which engine
//! it runs on.

mod commits;
mod model;
mod ranges;
mod readers;
mod reopening;
mod sizes;

use crate::{Direction, KeyRange, Snapshot, Storage, Table};

/// The storage that is checked: a place that can be emptied and opened.
pub trait Subject {
    /// Leaves the present place and goes on with a new, empty one.
    fn renew(&mut self);

    /// Opens the present place, as a new process would: what was committed durably is there. The
    /// handle opened before has been dropped.
    fn open(&mut self) -> Box<dyn Storage>;
}

/// One promise: its name, and the check that panics if it is broken.
pub type Check = (&'static str, fn(&mut dyn Subject));

/// Every promise.
pub const CHECKS: &[Check] = &[
    ("a table that does not exist reads as empty", ranges::missing_table_is_empty),
    ("keys are ordered as unsigned bytes", ranges::keys_are_ordered_as_bytes),
    ("a range with any kind of bounds holds the right keys", ranges::every_kind_of_bound),
    ("a scan may be left at any point", ranges::scan_may_be_left),
    ("tables do not see each other's keys", ranges::tables_are_apart),
    ("empty keys and values are stored", sizes::empty_key_and_value),
    ("keys and values of the largest size are stored", sizes::largest_key_and_value),
    ("larger ones are refused with nothing written", sizes::larger_is_refused),
    ("the later change to a key wins", commits::later_change_wins),
    (
        "a deleted range takes what was put before and leaves what is put after",
        commits::range_deletion_is_ordered,
    ),
    ("deleting what is not there is no error", commits::deleting_nothing),
    ("an empty batch can be committed", commits::empty_batch),
    ("parts are committed as one batch, or not at all", commits::parts_are_one),
    ("a snapshot does not see later commits", commits::snapshot_is_isolated),
    ("a value outlives later commits and its snapshot", commits::value_outlives_its_snapshot),
    (
        "a commit that fails at any moment is whole or absent",
        commits::failed_commit_is_whole_or_absent,
    ),
    ("an abandoned batch leaves nothing", commits::abandoned_batch_leaves_nothing),
    ("readers see whole commits in order while a writer works", readers::readers_see_whole_commits),
    ("writers take turns and lose nothing", readers::writers_take_turns),
    ("durable commits are found by the next opening", reopening::durable_commits_are_found),
    (
        "commits without durability are kept by the next durable one",
        reopening::durable_commit_keeps_earlier_ones,
    ),
    ("statistics count entries and bytes", sizes::statistics_count),
    ("thousands of random operations agree with a model", model::random_operations),
];

/// Runs every check, each on a new place.
///
/// # Panics
///
/// If a promise is broken, with its name.
pub fn run(subject: &mut dyn Subject) {
    for (promise, check) in CHECKS {
        let naming = Naming(promise);
        subject.renew();
        check(subject);
        drop(naming);
    }
}

/// Says which promise was being checked when a check panics.
struct Naming(&'static str);

impl Drop for Naming {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("broken promise: {}", self.0);
        }
    }
}

const A: Table = Table::new("a");
const B: Table = Table::new("b");

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What a scan yields, copied.
fn scan(snapshot: &dyn Snapshot, table: Table, range: KeyRange, direction: Direction) -> Pairs {
    snapshot
        .range(table, range, direction)
        .expect("a scan begins")
        .map(|entry| entry.expect("a scan goes on"))
        .map(|(key, value)| (key.into_vec(), value.into_vec()))
        .collect()
}

/// All entries of a table as the storage shows them now.
fn contents(storage: &dyn Storage, table: Table) -> Pairs {
    let snapshot = storage.snapshot().expect("a snapshot is taken");
    scan(&*snapshot, table, KeyRange::all(), Direction::Forward)
}

fn get(storage: &dyn Storage, table: Table, key: &[u8]) -> Option<Vec<u8>> {
    let snapshot = storage.snapshot().expect("a snapshot is taken");
    let value = snapshot.get(table, key).expect("a key is read");
    value.map(crate::Value::into_vec)
}

#[cfg(test)]
mod tests;
