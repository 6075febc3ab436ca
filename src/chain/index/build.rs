//! Writing the indexes: one batch for all blocks that wait.

use std::sync::Arc;

use ait_engine::receipt::Receipt;
use ait_engine::transaction::Payload;
use ait_engine::types::{Address, Amount, Height};
use ait_engine::validator::ValidatorSet;
use ait_storage::{Batch, Durability, KeyRange};

use super::super::ChainError;
use super::super::background::Room;
use super::super::blocks::CommittedBlock;
use super::super::read::{Inner, validators};
use super::super::tables::{
    ACCOUNT_TXS, BLOCK_HEIGHTS, INDEX_META, INDEX_TABLES, INDEX_VERSION, IndexMeta, ONLY, PAYOUTS,
    RECEIPT_ORDER, RECEIPTS, TX_LOCATIONS, TX_TOTALS, to_bytes,
};
use super::{
    ACCOUNT_TX_BYTES, Index, Listing, Location, SIDE_BYTES, Side, TX_BYTES, account_tx_prefix, runs,
};

/// A committed block.
#[derive(Debug)]
pub(in super::super) struct Indexable {
    pub(in super::super) block: Arc<CommittedBlock>,
    /// Who got the block's fees, if there were any.
    pub(in super::super) payout: Option<Address>,
    /// Numbers of the entries that it changed in the state, if it was executed just now.
    pub(in super::super) changed: Option<Vec<u64>>,
    /// What it takes of the room for blocks that wait, if it was handed over.
    pub(in super::super) room: Option<Room>,
}

impl Indexable {
    /// A committed block that was not handed over.
    pub(in super::super) fn read(inner: &Inner, height: Height) -> Result<Self, ChainError> {
        let missing = || ChainError::blocks_corrupt(format!("block {height} is missing"));
        let block = match inner.recent.get(height) {
            Some(block) => block,
            None => Arc::new(inner.blocks.block(height)?.ok_or_else(missing)?),
        };
        Self::with_validators(block, &validators(&inner.state.reader())?)
    }

    /// A block and these validators, which are those of the newest state: they must be the
    /// block's, too, for the fees of a block go to whom its own validators say.
    fn with_validators(
        block: Arc<CommittedBlock>,
        validators: &ValidatorSet,
    ) -> Result<Self, ChainError> {
        if block.block.header.validators_hash != validators.hash() {
            return Err(ChainError::corrupt(format!(
                "block {} has other validators than the state: who got its fees is not known",
                block.height()
            )));
        }
        let payout = payout(&block, validators);
        Ok(Self { block, payout, changed: None, room: None })
    }

    /// The accounts that the block can have touched, some more than once.
    pub(super) fn touched(&self) -> Vec<Address> {
        let mut addresses = Vec::from_iter(self.payout);
        for (transaction, outcome) in self.block.block.transactions.iter().zip(&self.block.outcomes)
        {
            addresses.push(transaction.sender());
            addresses.extend(outcome.rewards.iter().map(|reward| reward.address));
            if let Payload::Transfer { to, .. } = transaction.payload {
                addresses.push(to);
            }
        }
        addresses
    }
}

/// Who gets a block's fees, if there are any.
pub(in super::super) fn payout(
    block: &CommittedBlock,
    validators: &ValidatorSet,
) -> Option<Address> {
    let has_fees = block.outcomes.iter().any(|outcome| outcome.fee > Amount::ZERO);
    let proposer = validators.get(&block.block.header.proposer).filter(|_| has_fees);
    proposer.map(|validator| validator.payout)
}

#[derive(Default)]
struct Update {
    batch: Batch,
    meta: IndexMeta,
    transactions: Vec<[u8; TX_BYTES]>,
    sides: Vec<[u8; ACCOUNT_TX_BYTES]>,
}

impl Index {
    /// Adds blocks, which must follow each other and the last one indexed; those that
    /// are in the index already are skipped. `is_level` says that there are no later ones.
    pub(in super::super) fn add(
        &self,
        inner: &Inner,
        blocks: &[Indexable],
        listing: &mut Listing,
        is_level: bool,
    ) -> Result<(), ChainError> {
        let before = self.storage.snapshot()?;
        let mut update = Update { meta: self.meta()?, ..Update::default() };
        let is_here = update.meta.version == INDEX_VERSION;
        let next = if is_here { update.meta.height + 1 } else { 0 };
        let mut blocks = blocks;
        while let Some((first, rest)) = blocks.split_first()
            && first.block.height().get() < next
        {
            blocks = rest;
        }
        if blocks.is_empty() {
            return Ok(());
        }
        if !is_here {
            for table in INDEX_TABLES {
                update.batch.delete_range(table, KeyRange::all());
            }
            update.meta = IndexMeta { version: INDEX_VERSION, ..IndexMeta::default() };
        }
        for indexable in blocks {
            update.add(indexable)?;
        }
        listing.note(inner, blocks)?;
        let Update { mut batch, mut meta, transactions, sides } = update;
        let IndexMeta { next_run, tx_runs, account_runs, .. } = &mut meta;
        runs::append(TX_LOCATIONS, &*before, tx_runs, next_run, transactions, &mut batch)?;
        runs::append(ACCOUNT_TXS, &*before, account_runs, next_run, sides, &mut batch)?;
        if listing.may_join(is_level) {
            listing.join(inner, &*before, &mut batch, &mut meta)?;
        }
        batch.put(INDEX_META, ONLY, to_bytes(&meta)?);
        drop(before);
        Ok(self.storage.commit(batch, Durability::Immediate)?)
    }
}

impl Update {
    fn add(&mut self, indexable: &Indexable) -> Result<(), ChainError> {
        let block = &indexable.block;
        let height = block.height();
        let key = height.get().to_be_bytes();
        self.batch.put(BLOCK_HEIGHTS, block.id.0, key);
        self.transactions.reserve(block.tx_hashes.len());
        self.sides.reserve(2 * block.tx_hashes.len());
        for (index, hash) in (0_u32..).zip(&block.tx_hashes) {
            let location = Location { height, index };
            let mut record = [0; TX_BYTES];
            record[..32].copy_from_slice(&hash.0);
            record[32..].copy_from_slice(&location.to_bytes());
            self.transactions.push(record);
            self.add_sides(block, location)?;
        }
        self.meta.transaction_count += block.tx_hashes.len() as u64;
        let time = block.block.header.time.get().to_be_bytes();
        let total = self.meta.transaction_count.to_be_bytes();
        self.batch.put(TX_TOTALS, key, [total, time].as_flattened());
        if let Some(payout) = &indexable.payout {
            self.batch.put(PAYOUTS, payout.0, time);
        }
        self.meta.height = height.get();
        Ok(())
    }

    fn add_sides(&mut self, block: &CommittedBlock, location: Location) -> Result<(), ChainError> {
        let at = usize::try_from(location.index).unwrap_or(usize::MAX);
        let (Some(transaction), Some(outcome)) =
            (block.block.transactions.get(at), block.outcomes.get(at))
        else {
            return Err(ChainError::corrupt("a block with fewer outcomes than transactions"));
        };
        self.add_side(&transaction.sender(), Side::Sent, location);
        let mut received: Vec<Address> =
            outcome.rewards.iter().map(|reward| reward.address).collect();
        match &transaction.payload {
            // By far the most.
            Payload::Transfer { to, .. } if received.is_empty() => {
                self.add_side(to, Side::Received, location);
                return Ok(());
            }
            Payload::Transfer { to, .. } => received.push(*to),
            Payload::ReceiptClaim(claim) => self.add_receipt(&claim.receipt, location)?,
            _ => {}
        }
        received.sort_unstable();
        received.dedup();
        for address in received {
            self.add_side(&address, Side::Received, location);
        }
        Ok(())
    }

    fn add_side(&mut self, address: &Address, side: Side, location: Location) {
        let mut record = [0; ACCOUNT_TX_BYTES];
        record[..SIDE_BYTES].copy_from_slice(&account_tx_prefix(address, side));
        record[SIDE_BYTES..].copy_from_slice(&location.to_bytes());
        self.sides.push(record);
    }

    fn add_receipt(&mut self, receipt: &[u8], location: Location) -> Result<(), ChainError> {
        let receipt = Receipt::parse(receipt)
            .map_err(|error| ChainError::corrupt(format!("a committed receipt: {error}")))?;
        let number = self.meta.receipt_count.to_be_bytes();
        self.batch.put(RECEIPT_ORDER, number, location.to_bytes());
        self.batch.put(RECEIPTS, receipt.receipt_id.into_bytes(), location.to_bytes());
        self.meta.receipt_count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ait_engine::block::{Block, Header};
    use ait_engine::crypto::SecretKey;
    use ait_engine::outcome::Outcome;
    use ait_engine::types::*;
    use ait_engine::validator::Validator;

    use super::*;

    fn set(payout: u8) -> ValidatorSet {
        let public_key = SecretKey::from_seed([1; 32]).public_key();
        let power = VotingPower::new(1).unwrap();
        let payout = Address([payout; 32]);
        ValidatorSet::new(vec![Validator { public_key, power, payout }]).unwrap()
    }

    #[test]
    fn who_got_the_fees_is_not_taken_from_validators_of_another_time() {
        let header = Header {
            version: 1,
            chain_id: ChainId::from_bytes(b"index").unwrap(),
            height: Height::saturating(5),
            parent: BlockId([0; 32]),
            time: TimestampMs::saturating(1),
            proposer: SecretKey::from_seed([1; 32]).public_key().address(),
            transactions_root: Hash([0; 32]),
            outcomes_root: Hash([0; 32]),
            state_root: StateRoot([0; 32]),
            validators_hash: set(7).hash(),
            next_validators_hash: set(8).hash(),
            transaction_count: 1,
            body_bytes: 0,
        };
        let fee = Amount::saturating(3);
        let block = Arc::new(CommittedBlock {
            id: header.id(),
            block: Block { header, transactions: Vec::new() },
            certificate: None,
            outcomes: vec![Outcome { tx_hash: TxHash([0; 32]), fee, rewards: Vec::new() }],
            tx_hashes: vec![TxHash([0; 32])],
        });
        let read = |payout| Indexable::with_validators(Arc::clone(&block), &set(payout));
        assert_eq!(read(7).unwrap().payout, Some(Address([7; 32])));
        // The same key, paid out elsewhere since.
        assert!(matches!(read(8), Err(ChainError::Corrupt { .. })));
    }
}
