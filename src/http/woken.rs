//! A future that is polled only when it was woken itself, and once more if it woke itself at work.
//!
//! A connection's task has several things to wait for, and each request wakes it for one of them
//! alone. What a server's protocol wakes itself for, a body that came with its head, needs no turn
//! of the runtime, which would look at others and for events before.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// It was woken since it was polled last.
const WOKEN: u8 = 1;
/// It is being polled.
const AT_WORK: u8 = 2;
/// Polls without others having their turn.
const POLLS_MAX: usize = 2;

/// What the future's own waker wakes.
#[derive(Debug)]
struct Bell {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Woken before, or at work, it is polled anyway.
        if self.state.fetch_or(WOKEN, Ordering::AcqRel) == 0 {
            self.task.wake();
        }
    }
}

/// A future with a waker of its own.
pub(super) struct Woken<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    waker: Waker,
}

impl<F: Future> Woken<F> {
    pub(super) fn new(future: F) -> Self {
        let bell = Arc::new(Bell { state: AtomicU8::new(WOKEN), task: AtomicWaker::new() });
        let waker = Waker::from(Arc::clone(&bell));
        Self { future: Box::pin(future), bell, waker }
    }
}

impl<F: Future> Future for Woken<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, bell, waker } = &mut *self;
        // Before it rests again: whoever wakes it from then on finds the task.
        bell.task.register(context.waker());
        let mut own = Context::from_waker(waker);
        for _ in 0..POLLS_MAX {
            if bell.state.swap(AT_WORK, Ordering::AcqRel) & WOKEN != 0
                && let Poll::Ready(output) = future.as_mut().poll(&mut own)
            {
                return Poll::Ready(output);
            }
            if bell.state.fetch_and(!AT_WORK, Ordering::AcqRel) & WOKEN == 0 {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn it_is_polled_when_it_was_woken_and_at_no_other_time() {
        let task = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&task));
        let mut context = Context::from_waker(&waker);
        let (mut polls, mut own) = (0, None);
        let mut future = Woken::new(poll_fn(|context| {
            polls += 1;
            own = Some(context.waker().clone());
            if polls == 2 { Poll::Ready(polls) } else { Poll::Pending }
        }));
        for _ in 0..3 {
            assert!(Pin::new(&mut future).poll(&mut context).is_pending());
        }
        let Woken { waker, .. } = &future;
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(task.0.load(Ordering::SeqCst), 1, "the task is woken once");
        assert_eq!(Pin::new(&mut future).poll(&mut context), Poll::Ready(2));
    }

    #[test]
    fn what_wakes_itself_is_polled_at_once_and_lets_others_have_their_turn() {
        let task = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&task));
        let mut context = Context::from_waker(&waker);
        let polls = AtomicUsize::new(0);
        let mut future = Woken::new(poll_fn(|context| {
            polls.fetch_add(1, Ordering::SeqCst);
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        for turn in 1..5 {
            assert!(Pin::new(&mut future).poll(&mut context).is_pending());
            assert_eq!(polls.load(Ordering::SeqCst), turn * POLLS_MAX);
            assert_eq!(task.0.load(Ordering::SeqCst), turn, "it goes on by itself");
        }
    }

    /// Each is woken by another thread while it may be polled, going to rest, or at rest.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_waking_is_lost() {
        const WAKINGS: usize = 50_000;
        let (to, mut from) = tokio::sync::mpsc::unbounded_channel::<Waker>();
        let waking = std::thread::spawn(move || {
            while let Some(waker) = from.blocking_recv() {
                waker.wake();
            }
        });
        let mut polls = 0;
        let future = Woken::new(poll_fn(move |context| {
            polls += 1;
            to.send(context.waker().clone()).unwrap();
            if polls == WAKINGS { Poll::Ready(()) } else { Poll::Pending }
        }));
        tokio::time::timeout(Duration::from_secs(60), tokio::spawn(future)).await.unwrap().unwrap();
        waking.join().unwrap();
    }
}
