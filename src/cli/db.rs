//! `db`: the databases of a stopped node.

mod compact;

use std::fs;
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use ait_engine::state::{Claim, StateProof, StateView};
use ait_engine::types::Height;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::offline::Directory;
use super::{CliError, Output, progress};
use crate::chain::{ChainError, ChainWriter, Location};

/// What to do with the databases.
#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Verify every page, block, certificate, state entry and index entry
    Check(DbArgs),
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
        DbCommand::Check(args) => check(args, output),
        DbCommand::Stats(args) => stats(args, output),
        DbCommand::Compact(args) => compact::compact(args, output),
        DbCommand::Reset(args) => reset(args, output),
    }
}

fn bad(what: impl Into<String>) -> CliError {
    CliError::from(ChainError::Corrupt { what: what.into() })
}

fn check(args: &DbArgs, output: &Output) -> Result<(), CliError> {
    let directory = Directory::new(&args.data_dir, args.genesis.as_deref())?;
    let text = directory.genesis()?;
    let stores = directory.stores(true)?;
    let writer = directory.open(&stores, &text, &mut |_| {})?;
    writer.wait_until_indexed()?;
    let transactions = check_blocks(&writer, output)?;
    let entries = check_state(&writer, output)?;
    let (height, root) = (writer.height(), writer.parent().state_root);
    let object = json!({
        "ok": true, "height": height, "state_root": root,
        "transactions": transactions, "state_entries": entries,
    });
    let line = format!(
        "whole: {height} blocks, {transactions} transactions, {entries} state entries, state {root}"
    );
    output.result(&object, &[line])
}

/// Every block hangs on the one before, has its certificate and stands in the index.
fn check_blocks(writer: &ChainWriter, output: &Output) -> Result<u64, CliError> {
    let (chain, head) = (writer.chain(), writer.height().get());
    let bar = progress::bar(output, head + 1, "blocks");
    let mut parent = None;
    let mut transactions = 0;
    for height in 0..=head {
        let at = Height::saturating(height);
        let block = chain.block(at)?.ok_or_else(|| bad(format!("block {height} is missing")))?;
        let header = &block.block.header;
        if header.height != at || !block.block.body_matches_header() && height > 0 {
            return Err(bad(format!("the body of block {height} is not the one its header names")));
        }
        if parent.is_some_and(|parent| parent != header.parent) {
            return Err(bad(format!("block {height} does not follow block {}", height - 1)));
        }
        parent = Some(block.id);
        // The set of another epoch is not kept here; replay verifies those certificates.
        if height > 0 && header.validators_hash == writer.validators().hash() {
            let certificate = block.certificate.as_ref();
            let certificate =
                certificate.ok_or_else(|| bad(format!("block {height} has no certificate")))?;
            let set = writer.validators();
            certificate
                .verify(&header.chain_id, at, block.id, set)
                .map_err(|error| bad(format!("certificate of block {height}: {error}")))?;
        }
        if chain.height_of(&block.id)? != Some(at) {
            return Err(bad(format!("block {height} is not in the index; delete index.redb")));
        }
        for (index, hash) in (0_u32..).zip(&block.tx_hashes) {
            if chain.index().transaction(hash)? != Some(Location { height: at, index }) {
                let message = format!("transaction {hash} is not in the index; delete index.redb");
                return Err(bad(message));
            }
            transactions += 1;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(transactions)
}

/// Every state entry is found by its key and leads to the root of the newest header.
fn check_state(writer: &ChainWriter, output: &Output) -> Result<u64, CliError> {
    let state = writer.chain().state();
    let root = writer.parent().state_root;
    let count = state.entry_count().map_err(ChainError::from)?;
    let bar = progress::bar(output, count, "state");
    // The sentinel, which is number 0, is no entry of anybody.
    for number in 1..count {
        let leaf = state.leaf(number).map_err(ChainError::from)?;
        let proof = StateProof::new(&state, &leaf.key).map_err(ChainError::from)?;
        let claim = proof.verify(&root, &leaf.key);
        match claim {
            Ok(Claim::Present(value)) if value == leaf.value => {}
            Ok(_) => return Err(bad(format!("state entry {number} is not what its key leads to"))),
            Err(error) => return Err(bad(format!("state entry {number}: {error}"))),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(count)
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
    confirm(args)?;
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

fn confirm(args: &ResetArgs) -> Result<(), CliError> {
    if args.yes {
        return Ok(());
    }
    let no = |message: &str| CliError::usage("not_confirmed", message).hint("add --yes");
    if !std::io::stdin().is_terminal() {
        return Err(no(
            "db reset deletes the chain and asks before, but nobody is there to answer",
        ));
    }
    Output::new(false).note(&format!("Delete the chain in {}? [y/N]", args.db.data_dir.display()));
    let mut answer = String::new();
    let _ = std::io::stdin().lock().read_line(&mut answer);
    if answer.trim().eq_ignore_ascii_case("y") { Ok(()) } else { Err(no("nothing was deleted")) }
}
