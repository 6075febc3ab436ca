//! `key new|show|import|export`.

use std::path::{Path, PathBuf};

use ait_engine::crypto::SecretKey;
use ait_engine::types::parse_hex32;
use clap::{Args, Subcommand};
use serde_json::json;
use zeroize::Zeroizing;

use super::{CliError, Output};
use crate::keystore::{self, KeyFile, Passphrase};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key; without --out it is shown once and stored nowhere
    #[command(after_help = "Examples:
  ait-node key new --out alice.json                    encrypted; asks for a passphrase
  ait-node key new --out dev.json --no-passphrase      plain, for a devnet
  ait-node key new --json                              {\"address\", \"public_key\", \"secret_key\"}")]
    New(NewArgs),
    /// Show address and public key of a key file
    Show {
        /// A key file or 64 hex digits
        key: String,
    },
    /// Store a secret key given as 64 hex digits on standard input
    Import(ImportArgs),
    /// Show the secret key of a key file
    Export(ExportArgs),
}

/// How to store a key.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// Store the key unencrypted, for a devnet
    #[arg(long)]
    pub no_passphrase: bool,
    /// File whose first line is the passphrase
    #[arg(long, value_name = "FILE", conflicts_with = "no_passphrase")]
    pub passphrase_file: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `key new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// Key file to write
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How to store it
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `key import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Key file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// How to store it
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `key export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The key file
    pub file: PathBuf,
    /// Yes, show the secret
    #[arg(long)]
    pub reveal: bool,
    /// File whose first line is the passphrase
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// Does it.
///
/// # Errors
/// [`CliError`] saying what failed.
pub fn run(command: KeyCommand, output: &Output) -> Result<(), CliError> {
    match command {
        KeyCommand::New(NewArgs { out: Some(path), store: how }) => {
            store(&keystore::generate()?, &path, &how, output)
        }
        KeyCommand::New(NewArgs { out: None, .. }) => reveal(&keystore::generate()?, output),
        KeyCommand::Show { key } => show(&key, output),
        KeyCommand::Import(ImportArgs { out, store: how }) => {
            let mut line = Zeroizing::new(String::new());
            std::io::stdin()
                .read_line(&mut line)
                .map_err(|error| CliError::failed("input", error.to_string()))?;
            let seed = parse_hex32(line.trim()).map_err(|_| {
                CliError::usage("bad_key", "standard input is not a secret key of 64 hex digits")
                    .hint("the key is the 32-byte Ed25519 seed")
            })?;
            store(&SecretKey::from_seed(seed), &out, &how, output)
        }
        KeyCommand::Export(ExportArgs { reveal: false, .. }) => {
            Err(CliError::usage("reveal_needed", "this shows the secret key on the screen")
                .hint("add --reveal if that is what you want"))
        }
        KeyCommand::Export(ExportArgs { file, passphrase_file, .. }) => {
            let passphrase = Passphrase { file: passphrase_file };
            reveal(&KeyFile::read(&file)?.unlock(&passphrase)?, output)
        }
    }
}

fn store(key: &SecretKey, path: &Path, how: &StoreArgs, output: &Output) -> Result<(), CliError> {
    let file = if how.no_passphrase {
        KeyFile::plain(key)
    } else {
        let passphrase = Passphrase { file: how.passphrase_file.clone() }.read(true)?;
        KeyFile::encrypted(key, &passphrase)?
    };
    file.write(path, how.force)?;
    let object = json!({
        "file": path, "address": file.address, "public_key": file.public_key,
        "encrypted": !file.plain,
    });
    let how = if file.plain { "NOT encrypted" } else { "encrypted" };
    output.result(
        &object,
        &[
            format!("address     {}", file.address),
            format!("public key  {}", file.public_key),
            format!("key file    {} ({how})", path.display()),
        ],
    )
}

fn reveal(key: &SecretKey, output: &Output) -> Result<(), CliError> {
    let public_key = key.public_key();
    let secret = Zeroizing::new(hex::encode(key.seed().as_slice()));
    let object = json!({
        "address": public_key.address(), "public_key": public_key, "secret_key": *secret,
    });
    output
        .note("Whoever has the secret key has the account. It is stored nowhere by this command.");
    output.result(
        &object,
        &[
            format!("address     {}", public_key.address()),
            format!("public key  {public_key}"),
            format!("secret key  {}", *secret),
        ],
    )
}

fn show(key: &str, output: &Output) -> Result<(), CliError> {
    let (public_key, encrypted) = match parse_hex32(key) {
        Ok(seed) => (SecretKey::from_seed(seed).public_key(), None),
        Err(_) => {
            let file = KeyFile::read(Path::new(key))?;
            (file.public_key, Some(!file.plain))
        }
    };
    let address = public_key.address();
    let object = json!({ "address": address, "public_key": public_key, "encrypted": encrypted });
    output.result(&object, &[format!("address     {address}"), format!("public key  {public_key}")])
}
