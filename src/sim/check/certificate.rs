//! Whether a certificate makes a block final, from the words of `specs/encoding.md` alone: what
//! nodes ask for that is not asked here.

use std::collections::{BTreeMap, BTreeSet};

use ait_engine::certificate::Certificate;
use ait_engine::types::{BlockId, Height};
use ed25519_dalek::{Signature, VerifyingKey};

use crate::sim::plan::{SimOptions, chain_id, key};

/// The key and the power of each validator, by address.
pub(super) struct Members(BTreeMap<[u8; 32], (VerifyingKey, u128)>);

impl Members {
    pub(super) fn of(options: &SimOptions) -> Self {
        let member = |(n, power): (usize, &u64)| {
            let key = key("validator", n).public_key();
            let verifying = VerifyingKey::from_bytes(&key.0).expect("a key that was made here");
            (key.address().0, (verifying, u128::from(*power)))
        };
        Self(options.weights.iter().enumerate().map(member).collect())
    }

    /// Whether more than two thirds of the power signed precommits for this block.
    pub(super) fn check(
        &self,
        height: Height,
        id: BlockId,
        certificate: Option<&Certificate>,
    ) -> Result<(), String> {
        let certificate = certificate.ok_or("it has none")?;
        let (mut seen, mut power) = (BTreeSet::new(), 0);
        for signed in certificate.signatures() {
            let address = signed.validator.0;
            let member = self.0.get(&address).ok_or("by one who is no validator")?;
            if !seen.insert(address) {
                return Err("a validator twice".to_owned());
            }
            let hash = precommit(height, certificate.round.get(), id, &address);
            let signature = Signature::from_bytes(&signed.signature.0);
            let verified = member.0.verify_strict(&hash, &signature);
            verified.map_err(|_| "a signature that is not of this block")?;
            power += member.1;
        }
        let total: u128 = self.0.values().map(|(_, power)| power).sum();
        match power * 3 > total * 2 {
            true => Ok(()),
            false => Err(format!("signed by {power} of {total}")),
        }
    }
}

/// What a validator signs to precommit a block.
fn precommit(height: Height, round: u64, id: BlockId, validator: &[u8; 32]) -> [u8; 32] {
    let chain = chain_id().to_string();
    let round = u32::try_from(round).unwrap_or(u32::MAX);
    let mut hasher = blake3::Hasher::new_derive_key("ait-node 2026-11 vote");
    for part in [
        &[u8::try_from(chain.len()).unwrap_or(u8::MAX)][..],
        chain.as_bytes(),
        &[2],
        &height.get().to_le_bytes(),
        &round.to_le_bytes(),
        &[1],
        &id.0,
        validator,
    ] {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use ait_engine::certificate::CommitSignature;
    use ait_engine::types::Round;
    use ait_engine::vote::{Vote, VoteKind};

    use super::*;

    const ID: BlockId = BlockId([9; 32]);

    fn signed(n: usize, height: Height, round: Round) -> CommitSignature {
        let validator = key("validator", n).public_key().address();
        let kind = VoteKind::Precommit;
        let vote = Vote { kind, height, round, block_id: Some(ID), validator };
        let hash = vote.sign_hash(&chain_id());
        CommitSignature { validator, signature: key("validator", n).sign(hash.as_bytes()) }
    }

    #[test]
    fn a_certificate_needs_distinct_members_with_more_than_two_thirds_for_this_block() {
        let members = Members::of(&SimOptions { weights: vec![4, 2, 2, 1], ..Default::default() });
        let (height, round) = (Height::saturating(5), Round::saturating(2));
        let check = |all: &[usize], height, id| {
            let all = all.iter().map(|n| signed(*n, Height::saturating(5), round)).collect();
            let certificate = Certificate::new(Height::saturating(5), round, ID, all);
            members.check(height, id, Some(&certificate))
        };
        assert_eq!(check(&[0, 1, 3], height, ID), Ok(()));
        // Two thirds are not more than two thirds.
        assert_eq!(check(&[0, 1], height, ID), Err("signed by 6 of 9".to_owned()));
        assert!(check(&[0, 1, 2, 7], height, ID).is_err_and(|what| what.contains("no validator")));
        let other = Err("a signature that is not of this block".to_owned());
        assert_eq!(check(&[0, 1, 3], Height::saturating(6), ID), other);
        assert_eq!(check(&[0, 1, 3], height, BlockId([8; 32])), other);
        assert!(members.check(height, ID, None).is_err());
    }
}
