//! Threads for what reads and writes out many blocks, behind all other work: an answer of a
//! thousand blocks takes a processor for some 10 ms, and whoever asks for one block meanwhile
//! should not wait for it.

use std::sync::LazyLock;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// How much nicer these threads are than the process: a tenth of the time of another thread on a busy processor, so that
/// a follower still gets on with a node that has everything to do.
const NICENESS: i32 = 10;
/// Threads at most; who asks is bounded elsewhere, by half of the processors each.
const COUNT_MAX: usize = 64;

/// Kept as long as the process: its threads end when they are idle.
static READERS: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    let builder = builder.worker_threads(1).max_blocking_threads(COUNT_MAX);
    let built = builder.thread_name("readers").on_thread_start(fall_behind).build();
    built.inspect_err(|error| tracing::warn!(%error, "ranges are read at full priority")).ok()
});

fn fall_behind() {
    let now = rustix::process::getpriority_process(None);
    let set = now.and_then(|now| {
        rustix::process::setpriority_process(None, now.saturating_add(NICENESS).min(19))
    });
    if let Err(error) = set {
        tracing::debug!(%error, "a reading thread has the priority of all");
    }
}

/// Has a reader do this. Without such threads one of the runtime's does it.
///
/// # Panics
/// Outside of a runtime.
pub fn read<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match &*READERS {
        Some(runtime) => runtime.spawn_blocking(work),
        None => tokio::task::spawn_blocking(work),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[tokio::test]
    async fn readers_stand_behind_all_others() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let ours = nice();
        let theirs = super::read(nice).await.unwrap();
        assert_eq!(theirs, (ours + super::NICENESS).min(19));
        assert_eq!(nice(), ours, "the priority of a thread is its own");
    }
}
