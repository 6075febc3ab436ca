//! `replay`: execute archived blocks again and compare every root.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{CliError, Output, progress};
use crate::chain::StorageEngine;
use crate::replay::{ReplayError, Replayed, Signatures, replay};

/// Arguments of `replay`.
#[derive(Debug, Args)]
#[command(after_help = "Exit code 1 if any root differs; the first difference is named.

Examples:
  ait-node replay chain.ait
  ait-node replay chain.ait --engine redb --trust-signatures
  ait-node replay fixtures/blocks --diff redb,memory --json")]
pub struct ReplayArgs {
    /// An archive, or a directory of archives (files that end in .ait)
    pub path: PathBuf,
    /// Genesis document that the archive must begin with [default: the archive's own]
    #[arg(long, value_name = "FILE")]
    pub genesis: Option<PathBuf>,
    /// Storage engine to replay on: redb or memory
    #[arg(long, value_name = "ENGINE", default_value = "memory")]
    pub engine: StorageEngine,
    /// Take the signatures of transactions as good, because validators signed their block;
    /// the validators' own are verified all the same. Faster, and believes the validators
    #[arg(long)]
    pub trust_signatures: bool,
    /// Two storage engines to run side by side
    #[arg(
        long,
        value_name = "E1,E2",
        value_delimiter = ',',
        num_args = 1,
        conflicts_with = "engine"
    )]
    pub diff: Vec<StorageEngine>,
}

impl From<ReplayError> for CliError {
    fn from(error: ReplayError) -> Self {
        let (code, hint) = match &error {
            ReplayError::Open { .. } => ("file_io", "name an archive that ait-node export wrote"),
            ReplayError::Archive { .. } => ("archive", "export it again, or fetch another copy"),
            ReplayError::Genesis(_) => ("genesis_invalid", "export it again"),
            ReplayError::NotFromGenesis { .. } => ("not_from_genesis", "export with --from 1"),
            ReplayError::Chain(error) => (error.code(), error.hint()),
            ReplayError::Temporary(_) => ("file_io", "free room in the temporary directory"),
        };
        Self::failed(code, error.to_string()).hint(hint)
    }
}

/// The archives of a path.
fn archives(path: &Path) -> Result<Vec<PathBuf>, CliError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let io =
        |error: std::io::Error| CliError::failed("file_io", format!("{}: {error}", path.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io)? {
        let entry = entry.map_err(io)?.path();
        if entry.extension().is_some_and(|extension| extension == "ait") {
            found.push(entry);
        }
    }
    found.sort();
    if found.is_empty() {
        let message = format!("{} holds no archive", path.display());
        return Err(CliError::failed("no_archive", message).hint("archives end in .ait"));
    }
    Ok(found)
}

/// Does it.
///
/// # Errors
/// [`CliError`] if an archive cannot be read, or a root differs.
pub fn run(args: &ReplayArgs, output: &Output) -> Result<(), CliError> {
    let engines = match args.diff.len() {
        0 => vec![args.engine],
        2 => args.diff.clone(),
        _ => {
            let message = "--diff takes two storage engines";
            return Err(CliError::usage("diff", message).hint("for instance --diff redb,memory"));
        }
    };
    let genesis = args.genesis.as_deref().map(super::genesis::read).transpose()?;
    let genesis = genesis.map(|(_, genesis)| genesis);
    for path in archives(&args.path)? {
        let bar = progress::bar(output, 0, "replay");
        let signatures = if args.trust_signatures { Signatures::Trust } else { Signatures::Verify };
        let replayed = replay(&path, &engines, signatures, &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        let replayed = replayed?;
        if let Some(expected) = &genesis
            && replayed.genesis_hash != expected.block_id
        {
            let (found, expected) = (replayed.genesis_hash, expected.block_id);
            let message = format!("the archive's genesis is {found}, the one given is {expected}");
            return Err(CliError::failed("other_genesis", message).hint("it is of another chain"));
        }
        report(&path, &engines, &replayed, output)?;
    }
    Ok(())
}

fn report(
    path: &Path,
    engines: &[StorageEngine],
    found: &Replayed,
    output: &Output,
) -> Result<(), CliError> {
    let engines = engines.iter().map(ToString::to_string).collect::<Vec<_>>();
    let object = json!({
        "path": path,
        "engines": engines,
        "chain_id": found.chain_id,
        "genesis_hash": found.genesis_hash,
        "blocks": found.blocks,
        "transactions": found.transactions,
        "final_height": found.final_height,
        "state_root": found.state_root,
        "seconds": round(found.took.as_secs_f64()),
        "tps": round(per_second(found)),
        "ok": found.first_difference.is_none(),
        "first_difference": found.first_difference,
    });
    let (shown, engines, rate) = (path.display(), engines.join(" and "), per_second(found));
    let Some(difference) = &found.first_difference else {
        let line = format!(
            "{shown}: {} blocks, {} transactions on {engines}: every root is right; height {}, state {}",
            found.blocks, found.transactions, found.final_height, found.state_root
        );
        let speed = format!(
            "{rate:.0} transactions a second, in {:.1} s; genesis not counted",
            found.took.as_secs_f64()
        );
        let origin = format!("genesis {} of {}", found.genesis_hash, found.chain_id);
        return output.result(&object, &[line, speed, origin]);
    };
    let (height, on, what) = (difference.height, &difference.engine, &difference.what);
    let line = format!("{shown}: first difference at height {height} on {on}: {what}");
    output.result(&object, &[line])?;
    let message = format!("the replay differs at height {height}: {what}");
    let hint = "this program, its rules, or the archive is not the one that made the chain";
    Err(CliError::failed("replay_differs", message).hint(hint))
}

fn per_second(found: &Replayed) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let transactions = found.transactions as f64;
    transactions / found.took.as_secs_f64().max(f64::EPSILON)
}

/// To thousandths.
fn round(figure: f64) -> f64 {
    (figure * 1_000.0).round() / 1_000.0
}
