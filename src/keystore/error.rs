//! What can go wrong with key files, and what to do about it.

use std::path::PathBuf;

/// Why a key cannot be had or stored.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// The file cannot be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Neither a file nor a key, but nearly one.
    #[error("the key given is neither a file nor 64 hex digits: it has {length} characters")]
    NearlyHex {
        /// Its length.
        length: usize,
    },
    /// Others may read the file.
    #[error("{} is open to others (mode {found:03o}, expected 600)", .path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        found: u32,
    },
    /// There is a file already.
    #[error("{} exists already", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Not a key file.
    #[error("the key file is malformed: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// Made by another program or version.
    #[error("the key file's {what} is {found:?}, expected {expected:?}")]
    Unsupported {
        /// The field.
        what: &'static str,
        /// What this program knows.
        expected: &'static str,
        /// What the file says.
        found: String,
    },
    /// A cost that would exhaust the machine.
    #[error("the key file's {what} is {found}, expected 1 to {max}")]
    Cost {
        /// The field.
        what: &'static str,
        /// What the file says.
        found: u32,
        /// The bound.
        max: u32,
    },
    /// The passphrase does not open the file, or the file was altered.
    #[error("the passphrase is wrong, or the key file was altered")]
    WrongPassphrase,
    /// There is nobody to ask.
    #[error("a passphrase is needed and there is no terminal to ask for it")]
    NoPassphrase,
    /// What was typed the second time is different.
    #[error("the two passphrases differ")]
    Mismatch,
    /// An empty passphrase protects nothing.
    #[error("the passphrase is empty")]
    Empty,
    /// The system gives no randomness.
    #[error("the system gives no random bytes: {reason}")]
    Random {
        /// Why.
        reason: String,
    },
}

impl KeystoreError {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "key_file_io",
            Self::NearlyHex { .. } => "key_malformed",
            Self::Permissions { .. } => "key_file_permissions",
            Self::Exists { .. } => "key_file_exists",
            Self::Malformed { .. } => "key_file_malformed",
            Self::Unsupported { .. } => "key_file_unsupported",
            Self::Cost { .. } => "key_file_cost",
            Self::WrongPassphrase => "wrong_passphrase",
            Self::NoPassphrase => "no_passphrase",
            Self::Mismatch => "passphrase_mismatch",
            Self::Empty => "passphrase_empty",
            Self::Random { .. } => "no_randomness",
        }
    }

    /// What to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { path, source } if source.kind() == std::io::ErrorKind::NotFound => format!(
                "a key is the path of a key file or 64 hex digits; make one with: ait-node key new --out {}",
                path.display()
            ),
            Self::NearlyHex { .. } => "a key is 64 hex digits, with or without 0x".to_owned(),
            Self::Permissions { path, .. } => format!("run: chmod 600 {}", path.display()),
            Self::Exists { .. } => {
                "choose another path, or add --force to replace the key in it for ever".to_owned()
            }
            Self::NoPassphrase => format!(
                "give --passphrase-file FILE or set {}; a devnet key may use --no-passphrase",
                super::PASSPHRASE_VARIABLE
            ),
            _ => return None,
        })
    }
}
