//! `init`: a data directory with a commented configuration file.

use std::path::PathBuf;

use ait_engine::crypto::PublicKey;
use ait_engine::genesis::{Allocation, Authority, CoordinatorEntry, GenesisDocument};
use ait_engine::types::{Address, Amount, ChainId, VotingPower};
use clap::Args;
use serde_json::json;

use super::{CliError, Output, genesis};
use crate::config::default_file;
use crate::keystore::{self, KeyFile, Passphrase};

/// What the validator of a new chain owns unless somebody else is to: base units.
const ALL: Amount = Amount::saturating(1_000_000_000_000_000);

/// Arguments of `init`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ait-node init                                     ./data/config.toml only
  ait-node init --new-chain my-chain                and validator.key and genesis.json of a new chain
  ait-node init --genesis genesis.json              to join the chain of an existing genesis")]
pub struct InitArgs {
    /// Directory to make
    #[arg(long, value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,
    /// Make a validator key and a genesis for a new chain of this name
    #[arg(long, value_name = "CHAIN_ID", conflicts_with = "genesis")]
    pub new_chain: Option<ChainId>,
    /// Balance of an account of the new chain; may be repeated [default: all of a billion
    /// tokens of a million base units to the validator]
    #[arg(long, value_name = "ADDRESS=AMOUNT", requires = "new_chain", value_parser = genesis::allocation)]
    pub allocate: Vec<(Address, Amount)>,
    /// Public key of a coordinator of the new chain; may be repeated
    #[arg(long, value_name = "PUBLIC_KEY", requires = "new_chain")]
    pub coordinator: Vec<PublicKey>,
    /// Check this genesis document and copy it
    #[arg(long, value_name = "FILE")]
    pub genesis: Option<PathBuf>,
    /// Store the validator key unencrypted, for a devnet
    #[arg(long)]
    pub no_passphrase: bool,
    /// File whose first line is the passphrase of the validator key
    #[arg(long, value_name = "FILE", conflicts_with = "no_passphrase")]
    pub passphrase_file: Option<PathBuf>,
    /// Replace an existing configuration file; keys and genesis are never replaced
    #[arg(long)]
    pub force: bool,
}

/// Does it.
///
/// # Errors
/// [`CliError`] if something exists already or cannot be written.
pub fn run(args: &InitArgs, output: &Output) -> Result<(), CliError> {
    let io = |error: std::io::Error| {
        CliError::failed("file_io", format!("{}: {error}", args.data_dir.display()))
    };
    std::fs::create_dir_all(&args.data_dir).map_err(io)?;
    let config = args.data_dir.join("config.toml");
    if config.exists() && !args.force {
        let message = format!("{} exists already", config.display());
        return Err(CliError::failed("file_exists", message)
            .hint("add --force to replace it with the defaults"));
    }
    let mut written = vec![config.clone()];
    if let Some(source) = &args.genesis {
        let (document, _) = genesis::read(source)?;
        let target = args.data_dir.join("genesis.json");
        genesis::write(&document, &target, false)?;
        written.push(target);
    }
    if let Some(chain_id) = args.new_chain {
        written.extend(new_chain(args, chain_id)?);
    }
    let mut text = default_file();
    if args.genesis.is_some() {
        // Who joins a chain has no vote in it, unless its genesis names the key.
        text = text.replace("# enabled = true\n# Shortest", "enabled = false\n# Shortest");
    }
    keystore::write_public(&config, text).map_err(io)?;
    let mut lines: Vec<_> =
        written.iter().map(|path| format!("wrote {}", path.display())).collect();
    lines.push(format!("next: ait-node run --data-dir {}", args.data_dir.display()));
    output.result(&json!({ "data_dir": args.data_dir, "written": written }), &lines)
}

fn new_chain(args: &InitArgs, chain_id: ChainId) -> Result<[PathBuf; 2], CliError> {
    let paths = ["validator.key", "genesis.json"].map(|name| args.data_dir.join(name));
    let [key_path, genesis_path] = &paths;
    let key = keystore::generate()?;
    let file = if args.no_passphrase {
        KeyFile::plain(&key)
    } else {
        let passphrase = Passphrase { file: args.passphrase_file.clone() }.read(true)?;
        KeyFile::encrypted(&key, &passphrase)?
    };
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    // Fees are due from the first block on: somebody must own something.
    let own = [(key.public_key().address(), ALL)];
    let allocated = if args.allocate.is_empty() { &own[..] } else { &args.allocate };
    let accounts = allocated
        .iter()
        .map(|(address, balance)| Allocation { address: *address, balance: *balance, nonce: 0 })
        .collect();
    let document = GenesisDocument {
        chain_id,
        timestamp: now.map(|d| d.as_secs()).unwrap_or_default(),
        params: [("min_fee_base".to_owned(), 10), ("min_fee_per_byte".to_owned(), 1)].into(),
        accounts,
        authorities: vec![Authority {
            public_key: key.public_key(),
            weight: VotingPower::new(1).unwrap_or_default(),
            payout: None,
        }],
        coordinators: args
            .coordinator
            .iter()
            .map(|public_key| CoordinatorEntry { public_key: *public_key, payout: None })
            .collect(),
        governor: Some(key.public_key().address()),
        minter: None,
    };
    document.build()?;
    if genesis_path.exists() {
        let message = format!("{} exists already", genesis_path.display());
        return Err(CliError::failed("file_exists", message)
            .hint("a genesis is never replaced; choose another --data-dir"));
    }
    file.write(key_path, false)?;
    genesis::write(&document, genesis_path, false)?;
    Ok(paths)
}
