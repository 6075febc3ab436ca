//! The suite on every engine of this crate.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use tempfile::TempDir;

use super::{Subject, run};
use crate::{FaultPlan, Faulty, MemoryStorage, RedbOptions, RedbStorage, SimulatedDisk, Storage};

struct InMemory(Arc<MemoryStorage>);

impl Subject for InMemory {
    fn renew(&mut self) {
        self.0 = Arc::default();
    }

    fn open(&mut self) -> Box<dyn Storage> {
        self.0 = Arc::new(self.0.recover());
        Box::new(Arc::clone(&self.0))
    }
}

struct OnDisk {
    directory: TempDir,
    options: RedbOptions,
}

impl OnDisk {
    fn new(options: RedbOptions) -> Self {
        Self { directory: TempDir::new().unwrap(), options }
    }
}

impl Subject for OnDisk {
    fn renew(&mut self) {
        self.directory = TempDir::new().unwrap();
    }

    fn open(&mut self) -> Box<dyn Storage> {
        let path = self.directory.path().join("chain.redb");
        Box::new(RedbStorage::open(path, &self.options).unwrap())
    }
}

/// Of which each opening follows a power cut.
struct Cut(SimulatedDisk);

impl Subject for Cut {
    fn renew(&mut self) {
        self.0 = SimulatedDisk::new();
    }

    fn open(&mut self) -> Box<dyn Storage> {
        self.0 = self.0.as_synced();
        Box::new(RedbStorage::on_disk(&self.0, &RedbOptions::default()).unwrap())
    }
}

struct Wrapped<S>(S);

impl<S: Subject> Subject for Wrapped<S> {
    fn renew(&mut self) {
        self.0.renew();
    }

    fn open(&mut self) -> Box<dyn Storage> {
        let inner: Arc<dyn Storage> = Arc::from(self.0.open());
        Box::new(Faulty::new(inner, FaultPlan::none()))
    }
}

#[test]
fn memory_keeps_every_promise() {
    run(&mut InMemory(Arc::default()));
}

#[test]
fn redb_keeps_every_promise() {
    run(&mut OnDisk::new(RedbOptions::default()));
}

#[test]
fn redb_without_quick_repair_and_almost_without_cache_keeps_every_promise() {
    run(&mut OnDisk::new(RedbOptions {
        cache_bytes: 64 * 1024,
        quick_repair: false,
        ..RedbOptions::default()
    }));
}

#[test]
fn redb_keeps_every_promise_over_power_cuts() {
    run(&mut Cut(SimulatedDisk::new()));
}

#[test]
fn wrapper_without_faults_keeps_every_promise() {
    run(&mut Wrapped(InMemory(Arc::default())));
    run(&mut Wrapped(OnDisk::new(RedbOptions::default())));
}
