//! Which processors the node has, and which all others.
//!
//! Clients, honest or not, would have their own machines. Here they have one half of the
//! processors, the honest ones before the attackers, so that what an honest client waits for is
//! what the node does for the attackers.

use std::fs;
use std::process::Command;

/// Lists of processors, as `taskset` takes them; empty: whichever there are.
#[derive(Debug, Clone, Default)]
pub struct Cores {
    pub node: String,
    pub clients: String,
}

impl Cores {
    /// All have all of them.
    pub fn shared() -> Self {
        Self::default()
    }

    /// One half each of what this program may use; all of it, where that is one.
    pub fn halves() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let mut all: Vec<usize> = Vec::new();
        for part in list.unwrap().trim().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            all.extend(first.parse::<usize>().unwrap()..=last.parse::<usize>().unwrap());
        }
        let (node, clients) = all.split_at(all.len() / 2);
        if node.is_empty() {
            return Self::shared();
        }
        let list = |part: &[usize]| part.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        Self { node: list(node), clients: list(clients) }
    }

    /// As one word.
    pub fn word(&self) -> String {
        format!("{};{}", self.node, self.clients)
    }

    pub fn of_word(word: &str) -> Self {
        let (node, clients) = word.split_once(';').unwrap_or_default();
        Self { node: node.to_owned(), clients: clients.to_owned() }
    }

    /// A program on the node's processors.
    pub fn of_node(&self, program: &str) -> Command {
        on(&self.node, program)
    }

    /// A program on the clients' processors.
    pub fn of_clients(&self, program: &str) -> Command {
        on(&self.clients, program)
    }

    /// What starts a program there with what time all others leave. Among clients alone it gives
    /// way at once; before a node that has everything to do it would so not come to attack.
    pub fn of_attackers(&self) -> Command {
        let words =
            if self.clients.is_empty() { ["nice", "-n", "19"] } else { ["chrt", "--idle", "0"] };
        let [program, words @ ..] = words;
        let mut command = self.of_clients(program);
        command.args(words);
        command
    }
}

fn on(cores: &str, program: &str) -> Command {
    if cores.is_empty() {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", cores, program]);
    command
}
