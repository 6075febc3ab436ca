//! `ait-node dev`: a devnet in one command.
//!
//! The seed of all keys lies in the data directory; without one the devnet is kept in a
//! temporary directory and gone when it stops.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ait_engine::genesis::GenesisDocument;
use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{CliError, Output};
use crate::chain::{ChainError, GenesisSource, OpenProgress, StorageEngine};
use crate::coordinator::{self, Coordinator};
use crate::devnet::DevnetPlan;
use crate::node::{Node, NodeOptions};
use crate::rpc::{self, Backend, DevEdge};

/// Options of `dev`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ait-node dev\n  ait-node dev --data-dir ./devnet --rpc 127.0.0.1:8081\n  \
    ait-node dev --block-interval 100ms --json"
)]
pub struct DevArgs {
    /// Directory to keep the devnet in; a temporary one if absent.
    #[arg(long, env = "AIT_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Address of the REST interface; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    rpc: SocketAddr,
    /// Address of the mock coordinator; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8090")]
    coordinator: SocketAddr,
    /// Least time between two blocks, such as 2s or 100ms.
    #[arg(long, default_value = "500ms", value_parser = humantime::parse_duration)]
    block_interval: std::time::Duration,
    /// Storage engine: redb or memory.
    #[arg(long, default_value = "redb")]
    engine: StorageEngine,
}

fn failed(what: &Path, error: &std::io::Error) -> CliError {
    CliError::failed("io", format!("{}: {error}", what.display()))
}

/// Runs a devnet until it is told to stop.
///
/// # Errors
/// [`CliError`] if it cannot start or fails while it runs.
pub fn run(args: &DevArgs, output: &Output) -> Result<(), CliError> {
    let temporary;
    let directory = match &args.data_dir {
        Some(directory) => directory.clone(),
        None => {
            temporary = tempfile::tempdir()
                .map_err(|error| failed(Path::new("temporary directory"), &error))?;
            temporary.path().to_owned()
        }
    };
    fs::create_dir_all(&directory).map_err(|error| failed(&directory, &error))?;
    let clock = crate::clock::system();
    let now = clock().get() / 1_000;
    let (plan, text) = plan(&directory, now)?;
    let document = GenesisDocument::parse(&text)
        .map_err(|error| CliError::new(&error, "delete the data directory for a new devnet"))?;
    let build = || document.build().map_err(ChainError::from);
    let fingerprint = GenesisSource::fingerprint(text.as_bytes());
    let mut options = NodeOptions::new(&directory, args.engine);
    options.sequencer.block_interval = args.block_interval;
    let DevnetPlan { validator, minter, coordinator, accounts, names, .. } = plan;
    let source = GenesisSource { fingerprint, build: &build };
    let node =
        Node::start(&options, &source, validator, &clock, &mut log_progress).map_err(|error| {
            CliError::new(&error, "is another node running in this data directory?")
        })?;
    let backend = Backend {
        chain: node.chain().clone(),
        mempool: Arc::clone(node.mempool()),
        ingress: node.ingress().clone(),
        dev: Some(Arc::new(DevEdge {
            names: names.clone(),
            minter,
            signing: tokio::sync::Mutex::default(),
        })),
    };
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| failed(Path::new("the async runtime"), &error))?;
    let mock = Coordinator::new(coordinator, Some(names), now);
    let served = runtime.block_on(async {
        let (stop, stopping) = tokio::sync::watch::channel(false);
        let until = |mut stopping: tokio::sync::watch::Receiver<bool>| async move {
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        let (rpc, rpc_task) = rpc::serve(args.rpc, backend, until(stopping.clone()))
            .await
            .map_err(|error| CliError::new(&error, ""))?;
        let mock = coordinator::serve(args.coordinator, mock, until(stopping))
            .await
            .map_err(|error| CliError::new(&error, "choose another address with --coordinator"))?;
        announce(&node, rpc, mock.address, &directory, &accounts, output)?;
        let result = wait(&node).await;
        let _ = stop.send(true);
        let close = async { tokio::join!(rpc_task, mock.task) };
        // Connections that are still open then are cut.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(500), close).await;
        result
    });
    runtime.shutdown_background();
    let stopped = node.stop().map_err(|error| CliError::new(&error, "the log says more"));
    served.and(stopped)
}

/// Until a signal, or until the node fails.
async fn wait(node: &Node) -> Result<(), CliError> {
    let io = |error: std::io::Error| CliError::new(&error, "");
    let mut terminate = signal(SignalKind::terminate()).map_err(io)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io)?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {
                if let Some(message) = node.failure() {
                    return Err(CliError::failed("node_failed", message).hint("the log says more"));
                }
            }
        }
    }
}

/// The devnet of this directory: its seed and genesis, made if there are none.
fn plan(directory: &Path, now: u64) -> Result<(DevnetPlan, String), CliError> {
    let (seed_path, genesis_path) = (directory.join("devnet.seed"), directory.join("genesis.json"));
    let seed = match fs::read_to_string(&seed_path) {
        Ok(text) => ait_engine::types::parse_hex32(text.trim()).map_err(|error| {
            CliError::new(&error, "devnet.seed is damaged; delete the data directory")
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|error| CliError::new(&error, ""))?;
            write_secret(&seed_path, &format!("0x{}\n", hex::encode(seed)))
                .map_err(|error| failed(&seed_path, &error))?;
            seed
        }
        Err(error) => return Err(failed(&seed_path, &error)),
    };
    let plan = DevnetPlan::new(seed, now).map_err(|error| CliError::new(&error, ""))?;
    let text = match fs::read_to_string(&genesis_path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = serde_json::to_string_pretty(&plan.document)
                .map_err(|error| CliError::new(&error, ""))?;
            let staged = directory.join("genesis.json.new");
            fs::write(&staged, &text)
                .and_then(|()| fs::rename(&staged, &genesis_path))
                .map_err(|error| failed(&genesis_path, &error))?;
            text
        }
        Err(error) => return Err(failed(&genesis_path, &error)),
    };
    Ok((plan, text))
}

fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn log_progress(progress: OpenProgress) {
    tracing::info!(?progress, "opening the chain");
}

fn announce(
    node: &Node,
    rpc: SocketAddr,
    coordinator: SocketAddr,
    directory: &Path,
    accounts: &[crate::devnet::FundedAccount],
    output: &Output,
) -> Result<(), CliError> {
    let secrets: Vec<_> = accounts
        .iter()
        .map(|a| json!({ "name": a.name, "address": a.address, "secret_key": *a.secret_key }))
        .collect();
    let line = json!({
        "rpc": format!("http://{rpc}"),
        "coordinator": format!("http://{coordinator}"),
        "chain_id": node.chain().chain_id(),
        "data_dir": directory,
        "accounts": secrets,
    });
    let mut lines = vec![
        format!("devnet {} at height {}", node.chain().chain_id(), node.chain().head().height),
        format!("  REST         http://{rpc}/rpc/head"),
        format!("  coordinator  http://{coordinator}/health"),
        format!("  data         {}", directory.display()),
    ];
    lines.extend(accounts.iter().map(|a| format!("  {:<12} {}", a.name, a.address)));
    lines.push("Names stand for these accounts in requests. Ctrl-C stops.".to_owned());
    output.result(&line, &lines)
}
