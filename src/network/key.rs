//! The network key: says which node this is, owns nothing and signs no votes. It is made at
//! the first start and kept in a plain key file that only the owner may read.

use std::path::{Path, PathBuf};

use ait_net::quic::PeerKey;

use crate::keystore::{self, KeyFile, KeystoreError, Passphrase};

/// Why there is no network key.
#[derive(Debug, thiserror::Error)]
pub enum NetworkKeyError {
    /// The file cannot be used.
    #[error("network key {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeystoreError,
    },
    /// The TLS library does not take it.
    #[error("network key: {0}")]
    Tls(String),
}

/// The key in the file, or a new one that is written there.
///
/// # Errors
/// [`NetworkKeyError`] when the file cannot be read or written.
pub fn load_or_create(path: &Path) -> Result<PeerKey, NetworkKeyError> {
    let file = |source| NetworkKeyError::File { path: path.to_owned(), source };
    let key = if path.exists() {
        keystore::resolve(&path.to_string_lossy(), &Passphrase { file: None }).map_err(file)?
    } else {
        let key = keystore::generate().map_err(file)?;
        KeyFile::plain(&key).write(path, false).map_err(file)?;
        key
    };
    PeerKey::new(&key).map_err(|error| NetworkKeyError::Tls(error.to_string()))
}
