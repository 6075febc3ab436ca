#!/usr/bin/env bash
# Attackers against one real node, two seconds for each attack of specs/testing.md. It fails when
# an honest request does, the node's memory passes its bound, or who should be named is not; the
# times are shown and not judged, for the machine may be busy.
set -euo pipefail
if ! command -v ip >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends iproute2 >/dev/null
fi
# Some containers may make no interfaces at all: nothing can be shown there, and it says so.
if ! unshare --net true; then
    export AIT_HOSTILE_MAY_SKIP=1
fi
AIT_HOSTILE_PROGRAM=$(bash .ci/optimised)
export AIT_HOSTILE_PROGRAM
cargo test --workspace --locked --quiet --test hostile -- --seconds 2
