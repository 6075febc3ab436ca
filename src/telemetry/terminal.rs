//! Standard error, shared by log lines and a progress bar: lines are written above the bar.

use std::io::{Result, Write, stderr};
use std::sync::{Mutex, PoisonError};

use indicatif::ProgressBar;

static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Shows this bar below the log, or none.
pub fn show(bar: Option<ProgressBar>) {
    *BAR.lock().unwrap_or_else(PoisonError::into_inner) = bar;
}

/// Where log lines go; a line is one write.
#[derive(Debug, Clone, Copy)]
pub struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> Result<usize> {
        // Taken out, so that no lock is held while a slow terminal takes the line.
        let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match bar {
            Some(bar) => bar.suspend(|| stderr().write_all(line)).map(|()| line.len()),
            None => stderr().write_all(line).map(|()| line.len()),
        }
    }

    fn flush(&mut self) -> Result<()> {
        stderr().flush()
    }
}
