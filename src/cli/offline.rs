//! The chain of a stopped node: what `export` and `db` work on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ait_engine::genesis::GenesisDocument;
use ait_storage::{Place, RedbOptions, RedbStorage, Storage, StorageError};

use super::CliError;
use crate::chain::{
    self, ChainError, ChainOptions, ChainWriter, GenesisSource, OpenProgress, StorageEngine,
    Stores, StoresOptions,
};

/// Page caches of one tool, in bytes.
const CACHE_BYTES: usize = 256 << 20;

/// Where the parts of a node's data directory are.
pub(super) struct Directory<'a> {
    pub root: &'a Path,
    genesis: Option<&'a Path>,
}

impl<'a> Directory<'a> {
    /// A data directory that holds a chain.
    pub(super) fn new(root: &'a Path, genesis: Option<&'a Path>) -> Result<Self, CliError> {
        let directory = Self { root, genesis };
        let names = ["blocks.redb", "state.redb", "index.redb"];
        if names.iter().any(|name| directory.file(name).exists()) {
            return Ok(directory);
        }
        let message = format!("{} holds no chain", root.display());
        Err(CliError::failed("no_chain", message)
            .hint("name the data directory of a node with --data-dir"))
    }

    /// A file of the databases.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.root.join("chain").join(name)
    }

    /// The genesis document that was named.
    pub(super) const fn genesis_file(&self) -> Option<&'a Path> {
        self.genesis
    }

    /// Text of the genesis document.
    pub(super) fn genesis(&self) -> Result<String, CliError> {
        let path = self.genesis.map_or_else(|| self.root.join("genesis.json"), Path::to_owned);
        std::fs::read_to_string(&path).map_err(|error| {
            CliError::failed("genesis_missing", format!("{}: {error}", path.display()))
                .hint("name the chain's genesis document with --genesis")
        })
    }

    /// The databases; `verify` reads every page of them.
    pub(super) fn stores(&self, verify: bool) -> Result<Stores, CliError> {
        let engine = StorageEngine::Redb;
        let directory = self.root.join("chain");
        let options = StoresOptions { engine, directory, cache_bytes: CACHE_BYTES, verify };
        Stores::open(&options).map_err(CliError::from)
    }

    /// One of the databases, every page of it verified.
    pub(super) fn verified(&self, name: &str) -> Result<Arc<dyn Storage>, StorageError> {
        let options =
            RedbOptions { cache_bytes: CACHE_BYTES / 3, verify: true, ..RedbOptions::default() };
        let path = self.file(&format!("{name}.redb"));
        // What is missing is not made here.
        if !path.exists() {
            return Err(StorageError::Missing { place: Place::Path(path) });
        }
        // Blocks can be got back from a file that nobody has written to since it was damaged.
        Ok(Arc::new(match name {
            "blocks" => RedbStorage::open_unchanged(path, None, &options)?,
            _ => RedbStorage::open(path, &options)?,
        }))
    }

    /// The chain in the databases, with what lies after the checkpoint executed again.
    pub(super) fn open(
        &self,
        stores: &Stores,
        text: &str,
        progress: &mut dyn FnMut(OpenProgress),
    ) -> Result<ChainWriter, CliError> {
        Ok(self.open_with(stores, text, &ChainOptions::default(), progress)?)
    }

    /// The same, with options.
    pub(super) fn open_with(
        &self,
        stores: &Stores,
        text: &str,
        options: &ChainOptions,
        progress: &mut dyn FnMut(OpenProgress),
    ) -> Result<ChainWriter, ChainError> {
        let build = || Ok(GenesisDocument::parse(text)?.build()?);
        let fingerprint = GenesisSource::fingerprint(text.as_bytes());
        let source = GenesisSource { fingerprint, build: &build };
        chain::open(stores, &source, options, progress)
    }
}

impl From<ChainError> for CliError {
    fn from(error: ChainError) -> Self {
        Self::of_node(&error, error.code(), error.hint())
    }
}
