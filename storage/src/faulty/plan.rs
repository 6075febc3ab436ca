//! What shall fail, and when.
//!
//! A plan is data: it holds no state and no randomness.

use std::fmt;

/// Operations that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Taking a snapshot.
    Snapshot,
    /// Reading a key.
    Get,
    /// Beginning a scan; inside it, each step after the first.
    Range,
    /// Committing a batch.
    Commit,
    /// Staging a batch and abandoning it.
    Abandon,
    /// Asking for the size of tables.
    Stats,
    /// Compacting.
    Compact,
}

impl Operation {
    /// Number of operations there are.
    pub(super) const COUNT: usize = 7;

    pub(super) fn index(self) -> usize {
        self as usize
    }
}

const _: () = assert!(Operation::Compact as usize + 1 == Operation::COUNT);

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Snapshot => "snapshot",
            Self::Get => "get",
            Self::Range => "range",
            Self::Commit => "commit",
            Self::Abandon => "abandon",
            Self::Stats => "stats",
            Self::Compact => "compact",
        })
    }
}

/// Where in an operation it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultMoment {
    /// The storage inside does not see the operation.
    Before,
    /// A commit has staged half of its batch, of which nothing becomes visible; a scan has
    /// yielded one entry. Elsewhere the same as before.
    Inside,
    /// The storage inside has done it, and the caller does not learn that.
    After,
}

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultEffect {
    /// This operation fails.
    Fail,
    /// This operation and every later one fail: the process is gone.
    Crash,
}

/// One failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind of operation that is counted, or every kind.
    pub operation: Option<Operation>,
    /// Which of them, counted from 1.
    pub number: u64,
    /// Where in it.
    pub moment: FaultMoment,
    /// What happens.
    pub effect: FaultEffect,
}

/// Any number of failures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    faults: Vec<Fault>,
}

impl FaultPlan {
    /// No failure.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// A crash at the given operation of any kind, counted from 1.
    #[must_use]
    pub fn crash_at(number: u64, moment: FaultMoment) -> Self {
        Self::none().with(Fault { operation: None, number, moment, effect: FaultEffect::Crash })
    }

    /// A failure of the given operation of one kind, counted from 1.
    #[must_use]
    pub fn fail_at(operation: Operation, number: u64, moment: FaultMoment) -> Self {
        Self::none().with(Fault {
            operation: Some(operation),
            number,
            moment,
            effect: FaultEffect::Fail,
        })
    }

    /// Adds a failure.
    #[must_use]
    pub fn with(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    pub(super) fn find(&self, operation: Operation, number: u64, total: u64) -> Option<Injection> {
        let fault = self.faults.iter().find(|fault| match fault.operation {
            Some(counted) => counted == operation && fault.number == number,
            None => fault.number == total,
        })?;
        Some(Injection {
            operation,
            number: fault.number,
            moment: fault.moment,
            effect: fault.effect,
        })
    }
}

/// A fault that has met its operation.
#[derive(Clone, Copy)]
pub(super) struct Injection {
    pub(super) operation: Operation,
    pub(super) number: u64,
    pub(super) moment: FaultMoment,
    pub(super) effect: FaultEffect,
}
