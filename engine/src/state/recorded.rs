//! What executing read of a state, as a value: enough to execute the same again anywhere.
//!
//! [`Recording`] passes reads through to a view and remembers every answer;
//! [`RecordedState`] gives those answers and no others. After [`Recording::prove`] the
//! answers carry their own proof: [`RecordedState::verify`] leads all of them to one state
//! root, so that nothing of the file they came in has to be believed.
//! The encoding is written down in `specs/storage.md`.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::{GROUP_LEVEL, Key, Leaf, StateView, Value, WriteSet, node_count, top_level, update};
use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::limits::{STATE_ENTRY_COUNT_MAX, STATE_VALUE_BYTES_MAX};
use crate::types::{Hash, StateRoot};

/// Version of the encoding.
const VERSION: u8 = 1;

/// Something that a state was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// How many entries there are.
    EntryCount,
    /// The number of the entry under a key.
    Number(Key),
    /// The number of the entry with the greatest key below this one.
    NumberBelow(Key),
    /// A leaf, by number.
    Leaf(u64),
    /// An inner node.
    Node {
        /// Its level.
        level: u8,
        /// Its index in the level.
        index: u64,
    },
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::EntryCount => write!(f, "the number of entries"),
            Self::Number(key) => write!(f, "the number of key {}", Hash(key.0)),
            Self::NumberBelow(key) => write!(f, "the entry below key {}", Hash(key.0)),
            Self::Leaf(number) => write!(f, "leaf {number}"),
            Self::Node { level, index } => write!(f, "node {index} of level {level}"),
        }
    }
}

/// A read whose answer was not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the recorded state lacks {0}")]
pub struct NotRecorded(pub Question);

/// Why recorded answers are not those of a state with a given root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// A part of the proof is missing.
    #[error(transparent)]
    Lacks(#[from] NotRecorded),
    /// The answers belong to another state.
    #[error("the recorded state has the root {found}, expected {expected}")]
    Root {
        /// The root that was to be shown.
        expected: StateRoot,
        /// The root of the answers.
        found: StateRoot,
    },
    /// One answer contradicts the others, or nothing leads from it to the root.
    #[error("the recorded answer for {0} is wrong")]
    Wrong(Question),
}

/// A view that remembers every answer it gave. Failed reads are not remembered.
#[derive(Debug)]
pub struct Recording<V> {
    view: V,
    answers: RefCell<RecordedState>,
}

impl<V> Recording<V> {
    /// Begins to record what is read of `view`.
    #[must_use]
    pub fn new(view: V) -> Self {
        Self { view, answers: RefCell::default() }
    }

    /// Everything that was read.
    #[must_use]
    pub fn into_recorded(self) -> RecordedState {
        self.answers.into_inner()
    }
}

impl<V: StateView> Recording<V> {
    /// Reads what else is needed to lead everything read so far to the state's root.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn prove(&self) -> Result<(), V::Error> {
        let count = self.entry_count()?;
        let absent = self.answers.borrow().absent();
        for key in absent {
            self.number_below(&key)?;
        }
        let below: Vec<u64> = self.answers.borrow().below.values().copied().collect();
        for number in below {
            let next = self.leaf(number)?.next;
            if next != 0 {
                self.leaf(next)?;
            }
        }
        // New entries come after the last one, whose path shows what stands left of theirs.
        if let Some(last) = count.checked_sub(1) {
            self.leaf(last)?;
        }
        let leaves = self.answers.borrow().leaves.clone().into_iter().collect();
        update(self, count, leaves, BTreeMap::new()).map(drop)
    }
}

impl<V: StateView> StateView for Recording<V> {
    type Error = V::Error;

    fn entry_count(&self) -> Result<u64, V::Error> {
        let count = self.view.entry_count()?;
        self.answers.borrow_mut().entry_count = Some(count);
        Ok(count)
    }

    fn number_of(&self, key: &Key) -> Result<Option<u64>, V::Error> {
        let number = self.view.number_of(key)?;
        self.answers.borrow_mut().numbers.insert(*key, number);
        Ok(number)
    }

    fn number_below(&self, key: &Key) -> Result<u64, V::Error> {
        let number = self.view.number_below(key)?;
        self.answers.borrow_mut().below.insert(*key, number);
        Ok(number)
    }

    fn leaf(&self, number: u64) -> Result<Leaf, V::Error> {
        let leaf = self.view.leaf(number)?;
        self.answers.borrow_mut().leaves.insert(number, leaf.clone());
        Ok(leaf)
    }

    fn node(&self, level: u8, index: u64) -> Result<Hash, V::Error> {
        let hash = self.view.node(level, index)?;
        self.answers.borrow_mut().nodes.insert((level, index), hash);
        Ok(hash)
    }
}

/// Answers that a state gave. As a view it gives the same, and [`NotRecorded`] for the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordedState {
    entry_count: Option<u64>,
    numbers: BTreeMap<Key, Option<u64>>,
    below: BTreeMap<Key, u64>,
    leaves: BTreeMap<u64, Leaf>,
    nodes: BTreeMap<(u8, u64), Hash>,
}

impl RecordedState {
    /// How many answers it has.
    #[must_use]
    pub fn len(&self) -> usize {
        let counted = usize::from(self.entry_count.is_some());
        let (numbers, below) = (self.numbers.len(), self.below.len());
        [counted, numbers, below, self.leaves.len(), self.nodes.len()].into_iter().sum()
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys that were asked for and have no entry.
    fn absent(&self) -> Vec<Key> {
        let absent = self.numbers.iter().filter(|(_, number)| number.is_none());
        absent.map(|(key, _)| *key).collect()
    }

    /// Checks that every answer is that of the state with this root.
    ///
    /// # Errors
    /// [`Unproven`]: what is missing or wrong. Only after [`Recording::prove`] is nothing missing.
    pub fn verify(&self, root: &StateRoot) -> Result<(), Unproven> {
        let count = self.entry_count()?;
        if let Some((number, _)) = self.leaves.range(count..).next() {
            return Err(Unproven::Wrong(Question::Leaf(*number)));
        }
        for (key, number) in &self.numbers {
            let is_right = match number {
                Some(number) => self.leaf(*number)?.key == *key,
                None => self.above(self.number_below(key)?)?.is_none_or(|above| above != *key),
            };
            if !is_right {
                return Err(Unproven::Wrong(Question::Number(*key)));
            }
        }
        for (key, number) in &self.below {
            let is_above = self.above(*number)?.is_none_or(|above| above >= *key);
            if self.leaf(*number)?.key >= *key || !is_above {
                return Err(Unproven::Wrong(Question::NumberBelow(*key)));
            }
        }
        let leaves = self.leaves.clone().into_iter().collect();
        let tree = update(self, count, leaves, BTreeMap::new())?;
        if tree.root != *root {
            return Err(Unproven::Root { expected: *root, found: tree.root });
        }
        self.verify_nodes(count, &tree)
    }

    /// Key of the entry after this one in key order; none after the greatest.
    fn above(&self, number: u64) -> Result<Option<Key>, NotRecorded> {
        Ok(match self.leaf(number)?.next {
            0 => None,
            next => Some(self.leaf(next)?.key),
        })
    }

    /// A node is right if it was computed from leaves, or went into the root beside one
    /// that was.
    fn verify_nodes(&self, count: u64, tree: &WriteSet) -> Result<(), Unproven> {
        for ((level, index), hash) in &self.nodes {
            let is_right = match tree.node(*level, *index) {
                Some(computed) => computed == *hash,
                None => {
                    let is_inside = *index < node_count(*level, count);
                    is_inside && tree.node(*level, *index ^ 1).is_some()
                }
            };
            if !is_right {
                return Err(Unproven::Wrong(Question::Node { level: *level, index: *index }));
            }
        }
        Ok(())
    }
}

impl StateView for RecordedState {
    type Error = NotRecorded;

    fn entry_count(&self) -> Result<u64, NotRecorded> {
        self.entry_count.ok_or(NotRecorded(Question::EntryCount))
    }

    fn number_of(&self, key: &Key) -> Result<Option<u64>, NotRecorded> {
        self.numbers.get(key).copied().ok_or(NotRecorded(Question::Number(*key)))
    }

    fn number_below(&self, key: &Key) -> Result<u64, NotRecorded> {
        self.below.get(key).copied().ok_or(NotRecorded(Question::NumberBelow(*key)))
    }

    fn leaf(&self, number: u64) -> Result<Leaf, NotRecorded> {
        self.leaves.get(&number).cloned().ok_or(NotRecorded(Question::Leaf(number)))
    }

    fn node(&self, level: u8, index: u64) -> Result<Hash, NotRecorded> {
        let missing = NotRecorded(Question::Node { level, index });
        self.nodes.get(&(level, index)).copied().ok_or(missing)
    }
}

impl Canonical for Leaf {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put(&self.key.0);
        out.put_u64(self.next);
        out.put_bytes(self.value.as_bytes());
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (key, next) = (Key(reader.array()?), number(reader)?);
        let value = reader.bytes("state value length", STATE_VALUE_BYTES_MAX)?;
        Ok(Self { key, next, value: Value::from_bytes(value)? })
    }
}

impl Canonical for RecordedState {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_u8(VERSION);
        put_option(out, self.entry_count);
        out.put_count(self.numbers.len());
        for (key, number) in &self.numbers {
            out.put(&key.0);
            put_option(out, *number);
        }
        out.put_count(self.below.len());
        for (key, number) in &self.below {
            out.put(&key.0);
            out.put_u64(*number);
        }
        encode_leaves(&self.leaves, out);
        out.put_count(self.nodes.len());
        for ((level, index), hash) in &self.nodes {
            out.put_u8(*level);
            out.put_u64(*index);
            out.put(&hash.0);
        }
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.tag("recorded state version", VERSION)?;
        let entry_count = option(reader, "entry count flag")?;
        let numbers = ordered(reader, "numbers of keys", 33, |reader| {
            Ok((Key(reader.array()?), option(reader, "number flag")?))
        })?;
        let below = ordered(reader, "numbers below keys", 40, |reader| {
            Ok((Key(reader.array()?), number(reader)?))
        })?;
        let leaves = decode_leaves(reader)?;
        let nodes = ordered(reader, "nodes", 41, |reader| {
            let level = reader.u8()?;
            if !(GROUP_LEVEL..=top_level(STATE_ENTRY_COUNT_MAX)).contains(&level) {
                return Err(DecodeError::Unknown { what: "node level", found: level.into() });
            }
            Ok(((level, number(reader)?), reader.hash()?))
        })?;
        Ok(Self { entry_count, numbers, below, leaves, nodes })
    }
}

/// Appends leaves by number: their count, then number and leaf of each.
pub fn encode_leaves(leaves: &BTreeMap<u64, Leaf>, out: &mut Vec<u8>) {
    out.put_count(leaves.len());
    for (number, leaf) in leaves {
        out.put_u64(*number);
        leaf.encode_to(out);
    }
}

/// Reads what [`encode_leaves`] wrote. Takes memory for what is there, whatever the count says.
///
/// # Errors
/// [`DecodeError`] for anything else, numbers out of order among it.
pub fn decode_leaves(reader: &mut Reader<'_>) -> Result<BTreeMap<u64, Leaf>, DecodeError> {
    ordered(reader, "leaves", 52, |reader| Ok((number(reader)?, Leaf::decode_from(reader)?)))
}

fn put_option(out: &mut Vec<u8>, number: Option<u64>) {
    out.put_u8(u8::from(number.is_some()));
    if let Some(number) = number {
        out.put_u64(number);
    }
}

fn option(reader: &mut Reader<'_>, what: &'static str) -> Result<Option<u64>, DecodeError> {
    if reader.flag(what)? { number(reader).map(Some) } else { Ok(None) }
}

/// An entry number or a count of entries.
fn number(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    match reader.u64()? {
        found if found <= STATE_ENTRY_COUNT_MAX => Ok(found),
        found => {
            let (what, max) = ("entry number", STATE_ENTRY_COUNT_MAX);
            Err(DecodeError::TooLarge { what, found, max })
        }
    }
}

/// Entries behind their count, strictly ascending by key; each takes at least `bytes_min`.
fn ordered<K: Ord, T>(
    reader: &mut Reader<'_>,
    what: &'static str,
    bytes_min: usize,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<(K, T), DecodeError>,
) -> Result<BTreeMap<K, T>, DecodeError> {
    let count = reader.count(what, reader.remaining().checked_div(bytes_min).unwrap_or(0))?;
    let mut found = BTreeMap::new();
    for _ in 0..count {
        let (key, value) = read(reader)?;
        if found.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(DecodeError::Invalid { what });
        }
        found.insert(key, value);
    }
    Ok(found)
}
