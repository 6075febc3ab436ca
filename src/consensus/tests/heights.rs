//! Heights one after the other, and what is scheduled for them.

use super::*;

#[test]
fn one_validator_decides_height_after_height() {
    let set = set_of(&keys(1));
    let ports = ports(1);
    let mut machine = machine(&ports, FIRST, &set);
    for n in 1..20 {
        let height = Height::saturating(n);
        let actions = machine.on(start(height, &set)).unwrap();
        let decided = run_alone(&mut machine, actions.into(), 7).unwrap();
        let [certificate] = &decided[..] else { panic!("{} decisions", decided.len()) };
        certificate.verify(&chain_id(), height, block(height, 7), &set).unwrap();
    }
}

#[test]
fn refuses_a_height_before_the_last_is_finalized() {
    // Trap 4.
    let set = set_of(&keys(1));
    for (started, then) in [(1, 2), (1, 1), (2, 2)] {
        let ports = ports(1);
        let mut machine = machine(&ports, FIRST, &set);
        let result = machine
            .on(start(Height::saturating(started), &set))
            .and_then(|_| machine.on(start(Height::saturating(then), &set)));
        assert!(matches!(result, Err(ConsensusFailure::Height { .. })));
    }
}

#[test]
fn takes_the_largest_voting_power_there_is() {
    // Trap 5: above u64::MAX / 3 the library panics; sets are bounded far below.
    let keys = keys(1);
    let public_key = keys[0].public_key();
    let validator = Validator { public_key, power: VotingPower::MAX, payout: public_key.address() };
    let set = ValidatorSet::new(vec![validator]).unwrap();
    let ports = ports(1);
    let mut machine = machine(&ports, FIRST, &set);
    let actions = machine.on(start(FIRST, &set)).unwrap();
    assert_eq!(run_alone(&mut machine, actions.into(), 7).unwrap().len(), 1);
}

#[test]
fn timeouts_grow_and_are_capped() {
    // Trap 9.
    let set = set_of(&keys(4));
    let ports = ports(1);
    let mut machine = machine(&ports, FIRST, &set);
    let mut scheduled = Vec::new();
    let mut actions: VecDeque<_> = machine.on(start(FIRST, &set)).unwrap().into();
    let mut published = 0;
    for _ in 0..200 {
        let Some(action) = actions.pop_front() else { break };
        match action {
            Action::ScheduleTimeout { timeout, after_ms } => {
                scheduled.push((timeout, after_ms));
                actions.extend(machine.on(Event::TimeoutElapsed(timeout)).unwrap());
            }
            Action::Publish(_) => published += 1,
            _ => {}
        }
    }
    assert!(published >= 2, "a validator alone must go on saying what it said");
    assert!(scheduled.iter().all(|(_, after_ms)| (1..=30_000).contains(after_ms)));
    let config = ConsensusConfig::new(chain_id(), ports.key().public_key().address());
    assert_eq!(config.timeout_max_ms, 30_000);
}

#[test]
fn nothing_is_scheduled_before_a_height_is_started() {
    // Traps 8 and 10: an idle chain runs no time-outs, and there is no target time.
    let set = set_of(&keys(1));
    let ports = ports(1);
    let mut machine = machine(&ports, FIRST, &set);
    let actions = machine.on(start(FIRST, &set)).unwrap();
    let mut all: VecDeque<_> = actions.into();
    let mut open = Vec::new();
    while let Some(action) = all.pop_front() {
        match action {
            Action::ScheduleTimeout { timeout, .. } => open.push(timeout),
            Action::CancelTimeout(timeout) => open.retain(|t| *t != timeout),
            Action::CancelAllTimeouts => open.clear(),
            Action::GetValue { height, round } => {
                let block_id = block(height, 1);
                all.extend(machine.on(Event::Proposed { height, round, block_id }).unwrap());
            }
            _ => {}
        }
    }
    // What is left open after the decision is dropped by the sequencer with the height.
    assert!(open.iter().all(|timeout| timeout.round == Round::ZERO));
}

#[test]
fn nothing_is_logged_of_a_height_that_is_not_started() {
    // A validator that sits a height out has begun no log: an entry would stand in it without
    // the header, and the next start would find another kind of file.
    let keys = keys(4);
    let set = set_of(&keys);
    let ports = ports(1);
    let mut machine = machine(&ports, FIRST, &set);
    let proposer = keys[1].public_key().address();
    let block_id = block(FIRST, 7);
    let event = Event::BlockReceived {
        height: FIRST,
        round: Round::ZERO,
        proposer,
        block_id,
        is_valid: true,
    };
    machine.on(event).unwrap();
    let disk = ports.0.lock().unwrap();
    assert_eq!((disk.entries.len(), disk.trace.len()), (0, 0), "{:?}", disk.trace);
}
