//! Logs on standard error, as text or as one JSON object a line, and metrics.
//!
//! Nothing is ever logged to standard output, and no secret anywhere.

mod legacy;
pub mod metrics;
pub mod panics;
pub mod stage;
pub mod terminal;

pub use stage::Stage;

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// Starts logging at this level (`info`, or a filter like `info,ait_node::rpc=debug`).
///
/// # Errors
/// A sentence about the level if it cannot be read, or if logging has been started before.
pub fn init(level: &str, format: LogFormat) -> Result<(), String> {
    // The consensus library tells every step of every height; whoever wants that names it.
    let filter = format!("arc_malachitebft_core_consensus=warn,{level}");
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        format!("found {level:?} ({error}), expected error, warn, info, debug, trace or a filter")
    })?;
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| terminal::Lines)
        .with_ansi(colours);
    match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|error| error.to_string())
}
