//! Bugs that are planted on purpose, one in a run, to show whether the checks of the simulator
//! find them. No option of the program plants one: [`crate::sim::SimOptions`] does, which tests
//! fill in, and every node of that run has it.
//!
//! Those of parts that ship are a line at the place where somebody might make the mistake; the
//! others are in what the simulator puts around them.

use ait_engine::state::{Account, Key, WriteSet};
use ait_engine::types::{Address, Amount};

/// What is wrong with the nodes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    // In the parts that ship.
    /// Half of the power is enough for a certificate.
    ShortCertificate,
    /// The state root that a header names is not compared with the one here.
    UncheckedRoot,
    /// In memory, not on redb, whoever gets the fees of a block gets them twice.
    FeesTwice,
    /// The fees of a block go to another account that it touches.
    FeesAstray,
    /// What was put into a proposal is not pending any more, whatever becomes of the proposal.
    NotQueuedAgain,
    /// The log is begun anew before the store has the block that it made final.
    UnsettledLog,
    /// Votes leave before the log is written.
    UnsyncedLog,
    /// Votes leave before the signer's record is written.
    UnsyncedRecord,
    /// Nobody proposes in the first rounds of a height, which are short.
    WastedRounds,
    // In what is around them.
    /// The signer keeps no record, and the log is lost when a process ends.
    NoRecord,
    /// Pending transactions of the journal are not taken again after a restart.
    ForgottenJournal,
    /// The store of blocks does not sync.
    UnsyncedBlocks,
    /// With each block that is written an older one loses its body.
    LostBody,
    /// What peers say of final blocks is not heard.
    Deaf,
    /// A timer that is always due.
    Busy,
    /// Doing one thing always leads to another at once.
    Restless,
    /// A panic at a block.
    Panic,
    /// The file of the state says that it is synced, and is not: the record of a checkpoint may
    /// be on the disk before what it is the record of.
    UnsyncedState,
    /// The index is not synced, and its height is kept apart: what a power cut took from it is
    /// never made again.
    StaleIndex,
    /// No bug of a node: more validators break the rules than consensus can bear.
    TooManyLiars,
}

impl Bug {
    /// Rounds of a height that [`Bug::WastedRounds`] wastes.
    pub const ROUNDS_WASTED: u64 = 14;
    /// Every one.
    pub const ALL: [Self; 20] = [
        Self::ShortCertificate,
        Self::UncheckedRoot,
        Self::FeesTwice,
        Self::FeesAstray,
        Self::NotQueuedAgain,
        Self::UnsettledLog,
        Self::UnsyncedLog,
        Self::UnsyncedRecord,
        Self::WastedRounds,
        Self::NoRecord,
        Self::ForgottenJournal,
        Self::UnsyncedBlocks,
        Self::LostBody,
        Self::Deaf,
        Self::Busy,
        Self::Restless,
        Self::Panic,
        Self::UnsyncedState,
        Self::StaleIndex,
        Self::TooManyLiars,
    ];
}

/// What a block writes, with its fees in the wrong place.
pub(crate) fn misplace_fees(bug: Bug, writes: &mut WriteSet, payout: &Address, fees: Amount) {
    let add = |account: Account, fees| Account {
        balance: account.balance.checked_add(fees).unwrap_or(account.balance),
        ..account
    };
    let accounts = writes.leaves.iter_mut().filter_map(|(_, leaf)| {
        let account = Account::try_from(&leaf.value).ok()?;
        Some((leaf.key == Key::account(payout), account, leaf))
    });
    let (mut paid, mut others): (Vec<_>, Vec<_>) = accounts.partition(|(is_paid, ..)| *is_paid);
    let (Some((_, account, paid)), Some((_, other, beside))) = (paid.pop(), others.pop()) else {
        return;
    };
    match bug {
        Bug::FeesTwice => paid.value = add(account, fees).into(),
        Bug::FeesAstray => {
            let balance = account.balance.checked_sub(fees).unwrap_or(account.balance);
            paid.value = Account { balance, ..account }.into();
            beside.value = add(other, fees).into();
        }
        _ => {}
    }
}
