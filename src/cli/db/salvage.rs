//! What a damaged file of blocks still has. It is read as it is and with each header that it may
//! have had, each time by a process of its own, which pages that make no sense may end; nothing of
//! it is changed.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use ait_engine::types::Height;
use ait_storage::{Mend, RedbOptions, RedbStorage, StorageErrorKind};
use serde_json::{Value, json};

use super::Output;
use super::check::BLOCKS;
use super::repair::file_error;
use crate::archive::{ArchiveReader, ArchiveWriter};
use crate::chain::{BlockStore, ChainError};
use crate::cli::CliError;
use crate::cli::offline::Directory;

/// What was read of the file.
#[derive(Debug)]
pub(super) struct Salvaged {
    /// Header that it takes; none: as the file is.
    pub mend: Option<Mend>,
    /// Blocks that follow from genesis on.
    pub blocks: u64,
    /// Whether these are all of the file, and every page of it is good.
    pub is_whole: bool,
    /// Archive of the blocks.
    pub archive: PathBuf,
}

/// Reads the file in every way, until all blocks up to `reached` are there. Gives the one that
/// shows most, and what went wrong.
pub(super) fn salvage(
    directory: &Directory<'_>,
    reached: Height,
) -> Result<(Salvaged, Vec<String>), CliError> {
    let mends = Mend::all(directory.file("blocks.redb")).unwrap_or_default();
    let mut faults = Vec::new();
    let mut read = |header: usize, mend: Option<Mend>| -> Result<Salvaged, CliError> {
        let archive = directory.root.join(format!("salvaged-{header}.ait"));
        let (is_whole, fault) = read_apart(directory, &archive, header)?;
        // Most headers are not those of this file.
        faults.extend(fault.filter(|_| header == 0));
        Ok(Salvaged { mend, blocks: count(&archive), is_whole, archive })
    };
    let mut best = read(0, None)?;
    for (header, mend) in (1..).zip(mends) {
        if best.is_whole && best.blocks >= reached.get() {
            break;
        }
        let other = read(header, Some(mend))?;
        let is_better = (other.blocks, other.is_whole) > (best.blocks, best.is_whole);
        let worse = if is_better { std::mem::replace(&mut best, other) } else { other };
        worse.remove();
    }
    Ok((best, faults))
}

impl Salvaged {
    /// Removes the archive.
    pub(super) fn remove(&self) {
        let _ = fs::remove_file(&self.archive);
    }
}

/// Has a process read the file; whether it found it whole, and what it ended with otherwise. The
/// archive has what was read until then.
fn read_apart(
    directory: &Directory<'_>,
    archive: &Path,
    header: usize,
) -> Result<(bool, Option<String>), CliError> {
    let _ = fs::remove_file(archive);
    let program = std::env::current_exe().map_err(|error| CliError::new(&error, ""))?;
    let mut command = Command::new(program);
    command.args(["db", "repair", "--json", "--data-dir"]).arg(directory.root);
    command.arg("--salvage").arg(archive).args(["--header", &header.to_string()]);
    if let Some(genesis) = directory.genesis_file() {
        command.arg("--genesis").arg(genesis);
    }
    let ended = command.stdin(Stdio::null()).output();
    let ended = ended.map_err(|error| CliError::new(&error, ""))?;
    if ended.status.success() {
        let said = serde_json::from_slice::<Value>(&ended.stdout).ok();
        return Ok((said.is_some_and(|said| said["is_whole"] == true), None));
    }
    let words = String::from_utf8_lossy(&ended.stderr);
    let last = words.lines().last().unwrap_or_default();
    let said = serde_json::from_str::<Value>(last).ok();
    let said = said.as_ref().and_then(|said| said["message"].as_str()).unwrap_or(last);
    let fault = format!("{BLOCKS}: what read it ended with {}: {said}", ended.status);
    Ok((false, Some(fault)))
}

/// Blocks of an archive that may break off.
fn count(archive: &Path) -> u64 {
    let Ok(file) = File::open(archive) else { return 0 };
    let Ok(mut reader) = ArchiveReader::begin(BufReader::new(file)) else { return 0 };
    (0..).find(|_| !matches!(reader.next_block(), Ok(Some(_)))).unwrap_or(0)
}

/// Writes the good blocks from genesis on to an archive, each at once.
pub(super) fn read(
    directory: &Directory<'_>,
    out: &Path,
    header: usize,
    output: &Output,
) -> Result<(), CliError> {
    let text = directory.genesis()?;
    let failed = |error| CliError::failed("archive", format!("{}: {error}", out.display()));
    let file = File::create(out).map_err(|error| file_error(out, &error))?;
    let first = Height::saturating(1);
    let mut archive = ArchiveWriter::begin(file, &text, first).map_err(failed)?;
    let path = directory.file("blocks.redb");
    let mend = match header.checked_sub(1) {
        None => None,
        Some(at) => Mend::all(&path).map_err(ChainError::from)?.into_iter().nth(at),
    };
    let open = |verify| {
        let options = RedbOptions { verify, ..RedbOptions::default() };
        RedbStorage::open_unchanged(&path, mend.as_ref(), &options)
    };
    let (storage, is_verified) = match open(true) {
        Ok(storage) => (storage, true),
        Err(error) if error.kind() == StorageErrorKind::Corrupt => {
            (open(false).map_err(ChainError::from)?, false)
        }
        Err(error) => return Err(ChainError::from(error).into()),
    };
    let blocks = BlockStore::existing(Arc::new(storage));
    let mut parent = blocks.header(Height::ZERO)?.map(|(id, _)| id);
    let (mut height, mut next) = (Height::ZERO, Some(first));
    while let Some(at) = next {
        let Ok(Some(block)) = blocks.block(at) else { break };
        let Some(certificate) = &block.certificate else { break };
        if parent.replace(block.id) != Some(block.block.header.parent) {
            break;
        }
        archive.add(&block.block, certificate).map_err(failed)?;
        (height, next) = (at, at.next());
    }
    archive.end().map_err(failed)?;
    let is_whole = is_verified && blocks.height().is_ok_and(|newest| newest == height);
    output.result(&json!({ "blocks": height.get(), "is_whole": is_whole }), &[])
}
