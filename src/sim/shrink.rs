//! A smaller run that still breaks a promise.

use super::faults::Faults;
use super::{SimFailure, SimOptions, run};

/// Leaves out of a failing run, one after the other, kinds of faults, followers and heights,
/// as long as the seed still breaks a promise; at most so many runs. Gives the smallest that
/// was found, none if nothing can be left out.
#[must_use]
pub fn shrink(
    seed: u64,
    options: &SimOptions,
    runs_max: usize,
) -> Option<(SimOptions, Box<SimFailure>)> {
    let mut smallest: Option<(SimOptions, Box<SimFailure>)> = None;
    let mut runs = 0;
    loop {
        let from = smallest.as_ref().map_or(options, |(options, _)| options).clone();
        let mut found = false;
        for smaller in smaller(&from) {
            if runs == runs_max {
                return smallest;
            }
            runs += 1;
            if let Err(failure) = run(seed, &smaller) {
                smallest = Some((smaller, failure));
                found = true;
                break;
            }
        }
        if !found {
            return smallest;
        }
    }
}

/// Runs with less, those that leave out most first.
fn smaller(options: &SimOptions) -> Vec<SimOptions> {
    let mut all = Vec::new();
    if options.heights > 1 {
        all.push(SimOptions { heights: options.heights / 2, ..options.clone() });
    }
    if options.faults != Faults::NONE {
        all.push(SimOptions { faults: Faults::NONE, ..options.clone() });
    }
    if options.followers > 0 {
        all.push(SimOptions { followers: 0, ..options.clone() });
    }
    let without = |kind| SimOptions { faults: options.faults.without(kind), ..options.clone() };
    all.extend(options.faults.kinds().map(without));
    all
}
