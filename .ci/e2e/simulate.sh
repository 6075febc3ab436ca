#!/usr/bin/env bash
# Seeds that nobody has tried, for two minutes. What fails prints the command that shows it
# again; the fixed seeds are in tests/simulate.rs.
set -euo pipefail
cargo build --locked --quiet
first=$(($(date +%s) * 1000))
target/debug/ait-node simulate --seeds "$first..$((first + 100000))" --for 2m --json
