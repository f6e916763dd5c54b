#!/bin/sh
# Runs every libFuzzer target for SECONDS each and says what it did.
#   tests/fuzz/run.sh SECONDS [BUILD [TARGET …]]
# BUILD: a folder for the build (build-fuzz), made here when it is missing. Inputs that were found are kept in
# BUILD/corpus/TARGET; what crashes, in BUILD/crash/TARGET, and the exit code is 1.
set -u
seconds=${1:?seconds for each target}
build=${2:-build-fuzz}
[ $# -ge 2 ] && shift 2 || shift 1
src=$(cd "$(dirname "$0")/../.." && pwd)
if [ ! -d "$build" ]; then
    CC=clang meson setup "$build" "$src" -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false \
        -Dbuildtype=debugoptimized >/dev/null || exit 1
fi
ninja -C "$build" >/dev/null || exit 1
[ $# -gt 0 ] || set -- $(ls "$build"/tests/fuzz | sed -n 's/^fuzz-\([a-z0-9-]*\)$/\1/p')
status=0
for t in "$@"; do
    corpus=$build/corpus/$t crash=$build/crash/$t log=$build/fuzz-$t.log
    mkdir -p "$corpus" "$crash" && rm -f "$log"
    regress=$src/tests/fuzz/regress/$t
    [ -d "$regress" ] || regress=
    "$build/tests/fuzz/replay-$t" --seeds "$corpus" >/dev/null
    LLVM_PROFILE_FILE=$build/fuzz-$t.profraw "$build/tests/fuzz/fuzz-$t" -max_total_time="$seconds" -max_len=8192 \
        -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -use_value_profile=1 -artifact_prefix="$crash/" \
        "$corpus" $regress >"$log" 2>&1
    [ $? -eq 0 ] || { status=1; echo "$t: FOUND SOMETHING, see $log and $crash"; }
    execs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
    cov=$(grep -o 'cov: [0-9]*' "$log" | tail -1)
    printf '%-14s %10s inputs %8s a second, %s\n' "$t" "${execs:-?}" "${rate:-?}" "${cov:-cov: ?}"
done
exit $status
