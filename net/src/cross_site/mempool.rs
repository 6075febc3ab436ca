//! Pending transactions in both directions: what a remote has is submitted here, what is
//! pending here is sent to it, each once and so many a poll.

use super::core::CrossSite;
use super::port::{Effect, Failure, Input, LocalPage, MempoolPage, Remote, RemoteReason};

/// Pages of a remote's list in one poll.
const PAGES_MAX: u32 = 5;
/// Transactions that are sent to a remote in one poll.
pub(super) const PUSH_COUNT_MAX: usize = 256;

/// Begins the exchange of a poll.
pub(super) fn share(core: &mut CrossSite, remote: Remote) {
    let Some(state) = core.remotes.get_mut(remote) else { return };
    let sharing = &mut state.sharing;
    if !sharing.is_fetching {
        sharing.is_fetching = true;
        core.effects.push(Effect::FetchMempool(remote, sharing.cursor));
    }
}

pub(super) fn handle(core: &mut CrossSite, input: Input) {
    match input {
        Input::Mempool(remote, result) => on_page(core, remote, result),
        Input::NotTaken(remote, hashes) => {
            let Some(state) = core.remotes.get_mut(remote) else { return };
            for hash in hashes {
                state.sharing.taken.remove(&hash);
                // So that the page is read again.
                state.sharing.cursor = None;
            }
        }
        Input::Pending(remote, page) => on_pending(core, remote, page),
        Input::NotPushed(remote, hashes) => {
            let Some(state) = core.remotes.get_mut(remote) else { return };
            state.sharing.is_pushing = false;
            for hash in hashes {
                state.sharing.known.remove(&hash);
                state.sharing.local_cursor = None;
            }
        }
        _ => {}
    }
}

fn on_page(core: &mut CrossSite, remote: Remote, result: Result<MempoolPage, Failure>) {
    let Some(state) = core.remotes.get_mut(remote) else { return };
    let sharing = &mut state.sharing;
    sharing.is_fetching = false;
    let page = match result {
        Ok(page) => page,
        // A site that shares no transactions still gives blocks.
        Err(Failure::Answer(error) | Failure::Unreachable(error)) => {
            tracing::debug!(remote, error, "a remote's pending transactions cannot be read");
            sharing.cursor = None;
            return;
        }
    };
    let mut fresh = Vec::new();
    for (hash, transaction) in page.transactions {
        sharing.known.insert(hash);
        if sharing.taken.insert(hash) {
            fresh.push(transaction);
        }
    }
    // After its end the list is read from the beginning again: a remote that was started
    // anew counts anew.
    sharing.cursor = page.next;
    sharing.pages = sharing.pages.saturating_add(1);
    let goes_on = page.is_full && page.next.is_some() && sharing.pages < PAGES_MAX;
    if goes_on {
        sharing.is_fetching = true;
        core.effects.push(Effect::FetchMempool(remote, page.next));
    } else if !sharing.is_pushing {
        sharing.is_pushing = true;
        core.effects.push(Effect::ListPending(remote, sharing.local_cursor));
    }
    if !fresh.is_empty() {
        core.effects.push(Effect::Submit(remote, fresh));
    }
}

fn on_pending(core: &mut CrossSite, remote: Remote, page: LocalPage) {
    let Some(state) = core.remotes.get_mut(remote) else { return };
    let sharing = &mut state.sharing;
    sharing.local_cursor = page.next;
    let mut missing = Vec::new();
    for transaction in page.transactions {
        if missing.len() == PUSH_COUNT_MAX {
            // The rest at the next poll.
            sharing.local_cursor = None;
            break;
        }
        if sharing.known.insert(transaction.hash()) {
            missing.push(transaction);
        }
    }
    if missing.is_empty() || state.reason == RemoteReason::OtherChain {
        sharing.is_pushing = false;
    } else {
        core.effects.push(Effect::Push(remote, missing));
    }
}
