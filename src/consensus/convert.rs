//! Votes, certificates and time-outs between the library's types and the port's.

use ait_engine::certificate::{Certificate, CommitSignature};
use ait_engine::message::{Message, PolkaCertificate, RoundCertificate};
use ait_engine::vote::{SignedVote, Vote, VoteKind};
use malachitebft_core_consensus::Input;
use malachitebft_core_types as lib;
use malachitebft_core_types::SignedMessage;

use super::context::{Ctx, CtxAddress, CtxHeight, CtxSignature, from_lib_round, to_lib_round};
use super::port::{Timeout, TimeoutKind};

pub(super) fn vote_from_lib(vote: &lib::SignedVote<Ctx>) -> SignedVote {
    SignedVote { vote: vote.message.vote, signature: vote.signature.0 }
}

pub(super) fn certificate_from_lib(certificate: lib::CommitCertificate<Ctx>) -> Certificate {
    let signatures = certificate.commit_signatures.iter();
    let signatures = signatures
        .map(|s| CommitSignature { validator: s.address.0, signature: s.signature.0 })
        .collect();
    let round = from_lib_round(certificate.round);
    Certificate::new(certificate.height.0, round, certificate.value_id, signatures)
}

pub(super) fn polka_from_lib(polka: &lib::PolkaCertificate<Ctx>) -> PolkaCertificate {
    let signatures = polka.polka_signatures.iter();
    PolkaCertificate {
        height: polka.height.0,
        round: from_lib_round(polka.round),
        block_id: polka.value_id,
        signatures: signatures
            .map(|s| CommitSignature { validator: s.address.0, signature: s.signature.0 })
            .collect(),
    }
}

pub(super) fn polka_to_lib(polka: &PolkaCertificate) -> lib::PolkaCertificate<Ctx> {
    let wrap = |s: &CommitSignature| {
        lib::PolkaSignature::new(CtxAddress(s.validator), CtxSignature(s.signature))
    };
    lib::PolkaCertificate {
        height: CtxHeight(polka.height),
        round: to_lib_round(polka.round),
        value_id: polka.block_id,
        polka_signatures: polka.signatures.iter().map(wrap).collect(),
    }
}

pub(super) fn round_from_lib(round: &lib::RoundCertificate<Ctx>) -> RoundCertificate {
    RoundCertificate {
        height: round.height.0,
        round: from_lib_round(round.round),
        is_skip: round.cert_type == lib::RoundCertificateType::Skip,
        votes: round.votes(&Ctx).map(|vote| vote_from_lib(&vote)).collect(),
    }
}

pub(super) fn round_to_lib(round: &RoundCertificate) -> lib::RoundCertificate<Ctx> {
    let kind = |vote: &Vote| match vote.kind {
        VoteKind::Prevote => lib::VoteType::Prevote,
        VoteKind::Precommit => lib::VoteType::Precommit,
    };
    let wrap = |v: &SignedVote| {
        let value = v.vote.block_id.map_or(lib::NilOrVal::Nil, lib::NilOrVal::Val);
        let address = CtxAddress(v.vote.validator);
        lib::RoundSignature::new(kind(&v.vote), value, address, CtxSignature(v.signature))
    };
    lib::RoundCertificate {
        height: CtxHeight(round.height),
        round: to_lib_round(round.round),
        cert_type: if round.is_skip {
            lib::RoundCertificateType::Skip
        } else {
            lib::RoundCertificateType::Precommit
        },
        round_signatures: round.votes.iter().map(wrap).collect(),
    }
}

pub(super) fn timeout_from_lib(timeout: lib::Timeout) -> Option<Timeout> {
    let kind = match timeout.kind {
        lib::TimeoutKind::Propose => TimeoutKind::Propose,
        lib::TimeoutKind::Prevote => TimeoutKind::Prevote,
        lib::TimeoutKind::Precommit => TimeoutKind::Precommit,
        lib::TimeoutKind::Rebroadcast => TimeoutKind::Rebroadcast,
        // There is no target time, and so no finalization period.
        lib::TimeoutKind::FinalizeHeight(_) => return None,
    };
    Some(Timeout { kind, round: from_lib_round(timeout.round) })
}

pub(super) fn timeout_to_lib(timeout: Timeout) -> lib::Timeout {
    let kind = match timeout.kind {
        TimeoutKind::Propose => lib::TimeoutKind::Propose,
        TimeoutKind::Prevote => lib::TimeoutKind::Prevote,
        TimeoutKind::Precommit => lib::TimeoutKind::Precommit,
        TimeoutKind::Rebroadcast => lib::TimeoutKind::Rebroadcast,
    };
    lib::Timeout::new(to_lib_round(timeout.round), kind)
}

/// A received message as an input.
pub(super) fn received(message: Message) -> Input<Ctx> {
    match message {
        Message::Vote(vote) => {
            Input::Vote(SignedMessage::new(vote.vote.into(), CtxSignature(vote.signature)))
        }
        Message::Proposal(proposal) => {
            let signature = CtxSignature(proposal.signature);
            Input::Proposal(SignedMessage::new(proposal.proposal.into(), signature))
        }
        Message::PolkaCertificate(polka) => Input::PolkaCertificate(polka_to_lib(&polka)),
        Message::RoundCertificate(round) => Input::RoundCertificate(round_to_lib(&round)),
    }
}
