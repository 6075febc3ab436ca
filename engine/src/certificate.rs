//! A certificate: precommits with a quorum for one block id at one height and
//! round. Verified with the validator set of the height and nothing else.

use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::crypto::{PublicKey, Signature, verify_batch};
use crate::limits::VALIDATOR_COUNT_MAX;
use crate::types::{Address, BlockId, ChainId, Hash, Height, Round, VotingPower};
use crate::validator::ValidatorSet;
use crate::vote::{Vote, VoteKind};

const VERSION: u8 = 1;
/// Scheme tag: a list of Ed25519 signatures over precommits. Other engines or
/// aggregated signatures get a tag of their own.
pub const SCHEME_PRECOMMIT_LIST: u8 = 1;

/// One validator's precommit in a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitSignature {
    /// Who signed.
    pub validator: Address,
    /// Signature over the precommit for the certified block.
    pub signature: Signature,
}

/// Why a certificate does not prove its block final.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It is for another height.
    #[error("the certificate is for height {found}, expected {expected}")]
    Height {
        /// The block's height.
        expected: Height,
        /// The certificate's.
        found: Height,
    },
    /// It is for another block.
    #[error("the certificate is for block {found}, expected {expected}")]
    Block {
        /// The block's id.
        expected: BlockId,
        /// The certificate's.
        found: BlockId,
    },
    /// A signer is not in the validator set.
    #[error("{validator} is not a validator at this height")]
    UnknownValidator {
        /// The signer.
        validator: Address,
    },
    /// A signature does not verify.
    #[error("the signature of validator {validator} does not verify")]
    Signature {
        /// The signer.
        validator: Address,
    },
    /// Not more than two thirds of the voting power signed.
    #[error("signed by {found} of {total} voting power, more than two thirds are needed")]
    BelowQuorum {
        /// Power that signed.
        found: VotingPower,
        /// Total power of the set.
        total: VotingPower,
    },
}

/// Proof that a quorum of validators committed to a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The certified height.
    pub height: Height,
    /// Round of the precommits.
    pub round: Round,
    /// The certified block.
    pub block_id: BlockId,
    /// Precommits, ordered by validator address without duplicates.
    signatures: Vec<CommitSignature>,
}

impl Certificate {
    /// A certificate of these precommits, in any order; a second one of a validator is dropped.
    #[must_use]
    pub fn new(
        height: Height,
        round: Round,
        block_id: BlockId,
        mut signatures: Vec<CommitSignature>,
    ) -> Self {
        signatures.sort_by_key(|s| s.validator);
        signatures.dedup_by_key(|s| s.validator);
        Self { height, round, block_id, signatures }
    }

    /// The precommits, ordered by validator address.
    #[must_use]
    pub fn signatures(&self) -> &[CommitSignature] {
        &self.signatures
    }

    fn precommit_hash(&self, chain_id: &ChainId, validator: Address) -> Hash {
        Vote {
            kind: VoteKind::Precommit,
            height: self.height,
            round: self.round,
            block_id: Some(self.block_id),
            validator,
        }
        .sign_hash(chain_id)
    }

    /// Checks that a quorum of `validators` signed for this block at this height.
    ///
    /// # Errors
    /// [`CertificateError`]; every signature must be good, not only a quorum of them,
    /// so that one block has no two accepted certificates of different worth.
    pub fn verify(
        &self,
        chain_id: &ChainId,
        height: Height,
        block_id: BlockId,
        validators: &ValidatorSet,
    ) -> Result<(), CertificateError> {
        self.verify_beside(chain_id, height, block_id, validators, &[])
    }

    /// As [`Certificate::verify`], but signatures that are among those `made_here`, of the same
    /// hash, are not verified.
    ///
    /// # Errors
    /// As [`Certificate::verify`].
    pub fn verify_beside(
        &self,
        chain_id: &ChainId,
        height: Height,
        block_id: BlockId,
        validators: &ValidatorSet,
        made_here: &[(Hash, Signature)],
    ) -> Result<(), CertificateError> {
        let signed = self.signed(chain_id, height, block_id, validators)?;
        verify_signed_beside(signed, made_here)
    }

    /// Checks all but the signatures, and gives what they must verify for, in order.
    pub(crate) fn signed(
        &self,
        chain_id: &ChainId,
        height: Height,
        block_id: BlockId,
        validators: &ValidatorSet,
    ) -> Result<Vec<Signed>, CertificateError> {
        if self.height != height {
            return Err(CertificateError::Height { expected: height, found: self.height });
        }
        if self.block_id != block_id {
            return Err(CertificateError::Block { expected: block_id, found: self.block_id });
        }
        let mut power = VotingPower::ZERO;
        let mut signed = Vec::with_capacity(self.signatures.len());
        for CommitSignature { validator: address, signature } in &self.signatures {
            let validator = validators
                .get(address)
                .ok_or(CertificateError::UnknownValidator { validator: *address })?;
            // Each signer counts once (the list has no duplicates), so the sum is at most the total.
            power = power.checked_add(validator.power).unwrap_or(VotingPower::MAX);
            let hash = self.precommit_hash(chain_id, *address);
            signed.push((validator.public_key, hash, *signature));
        }
        if !validators.is_quorum(power) {
            let total = validators.total_power();
            return Err(CertificateError::BelowQuorum { found: power, total });
        }
        Ok(signed)
    }
}

/// A key, what it signed, and the signature.
pub(crate) type Signed = (PublicKey, Hash, Signature);

/// Verifies signatures in one batch; gives the place of the first bad one.
pub(crate) fn verify_signed(signed: &[Signed]) -> Result<(), usize> {
    let items: Vec<_> = signed.iter().map(|(k, h, s)| (*k, h.as_bytes().as_slice(), *s)).collect();
    verify_batch(&items, None).map_err(|bad| bad.first().copied().unwrap_or(0))
}

/// Verifies the signatures that are not among those `made_here`, of the same hash.
pub(crate) fn verify_signed_beside(
    mut signed: Vec<Signed>,
    made_here: &[(Hash, Signature)],
) -> Result<(), CertificateError> {
    signed.retain(|(_, hash, signature)| !made_here.contains(&(*hash, *signature)));
    verify_signed(&signed).map_err(|bad| {
        let key = signed.get(bad).map(|(key, ..)| key.address());
        CertificateError::Signature { validator: key.unwrap_or(Address::ZERO) }
    })
}

impl Canonical for Certificate {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_u8(VERSION);
        out.put_u8(SCHEME_PRECOMMIT_LIST);
        out.put_u64(self.height.get());
        out.put_u32(u32::try_from(self.round.get()).unwrap_or(u32::MAX));
        out.put(&self.block_id.0);
        out.put_count(self.signatures.len());
        for signature in &self.signatures {
            out.put(&signature.validator.0);
            out.put(&signature.signature.0);
        }
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.tag("certificate version", VERSION)?;
        reader.tag("certificate scheme", SCHEME_PRECOMMIT_LIST)?;
        let height = reader.height()?;
        let round = Round::saturating(u64::from(reader.u32()?));
        let block_id = reader.block_id()?;
        let count = reader.count("certificate signature count", VALIDATOR_COUNT_MAX)?;
        let mut signatures: Vec<CommitSignature> = Vec::with_capacity(count);
        for _ in 0..count {
            let validator = reader.address()?;
            if signatures.last().is_some_and(|last| last.validator >= validator) {
                return Err(DecodeError::Invalid { what: "order of certificate signatures" });
            }
            signatures.push(CommitSignature { validator, signature: Signature(reader.array()?) });
        }
        Ok(Self { height, round, block_id, signatures })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::crypto::SecretKey;
    use crate::validator::Validator;

    struct Fixture {
        chain_id: ChainId,
        keys: Vec<SecretKey>,
        set: ValidatorSet,
    }

    fn fixture(powers: &[u64]) -> Fixture {
        let keys: Vec<_> =
            (1..=powers.len()).map(|n| SecretKey::from_seed([n as u8; 32])).collect();
        let validators = keys.iter().zip(powers).map(|(key, power)| Validator {
            public_key: key.public_key(),
            power: VotingPower::new(*power).unwrap(),
            payout: key.public_key().address(),
        });
        let set = ValidatorSet::new(validators.collect()).unwrap();
        Fixture { chain_id: "test".parse().unwrap(), keys, set }
    }

    const HEIGHT: Height = Height::saturating(5);
    const BLOCK: BlockId = BlockId([7; 32]);

    impl Fixture {
        fn certificate(&self, signers: &[usize]) -> Certificate {
            let empty = Certificate::new(HEIGHT, Round::ZERO, BLOCK, vec![]);
            let sign = |at: &usize| {
                let validator = self.keys[*at].public_key().address();
                let hash = empty.precommit_hash(&self.chain_id, validator);
                CommitSignature { validator, signature: self.keys[*at].sign(hash.as_bytes()) }
            };
            Certificate::new(HEIGHT, Round::ZERO, BLOCK, signers.iter().map(sign).collect())
        }

        fn verify(&self, certificate: &Certificate) -> Result<(), CertificateError> {
            certificate.verify(&self.chain_id, HEIGHT, BLOCK, &self.set)
        }
    }

    #[test]
    fn accepts_a_quorum_by_weight() {
        let f = fixture(&[50, 30, 15, 5]);
        f.verify(&f.certificate(&[0, 1])).unwrap();
        f.verify(&f.certificate(&[0, 1, 2, 3])).unwrap();
    }

    #[test]
    fn rejects_certificate_below_quorum() {
        let f = fixture(&[1, 1, 1]);
        let error = f.verify(&f.certificate(&[0, 1])).unwrap_err();
        assert!(matches!(error, CertificateError::BelowQuorum { .. }));
        assert!(f.verify(&f.certificate(&[])).is_err());
        let twice = f.certificate(&[0, 0, 0]);
        assert!(f.verify(&twice).is_err(), "one validator counted three times");
    }

    #[test]
    fn rejects_what_was_signed_for_something_else() {
        let f = fixture(&[1]);
        let good = f.certificate(&[0]);
        let other = |change: fn(&mut Certificate)| {
            let mut certificate = good.clone();
            change(&mut certificate);
            f.verify(&certificate).unwrap_err()
        };
        assert!(matches!(
            other(|c| c.round = Round::saturating(1)),
            CertificateError::Signature { .. }
        ));
        assert!(matches!(
            other(|c| c.height = Height::saturating(6)),
            CertificateError::Height { .. }
        ));
        assert!(matches!(other(|c| c.block_id = BlockId([8; 32])), CertificateError::Block { .. }));
        let elsewhere = good.verify(&"other".parse().unwrap(), HEIGHT, BLOCK, &f.set);
        assert!(matches!(elsewhere, Err(CertificateError::Signature { .. })));
        let stranger = fixture(&[1, 1]);
        let error = f.verify(&stranger.certificate(&[1])).unwrap_err();
        assert!(matches!(error, CertificateError::UnknownValidator { .. }));
    }

    #[test]
    fn what_was_made_here_is_not_verified_and_everything_else_is() {
        let f = fixture(&[1, 1, 1]);
        let mut bad = f.certificate(&[0, 1, 2]);
        let forged = &mut bad.signatures[1];
        forged.signature = Signature([9; 64]);
        let CommitSignature { validator, signature } = *forged;
        let hash = bad.precommit_hash(&f.chain_id, validator);
        let beside =
            |made_here: &[_]| bad.verify_beside(&f.chain_id, HEIGHT, BLOCK, &f.set, made_here);
        assert_eq!(beside(&[(hash, signature)]), Ok(()));
        let error = Err(CertificateError::Signature { validator });
        let other = bad.signatures[0].signature;
        for made_here in [&[][..], &[(Hash([3; 32]), signature)], &[(hash, other)]] {
            assert_eq!(beside(made_here), error, "{made_here:?}");
        }
        // Whatever was made here, it takes a quorum.
        let one = f.certificate(&[0]);
        let made = (one.precommit_hash(&f.chain_id, one.signatures[0].validator), other);
        let result = one.verify_beside(&f.chain_id, HEIGHT, BLOCK, &f.set, &[made]);
        assert!(matches!(result, Err(CertificateError::BelowQuorum { .. })));
    }

    #[test]
    fn has_one_encoding() {
        let f = fixture(&[1, 1, 1]);
        let certificate = f.certificate(&[2, 0, 1]);
        let bytes = certificate.encode();
        assert_eq!(Certificate::decode(&bytes).unwrap(), certificate);
        for length in 0..bytes.len() {
            assert!(Certificate::decode(&bytes[..length]).is_err());
        }
    }
}
