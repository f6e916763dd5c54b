#!/bin/sh
# Installs what building and testing needs on Debian 12, only what is missing. Root, or sudo.
set -eu

want="gcc clang-14 libclang-rt-14-dev meson ninja-build pkg-config libcriterion-dev libzstd-dev libxxhash-dev libjansson-dev zlib1g-dev libopenblas-dev liblapacke-dev libarchive-dev libpcre2-dev libutf8proc-dev libyaml-dev python3-numpy python3-onnx python3-sentencepiece libonnx-testdata strace"
missing=""
for p in $want; do
    case "$(dpkg-query -W -f '${Status}' "$p" 2>/dev/null || true)" in
    "install ok installed") ;;
    *) missing="$missing $p" ;;
    esac
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ]; then run=""; else run="sudo"; fi
    echo "installing:$missing"
    $run apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $run apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
