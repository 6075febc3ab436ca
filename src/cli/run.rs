//! `run`: a node by its configuration.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ait_engine::crypto::SecretKey;
use ait_net::peer::PeerAddress;
use clap::Args;
use serde_json::json;

use super::serve::{Served, Serving};
use super::{CliError, Output};
use crate::config::{ConfigError, NodeConfig};
use crate::keystore::{self, KeystoreError, Passphrase};
use crate::telemetry::LogFormat;

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ait-node init --data-dir ./data --new-chain my-chain
  ait-node run --data-dir ./data --passphrase-file passphrase
  ait-node init --data-dir ./copy --genesis ./data/genesis.json
  ait-node run --data-dir ./copy --rpc 127.0.0.1:8081 --p2p 127.0.0.1:7071 --peer ID@127.0.0.1:7070")]
pub struct RunArgs {
    /// Configuration file [default: config.toml in the data directory]
    #[arg(long, value_name = "FILE", env = "AIT_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where to keep the chain
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where the REST interface listens
    #[arg(long, value_name = "ADDR:PORT")]
    pub rpc: Option<SocketAddr>,
    /// Where to listen for other nodes (UDP)
    #[arg(long, value_name = "ADDR:PORT")]
    pub p2p: Option<SocketAddr>,
    /// A node to connect with, as it prints itself; may be given several times
    #[arg(long, value_name = "ID@HOST:PORT")]
    pub peer: Vec<PeerAddress>,
    /// Follow the chain without voting
    #[arg(long)]
    pub follow: bool,
    /// Shortest time between two blocks
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub block_interval: Option<Duration>,
    /// File whose first line is the passphrase of the validator's key
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

impl RunArgs {
    /// The configuration that file, environment and these flags give.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem.
    pub fn load(&self) -> Result<NodeConfig, ConfigError> {
        NodeConfig::load(self.config.as_deref(), &[], |layers| {
            if let Some(directory) = &self.data_dir {
                layers.set_flag("data_dir", directory.to_string_lossy().into_owned());
            }
            if let Some(bind) = self.rpc {
                layers.set_flag("rpc.bind", bind.to_string());
            }
            if let Some(bind) = self.p2p {
                layers.set_flag("p2p.bind", bind.to_string());
            }
            if !self.peer.is_empty() {
                let peers = self.peer.iter().map(|peer| peer.to_string().into());
                layers.set_flag("p2p.peers", peers.collect::<Vec<toml::Value>>());
            }
            if self.follow {
                layers.set_flag("sequencer.enabled", false);
            }
            if let Some(interval) = self.block_interval {
                let text = humantime::format_duration(interval).to_string();
                layers.set_flag("sequencer.block_interval", text);
            }
        })
    }
}

/// Runs a node until it is told to stop.
///
/// # Errors
/// [`CliError`] if it cannot start or fails while it runs.
pub fn run(args: &RunArgs, config: &NodeConfig, output: &Output) -> Result<(), CliError> {
    let path = &config.genesis_file;
    std::fs::File::open(path).map_err(|error| {
        let message = format!("genesis {}: {error}", path.display());
        let directory = config.data_dir.display();
        CliError::failed("genesis_missing", message).hint(format!(
            "ait-node init --data-dir {directory} --new-chain NAME makes a chain, \
             --genesis FILE joins one"
        ))
    })?;
    let key = if config.sequencer.enabled { Some(validator_key(args, config)?) } else { None };
    let clock = crate::clock::system();
    let shows_progress = !output.is_json() && config.log_format == LogFormat::Text;
    let served = Served { config, genesis: path, key, clock, shows_progress };
    served.until_stopped(None, |serving| announce(serving, config, output))
}

fn validator_key(args: &RunArgs, config: &NodeConfig) -> Result<SecretKey, CliError> {
    let passphrase = Passphrase { file: args.passphrase_file.clone() };
    let key = &config.sequencer.key;
    keystore::resolve(key, &passphrase).map_err(|error| {
        let failed = match &error {
            KeystoreError::Io { path, source }
                if path.as_path() == Path::new(key) && source.kind() == ErrorKind::NotFound =>
            {
                let message = format!("the validator's key {key} is missing");
                CliError::failed("key_missing", message).hint(
                    "put it there, or set sequencer.enabled to false for a node that only follows the chain",
                )
            }
            _ => error.into(),
        };
        failed.at_start()
    })
}

fn announce(serving: &Serving<'_>, config: &NodeConfig, output: &Output) -> Result<(), CliError> {
    let chain = serving.node.chain();
    let (rpc, directory) = (serving.rpc, serving.data_dir);
    let token = &config.rpc.admin_token_file;
    let line = json!({
        "rpc": format!("http://{rpc}"),
        "chain_id": chain.chain_id(),
        "genesis_hash": chain.genesis_id(),
        "height": chain.head().height,
        "data_dir": directory,
        "admin_token_file": token,
        "validator": serving.node.validator(),
        "p2p": serving.peer.as_ref().map(ToString::to_string),
    });
    let role = match serving.node.validator() {
        Some(address) => format!("validates as {address}"),
        None => "follows the chain".to_owned(),
    };
    let peer = serving.peer.as_ref().map_or_else(|| "off".to_owned(), ToString::to_string);
    let lines = [
        format!("chain {} at height {}", chain.chain_id(), chain.head().height),
        format!("  role         {role}"),
        format!("  network      {peer}"),
        format!("  REST         http://{rpc}/rpc/head"),
        format!("  API page     http://{rpc}/docs"),
        format!("  data         {}", directory.display()),
        format!("  admin token  in {}", token.display()),
    ];
    output.result(&line, &lines)
}
