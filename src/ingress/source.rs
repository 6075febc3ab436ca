//! What admission must know of the chain.

use ait_engine::execute::Refusal;
use ait_engine::params::Settings;
use ait_engine::state::Account;
use ait_engine::transaction::VerifiedTransaction;
use ait_engine::types::{Address, ChainId, Height, TimestampMs};

use crate::chain::Chain;

/// The state as admission reads it. An error is the node's, as a text for the log.
pub trait AccountSource: Send + Sync + 'static {
    /// The chain.
    fn chain_id(&self) -> ChainId;

    /// Height of the state, or below it. Read before anything else, so that what is
    /// read afterwards is of this height or later.
    fn head_height(&self) -> Height;

    /// Parameters and roles.
    ///
    /// # Errors
    /// When the state cannot be read.
    fn settings(&self) -> Result<Settings, String>;

    /// Accounts in the order of `addresses`, all of one state; none where there is none.
    ///
    /// # Errors
    /// When the state cannot be read.
    fn accounts(&self, addresses: &[Address]) -> Result<Vec<Option<Account>>, String>;

    /// Why the transaction alone would not apply to the state, if so.
    ///
    /// # Errors
    /// When the state cannot be read.
    fn refusal(
        &self,
        transaction: &VerifiedTransaction,
        now: TimestampMs,
    ) -> Result<Option<Refusal>, String>;
}

impl AccountSource for Chain {
    fn chain_id(&self) -> ChainId {
        Self::chain_id(self)
    }

    fn head_height(&self) -> Height {
        // Not that of the indexed head, which trails: the mempool would call it outdated.
        self.state_height()
    }

    fn settings(&self) -> Result<Settings, String> {
        Self::settings(self).map_err(|error| error.to_string())
    }

    fn accounts(&self, addresses: &[Address]) -> Result<Vec<Option<Account>>, String> {
        Self::accounts(self, addresses).map_err(|error| error.to_string())
    }

    fn refusal(
        &self,
        transaction: &VerifiedTransaction,
        now: TimestampMs,
    ) -> Result<Option<Refusal>, String> {
        self.try_apply(transaction, now).map_err(|error| error.to_string())
    }
}
