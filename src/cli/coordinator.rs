//! `coordinator`: the mock coordinator on its own.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{CliError, Output};
use crate::coordinator::{self, Coordinator};
use crate::keystore::{self, Passphrase};

/// Arguments of `coordinator`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  ait-node coordinator --key coordinator.json --bind 127.0.0.1:8090")]
pub struct CoordinatorArgs {
    /// Where it listens
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8090")]
    pub bind: SocketAddr,
    /// Listen on an address that others reach; jobs are still ordered on this machine only
    #[arg(long)]
    pub public: bool,
    /// The key that attests, named in genesis: a key file or 64 hex digits
    #[arg(long, value_name = "FILE_OR_HEX")]
    pub key: String,
    /// File whose first line is the passphrase of the key
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// Runs the coordinator until it is told to stop.
///
/// # Errors
/// [`CliError`] if its key cannot be had or its address is taken.
pub fn run(args: &CoordinatorArgs, output: &Output) -> Result<(), CliError> {
    if !args.bind.ip().is_loopback() && !args.public {
        let message = format!("{} is an address that others reach", args.bind);
        return Err(CliError::usage("not_loopback", message).hint(
            "this is a mock that attests what is asked for; if that is meant, add --public",
        ));
    }
    let passphrase = Passphrase { file: args.passphrase_file.clone() };
    let key = keystore::resolve(&args.key, &passphrase)?;
    let public_key = key.public_key();
    let now = crate::clock::system()().get() / 1_000;
    let mock = Coordinator::new(key, None, now);
    let runtime = tokio::runtime::Runtime::new().map_err(|error| CliError::new(&error, ""))?;
    runtime.block_on(async {
        let mut terminate =
            signal(SignalKind::terminate()).map_err(|error| CliError::new(&error, ""))?;
        let (stop, mut stopping) = tokio::sync::watch::channel(false);
        let until = async move {
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        let serving = coordinator::serve(args.bind, mock, until)
            .await
            .map_err(|error| CliError::new(&error, "choose another address with --bind"))?;
        let url = format!("http://{}", serving.address);
        let object = json!({ "coordinator": url, "public_key": public_key });
        output.result(&object, &[format!("coordinator {public_key} at {url}")])?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        let _ = stop.send(true);
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), serving.task).await;
        Ok(())
    })
}
