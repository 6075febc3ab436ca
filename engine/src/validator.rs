//! Validators, their voting power, the quorum predicate and the proposer rule.
//!
//! A set is ordered by address and has one canonical encoding and one hash. What
//! a validator signs is in [`crate::vote`]; what many signed is in
//! [`crate::certificate`].

use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::crypto::PublicKey;
use crate::hash::Domain;
use crate::limits::VALIDATOR_COUNT_MAX;
use crate::types::{Address, Hash, Height, Round, VotingPower};

/// Version of the set's encoding.
const VERSION: u8 = 1;

/// One validator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validator {
    /// Key that signs votes and proposals.
    pub public_key: PublicKey,
    /// Integer weight, at least 1.
    pub power: VotingPower,
    /// Account that receives the fees of the blocks it proposes.
    pub payout: Address,
}

impl Validator {
    /// The validator's name in votes and headers: the address of its key.
    #[must_use]
    pub fn address(&self) -> Address {
        self.public_key.address()
    }
}

/// Why validators do not make a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValidatorSetError {
    /// No validator at all.
    #[error("a validator set needs at least one validator")]
    Empty,
    /// Too many.
    #[error("{found} validators, at most {VALIDATOR_COUNT_MAX} are allowed")]
    TooMany {
        /// How many were given.
        found: usize,
    },
    /// One key twice.
    #[error("validator {address} appears twice")]
    Duplicate {
        /// Its address.
        address: Address,
    },
    /// A validator without power.
    #[error("validator {address} has no voting power")]
    NoPower {
        /// Its address.
        address: Address,
    },
    /// The total is over [`crate::limits::VOTING_POWER_MAX`].
    #[error("the total voting power is over {}", VotingPower::MAX)]
    PowerOverflow,
}

/// The validators of one height, ordered by address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatorSet {
    validators: Vec<(Address, Validator)>,
    total_power: VotingPower,
    /// A planted bug; a release has no place for it.
    #[cfg(debug_assertions)]
    is_half_enough: bool,
}

impl ValidatorSet {
    /// A set of these validators, in any order.
    ///
    /// # Errors
    /// [`ValidatorSetError`] for an empty or too large set, a key twice, no power, or too much of it.
    pub fn new(validators: Vec<Validator>) -> Result<Self, ValidatorSetError> {
        if validators.is_empty() {
            return Err(ValidatorSetError::Empty);
        }
        if validators.len() > VALIDATOR_COUNT_MAX {
            return Err(ValidatorSetError::TooMany { found: validators.len() });
        }
        let mut ordered: Vec<_> = validators.into_iter().map(|v| (v.address(), v)).collect();
        ordered.sort_unstable_by_key(|(address, _)| *address);
        let mut total_power = VotingPower::ZERO;
        let mut previous = None;
        for (address, validator) in &ordered {
            if previous == Some(*address) {
                return Err(ValidatorSetError::Duplicate { address: *address });
            }
            previous = Some(*address);
            if validator.power == VotingPower::ZERO {
                return Err(ValidatorSetError::NoPower { address: *address });
            }
            total_power =
                total_power.checked_add(validator.power).ok_or(ValidatorSetError::PowerOverflow)?;
        }
        Ok(Self {
            validators: ordered,
            total_power,
            #[cfg(debug_assertions)]
            is_half_enough: false,
        })
    }

    /// The validator of this address.
    #[must_use]
    pub fn get(&self, address: &Address) -> Option<&Validator> {
        self.position(address).and_then(|at| self.at(at))
    }

    /// Where the validator of this address stands in the order.
    #[must_use]
    pub fn position(&self, address: &Address) -> Option<usize> {
        self.validators.binary_search_by_key(address, |(a, _)| *a).ok()
    }

    /// The validator at this place of the order.
    #[must_use]
    pub fn at(&self, position: usize) -> Option<&Validator> {
        self.validators.get(position).map(|(_, validator)| validator)
    }

    /// All validators in order of their addresses.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Validator> {
        self.validators.iter().map(|(_, validator)| validator)
    }

    /// How many validators there are, at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.validators.len()
    }

    /// Sum of all voting power.
    #[must_use]
    pub const fn total_power(&self) -> VotingPower {
        self.total_power
    }

    /// The same set with a planted bug: half of the power is a quorum. For tests that show that
    /// others would find it.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    #[must_use]
    pub fn with_half_as_quorum(self) -> Self {
        Self { is_half_enough: true, ..self }
    }

    /// Whether `power` is a quorum: strictly more than two thirds of the total.
    #[must_use]
    pub fn is_quorum(&self, power: VotingPower) -> bool {
        #[cfg(debug_assertions)]
        if self.is_half_enough {
            return u128::from(power.get()) * 2 >= u128::from(self.total_power.get());
        }
        u128::from(power.get()) * 3 > u128::from(self.total_power.get()) * 2
    }

    /// Who may propose at (height, round): each validator gets a share of the
    /// sequence height + round = 0, 1, 2, .. in proportion to its power.
    ///
    /// The position `(height + round) mod total_power` is looked up in the sums of
    /// power in address order, after a multiplication by an odd constant near the
    /// golden ratio that spreads the turns of a heavy validator evenly.
    #[must_use]
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "a set is never empty and its total in 1..2^53, so that products are below 2^107"
    )]
    pub fn proposer(&self, height: Height, round: Round) -> &Validator {
        let total = u128::from(self.total_power.get());
        let turn = (u128::from(height.get()) + u128::from(round.get())) % total;
        let mut left = turn * spread(total) % total;
        for (_, validator) in &self.validators {
            let power = u128::from(validator.power.get());
            if left < power {
                return validator;
            }
            left -= power;
        }
        // The powers sum up to the total, so that the loop always returns; the set is never empty.
        &self.validators[0].1
    }

    /// Hash of the canonical encoding.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Domain::Validators.hash(&[&self.encode()])
    }
}

/// A step coprime with `total`, near `total` divided by the golden ratio.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "the total is below 2^53, and the search ends below it or at 1"
)]
fn spread(total: u128) -> u128 {
    let mut step = (total * 618 / 1_000).max(1);
    while gcd(step, total) != 1 {
        step += 1;
    }
    step
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a.checked_rem(b).unwrap_or(0));
    }
    a
}

impl Canonical for ValidatorSet {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_u8(VERSION);
        out.put_count(self.validators.len());
        for (_, validator) in &self.validators {
            out.put(&validator.public_key.0);
            out.put_u64(validator.power.get());
            out.put(&validator.payout.0);
        }
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.tag("validator set version", VERSION)?;
        let count = reader.count("validator count", VALIDATOR_COUNT_MAX)?;
        let mut validators = Vec::with_capacity(count);
        for _ in 0..count {
            let public_key = PublicKey(reader.array()?);
            let power = VotingPower::new(reader.u64()?)
                .ok_or(DecodeError::Invalid { what: "voting power" })?;
            validators.push(Validator { public_key, power, payout: reader.address()? });
        }
        let sorted = validators.is_sorted_by_key(Validator::address);
        let set =
            Self::new(validators).map_err(|_| DecodeError::Invalid { what: "validator set" })?;
        if sorted { Ok(set) } else { Err(DecodeError::Invalid { what: "validator order" }) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::crypto::SecretKey;

    fn set(powers: &[u64]) -> ValidatorSet {
        let validators = powers.iter().zip(1..).map(|(power, seed)| {
            let public_key = SecretKey::from_seed([seed; 32]).public_key();
            Validator {
                public_key,
                power: VotingPower::new(*power).unwrap(),
                payout: public_key.address(),
            }
        });
        ValidatorSet::new(validators.collect()).unwrap()
    }

    #[test]
    fn proposes_in_proportion_to_power() {
        let set = set(&[50, 30, 15, 5]);
        for validator in set.iter() {
            let turns = (0..1_000)
                .filter(|h| set.proposer(Height::saturating(*h), Round::ZERO) == validator)
                .count() as u64;
            assert_eq!(turns, validator.power.get() * 10);
        }
    }

    #[test]
    fn a_later_round_moves_to_another_proposer() {
        let set = set(&[1, 1, 1, 1]);
        let of = |round| set.proposer(Height::saturating(7), Round::saturating(round));
        let mut seen: Vec<_> = (0..4).map(|round| of(round).address()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn quorum_is_strictly_more_than_two_thirds() {
        let set = set(&[1, 1, 1]);
        assert!(!set.is_quorum(VotingPower::saturating(2)));
        assert!(set.is_quorum(VotingPower::saturating(3)));
    }

    #[test]
    fn has_one_encoding() {
        let set = set(&[5, 4, 3]);
        let bytes = set.encode();
        assert_eq!(ValidatorSet::decode(&bytes).unwrap(), set);
        let mut swapped = bytes.clone();
        swapped[5..77].copy_from_slice(&bytes[77..149]);
        swapped[77..149].copy_from_slice(&bytes[5..77]);
        assert_eq!(
            ValidatorSet::decode(&swapped),
            Err(DecodeError::Invalid { what: "validator order" })
        );
    }

    #[test]
    fn refuses_too_much_power_and_duplicates() {
        let key = SecretKey::from_seed([1; 32]).public_key();
        let validator = |power| Validator { public_key: key, power, payout: key.address() };
        assert_eq!(ValidatorSet::new(vec![]), Err(ValidatorSetError::Empty));
        let one = VotingPower::saturating(1);
        assert!(matches!(
            ValidatorSet::new(vec![validator(one), validator(one)]),
            Err(ValidatorSetError::Duplicate { .. })
        ));
        let other = SecretKey::from_seed([2; 32]).public_key();
        let heavy = Validator { public_key: other, ..validator(VotingPower::MAX) };
        assert_eq!(
            ValidatorSet::new(vec![validator(one), heavy]),
            Err(ValidatorSetError::PowerOverflow)
        );
    }
}
