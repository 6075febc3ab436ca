//! `tx`: making, sending and waiting for transactions.

use std::path::PathBuf;
use std::time::Duration;

use ait_engine::crypto::{PublicKey, SecretKey};
use ait_engine::params::{ParamChange, ParamSet};
use ait_engine::transaction::{Payload, ProviderBind, Transaction};
use ait_engine::types::{Address, Amount, Height, Nonce};
use ait_net::rest::RestClient;
use ait_net::wire::{self, Head, TransactionView, WhyResponse};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{CliError, Output};
use crate::keystore::{self, Passphrase};

const POLL: Duration = Duration::from_millis(100);

/// Which transaction.
#[derive(Debug, Subcommand)]
pub enum TxCommand {
    /// Move tokens to another account
    #[command(after_help = "Examples:
  ait-node tx transfer --key alice.json --to ait1... --amount 5
  ait-node tx transfer --rpc http://127.0.0.1:8080 --key <64 hex digits> --to ait1... --amount 5 --wait --json")]
    Transfer(TransferArgs),
    /// Bind a provider's name and the key that signs its receipts to an account
    #[command(after_help = "Example:
  ait-node tx bind-provider --key miner.json --name rig-1 --receipt-key rig-1.json")]
    BindProvider(BindArgs),
    /// Change on-chain parameters and roles, as the chain's governor
    #[command(after_help = "Examples:
  ait-node tx param-set --key governor.json --param mint_per_unit=1000
  ait-node tx param-set --key governor.json --coordinator 0x.. --retire-coordinator 0x..")]
    ParamSet(ParamSetArgs),
}

/// Arguments of `tx bind-provider`.
#[derive(Debug, Args)]
pub struct BindArgs {
    /// The name that receipts give as their provider
    #[arg(long)]
    pub name: String,
    /// The key that signs the receipts: a key file or 64 hex digits [default: the account's]
    #[arg(long, value_name = "FILE_OR_HEX")]
    pub receipt_key: Option<String>,
    /// Who signs, and how it is sent
    #[command(flatten)]
    pub send: SendArgs,
}

/// Arguments of `tx param-set`.
#[derive(Debug, Args)]
pub struct ParamSetArgs {
    /// A parameter; may be repeated
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = super::genesis::param)]
    pub params: Vec<(String, u64)>,
    /// Public key of a coordinator that may attest from now on; may be repeated
    #[arg(long, value_name = "PUBLIC_KEY")]
    pub coordinator: Vec<PublicKey>,
    /// Public key of a coordinator that no longer may; may be repeated
    #[arg(long, value_name = "PUBLIC_KEY")]
    pub retire_coordinator: Vec<PublicKey>,
    /// Hand the governor's role over
    #[arg(long, value_name = "ADDRESS")]
    pub governor: Option<Address>,
    /// Who signs, and how it is sent
    #[command(flatten)]
    pub send: SendArgs,
}

/// Which node to ask.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// URL of the node
    #[arg(long, value_name = "URL", env = "AIT_RPC_URL", default_value = "http://127.0.0.1:8080")]
    pub rpc: String,
}

/// Who signs and how the transaction is sent.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// Which node
    #[command(flatten)]
    pub node: NodeArgs,
    /// The sender's key: a key file or 64 hex digits
    #[arg(long, value_name = "FILE_OR_HEX")]
    pub key: String,
    /// File whose first line is the passphrase of the key
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Base units for the proposer [default: the least that the chain takes]
    #[arg(long, value_parser = amount)]
    pub fee: Option<Amount>,
    /// Nonce [default: the account's next one]
    #[arg(long, value_parser = nonce)]
    pub nonce: Option<Nonce>,
    /// Last height at which it may be included
    #[arg(long, value_name = "HEIGHT", value_parser = expiry)]
    pub expires_at: Option<Height>,
    /// Wait until it is in a block
    #[arg(long)]
    pub wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

/// Arguments of `tx transfer`.
#[derive(Debug, Args)]
pub struct TransferArgs {
    /// The recipient
    #[arg(long, value_name = "ADDRESS")]
    pub to: Address,
    /// Base units to move
    #[arg(long, value_parser = amount)]
    pub amount: Amount,
    /// Who signs, and how it is sent
    #[command(flatten)]
    pub send: SendArgs,
}

/// An amount as an argument.
pub(super) fn amount(text: &str) -> Result<Amount, String> {
    let value = text.parse().ok().and_then(Amount::new);
    value.ok_or_else(|| format!("{text:?} is not a whole number from 0 to {}", Amount::MAX))
}

fn nonce(text: &str) -> Result<Nonce, String> {
    let value = text.parse().ok().and_then(Nonce::new);
    value.ok_or_else(|| format!("{text:?} is not a whole number from 0 to {}", Nonce::MAX))
}

fn expiry(text: &str) -> Result<Height, String> {
    let value = text.parse().ok().filter(|height| *height > 0).and_then(Height::new);
    value.ok_or_else(|| format!("{text:?} is not a height from 1 to {}", Height::MAX))
}

/// Does it.
///
/// # Errors
/// [`CliError`] if the node refuses the transaction or does not include it in time.
pub async fn run(command: TxCommand, output: &Output) -> Result<(), CliError> {
    let (send, key, payload) = match command {
        TxCommand::Transfer(TransferArgs { to, amount, send }) => {
            if amount == Amount::ZERO {
                return Err(CliError::usage("bad_amount", "an amount of 0 moves nothing"));
            }
            let key = send.key()?;
            (send, key, Payload::Transfer { to, amount })
        }
        TxCommand::BindProvider(args) => {
            let key = args.send.key()?;
            let payload = bind(&args, &key).await?;
            (args.send, key, payload)
        }
        TxCommand::ParamSet(args) => {
            let payload = param_set(&args)?;
            let key = args.send.key()?;
            (args.send, key, payload)
        }
    };
    let (object, lines) = submit(&send, &key, payload).await?;
    output.result(&object, &lines)
}

async fn bind(args: &BindArgs, key: &SecretKey) -> Result<Payload, CliError> {
    let passphrase = Passphrase { file: args.send.passphrase_file.clone() };
    let other = args.receipt_key.as_ref().map(|key| keystore::resolve(key, &passphrase));
    let other = other.transpose()?;
    let receipt_key = other.as_ref().unwrap_or(key);
    let head: Head = RestClient::new(&args.send.node.rpc)?.get("/rpc/head").await?;
    let account = key.public_key().address();
    let hash = ProviderBind::sign_hash(&head.chain_id, &account, &args.name);
    Ok(Payload::ProviderBind(ProviderBind {
        name: args.name.clone(),
        receipt_key: receipt_key.public_key(),
        key_signature: receipt_key.sign(hash.as_bytes()),
    }))
}

fn param_set(args: &ParamSetArgs) -> Result<Payload, CliError> {
    let params = args.params.iter();
    let mut changes: Vec<ParamChange> = params
        .map(|(name, value)| ParamChange::Param { name: name.clone(), value: *value })
        .collect();
    for (keys, active) in [(&args.coordinator, true), (&args.retire_coordinator, false)] {
        changes.extend(keys.iter().map(|key| ParamChange::Coordinator {
            public_key: *key,
            payout: key.address(),
            active,
        }));
    }
    changes.extend(args.governor.map(|address| ParamChange::Governor { address }));
    if changes.is_empty() {
        return Err(CliError::usage("no_change", "nothing is to be changed")
            .hint("name a change: --param, --coordinator, --retire-coordinator or --governor"));
    }
    let set =
        ParamSet::new(changes).map_err(|error| CliError::usage("bad_change", error.to_string()))?;
    Ok(Payload::ParamSet(set))
}

impl SendArgs {
    /// The sender's key.
    ///
    /// # Errors
    /// [`CliError`] if it cannot be had.
    pub fn key(&self) -> Result<SecretKey, CliError> {
        let passphrase = Passphrase { file: self.passphrase_file.clone() };
        Ok(keystore::resolve(&self.key, &passphrase)?)
    }
}

/// Signs and sends a transaction and, if asked, waits for its block.
///
/// # Errors
/// [`CliError`] if the node refuses it or does not include it in time.
pub async fn submit(
    args: &SendArgs,
    key: &SecretKey,
    payload: Payload,
) -> Result<(Value, Vec<String>), CliError> {
    let client = RestClient::new(&args.node.rpc)?;
    let head: Head = client.get("/rpc/head").await?;
    let nonce = match args.nonce {
        Some(nonce) => nonce,
        None => {
            let account = client.account(&key.public_key().address()).await?;
            let next = account.pending_nonce.unwrap_or(account.nonce);
            Nonce::new(next)
                .ok_or_else(|| CliError::failed("bad_answer", "the node names no nonce"))?
        }
    };
    let fee = match args.fee {
        Some(fee) => fee,
        None => least_fee(&client, &payload).await?,
    };
    let transaction = Transaction::sign(key, head.chain_id, nonce, fee, args.expires_at, payload);
    let hash = transaction.hash().to_string();
    client.send(&transaction).await?;
    let mut object = json!({
        "tx_hash": hash, "sender": transaction.sender(), "nonce": nonce, "fee": fee,
        "status": "pending",
    });
    let mut lines = vec![format!("transaction {hash}"), format!("nonce {nonce}, fee {fee}")];
    if args.wait {
        let view = wait(&client, &hash, args.timeout).await?;
        if let Some(members) = object.as_object_mut() {
            members.insert("status".to_owned(), json!("committed"));
            members.insert("block_height".to_owned(), json!(view.block_height));
            members.insert("block_hash".to_owned(), json!(view.block_hash));
            members.insert("outcome".to_owned(), json!(view.outcome));
        }
        lines.push(format!("committed in block {}", view.block_height));
        for reward in &view.outcome.rewards {
            lines.push(format!("minted {} to {}", reward.amount, reward.address));
        }
    } else {
        lines.push(format!("accepted; see it with: ait-node query tx {hash}"));
    }
    Ok((object, lines))
}

/// The least fee if the node names it, otherwise the one it advises.
async fn least_fee(client: &RestClient, payload: &Payload) -> Result<Amount, CliError> {
    let body = json!({
        "type": payload.kind().name(), "payload": wire::payload_to_json(payload),
    });
    let answer: Value = match client.post("/rpc/estimateFee", &body).await {
        Ok(answer) => answer,
        // A node without fee advice: try none; the chain refuses what is below its minimum.
        Err(error) if error.is_not_found() => return Ok(Amount::ZERO),
        Err(error) => return Err(error.into()),
    };
    let fee = answer.get("min_fee").or_else(|| answer.get("estimated_fee"));
    let fee = fee.and_then(Value::as_u64).and_then(Amount::new);
    fee.ok_or_else(|| {
        CliError::failed("bad_answer", "the node names no fee").hint("give one with --fee")
    })
}

async fn wait(
    client: &RestClient,
    hash: &str,
    timeout: Duration,
) -> Result<TransactionView, CliError> {
    let look = async {
        loop {
            match client.get::<TransactionView>(&format!("/rpc/tx/{hash}")).await {
                Ok(view) => return Ok(view),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(CliError::from(error)),
            }
            let why = client.get::<WhyResponse>(&format!("/rpc/tx/{hash}/why")).await;
            if let Ok(WhyResponse { status, detail, code, hint, .. }) = why
                && status == "dropped"
            {
                let code = code.unwrap_or_else(|| "dropped".to_owned());
                let message = format!("the transaction was dropped: {detail}");
                return Err(CliError { hint, ..CliError::failed(&code, message) });
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(timeout, look).await.unwrap_or_else(|_| {
        let after = humantime::format_duration(timeout);
        Err(CliError::failed("timeout", format!("{hash} is in no block after {after}"))
            .hint(format!("ask why with: ait-node query tx {hash}; it may still be included")))
    })
}
