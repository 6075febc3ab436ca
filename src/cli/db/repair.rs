//! `db repair`: brings a damaged data directory back to what can be proven.
//!
//! What is damaged is moved aside, never deleted. An index is made again from blocks and
//! state, a state from blocks, and of damaged blocks those are kept that hang together from
//! genesis on; the others come from peers when the node runs.

use std::fs;
use std::path::{Path, PathBuf};

use ait_engine::types::Height;
use ait_storage::Mend;
use clap::Args;
use serde_json::json;

use super::check::{self, BLOCKS, Checked, GENESIS, INDEX, JOURNAL, LOG, RECORD, STATE};
use super::salvage::{self, salvage};
use super::{DbArgs, Output, confirm};
use crate::chain::{ChainOptions, Index, OpenProgress, StateStore};
use crate::cli::offline::Directory;
use crate::cli::{CliError, progress};
use crate::keystore;
use crate::mempool::Journal;
use crate::replay::rebuild;

/// Arguments of `db repair`.
#[derive(Debug, Args)]
#[command(after_help = "Checks first, as `db check` does, and touches only what is damaged:
  index    made again from blocks and state
  state    made again by executing the blocks
  blocks   a header that does not fit the file is mended on a copy; otherwise the good ones from
           genesis on are kept and executed, and peers have the others
  log      moved aside whole and begun anew: a validator signs nothing at the height under way; one
           that is alone and had signed there does not start without a copy
Checks again at its end, and fails if anything is still damaged. Damaged files stay beside the new ones as NAME.damaged. The signer's record is never touched.")]
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
    /// With which header; 0: as the file is
    #[arg(long, value_name = "NUMBER", hide = true, default_value_t = 0)]
    pub header: usize,
}

pub(super) fn run(args: &RepairArgs, output: &Output) -> Result<(), CliError> {
    let directory = Directory::new(&args.db.data_dir, args.db.genesis.as_deref())?;
    if let Some(out) = &args.salvage {
        return salvage::read(&directory, out, args.header, output);
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
    let (mut done, mut checked) = (Done::default(), checked);
    // What damage hid is found by the next look.
    for _ in 0..ROUNDS_MAX {
        let before = done.said.len();
        repair(&directory, &checked, output, &mut done)?;
        checked = check::check(&directory, output)?;
        if checked.findings.is_empty() || done.said.len() == before {
            break;
        }
    }
    let failure = done.failure(&checked);
    let object = json!({
        "ok": failure.is_none(), "repaired": done.said, "kept": done.aside,
        "findings": checked.findings, "height": checked.whole.as_ref().map(|whole| whole.0),
    });
    let aside = done.aside.iter().map(|path| format!("kept {}", path.display()));
    let left = checked.findings.iter().map(|one| format!("{}: {}", one.file, one.what));
    let lines: Vec<_> = done.said.iter().cloned().chain(aside).chain(left).collect();
    output.result(&object, &lines)?;
    failure.map_or(Ok(()), Err)
}

/// How often what is found is repaired at most.
const ROUNDS_MAX: usize = 4;

/// What was done.
#[derive(Debug, Default)]
struct Done {
    said: Vec<String>,
    /// Where damaged files are now.
    aside: Vec<PathBuf>,
    /// Whether no block is left of a chain that had some.
    is_nothing_kept: bool,
}

impl Done {
    /// Why it is not well after all, if it is not.
    fn failure(&self, checked: &Checked) -> Option<CliError> {
        let aside = self.aside.iter().map(|path| path.display().to_string());
        let aside = aside.collect::<Vec<_>>().join(", ");
        if checked.has(RECORD) {
            let message = "signer.record is damaged, and nobody else knows what this key signed";
            return Some(CliError::failed("signer_failed", message).hint(
                "restore this machine's newest copy; or run with --follow, and let a new key validate",
            ));
        }
        if self.is_nothing_kept {
            let message = format!("no block could be kept; {aside} has what there was");
            return Some(CliError::failed("nothing_kept", message).hint(
                "put a copy of the data directory back; without one, a node that follows starts \
                 anew and gets the blocks from its peers",
            ));
        }
        let left: Vec<_> = checked.findings.iter().map(|finding| finding.file).collect();
        (!left.is_empty()).then(|| {
            let message = format!("still damaged: {}", left.join(", "));
            let hint = if aside.is_empty() {
                "put a copy of the data directory back, or follow peers that have the blocks"
                    .to_owned()
            } else {
                format!(
                    "put a copy of the data directory back, or follow peers that have the blocks; \
                     {aside} has what there was"
                )
            };
            CliError::failed("not_repaired", message).hint(hint)
        })
    }

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

pub(super) fn file_error(path: &Path, error: &std::io::Error) -> CliError {
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
        return repair_blocks(directory, checked, output, done);
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
        // Of a node that keeps no index none is made.
        let index = checked.has_index || checked.has(INDEX);
        let options = ChainOptions { index, ..ChainOptions::default() };
        let writer = directory.open_with(&stores, &text, &options, &mut |progress| {
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

/// Gets back what the file of blocks still has.
fn repair_blocks(
    directory: &Directory<'_>,
    checked: &Checked,
    output: &Output,
    done: &mut Done,
) -> Result<(), CliError> {
    let reached = checked.reached.unwrap_or_default();
    let (salvaged, faults) = salvage(directory, reached)?;
    done.said.extend(faults);
    done.is_nothing_kept = salvaged.blocks == 0 && checked.reached != Some(Height::ZERO);
    let head = Height::saturating(salvaged.blocks);
    let repaired = match &salvaged.mend {
        Some(mend) if salvaged.is_whole => mend_blocks(directory, mend, done),
        // The file is good and has no more: what was made of more has to go.
        None if salvaged.is_whole && head < reached => forget_more(directory, head, done),
        _ => rebuild_all(directory, &salvaged.archive, output, done),
    };
    salvaged.remove();
    repaired
}

/// Puts a copy of the file with another header in its place.
fn mend_blocks(directory: &Directory<'_>, mend: &Mend, done: &mut Done) -> Result<(), CliError> {
    let path = directory.root.join(BLOCKS);
    let copy = path.with_extension("redb.mended");
    let copied = fs::copy(&path, &copy).and_then(|_| mend.apply(&copy));
    copied.map_err(|error| file_error(&copy, &error))?;
    done.move_aside(&path)?;
    let named = fs::rename(&copy, &path).and_then(|()| keystore::sync_directory(&path));
    named.map_err(|error| file_error(&path, &error))?;
    done.said.push(format!("{BLOCKS}: its header was mended, every page of it is good"));
    Ok(())
}

/// Moves aside what was made of more blocks than there are; what is missing is made again.
fn forget_more(directory: &Directory<'_>, head: Height, done: &mut Done) -> Result<(), CliError> {
    let state = directory.verified("state").map(|state| StateStore::height_in(&*state));
    let index = directory.verified("index").map(|index| Index::existing(index).height());
    let (state, index) = (state.map(|height| height.ok().flatten()), index.map(Result::ok));
    for (file, height) in [(STATE, state), (INDEX, index)] {
        if let Ok(Some(height)) = height
            && height > head
        {
            done.move_aside(&directory.root.join(file))?;
            done.said.push(format!("{file}: of {height} blocks, of which {head} are left"));
        }
    }
    Ok(())
}

/// Executes the good blocks into new databases, and puts these in the place of the old ones.
fn rebuild_all(
    directory: &Directory<'_>,
    archive: &Path,
    output: &Output,
    done: &mut Done,
) -> Result<(), CliError> {
    let (old, new) = (directory.root.join("chain"), directory.root.join("chain.new"));
    match fs::remove_dir_all(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(file_error(&new, &error));
        }
        _ => {}
    }
    let bar = progress::bar(output, 0, "blocks");
    let rebuilt = rebuild(archive, &new, &mut |read, total| {
        bar.set_length(total);
        bar.set_position(read);
    });
    bar.finish_and_clear();
    let rebuilt = rebuilt?;
    done.move_aside(&old)?;
    fs::rename(&new, &old).map_err(|error| file_error(&new, &error))?;
    let height = rebuilt.final_height;
    done.said.push(format!(
        "{BLOCKS}: kept and executed {height} blocks; what came after comes from peers"
    ));
    if let Some(difference) = rebuilt.first_difference {
        done.said.push(format!("block {}: {}", difference.height, difference.what));
    }
    Ok(())
}
