//! `query`: what a node says, verified here where it has a proof.

use std::path::PathBuf;

use ait_engine::codec::Canonical;
use ait_engine::genesis::Genesis;
use ait_engine::transaction::Transaction;
use ait_engine::types::{Address, BlockId, TxHash};
use ait_net::light::{self, VerifiedHeader};
use ait_net::rest::{RestClient, path_segment};
use ait_net::wire::{
    self, AccountProof, BlockBody, Head, ReceiptProof, ReceiptView, TransactionProof,
    TransactionView, WhyResponse,
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::tx::NodeArgs;
use super::{CliError, Output, genesis};

/// What to ask for.
#[derive(Debug, Subcommand)]
pub enum QueryCommand {
    /// The newest block
    Head(QueryArgs),
    /// A block
    Block {
        /// Its height or its hash
        block: String,
        /// Which node
        #[command(flatten)]
        args: QueryArgs,
    },
    /// A transaction: its block with proof, or why it is in none
    Tx {
        /// Its hash
        hash: TxHash,
        /// Which node
        #[command(flatten)]
        args: QueryArgs,
    },
    /// Balance and nonce of an account, with proof
    Account {
        /// Its address
        address: Address,
        /// Which node
        #[command(flatten)]
        args: QueryArgs,
    },
    /// A claimed receipt, with proof
    Receipt {
        /// Its id
        receipt_id: String,
        /// Which node
        #[command(flatten)]
        args: QueryArgs,
    },
    /// The proof itself of an account, transaction or receipt
    Proof {
        /// What the proof is of
        #[command(subcommand)]
        of: ProofOf,
    },
}

/// What a proof is of.
#[derive(Debug, Subcommand)]
pub enum ProofOf {
    /// An account's balance and nonce, or that it does not exist
    Account {
        /// Its address
        address: Address,
        /// Which node
        #[command(flatten)]
        args: QueryArgs,
    },
    /// A transaction's place in a final block
    Tx {
        /// Its hash
        hash: TxHash,
        /// Which node
        #[command(flatten)]
        args: QueryArgs,
    },
    /// That a receipt was claimed, or that it was not
    Receipt {
        /// Its id
        receipt_id: String,
        /// Which node
        #[command(flatten)]
        args: QueryArgs,
    },
}

/// Which node, and what is trusted.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// Which node
    #[command(flatten)]
    pub node: NodeArgs,
    /// Trusted genesis document: certificates are checked against its validators
    #[arg(long, value_name = "FILE")]
    pub genesis: Option<PathBuf>,
}

struct Asked {
    client: RestClient,
    genesis: Option<Genesis>,
}

impl QueryArgs {
    fn open(&self) -> Result<Asked, CliError> {
        let genesis = match &self.genesis {
            Some(path) => Some(genesis::read(path)?.1),
            None => None,
        };
        Ok(Asked { client: RestClient::new(&self.node.rpc)?, genesis })
    }
}

fn verified(header: &VerifiedHeader) -> (Value, String) {
    let trust = if header.pinned { "genesis" } else { "node" };
    let height = header.header.height;
    let words = match trust {
        _ if height.get() == 0 && !header.pinned => {
            "the node's genesis, which has no certificate; pin it with --genesis FILE"
        }
        "genesis" => "certificate checked against the validators of the genesis given",
        _ => {
            "certificate checked against the validators that the node names; pin them with --genesis FILE"
        }
    };
    let object = json!({
        "verified": true, "height": height, "block_id": header.block_id,
        "state_root": header.header.state_root, "validators_from": trust,
    });
    (object, format!("verified here: proof leads to block {height} {} ({words})", header.block_id))
}

/// Does it.
///
/// # Errors
/// [`CliError`] if the node does not answer, there is no such thing, or a proof fails.
pub async fn run(command: QueryCommand, output: &Output) -> Result<(), CliError> {
    match command {
        QueryCommand::Head(args) => head(&args, output).await,
        QueryCommand::Block { block, args } => show_block(&block, &args, output).await,
        QueryCommand::Tx { hash, args } => transaction(&hash, &args, output).await,
        QueryCommand::Account { address, args } => account(&address, &args, false, output).await,
        QueryCommand::Receipt { receipt_id, args } => receipt(&receipt_id, &args, output).await,
        QueryCommand::Proof { of } => match of {
            ProofOf::Account { address, args } => account(&address, &args, true, output).await,
            ProofOf::Tx { hash, args } => transaction_proof(&hash, &args, output).await,
            ProofOf::Receipt { receipt_id, args } => {
                receipt_proof(&receipt_id, &args, output).await
            }
        },
    }
}

async fn head(args: &QueryArgs, output: &Output) -> Result<(), CliError> {
    let head: Head = args.open()?.client.get("/rpc/head").await?;
    let lines = [
        format!("height      {}", head.height),
        format!("hash        {}", head.hash),
        format!("time        {}", head.timestamp),
        format!("state root  {}", head.state_root),
        "not verified here: ask for a block or a proof".to_owned(),
    ];
    output.result(&json!(head), &lines)
}

async fn show_block(block: &str, args: &QueryArgs, output: &Output) -> Result<(), CliError> {
    let asked = args.open()?;
    let path = format!("/rpc/blocks/{}", path_segment(block));
    let raw: Value = asked.client.get(&path).await?;
    let body: BlockBody = serde_json::from_value(raw.clone())
        .map_err(|error| CliError::failed("bad_answer", format!("the block: {error}")))?;
    let header = body.checked_header().map_err(light::LightError::from)?;
    let summary = &body.summary;
    let is_asked = block.parse().map_or_else(
        |_| block.parse().is_ok_and(|id: BlockId| id == header.id()),
        |height: u64| height == header.height.get(),
    );
    if !is_asked || body.transactions.len() as u64 != u64::from(header.transaction_count) {
        let message = format!(
            "asked was {block}, the answer is block {} with {} of {} transactions",
            header.height,
            body.transactions.len(),
            header.transaction_count
        );
        return Err(CliError::failed("bad_answer", message).hint("ask another node"));
    }
    let certified = match (&body.certificate, &asked.genesis) {
        (Some(_), Some(_)) => {
            let header = body.header.clone();
            let certificate = body.certificate.clone();
            let validators =
                asked.genesis.as_ref().map(|g| wire::ValidatorJson::list(&g.validators));
            let validators = validators.unwrap_or_default();
            let anchor = wire::Anchor { header, certificate, validators };
            light::header(&anchor, asked.genesis.as_ref())?;
            "its certificate verifies against the genesis given"
        }
        _ => "its certificate was not checked: give --genesis FILE",
    };
    let lines = [
        format!("height        {}", header.height),
        format!("hash          {}", summary.hash),
        format!("parent        {}", header.parent),
        format!("time          {}", wire::rfc3339(header.time)),
        format!("proposer      {}", header.proposer),
        format!("state root    {}", header.state_root),
        format!("transactions  {}", header.transaction_count),
        format!("verified here: the hash is that of the header; {certified}"),
    ];
    output.result(&raw, &lines)
}

async fn account(
    address: &Address,
    args: &QueryArgs,
    whole: bool,
    output: &Output,
) -> Result<(), CliError> {
    let asked = args.open()?;
    let answer: AccountProof = asked.client.get(&format!("/rpc/proof/account/{address}")).await?;
    let (header, account) = light::account(&answer, address, asked.genesis.as_ref())?;
    let (proof, words) = verified(&header);
    let mut object = json!({
        "address": address, "exists": account.is_some(), "balance": answer.balance,
        "nonce": answer.nonce, "verification": proof,
    });
    if let (true, Some(members)) = (whole, object.as_object_mut()) {
        members.insert("proof".to_owned(), json!(answer));
    }
    let mut lines = vec![
        format!("address  {address}"),
        format!("balance  {}", answer.balance),
        format!("nonce    {}", answer.nonce),
    ];
    if account.is_none() {
        lines.push("the account does not exist; that is proved, too".to_owned());
    }
    if whole {
        lines.push(format!("proof    {}", answer.proof));
    }
    lines.push(words);
    output.result(&object, &lines)
}

async fn transaction(hash: &TxHash, args: &QueryArgs, output: &Output) -> Result<(), CliError> {
    let asked = args.open()?;
    let view = match asked.client.get::<TransactionView>(&format!("/rpc/tx/{hash}")).await {
        Ok(view) => view,
        Err(error) if error.is_not_found() => {
            let why: WhyResponse = asked.client.get(&format!("/rpc/tx/{hash}/why")).await?;
            let code = why.code.clone().unwrap_or_else(|| format!("tx_{}", why.status));
            let message = format!("{hash} is in no block ({}): {}", why.status, why.detail);
            return Err(CliError { hint: why.hint, ..CliError::failed(&code, message) });
        }
        Err(error) => return Err(error.into()),
    };
    let path = format!("/rpc/proof/transaction/{hash}");
    let answer = match asked.client.get::<TransactionProof>(&path).await {
        Ok(answer) => answer,
        // Never in silence, and not where the caller names what to trust.
        Err(error) if error.is_not_found() && asked.genesis.is_none() => {
            let object = json!({ "transaction": view, "verification": { "verified": false } });
            let words = "NOT verified here: this node gives no proof of transactions".to_owned();
            let place = format!("transaction {hash} in block {}", view.block_height);
            return output.result(&object, &[place, words]);
        }
        Err(error) => return Err(error.into()),
    };
    let (header, proved) = light::transaction(&answer, hash, asked.genesis.as_ref())?;
    let (proof, words) = verified(&header);
    // What is shown is what was proved, not what the node says beside it.
    let signed = wire::TransactionJson::from(&proved);
    let object = json!({
        "tx_hash": hash, "block_height": header.header.height, "block_hash": header.block_id,
        "transaction": signed, "created_at": wire::rfc3339(header.header.time), "outcome": view.outcome,
        "not_verified": ["outcome"],
        "verification": proof,
    });
    let lines = [
        format!("transaction  {hash}"),
        format!("type         {}", signed.kind),
        format!("sender       {}", signed.sender),
        format!("nonce, fee   {}, {}", signed.nonce, signed.fee),
        format!("payload      {}", signed.payload),
        format!("block        {} at {}", header.header.height, wire::rfc3339(header.header.time)),
        words,
    ];
    output.result(&object, &lines)
}

async fn transaction_proof(
    hash: &TxHash,
    args: &QueryArgs,
    output: &Output,
) -> Result<(), CliError> {
    let asked = args.open()?;
    let answer: TransactionProof =
        asked.client.get(&format!("/rpc/proof/transaction/{hash}")).await?;
    let (header, proved): (_, Transaction) =
        light::transaction(&answer, hash, asked.genesis.as_ref())?;
    let (proof, words) = verified(&header);
    let object = json!({ "tx_hash": hash, "verification": proof, "proof": answer });
    let bytes = proved.encode().len();
    let place = format!(
        "transaction {} of {} in block {}, {bytes} bytes",
        answer.proof.index, answer.proof.count, header.header.height
    );
    output.result(&object, &[place, words])
}

async fn receipt(receipt_id: &str, args: &QueryArgs, output: &Output) -> Result<(), CliError> {
    let asked = args.open()?;
    let segment = path_segment(receipt_id);
    let answer: ReceiptProof = asked.client.get(&format!("/rpc/proof/receipt/{segment}")).await?;
    let header = light::receipt(&answer, receipt_id, asked.genesis.as_ref())?;
    let (proof, words) = verified(&header);
    let (Some(height), Some(minted)) = (answer.claimed_at, answer.minted_amount) else {
        let message = format!("receipt {receipt_id} is not claimed; {words}");
        return Err(CliError::failed("receipt_not_claimed", message));
    };
    let view: ReceiptView = asked.client.get(&format!("/rpc/receipts/{segment}")).await?;
    // Height and amount are proved; the rest is what the node says of the receipt.
    if (view.block_height, view.minted_amount) != (height.get(), minted.get()) {
        let message = format!(
            "the node shows {} minted in block {}, but proves {minted} in block {height}",
            view.minted_amount, view.block_height
        );
        return Err(CliError::failed("contradiction", message).hint("ask another node"));
    }
    let lines = [
        format!("receipt  {receipt_id}"),
        format!("minted   {minted}"),
        format!("claimed  in block {height}"),
        words,
        format!("as the node says: job {}, at {}", view.job_id, view.recorded_at),
    ];
    output.result(&json!({ "receipt": view, "verification": proof }), &lines)
}

async fn receipt_proof(
    receipt_id: &str,
    args: &QueryArgs,
    output: &Output,
) -> Result<(), CliError> {
    let asked = args.open()?;
    let path = format!("/rpc/proof/receipt/{}", path_segment(receipt_id));
    let answer: ReceiptProof = asked.client.get(&path).await?;
    let header = light::receipt(&answer, receipt_id, asked.genesis.as_ref())?;
    let (proof, words) = verified(&header);
    let claim = match (answer.claimed_at, answer.minted_amount) {
        (Some(height), Some(minted)) => format!("claimed in block {height}, minted {minted}"),
        _ => "not claimed".to_owned(),
    };
    output.result(&json!({ "verification": proof, "proof": answer }), &[claim, words])
}
