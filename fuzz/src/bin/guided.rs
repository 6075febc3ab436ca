//! A target under libFuzzer, which keeps inputs that reach new code. `AIT_FUZZ_TARGET` names
//! it; `guided.sh` builds and starts this.
#![no_main]

use std::sync::LazyLock;

use ait_fuzz::{Target, drive};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    // libFuzzer's own hook, set before, takes every panic for a finding.
    drive::silence_contained_panics();
    let name = std::env::var("AIT_FUZZ_TARGET").unwrap_or_default();
    Target::find(&name).unwrap_or_else(|| panic!("AIT_FUZZ_TARGET names no target: {name:?}"))
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| (TARGET.run)(input));
