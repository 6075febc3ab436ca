//! Ends the process at an input from which a property does not come back: a loop that nothing
//! else would report.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::drive::Finding;

/// Longest time for one input; good ones take milliseconds.
const INPUT_TIME_MAX: Duration = Duration::from_secs(20);

/// What is being tried since when, and what to call it if it does not end.
type Trying = (Instant, Finding, Vec<u8>);

/// Looks at what is tried until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch(Arc<Mutex<Option<Trying>>>);

impl Watch {
    pub(crate) fn new() -> Self {
        let trying = Arc::default();
        let seen = Arc::downgrade(&trying);
        thread::spawn(move || watch(&seen));
        Self(trying)
    }

    /// Notes that this input is tried from now on, which would be this finding.
    pub(crate) fn begin(&self, finding: Finding, input: &[u8]) {
        let trying = (Instant::now(), finding, input.to_vec());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(trying);
    }
}

fn watch(seen: &Weak<Mutex<Option<Trying>>>) {
    while let Some(trying) = seen.upgrade() {
        if let Some((since, finding, input)) = &*trying.lock().unwrap()
            && since.elapsed() > INPUT_TIME_MAX
        {
            finding.keep(input);
            // Nobody reads a result: the thread that would is the one that does not end.
            let _ = writeln!(std::io::stdout(), "{finding}");
            std::process::exit(1);
        }
        drop(trying);
        thread::sleep(Duration::from_millis(500));
    }
}
