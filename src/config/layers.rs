//! Layers of values, each with where it came from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::Value;

use super::keys::{KEYS, holds_secret};
use super::old_names;
use crate::keystore;

/// Prefix of our environment variables.
const PREFIX: &str = "AIT_";
/// Variables with our prefix that are no configuration keys.
const OTHER_VARIABLES: [&str; 4] = ["AIT_LOG", "AIT_CONFIG", "AIT_KEY_PASSPHRASE", "AIT_RPC_URL"];
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable, or a line of an `.env` file.
    Variable(String),
    /// A command line flag.
    Flag,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag => f.write_str("command line"),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has {} problem(s):\n  - {}", .problems.len(), .problems.join("\n  - "))]
pub struct ConfigError {
    /// Each problem: the key, what was found and what is expected.
    pub problems: Vec<String>,
}

/// Values of all layers, the strongest of each key.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    values: BTreeMap<&'static str, (Value, Source)>,
    problems: Vec<String>,
}

impl Layers {
    /// No layer yet, but these defaults of a command.
    #[must_use]
    pub fn with_defaults(defaults: &[(&'static str, Value)]) -> Self {
        let values = defaults.iter().map(|(path, value)| (*path, (value.clone(), Source::Default)));
        Self { values: values.collect(), problems: Vec::new() }
    }

    /// The value of a key and where it came from; none if it has its default.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&(Value, Source)> {
        self.values.get(path)
    }

    /// Problems found while reading the layers.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    fn set(&mut self, path: &'static str, value: Value, source: Source) {
        self.values.insert(path, (value, source));
    }

    /// Reads a TOML file.
    pub fn read_file(&mut self, path: &Path) {
        let read = File::open(path).and_then(|file| {
            let metadata = file.metadata()?;
            let mut text = String::new();
            if file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)? as u64 > FILE_BYTES_MAX {
                return Err(std::io::Error::other("longer than a configuration file can be"));
            }
            Ok((text, keystore::allows(&metadata, keystore::TO_STRANGERS)))
        });
        match read {
            Ok((text, mode)) => {
                self.read_toml(&text, path);
                if let Some(mode) = mode {
                    let of_file = Source::File(path.to_owned());
                    self.refuse(self.secrets(|source| *source == of_file), path, mode);
                }
            }
            Err(error) => self.problems.push(format!("{}: {error}", path.display())),
        }
    }

    /// Refuses secrets in an `.env` file which others may read. One that is not there holds none.
    pub fn check_env_file(&mut self, path: &Path) {
        let mode =
            path.metadata().ok().and_then(|found| keystore::allows(&found, keystore::TO_STRANGERS));
        let (Some(mode), Ok(text)) = (mode, std::fs::read_to_string(path)) else { return };
        let mut of_file = Self::default();
        of_file.read_variables(read_env_file(&text));
        self.refuse(of_file.secrets(|_| true), path, mode);
    }

    /// Keys whose values of these sources hold a secret.
    fn secrets(&self, is_asked_for: impl Fn(&Source) -> bool) -> Vec<&'static str> {
        let is_secret = |(key, (value, source)): &(&&str, &(Value, Source))| {
            let texts = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            let mut texts = texts.iter().filter_map(Value::as_str);
            is_asked_for(source) && texts.any(|text| holds_secret(key, text))
        };
        self.values.iter().filter(is_secret).map(|(key, _)| *key).collect()
    }

    fn refuse(&mut self, secrets: Vec<&'static str>, path: &Path, mode: u32) {
        for key in secrets {
            self.problems.push(format!(
                "{0}: {key} holds a secret, and the file is open to others (mode {mode:03o}); run: chmod 600 {0}, or 640 for a group",
                path.display()
            ));
        }
    }

    /// Reads the text of a TOML file.
    pub fn read_toml(&mut self, text: &str, path: &Path) {
        match text.parse::<toml::Table>() {
            Ok(table) => self.read_table("", &table, &Source::File(path.to_owned())),
            Err(error) => {
                // The parser's own words show the line, which may hold a password.
                let at = error.span().map_or(0, |span| span.start);
                let before = text.get(..at).unwrap_or_default();
                let line = before.matches('\n').count() + 1;
                let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
                let (path, reason) = (path.display(), error.message());
                self.problems.push(format!("{path}: line {line}, column {column}: {reason}"));
            }
        }
    }

    fn read_table(&mut self, section: &str, table: &toml::Table, source: &Source) {
        for (name, value) in table {
            let path = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
            match (find(&path), value) {
                (Some(known), value) => self.set(known, value.clone(), source.clone()),
                (None, Value::Table(inner)) if section.is_empty() && is_section(name) => {
                    self.read_table(name, inner, source);
                }
                (None, _) => self.problems.push(unknown("key", &path, source, known_paths())),
            }
        }
    }

    /// Reads environment variables; those with our prefix win over the old names.
    pub fn read_variables(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        let (ours, others): (Vec<_>, Vec<_>) =
            variables.into_iter().partition(|(name, _)| name.starts_with(PREFIX));
        let old = old_names::read(&others, &mut self.problems);
        for (path, value, name) in old {
            if let Some(known) = find(path) {
                self.set(known, value, Source::Variable(name));
            }
        }
        for (name, text) in ours {
            if !OTHER_VARIABLES.contains(&name.as_str()) {
                self.read_variable(name, &text);
            }
        }
    }

    fn read_variable(&mut self, name: String, text: &str) {
        let spelled = name[PREFIX.len()..].to_lowercase().replace("__", "_");
        let spec = KEYS.iter().find(|spec| spec.path.replace('.', "_") == spelled);
        let source = Source::Variable(name.clone());
        let Some(spec) = spec else {
            let known = KEYS.iter().map(|spec| variable(spec.path)).collect::<Vec<_>>();
            self.problems.push(unknown("variable", &name, &source, known));
            return;
        };
        self.set(spec.path, value_of(spec.default, text), source);
    }

    /// Sets what a command line flag says.
    pub fn set_flag(&mut self, path: &'static str, value: impl Into<Value>) {
        self.set(path, value.into(), Source::Flag);
    }
}

/// Reads `NAME=value` lines of an `.env` file; comments, quotes and `export` are understood.
#[must_use]
pub(super) fn read_env_file(text: &str) -> Vec<(String, String)> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("export ").unwrap_or(line).split_once('='))
        .map(|(name, value)| {
            let value = value.trim().trim_matches(|c| c == '"' || c == '\'');
            (name.trim().to_owned(), value.to_owned())
        })
        .collect()
}

/// The variable of a key.
fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "_").to_uppercase())
}

/// A variable's text as a value of the same kind as the default; a text that is not of
/// that kind stays text, and the reader of the key says what is wrong with it.
fn value_of(default: &str, text: &str) -> Value {
    let text = text.trim();
    let as_text = || Value::String(text.to_owned());
    if default.starts_with('[') {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
    } else if default.starts_with('"') {
        as_text()
    } else if let Ok(flag) = text.to_lowercase().parse::<bool>() {
        Value::Boolean(flag)
    } else {
        text.parse::<i64>().map_or_else(|_| as_text(), Value::Integer)
    }
}

fn find(path: &str) -> Option<&'static str> {
    KEYS.iter().map(|spec| spec.path).find(|known| *known == path)
}

fn is_section(name: &str) -> bool {
    KEYS.iter().any(|spec| spec.path.split_once('.').is_some_and(|(section, _)| section == name))
}

fn known_paths() -> Vec<String> {
    KEYS.iter().map(|spec| spec.path.to_owned()).collect()
}

fn unknown(what: &str, name: &str, source: &Source, known: Vec<String>) -> String {
    let near = known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, &candidate), candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| format!("; did you mean {candidate}?"))
        .unwrap_or_default();
    match source {
        Source::File(path) => format!("{}: unknown {what} {name}{near}", path.display()),
        _ => format!("unknown {what} {name}{near}"),
    }
}
