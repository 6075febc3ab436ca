//! The signer with its record: the last thing that it signed, in a file of its own.
//!
//! The record is synced before a signature leaves, once for all that were made together
//! ([`VoteSigner::flush`]), and after the log has them: a crash between the two leaves a record
//! behind the log, which [`FileSigner::catch_up`] brings level. It only goes forward in
//! (height, round, step); at the same place it signs the same again and nothing else. Two
//! slots are written in turn, so that a torn write leaves the one before.

use std::fs::OpenOptions;
use std::io::{Read, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ait_engine::crypto::{SecretKey, Signature};
use ait_engine::types::{Address, ChainId, Hash, Height, Round};
use ait_engine::vote::{ProposalMessage, Vote, VoteKind};

use malachitebft_core_consensus::Input;

use super::entry;
use super::file_log::Logged;
use super::port::VoteSigner;
use crate::disk::WriteFault;
use crate::keystore;
use crate::synced::SyncedFile;
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

/// What [`FileSigner::inspect`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InspectedRecord {
    /// The height that was signed last.
    pub height: Height,
    /// Whether one of the two places is of no use.
    pub is_halved: bool,
    last: Signed,
}

impl InspectedRecord {
    /// As [`FileSigner::is_ahead`].
    #[must_use]
    pub fn is_ahead(&self, logged: &Logged, chain_id: &ChainId) -> bool {
        lacks(logged, self.last, chain_id)
    }
}

/// Votes and proposals of a log's own height, and whose they are.
fn signed_by(
    (height, entries): &Logged,
    chain_id: &ChainId,
) -> impl Iterator<Item = (Signed, Address)> {
    let signed = entries.iter().filter_map(move |bytes| match entry::input(bytes)? {
        Input::Vote(vote) => {
            let vote = vote.message.vote;
            let hash = vote.sign_hash(chain_id);
            Some((Signed { place: vote_place(&vote), hash }, vote.validator))
        }
        Input::Proposal(proposal) => {
            let message = proposal.message.message;
            let hash = message.sign_hash(chain_id);
            Some((Signed { place: proposal_place(&message), hash }, message.proposer))
        }
        _ => None,
    });
    signed.filter(move |(signed, _)| signed.place.height == *height)
}

fn lacks(logged: &Logged, last: Signed, chain_id: &ChainId) -> bool {
    logged.0 == last.place.height && !signed_by(logged, chain_id).any(|(signed, _)| signed == last)
}

/// Signs votes and proposals of one validator.
#[derive(Debug)]
pub struct FileSigner {
    key: SecretKey,
    chain_id: ChainId,
    file: SyncedFile,
    last: Option<Signed>,
    /// Whether the file has not been written since the last signature.
    is_dirty: bool,
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
        if last.is_none() && !is_first_torn(&bytes) {
            return Err(SignerError::Damaged { path: path.to_owned() });
        }
        let newest = slots.iter().position(|slot| slot.is_some() && *slot == last);
        let next_slot = newest.map_or(0, |slot| 1 - (slot as u64).min(1));
        let file = SyncedFile::new(file);
        Ok(Self { key, chain_id, file, last, is_dirty: false, next_slot })
    }

    /// Looks at a record without changing it. None if there is no file or nothing was signed.
    ///
    /// # Errors
    /// [`SignerError`] when the file cannot be read or is damaged.
    pub fn inspect(path: &Path) -> Result<Option<InspectedRecord>, SignerError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(SignerError::Io { path: path.to_owned(), source }),
        };
        let slots = read_slots(&bytes);
        match slots.iter().flatten().copied().max_by_key(|signed| signed.place) {
            Some(last) => {
                let is_halved = slots.contains(&None);
                Ok(Some(InspectedRecord { height: last.place.height, is_halved, last }))
            }
            None if is_first_torn(&bytes) => Ok(None),
            None => Err(SignerError::Damaged { path: path.to_owned() }),
        }
    }

    /// Height of the last thing signed, if anything was.
    #[must_use]
    pub fn height(&self) -> Option<Height> {
        self.last.map(|signed| signed.place.height)
    }

    /// Takes over what this key signed by the log, which is written first: a crash in between,
    /// or damage to the newer half of the record, leaves the record behind it. The log of the
    /// height under way has all that was signed there.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn catch_up(&mut self, logged: &Logged) -> std::io::Result<()> {
        let own = self.key.public_key().address();
        let signed = signed_by(logged, &self.chain_id).filter(|(_, by)| *by == own);
        let newest = signed.map(|(signed, _)| signed).max_by_key(|signed| signed.place);
        if newest.map(|signed| signed.place) > self.last.map(|signed| signed.place) {
            (self.last, self.is_dirty) = (newest, true);
        }
        self.write()
    }

    /// Whether the log is of the height of the record and lacks what was signed last, so that
    /// its end was damaged: what is signed is logged before.
    #[must_use]
    pub fn is_ahead(&self, logged: &Logged) -> bool {
        self.last.is_some_and(|last| lacks(logged, last, &self.chain_id))
    }

    fn sign(&mut self, place: Place, hash: Hash) -> Result<Signature, WriteFault> {
        let signed = Signed { place, hash };
        match self.last {
            Some(last) if last == signed => return Ok(self.key.sign(hash.as_bytes())),
            Some(last) if place < last.place => {
                return Err(format!(
                    "{place:?} is before {:?}, which was signed already",
                    last.place
                )
                .into());
            }
            Some(last) if place == last.place => {
                return Err(format!("something else was signed already at {place:?}").into());
            }
            _ => {}
        }
        (self.last, self.is_dirty) = (Some(signed), true);
        Ok(self.key.sign(hash.as_bytes()))
    }

    /// Whether all that was written is synced.
    pub(crate) fn is_synced(&self) -> bool {
        self.file.is_synced()
    }

    fn write(&mut self) -> std::io::Result<()> {
        let Some(signed) = self.last.filter(|_| self.is_dirty) else { return Ok(()) };
        self.file.seek(SeekFrom::Start(self.next_slot * SLOT_BYTES as u64))?;
        self.file.write_all(&write_slot(&signed))?;
        Stage::Vote.time(|| self.file.sync_data())?;
        (self.next_slot, self.is_dirty) = (1 - self.next_slot, false);
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

/// Whether bytes without a good slot are a first one that was torn while it was written, and so
/// never signed upon: cut short, or zeros before its sum was whole. With both slots, or anything
/// else in the place of the sum, they were damaged later.
fn is_first_torn(bytes: &[u8]) -> bool {
    let (Some(data), Some(sum)) = (bytes.get(..64), bytes.get(64..96)) else { return true };
    let right = blake3::hash(data);
    let written = sum.iter().zip(right.as_bytes()).take_while(|(found, right)| found == right);
    let is_unwritten = sum.iter().skip(written.count()).all(|byte| *byte == 0);
    bytes.len() < SLOT_BYTES || (bytes.len() == SLOT_BYTES && is_unwritten)
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
    fn sign_vote(&mut self, vote: &Vote) -> Result<Signature, WriteFault> {
        self.sign(vote_place(vote), vote.sign_hash(&self.chain_id))
    }

    fn sign_proposal(&mut self, proposal: &ProposalMessage) -> Result<Signature, WriteFault> {
        self.sign(proposal_place(proposal), proposal.sign_hash(&self.chain_id))
    }

    fn flush(&mut self) -> Result<(), WriteFault> {
        self.write()
            .map_err(|error| WriteFault::of(&"the signer's record cannot be written", &error))
    }
}
