#!/usr/bin/env bash
# The optimised program killed at random instants under load, fifty times; `cargo test` does ten
# rounds of the debug build. The seed that it prints repeats the choices.
set -euo pipefail
AIT_KILL_PROGRAM=$(bash .ci/optimised)
export AIT_KILL_PROGRAM AIT_KILL_ROUNDS=50
cargo test --workspace --locked --quiet --test kill -- --nocapture
