//! Threads that stand behind all others.
//!
//! What reads and writes out many blocks takes a processor for some 10 ms, and whoever asks for one
//! block meanwhile should not wait for it; nor for clients that asked for too much, or hold many
//! connections.
//!
//! A thread that has begun its turn has it to the end, up to 4 ms, whatever its priority, and who
//! becomes ready meanwhile waits (`RUN_TO_PARITY` of the Linux scheduler). So what works here gives
//! way now and then.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// How much nicer these threads are than the process: a tenth of the time of another thread on a busy processor, so that
/// a follower still gets on with a node that has everything to do.
const NICENESS: i32 = 10;
/// Threads at most; who asks is bounded elsewhere, by half of the processors each.
const COUNT_MAX: usize = 64;
/// Tasks that a thread of a runtime works on before it looks which sockets have something: each
/// takes some 10 to 50 microseconds, and a request that just came waits for as many. The runtime's
/// own 61 are 3 ms where many clients keep a thread busy.
pub const TASKS_BETWEEN_EVENTS: u32 = 8;

/// How long one of these threads works before it gives way. Each time it does costs it 13 ms of a
/// processor that has everything to do, so that a shorter turn would leave it nothing.
const TURN: Duration = Duration::from_micros(300);
/// Bytes that are written in some part of a turn.
const PART_BYTES: usize = 32 << 10;

thread_local! {
    /// Since when this thread has its turn; none: it is no such thread.
    static TURN_BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Kept as long as the process: its threads end when they are idle.
static BEHIND: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut builder = Builder::new_multi_thread();
    let builder = builder.enable_all().worker_threads(processors.div_ceil(2));
    let builder = builder.max_blocking_threads(COUNT_MAX).thread_name("behind");
    let builder = builder.event_interval(TASKS_BETWEEN_EVENTS);
    let built = builder.on_thread_start(fall_behind).build();
    built.inspect_err(|error| tracing::warn!(%error, "nothing stands behind the rest")).ok()
});

fn fall_behind() {
    TURN_BEGAN.set(Some(Instant::now()));
    let now = rustix::process::getpriority_process(None);
    let set = now.and_then(|now| {
        rustix::process::setpriority_process(None, now.saturating_add(NICENESS).min(19))
    });
    if let Err(error) = set {
        tracing::debug!(%error, "a thread has the priority of all");
    }
}

/// Does what takes long. Without such threads one of the runtime's does it.
///
/// # Panics
/// Outside of a runtime.
pub fn work<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match &*BEHIND {
        Some(runtime) => runtime.spawn_blocking(work),
        None => tokio::task::spawn_blocking(work),
    }
}

/// Starts a task, and what that starts. Without such threads it is one of the runtime's.
///
/// # Panics
/// Outside of a runtime.
pub fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    match &*BEHIND {
        Some(runtime) => runtime.spawn(task),
        None => tokio::spawn(task),
    }
}

/// Lets others have the processor, if this is one of these threads and its turn is over.
pub fn give_way() {
    if TURN_BEGAN.get().is_some_and(|began| began.elapsed() > TURN) {
        std::thread::yield_now();
        TURN_BEGAN.set(Some(Instant::now()));
    }
}

/// A writer that gives way while much is written.
#[derive(Debug)]
pub struct GivingWay<W> {
    to: W,
    part: usize,
}

impl<W: io::Write> GivingWay<W> {
    /// Writes to `to`.
    pub const fn new(to: W) -> Self {
        Self { to, part: 0 }
    }
}

impl<W: io::Write> io::Write for GivingWay<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.part = self.part.saturating_add(count);
        if self.part > PART_BYTES {
            self.part = 0;
            give_way();
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_the_same_and_turns_end_on_these_threads_alone() {
        use io::Write as _;
        let bytes: Vec<u8> = (0..5 * PART_BYTES).map(|n| (n % 251) as u8).collect();
        let write = move || {
            let began = TURN_BEGAN.get();
            std::thread::sleep(TURN * 2);
            let mut all = GivingWay::new(Vec::new());
            bytes.chunks(1_000).for_each(|part| all.write_all(part).unwrap());
            assert!(all.to == bytes);
            (began, TURN_BEGAN.get())
        };
        assert_eq!(write(), (None, None));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _guard = runtime.enter();
        let (began, now) = runtime.block_on(work(write)).unwrap();
        assert!(began.unwrap() < now.unwrap());
    }

    #[tokio::test]
    async fn what_is_done_here_stands_behind_all_others() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let ours = nice();
        let expected = (ours + NICENESS).min(19);
        assert_eq!(work(nice).await.unwrap(), expected);
        // And whatever it starts.
        let task = spawn(async move { tokio::task::spawn_blocking(nice).await.unwrap() });
        assert_eq!(task.await.unwrap(), expected);
        assert_eq!(spawn(async move { nice() }).await.unwrap(), expected);
        assert_eq!(nice(), ours, "the priority of a thread is its own");
    }
}
