//! What the library asks about certificates.

use ait_engine::crypto::Signature;
use ait_engine::message::Message;
use ait_engine::types::{ChainId, Hash};
use ait_engine::validator::ValidatorSet;
use malachitebft_core_consensus::{Effect, Resumable, Resume};
use malachitebft_core_types::CertificateError;

use super::context::Ctx;
use super::convert::{certificate_from_lib, polka_from_lib, round_from_lib};

/// Answers an effect that asks whether a certificate is good. Those in a message that was
/// verified before it came here are; those of the log are verified again. Of a commit
/// certificate the signatures `made_here` are not.
pub(super) fn verify_certificate(
    chain_id: &ChainId,
    is_verified: bool,
    made_here: &[(Hash, Signature)],
    effect: Effect<Ctx>,
) -> Resume<Ctx> {
    #[expect(clippy::result_large_err, reason = "the error is the library's")]
    let check = |message: Message, set: &ValidatorSet| {
        let good = is_verified || message.verify(chain_id, set).is_ok();
        if good { Ok(()) } else { Err(not_enough(set)) }
    };
    match effect {
        Effect::VerifyCommitCertificate(certificate, set, _, r) => {
            let (height, id) = (certificate.height.0, certificate.value_id);
            let ours = certificate_from_lib(certificate);
            let verified = ours.verify_beside(chain_id, height, id, &set.set, made_here);
            r.resume_with(verified.map_err(|_| not_enough(&set.set)))
        }
        Effect::VerifyPolkaCertificate(polka, set, _, r) => {
            r.resume_with(check(Message::PolkaCertificate(polka_from_lib(&polka)), &set.set))
        }
        Effect::VerifyRoundCertificate(round, set, _, r) => {
            r.resume_with(check(Message::RoundCertificate(round_from_lib(&round)), &set.set))
        }
        // Extensions are switched off, so that no certificate carries any.
        Effect::VerifyExtendedCommitCertificate(_, set, _, _, r) => {
            r.resume_with(Err(not_enough(&set.set)))
        }
        _ => Resume::Continue,
    }
}

fn not_enough(set: &ValidatorSet) -> CertificateError<Ctx> {
    let total = set.total_power().get();
    CertificateError::NotEnoughVotingPower { signed: 0, total, expected: total }
}
