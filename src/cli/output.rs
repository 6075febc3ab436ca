//! The only place that prints: results on standard output, errors on standard
//! error, each as text or as JSON.

use std::io::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::CliError;

/// How results and errors are shown.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

impl Output {
    /// Text, or one JSON object a line.
    #[must_use]
    pub const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether JSON is wanted.
    #[must_use]
    pub const fn is_json(&self) -> bool {
        self.json
    }

    /// Shows a result: the object in JSON, otherwise these lines.
    ///
    /// # Errors
    /// When standard output cannot be written, unless its reader has gone.
    pub fn result(&self, object: &Value, lines: &[String]) -> Result<(), CliError> {
        let text = if self.json { object.to_string() } else { lines.join("\n") };
        self.raw(format!("{text}\n").as_bytes())
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// As [`Output::result`].
    pub fn raw(&self, bytes: &[u8]) -> Result<(), CliError> {
        let mut out = std::io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(CliError::failed("output", format!("standard output: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Tells a person something beside the result; silent with JSON.
    pub fn note(&self, text: &str) {
        if !self.json {
            to_stderr(&format!("{text}\n"));
        }
    }

    /// Shows an error and gives its exit code.
    #[must_use]
    pub fn error(&self, error: &CliError) -> ExitCode {
        let CliError { code, message, hint, exit } = error;
        if self.json {
            let object = json!({ "code": code, "message": message, "hint": hint });
            to_stderr(&format!("{object}\n"));
        } else {
            to_stderr(&format!("error: {message}\n"));
            if let Some(hint) = hint {
                to_stderr(&format!("hint: {hint}\n"));
            }
        }
        ExitCode::from(*exit)
    }
}

fn to_stderr(text: &str) {
    // Nobody is left to be told that standard error is closed.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Shows help, the version, or what is wrong with the arguments.
pub(super) fn usage_error(error: &clap::Error, json: bool) -> ExitCode {
    if json && error.use_stderr() {
        let text = error.render().to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let hint = "run the command with --help";
        return Output::new(true).error(&CliError::usage("usage", message).hint(hint));
    }
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}
