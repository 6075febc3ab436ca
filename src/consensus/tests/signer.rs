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
    let first = signer.sign_vote(&vote(5, 0, VoteKind::Prevote, 1)).unwrap();
    signer.sign_vote(&vote(5, 0, VoteKind::Precommit, 1)).unwrap();
    for _ in 0..2 {
        // The same again is the same; anything else or earlier is refused, after a restart too.
        signer.sign_vote(&vote(5, 0, VoteKind::Precommit, 1)).unwrap();
        assert!(signer.sign_vote(&vote(5, 0, VoteKind::Precommit, 2)).is_err());
        assert!(signer.sign_vote(&vote(5, 0, VoteKind::Prevote, 1)).is_err());
        assert!(signer.sign_vote(&vote(4, 9, VoteKind::Precommit, 1)).is_err());
        signer = open().unwrap();
    }
    signer.sign_vote(&vote(5, 1, VoteKind::Prevote, 2)).unwrap();
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
fn a_record_behind_the_log_is_not_signed_upon() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("signer.record");
    let key = SecretKey::from_seed([1; 32]);
    let open = || FileSigner::open(&path, chain_id(), SecretKey::from_seed([1; 32])).unwrap();
    let vote = |kind, validator| Vote {
        kind,
        height: Height::saturating(5),
        round: Round::ZERO,
        block_id: Some(BlockId([7; 32])),
        validator,
    };
    let mut signer = open();
    let own = key.public_key().address();
    let mut entries = Vec::new();
    for kind in [VoteKind::Prevote, VoteKind::Precommit] {
        let signature = signer.sign_vote(&vote(kind, own)).unwrap();
        let signed = SignedMessage::new(vote(kind, own).into(), CtxSignature(signature));
        entries.push(entry::encode(&Input::Vote(signed)).unwrap());
    }
    let logged = (Height::saturating(5), entries);
    assert!(!signer.is_behind(&logged));
    // The half with the precommit is damaged: the other one knows of the prevote only.
    let whole = std::fs::read(&path).unwrap();
    for at in [0, 12, 20, 24, 40, 70, 100, 127] {
        let mut bad = whole.clone();
        bad[128 + at] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        // The last 32 bytes are not used.
        assert_eq!(open().is_behind(&logged), at < 96, "{at}");
    }
    // What was logged at another height says nothing.
    let (_, entries) = logged;
    assert!(!open().is_behind(&(Height::saturating(6), entries)));
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
