//! Hostile clients and peers against one real node, in a network namespace of this program's
//! own so that attackers have addresses of their own. `specs/testing.md` says what is done and
//! what must hold.
//!
//! `cargo test --test hostile -- [ATTACK..] [--seconds N]`

#![allow(clippy::unwrap_used, clippy::print_stdout, unreachable_pub, reason = "a test program")]

mod client;
mod honest;
mod http;
mod peer;
mod target;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use honest::{Honest, Seen};
use target::Target;

/// Set in the copy of this program that runs in a namespace of its own.
const INSIDE: &str = "AIT_HOSTILE_INSIDE";
/// Says that it is known that this machine gives no namespaces.
const MAY_SKIP: &str = "AIT_HOSTILE_MAY_SKIP";
/// First argument of the program that attacks.
const ATTACK: &str = "attack";
/// How long each attack lasts unless told otherwise.
const SECONDS: u64 = 5;
/// How often an attack is made until who should be is named.
const TURNS_MAX: usize = 5;
/// Resident memory that the node may have at any time. Its parts as configured: 64 MiB of state,
/// 16 of page caches, 16 of pending transactions, twice 8 of large bodies, 128 of blocks' bodies
/// from peers; the rest is the program, its threads, connections and what an allocator keeps.
const MEMORY_BYTES_MAX: u64 = 512 << 20;

/// Who is to be named by the node's metrics after an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// A client, for one of these offences.
    Client(&'static [&'static str]),
    /// A client, if the node was fast enough to give any more than its rate.
    AboveRate,
    /// A peer.
    Peer,
    /// Nobody: what was sent proves no address, or is within what anybody may do.
    Nobody,
}

/// An attack: its name, what it does, and who is named for it.
struct Attack {
    name: &'static str,
    run: fn(&target::Plan, Duration),
    named: Named,
}

const ATTACKS: &[Attack] = &[
    Attack {
        name: "slow-heads",
        run: http::slow_heads,
        named: Named::Client(&["slow_head", "connections", "idle_connections"]),
    },
    Attack {
        name: "slow-bodies",
        run: http::slow_bodies,
        named: Named::Client(&["connections", "idle_connections"]),
    },
    Attack { name: "huge", run: http::huge, named: Named::Client(&["large_body", "rate"]) },
    Attack {
        name: "idle-connections",
        run: http::idle_connections,
        named: Named::Client(&["connections", "idle_connections"]),
    },
    Attack {
        name: "deaf-subscribers",
        run: http::deaf_subscribers,
        named: Named::Client(&["subscriptions"]),
    },
    Attack { name: "unfunded", run: http::unfunded, named: Named::Client(&["rate"]) },
    Attack { name: "nonce-gaps", run: http::nonce_gaps, named: Named::Client(&["rate"]) },
    Attack { name: "whole-chain", run: http::whole_chain, named: Named::AboveRate },
    Attack { name: "udp-garbage", run: peer::udp_garbage, named: Named::Nobody },
    Attack { name: "garbage-peers", run: peer::garbage, named: Named::Peer },
    Attack { name: "flooding-peer", run: peer::unfunded, named: Named::Peer },
    Attack { name: "replaying-peer", run: peer::replay, named: Named::Peer },
    Attack { name: "asking-peer", run: peer::whole_chain, named: Named::Nobody },
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == ATTACK) {
        let attack = ATTACKS.iter().find(|attack| attack.name == words[1]).unwrap();
        let plan = target::Plan::read(words[2].as_ref());
        (attack.run)(&plan, Duration::from_secs(words[3].parse().unwrap()));
        return ExitCode::SUCCESS;
    }
    if std::env::var_os(INSIDE).is_none() {
        return enter();
    }
    let mut seconds = SECONDS;
    let mut names = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => {
                seconds = words.next().and_then(|word| word.parse().ok()).unwrap_or(SECONDS);
            }
            name if ATTACKS.iter().any(|attack| attack.name == name) => names.push(name),
            _ => {
                let all: Vec<_> = ATTACKS.iter().map(|attack| attack.name).collect();
                println!("hostile: {word}: not one of {} or --seconds N", all.join(", "));
                return ExitCode::from(2);
            }
        }
    }
    let chosen = |attack: &&Attack| names.is_empty() || names.contains(&attack.name);
    run(&ATTACKS.iter().filter(chosen).collect::<Vec<_>>(), Duration::from_secs(seconds))
}

/// Runs this program again in a network namespace of its own.
fn enter() -> ExitCode {
    let allowed = |extra: &[&str]| {
        let tried = Command::new("unshare").args(extra).args(["--net", "true"]).output();
        tried.is_ok_and(|out| out.status.success())
    };
    let as_user: &[&str] = &["--user", "--map-root-user"];
    let Some(extra) = [&[][..], as_user].into_iter().find(|extra| allowed(extra)) else {
        let may_skip = std::env::var_os(MAY_SKIP).is_some();
        println!("hostile: network namespaces are not to be had here");
        println!("hostile: {}", if may_skip { "skipped, as this is known" } else { "failed" });
        return ExitCode::from(u8::from(!may_skip));
    };
    let mut command = Command::new("unshare");
    command
        .args(extra)
        .args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args(std::env::args().skip(1))
        .env(INSIDE, "1");
    let error = command.exec();
    println!("hostile: unshare does not start: {error}");
    ExitCode::FAILURE
}

const HEAD: &str = "| attack | requests | p50, ms | p99, ms | p99 / unloaded | longest, ms | most memory, MiB | named |
|---|---|---|---|---|---|---|---|";

fn row(name: &str, seen: &Seen, calm: &Seen, memory: u64, named: &str) -> String {
    let ms = |time: Duration| format!("{:.2}", time.as_secs_f64() * 1_000.0);
    format!(
        "| {name} | {} | {} | {} | {:.1} | {} | {} | {named} |",
        seen.count(),
        ms(seen.quantile(0.5)),
        ms(seen.quantile(0.99)),
        seen.quantile(0.99).as_secs_f64() / calm.quantile(0.99).as_secs_f64(),
        ms(seen.quantile(1.0)),
        memory >> 20,
    )
}

/// Every honest request must be answered well, the node's memory stay below its bound, and who
/// attacks be named. Times are shown, and no assertion.
fn run(attacks: &[&Attack], lasting: Duration) -> ExitCode {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start(folder.path());
    let mut honest = Honest::new(&target.plan);
    honest.wait();
    let calm = honest.work(lasting.max(Duration::from_secs(5)));
    println!("{HEAD}\n{}", row("none", &calm, &calm, target.memory(), "-"));
    let mut is_good = calm.failures.is_empty();
    for attack in attacks {
        target.forget_peak();
        let before = target.metrics();
        let (mut seen, mut named) = (Seen::default(), None);
        // On a busy machine an attacker may need more time until it does harm.
        for _ in 0..TURNS_MAX {
            let mut attacker = target.attack(attack.name, lasting);
            seen.join(honest.work(lasting));
            is_good &= attacker.wait().unwrap().success();
            named = target::named(attack.named, &before, &target.metrics());
            if named.is_some() {
                break;
            }
        }
        let memory = target.peak();
        let shown = named.as_deref().unwrap_or("NOBODY");
        println!("{}", row(attack.name, &seen, &calm, memory, shown));
        for failure in seen.failures.iter().take(5) {
            println!("  {}: an honest request failed: {failure}", attack.name);
        }
        let is_small = memory <= MEMORY_BYTES_MAX;
        is_good &= seen.failures.is_empty() && is_small && named.is_some();
    }
    if !is_good {
        println!("hostile: FAILED\n{}", target.stderr());
    }
    ExitCode::from(u8::from(!is_good))
}
