//! Evidence: two signatures of a validator of which it may give one only, in a file that
//! anybody can check without a node.
//!
//! Written for people and courts of the chain: nothing here changes what the node does.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ait_engine::codec::Canonical;
use ait_engine::crypto::{self, PublicKey, Signature};
use ait_engine::types::{Address, BlockId, ChainId, Hash, Height, Round};
use ait_engine::vote::{ProposalMessage, SignedProposal, SignedVote, Vote, VoteKind};
use serde::{Deserialize, Serialize};

/// Most files that are kept: a validator that contradicts itself often is known by then.
const FILES_MAX: usize = 256;
/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 16 * 1_024;

/// A validator that contradicts itself, with both of its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Equivocation {
    /// Two votes of one place.
    Votes(SignedVote, SignedVote),
    /// Two proposals of one round.
    Proposals(SignedProposal, SignedProposal),
}

impl Equivocation {
    /// Who it is.
    #[must_use]
    pub const fn validator(&self) -> Address {
        match self {
            Self::Votes(first, _) => first.vote.validator,
            Self::Proposals(first, _) => first.proposal.proposer,
        }
    }
}

/// What two signatures are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceKind {
    /// Two prevotes of one round.
    Prevote,
    /// Two precommits of one round.
    Precommit,
    /// Two proposals of one round.
    Proposal,
}

impl EvidenceKind {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prevote => "prevote",
            Self::Precommit => "precommit",
            Self::Proposal => "proposal",
        }
    }
}

/// Something signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The canonical vote or proposal (`specs/encoding.md`), in hex.
    pub statement: String,
    /// The signature.
    pub signature: Signature,
}

/// Two contradictory statements of a validator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The chain.
    pub chain_id: ChainId,
    /// Who signed both.
    pub validator: Address,
    /// Its key.
    pub public_key: PublicKey,
    /// What both are.
    pub kind: EvidenceKind,
    /// Both statements.
    pub signed: [Statement; 2],
}

/// Why evidence proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no evidence.
    #[error("not a file of evidence: {0}")]
    Form(String),
    /// It proves nothing.
    #[error("the evidence proves nothing: {0}")]
    Nothing(&'static str),
}

/// What evidence proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proved {
    /// Height of both statements.
    pub height: Height,
    /// Round of both statements.
    pub round: Round,
    /// For which blocks; none is nil.
    pub blocks: [Option<BlockId>; 2],
}

impl Evidence {
    /// Of what consensus found.
    #[must_use]
    pub fn new(chain_id: ChainId, public_key: PublicKey, found: &Equivocation) -> Self {
        let one = |statement: &dyn Fn() -> Vec<u8>, signature: &Signature| Statement {
            statement: hex::encode(statement()),
            signature: *signature,
        };
        let (kind, signed) = match found {
            Equivocation::Votes(a, b) => {
                let kind = match a.vote.kind {
                    VoteKind::Prevote => EvidenceKind::Prevote,
                    VoteKind::Precommit => EvidenceKind::Precommit,
                };
                (kind, [a, b].map(|s| one(&|| s.vote.encode(), &s.signature)))
            }
            Equivocation::Proposals(a, b) => {
                let signed = [a, b].map(|s| one(&|| s.proposal.encode(), &s.signature));
                (EvidenceKind::Proposal, signed)
            }
        };
        Self { chain_id, validator: public_key.address(), public_key, kind, signed }
    }

    /// Checks it: two statements of one place that differ, both signed by the validator's
    /// key. Whether that key was a validator's is for the reader to know.
    ///
    /// # Errors
    /// [`EvidenceError`] naming what does not hold.
    pub fn verify(&self) -> Result<Proved, EvidenceError> {
        let nothing = |what| Err(EvidenceError::Nothing(what));
        if self.public_key.address() != self.validator {
            return nothing("the key is not the validator's");
        }
        let [a, b] = [self.read(&self.signed[0])?, self.read(&self.signed[1])?];
        if (a.height, a.round) != (b.height, b.round) {
            return nothing("the statements are of different rounds");
        }
        if a.encoded == b.encoded {
            return nothing("both statements are the same");
        }
        for (read, signed) in [&a, &b].into_iter().zip(&self.signed) {
            if crypto::verify(&self.public_key, &read.hash.0, &signed.signature).is_err() {
                return nothing("a signature is not the validator's");
            }
        }
        Ok(Proved { height: a.height, round: a.round, blocks: [a.block, b.block] })
    }

    fn read(&self, signed: &Statement) -> Result<Read, EvidenceError> {
        let form = |error: &dyn std::fmt::Display| EvidenceError::Form(error.to_string());
        let bytes = hex::decode(&signed.statement).map_err(|error| form(&error))?;
        if self.kind == EvidenceKind::Proposal {
            let signed = ProposalMessage::decode(&bytes).map_err(|error| form(&error))?;
            if signed.proposer != self.validator {
                return Err(EvidenceError::Nothing("a proposal is another validator's"));
            }
            let (height, round, block) = (signed.height, signed.round, Some(signed.block_id));
            let hash = signed.sign_hash(&self.chain_id);
            return Ok(Read { height, round, block, hash, encoded: bytes });
        }
        let vote = Vote::decode(&bytes).map_err(|error| form(&error))?;
        let is_prevote = vote.kind == VoteKind::Prevote;
        if vote.validator != self.validator || is_prevote != (self.kind == EvidenceKind::Prevote) {
            return Err(EvidenceError::Nothing(
                "a vote is another validator's, or of another kind",
            ));
        }
        let (height, round, block) = (vote.height, vote.round, vote.block_id);
        Ok(Read { height, round, block, hash: vote.sign_hash(&self.chain_id), encoded: bytes })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`EvidenceError`]: it cannot be read, or is no evidence.
    pub fn load(path: &Path) -> Result<Self, EvidenceError> {
        if fs::metadata(path)?.len() > FILE_BYTES_MAX {
            return Err(EvidenceError::Form(format!("longer than {FILE_BYTES_MAX} bytes")));
        }
        let text = fs::read_to_string(path)?;
        serde_json::from_str(&text).map_err(|error| EvidenceError::Form(error.to_string()))
    }

    /// Writes it into a data directory, unless there is evidence of the same place, or too
    /// much already; gives its path.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, data_dir: &Path) -> io::Result<PathBuf> {
        let directory = data_dir.join("evidence");
        let proved = self.verify().map_err(|error| io::Error::other(error.to_string()))?;
        let who = hex::encode(&self.validator.0[..8]);
        let (height, round, kind) = (proved.height, proved.round, self.kind.name());
        let path = directory.join(format!("{height}-{round}-{kind}-{who}.json"));
        fs::create_dir_all(&directory)?;
        if path.exists() {
            return Ok(path);
        }
        if fs::read_dir(&directory)?.count() >= FILES_MAX {
            return Err(io::Error::other(format!("there are {FILES_MAX} files of evidence")));
        }
        let staged = path.with_extension("new");
        let mut file = File::create(&staged)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(&staged, &path)?;
        File::open(&directory)?.sync_all()?;
        Ok(path)
    }
}

/// A statement, decoded.
struct Read {
    height: Height,
    round: Round,
    block: Option<BlockId>,
    hash: Hash,
    encoded: Vec<u8>,
}

/// Writes evidence and says in the log where it is. A node that cannot write it goes on.
pub fn report(data_dir: &Path, evidence: &Evidence) {
    metrics::counter!("consensus_equivocations_total").increment(1);
    let (validator, kind) = (evidence.validator, evidence.kind.name());
    let what = "a validator signed two things where one is allowed";
    match evidence.write(data_dir) {
        Ok(path) => {
            let path = path.display();
            tracing::error!(%validator, kind, %path, "{what}; see: ait-node explain {path}");
        }
        Err(error) => {
            let signed = &evidence.signed;
            tracing::error!(%validator, kind, ?signed, %error, "{what}; no file could be written");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ait_engine::crypto::SecretKey;

    use super::*;

    fn chain() -> ChainId {
        ChainId::from_bytes(b"evidence").unwrap()
    }

    fn key() -> SecretKey {
        SecretKey::from_seed([7; 32])
    }

    fn vote(round: u64, block: u8) -> SignedVote {
        let vote = Vote {
            kind: VoteKind::Precommit,
            height: Height::saturating(9),
            round: Round::saturating(round),
            block_id: (block > 0).then_some(BlockId([block; 32])),
            validator: key().public_key().address(),
        };
        SignedVote { vote, signature: key().sign(&vote.sign_hash(&chain()).0) }
    }

    fn votes(a: SignedVote, b: SignedVote) -> Evidence {
        Evidence::new(chain(), key().public_key(), &Equivocation::Votes(a, b))
    }

    #[test]
    fn two_votes_of_a_round_are_kept_once_and_proved_by_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let evidence = votes(vote(2, 1), vote(2, 0));
        let path = evidence.write(folder.path()).unwrap();
        assert_eq!(votes(vote(2, 3), vote(2, 1)).write(folder.path()).unwrap(), path);
        let loaded = Evidence::load(&path).unwrap();
        assert_eq!(loaded, evidence);
        let proved = loaded.verify().unwrap();
        assert_eq!((proved.height.get(), proved.round.get()), (9, 2));
        assert_eq!(proved.blocks, [Some(BlockId([1; 32])), None]);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.starts_with("9-2-precommit-") && name.ends_with(".json"), "{name}");
    }

    #[test]
    fn two_proposals_of_a_round_are_evidence() {
        let propose = |block: u8| {
            let proposal = ProposalMessage {
                height: Height::saturating(9),
                round: Round::saturating(1),
                block_id: BlockId([block; 32]),
                pol_round: None,
                proposer: key().public_key().address(),
            };
            let signature = key().sign(&proposal.sign_hash(&chain()).0);
            SignedProposal { proposal, signature }
        };
        let found = Equivocation::Proposals(propose(1), propose(2));
        let evidence = Evidence::new(chain(), key().public_key(), &found);
        assert_eq!(evidence.verify().unwrap().blocks[1], Some(BlockId([2; 32])));
        let same = Equivocation::Proposals(propose(1), propose(1));
        assert!(Evidence::new(chain(), key().public_key(), &same).verify().is_err());
    }

    #[test]
    fn what_proves_nothing_is_refused() {
        let good = votes(vote(2, 1), vote(2, 0));
        let other = SecretKey::from_seed([8; 32]);
        let mut forged = good.clone();
        forged.signed[1].signature = other.sign(b"something else");
        let mut stolen = good.clone();
        stolen.public_key = other.public_key();
        let mut elsewhere = good.clone();
        elsewhere.chain_id = ChainId::from_bytes(b"other").unwrap();
        let mut prevotes = good.clone();
        prevotes.kind = EvidenceKind::Prevote;
        let mut short = good;
        short.signed[0].statement.truncate(20);
        let rounds = votes(vote(2, 1), vote(3, 0));
        let same = votes(vote(2, 1), vote(2, 1));
        for bad in [forged, stolen, elsewhere, prevotes, short, rounds, same] {
            assert!(bad.verify().is_err(), "{bad:?}");
            assert!(bad.write(tempfile::tempdir().unwrap().path()).is_err());
        }
    }

    #[test]
    fn a_directory_holds_so_many_files_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..FILES_MAX as u64 {
            votes(vote(round, 1), vote(round, 0)).write(folder.path()).unwrap();
        }
        let surplus = votes(vote(1_000, 1), vote(1_000, 0));
        assert!(surplus.write(folder.path()).is_err());
    }
}
