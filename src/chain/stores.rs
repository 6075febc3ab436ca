//! Opening the three stores of a chain on one storage engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ait_storage::{MemoryStorage, RedbOptions, RedbStorage, Storage};

use super::open::all_made_of;
use super::{BlockStore, ChainError, Index, StateStore};

/// Which storage engine holds the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StorageEngine {
    /// Embedded database files.
    #[default]
    Redb,
    /// Nothing on disk: gone with the process.
    Memory,
}

impl std::str::FromStr for StorageEngine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "redb" => Ok(Self::Redb),
            "memory" => Ok(Self::Memory),
            other => Err(format!("unknown storage engine {other:?}, known are: redb, memory")),
        }
    }
}

impl std::fmt::Display for StorageEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Redb => "redb",
            Self::Memory => "memory",
        })
    }
}

/// How to open the stores.
#[derive(Debug, Clone)]
pub struct StoresOptions {
    /// Storage engine.
    pub engine: StorageEngine,
    /// Directory of the files; made if absent. Unused by `memory`.
    pub directory: PathBuf,
    /// Page caches of all stores together, in bytes.
    pub cache_bytes: usize,
    /// Whether opening verifies every page, which reads all files.
    pub verify: bool,
}

/// The three stores of one chain.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Certified blocks.
    pub blocks: Arc<dyn Storage>,
    /// The state as of the last checkpoint.
    pub state: Arc<dyn Storage>,
    /// Derived indexes.
    pub index: Arc<dyn Storage>,
}

impl Stores {
    /// Opens the stores, making them if they do not exist.
    ///
    /// # Errors
    /// When a file cannot be opened, is locked, or is no database.
    pub fn open(options: &StoresOptions) -> Result<Self, ChainError> {
        match options.engine {
            StorageEngine::Memory => Ok(Self::memory()),
            StorageEngine::Redb => {
                make_directory(&options.directory)?;
                let open = |name: &str, share: usize| -> Result<Arc<dyn Storage>, ChainError> {
                    let path = options.directory.join(name);
                    let cache_bytes = options.cache_bytes / 8 * share;
                    let redb = RedbOptions {
                        cache_bytes,
                        verify: options.verify,
                        ..RedbOptions::default()
                    };
                    Ok(Arc::new(RedbStorage::open(path, &redb)?))
                };
                // The state is read at random, blocks mostly at the end.
                let (state, index) = (open("state.redb", 5)?, open("index.redb", 2)?);
                look_at_blocks(&options.directory.join("blocks.redb"), &*state, &index)?;
                Ok(Self { blocks: open("blocks.redb", 1)?, state, index })
            }
        }
    }

    /// Three empty stores in memory.
    #[must_use]
    pub fn memory() -> Self {
        let new = || -> Arc<dyn Storage> { Arc::new(MemoryStorage::new()) };
        Self { blocks: new(), state: new(), index: new() }
    }

    /// The stores with their names.
    #[must_use]
    pub fn named(&self) -> [(&'static str, &Arc<dyn Storage>); 3] {
        [("blocks", &self.blocks), ("state", &self.state), ("index", &self.index)]
    }
}

/// Refuses blocks that end before what was made of them. One bit of their file decides which of two
/// commits it shows, and no checksum covers it: opened to be written, the file would lose the newer.
fn look_at_blocks(
    path: &Path,
    state: &dyn Storage,
    index: &Arc<dyn Storage>,
) -> Result<(), ChainError> {
    if !path.exists() {
        return Ok(());
    }
    let options = RedbOptions { cache_bytes: LOOK_BYTES, ..RedbOptions::default() };
    let seen = RedbStorage::open_unchanged(path, None, &options)?;
    let blocks = BlockStore::existing(Arc::new(seen));
    if !blocks.has_genesis()? {
        return Ok(());
    }
    let state = StateStore::height_in(state)?.unwrap_or_default();
    all_made_of(blocks.height()?, state, Index::existing(Arc::clone(index)).height()?)
}

/// Page cache of a look at a file, in bytes.
const LOOK_BYTES: usize = 1 << 20;

fn make_directory(path: &Path) -> Result<(), ChainError> {
    fs::create_dir_all(path).map_err(|error| {
        let what = format!("cannot make the directory {}", path.display());
        ChainError::Directory { what, source: error }
    })
}
