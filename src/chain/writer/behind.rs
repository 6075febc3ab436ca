//! The work behind the writer as who drives it sees it: how it goes, a step of it, waiting for it.

use std::time::Duration;

use super::super::background::Step;
use super::super::{ChainError, CheckpointPolicy};
use super::ChainWriter;
use crate::telemetry::Stage;

/// How often the list of accounts is looked at by who waits for it.
const LISTED_TICK: Duration = Duration::from_millis(1);

impl ChainWriter {
    /// Whether all behind the writer is well.
    ///
    /// # Errors
    /// When some of it failed; the node must stop then.
    pub fn check_background(&self) -> Result<(), ChainError> {
        self.background.check()
    }

    /// Does a step of the work behind the writer, if that is done in steps. What goes wrong
    /// shows at the next commit, as a fault of a thread does.
    pub fn step(&self, step: Step) {
        self.background.step(step);
    }

    /// Writes the newest state to disk. Takes as long as what changed since the last
    /// checkpoint needs.
    ///
    /// # Errors
    /// When the store fails.
    pub fn write_checkpoint(&self) -> Result<(), ChainError> {
        self.settle()?;
        let at_once = CheckpointPolicy { blocks: 1, entries: 0 };
        while self.chain.inner.state.checkpoint_height() < self.parent.height {
            // One under way is of an older state.
            self.background.wait_for_checkpoint()?;
            if let Some(checkpoint) = self.chain.inner.state.begin_checkpoint(&at_once) {
                Stage::Checkpoint.time(|| self.chain.inner.state.finish_checkpoint(&checkpoint))?;
            } else if self.chain.inner.state.is_broken() {
                return Err(ChainError::Stopped { what: "the state" });
            }
        }
        Ok(())
    }

    /// Waits until the newest committed block is indexed.
    ///
    /// # Errors
    /// When a thread behind the writer failed.
    pub fn wait_until_indexed(&self) -> Result<(), ChainError> {
        self.background.wait_for(self.parent.height)
    }

    /// Waits until the list of accounts, too, has what the newest committed block left. It may be
    /// behind the rest of the index, over a restart as well.
    ///
    /// # Errors
    /// As [`ChainWriter::wait_until_indexed`].
    pub fn wait_until_listed(&self) -> Result<(), ChainError> {
        self.wait_until_indexed()?;
        self.background.hurry();
        while self.chain.inner.index.is_kept() && !self.chain.inner.index.is_listed()? {
            self.background.check()?;
            std::thread::sleep(LISTED_TICK);
        }
        Ok(())
    }
}
