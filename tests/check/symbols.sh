#!/bin/sh
# What the shared libraries export and need.
#   symbols.sh SOURCE_ROOT LIBQUERN LIBQUERN_RUNTIME
# Exported: exactly the functions that the public headers mark QN_API (the runtime: those of base.h and runtime.h).
# Needed by the runtime: zstd, xxhash and the C library's own parts, nothing else.
set -u
root=$1 lib=$2 runtime=$3
for tool in nm readelf; do
    command -v $tool >/dev/null 2>&1 || { echo "skipped: no $tool"; exit 77; }
done
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
status=0

exported() { nm -D --defined-only "$1" | sed 's/.* [A-Za-z] //; s/@.*//' | sort; }

# names between QN_API and the opening bracket; a declaration may run over lines
promised() {
    cat "$@" | tr '\n' ' ' | sed 's/QN_API/\n&/g' | sed -n 's/^QN_API  *[^(;]*[ *]\([a-z_0-9]*\)(.*/\1/p' | grep '^qn_' | sort
}

check() { # name, library, headers …
    name=$1 so=$2
    shift 2
    exported "$so" >"$tmp/have"
    promised "$@" >"$tmp/want"
    [ -s "$tmp/want" ] || { echo "$name: no QN_API found in $*"; status=1; }
    comm -23 "$tmp/have" "$tmp/want" >"$tmp/extra"
    comm -13 "$tmp/have" "$tmp/want" >"$tmp/missing"
    [ -s "$tmp/extra" ] && { echo "$name exports what no public header promises:"; cat "$tmp/extra"; status=1; }
    [ -s "$tmp/missing" ] && { echo "$name does not export:"; cat "$tmp/missing"; status=1; }
    grep -v '^qn_' "$tmp/have" && { echo "$name exports names without qn_"; status=1; }
    echo "$name: $(wc -l <"$tmp/have") symbols"
}

check libquern-runtime "$runtime" "$root/include/quern/base.h" "$root/include/quern/runtime.h"
check libquern "$lib" "$root"/include/quern/*.h

needs=$(readelf -d "$runtime" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p')
for n in $needs; do
    case $n in
    libzstd.so.* | libxxhash.so.* | libc.so.* | libm.so.* | libpthread.so.* | ld-linux*) ;;
    libasan.* | libubsan.* | libtsan.* | liblsan.* | libclang_rt.* | librt.so.* | libdl.so.* | libgcc_s.so.* | libresolv.so.*)
        echo "libquern-runtime needs $n: a sanitizer's, passed over" ;;
    *) echo "libquern-runtime needs $n"; status=1 ;;
    esac
done
# a text relocation or an executable stack would be a step back
readelf -d "$runtime" | grep -q TEXTREL && { echo "libquern-runtime has text relocations"; status=1; }
readelf -lW "$runtime" | grep -q 'GNU_STACK.*RWE' && { echo "libquern-runtime wants an executable stack"; status=1; }
exit $status
