//! Which processors the node and its honest clients have, and which the attackers.
//!
//! Attackers would have their own machines. Here they have one half of the processors, so that
//! what they take from the node is what the node does for them.

use std::fs;
use std::process::Command;

/// Lists of processors, as `taskset` takes them; empty: whichever there are.
#[derive(Default)]
pub struct Cores {
    node: String,
    pub attackers: String,
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
        let (node, attackers) = all.split_at(all.len() / 2);
        if node.is_empty() {
            return Self::shared();
        }
        let list = |part: &[usize]| part.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        Self { node: list(node), attackers: list(attackers) }
    }

    /// A program on the node's processors.
    pub fn node(&self, program: &str) -> Command {
        if self.node.is_empty() {
            return Command::new(program);
        }
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &self.node, program]);
        command
    }
}

/// What starts a program on these processors; on those of the node, with what time others leave.
pub fn of_attackers(cores: &str) -> Command {
    let (program, words) = match cores {
        "" => ("nice", ["-n", "19"]),
        cores => ("taskset", ["--cpu-list", cores]),
    };
    let mut command = Command::new(program);
    command.args(words);
    command
}
