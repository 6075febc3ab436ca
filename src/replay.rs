//! Replay: an archive's blocks executed again from genesis, on one storage engine or on
//! two side by side, with every root compared.
//!
//! The very code that the node runs executes and commits; nothing is assumed of the
//! archive but its form.

mod ahead;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ait_engine::genesis::{GenesisDocument, GenesisError};
use ait_engine::state::StateView;
use ait_engine::transaction::VerifiedTransaction;
use ait_engine::types::{BlockId, ChainId, Height, StateRoot};
use serde::Serialize;
use tempfile::TempDir;

pub use ahead::Signatures;

use crate::archive::{ArchiveError, ArchiveReader};
use crate::chain::{
    self, Chain, ChainError, ChainOptions, ChainWriter, GenesisSource, StorageEngine, Stores,
    StoresOptions, ViewError,
};
use ahead::Ready;

/// Page caches of one replay, in bytes.
const CACHE_BYTES: usize = 256 << 20;
/// State entries that are compared under one lock.
const COMPARED_TOGETHER: u64 = 4_096;

/// Why an archive cannot be replayed; a difference is no error but a result.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be opened.
    #[error("{path}: {source}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The archive cannot be read.
    #[error("{path}: {source}")]
    Archive {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: ArchiveError,
    },
    /// Its genesis is not valid.
    #[error("the archive's genesis: {0}")]
    Genesis(#[from] GenesisError),
    /// It begins later than the chain.
    #[error("the archive begins at height {first}; only one that begins at 1 can be replayed")]
    NotFromGenesis {
        /// Its first height.
        first: Height,
    },
    /// This machine's storage.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// No room for a temporary database.
    #[error("no temporary directory: {0}")]
    Temporary(std::io::Error),
}

/// The first difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// At which height.
    pub height: Height,
    /// On which storage engine, or on which two.
    pub engine: String,
    /// What differs, with both values.
    pub what: String,
}

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// The chain.
    pub chain_id: ChainId,
    /// Id of its genesis, which the archive brings along: compare it with a known one.
    pub genesis_hash: BlockId,
    /// Blocks that were executed and whose roots are right.
    pub blocks: u64,
    /// Their transactions.
    pub transactions: u64,
    /// Height of the last of them.
    pub final_height: Height,
    /// Root of the state after it.
    pub state_root: StateRoot,
    /// How long the blocks took, the genesis left out.
    #[serde(skip)]
    pub took: Duration,
    /// The first difference, if there is one.
    pub first_difference: Option<Difference>,
}

impl Replayed {
    /// No block yet of the chain of this genesis document.
    fn nothing(genesis: &str, sides: &[Side]) -> Result<Self, ReplayError> {
        let chain = sides.first().map(|side| &side.writer);
        Ok(Self {
            chain_id: GenesisDocument::parse(genesis)?.chain_id,
            genesis_hash: chain.map_or(BlockId([0; 32]), |writer| writer.chain().genesis_id()),
            blocks: 0,
            transactions: 0,
            final_height: Height::ZERO,
            state_root: chain.map_or(StateRoot([0; 32]), |writer| writer.parent().state_root),
            took: Duration::ZERO,
            first_difference: None,
        })
    }
}

/// One engine at work.
struct Side {
    engine: StorageEngine,
    writer: ChainWriter,
    /// Removed at the end.
    _directory: Option<TempDir>,
}

impl Side {
    /// An engine that keeps its files nowhere for long. Nobody asks it where a transaction is.
    fn open(engine: StorageEngine, text: &str) -> Result<Self, ReplayError> {
        let directory = tempfile::tempdir().map_err(ReplayError::Temporary)?;
        let side = Self::open_in(engine, text, directory.path(), false)?;
        Ok(Self { _directory: Some(directory), ..side })
    }

    fn open_in(
        engine: StorageEngine,
        text: &str,
        directory: &Path,
        index: bool,
    ) -> Result<Self, ReplayError> {
        let document = GenesisDocument::parse(text)?;
        let stores = Stores::open(&StoresOptions {
            engine,
            directory: directory.to_owned(),
            cache_bytes: CACHE_BYTES,
            verify: false,
        })?;
        let build = || document.build().map_err(ChainError::from);
        let fingerprint = GenesisSource::fingerprint(text.as_bytes());
        let source = GenesisSource { fingerprint, build: &build };
        let options = ChainOptions { index, ..ChainOptions::default() };
        let writer = chain::open(&stores, &source, &options, &mut |_| {})?;
        Ok(Self { engine, writer, _directory: None })
    }

    fn difference(&self, height: Height, what: String) -> Difference {
        Difference { height, engine: self.engine.to_string(), what }
    }

    /// Executes and commits a block; what is wrong with it, if something is.
    fn apply(
        &mut self,
        block: &Ready,
        transactions: &[VerifiedTransaction],
    ) -> Result<Option<Difference>, ReplayError> {
        let (header, certificate) = (&block.header, block.certificate.clone());
        match self.writer.replay(header, transactions, certificate)? {
            Ok(()) => Ok(None),
            Err(fault) => Ok(Some(self.difference(header.height, fault.to_string()))),
        }
    }
}

type Reader = ArchiveReader<BufReader<File>>;

/// Opens an archive that begins with the chain; gives its length, too.
fn open(path: &Path) -> Result<(Reader, u64), ReplayError> {
    let open = |source| ReplayError::Open { path: path.to_owned(), source };
    let file = File::open(path).map_err(open)?;
    let bytes = file.metadata().map_err(open)?.len();
    let archive = |source| ReplayError::Archive { path: path.to_owned(), source };
    let reader = ArchiveReader::begin(BufReader::new(file)).map_err(archive)?;
    if reader.first().get() != 1 {
        return Err(ReplayError::NotFromGenesis { first: reader.first() });
    }
    Ok((reader, bytes))
}

/// Replays an archive on each of these engines in step; `progress` hears of bytes read
/// and bytes in all.
///
/// # Errors
/// [`ReplayError`] if the archive cannot be read or this machine's storage fails.
pub fn replay(
    path: &Path,
    engines: &[StorageEngine],
    signatures: Signatures,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Replayed, ReplayError> {
    let (reader, bytes) = open(path)?;
    let sides = engines.iter().map(|engine| Side::open(*engine, reader.genesis()));
    let mut sides: Vec<Side> = sides.collect::<Result<_, _>>()?;
    let mut found = Replayed::nothing(reader.genesis(), &sides)?;
    let archive = |source| ReplayError::Archive { path: path.to_owned(), source };
    let mut progress = |read| progress(read, bytes);
    execute(reader, &mut sides, signatures, &mut found, archive, &mut progress)?;
    if found.first_difference.is_some() {
        return Ok(found);
    }
    if let [first, rest @ ..] = &sides[..] {
        for other in rest {
            found.first_difference = compare(first, other)?;
            if found.first_difference.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// Makes the databases of a chain anew, with its index, in an empty directory, from an archive
/// that may break off: up to there, or to the first block that is not right.
///
/// # Errors
/// [`ReplayError`] if not even its genesis can be read, or this machine's storage fails.
pub fn rebuild(
    path: &Path,
    directory: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Replayed, ReplayError> {
    let (reader, bytes) = open(path)?;
    let side = Side::open_in(StorageEngine::Redb, reader.genesis(), directory, true)?;
    let mut sides = [side];
    let mut found = Replayed::nothing(reader.genesis(), &sides)?;
    let archive = |source| ReplayError::Archive { path: path.to_owned(), source };
    let mut progress = |read| progress(read, bytes);
    match execute(reader, &mut sides, Signatures::Verify, &mut found, archive, &mut progress) {
        Ok(()) | Err(ReplayError::Archive { .. }) => {}
        Err(error) => return Err(error),
    }
    let [Side { writer, .. }] = &sides;
    writer.wait_until_indexed()?;
    writer.write_checkpoint()?;
    Ok(found)
}

/// Executes the blocks of an archive on every side, up to the first difference.
fn execute(
    reader: Reader,
    sides: &mut [Side],
    signatures: Signatures,
    found: &mut Replayed,
    archive: impl Fn(ArchiveError) -> ReplayError,
    progress: &mut dyn FnMut(u64),
) -> Result<(), ReplayError> {
    let began = Instant::now();
    ahead::for_each(reader, signatures, archive, |block| {
        let height = block.header.height;
        let transactions = match &block.transactions {
            Ok(transactions) => transactions,
            Err((index, error)) => {
                let what = format!("transaction {index} of the block: {error}");
                found.first_difference = sides.first().map(|side| side.difference(height, what));
                return Ok(false);
            }
        };
        for side in &mut *sides {
            found.first_difference = side.apply(&block, transactions)?;
            if found.first_difference.is_some() {
                return Ok(false);
            }
        }
        found.blocks += 1;
        found.transactions += transactions.len() as u64;
        (found.final_height, found.state_root) = (height, block.header.state_root);
        progress(block.position);
        Ok(true)
    })?;
    for side in sides {
        side.writer.settle()?;
    }
    found.took = began.elapsed();
    Ok(())
}

/// Compares every entry of two states.
fn compare(a: &Side, b: &Side) -> Result<Option<Difference>, ReplayError> {
    let view = |error: ViewError| ReplayError::Chain(error.into());
    let (chains, height) = ((a.writer.chain(), b.writer.chain()), a.writer.height());
    let engine = format!("{} and {}", a.engine, b.engine);
    let difference = |what| Ok(Some(Difference { height, engine: engine.clone(), what }));
    let count = |chain: &Chain| chain.state().entry_count().map_err(view);
    let counts = (count(chains.0)?, count(chains.1)?);
    if counts.0 != counts.1 {
        return difference(format!("{} and {} state entries", counts.0, counts.1));
    }
    let mut first = 0;
    while first < counts.0 {
        // In parts, so that pages can give way between them.
        let end = counts.0.min(first + COMPARED_TOGETHER);
        let states = (chains.0.state(), chains.1.state());
        for number in first..end {
            let leaves =
                (states.0.leaf(number).map_err(view)?, states.1.leaf(number).map_err(view)?);
            if leaves.0 != leaves.1 {
                return difference(format!("entry {number}: {:?} and {:?}", leaves.0, leaves.1));
            }
        }
        first = end;
    }
    Ok(None)
}
