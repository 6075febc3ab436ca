//! `db repair`: brings a damaged data directory back to what can be proven.
//!
//! What is damaged is moved aside, never deleted. An index is made again from blocks and
//! state, a state from blocks, and of damaged blocks those are kept that hang together from
//! genesis on; the others come from peers when the node runs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use ait_engine::types::Height;
use ait_storage::{RedbOptions, RedbStorage, Storage, StorageError};
use clap::Args;
use serde_json::json;

use super::check::{self, BLOCKS, Checked, GENESIS, INDEX, JOURNAL, LOG, RECORD, STATE};
use super::{DbArgs, Output, confirm};
use crate::archive::ArchiveWriter;
use crate::chain::{BlockStore, ChainError, OpenProgress};
use crate::cli::offline::Directory;
use crate::cli::{CliError, progress};
use crate::mempool::Journal;
use crate::replay::rebuild;

/// Arguments of `db repair`.
#[derive(Debug, Args)]
#[command(after_help = "Checks first, as `db check` does, and touches only what is damaged:
  index    made again from blocks and state
  state    made again by executing the blocks
  blocks   the good ones from genesis on are kept and executed; peers have the others
  log      begins anew, and a validator signs nothing at the height that was under way; on a
           chain with one validator, the entries before the damage are kept
Damaged files stay beside the new ones as NAME.damaged. The signer's record is never touched.")]
pub struct RepairArgs {
    /// Which databases
    #[command(flatten)]
    pub db: DbArgs,
    /// Repair without asking
    #[arg(long)]
    pub yes: bool,
    /// Only write the good blocks to this archive; what the repair itself runs
    #[arg(long, value_name = "FILE", hide = true)]
    pub salvage: Option<PathBuf>,
}

pub(super) fn run(args: &RepairArgs, output: &Output) -> Result<(), CliError> {
    let directory = Directory::new(&args.db.data_dir, args.db.genesis.as_deref())?;
    if let Some(out) = &args.salvage {
        return salvage(&directory, out);
    }
    let checked = check::check(&directory, output)?;
    for finding in &checked.findings {
        output.note(&format!("{}: {}", finding.file, finding.what));
    }
    if checked.findings.is_empty() {
        let line = "whole: there is nothing to repair".to_owned();
        return output.result(&json!({ "ok": true, "repaired": [], "kept": [] }), &[line]);
    }
    if checked.has(GENESIS) {
        let message = "without its genesis document nothing of a chain can be proven";
        return Err(CliError::failed("genesis_missing", message)
            .hint("copy genesis.json from another node of the chain, or name it with --genesis"));
    }
    let question = format!("Repair the chain in {}? [y/N]", args.db.data_dir.display());
    confirm(args.yes, "db repair changes the data directory", &question)?;
    let mut done = Done::default();
    repair(&directory, &checked, output, &mut done)?;
    let object = json!({ "ok": !checked.has(RECORD), "repaired": done.said, "kept": done.aside });
    let aside = done.aside.iter().map(|path| format!("kept {}", path.display()));
    let lines: Vec<_> = done.said.iter().cloned().chain(aside).collect();
    output.result(&object, &lines)?;
    if checked.has(RECORD) {
        let message = "signer.record is damaged, and nobody else knows what this key signed";
        return Err(CliError::failed("signer_failed", message).hint(
            "restore this machine's newest copy; or run with --follow, and let a new key validate",
        ));
    }
    Ok(())
}

/// What was done.
#[derive(Debug, Default)]
struct Done {
    said: Vec<String>,
    /// Where damaged files are now.
    aside: Vec<PathBuf>,
}

impl Done {
    /// Moves a file or directory out of the way.
    fn move_aside(&mut self, path: &Path) -> Result<(), CliError> {
        let free = (0_u32..).map(|number| {
            let mut name = path.to_path_buf().into_os_string();
            name.push(if number == 0 {
                ".damaged".to_owned()
            } else {
                format!(".damaged-{number}")
            });
            PathBuf::from(name)
        });
        let Some(aside) = free.into_iter().find(|path| !path.exists()) else { return Ok(()) };
        fs::rename(path, &aside).map_err(|error| file_error(path, &error))?;
        self.aside.push(aside);
        Ok(())
    }
}

fn file_error(path: &Path, error: &std::io::Error) -> CliError {
    CliError::failed("file_io", format!("{}: {error}", path.display()))
        .hint("check permissions and the room on the disk")
}

fn repair(
    directory: &Directory<'_>,
    checked: &Checked,
    output: &Output,
    done: &mut Done,
) -> Result<(), CliError> {
    let log = directory.root.join(LOG);
    if checked.has(LOG) {
        // A part of a log may lack what a validator is locked on, or has proposed.
        done.move_aside(&log)?;
        done.said.push(format!("{LOG}: begins anew; nothing is signed at the height under way"));
    }
    let journal = directory.root.join(JOURNAL);
    if checked.has(JOURNAL) && journal.exists() {
        let (_, recovered) = Journal::open(&journal).map_err(|error| {
            CliError::failed("file_io", error.to_string())
                .hint("check permissions and the room on the disk")
        })?;
        done.aside.extend(recovered.set_aside);
        let kept = recovered.transactions.len();
        done.said
            .push(format!("{JOURNAL}: made again with the {kept} transactions that are whole"));
    }
    if checked.has(BLOCKS) {
        return rebuild_all(directory, output, done);
    }
    for (file, name) in [(STATE, "state"), (INDEX, "index")] {
        if checked.has(file) && directory.root.join(file).exists() {
            done.move_aside(&directory.root.join(file))?;
        }
        if checked.has(file) {
            done.said.push(format!("{file}: the {name} was made again"));
        }
    }
    if checked.has(STATE) || checked.has(INDEX) {
        let text = directory.genesis()?;
        let stores = directory.stores(false)?;
        let bar = progress::bar(output, 0, "blocks");
        let writer = directory.open(&stores, &text, &mut |progress| {
            let OpenProgress::Replay { done, total } = progress;
            bar.set_length(total);
            bar.set_position(done);
        })?;
        bar.finish_and_clear();
        writer.wait_until_indexed()?;
        writer.write_checkpoint()?;
    }
    Ok(())
}

/// Keeps the good blocks: writes them to an archive, executes them into new databases, and
/// puts these in the place of the old ones.
fn rebuild_all(
    directory: &Directory<'_>,
    output: &Output,
    done: &mut Done,
) -> Result<(), CliError> {
    let (old, new) = (directory.root.join("chain"), directory.root.join("chain.new"));
    let archive = directory.root.join("salvaged.ait");
    for leftover in [&new, &archive] {
        let removed = if leftover.is_dir() {
            fs::remove_dir_all(leftover)
        } else {
            fs::remove_file(leftover)
        };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(file_error(leftover, &error));
            }
            _ => {}
        }
    }
    // In a process of its own: the engine may end it over pages that make no sense.
    let program = std::env::current_exe().map_err(|error| CliError::new(&error, ""))?;
    let mut command = Command::new(program);
    command.args(["db", "repair", "--data-dir"]).arg(directory.root).arg("--salvage").arg(&archive);
    if let Some(genesis) = directory.genesis_file() {
        command.arg("--genesis").arg(genesis);
    }
    let ended = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    ended.map_err(|error| CliError::new(&error, ""))?;
    let bar = progress::bar(output, 0, "blocks");
    let rebuilt = rebuild(&archive, &new, &mut |read, total| {
        bar.set_length(total);
        bar.set_position(read);
    });
    bar.finish_and_clear();
    let rebuilt = rebuilt?;
    done.move_aside(&old)?;
    fs::rename(&new, &old).map_err(|error| file_error(&new, &error))?;
    let _ = fs::remove_file(&archive);
    let height = rebuilt.final_height;
    done.said.push(format!(
        "{BLOCKS}: kept and executed {height} blocks; what came after comes from peers"
    ));
    if let Some(difference) = rebuilt.first_difference {
        done.said.push(format!("block {}: {}", difference.height, difference.what));
    }
    Ok(())
}

/// Writes the good blocks from genesis on to an archive, each at once.
fn salvage(directory: &Directory<'_>, out: &Path) -> Result<(), CliError> {
    let text = directory.genesis()?;
    let failed = |error| CliError::failed("archive", format!("{}: {error}", out.display()));
    let file = File::create(out).map_err(|error| file_error(out, &error))?;
    let first = Height::saturating(1);
    let mut archive = ArchiveWriter::begin(file, &text, first).map_err(failed)?;
    let path = directory.file("blocks.redb");
    let options = RedbOptions::default();
    let storage: Arc<dyn Storage> = match RedbStorage::open_read_only(&path, &options) {
        Err(StorageError::NeedsRecovery { .. }) => {
            Arc::new(RedbStorage::open(&path, &options).map_err(ChainError::from)?)
        }
        opened => Arc::new(opened.map_err(ChainError::from)?),
    };
    let blocks = BlockStore::existing(storage);
    let mut next = Some(first);
    while let Some(height) = next {
        let Ok(Some(block)) = blocks.block(height) else { break };
        let Some(certificate) = &block.certificate else { break };
        archive.add(&block.block, certificate).map_err(failed)?;
        next = height.next();
    }
    archive.end().map_err(failed)?;
    Ok(())
}
