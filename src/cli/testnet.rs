//! `testnet`: a network of real processes on this machine, with one table to watch it.

use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ait_engine::types::ChainId;
use ait_net::rest::RestClient;
use ait_net::wire::{Health, SyncStatus};
use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{CliError, Output, progress};
use crate::testnet::{TestnetNode, TestnetOptions, prepare};

/// Validators if nothing is said.
const VALIDATORS: u16 = 4;
/// How long the nodes have to serve.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a node has to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the table is drawn.
const REFRESH: Duration = Duration::from_secs(1);

/// Arguments of `testnet`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ait-node testnet                                    four validators and a follower
  ait-node testnet --weights 50,30,15,5 --followers 2
  ait-node testnet --data-dir ./net --prepare-only --hosts 10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4

Keys of funded accounts are in DIR/accounts:
  ait-node tx transfer --key DIR/accounts/alice.key --to ait1... --amount 5 --rpc URL")]
pub struct TestnetArgs {
    /// How many validators [default: 4, or as many as there are weights]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub validators: Option<u16>,
    /// How many nodes that follow
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=100))]
    pub followers: u16,
    /// Voting power of each validator [default: all the same]
    #[arg(long, value_delimiter = ',', value_name = "POWER,..")]
    pub weights: Vec<u64>,
    /// Where to keep the nodes [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Name of the chain
    #[arg(long, value_name = "ID", default_value = "ait-testnet")]
    pub chain_id: ChainId,
    /// Funded accounts besides the named ones
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    pub accounts: usize,
    /// Shortest time between two blocks
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "500ms")]
    pub block_interval: Duration,
    /// IP address of each node, which then has ports 8080 and 7070 [default: free ports of
    /// 127.0.0.1]
    #[arg(long, value_delimiter = ',', value_name = "IP,..")]
    pub hosts: Vec<IpAddr>,
    /// Write the directories and start nothing
    #[arg(long, requires = "data_dir")]
    pub prepare_only: bool,
}

impl TestnetArgs {
    fn options(&self, directory: PathBuf) -> Result<TestnetOptions, CliError> {
        let weights = match (self.validators, self.weights.len()) {
            (count, 0) => vec![1; usize::from(count.unwrap_or(VALIDATORS))],
            (Some(count), given) if usize::from(count) != given => {
                let message = format!("{given} weights for {count} validators");
                return Err(CliError::usage("weights", message).hint("give one for each"));
            }
            _ => self.weights.clone(),
        };
        let count = weights.len() + usize::from(self.followers);
        let places = if self.hosts.is_empty() {
            free_places(count).map_err(|error| CliError::new(&error, ""))?
        } else if self.hosts.len() == count {
            let place = |ip: &IpAddr| (SocketAddr::new(*ip, 8080), SocketAddr::new(*ip, 7070));
            self.hosts.iter().map(place).collect()
        } else {
            let message = format!("{} hosts for {count} nodes", self.hosts.len());
            return Err(CliError::usage("hosts", message).hint("name one for each node"));
        };
        Ok(TestnetOptions {
            directory,
            chain_id: self.chain_id,
            weights,
            followers: usize::from(self.followers),
            accounts: self.accounts,
            block_interval: self.block_interval,
            places,
        })
    }
}

/// Free TCP and UDP ports of this machine.
fn free_places(count: usize) -> std::io::Result<Vec<(SocketAddr, SocketAddr)>> {
    let any = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    // All are held until the last is chosen, so that they differ.
    let held: Vec<_> = (0..count)
        .map(|_| Ok((TcpListener::bind(any)?, UdpSocket::bind(any)?)))
        .collect::<std::io::Result<_>>()?;
    held.iter().map(|(tcp, udp)| Ok((tcp.local_addr()?, udp.local_addr()?))).collect()
}

/// Makes a testnet, and runs it until told to stop.
///
/// # Errors
/// [`CliError`] if it cannot be made or a node does not start.
pub async fn run(args: TestnetArgs, output: &Output) -> Result<(), CliError> {
    // Removed when dropped, which is after the nodes have stopped.
    let temporary = tempfile::tempdir().map_err(|error| CliError::new(&error, ""))?;
    let directory = args.data_dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    if directory.join(crate::testnet::SEED_FILE).exists() {
        let message = format!("there is a testnet in {} already", directory.display());
        return Err(CliError::failed("testnet_exists", message)
            .hint("choose another --data-dir, or delete that one"));
    }
    std::fs::create_dir_all(&directory).map_err(|error| CliError::new(&error, ""))?;
    let bar = progress::bar(output, args.accounts as u64, "fund accounts");
    let mut funded = |count: usize| bar.set_position(count as u64);
    let nodes = prepare(&args.options(directory.clone())?, &mut funded)
        .map_err(|error| CliError::new(&error, "choose another --data-dir"))?;
    bar.finish_and_clear();
    if args.prepare_only {
        for node in &nodes {
            let command = format!(
                "{}: ait-node run --config {}",
                node.name,
                node.data_dir.join("config.toml").display()
            );
            output.result(&described(node, None), &[command])?;
        }
        return Ok(());
    }
    let mut net = Net { processes: Vec::new() };
    for node in nodes {
        net.processes.push(Process::start(node)?);
    }
    let result = net.watch(output, &directory).await;
    net.stop();
    result
}

fn described(node: &TestnetNode, pid: Option<u32>) -> serde_json::Value {
    json!({
        "name": node.name,
        "rpc": format!("http://{}", node.rpc),
        "validator": node.validator,
        "data_dir": node.data_dir,
        "peer": node.peer.to_string(),
        "pid": pid,
    })
}

struct Process {
    node: TestnetNode,
    child: Child,
    client: RestClient,
    ended: Option<String>,
}

impl Process {
    fn start(node: TestnetNode) -> Result<Self, CliError> {
        let failed = |error: std::io::Error| {
            CliError::failed("start", format!("{} does not start: {error}", node.name))
        };
        let program = std::env::current_exe().map_err(failed)?;
        let log = std::fs::File::create(node.data_dir.join("log")).map_err(failed)?;
        let child = Command::new(program)
            .arg("run")
            .arg("--config")
            .arg(node.data_dir.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // A Ctrl-C is for this process, which stops them in order.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let client = RestClient::new(&format!("http://{}", node.rpc))
            .map_err(|error| CliError::new(&error, ""))?;
        Ok(Self { node, child, client, ended: None })
    }

    /// Takes note if the process ended.
    fn look(&mut self) {
        if self.ended.is_none()
            && let Ok(Some(status)) = self.child.try_wait()
        {
            self.ended = Some(status.to_string());
        }
    }

    async fn line(&mut self) -> String {
        self.look();
        let name = &self.node.name;
        let role = if self.node.validator.is_some() { "validator" } else { "follower" };
        if let Some(ended) = &self.ended {
            let log = self.node.data_dir.join("log");
            return format!("{name:<9} {role:<10} ended: {ended}; see {}", log.display());
        }
        let asked = async {
            let sync: SyncStatus = self.client.get("/rpc/syncStatus").await.ok()?;
            let health: Health = self.client.get("/health").await.ok()?;
            Some((sync, health))
        };
        match tokio::time::timeout(REFRESH, asked).await.ok().flatten() {
            Some((sync, health)) => format!(
                "{name:<9} {role:<10} {:>8} {:>8} {:>6} {:>9}  {:<12} http://{}",
                sync.head_height,
                sync.total_transactions,
                sync.peers_connected,
                health.pending,
                sync.reason,
                self.node.rpc,
            ),
            None => format!("{name:<9} {role:<10} does not answer"),
        }
    }
}

struct Net {
    processes: Vec<Process>,
}

impl Net {
    /// Until a signal, or until no node is left.
    async fn watch(
        &mut self,
        output: &Output,
        directory: &std::path::Path,
    ) -> Result<(), CliError> {
        let io = |error: std::io::Error| CliError::new(&error, "");
        let mut terminate = signal(SignalKind::terminate()).map_err(io)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(io)?;
        tokio::select! {
            started = self.started() => started?,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
        for process in &self.processes {
            let pid = process.child.id();
            let line = format!("{} serves http://{}", process.node.name, process.node.rpc);
            output.result(&described(&process.node, Some(pid)), &[line])?;
        }
        if !output.is_json() {
            let directory = directory.display();
            output.raw(format!("data in {directory}; Ctrl-C stops all\n\n").as_bytes())?;
        }
        let mut drawn = 0;
        loop {
            tokio::select! {
                () = tokio::time::sleep(REFRESH) => {}
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
            }
            self.processes.iter_mut().for_each(Process::look);
            if self.processes.iter().all(|process| process.ended.is_some()) {
                return Err(CliError::failed("all_ended", "every node has ended")
                    .hint("the logs are beside the nodes' data"));
            }
            if !output.is_json() && std::io::stdout().is_terminal() {
                drawn = self.draw(drawn).await.map_err(io)?;
            }
        }
    }

    async fn started(&mut self) -> Result<(), CliError> {
        let began = Instant::now();
        for process in &mut self.processes {
            loop {
                let asked = process.client.get::<Health>("/health");
                if let Ok(Ok(_)) = tokio::time::timeout(REFRESH, asked).await {
                    break;
                }
                process.look();
                let name = &process.node.name;
                let log = process.node.data_dir.join("log");
                let hint = format!("see {}", log.display());
                if let Some(ended) = &process.ended {
                    let said = std::fs::read_to_string(&log).unwrap_or_default();
                    let last = said.lines().last().unwrap_or_default();
                    let message = format!("{name} ended ({ended}): {last}");
                    return Err(CliError::failed("start", message).hint(hint));
                }
                if began.elapsed() > START_TIMEOUT {
                    let message = format!("{name} does not serve after a minute");
                    return Err(CliError::failed("start", message).hint(hint));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Draws the table over the one before; gives how many lines it has.
    async fn draw(&mut self, drawn: usize) -> std::io::Result<usize> {
        let mut lines = vec![format!(
            "{:<9} {:<10} {:>8} {:>8} {:>6} {:>9}  {:<12} address",
            "node", "role", "height", "txs", "peers", "pending", "sync"
        )];
        for process in &mut self.processes {
            lines.push(process.line().await);
        }
        let mut out = std::io::stdout().lock();
        if drawn > 0 {
            write!(out, "\x1b[{drawn}A")?;
        }
        for line in &lines {
            writeln!(out, "\x1b[2K{line}")?;
        }
        out.flush()?;
        Ok(lines.len())
    }

    /// Stops all at once, and waits for each.
    fn stop(&mut self) {
        for process in &self.processes {
            let pid = process.child.id().to_string();
            // The system's own tool: a signal needs no unsafe code of ours.
            let _ = Command::new("kill").args(["-TERM", &pid]).status();
        }
        let began = Instant::now();
        for process in &mut self.processes {
            while process.ended.is_none() && began.elapsed() < STOP_TIMEOUT {
                process.look();
                std::thread::sleep(Duration::from_millis(20));
            }
            if process.ended.is_none() {
                let _ = process.child.kill();
                let _ = process.child.wait();
            }
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if self.processes.iter().any(|process| process.ended.is_none()) {
            self.stop();
        }
    }
}
