//! The thread around the core.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Effect, Inbox, Input, SequencerCore, SequencerError};
use crate::consensus::{VoteSigner, WriteAheadLog};
use crate::disk::{Disk, want_of_room};
use crate::import::ImportError;

/// How long the thread sleeps at most before it looks whether it should stop.
const TICK: Duration = Duration::from_millis(50);

/// Where effects go.
pub type Outlet = Box<dyn FnMut(Effect) + Send>;

/// Feeds the core until told to stop; then the state is written to disk if there is room: a chain
/// without is as whole. While there is no room nothing is fed: what comes is let go, for the
/// network leaves its peers, and these say it again when they are back.
///
/// # Errors
/// [`SequencerError`]; the node must end.
pub fn run<S: VoteSigner, L: WriteAheadLog>(
    mut core: SequencerCore<S, L>,
    logged: Option<crate::consensus::Logged>,
    inbox: &Inbox,
    stop: &AtomicBool,
    disk: &Disk,
    outlet: &mut Outlet,
) -> Result<(), SequencerError> {
    let began = Instant::now();
    pause(inbox, stop, disk, outlet);
    for effect in core.recover(logged, began.elapsed())? {
        outlet(effect);
    }
    while !stop.load(Ordering::Relaxed) {
        pause(inbox, stop, disk, outlet);
        let now = began.elapsed();
        let wait = core.wakes_at().map_or(TICK, |at| at.saturating_sub(now).min(TICK));
        let input = inbox.next(wait);
        for effect in core.handle(began.elapsed(), input)? {
            outlet(effect);
        }
    }
    if disk.shortage().is_some() {
        return Ok(());
    }
    // So that the next start has nothing to execute again.
    match core.writer().write_checkpoint() {
        Err(error) if want_of_room(&error).is_some() => {
            tracing::warn!(%error, "no last checkpoint: the next start executes the blocks again");
            Ok(())
        }
        written => Ok(written?),
    }
}

/// Waits while there is no room.
fn pause(inbox: &Inbox, stop: &AtomicBool, disk: &Disk, outlet: &mut Outlet) {
    while let Some(shortage) = disk.shortage()
        && !stop.load(Ordering::Relaxed)
    {
        if let Input::Import { id, .. } = inbox.next(TICK) {
            outlet(Effect::Imported { id, result: Err(ImportError::Paused(shortage)) });
        }
    }
}
