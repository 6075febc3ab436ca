//! Proofs against a state root: an entry with its value, or the absence of a key.
//!
//! Verified with the root alone, without any storage.

use super::leaf_blocks::leaf_hashes;
use super::tree;
use super::{GROUP_LEAVES, GROUP_LEVEL, Key, Leaf, StateView, Value};
use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::hash::{BlockHasher, Domain};
use crate::limits::{STATE_ENTRY_COUNT_MAX, STATE_VALUE_BYTES_MAX};
use crate::types::{Hash, StateRoot};

const VERSION: u8 = 1;
/// Siblings on the way from a leaf to the top: one a level.
const SIBLING_COUNT_MAX: usize = 40;

/// A leaf and the way from it to the top of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafPath {
    /// Number of the entry.
    pub number: u64,
    /// The leaf.
    pub leaf: Leaf,
    /// Sibling hashes from the leaf up.
    pub siblings: Vec<Hash>,
}

impl LeafPath {
    fn new<V: StateView>(view: &V, count: u64, number: u64) -> Result<Self, V::Error> {
        let group = number / GROUP_LEAVES;
        let first = group << GROUP_LEVEL;
        let mut leaves = Vec::new();
        for n in first..first.saturating_add(GROUP_LEAVES).min(count) {
            leaves.push(view.leaf(n)?);
        }
        let mut at = tree::place_in_group(number);
        // A number that is out of bounds is for the view to refuse.
        let leaf = leaves.get(at).cloned().map_or_else(|| view.leaf(number), Ok)?;
        let hasher = BlockHasher::new(Domain::StateNode);
        let padded = (0..tree::GROUP_COUNT).map(|at| leaves.get(at));
        let mut hashes = leaf_hashes(padded);
        let mut siblings = Vec::new();
        for _ in 0..GROUP_LEVEL {
            siblings.push(hashes.get(at ^ 1).copied().unwrap_or_default());
            hashes = hasher.hash_pairs(&hashes);
            at /= 2;
        }
        let mut index = group;
        for level in GROUP_LEVEL..tree::top_level(count) {
            let sibling = index ^ 1;
            let exists = sibling < tree::node_count(level, count);
            siblings.push(if exists { view.node(level, sibling)? } else { Hash::ZERO });
            index /= 2;
        }
        Ok(Self { number, leaf, siblings })
    }

    fn leads_to(&self, root: &StateRoot, count: u64) -> bool {
        if self.number >= count || self.siblings.len() != usize::from(tree::top_level(count)) {
            return false;
        }
        let mut index = self.number;
        let mut node = self.leaf.hash();
        for sibling in &self.siblings {
            let parts =
                if index.is_multiple_of(2) { [&node.0, &sibling.0] } else { [&sibling.0, &node.0] };
            node = Domain::StateNode.hash(&[parts[0], parts[1]]);
            index /= 2;
        }
        tree::root_hash(count, &node) == *root
    }
}

/// Proof of what a state holds under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateProof {
    /// Entries of the state.
    pub entry_count: u64,
    /// The entry under the key; or, for absence, the one with the greatest key below.
    pub path: LeafPath,
    /// For absence: the entry with the next greater key, unless the one below is the greatest.
    pub successor: Option<LeafPath>,
}

/// What a verified proof says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The state holds this value under the key.
    Present(Value),
    /// The state holds nothing under the key.
    Absent,
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// A path does not lead to the root.
    #[error("the proof does not lead to the state root")]
    Root,
    /// The leaves are neither the key's nor the two around it.
    #[error("the proof is not about this key")]
    Key,
}

impl StateProof {
    /// Proof of what the state behind `view` holds under `key`.
    ///
    /// # Errors
    /// What reading the view gives.
    pub fn new<V: StateView>(view: &V, key: &Key) -> Result<Self, V::Error> {
        let entry_count = view.entry_count()?;
        if let Some(number) = view.number_of(key)? {
            let path = LeafPath::new(view, entry_count, number)?;
            return Ok(Self { entry_count, path, successor: None });
        }
        let path = LeafPath::new(view, entry_count, view.number_below(key)?)?;
        let next = path.leaf.next;
        let successor =
            if next == 0 { None } else { Some(LeafPath::new(view, entry_count, next)?) };
        Ok(Self { entry_count, path, successor })
    }

    /// What the state with this root holds under `key`.
    ///
    /// # Errors
    /// [`ProofError`] if the proof does not show that.
    pub fn verify(&self, root: &StateRoot, key: &Key) -> Result<Claim, ProofError> {
        let all_lead = std::iter::once(&self.path)
            .chain(&self.successor)
            .all(|path| path.leads_to(root, self.entry_count));
        if !all_lead {
            return Err(ProofError::Root);
        }
        let below = &self.path.leaf;
        match &self.successor {
            None if below.key == *key => Ok(Claim::Present(below.value.clone())),
            None if below.key < *key && below.next == 0 => Ok(Claim::Absent),
            Some(above)
                if below.key < *key && *key < above.leaf.key && below.next == above.number =>
            {
                Ok(Claim::Absent)
            }
            _ => Err(ProofError::Key),
        }
    }
}

impl Canonical for LeafPath {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_u64(self.number);
        out.put(&self.leaf.key.0);
        out.put_u64(self.leaf.next);
        out.put_bytes(self.leaf.value.as_bytes());
        out.put_count(self.siblings.len());
        for sibling in &self.siblings {
            out.put(&sibling.0);
        }
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = reader.u64()?;
        let key = Key(reader.array()?);
        let next = reader.u64()?;
        let value = Value::from_bytes(reader.bytes("state value length", STATE_VALUE_BYTES_MAX)?)?;
        let count = reader.count("proof sibling count", SIBLING_COUNT_MAX)?;
        let mut siblings = Vec::with_capacity(count);
        for _ in 0..count {
            siblings.push(reader.hash()?);
        }
        Ok(Self { number, leaf: Leaf { key, next, value }, siblings })
    }
}

impl Canonical for StateProof {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_u8(VERSION);
        out.put_u64(self.entry_count);
        self.path.encode_to(out);
        out.put_u8(u8::from(self.successor.is_some()));
        if let Some(successor) = &self.successor {
            successor.encode_to(out);
        }
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.tag("state proof version", VERSION)?;
        let entry_count = reader.u64()?;
        if entry_count > STATE_ENTRY_COUNT_MAX {
            let max = STATE_ENTRY_COUNT_MAX;
            return Err(DecodeError::TooLarge {
                what: "state entry count",
                found: entry_count,
                max,
            });
        }
        let path = LeafPath::decode_from(reader)?;
        let successor = if reader.flag("proof successor flag")? {
            Some(LeafPath::decode_from(reader)?)
        } else {
            None
        };
        Ok(Self { entry_count, path, successor })
    }
}
