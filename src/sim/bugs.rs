//! Bugs to plant, one in a run, that show whether the checks find them. They are planted in
//! what the simulator puts around the parts that ship, never in those.

/// What is wrong with every node of a run, for a test of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The log says that it is synced, and is not.
    UnsyncedLog,
    /// The signer keeps no record, and the log is lost when a process ends.
    NoRecord,
    /// A certificate that lacks votes is good enough to commit.
    ShortCertificate,
    /// An account is credited once more than it should be, on all nodes alike.
    CreditedTwice,
    /// Pending transactions of the journal are not taken again after a restart.
    ForgottenJournal,
    /// Blocks are reported final before they are synced.
    UnsyncedBlocks,
    /// Opening the log empties it.
    EmptiedLog,
    /// What peers say of final blocks is not heard.
    Deaf,
    /// A timer that is always due.
    Busy,
    /// A block is reported twice.
    ReportedTwice,
    /// The file of the state says that it is synced, and is not: the record of a checkpoint may
    /// be on the disk before what it is the record of.
    UnsyncedState,
    /// The index is not synced, and its height is kept apart: what a power cut took from it is
    /// never made again.
    StaleIndex,
    /// More validators break the rules than consensus can bear.
    TooManyLiars,
}

impl Bug {
    /// Every one.
    pub const ALL: [Self; 13] = [
        Self::UnsyncedLog,
        Self::NoRecord,
        Self::ShortCertificate,
        Self::CreditedTwice,
        Self::ForgottenJournal,
        Self::UnsyncedBlocks,
        Self::EmptiedLog,
        Self::Deaf,
        Self::Busy,
        Self::ReportedTwice,
        Self::UnsyncedState,
        Self::StaleIndex,
        Self::TooManyLiars,
    ];
}
