#!/usr/bin/env bash
# Whether the targets can fail: `fuzz/planted.sh [NAME..]` plants the faults of `planted` (all if
# none is named) into a copy of the last commit and says which target finds each. Fails if one
# is not found. Faults of different targets share a build, so a target must also say what its
# fault makes it say, a regular expression. SECONDS_EACH is how long each may take, SEED what
# the inputs are made of.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD copy=$PWD/target/planted commit=$(git rev-parse HEAD)
left=("$@")
[ $# -gt 0 ] || left=($(cd fuzz/planted && ls | sed 's/\.patch$//'))
[ -d "$copy" ] || git clone --quiet --shared --no-checkout . "$copy"

field() { sed -n "s/^$1: //p" "fuzz/planted/$2.patch"; }
# Builds the copy and says where its random driver is. The profile is that of tests, so that
# dependencies are built once for both. Cargo would take our own crates in the copy for those
# here; a wrapper around rustc, which does nothing, makes them others.
build() {
    local said
    said=$(CARGO_TARGET_DIR=$root/target CARGO_INCREMENTAL=0 RUSTC_WORKSPACE_WRAPPER=$(command -v env) \
        cargo test --locked --workspace --manifest-path "$copy/Cargo.toml" --test fuzz --no-run 2>&1) \
        || { echo "$said" >&2; return 1; }
    sed -n 's/.*Executable tests.fuzz\.rs (\(.*\))$/\1/p' <<<"$said"
}

missed=0
while [ ${#left[@]} -gt 0 ]; do
    git -C "$copy" checkout --quiet --force --detach "$commit"
    planted=() later=() targets=" "
    for name in "${left[@]}"; do
        target=$(field Target "$name")
        if [[ $targets == *" $target "* ]]; then
            later+=("$name")
        else
            git -C "$copy" apply "$root/fuzz/planted/$name.patch"
            planted+=("$name") targets+="$target "
        fi
    done
    driver=$(build)
    for name in "${planted[@]}"; do
        target=$(field Target "$name") says=$(field Says "$name")
        said=$("$driver" --seconds "${SECONDS_EACH:-60}" --seed "${SEED:-1}" "$target" 2>/dev/null || true)
        if [[ $said =~ ^"$target: FOUND by ".*($says) ]]; then
            by=${said#*FOUND by }
            echo "$name: caught by $target, ${by%%:*}"
        else
            missed=1
            echo "$name: NOT CAUGHT by $target: $said"
        fi
    done
    left=("${later[@]}")
done
exit "$missed"
