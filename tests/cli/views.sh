#!/bin/sh
# Weights that do not lie as (out, in): GPT-2's, and a network of convolutions and products in ONNX, from calibration to what is restored.
# Arguments: the quern program, the maker of models beside this script. Speaks TAP; each `ok` states what should hold.
. "$(dirname "$0")/tap.sh"
quern=$(absolute "$1") made=$(absolute "$2")
scratch
value() { # of "value" in the object of that key, which stands on the next line
    sed -n "/\"$1\": {/{n;s/.*: \([-0-9.e]*\),*/\1/p;q}" out
}
less() { awk "BEGIN { exit !($1 < $2) }"; }

"$made" gpt2 g && "$made" tokens calib.npy 4000 && "$made" tokens test.npy 1500
run calibrate g --data calib.npy -c 64 -o g.qstats
ok "calibrate: weights stored (in, out)" is 0
for codec in grid ect pvq; do
    run compress g --codec=$codec --bits=3 --stats g.qstats -o g-$codec.quern
    ok "$codec" is 0
    ok "… of the transpose" out_has "turn .*over the matrix"
    ok "… all of it" out_has 'h.0.attn.c_attn.weight  *linear  *192 x 64 .*3.97 K'
    ok "… but positions" out_has 'kept  *wpe.weight: a table of positions'
    run verify g-$codec.quern
    ok "… intact" out_has 'intact'
    run eval g-$codec.quern --data test.npy -c 64 --against g --json
    kl=$(value kl)
    ok "… predicts nearly the same" less "$kl" 0.8
    run decompress g-$codec.quern -o g-$codec -q
    ok "… is restored" is 0
    run eval g-$codec --data test.npy -c 64 --against g --json
    ok "… to what was packed" [ "$(value kl)" = "$kl" ]
done
run compress g --codec=grid --bits=3 -o free.quern -q
run eval free.quern --data test.npy -c 64 --against g --json
free=$(value kl)
run eval g-grid.quern --data test.npy -c 64 --against g --json
ok "statistics help" less "$(value kl)" "$free"
for t in 1 3; do
    run compress g --codec=grid --bits=3 --stats g.qstats -o t.quern -f -q -t $t
    ok "$t threads: the same bytes" cmp -s g-grid.quern t.quern
done

"$made" onnx n.onnx && "$made" images images.npy 60 && "$made" images others.npy 16
run calibrate n.onnx --inputs images.npy -o n.qstats
ok "calibrate: ONNX" is 0
run compress n.onnx --codec=grid --bits=4 --stats n.qstats -o n.quern
ok "ONNX" is 0
ok "… a convolution: rows of patches" out_has 'conv.3x3  *linear  *64 x 432 '
ok "… one whose taps are many" out_has 'conv.5x5  *linear  *48 x 200 '
ok "… MatMul" out_has 'matmul  *linear  *96 x 64 '
ok "… Gemm" out_has 'gemm  *head  *40 x 96 '
run compress n.onnx --codec=grid --bits=4 --stats n.qstats -o n.quern -f --json
ok "… all with full statistics" [ "$(grep -c '"statistics": *"full"' out)" -eq 4 ]
ok "… measured patch by patch" out_has '"rows_seen": *8640'
run decompress n.quern -o r.onnx -q
ok "… restored" is 0
ok "… as long as it was" [ "$(wc -c <r.onnx)" = "$(wc -c <n.onnx)" ]
run eval n.quern --inputs others.npy --against n.onnx --json
cp out packed
ok "… computes nearly the same" less "$(sed -n 's/.*"rel_rms": *\([-0-9.e]*\),*/\1/p;T;q' packed)" 0.2
run eval r.onnx --inputs others.npy --against n.onnx --json
ok "… the same as what was restored" [ "$(grep rel_rms packed)" = "$(grep rel_rms out)" ]
run compress n.onnx --codec=grid --bits=4 -o free-n.quern -q
run eval free-n.quern --inputs others.npy --against n.onnx --json
ok "statistics of patches help" less "$(sed -n 's/.*"rel_rms": *\([-0-9.e]*\),*/\1/p;T;q' packed)" "$(sed -n 's/.*"rel_rms": *\([-0-9.e]*\),*/\1/p;T;q' out)"

finish
