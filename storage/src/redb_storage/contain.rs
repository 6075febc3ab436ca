//! Turns a panic of redb into an error: at a damaged page redb trusts what it reads and stops at
//! an index out of bounds, an "unreachable" branch or a list that ends too early.
//!
//! Everything that may read or write a page runs in [`contain`], closing included. redb counts on
//! being unwound: a transaction leaves its pages to the next repair, and a lock that is left poisoned makes the next
//! call panic, which is contained as well. A second panic while the first is unwound, in one of
//! redb's destructors, ends the process by the rules of the language: all that is left is to say
//! why, for which a program has [`note_panic`]. redb bounds the depth of its trees, so that
//! damage does not exhaust the stack.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use crate::{Place, StorageError, redb_storage::failure};

/// Where a panic happened, and what therefore becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanicIn {
    /// Outside the storage engine, which does nothing about it.
    Program,
    /// In the engine: it becomes a [`StorageError::Corrupt`].
    Engine,
    /// In the engine while another panic of it is unwound: the process ends.
    EngineUnwinding,
}

thread_local! {
    /// Where a panic of this thread would be.
    static PANIC_IN: Cell<PanicIn> = const { Cell::new(PanicIn::Program) };
}

/// Says where the panic is of which a program's panic hook is told; to be called there, and once
/// for each panic. A hook must let those pass that are contained.
#[must_use]
pub fn note_panic() -> PanicIn {
    let place = PANIC_IN.get();
    if place == PanicIn::Engine {
        PANIC_IN.set(PanicIn::EngineUnwinding);
    }
    place
}

/// A panic of the program's own work amid the engine's.
pub(super) struct OfProgram(Box<dyn Any + Send>);

impl OfProgram {
    /// Lets it go on to whoever called the engine. redb rolls nothing back while it is unwound, so
    /// that what was begun must have been ended before.
    pub(super) fn go_on(self) -> ! {
        resume_unwind(Box::new(self))
    }
}

/// Does the program's work amid that of [`contain`]: a panic in it is no damage.
pub(super) fn outside<T>(work: impl FnOnce() -> T) -> Result<T, OfProgram> {
    let around = PANIC_IN.replace(PanicIn::Program);
    let done = catch_unwind(AssertUnwindSafe(work));
    PANIC_IN.set(around);
    done.map_err(OfProgram)
}

/// Does this work, which may call this again; a panic in it is damage of the file.
pub(super) fn contain<T>(
    place: &Place,
    work: impl FnOnce() -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let around = PANIC_IN.replace(PanicIn::Engine);
    // Of what the work changes outside redb, nothing is used after a panic: a handle whose
    // commit failed refuses, and a scan that failed has ended.
    let done = catch_unwind(AssertUnwindSafe(work));
    PANIC_IN.set(around);
    done.unwrap_or_else(|panic| {
        let panic = match panic.downcast::<OfProgram>() {
            // Around this there may be another, which must know whose it was.
            Ok(panic) if around == PanicIn::Engine => resume_unwind(panic),
            Ok(panic) => resume_unwind(panic.0),
            Err(panic) => panic,
        };
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
        let detail = format!("redb panicked: {}", said.unwrap_or("without a message"));
        Err(failure::corrupt(place, detail))
    })
}
