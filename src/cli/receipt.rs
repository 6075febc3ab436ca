//! `receipt sign|attest|claim`.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ait_engine::json::millionths;
use ait_engine::receipt::{Attestation, Receipt, ReceiptClaim};
use ait_engine::transaction::Payload;
use ait_engine::types::{ChainId, MicroUnits};
use ait_net::rest::RestClient;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::tx::{SendArgs, submit};
use super::{CliError, Output};
use crate::keystore::{self, Passphrase};
use crate::receipts::{self, ReceiptFields};

const RECEIPT_FILE_BYTES_MAX: u64 = 64 * 1024;

/// What to do with a receipt.
#[derive(Debug, Subcommand)]
pub enum ReceiptCommand {
    /// Make a receipt for a job that was done, and sign it as its provider
    #[command(after_help = "Example:
  ait-node receipt sign --key miner.json --job-id job_1 --client ait1... --units 2500 --out r.json")]
    Sign(SignArgs),
    /// Have a coordinator attest a signed receipt
    #[command(after_help = "Examples:
  ait-node receipt attest r.json --coordinator http://127.0.0.1:8090
  ait-node receipt attest r.json --key coordinator.json")]
    Attest(AttestArgs),
    /// Claim the reward of an attested receipt
    #[command(after_help = "Example:
  ait-node receipt claim r.json --key miner.json --wait")]
    Claim(ClaimArgs),
}

/// Arguments of `receipt sign`.
#[derive(Debug, Args)]
pub struct SignArgs {
    /// The provider's receipt key: a key file or 64 hex digits
    #[arg(long, value_name = "FILE_OR_HEX")]
    pub key: String,
    /// File whose first line is the passphrase of the key
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// The job that was done
    #[arg(long)]
    pub job_id: String,
    /// Who ordered it
    #[arg(long)]
    pub client: String,
    /// How many units, with at most six decimal places
    #[arg(long, value_parser = micro_units)]
    pub units: MicroUnits,
    /// Who did it: an address or a bound name [default: the key's address]
    #[arg(long)]
    pub provider: Option<String>,
    /// What a unit is
    #[arg(long, default_value = "gpu_seconds")]
    pub unit_type: String,
    /// What the client pays
    #[arg(long, value_parser = micro_units)]
    pub price: Option<MicroUnits>,
    /// Its id [default: random]
    #[arg(long)]
    pub receipt_id: Option<String>,
    /// When the job began, in seconds since 1970 [default: when it was done]
    #[arg(long, value_name = "SECONDS")]
    pub started_at: Option<u64>,
    /// When it was done [default: now]
    #[arg(long, value_name = "SECONDS")]
    pub completed_at: Option<u64>,
    /// The chain that it is for [default: any]
    #[arg(long)]
    pub chain_id: Option<ChainId>,
    /// Hash of the result
    #[arg(long)]
    pub artifact_hash: Option<String>,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Arguments of `receipt attest`.
#[derive(Debug, Args)]
pub struct AttestArgs {
    /// The signed receipt
    pub file: PathBuf,
    /// URL of the coordinator
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8090")]
    pub coordinator: String,
    /// Attest here with this coordinator's key instead of asking
    #[arg(long, value_name = "FILE_OR_HEX", conflicts_with = "coordinator")]
    pub key: Option<String>,
    /// File whose first line is the passphrase of the key
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// File to write [default: the receipt's own]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Arguments of `receipt claim`.
#[derive(Debug, Args)]
pub struct ClaimArgs {
    /// The attested receipt
    pub file: PathBuf,
    /// Who claims, and how it is sent
    #[command(flatten)]
    pub send: SendArgs,
}

fn micro_units(text: &str) -> Result<MicroUnits, String> {
    let value = millionths(text).and_then(MicroUnits::new);
    value.ok_or_else(|| format!("{text:?} is not a number with at most six decimal places"))
}

fn invalid(error: impl std::fmt::Display) -> CliError {
    CliError::failed("receipt_malformed", format!("the receipt is not valid: {error}"))
}

/// Does it.
///
/// # Errors
/// [`CliError`] if the receipt is not valid, or coordinator or chain refuse it.
pub async fn run(command: ReceiptCommand, output: &Output) -> Result<(), CliError> {
    match command {
        ReceiptCommand::Sign(args) => sign(&args, output),
        ReceiptCommand::Attest(args) => attest(&args, output).await,
        ReceiptCommand::Claim(args) => {
            let claim = read(&args.file)?;
            let key = args.send.key()?;
            let payload = Payload::ReceiptClaim(claim);
            let (object, lines) = submit(&args.send, &key, payload).await?;
            output.result(&object, &lines)
        }
    }
}

fn sign(args: &SignArgs, output: &Output) -> Result<(), CliError> {
    let passphrase = Passphrase { file: args.passphrase_file.clone() };
    let key = keystore::resolve(&args.key, &passphrase)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map(|d| d.as_secs());
    let completed_at = args.completed_at.or(now.ok()).unwrap_or_default();
    let receipt_id = match &args.receipt_id {
        Some(id) => id.clone(),
        None => hex::encode(keystore::random::<16>()?),
    };
    let address = key.public_key().address().to_string();
    let fields = ReceiptFields {
        receipt_id,
        job_id: args.job_id.clone(),
        provider: args.provider.clone().unwrap_or(address),
        client: args.client.clone(),
        units: args.units,
        unit_type: args.unit_type.clone(),
        price: args.price,
        started_at: args.started_at.unwrap_or(completed_at),
        completed_at,
        chain_id: args.chain_id,
        artifact_hash: args.artifact_hash.clone(),
    };
    let claim = receipts::sign(fields.canonical().map_err(invalid)?, &key).map_err(invalid)?;
    write(&claim, args.out.as_deref(), output)
}

async fn attest(args: &AttestArgs, output: &Output) -> Result<(), CliError> {
    let mut claim = read(&args.file)?;
    if let Some(key) = &args.key {
        let passphrase = Passphrase { file: args.passphrase_file.clone() };
        let key = keystore::resolve(key, &passphrase)?;
        let (coordinator, signature) = (key.public_key(), key.sign(&claim.receipt));
        receipts::attach(&mut claim, Attestation { coordinator, signature });
    } else {
        let client = RestClient::new(&args.coordinator)?;
        let body = claim.to_signed_json().map_err(invalid)?;
        let answer: Value = client.post_text("/v1/receipts/attest", body).await?;
        let signed = answer.get("signed_receipt").and_then(Value::as_str).unwrap_or_default();
        let attested = ReceiptClaim::from_signed_json(signed.as_bytes())
            .map_err(|error| CliError::failed("bad_answer", format!("the coordinator: {error}")))?;
        if attested.receipt != claim.receipt {
            let message = "the coordinator attested another receipt than it was asked for";
            return Err(CliError::failed("bad_answer", message));
        }
        for attestation in attested.attestations {
            receipts::attach(&mut claim, attestation);
        }
    }
    let out = args.out.as_deref().unwrap_or(&args.file);
    write(&claim, Some(out), output)
}

fn read(path: &Path) -> Result<ReceiptClaim, CliError> {
    let io = |error: std::io::Error| {
        CliError::failed("file_io", format!("{}: {error}", path.display()))
            .hint("make a receipt with: ait-node receipt sign")
    };
    if std::fs::metadata(path).map_err(io)?.len() > RECEIPT_FILE_BYTES_MAX {
        return Err(invalid("the file is longer than a receipt can be"));
    }
    ReceiptClaim::from_signed_json(&std::fs::read(path).map_err(io)?).map_err(invalid)
}

fn write(claim: &ReceiptClaim, out: Option<&Path>, output: &Output) -> Result<(), CliError> {
    let text = claim.to_signed_json().map_err(invalid)?;
    let Some(path) = out else {
        return output.raw(format!("{text}\n").as_bytes());
    };
    std::fs::write(path, format!("{text}\n"))
        .map_err(|error| CliError::failed("file_io", format!("{}: {error}", path.display())))?;
    let receipt = Receipt::parse(&claim.receipt).map_err(invalid)?;
    let object = serde_json::json!({
        "file": path, "receipt_id": receipt.receipt_id, "job_id": receipt.job_id,
        "attestations": claim.attestations.len(),
    });
    output.result(
        &object,
        &[
            format!("receipt       {}", receipt.receipt_id),
            format!("attestations  {}", claim.attestations.len()),
            format!("written to    {}", path.display()),
        ],
    )
}
