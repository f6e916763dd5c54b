#!/bin/sh
# quern compare and quern gate as a user meets them, on the trained model and the texts of testdata. Arguments: the quern program, the tool beside this
# script, the testdata folder. tests/interop/gate_campaign.py damages the model in many more ways. Speaks TAP.
. "$(dirname "$0")/tap.sh"
quern=$(absolute "$1") tool=$(absolute "$2") data=$(absolute "$3")
scratch
unset GITHUB_ACTIONS GITHUB_STEP_SUMMARY
copy() { # a model folder to break
    rm -rf "$1" && cp -R "$data/stories260k-bf16" "$1" && chmod -R u+w "$1"
}
copy m
cp "$data/tinystories-eval.txt" text
with="--against m --data text --context 64 --chunks 12"
"$quern" compress m -q --codec grid --bits 4 -o m4.quern
"$quern" compress m -q -o m.quern

# ---- compare ----
run compare m.quern m --data text --context 64 --chunks 2
ok "compare" is 0
ok "… a lossless file is the model" out_has '^47 tensors, 47 of them equal bit for bit$'
ok "… nothing diverges" out_has 'mean KL divergence, nats  *0  '
run compare m4.quern m --data text --context 64 --chunks 12 --report r.json --json
ok "compare --json" "$tool" json schema=quern/report/1 binding tokens layers tensors chunks noise size_bytes <out
ok "… is what --report writes, but for the time" sh -c 'grep -v seconds out >a && grep -v seconds r.json >b && cmp -s a b'
run compare m4.quern m
ok "compare of weights alone" out_has 'grid  *4\.'
ok "… no divergence" sh -c '! grep -q KL out'
run compare m4.quern m --labels x.npy
ok "labels of no arrays" fails 2 '\-\-labels goes with --inputs'

# ---- a baseline, and what passes ----
run gate m4.quern $with --write-baseline b.json
ok "a baseline without a reason" fails 2 'give --reason TEXT'
run gate m4.quern $with --write-baseline b.json --reason "first"
ok "write-baseline" is 0
ok "… says what it holds" out_has '^  kld_mean  *0\.'
run gate m4.quern $with --baseline b.json
ok "the same again passes" is 0
ok "… nothing is inconclusive" out_has '^pass: 10 passed in'
run gate m4.quern $with --baseline b.json --threads 3 --batch 100 --memory 64M --json
ok "… on other threads and batches" "$tool" json schema=quern/gate/1 verdict=pass failed=0 inconclusive=0 skipped=0 checks warnings <out
run gate --current r.json --baseline b.json
ok "a stored report" is 0
"$quern" decompress m4.quern -o decoded -q
run gate decoded $with --baseline b.json --all
ok "larger than the baseline" is 1
ok "… is all that fails" out_has '^fail: 1 failed, 9 passed'

# ---- what fails, by name ----
copy flipped && "$tool" flip flipped/model.safetensors 300001
run gate flipped $with
ok "a damaged dense model, limits by default" out_has '^  pass  structure'
run gate m.quern $with --write-baseline dense.json --reason dense -q
run gate flipped $with --baseline dense.json --junit j.xml --markdown m.md
ok "one byte of a model that was equal" is 1
ok "… is named with its tensor" out_has '^  FAIL  lossless  *model.layers'
ok "… and ends it" out_has '^  skip  divergence'
ok "… --junit" grep -q '<failure message="1 of [0-9]* values differ' j.xml
ok "… --markdown" grep -q '^| \*\*fail\*\* | `lossless` | model.layers' m.md
copy words && sed -i 's/"<0x41>"/"<0x4100>"/' words/tokenizer.json
run gate words $with --baseline dense.json
ok "another tokenizer" sh -c '[ "$1" -eq 1 ] && grep -q "FAIL  tokenizer" out' - "$rc"
copy gone && LC_ALL=C sed -i 's/layers\.3\.mlp\.up_proj/layers.3.mlp.xx_proj/' gone/model.safetensors
run gate gone $with --baseline dense.json
ok "a tensor that is missing" sh -c '[ "$1" -eq 1 ] && grep -q "model.layers.3.mlp.up_proj.weight" out && grep -q "only in the reference" out' - "$rc"
run gate gone $with --write-baseline none.json --reason x
ok "… is no baseline" sh -c '[ "$1" -eq 1 ] && [ ! -e none.json ]' - "$rc"
copy nan && printf '\300\177' | dd of=nan/model.safetensors bs=1 seek=524990 conv=notrunc 2>/dev/null
run gate nan $with --all
ok "a NaN" sh -c 'grep -q "NaN or infinite" out && grep -q "FAIL  runs" out'

# ---- intervals ----
printf 'kld_mean: {max: 0.0001}\nbpw: {max: 3}\n' >strict.yaml
run gate m4.quern $with --thresholds strict.yaml
ok "limits that are not kept" is 1
ok "… with what was found and what is allowed" out_has 'FAIL  kld_mean  *0\.[0-9]* (0\.[0-9]* to 0\.[0-9]*, 12 chunks): at most 0.0001 is allowed'
mean=$(sed -n '/"kl": {/{n;s/.*: \([0-9.]*\),/\1/p;q}' r.json)
printf '# close\nkld_mean: {max: %s}\n' "$(echo "$mean" | cut -c1-6)" >close.yaml
run gate --current r.json --thresholds close.yaml
ok "too close to call" is 8
ok "… says so" out_has '^  ????  kld_mean .* chunks would tell$'
run gate --current r.json --thresholds close.yaml --inconclusive=pass
ok "… taken for a pass" is 0
run gate --current r.json --thresholds close.yaml --inconclusive=fail
ok "… for a failure" is 1
echo before >summary
GITHUB_ACTIONS=true GITHUB_STEP_SUMMARY=summary "$quern" gate --current r.json --thresholds close.yaml >out 2>err
ok "GitHub: an annotation at the limit's line" out_has '^::warning file=close.yaml,line=2,title=kld_mean::0\.'
ok "… a summary behind what is there" sh -c '[ "$(head -1 summary)" = before ] && grep -q "^### Accuracy gate: inconclusive" summary'
if command -v xmllint >/dev/null; then
    ok "JUnit's file is XML" xmllint --noout j.xml
fi

# ---- what cannot be ----
run gate m4.quern --against m --data text --context 64 --chunks 11 --baseline b.json
ok "a baseline of another cut" fails 3 'b.json: the baseline was measured with another text or cut (11 chunks of 64 here, 12 of 64 there)'
run gate m4.quern $with --tokenizer words/tokenizer.json --baseline b.json
ok "a baseline of another tokenizer" fails 3 'another tokenizer: '
run gate flipped --against flipped --data text --context 64 --chunks 12 --baseline b.json
ok "a baseline of another reference" fails 3 'another reference: '
run gate m4.quern --against m --baseline b.json
ok "a baseline of tokens, and no data" fails 2 'the baseline was measured on data: give --data'
run gate m4.quern --data text
ok "no reference" fails 2 '\-\-against MODEL'
run gate
ok "nothing to judge" fails 2 'either a MODEL or --current REPORT'
run gate --current text --baseline b.json
ok "no report" fails 3 'text at byte 0x0'
printf 'top1: {min: 1}\nvs_baseline: {kld_mean: +5%%}\n' >needs.yaml
run gate --current r.json --thresholds needs.yaml
ok "limits that need a baseline" fails 2 'needs.yaml: line 2: kld_mean is limited by a baseline'
printf 'top1: {min: 1}\nkld: {max: 1}\n' >typo.yaml
run gate --current r.json --thresholds typo.yaml
ok "an unknown limit" fails 2 "typo.yaml: line 2: 'kld' is not known; allowed are kld_mean"

# ---- a change that is meant ----
"$quern" compress m -q --codec grid --bits 3 -o m3.quern
run gate m3.quern $with --baseline b.json
ok "fewer bits" is 1
cp b.json was.json
run gate m3.quern $with --baseline b.json --update
ok "--update without a reason" fails 2 'give --reason'
ok "… leaves it alone" cmp -s b.json was.json
run gate m3.quern $with --baseline b.json --update --reason "3 bits are enough"
ok "--update" is 0
ok "… tells what changes" out_has '^  kld_mean  *0\.[0-9]*, it was 0\.[0-9]*$'
ok "… keeps the reason" grep -q '"reason": "3 bits are enough"' b.json
run gate m3.quern $with --baseline b.json
ok "… and passes" is 0

# ---- a model that is no language model ----
mnist=$data/mnist
"$quern" compress "$mnist/mnist.onnx" -q --codec grid --bits 6 -o net.quern
run gate net.quern --against "$mnist/mnist.onnx" --inputs "$mnist/test.npz" --labels "$mnist/test-labels.npy" --chunks 60 --write-baseline net.json --reason r
ok "arrays and labels" is 0
ok "… their figures" out_has '^  accuracy  *[01]'
run gate net.quern --against "$mnist/mnist.onnx" --inputs "$mnist/test.npz" --labels "$mnist/test-labels.npy" --chunks 60 --baseline net.json
ok "… pass again" out_has 'pass  vs_baseline.accuracy'

finish
