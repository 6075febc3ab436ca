//! What goes wrong on purpose, and when.

use std::fmt;
use std::str::FromStr;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// Packets are lost, and what they carried comes later.
    Loss,
    /// Messages come twice.
    Duplication,
    /// Messages overtake each other.
    Reordering,
    /// Links between two halves are cut for a while.
    Partition,
    /// A link is cut in one direction for a while.
    OneWay,
    /// A node's links are slow for a while.
    Slow,
    /// A process ends between two effects, and is started again.
    Crash,
    /// A power cut in a commit of blocks, state or index: what was not synced is gone.
    PowerCut,
    /// Every process ends at once.
    CrashAll,
    /// A node's clock jumps, and stays wrong.
    Clock,
    /// The power is cut at any write of the log, the signer's record or a store: they and the
    /// journal are torn anywhere in what was not synced.
    Torn,
    /// A write fails or is short, and the process ends.
    ShortWrite,
    /// A node's disk is full for a while: what it must write ends its process.
    DiskFull,
    /// A validator's signer is slow for a while.
    SlowSigner,
    /// Validators break the rules, as many as consensus can bear.
    Byzantine,
    /// Clients send what is not valid, again, too early, or without the means.
    Hostile,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 16] = [
        Self::Loss,
        Self::Duplication,
        Self::Reordering,
        Self::Partition,
        Self::OneWay,
        Self::Slow,
        Self::Crash,
        Self::PowerCut,
        Self::CrashAll,
        Self::Clock,
        Self::Torn,
        Self::ShortWrite,
        Self::DiskFull,
        Self::SlowSigner,
        Self::Byzantine,
        Self::Hostile,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Duplication => "duplication",
            Self::Reordering => "reordering",
            Self::Partition => "partition",
            Self::OneWay => "one-way",
            Self::Slow => "slow",
            Self::Crash => "crash",
            Self::PowerCut => "power-cut",
            Self::CrashAll => "crash-all",
            Self::Clock => "clock",
            Self::Torn => "torn",
            Self::ShortWrite => "short-write",
            Self::DiskFull => "disk-full",
            Self::SlowSigner => "slow-signer",
            Self::Byzantine => "byzantine",
            Self::Hostile => "hostile",
        }
    }

    const fn bit(self) -> u32 {
        1 << self as u16
    }
}

/// A set of kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults(u32);

impl Faults {
    /// None.
    pub const NONE: Self = Self(0);
    /// All.
    pub const ALL: Self = Self((1 << FaultKind::ALL.len()) - 1);

    /// Whether a kind is in it.
    #[must_use]
    pub const fn has(self, kind: FaultKind) -> bool {
        self.0 & kind.bit() != 0
    }

    /// The same without a kind.
    #[must_use]
    pub const fn without(self, kind: FaultKind) -> Self {
        Self(self.0 & !kind.bit())
    }

    /// The kinds in it.
    pub fn kinds(self) -> impl Iterator<Item = FaultKind> {
        FaultKind::ALL.into_iter().filter(move |kind| self.has(*kind))
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_str("all");
        }
        if *self == Self::NONE {
            return f.write_str("none");
        }
        let names: Vec<_> = self.kinds().map(FaultKind::name).collect();
        f.write_str(&names.join(","))
    }
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self::ALL),
            "none" | "" => return Ok(Self::NONE),
            _ => {}
        }
        text.split(',').try_fold(Self::NONE, |set, name| {
            let kind = FaultKind::ALL.into_iter().find(|kind| kind.name() == name.trim());
            let kind = kind.ok_or_else(|| {
                let known: Vec<_> = FaultKind::ALL.into_iter().map(FaultKind::name).collect();
                format!("unknown fault {name:?}, known are: all, none, {}", known.join(", "))
            })?;
            Ok(Self(set.0 | kind.bit()))
        })
    }
}

/// How often each kind struck, in the order of [`FaultKind::ALL`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultCounts([u64; FaultKind::ALL.len()]);

impl FaultCounts {
    pub(super) fn count(&mut self, kind: FaultKind) {
        if let Some(count) = self.0.get_mut(kind as usize) {
            *count += 1;
        }
    }

    /// How often a kind struck.
    #[must_use]
    pub fn of(&self, kind: FaultKind) -> u64 {
        self.0.get(kind as usize).copied().unwrap_or(0)
    }

    /// How often any struck.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl std::ops::AddAssign for FaultCounts {
    fn add_assign(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_written_as_it_is_read() {
        for text in ["all", "none", "loss", "crash,clock", "partition,one-way,power-cut"] {
            assert_eq!(text.parse::<Faults>().map(|set| set.to_string()).as_deref(), Ok(text));
        }
        assert!("crash,fire".parse::<Faults>().is_err_and(|error| error.contains("power-cut")));
    }
}
