#!/bin/sh
# quern prune, compress --prune and plan --prune as a user meets them, on the trained models of testdata. Arguments: the quern program, the tool beside this
# script, the testdata folder. Speaks TAP; each `ok` states what should hold.
. "$(dirname "$0")/tap.sh"
quern=$(absolute "$1") tool=$(absolute "$2") data=$(absolute "$3")
scratch
net=$data/mnist/mnist.onnx calib=$data/mnist/calib.npz text=$data/tinystories-calib.txt
size() { wc -c <"$1"; }
right() { # share of digits that a model gets right, in tenths of a percent
    "$quern" eval "$1" --inputs "$data/mnist/test.npz" --labels "$data/mnist/test-labels.npy" |
        sed -n 's/^  right class first *\([0-9]*\)\.\([0-9]\).*/\1\2/p'
}

# ---- a network of convolutions ----
run prune "$net" --ratio 0.5 --by groups --inputs "$calib" -o half.onnx
ok "half of the channels" is 0
ok "… nothing on standard error" [ ! -s err ]
ok "… 4 of 8 and 8 of 16 stay" sh -c 'grep -q " 4 of 8 " out && grep -q " 8 of 16 " out'
ok "… what is frozen, and why" out_has "frozen    10 channels of 1 weight .*: belongs to output 'Plus214_Output_0' of the model"
ok "… the proof" out_has '^  proof       [0-9.]*e-0[6-9] apart from the zeroed model over 4 runs$'
ok "… less than half of the bytes" [ "$(size half.onnx)" -lt $(($(size "$net") / 2)) ]
ok "… nothing is left beside it" sh -c '[ "$(ls | grep -c quern)" -eq 0 ]'
ok "… it still reads digits (99.0 % before)" [ "$(right half.onnx)" -ge 950 ]
run prune "$net" --ratio 0.5 --by groups --inputs "$calib" --saliency magnitude --no-refit -o plain.onnx
ok "by magnitude, without a refit" is 0
ok "… it reads much fewer" [ "$(right plain.onnx)" -lt 800 ]
run prune "$net" --ratio 0.5 --by groups --inputs "$calib" -o again.onnx --threads 1
ok "one thread: the same bytes" cmp -s half.onnx again.onnx
run prune "$net" --ratio 0.5 --by groups --inputs "$calib" -o half.onnx
ok "the output exists" fails 2 'half.onnx: exists: give --force to replace it'
run prune "$net" --ratio 0.5 --by groups --inputs "$calib" -o half.onnx --force --json
ok "--force, --json" "$tool" json schema=quern/prune/1 by=groups ratio reached=true dry_run=false before after families frozen cut refitted proof <out
run prune "$net" --ratio 0.4 --by macs --inputs "$calib" --dry-run
ok "a dry run" is 0
ok "… says so" out_has 'nothing written: a dry run'
ok "… and writes nothing" [ ! -e "${net%.onnx}-pruned.onnx" ]
run prune "$net" --ratio 0.3 --saliency magnitude --no-refit -o blind.onnx --zeroed zeroed.onnx
ok "without data" is 0
ok "… the zeroed model has the old size" [ "$(size zeroed.onnx)" -gt $(($(size "$net") * 9 / 10)) ]
run eval blind.onnx --against zeroed.onnx --inputs "$data/mnist/test.npz"
ok "… and computes the same" out_has 'same .* 100.000 %'
run prune half.onnx --ratio 0.25 --by groups --inputs "$calib" -o quarter.onnx
ok "a pruned model is pruned again" is 0
run prune "$net" --ratio 0.5 --by groups --inputs "$calib" --recover=5 --keep 'Parameter5' -o kept.onnx
ok "--keep and --recover" is 0
ok "… that family is whole" out_has '8 of 8 '
ok "… trained for 5 steps" out_has '^  training    5 steps'
run prune "$net" --ratio 0.5 --by groups --inputs "$calib" --recover=20 --gradual --chunks 64 -o gradual.onnx
ok "--gradual" is 0
run prune "$net" --ratio 0.01 --at-most --sparsity 2:4 --inputs "$calib" -o sparse.onnx
ok "--sparsity" is 0
ok "… zeros" out_has '^  sparse      [0-9.]* % of '

# ---- what cannot be ----
run prune "$net" --inputs "$calib"
ok "no ratio" fails 2 'ratio must be between 0 and 1'
run prune "$net" --ratio 1 --inputs "$calib"
ok "a ratio of 1" fails 2 'ratio must be between 0 and 1'
run prune "$net" --ratio 0.5
ok "a refit without data" fails 2 'a refit needs calibration data'
run prune "$net" --ratio 0.99 --inputs "$calib" -o x.onnx
ok "more than can go" fails 4 'of the params can go, and 99.0 % were asked for'
ok "… nothing is written" [ ! -e x.onnx ]
run prune "$net" --ratio 0.5 --inputs "$calib" --keep 'nothing*' -o x.onnx
ok "a pattern without a match" fails 2 "'nothing\*' matches no weight that could be cut"
run prune "$net" --ratio 0.5 --inputs "$calib" --keep '*' -o x.onnx
ok "everything kept" fails 4 'nothing of this model can be cut'
run prune "$net" --ratio 0.5 --data "$text" -o x.onnx
ok "text for a network of images" fails 4 ''
run prune "$net" --ratio 0.5 --inputs "$calib" --data "$text" -o x.onnx
ok "two kinds of data" fails 2 'data and --inputs do not go together'
run prune "$net" --ratio 0.5 --inputs "$calib" --gradual -o x.onnx
ok "gradual without recovery" fails 2 'gradual goes with recover'
run prune "$net" --drop-layers 1 --inputs "$calib" -o x.onnx
ok "layers of a network that has none" one_error
run prune "$net" --sparsity 5:4 --inputs "$calib" -o x.onnx
ok "a pattern that is none" fails 2 "sparsity: found '5:4'"
run prune "$net" --ratio 0.5 --inputs "$calib" -o "$PWD"
ok "a folder in the way" fails 2 'is a folder, but a file is written'
ok "nothing is left of all that" sh -c '[ "$(ls | grep -c -e quern -e "^x")" -eq 0 ]'

# ---- a language model ----
lm=$data/stories260k-bf16
run prune "$lm" --ratio 0.1 --data "$text" --documents --chunks 8 -o lm
ok "a language model" is 0
ok "… all layers keep the same width" sh -c '[ "$(grep " ffn " out | sed "s/.* ffn *\([0-9]* of 172\).*/\1/" | sort -u | wc -l)" -eq 1 ]'
ok "… says so in its configuration" sh -c '! grep -q "\"intermediate_size\": 172" lm/config.json && [ -s lm/pruning.json ]'
run eval lm --data "$data/tinystories-eval.txt" --documents --against "$lm"
ok "… runs" is 0
run prune "$lm" --drop-layers 1 --data "$text" --documents --chunks 4 -o shallow
ok "--drop-layers" is 0
ok "… 4 of 5 layers stay" grep -q '"num_hidden_layers": 4' shallow/config.json
run prune "$lm" --drop-layers 5 --data "$text" --documents -o x
ok "all layers" fails 2 '5 of 5 layers shall go: at least 1 must stay'
run prune "$lm" --ratio 0.1 --data "$text" --documents -o lm
ok "the folder exists" fails 2 'lm: exists: give --force to replace it'
mkdir mine && echo thesis >mine/thesis.txt
run prune "$lm" --ratio 0.1 --data "$text" --documents -o mine --force
ok "a folder that is no model is not replaced" fails 2 'is a folder without a config.json'
ok "… and is whole" [ "$(cat mine/thesis.txt)" = thesis ]

# ---- together with the other passes ----
run compress "$lm" --prune=0.1 --bits=4 --data "$text" --documents --chunks 8 -o lm.quern
ok "compress --prune --bits" is 0
ok "… the recipe says so" sh -c '"$0" inspect lm.quern --json | grep -q "prune 0.1 of params"' "$quern"
run compress "$lm" --bits=4 -o whole.quern
ok "… it is smaller than the whole model with as many bits" [ "$(size lm.quern)" -lt "$(size whole.quern)" ]
run eval lm.quern --data "$data/tinystories-eval.txt" --documents --against "$lm"
ok "… and runs" is 0
printf 'codec: ect\nbits: 4\nprune: {ratio: 0.1, saliency: magnitude, refit: no, keep: ["*mlp*"]}\n' >r.yaml
run plan "$lm" --recipe r.yaml
ok "plan of a recipe that prunes heads only" is 0
ok "… shows widths that stay" out_has "172 x 64"
printf 'codec: ect\nbits: 4\nprune: {ratio: 0.1, saliency: magnitude, refit: no}\n' >r.yaml
run plan "$lm" --recipe r.yaml
ok "… and all that can go" is 0
ok "… shows the shapes that are left" sh -c '! grep -q "172 x 64" out'
run compress "$lm" --prune=0.1 --bits=4 --stats x.qstats -o x.quern
ok "statistics of the whole model" fails 2 'statistics are measured on the pruned model'
run compress "$lm" --data "$text" -o x.quern
ok "data without pruning" fails 2 'go with --prune'
finish
