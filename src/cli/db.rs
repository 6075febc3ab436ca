//! `db`: the databases of a stopped node.

mod check;
mod compact;
mod repair;
mod salvage;

use std::fs;
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::offline::Directory;
use super::{CliError, Output};
use crate::chain::ChainError;

/// What to do with the databases.
#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Verify every page, block, certificate, state entry and index entry, and the logs beside them
    Check(DbArgs),
    /// Mend what `check` finds damaged; what cannot be mended here is fetched from peers later
    Repair(repair::RepairArgs),
    /// Show tables, their entries and bytes
    Stats(DbArgs),
    /// Give unused space of the database files back; takes minutes for tens of gigabytes
    Compact(DbArgs),
    /// Delete the chain; keys, genesis and configuration stay
    Reset(ResetArgs),
}

/// Which databases.
#[derive(Debug, Args)]
pub struct DbArgs {
    /// Data directory of the stopped node
    #[arg(long, value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,
    /// Genesis document of the chain [default: genesis.json in the data directory]
    #[arg(long, value_name = "FILE")]
    pub genesis: Option<PathBuf>,
}

/// Arguments of `db reset`.
#[derive(Debug, Args)]
#[command(
    after_help = "The signer's record stays: with it, the node never signs two blocks for one height, \
even after a reset. On a chain that nobody else follows, --forget-signer removes it, too."
)]
pub struct ResetArgs {
    /// Which databases
    #[command(flatten)]
    pub db: DbArgs,
    /// Delete without asking
    #[arg(long)]
    pub yes: bool,
    /// Delete the signer's record as well: only if no other node ever saw this chain
    #[arg(long)]
    pub forget_signer: bool,
}

/// Does it.
///
/// # Errors
/// [`CliError`] if the databases cannot be opened, or a check fails.
pub fn run(command: &DbCommand, output: &Output) -> Result<(), CliError> {
    match command {
        DbCommand::Check(args) => check::run(args, output),
        DbCommand::Repair(args) => repair::run(args, output),
        DbCommand::Stats(args) => stats(args, output),
        DbCommand::Compact(args) => compact::compact(args, output),
        DbCommand::Reset(args) => reset(args, output),
    }
}

fn stats(args: &DbArgs, output: &Output) -> Result<(), CliError> {
    let directory = Directory::new(&args.data_dir, args.genesis.as_deref())?;
    let stores = directory.stores(false)?;
    let mut lines = Vec::new();
    let mut databases = serde_json::Map::new();
    for (name, store) in stores.named() {
        let file = directory.file(&format!("{name}.redb"));
        let bytes = fs::metadata(&file).map_or(0, |meta| meta.len());
        lines.push(format!("{name}: {bytes} bytes on disk"));
        let tables = store.stats().map_err(ChainError::from)?;
        for table in &tables {
            lines.push(format!(
                "  {:<16} {:>12} entries {:>14} bytes",
                table.name, table.entries, table.stored_bytes
            ));
        }
        let tables: Vec<Value> = tables
            .iter()
            .map(|t| json!({ "table": t.name, "entries": t.entries, "bytes": t.stored_bytes }))
            .collect();
        databases.insert(name.to_owned(), json!({ "file_bytes": bytes, "tables": tables }));
    }
    output.result(&Value::Object(databases), &lines)
}

fn reset(args: &ResetArgs, output: &Output) -> Result<(), CliError> {
    let directory = Directory::new(&args.db.data_dir, args.db.genesis.as_deref())?;
    // A running node holds the lock; a damaged file is what a reset is for.
    if let Err(error) = directory.stores(false)
        && error.message.contains("already open")
    {
        return Err(error);
    }
    let question = format!("Delete the chain in {}? [y/N]", args.db.data_dir.display());
    confirm(args.yes, "db reset deletes the chain", &question)?;
    let root = directory.root;
    let mut doomed: Vec<PathBuf> =
        ["blocks.redb", "state.redb", "index.redb"].map(|name| directory.file(name)).into();
    doomed.extend(["mempool.journal", "consensus.log"].map(|name| root.join(name)));
    if args.forget_signer {
        doomed.push(root.join("signer.record"));
    }
    let mut deleted = Vec::new();
    for path in doomed {
        match fs::remove_file(&path) {
            Ok(()) => deleted.push(path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(CliError::failed("file_io", format!("{}: {error}", path.display())));
            }
        }
    }
    let mut lines: Vec<_> =
        deleted.iter().map(|path| format!("deleted {}", path.display())).collect();
    let kept = root.join("signer.record");
    if kept.exists() {
        let kept = kept.display();
        lines.push(format!("kept {kept}: with it the key signs no height twice"));
        lines.push(
            "for a chain that begins anew, and that nobody else saw, add --forget-signer"
                .to_owned(),
        );
    }
    output.result(&json!({ "deleted": deleted }), &lines)
}

/// Asks whether to do it, unless that was said with `--yes`.
fn confirm(is_confirmed: bool, about: &str, question: &str) -> Result<(), CliError> {
    if is_confirmed {
        return Ok(());
    }
    let no = |message: String| CliError::usage("not_confirmed", message).hint("add --yes");
    if !std::io::stdin().is_terminal() {
        return Err(no(format!("{about} and asks before, but nobody is there to answer")));
    }
    Output::new(false).note(question);
    let mut answer = String::new();
    let _ = std::io::stdin().lock().read_line(&mut answer);
    if answer.trim().eq_ignore_ascii_case("y") {
        Ok(())
    } else {
        Err(no("nothing was changed".to_owned()))
    }
}
