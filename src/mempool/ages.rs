//! When transactions came, as far as their age goes.
//!
//! Their own times cannot be trusted to be in order: a clock may have been set. What came before
//! another came no later than that one, whatever time it has.

use std::collections::VecDeque;

use ait_engine::types::TimestampMs;

/// Arrivals within so many milliseconds are remembered as one: they age as the last of them.
const TOGETHER_MS: u64 = 1_000;

/// Arrivals that are remembered as one.
#[derive(Debug)]
struct Together {
    first_ms: u64,
    /// All up to number `seq` came by then.
    by_ms: u64,
    seq: u64,
}

/// In the order of arrival, and of time.
#[derive(Debug, Default)]
pub(super) struct Ages(VecDeque<Together>);

impl Ages {
    /// Number `seq` came; numbers go up.
    pub(super) fn came(&mut self, seq: u64, at: TimestampMs) {
        let at = at.get();
        // Times after this one were wrong.
        while self.0.pop_back_if(|last| last.first_ms > at).is_some() {}
        match self.0.back_mut() {
            Some(last) if at - last.first_ms < TOGETHER_MS => (last.by_ms, last.seq) = (at, seq),
            _ => self.0.push_back(Together { first_ms: at, by_ms: at, seq }),
        }
    }

    /// The last number of those that came longer ago than this, and before it. Each is told of
    /// once.
    pub(super) fn pop_older(&mut self, now: TimestampMs, than_ms: u64) -> Option<u64> {
        let is_old = |one: &mut Together| now.get().saturating_sub(one.by_ms) > than_ms;
        let mut last = None;
        while let Some(one) = self.0.pop_front_if(is_old) {
            last = Some(one.seq);
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> TimestampMs {
        TimestampMs::saturating(ms)
    }

    #[test]
    fn what_came_before_is_as_old_whatever_its_clock_said() {
        let mut ages = Ages::default();
        for (seq, ms) in
            [(1, 5_000), (2, 905_000), (3, 906_100), (4, 5_500), (5, 5_200), (6, 8_000)]
        {
            ages.came(seq, at(ms));
        }
        assert_eq!(ages.pop_older(at(15_200), 10_000), None);
        assert_eq!(ages.pop_older(at(15_201), 10_000), Some(5));
        assert_eq!(ages.pop_older(at(15_201), 10_000), None);
        assert_eq!(ages.pop_older(at(20_000), 10_000), Some(6));
    }

    #[test]
    fn memory_is_bounded_by_time() {
        let mut ages = Ages::default();
        for seq in 0..100_000 {
            ages.came(seq, at(seq / 10));
        }
        assert!(ages.0.len() <= 10, "{}", ages.0.len());
    }
}
