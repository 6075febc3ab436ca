//! What is given to others of the stored blocks: those whose certificate proves them final. One
//! that a disk altered would make its peers ban this node for it. What does not prove is kept in
//! mind, so that whoever looks after the node is told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use ait_engine::types::Height;

use super::read::Inner;
use super::{ChainError, CommittedBlock};

impl Inner {
    /// A block from the store, with its certificate verified.
    pub(super) fn certified(&self, height: Height) -> Result<Option<CommittedBlock>, ChainError> {
        // Before the store is read, which may get this block meanwhile.
        let is_committed = height <= self.head.borrow().height;
        match self.blocks.block(height)? {
            Some(block) => self.verify(&block).map(|()| Some(block)),
            None if is_committed => {
                Err(ChainError::blocks_corrupt(format!("block {height} is missing")))
            }
            None => Ok(None),
        }
    }

    fn verify(&self, block: &CommittedBlock) -> Result<(), ChainError> {
        let (height, header) = (block.height(), &block.block.header);
        let fault =
            |what| ChainError::blocks_corrupt(format!("the certificate of block {height} {what}"));
        if height == Height::ZERO {
            // Genesis is known by its id.
            return Ok(());
        }
        if header.validators_hash != self.validators.hash() {
            return Err(fault("is of validators that this chain never had".to_owned()));
        }
        let certificate =
            block.certificate.as_ref().ok_or_else(|| fault("is missing".to_owned()))?;
        certificate
            .verify(&header.chain_id, height, block.id, &self.validators)
            .map_err(|error| fault(format!("proves nothing: {error}")))
    }
}

/// Blocks that were read or committed last, decoded and verified: a page of transactions mostly
/// asks for few blocks, each many times.
#[derive(Debug, Default)]
pub(super) struct RecentBlocks(Mutex<VecDeque<Arc<CommittedBlock>>>);

impl RecentBlocks {
    /// Blocks at most, and bytes of their bodies.
    const COUNT_MAX: usize = 64;
    const BYTES_MAX: u64 = 64 << 20;

    pub(super) fn get(&self, height: Height) -> Option<Arc<CommittedBlock>> {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = recent.iter().position(|block| block.height() == height)?;
        let block = recent.remove(at)?;
        recent.push_back(Arc::clone(&block));
        Some(block)
    }

    pub(super) fn has(&self, height: Height) -> bool {
        let recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().any(|block| block.height() == height)
    }

    pub(super) fn put(&self, block: &Arc<CommittedBlock>) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|other| other.height() != block.height());
        recent.push_back(Arc::clone(block));
        let bytes = |block: &Arc<CommittedBlock>| u64::from(block.block.header.body_bytes);
        let mut total: u64 = recent.iter().map(bytes).sum();
        while recent.len() > Self::COUNT_MAX || (total > Self::BYTES_MAX && recent.len() > 1) {
            total -= recent.pop_front().as_ref().map_or(0, bytes);
        }
    }
}

/// The first damage that was met since the start.
#[derive(Debug, Default)]
pub(super) struct Damage(Mutex<Option<String>>);

impl Damage {
    /// Keeps the damage in mind that a result tells of, and gives the result.
    pub(super) fn note<T>(&self, result: Result<T, ChainError>) -> Result<T, ChainError> {
        if let Err(error) = &result
            && error.is_damage()
        {
            let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if first.is_none() {
                tracing::error!(%error, "what is stored is damaged: nothing of it is given to anybody");
                *first = Some(error.to_string());
            }
        }
        result
    }

    pub(super) fn first(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
