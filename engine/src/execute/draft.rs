//! A state being changed: reads go to what was written first, then to the view.
//!
//! A transaction's writes are staged and kept only if it applies as a whole.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::places::Places;
use crate::codec::DecodeError;
use crate::limits::STATE_ENTRY_COUNT_MAX;
use crate::state::{Account, Key, Leaf, StateView, Value, WriteSet, update};
use crate::types::Address;

/// Why executing stopped: not the transaction's fault, but the state's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateFault<E> {
    /// The state cannot be read.
    #[error("reading the state failed: {0}")]
    Read(E),
    /// An entry is not what it must be.
    #[error("the state is corrupt: {0}")]
    Corrupt(DecodeError),
    /// An entry that every state has is missing.
    #[error("the state is corrupt: it has no {what}")]
    Missing {
        /// What is missing.
        what: &'static str,
    },
}

#[derive(Debug, Clone)]
struct Slot {
    key: Key,
    /// Number and link of an entry that the view has; none for a new or absent one.
    old: Option<(u64, u64)>,
    value: Option<Value>,
    changed: bool,
}

/// The state of a block being executed.
#[derive(Debug)]
pub(crate) struct Draft<V> {
    view: V,
    /// Entries in the order in which they were first asked for.
    slots: Vec<Slot>,
    places: Places,
    /// Keys of new entries in order of their creation, which gives their numbers.
    created: Vec<Key>,
    staged: Vec<(Key, Value)>,
}

impl<V: StateView> Draft<V> {
    /// `seed` decides only how slots are found.
    pub(crate) fn new(view: V, seed: u64) -> Self {
        let places = Places::new(seed);
        Self { view, slots: Vec::new(), places, created: Vec::new(), staged: Vec::new() }
    }

    /// Makes room in memory for as many keys more.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.slots.reserve(count);
        let slots = &self.slots;
        self.places.reserve(count, |slot| slots.get(slot as usize).map(|slot| slot.key));
    }

    /// Says that these keys will be asked for soon.
    pub(crate) fn expect(&self, keys: &[Key]) {
        self.view.expect(keys);
    }

    /// The slot of a key, read from the view the first time.
    fn load(&mut self, key: &Key) -> Result<&mut Slot, StateFault<V::Error>> {
        let key_of = |slots: &'_ [Slot], slot: u32| slots.get(slot as usize).map(|slot| slot.key);
        let at = match self.places.find(key, |slot| key_of(&self.slots, slot)) {
            Some(at) => at as usize,
            None => {
                let slot = self.read(key)?;
                let at = self.slots.len();
                self.slots.push(slot);
                // A block holds far fewer keys than fit.
                let number = u32::try_from(at).unwrap_or(u32::MAX);
                self.places.insert(key, number, |slot| key_of(&self.slots, slot));
                at
            }
        };
        self.slots.get_mut(at).ok_or(StateFault::Missing { what: "slot of a key" })
    }

    fn read(&self, key: &Key) -> Result<Slot, StateFault<V::Error>> {
        let (mut old, mut value) = (None, None);
        if let Some(number) = self.view.number_of(key).map_err(StateFault::Read)? {
            let leaf = self.view.leaf(number).map_err(StateFault::Read)?;
            (old, value) = (Some((number, leaf.next)), Some(leaf.value));
        }
        Ok(Slot { key: *key, old, value, changed: false })
    }

    /// The value under a key, staged writes included.
    pub(crate) fn get(&mut self, key: &Key) -> Result<Option<Value>, StateFault<V::Error>> {
        if let Some((_, value)) = self.staged.iter().find(|(staged, _)| staged == key) {
            return Ok(Some(value.clone()));
        }
        Ok(self.load(key)?.value.clone())
    }

    /// The account of this address; an empty one if it was never used.
    pub(crate) fn account(&mut self, address: &Address) -> Result<Account, StateFault<V::Error>> {
        match self.get(&Key::account(address))? {
            Some(value) => Account::try_from(&value).map_err(StateFault::Corrupt),
            None => Ok(Account::default()),
        }
    }

    /// Stages a write; [`Draft::keep`] makes it count, [`Draft::drop_staged`] undoes it.
    pub(crate) fn put(&mut self, key: Key, value: Value) {
        match self.staged.iter_mut().find(|(staged, _)| *staged == key) {
            Some((_, staged)) => *staged = value,
            None => self.staged.push((key, value)),
        }
    }

    pub(crate) fn put_account(&mut self, address: &Address, account: Account) {
        self.put(Key::account(address), account.into());
    }

    pub(crate) fn drop_staged(&mut self) {
        self.staged.clear();
    }

    pub(crate) fn keep(&mut self) -> Result<(), StateFault<V::Error>> {
        // Put back, so that no memory is taken anew for each transaction.
        let mut staged = std::mem::take(&mut self.staged);
        for (key, value) in staged.drain(..) {
            let entry = self.load(&key)?;
            let is_new = entry.old.is_none() && entry.value.is_none();
            entry.value = Some(value);
            entry.changed = true;
            if is_new {
                self.created.push(key);
            }
        }
        self.staged = staged;
        Ok(())
    }

    /// Numbers and links the new entries, and computes the tree.
    pub(crate) fn finish(self) -> Result<WriteSet, StateFault<V::Error>> {
        let Self { view, slots, created, .. } = self;
        let old_count = view.entry_count().map_err(StateFault::Read)?;
        let count = old_count
            .checked_add(created.len() as u64)
            .filter(|count| *count <= STATE_ENTRY_COUNT_MAX)
            .ok_or(StateFault::Missing { what: "number for another entry" })?;
        let numbers: BTreeMap<Key, u64> = created.into_iter().zip(old_count..count).collect();
        let mut leaves = Vec::with_capacity(slots.len());
        for Slot { key, old, value, changed: is_changed } in slots {
            let (Some(value), true) = (value, is_changed) else { continue };
            let place = old.or_else(|| numbers.get(&key).map(|number| (*number, 0)));
            let (number, next) = place.ok_or(StateFault::Missing { what: "number of an entry" })?;
            leaves.push((number, Leaf { key, next, value }));
        }
        if numbers.is_empty() {
            leaves.sort_unstable_by_key(|(number, _)| *number);
        } else {
            let mut by_number: BTreeMap<u64, Leaf> = leaves.into_iter().collect();
            link(&view, &numbers, &mut by_number)?;
            leaves = by_number.into_iter().collect();
        }
        update(&view, count, leaves, numbers).map_err(StateFault::Read)
    }
}

/// Links new entries into the order of keys. They come in ascending order, so that the
/// entry before a new one is the new one before it, or the greatest old one below.
fn link<V: StateView>(
    view: &V,
    numbers: &BTreeMap<Key, u64>,
    leaves: &mut BTreeMap<u64, Leaf>,
) -> Result<(), StateFault<V::Error>> {
    let mut previous: Option<(Key, u64)> = None;
    for (key, number) in numbers {
        let below = view.number_below(key).map_err(StateFault::Read)?;
        if let Entry::Vacant(vacant) = leaves.entry(below) {
            vacant.insert(view.leaf(below).map_err(StateFault::Read)?);
        }
        let below_key = leaves.get(&below).map_or(Key::SENTINEL, |leaf| leaf.key);
        let before = match previous {
            Some((new_key, new_number)) if new_key > below_key => new_number,
            _ => below,
        };
        let Some(next) =
            leaves.get_mut(&before).map(|leaf| std::mem::replace(&mut leaf.next, *number))
        else {
            return Err(StateFault::Missing { what: "entry before a new one" });
        };
        if let Some(leaf) = leaves.get_mut(number) {
            leaf.next = next;
        }
        previous = Some((*key, *number));
    }
    Ok(())
}
