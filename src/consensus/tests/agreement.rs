//! Several validators, some of them down, over links that may lose messages.

use super::*;

/// Four validators with messages delivered at once, in order; `down` hears and says nothing.
fn run_four(down: Option<usize>, lossless: bool) -> Vec<Vec<Certificate>> {
    let keys = keys(4);
    let set = set_of(&keys);
    let all: Vec<_> = (1..=4).map(ports).collect();
    let mut machines: Vec<_> = all.iter().map(|p| machine(p, FIRST, &set)).collect();
    let mut decided = vec![Vec::new(); 4];
    let mut todo: VecDeque<(usize, Event)> =
        (0..4).filter(|n| Some(*n) != down).map(|n| (n, start(FIRST, &set))).collect();
    let mut timeouts: VecDeque<(usize, Timeout)> = VecDeque::new();
    let mut dropped = 0_u32;
    for _ in 0..20_000 {
        let (at, event) = match todo.pop_front() {
            Some(next) => next,
            None => match timeouts.pop_front() {
                Some((at, timeout)) => (at, Event::TimeoutElapsed(timeout)),
                None => break,
            },
        };
        if !decided[at].is_empty() {
            continue;
        }
        for action in machines[at].on(event).unwrap() {
            match action {
                Action::GetValue { height, round } => {
                    let block_id = block(height, at as u8);
                    todo.push_back((at, Event::Proposed { height, round, block_id }));
                }
                Action::Publish(message) => {
                    for other in (0..4).filter(|o| *o != at && Some(*o) != down) {
                        dropped += 1;
                        if !lossless && dropped.is_multiple_of(7) {
                            continue;
                        }
                        if let Message::Proposal(p) = &message {
                            let p = p.proposal;
                            let received = Event::BlockReceived {
                                height: p.height,
                                round: p.round,
                                proposer: p.proposer,
                                block_id: p.block_id,
                                is_valid: true,
                            };
                            todo.push_back((other, received));
                        }
                        todo.push_back((other, Event::Received(verified(&message, &set))));
                    }
                }
                Action::ScheduleTimeout { timeout, .. } => timeouts.push_back((at, timeout)),
                Action::Decide { certificate, .. } => decided[at].push(certificate),
                _ => {}
            }
        }
    }
    for certificate in decided.iter().flatten() {
        certificate.verify(&chain_id(), FIRST, certificate.block_id, &set).unwrap();
    }
    decided
}

fn check_agreement(decided: &[Vec<Certificate>], deciding: usize) {
    let ids: Vec<_> = decided.iter().flatten().map(|c| c.block_id).collect();
    assert_eq!(ids.len(), deciding);
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "two blocks at one height");
}

#[test]
fn four_validators_agree() {
    check_agreement(&run_four(None, true), 4);
}

#[test]
fn three_of_four_validators_agree_whichever_is_down() {
    for down in 0..4 {
        check_agreement(&run_four(Some(down), true), 3);
    }
}

#[test]
fn lost_messages_are_made_up_by_time_outs_and_liveness_messages() {
    // Trap 9.
    let decided = run_four(None, false);
    let ids: Vec<_> = decided.iter().flatten().map(|c| c.block_id).collect();
    assert!(ids.len() >= 3, "{} of 4 decided", ids.len());
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "two blocks at one height");
}
