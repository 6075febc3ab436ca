//! What a panic does: it is told and ends the process, whichever thread or task it is in, since
//! a node that goes on without one of its tasks is worse than one that is started again.
//!
//! The exceptions are the storage engine at a damaged page, which the storage turns into an error,
//! and what runs [`contained`].

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ait_storage::PanicIn;

thread_local! {
    static IS_CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Does work whose panic, in this thread, is a failure of that work and of nothing else: gives
/// what it said. For the simulator, whose nodes are not this process. What the work changed must
/// not be gone on with.
///
/// # Errors
/// The message of the panic.
pub fn contained<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = IS_CONTAINED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    IS_CONTAINED.set(before);
    done.map_err(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
        said.unwrap_or("without a message").to_owned()
    })
}

/// Makes every panic from now on end the process, except those that are contained.
pub fn end_process() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        match ait_storage::note_panic() {
            PanicIn::Engine => tracing::error!(place, "the storage engine met a damaged page"),
            // Nothing unwinds a panic within a panic; leaving here is like any other error.
            PanicIn::EngineUnwinding => {
                tracing::error!(
                    place,
                    "the storage engine met a damaged page in a commit and cannot go on; \
                     stop the node and run: ait-node db check"
                );
                std::process::exit(1);
            }
            PanicIn::Program => {
                tell(panic);
                if !IS_CONTAINED.get() {
                    std::process::abort();
                }
            }
        }
    }));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, ExitStatus};

    use ait_storage::{Batch, Durability, RedbOptions, RedbStorage, Storage, Table};

    const ACT: &str = "AIT_PANICS_ACT";
    const ABORTED: i32 = 6;

    /// This test again in a process of its own, where it acts.
    fn act(what: &str) -> ExitStatus {
        let mut program = Command::new(std::env::current_exe().unwrap());
        let name = std::thread::current().name().unwrap().to_owned();
        program.args(["--exact", &name]).env(ACT, what).output().unwrap().status
    }

    #[test]
    fn a_panic_of_any_thread_ends_the_process() {
        if std::env::var(ACT).is_ok() {
            super::end_process();
            let _ = std::thread::spawn(|| panic!("as a task might")).join();
            return;
        }
        assert_eq!(act("panic").signal(), Some(ABORTED));
    }

    #[test]
    fn a_contained_panic_is_told_and_ends_nothing_else() {
        if std::env::var(ACT).is_ok() {
            super::end_process();
            assert_eq!(super::contained(|| 7), Ok(7));
            let number = 5;
            let said = super::contained(|| panic!("work number {number}"));
            assert_eq!(said, Err::<(), _>("work number 5".to_owned()));
            panic!("of the program");
        }
        assert_eq!(act("contain").signal(), Some(ABORTED));
    }

    #[test]
    fn a_panic_of_the_storage_engine_is_an_error() {
        if std::env::var(ACT).is_err() {
            return assert!(act("read").success());
        }
        super::end_process();
        let (folder, table) = (tempfile::tempdir().unwrap(), Table::new("table"));
        let path = folder.path().join("damaged.redb");
        let storage = RedbStorage::open(&path, &RedbOptions::default()).unwrap();
        let mut batch = Batch::new();
        for key in 0..1000_u32 {
            batch.put(table, key.to_be_bytes(), [7; 100]);
        }
        storage.commit(batch, Durability::Immediate).unwrap();
        storage.close().unwrap();
        // No page of rows says any more what kind it is.
        let mut bytes = std::fs::read(&path).unwrap();
        let rows = |page: &[u8]| page.windows(50).any(|bytes| bytes == [7; 50]);
        for page in bytes.chunks_mut(4096).filter(|page| rows(page)) {
            page[0] = 0xee;
        }
        std::fs::write(&path, bytes).unwrap();
        let read = RedbStorage::open(&path, &RedbOptions::default())
            .and_then(|storage| storage.snapshot()?.get(table, &[0; 4]).map(|_| ()));
        assert!(read.unwrap_err().to_string().contains("redb panicked"));
    }
}
