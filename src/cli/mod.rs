//! The command line: arguments, dispatch, and how results and errors are shown.
//!
//! Only [`output`] prints. No rule of the chain is decided here.

pub mod bench;
pub mod coordinator;
pub mod db;
pub mod dev;
pub mod error;
pub mod explain;
pub mod export;
pub mod genesis;
pub mod init;
pub mod key;
mod offline;
pub mod output;
mod progress;
pub mod query;
pub mod receipt;
pub mod replay;
pub mod run;
mod serve;
pub mod simulate;
pub mod testnet;
pub mod tx;

use std::process::ExitCode;

use crate::telemetry::{self, LogFormat};
use clap::{CommandFactory, Parser, Subcommand};

pub use error::CliError;
pub use output::Output;

const EXAMPLES: &str = "Examples:
  ait-node dev                                   start a devnet and say where everything is
  ait-node key new --out alice.json              make a key, encrypted under a passphrase
  ait-node tx transfer --key alice.json --to ait1... --amount 5 --wait
  ait-node query account ait1...                 a balance, verified here against its proof

Exit codes: 0 success, 1 a check or an operation failed, 2 wrong usage, 3 the disk is full or \
read-only.";

/// A compute-market blockchain node.
#[derive(Debug, Parser)]
#[command(name = "ait-node", version, about, after_help = EXAMPLES, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// Show results and errors as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What is logged to standard error: error, warn, info, debug, or a filter
    /// [default: warn; for run and dev, what log.level says]
    #[arg(long, global = true, env = "AIT_LOG", value_name = "LEVEL")]
    pub log: Option<String>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// Every subcommand.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a devnet: a chain of one validator, funded accounts, a mock coordinator
    Dev(dev::DevArgs),
    /// Run a node by its configuration, genesis and validator key
    Run(run::RunArgs),
    /// Run a network of several nodes on this machine
    Testnet(testnet::TestnetArgs),
    /// Write a commented configuration file, and a new chain if asked
    Init(init::InitArgs),
    /// Make, show, import and export keys
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Make and check genesis documents
    #[command(subcommand)]
    Genesis(genesis::GenesisCommand),
    /// Sign and send transactions
    #[command(subcommand)]
    Tx(tx::TxCommand),
    /// Sign, attest and claim compute receipts
    #[command(subcommand)]
    Receipt(receipt::ReceiptCommand),
    /// Ask a node; what has a proof is verified here
    #[command(subcommand)]
    Query(query::QueryCommand),
    /// Write the chain of a stopped node to a file
    Export(export::ExportArgs),
    /// Execute an exported chain again and compare every root
    Replay(replay::ReplayArgs),
    /// Execute the block of a divergence file again and say who is right
    Explain(explain::ExplainArgs),
    /// Check, measure or delete the databases of a stopped node
    #[command(subcommand)]
    Db(db::DbCommand),
    /// Measure how fast a node is, its own or running ones, and where the time goes
    Bench(bench::BenchArgs),
    /// Run a whole cluster in virtual time, and let things go wrong
    Simulate(simulate::SimulateArgs),
    /// Run the mock coordinator
    Coordinator(coordinator::CoordinatorArgs),
    /// Write the completion script of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Reads the arguments, does what they say, and gives the exit code.
#[must_use]
pub fn main() -> ExitCode {
    telemetry::panics::end_process();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let json = std::env::args_os().any(|argument| argument == "--json");
            return output::usage_error(&error, json);
        }
    };
    let output = Output::new(cli.json);
    match dispatch(cli, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output.error(&error),
    }
}

/// Starts logging by `--log`, or else as given.
fn log(flag: Option<&str>, level: &str, format: LogFormat) -> Result<(), CliError> {
    telemetry::init(flag.unwrap_or(level), format)
        .map_err(|error| CliError::usage("bad_log", format!("log level: {error}")))
}

fn dispatch(cli: Cli, output: &Output) -> Result<(), CliError> {
    let flag = cli.log.as_deref();
    if let Command::Run(args) = cli.command {
        let config = args.load()?;
        log(flag, &config.log_level, config.log_format)?;
        return run::run(&args, &config, output);
    }
    if let Command::Dev(args) = cli.command {
        return dev::run(&args, flag, output);
    }
    // What goes wrong in a simulation is meant to.
    let level = if matches!(cli.command, Command::Simulate(_)) { "error" } else { "warn" };
    log(flag, level, LogFormat::Text)?;
    match cli.command {
        // Both done above, because their configuration says how to log.
        Command::Run(_) | Command::Dev(_) => Ok(()),
        Command::Testnet(args) => block_on(testnet::run(args, output)),
        Command::Bench(args) => bench::run(&args, output),
        Command::Simulate(args) => simulate::run(&args, output),
        Command::Init(args) => init::run(&args, output),
        Command::Key(command) => key::run(command, output),
        Command::Genesis(command) => genesis::run(command, output),
        Command::Tx(command) => block_on(tx::run(command, output)),
        Command::Receipt(command) => block_on(receipt::run(command, output)),
        Command::Query(command) => block_on(query::run(command, output)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "ait-node", &mut script);
            output.raw(&script)
        }
        Command::Export(args) => export::run(&args, output),
        Command::Replay(args) => replay::run(&args, output),
        Command::Explain(args) => explain::run(&args, output),
        Command::Db(command) => db::run(&command, output),
        Command::Coordinator(args) => coordinator::run(&args, output),
    }
}

/// Runs one client command to its end.
fn block_on<F: Future<Output = Result<(), CliError>>>(future: F) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed("runtime", error.to_string()))?;
    runtime.block_on(future)
}
