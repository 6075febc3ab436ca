//! One file for each target: the property, and good inputs.

pub mod archive;
pub mod bundle;
pub mod canonical;
pub mod certificate;
pub mod config;
pub mod data_dir;
pub mod database;
pub mod frames;
pub mod genesis;
pub mod import;
pub mod json;
pub mod logs;
pub mod proof;
pub mod receipt;
pub mod rpc;
pub mod storage;
pub mod texts;
pub mod wire;
