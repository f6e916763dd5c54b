#!/bin/sh
# The example of docs/ against the installed library: packs a tiny file, runs the program, compares the sum.
# Arguments: the example's binary, a program that packs (pack-file INPUT OUTPUT).
set -eu
example=$1 pack=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
head='{"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}'
{
    printf '\071\0\0\0\0\0\0\0%s' "$head"
    printf '\0\0\200\077\0\0\0\100\0\0\100\100\0\0\200\100'
} >"$dir/w.safetensors"
"$pack" "$dir/w.safetensors" "$dir/w.quern"
got=$("$example" "$dir/w.quern")
want='w: F32, 4 elements, sum 10'
if [ "$got" != "$want" ]; then
    echo "found '$got', expected '$want'"
    exit 1
fi
if "$example" "$dir/w.safetensors" 2>"$dir/err"; then
    echo "a file that is no .quern was accepted"
    exit 1
fi
grep -q 'not a whole .quern file' "$dir/err"
