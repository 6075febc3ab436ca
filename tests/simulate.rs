//! The simulator: the seeds that must hold whatever changes, and that a seed says it all.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use ait_node::sim::{self, Bug, FaultKind, SimOptions, Violation};
use serde_json::Value;

/// Seeds that once broke a promise: 10 a node that never came to rest while it waited for
/// a block of the others, 11 a power cut in the commit of the first block, 0 a log whose
/// bytes a power cut left zero.
const ONCE_BROKEN: [u64; 3] = [0, 10, 11];

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
    for seed in (20..30).chain(ONCE_BROKEN) {
        let report = run(seed, &options("all"));
        assert!(report.height > 0 && report.transactions > 0, "{report:?}");
    }
}

#[test]
fn every_kind_of_fault_strikes_and_breaks_nothing() {
    for kind in FaultKind::ALL {
        let options = SimOptions { heights: 40, ..options(kind.name()) };
        let struck: u64 = (0..3).map(|seed| run(seed, &options).faults.of(kind)).sum();
        assert!(struck > 0, "{} never struck", kind.name());
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
        [(vec![1], 1), (vec![50, 30, 15, 5], 0), (vec![3, 2, 2, 1, 1, 1, 1], 3)]
    {
        let options = SimOptions { weights, followers, ..options("all") };
        (0..2).for_each(|seed| {
            run(seed, &options);
        });
    }
}

/// Which check finds a planted bug, and how many seeds that may take.
fn expected(bug: Bug, violation: &Violation) -> (bool, u64) {
    use Violation as V;
    match bug {
        Bug::UnsyncedLog => (matches!(violation, V::Barrier { .. }), 1),
        Bug::NoRecord => (matches!(violation, V::SignedTwice { .. }), 10),
        Bug::ShortCertificate => (matches!(violation, V::Certificate { .. }), 1),
        Bug::CreditedTwice => (matches!(violation, V::Supply { .. } | V::Balance { .. }), 1),
        Bug::ForgottenJournal => (matches!(violation, V::Forgotten { .. }), 10),
        // Where a checkpoint of the state was synced meanwhile, the chain is not opened.
        Bug::UnsyncedBlocks => (matches!(violation, V::Lost { .. } | V::Failed { .. }), 20),
        Bug::EmptiedLog => (matches!(violation, V::Failed { .. }), 10),
        Bug::Deaf => (matches!(violation, V::Stalled(_) | V::Unfinished { .. }), 10),
        Bug::Busy => (matches!(violation, V::Busy(_)), 1),
        Bug::ReportedTwice => (matches!(violation, V::Order { .. }), 1),
        Bug::UnsyncedState => (matches!(violation, V::Failed { .. }), 20),
        // What is missing is noticed by the work on the index itself, or by the check of it.
        Bug::StaleIndex => (matches!(violation, V::Index { .. } | V::Failed { .. }), 20),
        Bug::TooManyLiars => (matches!(violation, V::Fork { .. }), 60),
    }
}

#[test]
fn every_planted_bug_is_found() {
    for bug in Bug::ALL {
        let options = SimOptions { bug: Some(bug), ..options("all") };
        let found = (0..60).find_map(|seed| Some((seed, sim::run(seed, &options).err()?)));
        let (seed, failure) = found.unwrap_or_else(|| panic!("{bug:?} is never found"));
        let (is_it, seeds) = expected(bug, &failure.violation);
        let trace = failure.trace.join("\n");
        assert!(is_it && seed < seeds, "{bug:?}: seed {seed}: {failure}\n{trace}");
    }
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
