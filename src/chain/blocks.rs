//! The store of blocks: the certified chain. Blocks that are voted for are in the log of
//! consensus until the store has them.
//!
//! Writing the [`BlockRecord`] of a height makes a block of others final and durable here. What
//! consensus decided here is so by its log, from which a start decides it again: such a block is
//! handed over and written behind the writer, and the log is not begun anew before. A height has
//! one record, ever.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ait_engine::block::{Block, Header};
use ait_engine::certificate::Certificate;
use ait_engine::codec::{Canonical, DecodeError};
use ait_engine::genesis::Genesis;
use ait_engine::list;
use ait_engine::outcome::Outcome;
use ait_engine::transaction::Payload;
use ait_engine::types::{BlockId, Height, TxHash};
use ait_storage::{Batch, Durability, KeyRange, Snapshot, Storage};

use super::ChainError;
use super::tables::{
    ArchivedBlockRecord, BLOCKS, BLOCKS_META, BODIES, BlockRecord, ONLY, SCHEMA_VERSION,
    access_block, to_bytes,
};
use crate::telemetry::Stage;

/// A block that is final and durable here, with all that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedBlock {
    /// Header and transactions.
    pub block: Block,
    /// Its id.
    pub id: BlockId,
    /// Why it is final; none for genesis.
    pub certificate: Option<Certificate>,
    /// An outcome for each transaction.
    pub outcomes: Vec<Outcome>,
    /// Hash of each transaction.
    pub tx_hashes: Vec<TxHash>,
}

impl CommittedBlock {
    /// The block's height.
    #[must_use]
    pub const fn height(&self) -> Height {
        self.block.header.height
    }
}

/// Where the genesis comes from. Building it takes long for many accounts, so that an
/// existing database of the same document is opened without.
pub struct GenesisSource<'a> {
    /// Hash of the document's text.
    pub fingerprint: [u8; 32],
    /// Builds the genesis from the document.
    pub build: &'a dyn Fn() -> Result<Genesis, ChainError>,
}

impl GenesisSource<'_> {
    /// Hash of a document's text, of no meaning beyond this node.
    #[must_use]
    pub fn fingerprint(text: &[u8]) -> [u8; 32] {
        *blake3::hash(text).as_bytes()
    }
}

/// The store of blocks.
#[derive(Debug)]
pub struct BlockStore {
    storage: Arc<dyn Storage>,
    /// The newest block, as long as only the log of consensus has it. It goes once it can be
    /// read from the storage, so that who looks here first finds it in one of the two.
    unwritten: Mutex<Option<Arc<CommittedBlock>>>,
}

impl BlockStore {
    /// Opens the store for the chain of this genesis; writes its record if the store is
    /// empty. Gives the genesis, too, if it had to be built.
    ///
    /// # Errors
    /// [`ChainError`] when it cannot be read, is of another chain or a newer program.
    pub fn open(
        storage: Arc<dyn Storage>,
        source: &GenesisSource<'_>,
    ) -> Result<(Self, Option<Genesis>), ChainError> {
        let store = Self::existing(storage);
        let Some(meta) = store.storage.snapshot()?.get(BLOCKS_META, ONLY)? else {
            let genesis = (source.build)()?;
            store.write_genesis(&genesis, &source.fingerprint)?;
            return Ok((store, Some(genesis)));
        };
        let parts = meta.split_first_chunk::<4>().and_then(|(schema, rest)| {
            let (id, fingerprint) = rest.split_first_chunk::<32>()?;
            Some((u32::from_le_bytes(*schema), BlockId(*id), fingerprint))
        });
        let (schema, found, fingerprint) = parts.ok_or_else(|| {
            ChainError::blocks_corrupt("the store of blocks has no valid meta record")
        })?;
        if schema > SCHEMA_VERSION {
            return Err(ChainError::SchemaTooNew { found: schema, known: SCHEMA_VERSION });
        }
        if fingerprint == source.fingerprint {
            return Ok((store, None));
        }
        // Another text may still be the same genesis.
        let genesis = (source.build)()?;
        if found != genesis.block_id {
            return Err(ChainError::OtherChain { expected: genesis.block_id, found });
        }
        Ok((store, Some(genesis)))
    }

    /// A store whose chain is not checked: for tools that look at a damaged one.
    #[must_use]
    pub const fn existing(storage: Arc<dyn Storage>) -> Self {
        Self { storage, unwritten: Mutex::new(None) }
    }

    /// Whether the chain was begun.
    pub(super) fn has_genesis(&self) -> Result<bool, ChainError> {
        Ok(self.storage.snapshot()?.get(BLOCKS_META, ONLY)?.is_some())
    }

    fn write_genesis(&self, genesis: &Genesis, fingerprint: &[u8; 32]) -> Result<(), ChainError> {
        let block = Block { header: genesis.header.clone(), transactions: Vec::new() };
        let record = BlockRecord {
            block_id: genesis.block_id.0,
            header: genesis.header.encode(),
            certificate: Vec::new(),
            outcomes: Vec::new(),
        };
        let mut meta = SCHEMA_VERSION.to_le_bytes().to_vec();
        meta.extend(genesis.block_id.0);
        meta.extend(fingerprint);
        let mut batch = Batch::new();
        batch.put(BLOCKS_META, ONLY, meta);
        batch.put(BODIES, body_key(Height::ZERO, &genesis.block_id), block.encode());
        batch.put(BLOCKS, Height::ZERO.get().to_be_bytes(), to_bytes(&record)?);
        Ok(self.storage.commit(batch, Durability::Immediate)?)
    }

    /// The stored body of a committed block.
    ///
    /// # Errors
    /// When the store fails or the body is not canonical.
    pub fn body(&self, height: Height, id: &BlockId) -> Result<Option<Block>, ChainError> {
        if let Some(block) = self.unwritten_at(height).filter(|block| block.id == *id) {
            return Ok(Some(block.block.clone()));
        }
        body(&*self.storage.snapshot()?, height, id)
    }

    // A poisoned lock means that a thread panicked; what it guards is one value.
    fn unwritten(&self) -> MutexGuard<'_, Option<Arc<CommittedBlock>>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest block if it is of this height and not in the storage yet.
    fn unwritten_at(&self, height: Height) -> Option<Arc<CommittedBlock>> {
        self.unwritten().as_ref().filter(|block| block.height() == height).cloned()
    }

    /// Commits a block: durable when this returns.
    ///
    /// # Errors
    /// When the store fails; the node must stop then.
    pub fn commit(&self, block: &CommittedBlock) -> Result<(), ChainError> {
        let (height, outcomes) = (block.height(), &block.outcomes);
        let rewarded = (0_u32..).zip(outcomes).filter(|(_, outcome)| !outcome.rewards.is_empty());
        let record = BlockRecord {
            block_id: block.id.0,
            header: block.block.header.encode(),
            certificate: block.certificate.as_ref().map(Certificate::encode).unwrap_or_default(),
            outcomes: rewarded.map(|(at, outcome)| (at, outcome.encode())).collect(),
        };
        let mut batch = Batch::new();
        batch.put(BLOCKS, height.get().to_be_bytes(), to_bytes(&record)?);
        let body = Stage::Encode.time(|| block.block.encode());
        batch.put(BODIES, body_key(height, &block.id), body);
        Ok(Stage::Persist.time(|| self.storage.commit(batch, Durability::Immediate))?)
    }

    /// Takes a block that is durable elsewhere, which is read from now on and is to be written by
    /// [`BlockStore::write`] before another is taken.
    pub(super) fn hand_over(&self, block: Arc<CommittedBlock>) {
        let before = self.unwritten().replace(block);
        debug_assert!(before.is_none(), "a block was handed over before the last was written");
    }

    /// Writes the block that was handed over, if there is one; gives its height.
    pub(super) fn write(&self) -> Result<Option<Height>, ChainError> {
        let Some(block) = self.unwritten().clone() else { return Ok(None) };
        self.commit(&block)?;
        *self.unwritten() = None;
        Ok(Some(block.height()))
    }

    /// Height of the newest committed block.
    ///
    /// # Errors
    /// When the store fails or is empty.
    pub fn height(&self) -> Result<Height, ChainError> {
        if let Some(block) = &*self.unwritten() {
            return Ok(block.height());
        }
        let last = self.storage.snapshot()?.last(BLOCKS, KeyRange::all())?;
        let (key, _) =
            last.ok_or_else(|| ChainError::blocks_corrupt("the store of blocks is empty"))?;
        let key = <[u8; 8]>::try_from(&*key).map_err(|_| {
            ChainError::blocks_corrupt("a key of the store of blocks is not a height")
        })?;
        Ok(Height::saturating(u64::from_be_bytes(key)))
    }

    /// Id and header of a committed block.
    ///
    /// # Errors
    /// When the store fails or the record is corrupt.
    pub fn header(&self, height: Height) -> Result<Option<(BlockId, Header)>, ChainError> {
        if let Some(block) = self.unwritten_at(height) {
            return Ok(Some((block.id, block.block.header.clone())));
        }
        let snapshot = self.storage.snapshot()?;
        with_record(&*snapshot, height, |record| {
            let header: Header = decode(&record.header, "a stored header")?;
            let id = BlockId(record.block_id);
            if header.id() == id && header.height == height {
                Ok((id, header))
            } else {
                Err(ChainError::blocks_corrupt(format!(
                    "the header of block {height} is another's"
                )))
            }
        })
    }

    /// A committed block with all that belongs to it.
    ///
    /// # Errors
    /// When the store fails or the block is corrupt.
    pub fn block(&self, height: Height) -> Result<Option<CommittedBlock>, ChainError> {
        if let Some(block) = self.unwritten_at(height) {
            return Ok(Some((*block).clone()));
        }
        let snapshot = self.storage.snapshot()?;
        let read = with_record(&*snapshot, height, |record| {
            let id = BlockId(record.block_id);
            let block = body(&*snapshot, height, &id)?
                .ok_or_else(|| ChainError::blocks_corrupt(format!("block {height} has no body")))?;
            let tx_hashes: Vec<_> = block.transactions.iter().map(|t| t.hash()).collect();
            let outcomes = outcomes(record, &block, &tx_hashes)?;
            Ok(CommittedBlock {
                block,
                id,
                certificate: certificate(record, height)?,
                outcomes,
                tx_hashes,
            })
        })?;
        match read {
            Some(block) if block.block.header.id() != block.id || block.height() != height => {
                Err(ChainError::blocks_corrupt(format!(
                    "the body of block {height} is another block's"
                )))
            }
            Some(block) if !block.block.body_matches_header() => {
                let what = "the transactions of block";
                Err(ChainError::blocks_corrupt(format!(
                    "{what} {height} are not those of its header"
                )))
            }
            read => Ok(read),
        }
    }
}

fn body_key(height: Height, id: &BlockId) -> Vec<u8> {
    [&height.get().to_be_bytes()[..], &id.0].concat()
}

fn body(
    snapshot: &dyn Snapshot,
    height: Height,
    id: &BlockId,
) -> Result<Option<Block>, ChainError> {
    let bytes = snapshot.get(BODIES, &body_key(height, id))?;
    bytes.map(|bytes| decode(&bytes, "a stored block")).transpose()
}

fn decode<T: Canonical>(bytes: &[u8], what: &str) -> Result<T, ChainError> {
    T::decode(bytes)
        .map_err(|error: DecodeError| ChainError::blocks_corrupt(format!("{what}: {error}")))
}

fn with_record<T>(
    snapshot: &dyn Snapshot,
    height: Height,
    read: impl FnOnce(&ArchivedBlockRecord) -> Result<T, ChainError>,
) -> Result<Option<T>, ChainError> {
    let Some(bytes) = snapshot.get(BLOCKS, &height.get().to_be_bytes())? else { return Ok(None) };
    read(access_block(&bytes).map_err(ChainError::blocks_corrupt)?).map(Some)
}

/// The certificate of a record, which is for its block. Who gives it to others verifies it.
fn certificate(
    record: &ArchivedBlockRecord,
    height: Height,
) -> Result<Option<Certificate>, ChainError> {
    if record.certificate.is_empty() {
        return Ok(None);
    }
    let read: Certificate = decode(&record.certificate, "a stored certificate")?;
    if (read.height, read.block_id.0) != (height, record.block_id) {
        return Err(ChainError::blocks_corrupt(format!(
            "the certificate of block {height} is another's"
        )));
    }
    Ok(Some(read))
}

/// Outcomes with rewards are stored; the others follow from their transactions.
fn outcomes(
    record: &ArchivedBlockRecord,
    block: &Block,
    tx_hashes: &[TxHash],
) -> Result<Vec<Outcome>, ChainError> {
    let plain = block.transactions.iter().zip(tx_hashes);
    let mut outcomes: Vec<_> = plain
        .map(|(transaction, hash)| Outcome {
            tx_hash: *hash,
            fee: transaction.fee,
            rewards: Vec::new(),
        })
        .collect();
    for stored in record.outcomes.iter() {
        let at = usize::try_from(stored.0.to_native()).unwrap_or(usize::MAX);
        let place = outcomes
            .get_mut(at)
            .ok_or_else(|| ChainError::blocks_corrupt("an outcome without a transaction"))?;
        *place = decode(&stored.1, "a stored outcome")?;
    }
    // Those that follow from the body need no proof; a record may have lost those that do not.
    let mints = block.transactions.iter().any(|transaction| mints(&transaction.payload));
    if mints || !record.outcomes.is_empty() {
        let (leaves, _) = list::leaf_hashes(&outcomes);
        if list::root(&leaves) != block.header.outcomes_root {
            let height = block.header.height;
            let what = format!("the outcomes of block {height} are not those of its header");
            return Err(ChainError::blocks_corrupt(what));
        }
    }
    Ok(outcomes)
}

/// Whether the outcome of such a transaction has rewards, which its body does not tell.
const fn mints(payload: &Payload) -> bool {
    match payload {
        Payload::Mint { .. } | Payload::ReceiptClaim(_) => true,
        Payload::Transfer { .. } | Payload::ParamSet(_) | Payload::ProviderBind(_) => false,
    }
}
