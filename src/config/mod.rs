//! Configuration: defaults, one TOML file, the environment and flags, each stronger
//! than the one before.
//!
//! Every key stands once in [`KEYS`], from which the commented default file, the
//! names of environment variables and the suggestions for misspelled ones follow.
//! All problems are reported together; nothing is guessed.

mod cross_site;
mod keys;
mod layers;
mod old_names;
mod typed;

pub use cross_site::CrossSiteConfig;
pub use keys::{KEYS, KeySpec, default_file};
pub use layers::{ConfigError, Layers, Source};
pub use typed::{
    CoordinatorConfig, GenesisConfig, MempoolConfig, NodeConfig, P2pConfig, RpcConfig,
    SequencerConfig, StorageConfig,
};

#[cfg(test)]
mod tests;
