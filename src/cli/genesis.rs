//! `genesis new|verify`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ait_engine::crypto::PublicKey;
use ait_engine::genesis::{
    Allocation, Authority, CoordinatorEntry, Genesis, GenesisDocument, GenesisError,
};
use ait_engine::types::{Address, Amount, ChainId, VotingPower};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{CliError, Output};
use crate::keystore;

/// Largest genesis document, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 1 << 30;

/// What to do with a genesis.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "parsed once a process")]
pub enum GenesisCommand {
    /// Write a document that a person can go on editing
    #[command(after_help = "Example:
  ait-node genesis new --chain-id my-chain --authority 0x<public key> \\
      --allocate ait1...=1000000 --out genesis.json")]
    New(NewArgs),
    /// Check a document and show the block that it makes
    Verify {
        /// The document
        file: PathBuf,
    },
}

/// Arguments of `genesis new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// Name of the chain
    #[arg(long, value_name = "ID")]
    pub chain_id: ChainId,
    /// Public key of a validator; may be repeated
    #[arg(long, value_name = "PUBLIC_KEY", required = true)]
    pub authority: Vec<PublicKey>,
    /// Public key of a coordinator; may be repeated
    #[arg(long, value_name = "PUBLIC_KEY")]
    pub coordinator: Vec<PublicKey>,
    /// Balance of an account at the beginning; may be repeated
    #[arg(long, value_name = "ADDRESS=AMOUNT", value_parser = allocation)]
    pub allocate: Vec<(Address, Amount)>,
    /// Who may change parameters
    #[arg(long, value_name = "ADDRESS")]
    pub governor: Option<Address>,
    /// Who may mint (devnets only)
    #[arg(long, value_name = "ADDRESS")]
    pub minter: Option<Address>,
    /// A parameter; may be repeated
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = param)]
    pub params: Vec<(String, u64)>,
    /// Seconds since 1970 [default: now]
    #[arg(long, value_name = "SECONDS")]
    pub timestamp: Option<u64>,
    /// File to write
    #[arg(long, value_name = "FILE", default_value = "genesis.json")]
    pub out: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    pub force: bool,
}

pub(super) fn allocation(text: &str) -> Result<(Address, Amount), String> {
    let (address, amount) = text.split_once('=').ok_or("expected ADDRESS=AMOUNT")?;
    let address: Address = address.parse().map_err(|error| format!("{error}"))?;
    Ok((address, super::tx::amount(amount)?))
}

pub(super) fn param(text: &str) -> Result<(String, u64), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    let value = value.parse().map_err(|_| format!("{value:?} is not a whole number"))?;
    Ok((name.to_owned(), value))
}

impl From<GenesisError> for CliError {
    fn from(error: GenesisError) -> Self {
        Self::failed("genesis_invalid", error.to_string())
            .hint("correct the document and run: ait-node genesis verify FILE")
    }
}

/// Does it.
///
/// # Errors
/// [`CliError`] with every problem of a document.
pub fn run(command: GenesisCommand, output: &Output) -> Result<(), CliError> {
    match command {
        GenesisCommand::New(args) => {
            let document = document(&args)?;
            let genesis = document.build()?;
            write(&document, &args.out, args.force)?;
            let (object, mut lines) = describe(&document, &genesis);
            lines.push(format!("written to {}", args.out.display()));
            output.result(&object, &lines)
        }
        GenesisCommand::Verify { file } => {
            let (document, genesis) = read(&file)?;
            let (object, mut lines) = describe(&document, &genesis);
            lines.insert(0, format!("{} is valid", file.display()));
            output.result(&object, &lines)
        }
    }
}

fn document(args: &NewArgs) -> Result<GenesisDocument, CliError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map(|d| d.as_secs());
    let mut params: BTreeMap<String, u64> =
        [("min_fee_base".to_owned(), 10), ("min_fee_per_byte".to_owned(), 1)].into();
    params.extend(args.params.iter().cloned());
    let allocations = args.allocate.iter();
    let key = |public_key: &PublicKey| CoordinatorEntry { public_key: *public_key, payout: None };
    let weight = VotingPower::new(1).unwrap_or_default();
    Ok(GenesisDocument {
        chain_id: args.chain_id,
        timestamp: args.timestamp.or(now.ok()).unwrap_or_default(),
        params,
        accounts: allocations
            .map(|(address, balance)| Allocation { address: *address, balance: *balance, nonce: 0 })
            .collect(),
        authorities: args
            .authority
            .iter()
            .map(|public_key| Authority { public_key: *public_key, weight, payout: None })
            .collect(),
        coordinators: args.coordinator.iter().map(key).collect(),
        governor: args.governor,
        minter: args.minter,
    })
}

/// Writes a document.
pub(super) fn write(document: &GenesisDocument, path: &Path, force: bool) -> Result<(), CliError> {
    if path.exists() && !force {
        return Err(CliError::failed("file_exists", format!("{} exists already", path.display()))
            .hint("choose another path, or add --force to replace it"));
    }
    let text = serde_json::to_string_pretty(document)
        .map_err(|error| CliError::failed("genesis_invalid", error.to_string()))?;
    keystore::write_public(path, text + "\n")
        .map_err(|error| CliError::failed("file_io", format!("{}: {error}", path.display())))
}

/// Reads and checks a document.
///
/// # Errors
/// [`CliError`] when it cannot be read or with every problem found.
pub fn read(path: &Path) -> Result<(GenesisDocument, Genesis), CliError> {
    let io =
        |error: std::io::Error| CliError::failed("file_io", format!("{}: {error}", path.display()));
    if std::fs::metadata(path).map_err(io)?.len() > DOCUMENT_BYTES_MAX {
        return Err(CliError::failed("genesis_invalid", "the document is over 1 GiB"));
    }
    let document = GenesisDocument::parse(&std::fs::read_to_string(path).map_err(io)?)?;
    let genesis = document.build()?;
    Ok((document, genesis))
}

fn describe(document: &GenesisDocument, genesis: &Genesis) -> (Value, Vec<String>) {
    let total: u64 = document.accounts.iter().map(|a| a.balance.get()).sum();
    let object = json!({
        "valid": true,
        "chain_id": document.chain_id,
        "block_id": genesis.block_id,
        "state_root": genesis.header.state_root,
        "accounts": document.accounts.len(),
        "authorities": document.authorities.len(),
        "coordinators": document.coordinators.len(),
        "total_supply": total,
    });
    let lines = vec![
        format!("chain id      {}", document.chain_id),
        format!("block id      {}", genesis.block_id),
        format!("state root    {}", genesis.header.state_root),
        format!("accounts      {} holding {total} base units", document.accounts.len()),
        format!("authorities   {}", document.authorities.len()),
        format!("coordinators  {}", document.coordinators.len()),
    ];
    (object, lines)
}
