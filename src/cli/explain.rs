//! `explain`: execute the block of a divergence file again, and say who is right; or check
//! a file of evidence.

use std::path::PathBuf;

use ait_engine::outcome::Outcome;
use ait_engine::state::{Account, EntryKind, Key, Supply, Value};
use ait_engine::transaction::Transaction;
use ait_engine::types::{Address, BlockId, Hash};
use clap::Args;
use serde_json::json;

use super::{CliError, Output};
use crate::divergence::{self, Divergence, Examined, Executed, Field, Touched, Verdict};
use crate::evidence::{Evidence, Proved};

/// Transactions and entries that are shown as text.
const SHOWN_MAX: usize = 50;

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(
    after_help = "A node writes such a file to DATA_DIR/divergence when executing a block does not give
what its header says. The file holds all that is needed: no data directory, no network.
Compare the parent's id with your own chain; all else is verified against it.

A file of DATA_DIR/evidence holds two signatures of a validator of which it may give one
only; both are checked.

Exit code 0 if what the header says is what executing gives here, 1 if not, 2 for a file
that cannot be read.

Examples:
  ait-node explain data/divergence/1042-5f0c9a7d21e34b88.ait
  ait-node explain 1042-5f0c9a7d21e34b88.ait --json"
)]
pub struct ExplainArgs {
    /// A divergence file, or a file of evidence
    pub file: PathBuf,
}

/// Checks two signatures of which a validator may give one only.
fn explain_evidence(args: &ExplainArgs, output: &Output) -> Result<(), CliError> {
    let proved = Evidence::load(&args.file).and_then(|evidence| Ok((evidence.verify()?, evidence)));
    let (proved, evidence) = proved.map_err(|error| {
        let message = format!("{}: {error}", args.file.display());
        CliError::usage("bad_evidence_file", message)
            .hint("name a file that a node wrote to its data directory's evidence folder")
    })?;
    let Proved { height, round, blocks } = proved;
    let (validator, kind) = (evidence.validator, evidence.kind.name());
    let object = json!({
        "ok": true,
        "chain_id": evidence.chain_id,
        "validator": validator,
        "public_key": evidence.public_key,
        "kind": kind,
        "height": height,
        "round": round,
        "blocks": blocks,
    });
    let block = |id: Option<BlockId>| id.map_or_else(|| "nil".to_owned(), |id| id.to_string());
    let lines = vec![
        format!(
            "{validator} signed two {kind}s at height {height}, round {round}, of {}",
            evidence.chain_id
        ),
        format!("  one for   {}", block(blocks[0])),
        format!("  one for   {}", block(blocks[1])),
        "both signatures are its own: two processes use its key, or it is dishonest".to_owned(),
    ];
    output.result(&object, &lines)
}

/// Does it.
///
/// # Errors
/// [`CliError`] if the file cannot be read, or the header does not say what executing gives.
pub fn run(args: &ExplainArgs, output: &Output) -> Result<(), CliError> {
    let path = args.file.display();
    if args.file.extension().is_some_and(|extension| extension == "json") {
        return explain_evidence(args, output);
    }
    let bad = |error: &dyn std::fmt::Display| {
        CliError::usage("bad_divergence_file", format!("{path}: {error}"))
            .hint("name a file that a node wrote to its data directory's divergence folder")
    };
    let divergence = divergence::read(&args.file).map_err(|error| bad(&error))?;
    let examined = divergence::examine(&divergence).map_err(|error| bad(&error))?;
    output.result(&object(&divergence, &examined), &text(&divergence, &examined))?;
    let height = divergence.block.header.height;
    let failed = |code, message: String, hint| Err(CliError::failed(code, message).hint(hint));
    match examined.verdict() {
        Verdict::Agrees => Ok(()),
        Verdict::Differs => failed(
            "divergence",
            format!("executing block {height} here does not give what its header says"),
            if examined.is_as_made {
                "this machine confirms it: send the file to whoever runs the block's proposer"
            } else {
                "repeat this on other machines and versions: a correct program gives the same everywhere"
            },
        ),
        Verdict::Unproven => failed(
            "state_unproven",
            format!("the file's state is not the one that block {height} was made on"),
            "the node that made the file has a damaged state: restore it, or sync it anew; or the file was altered",
        ),
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Agrees => "the header says what executing gives here",
        Verdict::Differs => "executing here does NOT give what the header says",
        Verdict::Unproven => "nothing follows: the state in the file is not proven",
    }
}

fn refusal(executed: &Executed) -> Option<&str> {
    match executed {
        Executed::Refused { reason } => Some(reason),
        Executed::Block(_) => None,
    }
}

/// Each transaction with what executing it gave here, if the block was executed.
fn transactions<'a>(
    divergence: &'a Divergence,
    examined: &'a Examined,
) -> impl Iterator<Item = (&'a Transaction, Option<&'a Outcome>)> {
    let outcomes = examined.here.rebuilt().map_or(&[][..], |rebuilt| &rebuilt.outcomes);
    let outcomes = outcomes.iter().map(Some).chain(std::iter::repeat(None));
    divergence.block.transactions.iter().zip(outcomes)
}

fn object(divergence: &Divergence, examined: &Examined) -> serde_json::Value {
    let header = &divergence.block.header;
    let field = |field: &Field| {
        json!({
            "field": field.name,
            "header": field.header,
            "here": field.here,
            "when_made": field.maker,
        })
    };
    let transaction = |(transaction, outcome): (&Transaction, Option<&Outcome>)| {
        let outcome = outcome.map(|outcome| {
            let reward = |reward: &ait_engine::outcome::Reward| {
                json!({ "address": reward.address, "amount": reward.amount })
            };
            let rewards: Vec<_> = outcome.rewards.iter().map(reward).collect();
            json!({ "fee": outcome.fee, "rewards": rewards })
        });
        json!({
            "hash": transaction.hash(),
            "type": transaction.payload.kind().name(),
            "sender": transaction.sender(),
            "nonce": transaction.nonce,
            "outcome": outcome,
        })
    };
    let entry = |entry: &Touched| {
        let (kind, id) = name(entry);
        let value = |value: &Option<Value>| value.as_ref().map(value_object);
        json!({
            "kind": kind,
            "id": id,
            "before": value(&entry.before),
            "here": value(&entry.here),
            "when_made": value(&entry.maker),
        })
    };
    json!({
        "ok": examined.verdict() == Verdict::Agrees,
        "verdict": verdict(examined.verdict()),
        "chain_id": header.chain_id,
        "height": header.height,
        "block_id": examined.block_id,
        "parent": divergence.parent.id(),
        "proposer": header.proposer,
        "time": header.time,
        "made_by": divergence.made_by,
        "reason": divergence.reason,
        "run_by": divergence::made_by(),
        "state_proven": examined.proof.is_ok(),
        "state_fault": examined.proof.err().map(|fault| fault.to_string()),
        "differences": examined.fields.iter().map(field).collect::<Vec<_>>(),
        "refused_here": refusal(&examined.here),
        "refused_when_made": refusal(&divergence.executed),
        "machines_agree": examined.is_as_made,
        "transactions": transactions(divergence, examined).map(transaction).collect::<Vec<_>>(),
        "entries": examined.entries.iter().map(entry).collect::<Vec<_>>(),
    })
}

fn text(divergence: &Divergence, examined: &Examined) -> Vec<String> {
    let header = &divergence.block.header;
    let mut lines = vec![
        format!("block {} of {}: {}", header.height, header.chain_id, verdict(examined.verdict())),
        format!("  block     {}", examined.block_id),
        format!("  parent    {}", divergence.parent.id()),
        format!("  proposer  {}", header.proposer),
        format!("  made by   {}: {}", shown(&divergence.made_by), shown(&divergence.reason)),
        format!("  run by    {}", divergence::made_by()),
    ];
    lines.push(match &examined.proof {
        Ok(()) => "  state     proven by the parent's state root".to_owned(),
        Err(fault) => format!("  state     NOT proven: {fault}"),
    });
    lines.push(match examined.is_as_made {
        true => "  machines  this one gives what the one that made the file gave".to_owned(),
        false => "  machines  this one does NOT give what the one that made the file gave: \
                  the program, or one of the machines, is not deterministic"
            .to_owned(),
    });
    let refusals = [("here", &examined.here), ("when the file was made", &divergence.executed)];
    for (place, executed) in refusals {
        lines.extend(refusal(executed).map(|reason| format!("refused {place}: {}", shown(reason))));
    }
    for field in &examined.fields {
        let none = "the block is refused";
        lines.push(format!("{} differs", field.name));
        lines.push(format!("  header says        {}", field.header));
        lines.push(format!("  executed here      {}", field.here.as_deref().unwrap_or(none)));
        lines.push(format!("  when file was made {}", field.maker.as_deref().unwrap_or(none)));
    }
    let all = transactions(divergence, examined).map(transaction_line);
    list(&mut lines, "transactions", all.collect());
    let is_as_made = examined.is_as_made || divergence.executed.rebuilt().is_none();
    let entries = examined.entries.iter().map(|entry| entry_line(entry, is_as_made));
    list(&mut lines, "entries changed", entries.collect());
    lines
}

/// A text from the file, without what would steer a terminal.
fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
    out
}

fn list(lines: &mut Vec<String>, what: &str, all: Vec<String>) {
    let count = all.len();
    lines.push(format!("{what}: {count}"));
    lines.extend(all.into_iter().take(SHOWN_MAX));
    if count > SHOWN_MAX {
        lines.push(format!("  and {} more: --json shows all", count - SHOWN_MAX));
    }
}

fn transaction_line((transaction, outcome): (&Transaction, Option<&Outcome>)) -> String {
    let (hash, kind, sender) =
        (transaction.hash(), transaction.payload.kind().name(), transaction.sender());
    let did = match outcome {
        Some(outcome) if outcome.rewards.is_empty() => format!("fee {}", outcome.fee),
        Some(outcome) => format!("fee {}, minted {}", outcome.fee, outcome.minted()),
        None => "not executed".to_owned(),
    };
    format!("  {hash} {kind} of {sender}, nonce {}: {did}", transaction.nonce)
}

/// `before -> after`, and what it was elsewhere where that is something else.
fn entry_line(entry: &Touched, is_as_made: bool) -> String {
    let (kind, id) = name(entry);
    let before = entry.before.as_ref();
    let line = format!("  {kind} {id}: {}", change_text(before, entry.here.as_ref()));
    if is_as_made || entry.here == entry.maker {
        return line;
    }
    format!("{line} (when file was made: {})", change_text(before, entry.maker.as_ref()))
}

/// Each part of a value with what it was and what it is, if that is something else.
fn change_text(before: Option<&Value>, after: Option<&Value>) -> String {
    let Some(after) = after else { return "unchanged".to_owned() };
    let Some(before) = before.map(value_parts) else {
        let parts = value_parts(after).into_iter().map(|(name, part)| format!("{name} {part}"));
        return format!("new, {}", parts.collect::<Vec<_>>().join(", "));
    };
    let parts = value_parts(after).into_iter().map(|(name, part)| {
        let old = before.iter().find(|(other, _)| *other == name).map(|(_, old)| old);
        match old.filter(|old| **old != part) {
            Some(old) => format!("{name} {old} -> {part}"),
            None => format!("{name} {part}"),
        }
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// What an entry is, and its address or key.
fn name(entry: &Touched) -> (&'static str, String) {
    let value = entry.here.as_ref().or(entry.maker.as_ref()).or(entry.before.as_ref());
    let kind = value.and_then(|value| value.as_bytes().first());
    let Key(key) = entry.key;
    let is = |kind: EntryKind| kind as u8;
    let kind = match kind {
        Some(kind) if *kind == is(EntryKind::Account) => {
            return ("account", Address(key).to_string());
        }
        Some(kind) if *kind == is(EntryKind::Receipt) => "receipt",
        Some(kind) if *kind == is(EntryKind::Job) => "job",
        Some(kind) if *kind == is(EntryKind::Supply) => "supply",
        Some(kind) if *kind == is(EntryKind::Settings) => "settings",
        Some(kind) if *kind == is(EntryKind::Validators) => "validators",
        Some(kind) if *kind == is(EntryKind::Coordinator) => "coordinator",
        Some(kind) if *kind == is(EntryKind::Provider) => "provider",
        _ => "entry",
    };
    (kind, Hash(key).to_string())
}

/// A value by its parts, or its bytes in hex.
fn value_parts(value: &Value) -> Vec<(&'static str, String)> {
    if let Ok(Account { balance, nonce }) = Account::try_from(value) {
        return vec![("balance", balance.to_string()), ("nonce", nonce.to_string())];
    }
    if let Ok(Supply { total, minted }) = Supply::try_from(value) {
        return vec![("total", total.to_string()), ("minted", minted.to_string())];
    }
    if let Ok((height, minted)) = value.as_receipt() {
        return vec![("height", height.to_string()), ("minted", minted.to_string())];
    }
    vec![("bytes", hex::encode(value.as_bytes()))]
}

/// The parts as JSON: all are numbers but the bytes.
fn value_object(value: &Value) -> serde_json::Map<String, serde_json::Value> {
    let part = |(name, part): (&'static str, String)| match part.parse::<u64>() {
        Ok(number) if name != "bytes" => (name.to_owned(), json!(number)),
        _ => (name.to_owned(), json!(part)),
    };
    value_parts(value).into_iter().map(part).collect()
}
