//! A set of entry numbers that is emptied in rounds.

/// Marked numbers, a bit each. A round goes from the lowest to the highest; what is marked
/// behind it belongs to the next.
#[derive(Debug, Default)]
pub(super) struct Marks {
    words: Vec<u64>,
    count: usize,
    /// The word at which the round goes on.
    at: usize,
}

impl Marks {
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether the next number taken is the first of a round.
    pub(super) const fn is_at_start(&self) -> bool {
        self.at == 0
    }

    pub(super) fn set(&mut self, number: u64) {
        let Ok(word) = usize::try_from(number / 64) else { return };
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        if let Some(word) = self.words.get_mut(word) {
            let bit = 1 << (number % 64);
            self.count += usize::from(*word & bit == 0);
            *word |= bit;
        }
    }

    /// Takes the next numbers of the round out of the set, about `count_max` of them, in
    /// order; true with the last ones of the round.
    pub(super) fn take(&mut self, count_max: usize) -> (Vec<u64>, bool) {
        let mut taken = Vec::new();
        while taken.len() < count_max && self.count > 0 {
            let Some(word) = self.words.get_mut(self.at) else { break };
            let mut bits = std::mem::take(word);
            while bits != 0 {
                taken.push(self.at as u64 * 64 + u64::from(bits.trailing_zeros()));
                bits &= bits - 1;
                self.count -= 1;
            }
            self.at += 1;
        }
        let is_round = self.count == 0 || self.at >= self.words.len();
        if is_round {
            self.at = 0;
        }
        (taken, is_round)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_gives_each_number_once_in_order() {
        let mut marks = Marks::default();
        assert_eq!(marks.take(5), (Vec::new(), true));
        assert!(marks.is_at_start());
        for number in [700, 3, 64, 63, 3, 130] {
            marks.set(number);
        }
        assert_eq!(marks.take(2), (vec![3, 63], false));
        assert!(!marks.is_at_start());
        // Behind the round and before it.
        marks.set(3);
        marks.set(200);
        assert_eq!(marks.take(3), (vec![64, 130, 200], false));
        assert_eq!(marks.take(9), (vec![700], true));
        assert!(!marks.is_empty());
        assert_eq!(marks.take(9), (vec![3], true));
        assert!(marks.is_empty());
    }
}
