#!/usr/bin/env bash
# Seeds that nobody has tried, for two minutes. What fails prints the command that shows it
# again; the fixed seeds are in tests/simulate.rs.
set -euo pipefail
program=$(bash .ci/optimised)
first=$(($(date +%s) * 1000))
"$program" simulate --seeds "$first..$((first + 100000))" --for 2m --json
