//! The simulator: the seeds that must hold whatever changes, and that a seed says it all.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use ait_node::sim::{self, Bug, FaultKind, SimOptions, Violation};
use serde_json::{Value, json};

fn options(faults: &str) -> SimOptions {
    SimOptions { heights: 20, faults: faults.parse().unwrap(), ..SimOptions::default() }
}

fn run(seed: u64, options: &SimOptions) -> sim::SimReport {
    sim::run(seed, options)
        .unwrap_or_else(|failure| panic!("{failure}, {options:?}\n{}", failure.trace.join("\n")))
}

#[test]
fn a_seed_gives_the_same_run_again_and_another_seed_another() {
    let options = options("all");
    let (first, again, other) = (run(1, &options), run(1, &options), run(2, &options));
    assert_eq!(first, again);
    assert_ne!(first.trace, other.trace);
}

#[test]
fn every_promise_holds_with_everything_going_wrong() {
    let mut mended = 0;
    for seed in 20..32 {
        let report = run(seed, &options("all"));
        assert!(report.height > 0 && report.transactions > 0, "{report:?}");
        mended += report.mended;
    }
    // Not only at the end, when nobody lies any more.
    assert!(mended > 0);
}

#[test]
fn every_kind_of_fault_strikes_and_breaks_nothing() {
    for kind in FaultKind::ALL {
        let options = SimOptions { heights: 40, ..options(kind.name()) };
        let strikes = |seed| run(seed, &options).faults.of(kind) > 0;
        assert!((0..6).any(strikes), "{} never struck", kind.name());
    }
}

#[test]
fn who_sends_too_much_that_is_refused_is_paused() {
    let pauses: u64 = (0..8).map(|seed| run(seed, &options("byzantine")).pauses).sum();
    assert!(pauses > 0);
}

#[test]
fn nothing_is_late_when_nothing_goes_wrong() {
    let report = run(0, &options("none"));
    assert_eq!((report.faults.total(), report.extra_rounds), (0, 0));
}

#[test]
fn clusters_of_other_shapes_keep_the_promises_too() {
    for (weights, followers) in
        [(vec![1], 1), (vec![50, 30, 15, 5], 1), (vec![3, 2, 2, 1, 1, 1, 1], 3)]
    {
        let options = SimOptions { weights, followers, ..options("all") };
        (0..2).for_each(|seed| {
            run(seed, &options);
        });
    }
}

/// Whether a violation is the one that shows this bug.
fn shows(bug: Bug, violation: &Violation) -> bool {
    use Violation as V;
    let text = violation.to_string();
    match bug {
        Bug::ShortCertificate => matches!(violation, V::Certificate { .. }),
        Bug::UncheckedRoot => matches!(violation, V::Root { .. }),
        Bug::FeesTwice => matches!(violation, V::Supply { .. }),
        Bug::FeesAstray => matches!(violation, V::Balance { .. }),
        Bug::NotQueuedAgain | Bug::ForgottenJournal => matches!(violation, V::Forgotten { .. }),
        Bug::UnsettledLog => matches!(violation, V::Lost { .. }),
        Bug::UnsyncedLog | Bug::UnsyncedRecord => matches!(violation, V::Barrier { .. }),
        Bug::WastedRounds => matches!(violation, V::Rounds { .. }),
        Bug::NoRecord => matches!(violation, V::SignedTwice { .. }),
        // Where a checkpoint of the state or the index was synced meanwhile, the chain is not opened.
        Bug::UnsyncedBlocks => {
            matches!(violation, V::Lost { .. })
                || text.contains("blocks are missing at the end of the store")
        }
        Bug::LostBody => matches!(violation, V::Changed { .. }),
        Bug::Deaf => matches!(violation, V::Stalled(_) | V::Unfinished { .. }),
        Bug::Busy | Bug::Restless => matches!(violation, V::Busy(_)),
        Bug::Panic => matches!(violation, V::Panicked(_)),
        Bug::UnsyncedState => text.contains("simulated.redb is damaged"),
        // What is missing is noticed by the work on the index itself, or by the check of it.
        Bug::StaleIndex => {
            matches!(violation, V::Index { .. })
                || text.contains("a thread of the chain")
                || text.contains("is not whole")
        }
        Bug::TooManyLiars => matches!(violation, V::Fork { .. }),
    }
}

/// The table of `specs/testing.md` says after how many seeds each is found. Every other one, so that
/// two processors have something to do.
fn finds_planted_bugs(first: usize) {
    // The engine of a release has no place for the one.
    let possible = |bug: &Bug| cfg!(debug_assertions) || *bug != Bug::ShortCertificate;
    for bug in Bug::ALL.into_iter().filter(possible).skip(first).step_by(2) {
        let began = std::time::Instant::now();
        // Rounds of 20 ms would be thousands while a partition lasts.
        let faults = if bug == Bug::WastedRounds { "loss" } else { "all" };
        let options = SimOptions { bug: Some(bug), ..options(faults) };
        let found = (0..60).find_map(|seed| Some((seed, sim::run(seed, &options).err()?)));
        let (seed, failure) = found.unwrap_or_else(|| panic!("{bug:?} is never found"));
        eprintln!("{bug:?}: {} seeds in {:?}: {failure}", seed + 1, began.elapsed());
        let trace = failure.trace.join("\n");
        assert!(shows(bug, &failure.violation), "{bug:?}: seed {seed}: {failure}\n{trace}");
    }
}

#[test]
fn every_planted_bug_is_found() {
    finds_planted_bugs(0);
}

#[test]
fn every_other_planted_bug_is_found() {
    finds_planted_bugs(1);
}

#[test]
fn a_run_that_fails_is_made_smaller() {
    let options = SimOptions { bug: Some(Bug::ForgottenJournal), ..options("all") };
    let seed = (0..10).find(|seed| sim::run(*seed, &options).is_err()).unwrap();
    let (smaller, failure) = sim::shrink(seed, &options, 30).unwrap();
    let again = sim::run(seed, &smaller).unwrap_err();
    assert_eq!(again.violation, failure.violation);
    let kinds = |options: &SimOptions| options.faults.kinds().count();
    assert!(kinds(&smaller) < kinds(&options) || smaller.heights < options.heights);
}

#[test]
fn a_seed_that_fails_is_told_with_the_command_that_repeats_it() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ait-node"));
    command.env("AIT_SIMULATE_BUG", "Panic").args(["--json", "simulate", "--seeds", "3..5"]);
    let output = command.args(["--heights", "6", "--faults", "loss,clock"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&line["seeds"], &line["failed"]), (&2.into(), &json!([3, 4])), "{line}");
    let said = String::from_utf8(output.stderr).unwrap();
    let at = |what: &str| said.find(what).unwrap_or_else(|| panic!("no {what} in {said}"));
    let options = "--weights 1,1,1,1 --followers 2 --heights 6 --faults loss,clock";
    assert!(at("seed 3: a panic: planted, after ") < at("commits 2"));
    assert!(at("commits 2") < at(&format!("again: ait-node simulate --seed 3 {options}")));
    // The first is made smaller: no fault is needed, nor any that follows.
    at(
        "again: ait-node simulate --seed 3 --weights 1,1,1,1 --followers 0 --heights 3 --faults none",
    );
    at(&format!("again: ait-node simulate --seed 4 {options}"));
    let trace = said.lines().skip_while(|line| !line.starts_with("seed 4"));
    let trace = trace.skip(1).take_while(|line| line.starts_with("  ")).count();
    assert!((10..=60).contains(&trace), "{trace} lines of trace");
}

fn simulate(arguments: &[&str]) -> (Option<i32>, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ait-node"));
    let output = command.args(["--json", "simulate"]).args(arguments).output().unwrap();
    let said = if output.status.success() { output.stdout } else { output.stderr };
    let last = String::from_utf8(said).unwrap().lines().last().unwrap().to_owned();
    (output.status.code(), serde_json::from_str(&last).unwrap())
}

#[test]
fn many_seeds_end_with_one_line() {
    let (code, said) = simulate(&["--seeds", "3..5", "--heights", "5", "--faults", "loss,crash"]);
    assert_eq!(
        (code, &said["seeds"], &said["failed"]),
        (Some(0), &2.into(), &Value::from(vec![0; 0]))
    );
    assert!(said["virtual_seconds"].is_u64() && said["faults"].as_u64() > Some(0), "{said}");
    // No time, no seeds.
    let (code, said) = simulate(&["--seeds", "0..1000", "--for", "0s"]);
    assert_eq!((code, &said["seeds"]), (Some(0), &0.into()));
}

#[test]
fn validators_may_be_counted_and_weighed() {
    let (code, said) = simulate(&[
        "--validators",
        "4",
        "--weights",
        "50,30,15,5",
        "--heights",
        "3",
        "--faults",
        "none",
    ]);
    assert_eq!((code, said["heights"].as_u64() >= Some(3)), (Some(0), true), "{said}");
}

#[test]
fn what_describes_no_cluster_is_wrong_usage() {
    for arguments in [
        &["--seeds", "5..5"][..],
        &["--seeds", "a..b"],
        &["--faults", "fire"],
        &["--weights", "0,0"],
        &["--validators", "0"],
        &["--heights", "0"],
        &["--validators", "3", "--weights", "50,30,15,5"],
    ] {
        assert_eq!(simulate(arguments).0, Some(2), "{arguments:?}");
    }
}
