//! `ait-node dev`: a devnet in one command.
//!
//! The seed of all keys lies in the data directory; without one the devnet is kept in a
//! temporary directory and gone when it stops.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ait_engine::types::parse_hex32;
use clap::Args;
use serde_json::json;
use toml::Value;
use zeroize::Zeroizing;

use super::serve::{Served, Serving};
use super::{CliError, Output};
use crate::chain::StorageEngine;
use crate::config::NodeConfig;
use crate::coordinator::Coordinator;
use crate::devnet::DevnetPlan;
use crate::keystore::{self, KeystoreError};
use crate::rpc::DevEdge;

/// Largest file of a seed, in bytes.
const SEED_BYTES_MAX: usize = 256;

/// Options of `dev`.
#[derive(Debug, Args)]
#[command(
    after_help = "Configuration file, AIT_ variables and the old names (CHAIN_ID, MINT_PER_UNIT, ..) are read as by `run`.

Examples:
  ait-node dev
  ait-node dev --data-dir ./devnet --rpc 127.0.0.1:8081
  ait-node dev --block-interval 100ms --json"
)]
pub struct DevArgs {
    /// Directory to keep the devnet in [default: a temporary one, gone at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address of the REST interface; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT")]
    rpc: Option<SocketAddr>,
    /// Address of the mock coordinator; port 0 takes a free one [default: 127.0.0.1:8090]
    #[arg(long, value_name = "ADDR:PORT")]
    coordinator: Option<SocketAddr>,
    /// Least time between two blocks, such as 2s or 100ms [default: 500ms]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    block_interval: Option<std::time::Duration>,
    /// Storage engine: redb or memory [default: redb]
    #[arg(long, value_name = "ENGINE")]
    engine: Option<StorageEngine>,
}

fn failed(what: &Path, error: &std::io::Error) -> CliError {
    CliError::failed("io", format!("{}: {error}", what.display()))
}

impl DevArgs {
    fn load(&self, temporary: &Path) -> Result<NodeConfig, CliError> {
        let defaults = [
            ("data_dir", Value::from(temporary.to_string_lossy().into_owned())),
            ("sequencer.block_interval", Value::from("500ms")),
            ("metrics.legacy_names", Value::from(true)),
            ("log.level", Value::from("warn")),
            ("p2p.enabled", Value::from(false)),
            // Often on a small disk, and made to be thrown away.
            ("storage.free_bytes_min", Value::from(64 << 20)),
            ("storage.reserve_bytes", Value::from(0)),
            // Only programs on this machine reach a devnet.
            ("rpc.rate_limit_per_minute", Value::from(0)),
        ];
        let config = NodeConfig::load(None, &defaults, |layers| {
            if let Some(directory) = &self.data_dir {
                layers.set_flag("data_dir", directory.to_string_lossy().into_owned());
            }
            if let Some(address) = self.rpc {
                layers.set_flag("rpc.bind", address.to_string());
            }
            if let Some(address) = self.coordinator {
                layers.set_flag("coordinator.bind", address.to_string());
            }
            if let Some(interval) = self.block_interval {
                let text = humantime::format_duration(interval).to_string();
                layers.set_flag("sequencer.block_interval", text);
            }
            if let Some(engine) = self.engine {
                layers.set_flag("storage.engine", engine.to_string());
            }
        });
        Ok(config?)
    }
}

/// Runs a devnet until it is told to stop.
///
/// # Errors
/// [`CliError`] if it cannot start or fails while it runs.
pub fn run(args: &DevArgs, log: Option<&str>, output: &Output) -> Result<(), CliError> {
    // Removed when dropped, which is after the node has stopped.
    let temporary =
        tempfile::tempdir().map_err(|error| failed(Path::new("temporary directory"), &error))?;
    let config = args.load(temporary.path())?;
    super::log(log, &config.log_level, config.log_format)?;
    if !config.coordinator.bind.ip().is_loopback() {
        let address = config.coordinator.bind;
        let message = format!(
            "{address} is not a loopback address: the devnet's coordinator attests for anybody"
        );
        return Err(CliError::failed("not_loopback", message).hint("use 127.0.0.1 or [::1]"));
    }
    let directory = &config.data_dir;
    fs::create_dir_all(directory).map_err(|error| failed(directory, &error))?;
    let clock = crate::clock::system();
    let now = clock().get() / 1_000;
    let (plan, genesis) = plan(&config, now)?;
    let DevnetPlan { validator, minter, governor, coordinator, accounts, names, .. } = plan;
    let mock = Coordinator::new(coordinator, Some(names.clone()), now);
    let edge = DevEdge {
        names,
        minter,
        governor,
        coordinator: mock.clone(),
        signing: tokio::sync::Mutex::default(),
    };
    // Alone, it is never behind anybody.
    let (key, shows_progress) = (Some(validator), false);
    let served = Served { config: &config, genesis: &genesis, key, clock, shows_progress };
    let temporary = directory == temporary.path();
    served
        .until_stopped(Some((edge, mock)), |served| announce(served, temporary, &accounts, output))
}

/// The devnet of this directory: its seed and genesis, made if there are none.
fn plan(config: &NodeConfig, now: u64) -> Result<(DevnetPlan, PathBuf), CliError> {
    let directory = &config.data_dir;
    let (seed_path, genesis_path) = (directory.join("devnet.seed"), directory.join("genesis.json"));
    let seed = match keystore::read_private(&seed_path, SEED_BYTES_MAX) {
        Ok(text) => parse_hex32(text.trim()).map(Zeroizing::new).map_err(|_| {
            // What stands there is not repeated: it may be most of the seed.
            let message = format!("{} is damaged", seed_path.display());
            CliError::failed("devnet_seed", message).hint("delete the data directory")
        })?,
        Err(KeystoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let seed = Zeroizing::new(keystore::random::<32>()?);
            let digits = Zeroizing::new(hex::encode(*seed));
            keystore::write_private(&seed_path, digits.as_str())
                .map_err(|error| failed(&seed_path, &error))?;
            seed
        }
        Err(error) => return Err(error.into()),
    };
    let mut plan = DevnetPlan::new(*seed, now).map_err(|error| CliError::new(&error, ""))?;
    match fs::metadata(&genesis_path) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let document = &mut plan.document;
            document.chain_id = config.chain_id;
            let params = &config.genesis;
            document.params.insert("mint_per_unit".to_owned(), params.mint_per_unit);
            let ratio = params.coordinator_ratio_bps;
            document.params.insert("coordinator_ratio_bps".to_owned(), ratio);
            let text = serde_json::to_string_pretty(&plan.document)
                .map_err(|error| CliError::new(&error, ""))?;
            keystore::write_public(&genesis_path, &text)
                .map_err(|error| failed(&genesis_path, &error))?;
        }
        Err(error) => return Err(failed(&genesis_path, &error)),
    }
    Ok((plan, genesis_path))
}

fn announce(
    served: &Serving<'_>,
    temporary: bool,
    accounts: &[crate::devnet::FundedAccount],
    output: &Output,
) -> Result<(), CliError> {
    let (rpc, directory) = (served.rpc, served.data_dir);
    let coordinator = served.coordinator.map_or_else(String::new, |at| format!("http://{at}"));
    let secrets: Vec<_> = accounts
        .iter()
        .map(|a| json!({ "name": a.name, "address": a.address, "secret_key": *a.secret_key }))
        .collect();
    let chain = served.node.chain();
    let line = json!({
        "rpc": format!("http://{rpc}"),
        "coordinator": coordinator,
        "chain_id": chain.chain_id(),
        "data_dir": directory,
        "admin_token": served.admin_token,
        "accounts": secrets,
    });
    let gone = if temporary { " (temporary: gone at the end)" } else { "" };
    let mut lines = vec![
        format!("devnet {} at height {}", chain.chain_id(), chain.head().height),
        format!("  REST         http://{rpc}/rpc/head"),
        format!("  API page     http://{rpc}/docs"),
        format!("  coordinator  {coordinator}/health"),
        format!("  data         {}{gone}", directory.display()),
    ];
    lines.extend(accounts.iter().map(|a| format!("  {:<12} {}", a.name, a.address)));
    lines.push("Names stand for these accounts in requests. Ctrl-C stops.".to_owned());
    output.result(&line, &lines)
}
