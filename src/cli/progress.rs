//! Progress of long work, on standard error and only where a person looks.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Output;
use crate::telemetry::terminal;

/// A bar up to `total`; invisible with `--json` and where nobody looks.
pub(super) fn bar(output: &Output, total: u64, what: &'static str) -> ProgressBar {
    let seen = !output.is_json() && std::io::stderr().is_terminal();
    let target = if seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(total), target).with_message(what);
    let template = "{msg} [{wide_bar}] {percent}% {eta}";
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Blocks behind from which the chain's progress is shown, until it has them all.
const BEHIND_MIN: u64 = 20;

/// A bar of a node's chain while it is behind others, below what is logged. Shows nothing
/// where nobody looks.
pub(super) struct SyncBar {
    seen: bool,
    shown: Option<ProgressBar>,
}

impl SyncBar {
    /// `wanted`: whether standard error is for people.
    pub(super) fn new(wanted: bool) -> Self {
        Self { seen: wanted && std::io::stderr().is_terminal(), shown: None }
    }

    /// How it stands now.
    pub(super) fn update(&mut self, height: u64, target: u64, what: &'static str) {
        if !self.seen {
            return;
        }
        let behind = target.saturating_sub(height);
        match &self.shown {
            None if behind >= BEHIND_MIN => {
                let bar = ProgressBar::with_draw_target(Some(target), ProgressDrawTarget::stderr());
                let template = "syncing, {msg} [{wide_bar}] {pos}/{len} {per_sec} {eta}";
                let bar = match ProgressStyle::with_template(template) {
                    Ok(style) => bar.with_style(style),
                    Err(_) => bar,
                };
                let bar = bar.with_message(what).with_position(height);
                bar.enable_steady_tick(Duration::from_millis(500));
                terminal::show(Some(bar.clone()));
                self.shown = Some(bar);
            }
            Some(_) if behind == 0 => self.clear(),
            Some(bar) => {
                bar.set_length(target);
                bar.set_message(what);
                bar.set_position(height);
            }
            None => {}
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.shown.take() {
            terminal::show(None);
            bar.finish_and_clear();
        }
    }
}

impl Drop for SyncBar {
    fn drop(&mut self) {
        self.clear();
    }
}
