#!/bin/sh
# The bytes of a .quern do not depend on the compiler: packs the model in testdata/ with the programs of two build
# folders, at every level and for every kernel set, and compares. Prints TAP.
#   tests/compilers.sh BUILD OTHER_BUILD
set -eu
one=$1/cli/quern other=$2/cli/quern
model=$(dirname "$0")/../testdata/stories260k-bf16
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for level in fast dense max; do
    "$one" compress "$model" -o "$dir/want.quern" --lossless=$level --force --quiet
    for cpu in scalar avx2 avx512; do
        if ! QUERN_CPU=$cpu "$other" version --quiet >/dev/null 2>&1; then
            echo "ok - $level: no $cpu here # SKIP"
            continue
        fi
        QUERN_CPU=$cpu "$other" compress "$model" -o "$dir/got.quern" --lossless=$level --force --quiet
        if cmp -s "$dir/want.quern" "$dir/got.quern"; then
            echo "ok - $level: the same bytes from both compilers, $cpu"
        else
            echo "not ok - $level: other bytes from the other compiler, $cpu"
        fi
    done
done
