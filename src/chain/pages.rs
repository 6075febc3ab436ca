//! Pages of a table with dense numbers, some of them in memory.
//!
//! Readers share a table and may load a page; the writer alone changes pages. A page that is
//! being written to disk is never changed: the writer copies it first. Pages that differ from
//! the disk stay; others give way, those that nobody read for long first (the CLOCK
//! algorithm: Corbato, "A paging experiment with the Multics system", 1969).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// How many places are looked at for each page that should give way, and besides; and at
/// most: bounds how long a block waits for it.
const LOOKS_EACH: usize = 16;
const LOOKS: usize = 16_384;
const LOOKS_MAX: usize = 1 << 19;

/// A page that is a checkpoint's as well. The one allocation more lets a page become shared, and
/// its writer's own again, without being copied.
pub(super) type SharedPage<T> = Arc<Box<T>>;

/// A page in memory. One that the writer alone has is not counted: asking a count whether it is
/// the only one waits until all that was written before has reached the cache.
#[derive(Debug)]
enum Page<T> {
    Own(Box<T>),
    /// Unchanged since a checkpoint took it, and that one's as well while it is being written.
    Shared(SharedPage<T>),
}

impl<T: Clone> Page<T> {
    fn get(&self) -> &T {
        match self {
            Self::Own(page) => page,
            Self::Shared(page) => page,
        }
    }

    /// Whether somebody else has it.
    fn is_held(&self) -> bool {
        matches!(self, Self::Shared(page) if Arc::strong_count(page) > 1)
    }

    fn into_shared(self) -> SharedPage<T> {
        match self {
            Self::Own(page) => Arc::new(page),
            Self::Shared(page) => page,
        }
    }

    /// The page, or a copy if somebody else has it.
    fn into_own(self) -> Box<T> {
        match self {
            Self::Own(page) => page,
            Self::Shared(page) => Arc::unwrap_or_clone(page),
        }
    }
}

#[derive(Debug)]
struct Frame<T> {
    page: Page<T>,
    /// Whether it was read since the hand came by.
    is_used: AtomicBool,
    /// Whether it was changed since the last freeze.
    is_dirty: bool,
}

impl<T> Frame<T> {
    fn new(page: impl Into<Box<T>>) -> Self {
        let page = Page::Own(page.into());
        Self { page, is_used: AtomicBool::new(true), is_dirty: false }
    }
}

/// Pages by number.
#[derive(Debug)]
pub(super) struct Pages<T> {
    frames: Vec<OnceLock<Frame<T>>>,
    /// Numbers of the dirty ones, each once, in no order.
    dirty: Vec<usize>,
    /// How many were frozen last and are not on disk yet.
    frozen: usize,
    resident: AtomicUsize,
    hand: usize,
}

/// Changed pages with their numbers, ascending.
pub(super) type FrozenPages<T> = Vec<(usize, SharedPage<T>)>;

impl<T> Default for Pages<T> {
    fn default() -> Self {
        let resident = AtomicUsize::new(0);
        Self { frames: Vec::new(), dirty: Vec::new(), frozen: 0, resident, hand: 0 }
    }
}

impl<T: Clone> Pages<T> {
    /// A table of this many pages, none of them in memory.
    pub(super) fn new(count: usize) -> Self {
        let mut pages = Self::default();
        pages.frames.resize_with(count, OnceLock::new);
        pages
    }

    /// A page, if it is in memory.
    pub(super) fn get(&self, number: usize) -> Option<&T> {
        let frame = self.frames.get(number)?.get()?;
        // Written only when it changes, so that readers do not take the line from each other.
        if !frame.is_used.load(Ordering::Relaxed) {
            frame.is_used.store(true, Ordering::Relaxed);
        }
        Some(frame.page.get())
    }

    /// Whether a page is in memory.
    pub(super) fn is_resident(&self, number: usize) -> bool {
        self.frames.get(number).is_some_and(|frame| frame.get().is_some())
    }

    /// Takes a page that was read from disk; none if the table has no such page.
    pub(super) fn put(&self, number: usize, page: T) -> Option<&T> {
        let cell = self.frames.get(number)?;
        // Another reader may have been faster, with the same page.
        if cell.set(Frame::new(page)).is_ok() {
            self.resident.fetch_add(1, Ordering::Relaxed);
        }
        cell.get().map(|frame| frame.page.get())
    }

    /// Changes a page, which `load` gives if it is not in memory. The table grows as needed.
    ///
    /// # Errors
    /// That of `load`.
    pub(super) fn edit<E>(
        &mut self,
        number: usize,
        load: impl FnOnce() -> Result<T, E>,
        change: impl FnOnce(&mut T),
    ) -> Result<(), E> {
        if number >= self.frames.len() {
            self.frames.resize_with(number + 1, OnceLock::new);
        }
        let Some(cell) = self.frames.get_mut(number) else { return Ok(()) };
        if let None | Some(Frame { page: Page::Shared(_), .. }) = cell.get() {
            // What is shared was not changed since, so that it is as good as new.
            let own = match cell.take() {
                Some(frame) => frame.page.into_own(),
                None => {
                    let page = load()?;
                    *self.resident.get_mut() += 1;
                    Box::new(page)
                }
            };
            // It was taken, so that there is none.
            let _ = cell.set(Frame::new(own));
        }
        if let Some(frame) = cell.get_mut()
            && let Page::Own(page) = &mut frame.page
        {
            if !frame.is_dirty {
                frame.is_dirty = true;
                self.dirty.push(number);
            }
            *frame.is_used.get_mut() = true;
            change(page);
        }
        Ok(())
    }

    /// The pages that were changed since the last call. While the caller holds one, it stays
    /// in memory; [`Pages::thaw`] says that none is held any more.
    pub(super) fn freeze(&mut self) -> FrozenPages<T> {
        self.dirty.sort_unstable();
        self.frozen = self.dirty.len();
        let frames = &mut self.frames;
        let frozen = self.dirty.drain(..).filter_map(|number| {
            let cell = frames.get_mut(number)?;
            let Frame { page, is_used, .. } = cell.take()?;
            let page = page.into_shared();
            let frozen = Arc::clone(&page);
            // It was taken, so that there is none.
            let _ = cell.set(Frame { page: Page::Shared(page), is_used, is_dirty: false });
            Some((number, frozen))
        });
        frozen.collect()
    }

    /// What was frozen is on disk.
    pub(super) const fn thaw(&mut self) {
        self.frozen = 0;
    }

    /// How many pages could and should give way, so that at most `max` are in memory. What
    /// is changed or frozen cannot.
    pub(super) fn excess(&self, max: usize) -> usize {
        let held = self.dirty.len().saturating_add(self.frozen);
        self.resident().saturating_sub(max.max(held))
    }

    /// Lets go of pages that equal the disk's, until at most `max` are in memory or enough
    /// were looked at.
    pub(super) fn shrink(&mut self, max: usize) {
        let excess = self.excess(max);
        if excess == 0 {
            return;
        }
        let resident = self.resident.get_mut();
        let target = *resident - excess;
        let mut looks = excess.saturating_mul(LOOKS_EACH).saturating_add(LOOKS).min(LOOKS_MAX);
        while *resident > target && looks > 0 {
            looks -= 1;
            self.hand = (self.hand + 1).checked_rem(self.frames.len()).unwrap_or(0);
            let Some(cell) = self.frames.get_mut(self.hand) else { return };
            let Some(frame) = cell.get_mut() else { continue };
            let is_held = frame.is_dirty || frame.page.is_held();
            if !is_held && !std::mem::take(frame.is_used.get_mut()) {
                cell.take();
                *resident -= 1;
            }
        }
    }

    /// How many pages are in memory.
    pub(super) fn resident(&self) -> usize {
        self.resident.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn set(pages: &mut Pages<u64>, number: usize, value: u64) {
        pages.edit(number, || Ok::<_, Infallible>(0), |page| *page = value).unwrap();
    }

    #[test]
    fn frozen_pages_stay_as_they_were_and_come_in_order() {
        let mut pages = Pages::new(4);
        set(&mut pages, 3, 30);
        set(&mut pages, 1, 10);
        set(&mut pages, 3, 31);
        let frozen = pages.freeze();
        set(&mut pages, 3, 32);
        // Beyond its size it grows.
        set(&mut pages, 9, 90);
        let read = |frozen: &FrozenPages<u64>| -> Vec<_> {
            frozen.iter().map(|(number, page)| (*number, ***page)).collect()
        };
        assert_eq!(read(&frozen), [(1, 10), (3, 31)]);
        assert_eq!(read(&pages.freeze()), [(3, 32), (9, 90)]);
        assert_eq!(read(&pages.freeze()), []);
        assert_eq!((pages.get(3), pages.get(0), pages.get(77)), (Some(&32), None, None));
    }

    #[test]
    fn only_pages_that_equal_the_disk_give_way_and_unread_ones_first() {
        let mut pages = Pages::new(100);
        for number in 0..100 {
            assert_eq!(pages.put(number, number as u64), Some(&(number as u64)));
        }
        assert_eq!((pages.put(100, 0), pages.resident()), (None, 100));
        // One round takes the marks, so that the pages read after it are known.
        pages.shrink(99);
        assert_eq!(pages.resident(), 99);
        let kept: Vec<usize> = (0..100).filter(|n| n % 3 == 0 && pages.get(*n).is_some()).collect();
        set(&mut pages, 50, 500);
        let frozen = pages.freeze();
        set(&mut pages, 70, 700);
        pages.shrink(kept.len() + 2);
        assert!(kept.iter().all(|number| pages.get(*number).is_some()));
        pages.shrink(0);
        pages.shrink(0);
        assert_eq!(pages.resident(), 2);
        assert_eq!((pages.get(50), pages.get(70)), (Some(&500), Some(&700)));
        // Those two cannot give way, and are not looked for.
        assert_eq!(pages.excess(0), 0);
        drop(frozen);
        pages.freeze();
        pages.thaw();
        assert_eq!(pages.excess(0), 2);
        pages.shrink(0);
        pages.shrink(0);
        assert_eq!((pages.resident(), pages.get(50)), (0, None));
    }
}
