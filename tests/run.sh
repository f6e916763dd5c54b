#!/bin/sh
# Installs, builds and tests: gcc with every warning as an error, then clang with ASan and UBSan.
# The last line is "N passed, N failed". Suites that are left out here: see tests/README.md.
set -eu
cd "$(dirname "$0")/.."
sh tests/install-deps.sh

build() { # folder, compiler, meson options …
    dir=$1 cc=$2
    shift 2
    if [ ! -f "$dir/build.ninja" ]; then
        CC=$cc meson setup "$dir" -Dwerror=true "$@" >/dev/null
    fi
    ninja -C "$dir" -k 20 >"$dir/ninja.log" 2>&1 || { cat "$dir/ninja.log"; echo "0 passed, 1 failed"; exit 1; }
}

build build gcc
# Lines are all that reports of sanitizers need, and benchmarks are built above.
build build-san clang-14 -Db_sanitize=address,undefined -Db_lundef=false -Dbuildtype=debugoptimized -Dbench=false -Dc_args=-gline-tables-only

export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
status=0
for dir in build build-san; do
    echo "== $dir"
    meson test -C "$dir" --no-rebuild --print-errorlogs || status=1
done
sh tests/compilers.sh build build-san | tee build/compilers.tap
python3 tests/count.py build build-san build/compilers.tap || status=1
exit $status
