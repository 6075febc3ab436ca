//! A command's failure: a code for scripts, words for people, what to do, and the
//! exit code.

use ait_net::light::LightError;
use ait_net::rest::RestError;

use crate::config::ConfigError;
use crate::disk::{Shortage, want_of_room};
use crate::keystore::KeystoreError;
use crate::rpc::AdminTokenError;

/// Exit code when the disk is full or read-only, so that whoever starts the node can tell.
pub const EXIT_NO_ROOM: u8 = 3;

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CliError {
    /// Stable code.
    pub code: String,
    /// What went wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// 1 for a failed check or operation, 2 for wrong usage, [`EXIT_NO_ROOM`].
    pub exit: u8,
}

impl CliError {
    /// A check or an operation failed.
    #[must_use]
    pub fn failed(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), hint: None, exit: 1 }
    }

    /// An operation failed with this error; an empty `hint` is none.
    #[must_use]
    pub fn new(error: &dyn std::error::Error, hint: &str) -> Self {
        let hint = Some(hint.to_owned()).filter(|hint| !hint.is_empty());
        Self { hint, ..Self::failed("failed", error.to_string()) }
    }

    /// A part of the node failed: with an exit code of its own if that was for want of room.
    #[must_use]
    pub(super) fn of_node(
        error: &(dyn std::error::Error + 'static),
        code: &str,
        hint: &str,
    ) -> Self {
        let message = error.to_string();
        match want_of_room(error) {
            Some(code) => Self::no_room(code, message),
            None => Self::failed(code, message).hint(hint),
        }
    }

    /// The disk is full or read-only.
    #[must_use]
    pub(super) fn no_room(code: &str, message: impl Into<String>) -> Self {
        let hint = if code == Shortage::READ_ONLY {
            "look in the system's log for errors of the disk and check its file system if there \
             are some; mount it writable and start the node again: nothing that was final is lost"
        } else {
            "free or add room on the disk of the data directory, then start the node again: \
             nothing that was final is lost"
        };
        Self { exit: EXIT_NO_ROOM, ..Self::failed(code, message).hint(hint) }
    }

    /// The arguments or the configuration are wrong.
    #[must_use]
    pub fn usage(code: &str, message: impl Into<String>) -> Self {
        Self { exit: 2, ..Self::failed(code, message) }
    }

    /// The same of what a node needs before it starts: started again, it would fail again.
    #[must_use]
    pub(super) fn at_start(self) -> Self {
        Self { exit: 2, ..self }
    }

    /// The same with advice.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl From<KeystoreError> for CliError {
    fn from(error: KeystoreError) -> Self {
        Self { hint: error.hint(), ..Self::failed(error.code(), error.to_string()) }
    }
}

impl From<AdminTokenError> for CliError {
    fn from(error: AdminTokenError) -> Self {
        Self { hint: error.hint(), ..Self::failed("admin_token", error.to_string()) }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::usage("config", error.to_string())
            .hint("ait-node init writes a file with every key explained")
    }
}

impl From<LightError> for CliError {
    fn from(error: LightError) -> Self {
        Self::failed("proof_invalid", format!("the proof does not verify: {error}"))
            .hint("do not trust this node's answer; compare with another node")
    }
}

impl From<RestError> for CliError {
    fn from(error: RestError) -> Self {
        let message = error.to_string();
        match error {
            RestError::Url { .. } => {
                Self::usage("bad_url", message).hint("give a URL like http://127.0.0.1:8080")
            }
            RestError::Unreachable { .. } => Self::failed("unreachable", message)
                .hint("is the node running? start one with: ait-node dev; or give --rpc URL"),
            RestError::Answer { .. } => Self::failed("bad_answer", message)
                .hint("is the URL that of an ait-node of this version?"),
            RestError::Refused { body, .. } => {
                let code = if body.code.is_empty() { "refused" } else { &body.code };
                let hint = Some(body.hint.clone()).filter(|hint| !hint.is_empty());
                Self { hint, ..Self::failed(code, message) }
            }
        }
    }
}
