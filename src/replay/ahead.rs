//! Blocks of an archive, read and verified ahead of the thread that executes them.
//!
//! One thread reads, some verify parts of blocks, one puts the parts together, and the caller
//! gets the blocks in order. All lines between them are bounded, so that memory is, too.

use std::io::Read;
use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::scope;

use ait_engine::block::Header;
use ait_engine::certificate::Certificate;
use ait_engine::crypto::KeyCache;
use ait_engine::transaction::{
    Transaction, TransactionError, VerifiedTransaction, verify_transactions,
};

use crate::archive::{ArchiveError, ArchiveReader};

/// Blocks that are read ahead at most.
const BLOCKS_AHEAD: usize = 16;
/// Whole blocks that wait for the caller at most.
const READY_AHEAD: usize = 2;
/// Transactions that are verified together.
const PART: usize = 1_024;
/// Parts that wait for a thread at most.
const PARTS_AHEAD: usize = 64;
/// Public keys that are kept decompressed.
const CACHED_KEYS: usize = 131_072;

/// What is done about the signatures of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signatures {
    /// Each is verified.
    Verify,
    /// They are taken as good, because validators signed the block: their signatures are
    /// verified all the same.
    Trust,
}

type Verified = Vec<Result<VerifiedTransaction, TransactionError>>;

/// A block that is being verified.
struct Waiting {
    header: Header,
    certificate: Certificate,
    parts: Vec<Receiver<Verified>>,
    position: u64,
}

struct Part {
    transactions: Vec<Transaction>,
    reply: Sender<Verified>,
}

/// A block with verified transactions.
pub(super) struct Ready {
    pub(super) header: Header,
    pub(super) certificate: Certificate,
    /// The transactions, or what is wrong with the first bad one and its position.
    pub(super) transactions: Result<Vec<VerifiedTransaction>, (usize, TransactionError)>,
    /// Bytes of the archive up to its end.
    pub(super) position: u64,
}

impl Waiting {
    /// None if a worker ended without an answer: it panicked, and so does the scope.
    fn ready(self) -> Option<Ready> {
        let count = usize::try_from(self.header.transaction_count).unwrap_or_default();
        // Each part has been read: a header that says more is not believed.
        let mut transactions = Vec::with_capacity(count.min(self.parts.len() * PART));
        let mut bad = None;
        for part in self.parts {
            for result in part.recv().ok()? {
                match result {
                    Ok(transaction) => transactions.push(transaction),
                    Err(error) if bad.is_none() => bad = Some((transactions.len(), error)),
                    Err(_) => {}
                }
            }
        }
        let transactions = bad.map_or(Ok(transactions), Err);
        let Self { header, certificate, position, .. } = self;
        Some(Ready { header, certificate, transactions, position })
    }
}

/// Hands every block of the archive to `take`, in order, until that says to stop or fails.
///
/// # Errors
/// What `take` gives, and what is wrong with the archive by way of `wrong`.
pub(super) fn for_each<R: Read + Send, E>(
    reader: ArchiveReader<R>,
    signatures: Signatures,
    wrong: impl Fn(ArchiveError) -> E,
    mut take: impl FnMut(Ready) -> Result<bool, E>,
) -> Result<(), E> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let (blocks, waiting) = sync_channel(BLOCKS_AHEAD);
    let (whole, ready) = sync_channel(READY_AHEAD);
    let (parts, to_verify) = sync_channel(PARTS_AHEAD);
    let to_verify = Mutex::new(to_verify);
    let cache = KeyCache::new(CACHED_KEYS);
    scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| verify_all(&to_verify, &cache, signatures));
        }
        scope.spawn(move || read_all(reader, &blocks, &parts));
        scope.spawn(move || put_together(&waiting, &whole));
        // Dropped at the end of this block, so that the others stop when the caller does.
        let ready: Receiver<Result<Ready, ArchiveError>> = ready;
        for block in &ready {
            if !take(block.map_err(&wrong)?)? {
                break;
            }
        }
        Ok(())
    })
}

fn put_together(
    waiting: &Receiver<Result<Waiting, ArchiveError>>,
    whole: &SyncSender<Result<Ready, ArchiveError>>,
) {
    for block in waiting {
        let Some(block) = block.map(Waiting::ready).transpose() else { return };
        if whole.send(block).is_err() {
            return;
        }
    }
}

fn read_all<R: Read>(
    mut reader: ArchiveReader<R>,
    blocks: &SyncSender<Result<Waiting, ArchiveError>>,
    parts: &SyncSender<Part>,
) {
    loop {
        let (block, certificate) = match reader.next_block() {
            Ok(Some(read)) => read,
            Ok(None) => return,
            Err(error) => {
                // Whether anybody still listens does not matter: this is the end.
                let _ = blocks.send(Err(error));
                return;
            }
        };
        let mut answers = Vec::new();
        let mut rest = block.transactions.into_iter().peekable();
        while rest.peek().is_some() {
            let (reply, answer) = channel();
            let transactions = rest.by_ref().take(PART).collect();
            if parts.send(Part { transactions, reply }).is_err() {
                return;
            }
            answers.push(answer);
        }
        let (header, position) = (block.header, reader.position());
        if blocks.send(Ok(Waiting { header, certificate, parts: answers, position })).is_err() {
            return;
        }
    }
}

fn verify_all(parts: &Mutex<Receiver<Part>>, cache: &KeyCache, signatures: Signatures) {
    loop {
        let next = parts.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Part { transactions, reply }) = next else { return };
        let verified = match signatures {
            Signatures::Verify => verify_transactions(transactions, Some(cache)),
            Signatures::Trust => {
                transactions.into_iter().map(VerifiedTransaction::assume_verified).map(Ok).collect()
            }
        };
        // The caller may have stopped.
        let _ = reply.send(verified);
    }
}
