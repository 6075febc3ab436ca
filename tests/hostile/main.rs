//! Hostile clients and peers against one real node, in a network namespace of this program's
//! own so that attackers have addresses of their own. `specs/testing.md` says what is done and
//! what must hold.
//!
//! `cargo test --test hostile -- [ATTACK..] [--seconds N] [--shared]`

#![allow(clippy::unwrap_used, clippy::print_stdout, unreachable_pub, reason = "a test program")]

mod client;
mod cores;
mod honest;
mod http;
mod memory;
mod named;
mod peer;
mod stranger;
mod target;
mod witness;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use cores::Cores;
use honest::Seen;
use target::Target;
use witness::Witness;

/// Set in the copy of this program that runs in a namespace of its own: who has which processors.
const INSIDE: &str = "AIT_HOSTILE_INSIDE";
/// Says that it is known that this machine gives no namespaces.
const MAY_SKIP: &str = "AIT_HOSTILE_MAY_SKIP";
/// First argument of the program that attacks.
const ATTACK: &str = "attack";
/// Says that clients have no processors of their own.
const SHARED: &str = "--shared";
/// How long each attack lasts unless told otherwise.
const SECONDS: u64 = 5;
/// How long before its end the node is asked who attacks.
const LOOK: Duration = Duration::from_millis(300);
/// How often an attack is made until who should be is named, each time for longer.
const TURNS_MAX: u32 = 5;
/// Who is to be named by the node's metrics after an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// A client, for one of these offences.
    Client(&'static [&'static str]),
    /// The client that takes most of what is answered, which may be within every bound, and for
    /// these offences if it is not.
    Taker(&'static [&'static str]),
    /// A peer, by one of these numbers that was not there before, or is no longer nothing.
    Peer(&'static [&'static str]),
    /// The address of peers that call too often.
    Caller,
    /// Nobody, for what was sent proves no address, but this number grows.
    Counted(&'static str),
    /// Nobody, and nothing is counted: what comes is no packet.
    Nobody,
}

/// An attack: its name, what it does, and who is named for it.
struct Attack {
    name: &'static str,
    run: fn(&target::Plan, Duration),
    named: Named,
}

impl Attack {
    const fn is_by_peers(&self) -> bool {
        matches!(self.named, Named::Peer(_) | Named::Caller | Named::Counted(_) | Named::Nobody)
    }
}

const fn attack(name: &'static str, run: fn(&target::Plan, Duration), named: Named) -> Attack {
    Attack { name, run, named }
}

const HELD: Named =
    Named::Client(&["slow_head", "connections", "idle_connections", "new_connections"]);
const BANNED: Named =
    Named::Peer(&["peer_banned_seconds", "peer_fault_points", "peer_paused_seconds"]);

const ATTACKS: &[Attack] = &[
    attack("slow-heads", http::slow_heads, HELD),
    attack("slow-bodies", http::slow_bodies, HELD),
    attack("held-bodies", http::held_bodies, Named::Client(&["held_bodies"])),
    attack("huge", http::huge, Named::Client(&["large_body"])),
    attack("idle-connections", http::idle_connections, HELD),
    attack("new-connections", http::new_connections, Named::Client(&["new_connections"])),
    attack("deaf-subscribers", http::deaf_subscribers, Named::Client(&["subscriptions"])),
    attack("untaken-answers", http::untaken_answers, Named::Taker(&["untaken_answers", "rate"])),
    attack("noisy-subscribers", http::noisy_subscribers, Named::Client(&["unasked_bytes"])),
    attack("unfunded", http::unfunded, Named::Client(&["rate"])),
    attack("nonce-gaps", http::nonce_gaps, Named::Client(&["rate"])),
    attack("final-again", http::final_again, Named::Client(&["rate"])),
    attack("whole-chain", http::whole_chain, Named::Taker(&["rate"])),
    attack("whole-blocks", http::whole_blocks, Named::Client(&["rate", "waiting_reads"])),
    // Whoever does this opens few connections for a minute.
    attack("huge-heads", http::huge_heads, Named::Client(&["large_head"])),
    attack("udp-garbage", peer::udp_garbage, Named::Nobody),
    attack("silent-callers", peer::silent_callers, Named::Counted("peer_calls_unproven_total")),
    attack("calling-peers", peer::calling, Named::Caller),
    attack("garbage-peers", peer::garbage, BANNED),
    attack("garbage-peer", peer::garbage_of_one, Named::Peer(&["peer_banned_seconds"])),
    attack("flooding-peer", peer::unfunded, BANNED),
    attack("replaying-peer", peer::replay, BANNED),
    attack("asking-peer", peer::whole_chain, Named::Peer(&["peer_answer_bytes_total"])),
    attack("untaking-peers", peer::untaken, Named::Peer(&["peer_answer_held_bytes"])),
    // The last: what is known by its hash is not looked at for a while.
    attack("final-again-peer", peer::final_again, Named::Peer(&["peer_allowance_spent"])),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == ATTACK) {
        let attack = ATTACKS.iter().find(|attack| attack.name == words[1]).unwrap();
        let plan = target::Plan::read(words[2].as_ref());
        (attack.run)(&plan, Duration::from_secs(words[3].parse().unwrap()));
        return ExitCode::SUCCESS;
    }
    let Ok(cores) = std::env::var(INSIDE) else {
        return enter(words.iter().any(|w| w == SHARED));
    };
    let mut seconds = SECONDS;
    let mut names = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => {
                seconds = words.next().and_then(|word| word.parse().ok()).unwrap_or(SECONDS);
            }
            SHARED => {}
            name if ATTACKS.iter().any(|attack| attack.name == name) => names.push(name),
            _ => {
                let all: Vec<_> = ATTACKS.iter().map(|attack| attack.name).collect();
                println!("hostile: {word}: not one of {}, --seconds N or {SHARED}", all.join(", "));
                return ExitCode::from(2);
            }
        }
    }
    let chosen = |attack: &&Attack| names.is_empty() || names.contains(&attack.name);
    let attacks: Vec<_> = ATTACKS.iter().filter(chosen).collect();
    run(&attacks, &Cores::of_word(&cores), Duration::from_secs(seconds))
}

/// Runs this program again in a network namespace of its own, on the clients' processors.
fn enter(is_shared: bool) -> ExitCode {
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
    let cores = if is_shared { Cores::shared() } else { Cores::halves() };
    let mut command = cores.of_clients("unshare");
    command
        .args(extra)
        .args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args(std::env::args().skip(1))
        .env(INSIDE, cores.word());
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

/// Every honest request must be answered well, honest peers hear of new blocks and be let in while peers
/// attack, the node's memory stay below its bound, and who attacks be named. Times are shown, and no
/// assertion.
fn run(attacks: &[&Attack], cores: &Cores, lasting: Duration) -> ExitCode {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start(folder.path(), cores);
    let mut honest = honest::all(&target.plan);
    let mut witness = Witness::start(&target.plan);
    let calm = honest::work(&mut honest, lasting.max(Duration::from_secs(5)));
    let all = |list: &str| if list.is_empty() { "all".to_owned() } else { list.to_owned() };
    let (node, clients) = (all(&cores.node), all(&cores.clients));
    println!("hostile: processors of the node: {node}; of the clients: {clients}\n");
    println!("{HEAD}\n{}", row("none", &calm, &calm, target.memory(), "-"));
    let mut is_good = calm.failures.is_empty();
    for attack in attacks {
        target.forget_peak();
        let before = target.metrics();
        let (mut seen, mut named) = (Seen::default(), None);
        // On a busy machine an attacker may need more time until it does harm: it begins anew each
        // time, so that more turns alone would not give it.
        for turn in 1..=TURNS_MAX {
            let lasting = lasting * turn;
            let mut attacker = target.attack(attack.name, lasting);
            let (rest, plan) = (lasting.saturating_sub(LOOK), &target.plan);
            std::thread::scope(|scope| {
                let watching = attack.is_by_peers().then(|| {
                    let watch = || witness.watch(plan, rest);
                    scope.spawn(watch)
                });
                seen.join(honest::work(&mut honest, rest));
                seen.failures.extend(watching.into_iter().flat_map(|one| one.join().unwrap()));
            });
            // Peers are named as long as they are connected.
            let during = target.metrics();
            is_good &= attacker.wait().unwrap().success();
            named = [during, target.metrics()]
                .iter()
                .find_map(|after| named::named(attack.named, &witness.name(), &before, after));
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
        let is_small = memory <= memory::bytes_max(attack.is_by_peers());
        is_good &= seen.failures.is_empty() && is_small && named.is_some();
    }
    if !is_good {
        println!("hostile: FAILED\n{}", target.stderr());
    }
    ExitCode::from(u8::from(!is_good))
}
