#!/bin/sh
# The real program is killed at every write, sync, rename and open that it makes; then the same command is given again
# and must end with the same bytes. usage: kill9.sh QUERN MODEL [STEP [OPTION…]]; every STEPth call (default 1), options for compress.
set -eu
quern=$(realpath "$1") model=$(realpath "$2") step=${3:-1}
[ $# -lt 3 ] && shift 2 || shift 3
command -v strace >/dev/null || { echo "strace is not installed"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
strace -o /dev/null true 2>/dev/null || { echo "strace may not trace here"; exit 77; }

export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0" # it traces too, and there can be only one
"$quern" compress "$model" "$@" -o whole.quern -q
killed=0 resumed=0
for call in pwrite64 fsync ftruncate rename unlink openat; do
    n=1
    while :; do
        rm -f part.quern*
        rc=0
        strace -f -qq -o trace -e "trace=$call" -e "inject=$call:signal=SIGKILL:when=$n" \
            "$quern" compress "$model" "$@" -o part.quern -q -t 2 2>err || rc=$?
        [ $rc -eq 137 ] || break
        killed=$((killed + 1))
        [ ! -e part.quern ] || cmp -s part.quern whole.quern || { echo "$call $n: something partial has the final name"; exit 1; }
        [ ! -e part.quern.partial ] || resumed=$((resumed + 1))
        "$quern" compress "$model" "$@" -o part.quern -q --force 2>err || { echo "$call $n: again:"; cat err; exit 1; }
        cmp -s part.quern whole.quern || { echo "$call $n: other bytes after resuming"; exit 1; }
        [ -z "$(ls | grep '^part\.quern\.' || :)" ] || { echo "$call $n: a temporary stays behind"; exit 1; }
        n=$((n + step))
    done
    [ $rc -eq 0 ] || { echo "$call $n: status $rc"; cat err; exit 1; }
done
echo "killed $killed times, $resumed left a partial file, all the same bytes in the end"
[ "$killed" -gt 0 ]
