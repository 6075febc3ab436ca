//! The thread around the core.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Effect, Inbox, Input, SequencerCore, SequencerError};
use crate::consensus::{Logged, VoteSigner, WriteAheadLog};
use crate::disk::{Disk, want_of_room};
use crate::import::ImportError;

/// How long the thread sleeps at most before it looks whether it should stop.
const TICK: Duration = Duration::from_millis(50);

/// Where effects go.
pub type Outlet = Box<dyn FnMut(Effect) + Send>;

/// How the core begins.
#[derive(Debug)]
pub enum Begin {
    /// It was told what the log has; this is what follows from it.
    Recovered(Vec<Effect>),
    /// What the log has, if it has anything, for when there is room.
    Logged(Option<Logged>),
}

/// Feeds the core until told to stop; then the state is written to disk if there is room: a chain
/// without is as whole. While there is no room nothing is fed: what comes is let go, for the
/// network leaves its peers, and these say it again when they are back.
///
/// # Errors
/// [`SequencerError`]; the node must end.
pub fn run<S: VoteSigner, L: WriteAheadLog>(
    mut core: SequencerCore<S, L>,
    begin: Begin,
    inbox: &Inbox,
    stop: &AtomicBool,
    disk: &Disk,
    outlet: &mut Outlet,
) -> Result<(), SequencerError> {
    let began = Instant::now();
    let effects = match begin {
        Begin::Recovered(effects) => effects,
        Begin::Logged(logged) => {
            pause(inbox, stop, disk, outlet);
            core.recover(logged, began.elapsed())?
        }
    };
    for effect in effects {
        outlet(effect);
    }
    while !stop.load(Ordering::Relaxed) {
        pause(inbox, stop, disk, outlet);
        core.writer().check_background()?;
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
