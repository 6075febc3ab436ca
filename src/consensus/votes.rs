//! Signed votes of the last heights: the library forgets them when a height is
//! finalized, but two that contradict each other may be seen together later.

use std::collections::BTreeMap;

use ait_engine::types::{Address, Height, Round};
use ait_engine::vote::{SignedVote, VoteKind};

/// What identifies a vote apart from what it is for.
type Place = (Height, Round, VoteKind, Address);

/// Verified votes of a bounded number of heights.
#[derive(Debug)]
pub struct RecentVotes {
    heights: u64,
    count_max: usize,
    votes: BTreeMap<Place, SignedVote>,
}

impl RecentVotes {
    /// Keeps the votes of the last `heights` heights, at most `count_max` in all.
    #[must_use]
    pub const fn new(heights: u64, count_max: usize) -> Self {
        Self { heights, count_max, votes: BTreeMap::new() }
    }

    /// Adds a vote whose signature was verified. Gives the two if it contradicts an
    /// earlier one of the same validator: evidence of double signing.
    pub fn add(&mut self, signed: SignedVote) -> Option<(SignedVote, SignedVote)> {
        let vote = signed.vote;
        let place = (vote.height, vote.round, vote.kind, vote.validator);
        match self.votes.get(&place) {
            Some(first) if first.vote != vote => return Some((*first, signed)),
            Some(_) => return None,
            None => {}
        }
        self.votes.insert(place, signed);
        let newest = self.votes.last_key_value().map_or(0, |((height, ..), _)| height.get());
        let oldest = newest.saturating_sub(self.heights.saturating_sub(1));
        while let Some(entry) = self.votes.first_entry() {
            if entry.key().0.get() >= oldest && self.votes.len() <= self.count_max {
                break;
            }
            self.votes.pop_first();
        }
        None
    }

    /// Votes of a height, those of its newest round first.
    pub fn of(&self, height: Height) -> impl Iterator<Item = &SignedVote> {
        let newest = self.votes.iter().rev();
        let above = newest.skip_while(move |((at, ..), _)| *at > height);
        above.take_while(move |((at, ..), _)| *at == height).map(|(_, vote)| vote)
    }

    /// How many votes are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.votes.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.votes.is_empty()
    }
}
