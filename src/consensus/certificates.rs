//! Checking the votes of a certificate.

use std::collections::BTreeMap;

use ait_engine::crypto::verify;
use ait_engine::types::{Address, ChainId, VotingPower};
use ait_engine::validator::ValidatorSet;
use ait_engine::vote::{SignedVote, VoteKind};
use malachitebft_core_types::CertificateError;

use super::context::Ctx;

/// Checks votes of a certificate: known validators, one each, good signatures, and
/// enough power: a quorum, or more than a third where one honest vote must be among them.
#[expect(clippy::result_large_err, reason = "the error is the library's")]
pub(super) fn verify_votes(
    chain_id: &ChainId,
    votes: impl Iterator<Item = SignedVote>,
    set: &ValidatorSet,
    kind: Option<VoteKind>,
    needs_quorum: bool,
) -> Result<(), CertificateError<Ctx>> {
    let mut voters: BTreeMap<Address, VotingPower> = BTreeMap::new();
    for SignedVote { vote, signature } in votes {
        let validator = set.get(&vote.validator).ok_or_else(|| not_enough(set))?;
        let hash = vote.sign_hash(chain_id);
        let good = verify(&validator.public_key, hash.as_bytes(), &signature).is_ok();
        if !good || kind.is_some_and(|kind| kind != vote.kind) {
            return Err(not_enough(set));
        }
        voters.insert(vote.validator, validator.power);
    }
    let power = voters.values().try_fold(VotingPower::ZERO, |sum, p| sum.checked_add(*p));
    let power = power.unwrap_or(VotingPower::ZERO);
    let honest = u128::from(power.get()) * 3 > u128::from(set.total_power().get());
    if if needs_quorum { set.is_quorum(power) } else { honest } {
        Ok(())
    } else {
        Err(not_enough(set))
    }
}

pub(super) fn not_enough(set: &ValidatorSet) -> CertificateError<Ctx> {
    let total = set.total_power().get();
    CertificateError::NotEnoughVotingPower { signed: 0, total, expected: total }
}
