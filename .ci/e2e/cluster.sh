#!/usr/bin/env bash
# Six real nodes in network namespaces, under load, disturbed in every way that
# specs/testing.md lists; a table of what it took to recover.
set -euo pipefail
if ! command -v ip >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends iproute2 >/dev/null
fi
# Some containers may make no interfaces at all: nothing can be shown there, and it says so.
if [ ! -e /dev/net/tun ] || ! unshare --net true; then
    export AIT_CLUSTER_MAY_SKIP=1
fi
AIT_CLUSTER_PROGRAM=$(bash .ci/optimised)
export AIT_CLUSTER_PROGRAM
cargo test --workspace --locked --quiet --test cluster
