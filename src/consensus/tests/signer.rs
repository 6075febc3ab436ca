//! The signer's record.

use malachitebft_core_consensus::Input;
use malachitebft_core_types::SignedMessage;

use super::*;
use crate::consensus::context::CtxSignature;

#[test]
fn the_signers_record_only_goes_forward() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signer.record");
    let open = || FileSigner::open(&path, chain_id(), SecretKey::from_seed([1; 32]));
    let vote = |height, round, kind, id: u8| Vote {
        kind,
        height: Height::saturating(height),
        round: Round::saturating(round),
        block_id: Some(BlockId([id; 32])),
        validator: keys(1)[0].public_key().address(),
    };
    let mut signer = open().unwrap();
    // What is not recorded never left, and is forgotten.
    signer.sign_vote(&vote(5, 0, VoteKind::Prevote, 9)).unwrap();
    let mut signer = open().unwrap();
    let first = signer.sign_vote(&vote(5, 0, VoteKind::Prevote, 1)).unwrap();
    signer.flush().unwrap();
    signer.sign_vote(&vote(5, 0, VoteKind::Precommit, 1)).unwrap();
    signer.flush().unwrap();
    for _ in 0..2 {
        // The same again is the same; anything else or earlier is refused, after a restart too.
        signer.sign_vote(&vote(5, 0, VoteKind::Precommit, 1)).unwrap();
        assert!(signer.sign_vote(&vote(5, 0, VoteKind::Precommit, 2)).is_err());
        assert!(signer.sign_vote(&vote(5, 0, VoteKind::Prevote, 1)).is_err());
        assert!(signer.sign_vote(&vote(4, 9, VoteKind::Precommit, 1)).is_err());
        signer = open().unwrap();
    }
    signer.sign_vote(&vote(5, 1, VoteKind::Prevote, 2)).unwrap();
    signer.flush().unwrap();
    assert_ne!(first.0, [0; 64]);
    let whole = std::fs::read(&path).unwrap();
    // One torn slot: the one before counts. Both damaged: nobody may sign.
    let mut torn = whole.clone();
    torn[10] ^= 1;
    std::fs::write(&path, &torn).unwrap();
    let mut signer = open().unwrap();
    assert!(signer.sign_vote(&vote(4, 0, VoteKind::Prevote, 1)).is_err());
    torn[140] ^= 1;
    std::fs::write(&path, &torn).unwrap();
    assert!(matches!(open(), Err(SignerError::Damaged { .. })));
}

#[test]
fn a_first_signature_that_was_torn_was_never_given_and_any_other_damage_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signer.record");
    let open = || FileSigner::open(&path, chain_id(), SecretKey::from_seed([1; 32]));
    let vote = Vote {
        kind: VoteKind::Prevote,
        height: Height::saturating(1),
        round: Round::ZERO,
        block_id: None,
        validator: keys(1)[0].public_key().address(),
    };
    let mut signer = open().unwrap();
    signer.sign_vote(&vote).unwrap();
    signer.flush().unwrap();
    let whole = std::fs::read(&path).unwrap();
    // The sum ends at byte 96; behind it are zeros anyway.
    for at in 0..96 {
        for length in [at, whole.len()] {
            let mut torn = whole[..at].to_vec();
            torn.resize(length, 0);
            std::fs::write(&path, torn).unwrap();
            assert!(open().is_ok(), "cut at {at}, {length} bytes");
        }
    }
    for at in (0..8).chain(64..96) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        assert!(matches!(open(), Err(SignerError::Damaged { .. })), "byte {at}");
    }
    // Who had signed twice has a second slot: zeros there are no torn first signature.
    std::fs::write(&path, [0; 256]).unwrap();
    assert!(matches!(open(), Err(SignerError::Damaged { .. })));
}

#[test]
fn a_record_behind_the_log_is_brought_level() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signer.record");
    let key = SecretKey::from_seed([1; 32]);
    let open = || FileSigner::open(&path, chain_id(), SecretKey::from_seed([1; 32])).unwrap();
    let vote = |kind, id| Vote {
        kind,
        height: Height::saturating(5),
        round: Round::ZERO,
        block_id: Some(BlockId([id; 32])),
        validator: key.public_key().address(),
    };
    let mut signer = open();
    let mut entries = Vec::new();
    for kind in [VoteKind::Prevote, VoteKind::Precommit] {
        let signature = signer.sign_vote(&vote(kind, 7)).unwrap();
        signer.flush().unwrap();
        let signed = SignedMessage::new(vote(kind, 7).into(), CtxSignature(signature));
        entries.push(entry::encode(&Input::Vote(signed)).unwrap());
    }
    let logged = (Height::saturating(5), entries);
    assert!(!signer.is_ahead(&logged));
    // A log that lost its end has not what is recorded; that of another height need not.
    let lost = |height| (Height::saturating(height), logged.1[..1].to_vec());
    assert!(signer.is_ahead(&lost(5)) && !signer.is_ahead(&lost(6)));
    let seen = FileSigner::inspect(&path).unwrap().unwrap();
    assert!(seen.is_ahead(&lost(5), &chain_id()) && !seen.is_ahead(&logged, &chain_id()));
    let whole = std::fs::read(&path).unwrap();
    // As a crash between the two syncs leaves it, or damage to the half with the precommit: the
    // other one knows of the prevote only, or of nothing.
    for (cut, at) in [(whole.len(), 140), (whole.len(), 200), (128, 127), (0, 0)] {
        let mut bad = whole[..cut].to_vec();
        bad.get_mut(at).into_iter().for_each(|byte| *byte ^= 1);
        std::fs::write(&path, &bad).unwrap();
        open().catch_up(&logged).unwrap();
        let mut signer = open();
        assert!(signer.sign_vote(&vote(VoteKind::Precommit, 8)).is_err(), "{cut}, {at}");
        signer.sign_vote(&vote(VoteKind::Precommit, 7)).expect("the same again");
    }
    // A log that is behind, or says nothing of its own height, takes nothing back.
    let (_, entries) = logged;
    for older in [(Height::saturating(5), entries[..1].to_vec()), (Height::saturating(6), entries)]
    {
        open().catch_up(&older).unwrap();
        assert!(open().sign_vote(&vote(VoteKind::Precommit, 8)).is_err());
    }
}

#[test]
fn a_signers_record_that_others_may_wind_back_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signer.record");
    let open = || FileSigner::open(&path, chain_id(), SecretKey::from_seed([1; 32]));
    open().unwrap();
    for mode in [0o620, 0o602, 0o644] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = open().unwrap_err();
        assert!(matches!(error, SignerError::Permissions { mode: found, .. } if found == mode));
        assert!(error.to_string().contains("chmod 600"));
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    open().unwrap();
}
