//! The table of targets: name, property, and inputs to begin with.

use crate::targets::{
    archive, bundle, canonical, certificate, config, data_dir, database, frames, genesis, import,
    json, logs, proof, receipt, rpc, storage, texts, wire,
};

/// One property.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in `corpus`.
    pub name: &'static str,
    /// Panics if the property does not hold for these bytes.
    pub run: fn(&[u8]),
    /// Good inputs, from which others are made. The same at every call.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($module:ident),* $(,)?) => {
        /// Every target.
        pub const TARGETS: &[Target] = &[$(Target {
            name: stringify!($module),
            run: $module::run,
            seeds: $module::seeds,
        }),*];
    };
}

targets!(
    archive,
    bundle,
    canonical,
    certificate,
    config,
    data_dir,
    database,
    frames,
    genesis,
    import,
    json,
    logs,
    proof,
    receipt,
    rpc,
    storage,
    texts,
    wire,
);

impl Target {
    /// The target of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }
}
