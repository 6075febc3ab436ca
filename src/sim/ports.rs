//! The ports of consensus around what ships: the log and the signer, whose files meet what the
//! device has for them.

use std::fs;
use std::path::PathBuf;

use ait_engine::crypto::{SecretKey, Signature};
use ait_engine::types::Height;
use ait_engine::vote::{ProposalMessage, Vote};

use super::Bug;
use super::device::{Device, Part, Strike};
use super::plan::chain_id;
use crate::consensus::{FileSigner, LogWriter, VoteSigner, WriteAheadLog};
use crate::disk::WriteFault;

/// The log.
pub(super) struct SimLog {
    inner: LogWriter,
    path: PathBuf,
    device: Device,
}

impl SimLog {
    pub(super) fn new(inner: LogWriter, path: PathBuf, device: Device) -> Self {
        device.opened(&path);
        Self { inner, path, device }
    }
}

impl WriteAheadLog for SimLog {
    fn begin(&mut self, height: Height) -> Result<(), WriteFault> {
        match self.device.write(Part::Log) {
            Some(strike @ (Strike::Full | Strike::Gone)) => Err(strike.text().into()),
            strike => {
                self.inner.begin(height)?;
                strike.map_or(Ok(()), |strike| Err(strike.text().into()))
            }
        }
    }

    fn append(&mut self, entry: &[u8]) -> Result<(), WriteFault> {
        self.device.appends();
        self.inner.append(entry)
    }

    fn flush(&mut self) -> Result<(), WriteFault> {
        match self.device.write(Part::Log) {
            None => self.inner.flush()?,
            Some(strike @ (Strike::Full | Strike::Gone)) => return Err(strike.text().into()),
            Some(strike) => {
                let before = fs::read(&self.path)?;
                self.inner.flush()?;
                if strike == Strike::Short {
                    let after = fs::read(&self.path)?;
                    fs::write(&self.path, self.device.overwritten(&before, &after))?;
                }
                return Err(strike.text().into());
            }
        }
        if !self.inner.is_synced() {
            return Ok(());
        }
        Ok(self.device.log_synced(&self.path)?)
    }
}

/// The signer.
pub(super) struct SimSigner {
    inner: FileSigner,
    key: SecretKey,
    path: PathBuf,
    device: Device,
    bug: Option<Bug>,
    has_signed: bool,
}

impl SimSigner {
    pub(super) fn new(
        inner: FileSigner,
        key: SecretKey,
        path: PathBuf,
        device: Device,
        bug: Option<Bug>,
    ) -> Self {
        Self { inner, key, path, device, bug, has_signed: false }
    }

    /// Writes the record, which meets what the device has for it.
    fn write(&mut self) -> Result<(), WriteFault> {
        let Some(strike) = self.device.write(Part::Log) else { return self.inner.flush() };
        if strike == Strike::Gone {
            return Err(strike.text().into());
        }
        let before = fs::read(&self.path)?;
        self.inner.flush()?;
        let after = fs::read(&self.path)?;
        fs::write(&self.path, self.device.overwritten(&before, &after))?;
        Err(strike.text().into())
    }
}

impl VoteSigner for SimSigner {
    fn sign_vote(&mut self, vote: &Vote) -> Result<Signature, WriteFault> {
        if matches!(self.bug, Some(Bug::NoRecord)) {
            return Ok(self.key.sign(vote.sign_hash(&chain_id()).as_bytes()));
        }
        self.device.signs();
        self.has_signed = true;
        self.inner.sign_vote(vote)
    }

    fn sign_proposal(&mut self, proposal: &ProposalMessage) -> Result<Signature, WriteFault> {
        if matches!(self.bug, Some(Bug::NoRecord)) {
            return Ok(self.key.sign(proposal.sign_hash(&chain_id()).as_bytes()));
        }
        self.device.signs();
        self.has_signed = true;
        self.inner.sign_proposal(proposal)
    }

    fn flush(&mut self) -> Result<(), WriteFault> {
        if !std::mem::take(&mut self.has_signed) {
            return Ok(());
        }
        self.device.records();
        self.write()?;
        if self.inner.is_synced() {
            self.device.record_synced();
        }
        Ok(())
    }
}
