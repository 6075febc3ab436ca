//! BLAKE3-256 with one derive-key context a purpose, so that a hash made for one
//! purpose never stands for another. The list is frozen in `specs/encoding.md`.
//!
//! Source: the BLAKE3 paper, section 2.3 (`derive_key` mode).

mod chunk;
#[cfg(target_arch = "x86_64")]
mod lanes;
mod many;

pub use many::BlockHasher;
pub(crate) use many::pair;

use std::sync::LazyLock;

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};

use crate::types::Hash;

/// Items that are encoded and hashed together: few enough for the processor's nearest cache.
const ITEMS_TOGETHER: usize = 64;

/// Keys of all contexts, in the order of [`Domain::ALL`]: hashing a context anew for every
/// hash would take as long as the hash.
static CONTEXT_KEYS: LazyLock<[ContextKey; Domain::ALL.len()]> =
    LazyLock::new(|| Domain::ALL.map(|domain| hash_derive_key_context(domain.context())));

/// What a hash is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// Address of a public key.
    Address,
    /// Hash of a transaction without its signature.
    Transaction,
    /// Leaf of a transaction or outcome list tree.
    ListLeaf,
    /// Inner node of a transaction or outcome list tree.
    ListNode,
    /// Root of a transaction or outcome list tree: count and top node.
    ListRoot,
    /// Id of a block: its canonical header.
    Block,
    /// What a validator signs: a vote or a proposal.
    Vote,
    /// Hash of a validator set.
    Validators,
    /// Key of a state entry that is not an account.
    StateKey,
    /// Leaf of the state tree.
    StateLeaf,
    /// Inner node of the state tree.
    StateNode,
    /// State root: entry count and top node.
    StateRoot,
    /// What a provider signs to bind a receipt key to its account.
    ProviderBinding,
    /// Seeds of a devnet's named accounts.
    DevelopmentKey,
    /// Coefficients of a signature batch.
    SignatureBatch,
}

const _: () = assert!(Domain::SignatureBatch as usize + 1 == Domain::ALL.len());

impl Domain {
    /// Every domain, for vectors and uniqueness tests.
    pub const ALL: [Self; 15] = [
        Self::Address,
        Self::Transaction,
        Self::ListLeaf,
        Self::ListNode,
        Self::ListRoot,
        Self::Block,
        Self::Vote,
        Self::Validators,
        Self::StateKey,
        Self::StateLeaf,
        Self::StateNode,
        Self::StateRoot,
        Self::ProviderBinding,
        Self::DevelopmentKey,
        Self::SignatureBatch,
    ];

    /// The derive-key context string.
    #[must_use]
    pub const fn context(self) -> &'static str {
        match self {
            Self::Address => "ait-node 2026-11 address",
            Self::Transaction => "ait-node 2026-11 transaction",
            Self::ListLeaf => "ait-node 2026-11 list leaf",
            Self::ListNode => "ait-node 2026-11 list node",
            Self::ListRoot => "ait-node 2026-11 list root",
            Self::Block => "ait-node 2026-11 block",
            Self::Vote => "ait-node 2026-11 vote",
            Self::Validators => "ait-node 2026-11 validators",
            Self::StateKey => "ait-node 2026-11 state key",
            Self::StateLeaf => "ait-node 2026-11 state leaf",
            Self::StateNode => "ait-node 2026-11 state node",
            Self::StateRoot => "ait-node 2026-11 state root",
            Self::ProviderBinding => "ait-node 2026-11 provider binding",
            Self::DevelopmentKey => "ait-node 2026-11 development key",
            Self::SignatureBatch => "ait-node 2026-11 signature batch",
        }
    }

    /// The key that BLAKE3 derives from the context.
    #[expect(clippy::indexing_slicing, reason = "the last domain's number is checked above")]
    fn context_key(self) -> &'static ContextKey {
        &CONTEXT_KEYS[self as usize]
    }

    /// A hasher for this purpose.
    #[must_use]
    pub fn hasher(self) -> blake3::Hasher {
        blake3::Hasher::new_from_context_key(self.context_key())
    }

    /// Hash of the concatenation of `parts`.
    #[must_use]
    pub fn hash(self, parts: &[&[u8]]) -> Hash {
        if let Some(hash) = chunk::hash(self.mode(), parts) {
            return hash;
        }
        let mut hasher = self.hasher();
        for part in parts {
            hasher.update(part);
        }
        Hash(*hasher.finalize().as_bytes())
    }

    /// As [`Domain::hash`] of each input, in order, many at once where they are alike.
    #[must_use]
    pub fn hash_each(self, inputs: &[&[u8]]) -> Vec<Hash> {
        chunk::hash_each(self.mode(), inputs, |input| self.hash(&[input]))
    }

    /// The hashes of items in this domain, each as `encode` appends it, and their lengths.
    pub(crate) fn hash_items<T>(
        self,
        items: impl IntoIterator<Item = T>,
        encode: impl Fn(T, &mut Vec<u8>),
    ) -> (Vec<Hash>, Vec<usize>) {
        let (mut hashes, mut lengths) = (Vec::new(), Vec::new());
        let mut bytes = Vec::new();
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            bytes.clear();
            let mut ends = vec![0];
            for item in items.by_ref().take(ITEMS_TOGETHER) {
                encode(item, &mut bytes);
                ends.push(bytes.len());
            }
            let encoded = ends.array_windows().map(|[begin, end]| bytes.get(*begin..*end));
            let encoded: Vec<&[u8]> = encoded.map(Option::unwrap_or_default).collect();
            lengths.extend(encoded.iter().map(|item| item.len()));
            hashes.extend(self.hash_each(&encoded));
        }
        (hashes, lengths)
    }

    fn mode(self) -> chunk::Mode {
        chunk::Mode::derived(self.context_key())
    }
}

/// The hash without a purpose of each input, in order: for checksums, which nothing of the
/// protocol depends on.
#[must_use]
pub fn plain_hash_each(inputs: &[&[u8]]) -> Vec<Hash> {
    chunk::hash_each(chunk::Mode::PLAIN, inputs, |input| Hash(*blake3::hash(input).as_bytes()))
}
