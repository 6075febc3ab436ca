#!/usr/bin/env bash
# One target under libFuzzer: `fuzz/guided.sh TARGET [SECONDS] [libFuzzer's options]`.
# Works on the stable compiler: only the crates of this workspace are instrumented, so that
# dependencies are those that tests use.
set -euo pipefail
cd "$(dirname "$0")"
target=$1 seconds=${2:-60}
shift $(($# < 2 ? $# : 2))
# Optimised, with overflow checks and debug assertions as in tests.
RUSTC_WORKSPACE_WRAPPER=$PWD/instrument.sh CARGO_PROFILE_DEV_OPT_LEVEL=2 CARGO_INCREMENTAL=0 \
    cargo build --locked --quiet --features guided --bin guided
found=../target/guided/$target
mkdir -p "$found"
AIT_FUZZ_TARGET=$target ../target/debug/guided "$found" "corpus/$target" \
    -max_total_time="$seconds" -max_len=65536 -timeout=20 -artifact_prefix="../target/guided/$target-" "$@"
