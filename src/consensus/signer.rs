//! The signer with its record: the last thing that it signed, in a file of its own.
//!
//! The record is synced before a signature leaves. It only goes forward in (height,
//! round, step); at the same place it signs the same again and nothing else. Two
//! slots are written in turn, so that a torn write leaves the one before.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ait_engine::crypto::{SecretKey, Signature};
use ait_engine::types::{ChainId, Hash, Height, Round};
use ait_engine::vote::{ProposalMessage, Vote, VoteKind};

use malachitebft_core_consensus::Input;

use super::entry;
use super::file_log::Logged;
use super::port::VoteSigner;
use crate::keystore;
use crate::telemetry::Stage;

const MAGIC: &[u8; 8] = b"AITSIGN1";
const SLOT_BYTES: usize = 128;
/// Places of a record that are read; two are written.
const SLOT_COUNT_MAX: usize = 4;

/// Why the signer cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The record cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others may read or write the record.
    #[error(
        "the signer's record {} is open to others (mode {mode:03o}), and who winds it back makes \
         this validator sign twice; run: chmod 600 {}", .path.display(), .path.display()
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The record cannot be read: nobody knows what was signed.
    #[error(
        "the signer's record {path} is damaged, and signing without it could sign twice; restore it, \
         or if this validator has certainly not signed above the height of the chain, delete it"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// A place in the order of signing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    height: Height,
    round: Round,
    /// 0 proposal, 1 prevote, 2 precommit.
    step: u8,
}

/// The last thing signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signed {
    place: Place,
    hash: Hash,
}

/// Signs votes and proposals of one validator.
#[derive(Debug)]
pub struct FileSigner {
    key: SecretKey,
    chain_id: ChainId,
    file: File,
    last: Option<Signed>,
    next_slot: u64,
}

impl FileSigner {
    /// Opens the record at `path`, or begins one.
    ///
    /// # Errors
    /// [`SignerError`] when the file cannot be used or is damaged.
    pub fn open(path: &Path, chain_id: ChainId, key: SecretKey) -> Result<Self, SignerError> {
        let io = |source| SignerError::Io { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path).map_err(io)?;
        if let Some(mode) = keystore::allows(&file.metadata().map_err(io)?, keystore::TO_OTHERS) {
            return Err(SignerError::Permissions { path: path.to_owned(), mode });
        }
        // A record whose name is lost in a power cut would let the next start sign again.
        keystore::sync_directory(path).map_err(io)?;
        let mut bytes = Vec::new();
        let most = (SLOT_COUNT_MAX * SLOT_BYTES) as u64;
        (&mut file).take(most).read_to_end(&mut bytes).map_err(io)?;
        let slots = read_slots(&bytes);
        let last = slots.iter().flatten().copied().max_by_key(|signed| signed.place);
        // A first slot that was torn while it was written was never signed upon; a damaged
        // file with both slots was.
        if last.is_none() && bytes.len() >= SLOT_BYTES {
            return Err(SignerError::Damaged { path: path.to_owned() });
        }
        let newest = slots.iter().position(|slot| slot.is_some() && *slot == last);
        let next_slot = newest.map_or(0, |slot| 1 - (slot as u64).min(1));
        Ok(Self { key, chain_id, file, last, next_slot })
    }

    /// Looks at a record without changing it: the height that was signed last, and whether one
    /// of its two places is of no use. None if there is no file or nothing was signed.
    ///
    /// # Errors
    /// [`SignerError`] when the file cannot be read or is damaged.
    pub fn inspect(path: &Path) -> Result<Option<(Height, bool)>, SignerError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(SignerError::Io { path: path.to_owned(), source }),
        };
        let slots = read_slots(&bytes);
        match slots.iter().flatten().max_by_key(|signed| signed.place) {
            Some(last) => Ok(Some((last.place.height, slots.contains(&None)))),
            None if bytes.len() < SLOT_BYTES => Ok(None),
            None => Err(SignerError::Damaged { path: path.to_owned() }),
        }
    }

    /// Height of the last thing signed, if anything was.
    #[must_use]
    pub fn height(&self) -> Option<Height> {
        self.last.map(|signed| signed.place.height)
    }

    /// Whether what was logged has a later signature of this key than the record: then the
    /// newer half of the record was damaged, and nobody knows what else was signed.
    #[must_use]
    pub fn is_behind(&self, (height, entries): &Logged) -> bool {
        let own = self.key.public_key().address();
        let places = entries.iter().filter_map(|bytes| {
            let (place, by) = match entry::decode(bytes).ok()? {
                Input::Vote(vote) => (vote_place(&vote.message.vote), vote.message.vote.validator),
                Input::Proposal(proposal) => {
                    let message = &proposal.message.message;
                    (proposal_place(message), message.proposer)
                }
                _ => return None,
            };
            (by == own && place.height == *height).then_some(place)
        });
        places.max() > self.last.map(|signed| signed.place)
    }

    fn sign(&mut self, place: Place, hash: Hash) -> Result<Signature, String> {
        let signed = Signed { place, hash };
        match self.last {
            Some(last) if last == signed => return Ok(self.key.sign(hash.as_bytes())),
            Some(last) if place < last.place => {
                return Err(format!(
                    "{place:?} is before {:?}, which was signed already",
                    last.place
                ));
            }
            Some(last) if place == last.place => {
                return Err(format!("something else was signed already at {place:?}"));
            }
            _ => {}
        }
        self.write(&signed).map_err(|error| format!("the record cannot be written: {error}"))?;
        self.last = Some(signed);
        Ok(self.key.sign(hash.as_bytes()))
    }

    fn write(&mut self, signed: &Signed) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(self.next_slot * SLOT_BYTES as u64))?;
        self.file.write_all(&write_slot(signed))?;
        Stage::Vote.time(|| self.file.sync_data())?;
        self.next_slot = 1 - self.next_slot;
        Ok(())
    }
}

fn write_slot(signed: &Signed) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[..8].copy_from_slice(MAGIC);
    slot[8..16].copy_from_slice(&signed.place.height.get().to_le_bytes());
    slot[16..24].copy_from_slice(&signed.place.round.get().to_le_bytes());
    slot[24] = signed.place.step;
    slot[32..64].copy_from_slice(signed.hash.as_bytes());
    let sum = *blake3::hash(&slot[..64]).as_bytes();
    slot[64..96].copy_from_slice(&sum);
    slot
}

fn read_slots(bytes: &[u8]) -> Vec<Option<Signed>> {
    bytes.chunks(SLOT_BYTES).take(SLOT_COUNT_MAX).map(read_slot).collect()
}

fn read_slot(slot: &[u8]) -> Option<Signed> {
    let slot: &[u8; SLOT_BYTES] = slot.try_into().ok()?;
    let (data, sum) = (&slot[..64], &slot[64..96]);
    if !slot.starts_with(MAGIC) || sum != blake3::hash(data).as_bytes() {
        return None;
    }
    let integer = |at: usize| Some(u64::from_le_bytes(slot.get(at..at + 8)?.try_into().ok()?));
    let (height, round) = (Height::new(integer(8)?)?, Round::new(integer(16)?)?);
    let place = Place { height, round, step: slot[24] };
    Some(Signed { place, hash: Hash(slot.get(32..64)?.try_into().ok()?) })
}

const fn vote_place(vote: &Vote) -> Place {
    let step = match vote.kind {
        VoteKind::Prevote => 1,
        VoteKind::Precommit => 2,
    };
    Place { height: vote.height, round: vote.round, step }
}

const fn proposal_place(proposal: &ProposalMessage) -> Place {
    Place { height: proposal.height, round: proposal.round, step: 0 }
}

impl VoteSigner for FileSigner {
    fn sign_vote(&mut self, vote: &Vote) -> Result<Signature, String> {
        self.sign(vote_place(vote), vote.sign_hash(&self.chain_id))
    }

    fn sign_proposal(&mut self, proposal: &ProposalMessage) -> Result<Signature, String> {
        self.sign(proposal_place(proposal), proposal.sign_hash(&self.chain_id))
    }
}
