//! A block that gives something else here than its header says, as a bundle.

use ait_engine::block::Block;

use super::{ChainError, ChainWriter};
use crate::divergence::Divergence;

impl ChainWriter {
    /// Executes once more upon the newest committed block, and records what that reads.
    /// The block is one that [`ChainWriter::receive`] or [`ChainWriter::import`] found
    /// diverging for this `reason`: its signatures were verified there.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn divergence(&self, block: &Block, reason: &str) -> Result<Divergence, ChainError> {
        Ok(Divergence::record(&self.chain().state(), self.parent(), block, reason)?)
    }
}
