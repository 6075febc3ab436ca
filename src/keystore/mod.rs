//! Key files: a secret key encrypted under a passphrase, or plain where a devnet
//! asks for it.
//!
//! The key that encrypts is derived by Argon2id; its costs are read from the file
//! and bounded before they are used. The cipher is XChaCha20-Poly1305, bound to the
//! public key. Secrets are wiped when dropped and never logged.

mod error;
mod passphrase;
mod private;

use std::path::Path;

use ait_engine::crypto::{PublicKey, SecretKey};
use ait_engine::types::{Address, parse_hex32};
use argon2::{Algorithm, Argon2, Block, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use zeroize::{Zeroize, Zeroizing};

pub use error::KeystoreError;
pub use passphrase::{PASSPHRASE_VARIABLE, Passphrase};
pub use private::{
    TO_OTHERS, TO_STRANGERS, allows, read_private, sync_directory, write_private, write_public,
};

/// The only version of key files.
pub const KEY_FILE_VERSION: u32 = 1;
/// Largest key file, in bytes.
const KEY_FILE_BYTES_MAX: usize = 16 * 1024;
/// Bounds of the costs in a key file: memory in KiB, passes, lanes.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const ITERATIONS_MAX: u32 = 16;
const PARALLELISM_MAX: u32 = 16;

/// How the encrypting key is derived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kdf {
    /// Always `argon2id`.
    pub name: String,
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub iterations: u32,
    /// Lanes.
    pub parallelism: u32,
    /// Salt in hex.
    pub salt: String,
}

impl Kdf {
    fn fresh() -> Result<Self, KeystoreError> {
        let salt = hex::encode(random::<16>()?);
        let name = "argon2id".to_owned();
        Ok(Self { name, memory_kib: 64 * 1024, iterations: 3, parallelism: 1, salt })
    }

    fn derive(&self, passphrase: &str) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
        if self.name != "argon2id" {
            let (expected, found) = ("argon2id", self.name.clone());
            return Err(KeystoreError::Unsupported { what: "kdf.name", expected, found });
        }
        for (what, found, max) in [
            ("kdf.memory_kib", self.memory_kib, MEMORY_KIB_MAX),
            ("kdf.iterations", self.iterations, ITERATIONS_MAX),
            ("kdf.parallelism", self.parallelism, PARALLELISM_MAX),
        ] {
            if found == 0 || found > max {
                return Err(KeystoreError::Cost { what, found, max });
            }
        }
        let malformed = |reason: String| KeystoreError::Malformed { reason };
        let salt = hex::decode(&self.salt).map_err(|_| malformed("kdf.salt is no hex".into()))?;
        let params =
            argon2::Params::new(self.memory_kib, self.iterations, self.parallelism, Some(32))
                .map_err(|error| malformed(format!("kdf: {error}")))?;
        let mut key = Zeroizing::new([0; 32]);
        let mut memory = Zeroizing::new(vec![Block::new(); params.block_count()]);
        let (passphrase, memory) = (passphrase.as_bytes(), memory.as_mut_slice());
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(passphrase, &salt, key.as_mut_slice(), memory)
            .map_err(|error| malformed(format!("kdf: {error}")))?;
        Ok(key)
    }
}

/// The encrypted seed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// Always `xchacha20poly1305`.
    pub name: String,
    /// Nonce in hex.
    pub nonce: String,
    /// Encrypted seed with its tag, in hex.
    pub ciphertext: String,
}

/// A key file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// Version of the format.
    pub version: u32,
    /// The account's address.
    pub address: Address,
    /// The public key.
    pub public_key: PublicKey,
    /// Whether the seed stands in it unencrypted.
    pub plain: bool,
    /// The seed in hex, in a plain file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
    /// How the encrypting key is derived, in an encrypted file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kdf: Option<Kdf>,
    /// The encrypted seed, in an encrypted file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher: Option<Sealed>,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyFile(of {}, plain: {})", self.public_key, self.plain)
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}

/// Random bytes of the system.
///
/// # Errors
/// [`KeystoreError::Random`] if it has none.
pub fn random<const N: usize>() -> Result<[u8; N], KeystoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| KeystoreError::Random { reason: error.to_string() })?;
    Ok(bytes)
}

/// A new random key.
///
/// # Errors
/// [`KeystoreError::Random`].
pub fn generate() -> Result<SecretKey, KeystoreError> {
    let seed = Zeroizing::new(random()?);
    Ok(SecretKey::from_seed(*seed))
}

impl KeyFile {
    /// A file with the seed unencrypted; for devnets only.
    #[must_use]
    pub fn plain(key: &SecretKey) -> Self {
        Self {
            version: KEY_FILE_VERSION,
            address: key.public_key().address(),
            public_key: key.public_key(),
            plain: true,
            seed: Some(hex::encode(key.seed().as_slice())),
            kdf: None,
            cipher: None,
        }
    }

    /// A file with the seed encrypted under a passphrase.
    ///
    /// # Errors
    /// [`KeystoreError`] if there is no randomness.
    pub fn encrypted(key: &SecretKey, passphrase: &str) -> Result<Self, KeystoreError> {
        let kdf = Kdf::fresh()?;
        let nonce: [u8; 24] = random()?;
        let cipher_key = kdf.derive(passphrase)?;
        let cipher = XChaCha20Poly1305::new((&*cipher_key).into());
        let seed = key.seed();
        let public_key = key.public_key();
        let payload = Payload { msg: seed.as_slice(), aad: public_key.as_bytes() };
        let ciphertext = cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| {
            KeystoreError::Malformed { reason: "the seed cannot be encrypted".into() }
        })?;
        let sealed = Sealed {
            name: "xchacha20poly1305".to_owned(),
            nonce: hex::encode(nonce),
            ciphertext: hex::encode(ciphertext),
        };
        Ok(Self {
            version: KEY_FILE_VERSION,
            address: public_key.address(),
            public_key,
            plain: false,
            seed: None,
            kdf: Some(kdf),
            cipher: Some(sealed),
        })
    }

    /// Reads a key file that only its owner may read.
    ///
    /// # Errors
    /// [`KeystoreError`] when it cannot be read, others may read it, or it is malformed.
    pub fn read(path: &Path) -> Result<Self, KeystoreError> {
        let text = read_private(path, KEY_FILE_BYTES_MAX)?;
        let file: Self = serde_json::from_str(&text).map_err(|error| unreadable(&error))?;
        if file.version != KEY_FILE_VERSION {
            let found = file.version.to_string();
            return Err(KeystoreError::Unsupported { what: "version", expected: "1", found });
        }
        Ok(file)
    }

    /// Writes the file so that only its owner may read it.
    ///
    /// # Errors
    /// [`KeystoreError::Exists`] if there is one and `replace` is false, or when it cannot be written.
    pub fn write(&self, path: &Path, replace: bool) -> Result<(), KeystoreError> {
        if !replace && path.exists() {
            return Err(KeystoreError::Exists { path: path.to_owned() });
        }
        // Room for all of it from the start: what grows leaves copies behind.
        let mut json = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES_MAX));
        serde_json::to_writer_pretty(&mut *json, self).map_err(|error| unreadable(&error))?;
        json.push(b'\n');
        write_private(path, json.as_slice())
            .map_err(|source| KeystoreError::Io { path: path.to_owned(), source })
    }

    /// The secret key.
    ///
    /// # Errors
    /// [`KeystoreError`] for a wrong passphrase or a file whose parts do not fit together.
    pub fn unlock(&self, passphrase: &Passphrase) -> Result<SecretKey, KeystoreError> {
        let malformed = |reason: &str| KeystoreError::Malformed { reason: reason.to_owned() };
        let seed = match (&self.seed, &self.kdf, &self.cipher) {
            (Some(seed), None, None) if self.plain => {
                let seed = parse_hex32(seed).map(Zeroizing::new);
                seed.map_err(|_| malformed("seed is not 64 hex digits"))?
            }
            (None, Some(kdf), Some(sealed)) if !self.plain => {
                let passphrase = passphrase.read(false)?;
                self.open(kdf, sealed, &passphrase)?
            }
            _ => return Err(malformed("needs either seed with plain: true, or kdf and cipher")),
        };
        let key = SecretKey::from_seed(*seed);
        if key.public_key() != self.public_key || self.public_key.address() != self.address {
            return Err(malformed(
                "the secret key is not that of the file's public key and address",
            ));
        }
        Ok(key)
    }

    fn open(
        &self,
        kdf: &Kdf,
        sealed: &Sealed,
        passphrase: &str,
    ) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
        if sealed.name != "xchacha20poly1305" {
            let (expected, found) = ("xchacha20poly1305", sealed.name.clone());
            return Err(KeystoreError::Unsupported { what: "cipher.name", expected, found });
        }
        let malformed =
            |what: &str| KeystoreError::Malformed { reason: format!("{what} is no hex") };
        let mut nonce = [0; 24];
        hex::decode_to_slice(&sealed.nonce, &mut nonce).map_err(|_| malformed("cipher.nonce"))?;
        let ciphertext =
            hex::decode(&sealed.ciphertext).map_err(|_| malformed("cipher.ciphertext"))?;
        let cipher_key = kdf.derive(passphrase)?;
        let cipher = XChaCha20Poly1305::new((&*cipher_key).into());
        let payload = Payload { msg: &ciphertext, aad: self.public_key.as_bytes() };
        let opened = cipher
            .decrypt(&XNonce::from(nonce), payload)
            .map_err(|_| KeystoreError::WrongPassphrase)?;
        let opened = Zeroizing::new(opened);
        let seed = opened.as_slice().try_into().map(Zeroizing::new);
        seed.map_err(|_| KeystoreError::WrongPassphrase)
    }
}

/// Where a key file cannot be read. The parser's own words show what stands there, which may
/// be the seed.
fn unreadable(error: &serde_json::Error) -> KeystoreError {
    let what = match error.classify() {
        Category::Data => "not what a key file has there",
        Category::Eof => "it ends too early",
        Category::Io | Category::Syntax => "no JSON",
    };
    let (line, column) = (error.line(), error.column());
    KeystoreError::Malformed { reason: format!("line {line}, column {column}: {what}") }
}

/// Whether a text is a secret key, or looks as if it was meant to be one.
#[must_use]
pub fn is_nearly_hex(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_hexdigit).count();
    (40..=80).contains(&text.len()) && digits * 10 >= text.len() * 9
}

/// The key that a `--key` argument names: a key file, or 64 hex digits.
///
/// # Errors
/// [`KeystoreError`] as for reading and unlocking a file.
pub fn resolve(argument: &str, passphrase: &Passphrase) -> Result<SecretKey, KeystoreError> {
    if let Ok(seed) = parse_hex32(argument).map(Zeroizing::new) {
        return Ok(SecretKey::from_seed(*seed));
    }
    // A mistyped secret is taken for a path: it must not be repeated in a message or a log.
    if !Path::new(argument).exists() && is_nearly_hex(argument) {
        return Err(KeystoreError::NearlyHex { length: argument.len() });
    }
    KeyFile::read(Path::new(argument))?.unlock(passphrase)
}

#[cfg(test)]
mod tests;
