//! Progress of long work, on standard error and only where a person looks.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Output;

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
