//! Ports that fail and processes that end: nothing is signed twice, or before it is logged.

use super::*;

#[test]
fn a_failed_append_flush_or_signature_stops_everything() {
    // Trap 1: the library logs a failed effect and goes on.
    let set = set_of(&keys(1));
    let mut failures = 0;
    for fail_at in 1..200 {
        let ports = ports(1);
        ports.0.lock().unwrap().fail_at = Some(fail_at);
        let mut machine = machine(&ports, FIRST, &set);
        let result =
            machine.on(start(FIRST, &set)).and_then(|a| run_alone(&mut machine, a.into(), 7));
        let Err(failure) = result else { break };
        failures += 1;
        assert!(!matches!(failure, ConsensusFailure::Poisoned | ConsensusFailure::Machine { .. }));
        let again = machine.on(start(FIRST, &set)).unwrap_err();
        assert_eq!(again, ConsensusFailure::Poisoned);
    }
    assert!(failures > 5, "only {failures} calls could fail");
}

#[test]
fn a_crash_at_any_call_never_leads_to_a_second_signature() {
    // Traps 2 and 3: the log is indexed and replayed before anything is answered.
    let set = set_of(&keys(1));
    let mut crashes = 0;
    for fail_at in 1..200 {
        let ports = ports(1);
        ports.0.lock().unwrap().fail_at = Some(fail_at);
        let mut first = machine(&ports, FIRST, &set);
        let result = first.on(start(FIRST, &set)).and_then(|a| run_alone(&mut first, a.into(), 7));
        if result.is_ok() {
            break;
        }
        crashes += 1;
        let entries = {
            let mut disk = ports.0.lock().unwrap();
            disk.fail_at = None;
            let flushed = disk.flushed;
            disk.entries.truncate(flushed);
            disk.entries.clone()
        };
        let mut second = machine(&ports, FIRST, &set);
        let actions = second.recover(&set, &entries).unwrap();
        // After the restart the node would build another block.
        let decided = run_alone(&mut second, actions.into(), 8).unwrap();
        assert_eq!(decided.len(), 1, "no decision after a crash at call {fail_at}");
        for (place, signed) in &ports.0.lock().unwrap().signed {
            assert_eq!(signed.len(), 1, "{place:?} was signed twice after a crash at {fail_at}");
        }
    }
    assert!(crashes > 5, "only {crashes} crashes");
}

/// What a crash leaves of the log.
fn survived(ports: &Ports, fail_at: Option<usize>) -> Vec<Vec<u8>> {
    let mut disk = ports.0.lock().unwrap();
    (disk.calls, disk.fail_at) = (0, fail_at);
    let flushed = disk.flushed;
    disk.entries.truncate(flushed);
    disk.entries.clone()
}

#[test]
fn what_is_signed_while_a_log_is_replayed_is_logged() {
    // A second crash must not meet a signer that has gone on without the log.
    let set = set_of(&keys(1));
    let mut crashes = 0;
    for (first_at, second_at) in (1..40).flat_map(|a| (1..40).map(move |b| (a, b))) {
        let ports = ports(1);
        ports.0.lock().unwrap().fail_at = Some(first_at);
        let mut first = machine(&ports, FIRST, &set);
        let _ = first.on(start(FIRST, &set)).and_then(|a| run_alone(&mut first, a.into(), 7));
        let entries = survived(&ports, Some(second_at));
        let mut second = machine(&ports, FIRST, &set);
        let again =
            second.recover(&set, &entries).and_then(|a| run_alone(&mut second, a.into(), 8));
        crashes += usize::from(again.is_err());
        let entries = survived(&ports, None);
        let mut third = machine(&ports, FIRST, &set);
        let actions = third.recover(&set, &entries);
        let actions = actions.unwrap_or_else(|e| panic!("crashes at {first_at}, {second_at}: {e}"));
        assert_eq!(run_alone(&mut third, actions.into(), 9).unwrap().len(), 1);
        assert!(ports.0.lock().unwrap().signed.values().all(|signed| signed.len() == 1));
    }
    assert!(crashes > 50, "only {crashes} crashes");
}

#[test]
fn the_log_is_flushed_before_every_signature() {
    // Trap 3.
    let set = set_of(&keys(1));
    let ports = ports(1);
    let mut machine = machine(&ports, FIRST, &set);
    let actions = machine.on(start(FIRST, &set)).unwrap();
    run_alone(&mut machine, actions.into(), 7).unwrap();
    let disk = ports.0.lock().unwrap();
    let mut unflushed = false;
    for call in &disk.trace {
        match *call {
            "append" => unflushed = true,
            "flush" => unflushed = false,
            "sign" => assert!(!unflushed, "signed over entries that were not durable"),
            _ => {}
        }
    }
    assert_eq!(disk.flushed, disk.entries.len(), "decided over entries that were not durable");
}
