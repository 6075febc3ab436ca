//! `export`: the certified chain of a stopped node as a file.

use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use ait_engine::types::Height;
use clap::Args;
use serde_json::json;

use super::offline::Directory;
use super::{CliError, Output, progress};
use crate::archive::{ArchiveError, ArchiveWriter};
use crate::chain::Chain;

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(after_help = "The node must be stopped. Replay the file with `ait-node replay FILE`.

Example:
  ait-node export --data-dir ./data --out chain.ait")]
pub struct ExportArgs {
    /// Data directory of the stopped node
    #[arg(long, value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,
    /// Genesis document of the chain [default: genesis.json in the data directory]
    #[arg(long, value_name = "FILE")]
    pub genesis: Option<PathBuf>,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// First height; an archive that begins after 1 cannot be replayed alone
    #[arg(long, value_name = "HEIGHT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub from: u64,
    /// Last height [default: the newest]
    #[arg(long, value_name = "HEIGHT")]
    pub to: Option<u64>,
    /// Replace an existing file
    #[arg(long)]
    pub force: bool,
}

/// Does it.
///
/// # Errors
/// [`CliError`] if the chain cannot be read or the file cannot be written.
pub fn run(args: &ExportArgs, output: &Output) -> Result<(), CliError> {
    if args.out.exists() && !args.force {
        let message = format!("{} exists already", args.out.display());
        return Err(CliError::failed("file_exists", message).hint("add --force to replace it"));
    }
    let directory = Directory::new(&args.data_dir, args.genesis.as_deref())?;
    let text = directory.genesis()?;
    let writer = directory.open(&directory.stores(false)?, &text, &mut |_| {})?;
    let head = writer.height().get();
    let last = args.to.unwrap_or(head);
    if last > head || args.from > last.saturating_add(1) {
        let message =
            format!("heights {} to {last} were asked for, the chain has 1 to {head}", args.from);
        return Err(
            CliError::usage("heights", message).hint("use --from and --to within the chain")
        );
    }
    // Written beside its place, so that an interrupted export is never taken for a whole one.
    let mut staged = args.out.clone().into_os_string();
    staged.push(".part");
    let staged = PathBuf::from(staged);
    let bytes = write(writer.chain(), &text, args.from..=last, &staged, output)
        .inspect_err(|_| drop(fs::remove_file(&staged)))?;
    fs::rename(&staged, &args.out).map_err(|error| file_error(&args.out, &error))?;
    let count = (last + 1).saturating_sub(args.from);
    let object =
        json!({ "out": args.out, "from": args.from, "to": last, "blocks": count, "bytes": bytes });
    let path = args.out.display();
    let mut lines = vec![format!("wrote {count} blocks, {bytes} bytes, to {path}")];
    if args.from == 1 {
        lines.push(format!("next: ait-node replay {path}"));
    }
    output.result(&object, &lines)
}

fn file_error(path: &Path, error: &std::io::Error) -> CliError {
    CliError::failed("file_io", format!("{}: {error}", path.display()))
        .hint("check the path, its permissions and the room on the disk")
}

fn write(
    chain: &Chain,
    genesis: &str,
    heights: std::ops::RangeInclusive<u64>,
    path: &Path,
    output: &Output,
) -> Result<u64, CliError> {
    let failed = |error: ArchiveError| {
        CliError::failed("archive", format!("{}: {error}", path.display()))
            .hint("check the room on the disk")
    };
    let file = fs::File::create(path).map_err(|error| file_error(path, &error))?;
    let first = Height::saturating(*heights.start());
    let mut archive = ArchiveWriter::begin(BufWriter::new(file), genesis, first).map_err(failed)?;
    let bar = progress::bar(output, heights.end().saturating_sub(*heights.start()) + 1, "export");
    for height in heights {
        let missing = || CliError::failed("database_corrupt", format!("block {height} is missing"));
        let block = chain.block(Height::saturating(height))?.ok_or_else(missing)?;
        let certificate = block.certificate.as_ref().ok_or_else(missing)?;
        archive.add(&block.block, certificate).map_err(failed)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let file = archive.end().map_err(failed)?;
    let file = file.into_inner().map_err(|error| file_error(path, error.error()))?;
    file.sync_all().map_err(|error| file_error(path, &error))?;
    Ok(file.metadata().map_err(|error| file_error(path, &error))?.len())
}
