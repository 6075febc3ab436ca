//! Opening a redb file, and making one that appears whole or not at all.
//!
//! Nothing here reads or writes a table.

use std::{
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use redb::{Builder, Database, ReadOnlyDatabase, StorageBackend, backends::FileBackend};

use crate::{
    Place, StorageError,
    redb_storage::{RedbOptions, failure},
};

pub(super) fn open(path: &Path, options: &RedbOptions) -> Result<Database, StorageError> {
    let place = Place::Path(path.to_owned());
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => open_existing(file, &place, options),
        Err(error) if error.kind() == ErrorKind::NotFound && options.create => {
            create(path, options)
        }
        Err(error) => Err(failure::io(&place, error)),
    }
}

pub(super) fn open_read_only(
    path: &Path,
    options: &RedbOptions,
) -> Result<ReadOnlyDatabase, StorageError> {
    let place = Place::Path(path.to_owned());
    let file = File::open(path).map_err(|error| failure::io(&place, error))?;
    check_plausible(&file, &place)?;
    builder(options)
        .open_read_only_with_backend(backend(file, &place)?)
        .map_err(|error| failure::database(&place, error))
}

/// An existing file, to read from, and locked against every other.
pub(super) fn existing(path: &Path, place: &Place) -> Result<FileBackend, StorageError> {
    let file = File::open(path).map_err(|error| failure::io(place, error))?;
    check_plausible(&file, place)?;
    backend(file, place)
}

fn open_existing(
    file: File,
    place: &Place,
    options: &RedbOptions,
) -> Result<Database, StorageError> {
    check_plausible(&file, place)?;
    open_on(backend(file, place)?, place, options)
}

/// Opens what a backend holds. redb's "create" opens one that has content, and never replaces it.
pub(super) fn open_on(
    backend: impl StorageBackend,
    place: &Place,
    options: &RedbOptions,
) -> Result<Database, StorageError> {
    builder(options).create_with_backend(backend).map_err(|error| failure::database(place, error))
}

/// Refuses what redb would fill with a new database (an empty file) or wait for (a pipe).
fn check_plausible(file: &File, place: &Place) -> Result<(), StorageError> {
    let found = file.metadata().map_err(|error| failure::io(place, error))?;
    if !found.is_file() {
        return Err(failure::corrupt(place, "not a regular file"));
    }
    if found.len() == 0 {
        return Err(failure::corrupt(place, "the file is empty"));
    }
    Ok(())
}

/// Makes the database beside its place and then gives it its name. The lock that the open file
/// holds stays with it.
fn create(path: &Path, options: &RedbOptions) -> Result<Database, StorageError> {
    let place = Place::Path(path.to_owned());
    let unfinished = unfinished_path(path);
    match fs::remove_file(&unfinished) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failure::io(&place, error)),
    }
    let file = private_file(&unfinished).map_err(|error| failure::io(&place, error))?;
    let database = open_on(backend(file, &place)?, &place, options)?;
    publish(&unfinished, path, &place)?;
    Ok(database)
}

fn unfinished_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

/// Gives the file its name unless something has it already, and makes the name durable.
fn publish(unfinished: &Path, path: &Path, place: &Place) -> Result<(), StorageError> {
    match fs::hard_link(unfinished, path) {
        Ok(()) => {
            fs::remove_file(unfinished).map_err(|error| failure::io(place, error))?;
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(StorageError::Locked { place: place.clone() });
        }
        // Some file systems have no second names; then two processes that make one directory
        // at the same instant are not told apart.
        Err(_) => fs::rename(unfinished, path).map_err(|error| failure::io(place, error))?,
    }
    sync_directory_of(path).map_err(|error| failure::io(place, error))
}

#[cfg(unix)]
fn private_file(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn private_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

#[cfg(unix)]
fn sync_directory_of(path: &Path) -> std::io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory_of(_: &Path) -> std::io::Result<()> {
    Ok(())
}

fn backend(file: File, place: &Place) -> Result<FileBackend, StorageError> {
    FileBackend::new(file).map_err(|error| failure::database(place, error))
}

pub(super) fn builder(options: &RedbOptions) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(options.cache_bytes).set_check_integrity_on_open(options.verify);
    builder
}
