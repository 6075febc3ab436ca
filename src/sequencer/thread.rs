//! The thread around the core.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Effect, Inbox, SequencerCore, SequencerError};
use crate::consensus::{VoteSigner, WriteAheadLog};

/// How long the thread sleeps at most before it looks whether it should stop.
const TICK: Duration = Duration::from_millis(50);

/// Where effects go.
pub type Outlet = Box<dyn FnMut(Effect) + Send>;

/// Feeds the core until told to stop; then the state is written to disk.
///
/// # Errors
/// [`SequencerError`]; the node must end.
pub fn run<S: VoteSigner, L: WriteAheadLog>(
    mut core: SequencerCore<S, L>,
    logged: Option<crate::consensus::Logged>,
    inbox: &Inbox,
    stop: &AtomicBool,
    outlet: &mut Outlet,
) -> Result<(), SequencerError> {
    let began = Instant::now();
    for effect in core.recover(logged, began.elapsed())? {
        outlet(effect);
    }
    while !stop.load(Ordering::Relaxed) {
        let now = began.elapsed();
        let wait = core.wakes_at().map_or(TICK, |at| at.saturating_sub(now).min(TICK));
        let input = inbox.next(wait);
        for effect in core.handle(began.elapsed(), input)? {
            outlet(effect);
        }
    }
    // So that the next start has nothing to execute again.
    Ok(core.writer().write_checkpoint()?)
}
