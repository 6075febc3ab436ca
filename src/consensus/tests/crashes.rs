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
        let entries = survived(&ports, None);
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
    disk.unrecorded.clear();
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
fn log_and_record_are_durable_before_anything_is_given_out() {
    // Trap 3. In this order: a record ahead of the log could not be gone on from.
    let set = set_of(&keys(1));
    let ports = ports(1);
    let mut machine = machine(&ports, FIRST, &set);
    let mut actions: VecDeque<_> = machine.on(start(FIRST, &set)).unwrap().into();
    let mut published = 0;
    while let Some(action) = actions.pop_front() {
        {
            let disk = ports.0.lock().unwrap();
            assert_eq!(disk.flushed, disk.entries.len(), "{action:?} over what is not durable");
        }
        if matches!(action, Action::Publish(_)) {
            published += 1;
            machine.record().unwrap();
            assert!(ports.0.lock().unwrap().unrecorded.is_empty());
        }
        if let Action::GetValue { height, round } = action {
            let block_id = block(height, 7);
            actions.extend(machine.on(Event::Proposed { height, round, block_id }).unwrap());
        }
    }
    assert_eq!(published, 3, "a proposal and two votes");
    let disk = ports.0.lock().unwrap();
    let mut is_flushed = true;
    for call in &disk.trace {
        match *call {
            "append" => is_flushed = false,
            "flush" => is_flushed = true,
            "record" => assert!(is_flushed, "recorded before the log was durable"),
            _ => {}
        }
    }
    // However much is signed, a height of one validator takes two syncs.
    let count = |what| disk.trace.iter().filter(|call| **call == what).count();
    assert_eq!((count("sign"), count("flush"), count("record")), (3, 1, 1));
}

#[test]
fn what_was_decided_before_it_was_recorded_is_decided_again() {
    // A block may be committed, and told of, while the record is still behind the log.
    let set = set_of(&keys(1));
    let ports = ports(1);
    let mut first = machine(&ports, FIRST, &set);
    first.on(start(FIRST, &set)).unwrap();
    let block_id = block(FIRST, 7);
    let proposed = Event::Proposed { height: FIRST, round: Round::ZERO, block_id };
    let actions = first.on(proposed).unwrap();
    assert!(actions.iter().any(|action| matches!(action, Action::Decide { .. })));
    assert!(!ports.0.lock().unwrap().unrecorded.is_empty());
    let entries = survived(&ports, None);
    let mut second = machine(&ports, FIRST, &set);
    let actions = second.recover(&set, &entries).unwrap();
    let decided = run_alone(&mut second, actions.into(), 8).unwrap();
    assert_eq!(decided.iter().map(|one| one.block_id).collect::<Vec<_>>(), [block_id]);
}

#[test]
fn the_log_is_not_given_up_before_what_it_has_is_recorded() {
    let set = set_of(&keys(1));
    let ports = ports(1);
    let mut machine = machine(&ports, FIRST, &set);
    machine.on(start(FIRST, &set)).unwrap();
    let block_id = block(FIRST, 7);
    machine.on(Event::Proposed { height: FIRST, round: Round::ZERO, block_id }).unwrap();
    machine.on(start(Height::saturating(2), &set)).unwrap();
    let disk = ports.0.lock().unwrap();
    assert!(disk.unrecorded.is_empty());
    let last = |what| disk.trace.iter().rposition(|call| *call == what);
    assert!(last("record") < last("begin"), "{:?}", disk.trace);
}

#[test]
fn a_block_is_in_the_log_when_it_is_voted_for() {
    let set = set_of(&keys(1));
    let ports = ports(1);
    let mut machine = machine(&ports, FIRST, &set);
    machine.on(start(FIRST, &set)).unwrap();
    machine.keep_block(b"of whatever length").unwrap();
    let block_id = block(FIRST, 7);
    machine.on(Event::Proposed { height: FIRST, round: Round::ZERO, block_id }).unwrap();
    let entries = survived(&ports, None);
    let blocks: Vec<_> = entries.iter().filter_map(|entry| entry::block_of(entry)).collect();
    assert_eq!(blocks, [b"of whatever length"]);
    // Replaying leaves it alone; reading it as a block is another's concern.
    let mut second = super::machine(&ports, FIRST, &set);
    let actions = second.recover(&set, &entries).unwrap();
    assert_eq!(run_alone(&mut second, actions.into(), 8).unwrap().len(), 1);
    assert!(matches!(logged_blocks(&entries), Err(ConsensusFailure::Entry { .. })));
}
