//! Committing blocks that others made final.

use std::sync::Arc;

use ait_engine::block::Block;

use super::writer::{BlockFault, Durable};
use super::{ChainError, ChainWriter, CommitError, CommittedBlock};
use crate::import::{ImportError, Prepared};

/// Why a block was not imported, and whose fault it is.
#[derive(Debug, thiserror::Error)]
pub enum ImportFailure {
    /// The block is refused; nothing was changed.
    #[error(transparent)]
    Refused(#[from] ImportError),
    /// A quorum signed it, but executing it here gives something else.
    #[error("executing block {} does not give what its header says: {reason}", .block.header.height)]
    Diverged {
        /// The block.
        block: Box<Block>,
        /// What differs.
        reason: String,
    },
    /// This node's storage failed; the node must stop.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

impl ChainWriter {
    /// Executes and commits a block whose certificate and signatures were verified; none if
    /// it was committed before. Durable when this returns.
    ///
    /// # Errors
    /// [`ImportFailure`]; after `Chain` the node must stop.
    pub fn import(
        &mut self,
        prepared: Prepared,
    ) -> Result<Option<Arc<CommittedBlock>>, ImportFailure> {
        let Prepared { certified, transactions } = prepared;
        let (header, head) = (certified.header(), self.parent());
        if header.height <= head.height {
            let (ours, _) = self.chain().header(header.height)?.ok_or_else(|| {
                ChainError::blocks_corrupt(format!("block {} is missing", header.height))
            })?;
            if ours == certified.id() {
                return Ok(None);
            }
            return Err(ImportError::Conflict { height: header.height, ours }.into());
        }
        if header.chain_id != head.chain_id {
            let (expected, found) = (head.chain_id.to_string(), header.chain_id.to_string());
            return Err(ImportError::OtherChain { expected, found }.into());
        }
        if Some(header.height) != head.height.next() || header.parent != head.id() {
            return Err(ImportError::UnknownParent { head: head.height }.into());
        }
        // The set may have changed since the block was prepared.
        let (expected, found) = (self.validators().hash(), header.validators_hash);
        if found != expected {
            let reason = format!("it is of the validator set {found}, expected {expected}");
            return Err(ImportError::BadCertificate { reason }.into());
        }
        let transition = match self.take_proposal(&certified.id()) {
            Some((_, transition)) => transition,
            None => match self.execute(header, &transactions)? {
                Ok((_, transition)) => transition,
                Err(BlockFault::Invalid { reason } | BlockFault::Diverged { reason }) => {
                    let block = Box::new(certified.block().clone());
                    return Err(ImportFailure::Diverged { block, reason });
                }
            },
        };
        match self.commit_executed(certified, transition, Durable::InStore) {
            Ok(committed) => Ok(Some(committed)),
            Err(CommitError::Chain(error)) => Err(error.into()),
            Err(other) => Err(ImportError::BadCertificate { reason: other.to_string() }.into()),
        }
    }
}
