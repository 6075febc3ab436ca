//! Executing a bundle's block again, here, and comparing three results: what the header
//! says, what executing gives here, and what it gave where the bundle was made.
//!
//! The bundle is untrusted: signatures and the proof of the state are verified first.

use std::collections::{BTreeMap, BTreeSet};

use ait_engine::block::Header;
use ait_engine::state::{Key, StateView, Unproven, Value};
use ait_engine::transaction::{TransactionError, verify_transactions};
use ait_engine::types::BlockId;

use super::{Divergence, Executed, execute};

/// A transaction of the block that its sender did not sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("transaction {index}: {source}")]
pub struct SignatureFault {
    /// Its position.
    pub index: usize,
    /// What is wrong.
    pub source: TransactionError,
}

/// A header field that is not the same everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What the header says.
    pub header: String,
    /// What executing gives here; none if the block is refused here.
    pub here: Option<String>,
    /// What executing gave where the bundle was made; none if the block was refused there.
    pub maker: Option<String>,
}

/// An entry of the state whose value the block changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// Its key.
    pub key: Key,
    /// What it was; none if the block makes it.
    pub before: Option<Value>,
    /// What executing makes of it here; none if nothing.
    pub here: Option<Value>,
    /// What executing made of it where the bundle was made; none if nothing.
    pub maker: Option<Value>,
}

/// Who is right about the block, as seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// What the header says is what executing gives here.
    Agrees,
    /// Executing here gives something else, or refuses the block.
    Differs,
    /// The state in the bundle is not that of the parent, so that nothing follows.
    Unproven,
}

/// What executing a bundle's block again showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// The block's id.
    pub block_id: BlockId,
    /// What executing gives here.
    pub here: Executed,
    /// Whether the recorded state is the one that the parent's header commits to.
    pub proof: Result<(), Unproven>,
    /// Header fields that are not the same everywhere, in their order.
    pub fields: Vec<Field>,
    /// Whether executing gives here exactly what it gave where the bundle was made.
    pub is_as_made: bool,
    /// Entries whose value the block changes, in order of their keys.
    pub entries: Vec<Touched>,
}

impl Examined {
    /// What follows for the header.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let is_other = self.fields.iter().any(|field| field.here.as_ref() != Some(&field.header));
        match (&self.proof, &self.here) {
            (Err(_), _) => Verdict::Unproven,
            (Ok(()), Executed::Block(_)) if !is_other => Verdict::Agrees,
            _ => Verdict::Differs,
        }
    }
}

/// Executes the block of a bundle here.
///
/// # Errors
/// [`SignatureFault`] if a transaction was not signed by its sender: no node makes a bundle
/// of such a block.
pub fn examine(divergence: &Divergence) -> Result<Examined, SignatureFault> {
    let Divergence { parent, block, state, executed: maker, .. } = divergence;
    let verified = verify_transactions(block.transactions.clone(), None).into_iter().enumerate();
    let verified = verified
        .map(|(index, result)| result.map_err(|source| SignatureFault { index, source }))
        .collect::<Result<_, _>>()?;
    let here = execute(state, parent, &block.header, verified)
        .unwrap_or_else(|fault| Executed::Refused { reason: fault.to_string() });
    Ok(Examined {
        block_id: block.header.id(),
        proof: state.verify(&parent.state_root),
        fields: fields(&block.header, &here, maker),
        is_as_made: here == *maker,
        entries: entries(divergence, &here),
        here,
    })
}

/// The fields that differ in one of the results.
fn fields(header: &Header, here: &Executed, maker: &Executed) -> Vec<Field> {
    let differences =
        |executed: &Executed| executed.rebuilt().map(|rebuilt| rebuilt.header.differences(header));
    let (here, maker) = (differences(here), differences(maker));
    let all = here.iter().chain(&maker).flatten();
    let mut seen = BTreeSet::new();
    let names = all.filter(|difference| seen.insert(difference.field));
    names
        .map(|difference| {
            let value = |of: &Option<Vec<ait_engine::block::FieldDifference>>| {
                let of = of.as_ref()?;
                let other = of.iter().find(|other| other.field == difference.field);
                Some(other.map_or(&difference.found, |other| &other.expected).clone())
            };
            let (here, maker) = (value(&here), value(&maker));
            Field { name: difference.field, header: difference.found.clone(), here, maker }
        })
        .collect()
}

/// The entries that either result changes.
fn entries(divergence: &Divergence, here: &Executed) -> Vec<Touched> {
    let mut entries: BTreeMap<Key, Touched> = BTreeMap::new();
    for (executed, is_here) in [(here, true), (&divergence.executed, false)] {
        for (number, leaf) in executed.rebuilt().iter().flat_map(|rebuilt| &rebuilt.leaves) {
            let entry = entries.entry(leaf.key).or_insert_with(|| {
                let before = divergence.state.leaf(*number).ok();
                let before = before.filter(|before| before.key == leaf.key);
                let before = before.map(|before| before.value);
                Touched { key: leaf.key, before, here: None, maker: None }
            });
            let place = if is_here { &mut entry.here } else { &mut entry.maker };
            *place = Some(leaf.value.clone());
        }
    }
    // An entry before a new one is written for its link alone.
    let is_changed = |entry: &Touched| {
        [&entry.here, &entry.maker]
            .into_iter()
            .any(|after| after.is_some() && *after != entry.before)
    };
    entries.into_values().filter(is_changed).collect()
}
