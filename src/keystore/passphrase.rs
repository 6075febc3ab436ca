//! Where a passphrase comes from: a file, the environment, or a prompt.

use std::io::IsTerminal;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::{KeystoreError, read_private};

/// Environment variable that holds a passphrase.
pub const PASSPHRASE_VARIABLE: &str = "AIT_KEY_PASSPHRASE";
/// Longest passphrase file, in bytes.
const PASSPHRASE_BYTES_MAX: usize = 4096;

/// Where to get the passphrase when one is needed.
#[derive(Debug, Clone, Default)]
pub struct Passphrase {
    /// File whose first line it is; before the environment and the prompt.
    pub file: Option<PathBuf>,
}

impl Passphrase {
    /// Gets the passphrase; with `confirm`, a typed one must be typed twice.
    ///
    /// # Errors
    /// [`KeystoreError`] if there is none, it is empty, or it was typed differently.
    pub fn read(&self, confirm: bool) -> Result<Zeroizing<String>, KeystoreError> {
        let passphrase = self.find(confirm)?;
        if passphrase.is_empty() { Err(KeystoreError::Empty) } else { Ok(passphrase) }
    }

    fn find(&self, confirm: bool) -> Result<Zeroizing<String>, KeystoreError> {
        if let Some(path) = &self.file {
            let text = read_private(path, PASSPHRASE_BYTES_MAX)?;
            return Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()));
        }
        if let Ok(passphrase) = std::env::var(PASSPHRASE_VARIABLE) {
            return Ok(Zeroizing::new(passphrase));
        }
        if !std::io::stdin().is_terminal() {
            return Err(KeystoreError::NoPassphrase);
        }
        let ask = |prompt: &str| {
            let typed = rpassword::prompt_password(prompt);
            typed.map(Zeroizing::new).map_err(|_| KeystoreError::NoPassphrase)
        };
        let passphrase = ask("Passphrase: ")?;
        if confirm && ask("Passphrase again: ")? != passphrase {
            return Err(KeystoreError::Mismatch);
        }
        Ok(passphrase)
    }
}
