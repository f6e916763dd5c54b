#!/bin/sh
# Installs what is missing, builds, and does the main job on the trained model beside this script: compress,
# verify, restore, and show that every file has come back with the same SHA-256. Then the model is calibrated on one text and
# evaluated on another, as it is and from its packed file; and its weights are approximated with about 3 bits each, beside plain rounding
# in the same bytes.
set -eu
cd "$(dirname "$0")/.."
sh tests/install-deps.sh
[ -f build/build.ninja ] || CC=gcc meson setup build >/dev/null
ninja -C build >build/ninja.log 2>&1 || { cat build/ninja.log; exit 1; }
quern=$PWD/build/cli/quern
model=testdata/stories260k-bf16
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

echo "\$ quern inspect $model"
"$quern" inspect "$model"
for level in fast dense max; do
    echo
    echo "\$ quern compress $model -o $level.quern --lossless=$level"
    "$quern" compress "$model" -o "$out/$level.quern" --lossless=$level
done
echo
echo "\$ quern verify dense.quern --against $model"
"$quern" verify "$out/dense.quern" --against "$model"
echo
echo "\$ quern decompress dense.quern -o restored"
"$quern" decompress "$out/dense.quern" -o "$out/restored"
echo
echo "SHA-256 of the original and of the restored files:"
(cd "$model" && find . -type f | LC_ALL=C sort | xargs sha256sum) >"$out/before"
(cd "$out/restored" && find . -type f | LC_ALL=C sort | xargs sha256sum) >"$out/after"
sed 's/^/  original  /' "$out/before"
sed 's/^/  restored  /' "$out/after"
if cmp -s "$out/before" "$out/after"; then
    echo "identical: every file is back, byte for byte"
else
    echo "DIFFERENT"
    exit 7
fi

calib=testdata/tinystories-calib.txt text=testdata/tinystories-eval.txt
echo
echo "\$ quern calibrate $model --data $calib --documents --sensitivity=8 -o model.qstats"
"$quern" calibrate "$model" --data "$calib" --documents --sensitivity=8 -o "$out/model.qstats" | sed "s|$out/||"
echo
echo "\$ quern eval $model --data $text --documents"
"$quern" eval "$model" --data "$text" --documents
echo
echo "\$ quern eval dense.quern --data $text --documents --against $model"
"$quern" eval "$out/dense.quern" --data "$text" --documents --against "$model" | sed "s|$out/||"

# What eval says about a file, as a row: name, bytes, perplexity, divergence from the original.
value() { # key of an estimate
    awk -v key="\"$1\":" '$1 == key && !found { getline; found = 1; gsub(/,/, "", $2); print $2 }' "$out/eval.json"
}
row() { # name, file, bytes
    "$quern" eval "$2" --data "$text" --documents --against "$model" --json >"$out/eval.json"
    printf '  %-52s %8s %11.4f %10.5f\n' "$1" "$3" "$(value perplexity)" "$(value kl)"
}
echo
echo "\$ quern compress $model --codec=grid --bits=3 -o rounded.quern"
"$quern" compress "$model" --codec=grid --bits=3 -o "$out/rounded.quern" -q
size=$(wc -c <"$out/rounded.quern")
echo "\$ quern plan $model --size=$size --stats model.qstats"
"$quern" plan "$model" --size="$size" --stats "$out/model.qstats" | sed '/layers\.[1-9]/d'
echo
echo "\$ quern compress $model --size=$size --spread=0.5 --stats model.qstats -o small.quern"
"$quern" compress "$model" --size="$size" --spread=0.5 --stats "$out/model.qstats" -o "$out/small.quern" -q
echo
printf '  %-52s %8s %11s %10s\n' "" bytes perplexity KLD
row "as it is" "$model" "$(du -sb --apparent-size "$model" | cut -f1)"
row "rounded to 3 bits, scales in groups of 32 (grid)" "$out/rounded.quern" "$size"
row "the same size, with statistics and feedback (ect)" "$out/small.quern" "$(wc -c <"$out/small.quern")"

echo
echo "\$ quern export $model --to gguf:Q4_K_M --stats model.qstats -o model.gguf"
"$quern" export "$model" --to gguf:Q4_K_M --stats "$out/model.qstats" -o "$out/model.gguf" | sed "s|$out/||"
printf '  %-52s %8s %11s %10s\n' "" bytes perplexity KLD
row "for llama.cpp, as Q4_K_M" "$out/model.gguf" "$(wc -c <"$out/model.gguf")"
echo
echo "\$ quern gate small.quern --against $model --data $text --write-baseline baseline.json --reason demo"
"$quern" gate "$out/small.quern" --against "$model" --data "$text" --write-baseline "$out/baseline.json" --reason demo | sed "s|$out/||g"
echo
echo "\$ quern gate rounded.quern --against $model --data $text --baseline baseline.json --all      # the plainly rounded one: worse"
"$quern" gate "$out/rounded.quern" --against "$model" --data "$text" --baseline "$out/baseline.json" --all | sed -n "s|$out/||g; /vs_baseline\|^fail/p" || true

echo
net=testdata/mnist/mnist.onnx images=testdata/mnist
echo "\$ quern prune $net --ratio 0.5 --by groups --inputs $images/calib.npz -o half.onnx"
"$quern" prune "$net" --ratio 0.5 --by groups --inputs "$images/calib.npz" -o "$out/half.onnx" | sed "s|$out/||"
for file in "$net" "$out/half.onnx"; do
    echo "\$ quern eval ${file#"$out/"} --inputs $images/test.npz --labels $images/test-labels.npy"
    "$quern" eval "$file" --inputs "$images/test.npz" --labels "$images/test-labels.npy" | sed -n 's/^  right/  right/p'
done
echo
echo "\$ quern prune $model --ratio 0.1 --data $calib --documents -o pruned"
"$quern" prune "$model" --ratio 0.1 --data "$calib" --documents -o "$out/pruned" | sed -n "s|$out/||; /parameters/,\$p"
echo
printf '  %-52s %8s %11s %10s\n' "" bytes perplexity KLD
row "as it is" "$model" "$(du -sb --apparent-size "$model" | cut -f1)"
row "a tenth of the parameters cut away, the rest refitted" "$out/pruned" "$(du -sb --apparent-size "$out/pruned" | cut -f1)"
