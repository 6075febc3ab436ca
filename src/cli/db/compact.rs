//! `db compact`: gives the space that databases do not use back to the file system.

use std::fs;

use serde_json::{Map, Value, json};

use super::{DbArgs, Output};
use crate::chain::ChainError;
use crate::cli::offline::Directory;
use crate::cli::{CliError, progress};

/// Compacts one database after the other: a pass moves pages to the front and cuts the file,
/// until a pass finds nothing to move.
pub(super) fn compact(args: &DbArgs, output: &Output) -> Result<(), CliError> {
    let directory = Directory::new(&args.data_dir, args.genesis.as_deref())?;
    let stores = directory.stores(false)?;
    let named = stores.named();
    let bar = progress::bar(output, named.len() as u64, "databases");
    let (mut lines, mut databases) = (Vec::new(), Map::new());
    for (name, store) in named {
        let file = directory.file(&format!("{name}.redb"));
        let bytes = || fs::metadata(&file).map_or(0, |meta| meta.len());
        let before = bytes();
        while store.compact().map_err(ChainError::from)? {}
        let after = bytes();
        lines.push(format!("{name}: {before} bytes before, {after} bytes now"));
        databases.insert(name.to_owned(), json!({ "bytes_before": before, "bytes": after }));
        bar.inc(1);
    }
    bar.finish_and_clear();
    output.result(&Value::Object(databases), &lines)
}
