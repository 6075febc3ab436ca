//! The command line. The only place that prints.
//!
//! Exit codes: 0 success, 1 a failed operation, 2 wrong usage.

mod dev;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A compute-market blockchain node.
#[derive(Debug, Parser)]
#[command(
    name = "ait-node",
    version,
    about,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// Print JSON, one object a line, for programs.
    #[arg(long, global = true)]
    json: bool,
    /// What is logged to standard error: error, warn, info, debug, or a filter.
    #[arg(long, global = true, default_value = "warn", env = "AIT_LOG")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a devnet on this machine: one validator, funded accounts, an open faucet.
    Dev(dev::DevArgs),
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CliError {
    message: String,
    hint: String,
}

impl CliError {
    fn new(error: &dyn std::error::Error, hint: &str) -> Self {
        Self { message: error.to_string(), hint: hint.to_owned() }
    }
}

/// Runs the command of this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_new(&cli.log);
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let result = match cli.command {
        Command::Dev(args) => dev::run(&args, cli.json),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error, cli.json);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "errors are for the person at the terminal")]
fn report(error: &CliError, json: bool) {
    if json {
        eprintln!("{}", serde_json::json!({ "error": error.message, "hint": error.hint }));
    } else {
        eprintln!("error: {}", error.message);
        if !error.hint.is_empty() {
            eprintln!("hint: {}", error.hint);
        }
    }
}

#[expect(clippy::print_stdout, reason = "this is what the command says")]
fn say(line: &str) {
    println!("{line}");
}
