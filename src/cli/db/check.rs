//! `db check`: every file of a stopped node by itself, and how they fit together.

use std::sync::Arc;

use ait_engine::genesis::GenesisDocument;
use ait_engine::state::{Account, Claim, StateProof, StateView};
use ait_engine::types::{Amount, Height};
use ait_storage::{MemoryStorage, Place, Storage, StorageError};
use serde::Serialize;
use serde_json::json;

use super::{DbArgs, Output};
use crate::chain::{
    BlockStore, ChainError, ChainOptions, ChainWriter, Index, Location, StateStore, Stores,
    ViewError,
};
use crate::cli::offline::Directory;
use crate::cli::{CliError, progress};
use crate::consensus::{FileLog, FileSigner};
use crate::mempool::Journal;

/// Rows that are read together.
const PAGE: usize = 10_000;

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The file, as it is named in the data directory.
    pub file: &'static str,
    /// Where in it and what.
    pub what: String,
    /// What mends it.
    pub mend: &'static str,
}

/// What a check found.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// What is damaged.
    pub findings: Vec<Finding>,
    /// What a crash leaves and the next start puts right.
    pub notes: Vec<String>,
    /// Whether an index was begun, as far as it can be read: a node need not keep one.
    pub has_index: bool,
    /// How far the blocks went, by what was made of them and signed, if any of that tells.
    pub reached: Option<Height>,
    /// Height, state root, transactions and state entries, if all of it could be read.
    pub whole: Option<(Height, String, u64, u64)>,
}

pub(super) const BLOCKS: &str = "chain/blocks.redb";
pub(super) const STATE: &str = "chain/state.redb";
pub(super) const INDEX: &str = "chain/index.redb";
pub(super) const GENESIS: &str = "genesis.json";
pub(super) const LOG: &str = "consensus.log";
pub(super) const RECORD: &str = "signer.record";
pub(super) const JOURNAL: &str = "mempool.journal";

/// What mends a file.
const fn mend(file: &str) -> &'static str {
    match file.as_bytes() {
        b"chain/blocks.redb" => "ait-node db repair keeps the good blocks; peers have the others",
        b"chain/state.redb" => "ait-node db repair executes the blocks again",
        b"chain/index.redb" => "ait-node db repair makes it again",
        b"genesis.json" => "copy it from another node of the chain",
        b"signer.record" => {
            "restore it from this machine's newest copy; without it this key must not sign again"
        }
        _ => "ait-node db repair moves it aside",
    }
}

impl Checked {
    fn find(&mut self, file: &'static str, what: impl std::fmt::Display) {
        self.findings.push(Finding { file, what: what.to_string(), mend: mend(file) });
    }

    /// Whether a file is damaged.
    pub(super) fn has(&self, file: &str) -> bool {
        self.findings.iter().any(|finding| finding.file == file)
    }
}

pub(super) fn run(args: &DbArgs, output: &Output) -> Result<(), CliError> {
    let directory = Directory::new(&args.data_dir, args.genesis.as_deref())?;
    let checked = check(&directory, output)?;
    let whole = checked.whole.as_ref();
    let object = json!({
        "ok": checked.findings.is_empty(),
        "findings": checked.findings,
        "notes": checked.notes,
        "height": whole.map(|w| w.0), "state_root": whole.map(|w| &w.1),
        "transactions": whole.map(|w| w.2), "state_entries": whole.map(|w| w.3),
    });
    let mut lines = checked.notes.clone();
    if let (Some((height, root, transactions, entries)), true) =
        (whole, checked.findings.is_empty())
    {
        lines.push(format!(
            "whole: {height} blocks, {transactions} transactions, {entries} state entries, state {root}"
        ));
        return output.result(&object, &lines);
    }
    for Finding { file, what, mend } in &checked.findings {
        lines.push(format!("{file}: {what}\n  {mend}"));
    }
    output.result(&object, &lines)?;
    let files: Vec<_> = checked.findings.iter().map(|finding| finding.file).collect();
    let message = format!("damaged: {}", files.join(", "));
    Err(CliError::failed("database_corrupt", message).hint("ait-node db repair --help says more"))
}

/// Looks at every file.
///
/// # Errors
/// When another process has them open.
pub(super) fn check(directory: &Directory<'_>, output: &Output) -> Result<Checked, CliError> {
    let mut checked = Checked::default();
    let blocks = open(directory, "blocks", BLOCKS, &mut checked)?;
    let state = open(directory, "state", STATE, &mut checked)?;
    let index = open(directory, "index", INDEX, &mut checked)?;
    let newest = |store: &Store| BlockStore::existing(Arc::clone(store)).height().ok()?.next();
    let next = blocks.as_ref().and_then(newest).unwrap_or_default();
    let signed = check_files(directory, next, &mut checked);
    let index = index.filter(|index| check_height(index, &mut checked));
    checked.has_index = index.is_some();
    // A signed block need not have become final.
    let before = signed.map(|height| Height::saturating(height.get().saturating_sub(1)));
    let of_state = state.as_ref().and_then(|state| StateStore::height_in(&**state).ok().flatten());
    checked.reached = checked.reached.max(before).max(of_state);
    match (directory.genesis(), blocks, state) {
        (Err(error), ..) => checked.find(GENESIS, error.message),
        (Ok(text), Some(blocks), Some(state)) => {
            let stores = (blocks, state, index);
            if let Some(writer) = check_chain(directory, &text, stores, output, &mut checked)? {
                check_signed(&writer, signed, &mut checked);
            }
        }
        _ => {}
    }
    Ok(checked)
}

type Store = Arc<dyn Storage>;

/// A database, every page of it verified; none if it is damaged.
fn open(
    directory: &Directory<'_>,
    name: &str,
    file: &'static str,
    checked: &mut Checked,
) -> Result<Option<Store>, CliError> {
    match directory.verified(name) {
        Ok(store) => Ok(Some(store)),
        Err(error @ StorageError::Locked { .. }) => Err(ChainError::from(error).into()),
        Err(error) => {
            checked.find(file, error);
            Ok(None)
        }
    }
}

/// Whether there is an index of which can be told how far it goes.
fn check_height(index: &Store, checked: &mut Checked) -> bool {
    match Index::existing(Arc::clone(index)).height() {
        Ok(height) => checked.reached = checked.reached.max(Some(height)),
        Err(error) => checked.find(INDEX, error),
    }
    // One that was never begun is of a node that keeps none.
    !checked.has(INDEX) && Index::existing(Arc::clone(index)).is_begun().unwrap_or(false)
}

/// Whether there is every block before the one that was signed last.
fn check_signed(writer: &ChainWriter, signed: Option<Height>, checked: &mut Checked) {
    let head = writer.height();
    let Some(signed) = signed.filter(|signed| head.next().is_some_and(|next| *signed > next))
    else {
        return;
    };
    let what = format!("blocks are missing at its end: it ends at {head}, signed is {signed}");
    if writer.validators().count() == 1 {
        checked.find(BLOCKS, what);
    } else {
        checked.notes.push(format!("{BLOCKS}: {what}; peers have them"));
    }
}

/// The files beside the databases, of a chain whose next height this is. Gives the height that was
/// under way or signed last.
fn check_files(directory: &Directory<'_>, next: Height, checked: &mut Checked) -> Option<Height> {
    let (log, record) = (directory.root.join(LOG), directory.root.join(RECORD));
    let log = FileLog::inspect(&log, next).unwrap_or_else(|error| {
        checked.find(LOG, error);
        None
    });
    let record = FileSigner::inspect(&record).unwrap_or_else(|error| {
        checked.find(RECORD, error);
        None
    });
    let signed = record.map(|record| record.height);
    let logged = log.as_ref().and_then(|log| Some(log.logged.as_ref()?.0));
    if let Some(log) = log {
        let whole = log.whole_bytes;
        let document = directory.genesis().ok().and_then(|text| GenesisDocument::parse(&text).ok());
        let lacks_signed = || {
            let (document, record, logged) = (document?, record?, log.logged.as_ref()?);
            Some(record.is_ahead(logged, &document.chain_id))
        };
        if log.is_damaged {
            checked.find(LOG, format!("byte {whole}: damaged, what was flushed later follows"));
        } else if lacks_signed() == Some(true) {
            let what = format!("byte {whole}: damaged, what {RECORD} says was signed is not there");
            checked.find(LOG, what);
        }
    }
    if let Some(record) = record.filter(|record| record.is_halved) {
        checked.notes.push(format!(
            "{RECORD}: one of its two places is of no use, as after a crash while signing; the other is of height {}",
            record.height
        ));
    }
    match Journal::inspect(&directory.root.join(JOURNAL)) {
        Err(error) => checked.find(JOURNAL, error),
        Ok(Some(read)) if read.is_damaged => {
            checked.find(JOURNAL, format!("byte {}: no record, and more follows", read.whole_bytes));
        }
        Ok(Some(read)) if read.other_bytes > 0 => checked.notes.push(format!(
            "{JOURNAL} has {} bytes at its end that are no record, as after a crash; they are cut at the next start",
            read.other_bytes
        )),
        Ok(_) => {}
    }
    signed.max(logged)
}

/// How blocks, state and index fit together.
fn check_chain(
    directory: &Directory<'_>,
    text: &str,
    (blocks, state, index): (Store, Store, Option<Store>),
    output: &Output,
    checked: &mut Checked,
) -> Result<Option<ChainWriter>, CliError> {
    let has_index = index.is_some();
    let index = index.unwrap_or_else(|| Arc::new(MemoryStorage::new()));
    let stores = Stores { blocks, state, index };
    let options = ChainOptions { index: has_index, ..ChainOptions::default() };
    let writer = match directory.open_with(&stores, text, &options, &mut |_| {}) {
        Ok(writer) => writer,
        // Nothing is damaged: something else was meant.
        Err(error @ ChainError::OtherChain { .. }) if directory.genesis_file().is_some() => {
            return Err(error.into());
        }
        Err(error @ ChainError::SchemaTooNew { .. }) => return Err(error.into()),
        Err(ChainError::OtherChain { expected, found }) => {
            let what = "it is not the text that this chain was made from";
            checked.find(GENESIS, format!("{what}: its genesis is {expected}, not {found}"));
            return Ok(None);
        }
        Err(error) => {
            checked.find(file_of(&error), error);
            return Ok(None);
        }
    };
    let waited = if has_index { writer.wait_until_listed() } else { writer.wait_until_indexed() };
    if let Err(error) = waited {
        checked.find(INDEX, error);
    }
    let transactions = check_blocks(&writer, has_index, output, checked);
    let transactions = transactions.map_err(|what| checked.find(BLOCKS, what)).ok();
    let state = check_state(&writer, output).map_err(|what| checked.find(STATE, what)).ok();
    if let (true, Some((_, accounts))) = (has_index, state)
        && let Err(what) = check_list(&writer, accounts)
    {
        checked.find(INDEX, what);
    }
    let entries = state.map(|(entries, _)| entries);
    let root = writer.parent().state_root.to_string();
    let both = transactions.zip(entries);
    checked.whole = both.map(|(all, entries)| (writer.height(), root, all, entries));
    Ok(Some(writer))
}

/// Which file is at fault when a chain cannot be opened.
fn file_of(error: &ChainError) -> &'static str {
    match error {
        ChainError::Genesis(_) => GENESIS,
        ChainError::Blocks { .. } | ChainError::BlocksLost { .. } => BLOCKS,
        ChainError::Storage(StorageError::Corrupt { place: Place::Path(path), .. }) => {
            let named = [BLOCKS, INDEX].into_iter().find(|file| path.ends_with(file));
            named.unwrap_or(STATE)
        }
        _ => STATE,
    }
}

/// Every block hangs on the one before, has its certificate and stands in the index.
fn check_blocks(
    writer: &ChainWriter,
    has_index: bool,
    output: &Output,
    checked: &mut Checked,
) -> Result<u64, String> {
    let (chain, head) = (writer.chain(), writer.height().get());
    let bar = progress::bar(output, head + 1, "blocks");
    let mut parent = None;
    let mut transactions = 0;
    for height in 0..=head {
        let at = Height::saturating(height);
        let read = chain.block(at).map_err(|error| format!("block {height}: {error}"))?;
        let block = read.ok_or_else(|| format!("block {height} is missing"))?;
        let header = &block.block.header;
        if header.height != at {
            return Err(format!("block {height} says that it is block {}", header.height));
        }
        if parent.is_some_and(|parent| parent != header.parent) {
            return Err(format!("block {height} does not follow block {}", height - 1));
        }
        parent = Some(block.id);
        if has_index && !checked.has(INDEX) {
            let mut missing = Vec::new();
            if chain.height_of(&block.id).ok().flatten() != Some(at) {
                missing.push(format!("table block_heights: block {height} is not in it"));
            }
            for (index, hash) in (0_u32..).zip(&block.tx_hashes) {
                let place = Location { height: at, index };
                if chain.index().transaction(hash).ok().flatten() != Some(place) {
                    missing
                        .push(format!("table tx_location_runs: transaction {hash} is not in it"));
                }
            }
            missing.into_iter().take(1).for_each(|what| checked.find(INDEX, what));
        }
        transactions += block.tx_hashes.len() as u64;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(transactions)
}

/// Every state entry is found by its key and leads to the root of the newest header. Gives how
/// many there are, and how many of them are accounts.
fn check_state(writer: &ChainWriter, output: &Output) -> Result<(u64, u64), String> {
    let root = writer.parent().state_root;
    let count = writer.chain().state().entry_count().map_err(|error| error.to_string())?;
    let bar = progress::bar(output, count.saturating_mul(2), "state");
    let mut accounts = 0;
    // The sentinel, which is number 0, is no entry of anybody.
    for number in 1..count {
        // One reader each, so that pages can give way.
        let state = writer.chain().state();
        let at = |error: &dyn std::error::Error| format!("entry {number}: {error}");
        let leaf = state.leaf(number).map_err(|error| at(&error))?;
        let proof = StateProof::new(&state, &leaf.key).map_err(|error| at(&error))?;
        match proof.verify(&root, &leaf.key) {
            Ok(Claim::Present(value)) if value == leaf.value => {}
            Ok(_) => return Err(format!("entry {number} is not what its key leads to")),
            Err(error) => return Err(at(&error)),
        }
        accounts += u64::from(Account::try_from(&leaf.value).is_ok());
        bar.inc(1);
    }
    check_keys(writer, &|rows| bar.inc(rows))?;
    bar.finish_and_clear();
    Ok((count, accounts))
}

/// Every entry on disk stands in the table of keys, once, and nothing else does.
fn check_keys(writer: &ChainWriter, progress: &dyn Fn(u64)) -> Result<(), String> {
    let text = |error: ViewError| format!("table keys: {error}");
    let (mut after, mut count) = (None, 0_u64);
    loop {
        // One reader for each part, so that pages can give way between them.
        let state = writer.chain().state();
        let rows = state.keys_on_disk(after.as_ref(), PAGE).map_err(text)?;
        for (key, number) in &rows {
            if *number >= state.entries_on_disk() || state.leaf(*number).map_err(text)?.key != *key
            {
                return Err(format!("table keys: a key leads to entry {number}, another's"));
            }
        }
        count += rows.len() as u64;
        progress(rows.len() as u64);
        let Some((last, _)) = rows.last() else {
            let entries = state.entries_on_disk();
            return if count == entries {
                Ok(())
            } else {
                Err(format!("table keys: {count} rows for {entries} entries"))
            };
        };
        after = Some(*last);
    }
}

/// The list of accounts has each once, with what it holds, and no other.
fn check_list(writer: &ChainWriter, accounts: u64) -> Result<(), String> {
    let chain = writer.chain();
    let text = |error: ChainError| error.to_string();
    let (mut after, mut listed) = (None, 0_u64);
    loop {
        let page = chain.index().richest(Amount::ZERO, after, PAGE).map_err(text)?;
        for (address, balance) in &page {
            let account: Account = chain.account(address).map_err(text)?.unwrap_or_default();
            if account.balance != *balance {
                return Err(format!(
                    "table richest: {address} with {balance}, it holds {}",
                    account.balance
                ));
            }
        }
        listed += page.len() as u64;
        match page.last() {
            Some((address, balance)) => after = Some((*balance, *address)),
            None => break,
        }
    }
    let count = chain.index().account_count().map_err(text)?;
    if listed == count && listed == accounts {
        return Ok(());
    }
    Err(format!("table richest: {listed} accounts, counted {count}, of {accounts} in the state"))
}
