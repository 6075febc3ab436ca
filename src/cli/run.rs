//! `run`: a node by its configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::serve::{Served, Serving};
use super::{CliError, Output};
use crate::config::{ConfigError, NodeConfig};
use crate::keystore::{self, Passphrase};

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ait-node init --data-dir ./data --new-chain my-chain
  ait-node run --data-dir ./data --passphrase-file passphrase")]
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
    if !config.sequencer.enabled {
        let message = "sequencer.enabled is false, but this version has no network to follow";
        return Err(CliError::usage("sequencer_disabled", message).hint("set it to true"));
    }
    let path = &config.genesis_file;
    let text = std::fs::read_to_string(path).map_err(|error| {
        let message = format!("genesis {}: {error}", path.display());
        let directory = config.data_dir.display();
        CliError::failed("genesis_missing", message).hint(format!(
            "ait-node init --data-dir {directory} --new-chain NAME makes a chain, \
             --genesis FILE joins one"
        ))
    })?;
    let passphrase = Passphrase { file: args.passphrase_file.clone() };
    let key = keystore::resolve(&config.sequencer.key, &passphrase)?;
    let clock = crate::clock::system();
    let served = Served { config, genesis: &text, key, clock };
    served.until_stopped(None, |serving| announce(serving, config, output))
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
    });
    let lines = [
        format!("chain {} at height {}", chain.chain_id(), chain.head().height),
        format!("  REST         http://{rpc}/rpc/head"),
        format!("  API page     http://{rpc}/docs"),
        format!("  data         {}", directory.display()),
        format!("  admin token  in {}", token.display()),
    ];
    output.result(&line, &lines)
}
