#!/bin/sh
# compress --codec as a user meets it: calibrate, approximate, look, restore, measure. Arguments: the quern program, a small model
# folder, the test tool. Speaks TAP; each `ok` states what should hold.
. "$(dirname "$0")/tap.sh"
quern=$(absolute "$1") model=$(absolute "$2") tool=$(absolute "$3")
scratch

# file, what: every processor's decoder that there is gives the same
same_everywhere() {
    for cpu in scalar avx2 avx512; do
        QUERN_CPU=$cpu "$quern" decompress "$1" -o "$1-$cpu" -q 2>err || { err_has 'does not have\|has not' && continue; }
        [ -d "$1-scalar" ] && ok "$2 ($cpu)" diff -r "$1-scalar" "$1-$cpu"
    done
}
# codec, file, what, words of the report: 2.25 bits and all that must hold then
works() {
    run compress "$model" --codec="$1" --bits=2.25 --stats m.qstats -o "$2"
    ok "$3" is 0
    ok "… for the layers" out_has "$4"
    run compress "$model" --codec="$1" --bits=2.25 --stats m.qstats -o t.quern -f -q -t 3
    ok "… the same bytes on three threads" cmp -s "$2" t.quern
    run verify "$2"
    ok "… intact" out_has 'intact'
    same_everywhere "$2" "… decodes to the same"
}

i=0
while [ $i -lt 60 ]; do
    echo "Once upon a time, in a small house number $i, there lived a cat who liked to play with a ball. One day she lost it."
    i=$((i + 1))
done >text.txt

run compress "$model" --codec=grid -o free.quern
ok "without statistics" is 0
ok "… the table has the layers" out_has 'model.layers.0.mlp.up_proj.weight .*linear'
ok "… and says that it is lossy" out_has 'lossy: integers'
run compress "$model" --stats none.qstats -o x.quern
ok "--stats without --codec" fails 2 'goes with --codec'
run compress "$model" --codec=grid --bits=4.5 -o x.quern
ok "half a bit" fails 2 'whole numbers from 2 to 8'
run compress "$model" --codec=grid --base "$model" -o x.quern
ok "--base does not go with it" fails 2 'does not go with'
run compress "$model" --codec=grid --stats none.qstats -o x.quern
ok "statistics that are not there" fails 5 'none.qstats'

run calibrate "$model" --data text.txt -o m.qstats
ok "calibrate" is 0
run compress "$model" --codec=grid --bits=3 --stats m.qstats -o a.quern --json
ok "with statistics" is 0
ok "… JSON tells what was asked" out_has '"lossy": *"grid bits=3; order=act feedback'
ok "… and how they were used" out_has '"statistics": *"full"'
cp out a.json
for t in 1 2 3; do
    run compress "$model" --codec=grid --bits=3 --stats m.qstats -o t.quern -f -q -t $t
    ok "$t threads: the same bytes" cmp -s a.quern t.quern
done
same_everywhere a.quern "decodes to the same"
run compress "$model" --codec=grid --bits=3 --sweeps=2 --stats m.qstats -o swept.quern -t 1
ok "with sweeps" is 0
run compress "$model" --codec=grid --bits=3 --sweeps=2 --stats m.qstats -o t.quern -f -q -t 3
ok "… on 3 threads: the same bytes" cmp -s swept.quern t.quern
ok "… which are others than without" eval '! cmp -s a.quern swept.quern'
ok "inspect says how many" eval '"$quern" inspect swept.quern | grep -q "grid bits=3 sweeps=2"'
run compress "$model" --codec=ect --bits=3 --sweeps=2 -o x.quern
ok "a trellis has no sweeps" fails 2 'sweeps does not go with the codec ect'
run compress "$model" --codec=grid --bits=3 --stats m.qstats -o r.quern --no-feedback --json
ok "without feedback" is 0

run compress "$model" --codec=ect --bits=2.5 --states=8 --stats m.qstats -o e.quern --json
ok "a trellis" is 0
ok "… JSON tells what was asked" out_has '"lossy": *"ect bits=2.5 .*states=8'
same_everywhere e.quern "decodes a trellis to the same"
run compress "$model" --codec=ect --bits=2 --states=8 --gain=1.05 -o gain.quern --json
ok "a trellis with a gain decodes to what was reckoned with" is 0
ok "… which the recipe tells" out_has '"lossy": *"ect bits=2 gain=1.05 states=8'
run compress "$model" --codec=ect --states=7 -o x.quern
ok "no such trellis" fails 2 '7 states'
run compress "$model" --codec=grid --states=8 -o x.quern
ok "a grid has no states" fails 2 'states does not go with the codec grid, only with ect'

run verify a.quern
ok "intact" out_has 'intact'
ok "… but an approximation" out_has 'are approximations'
run verify a.quern --against "$model"
ok "not the same as the model" is 1
run decompress a.quern -o back
ok "decompress" is 0
ok "… does not claim to be identical" out_has 'are approximations'
ok "… and never says so" sh -c '! grep -q "identical" out'
ok "other files are the same" cmp -s back/tokenizer.json "$model/tokenizer.json"
run verify a.quern --against back
ok "what was restored is what is packed" is 0
run inspect a.quern
ok "inspect shows codec and recipe" out_has 'grid bits=3'

run eval a.quern --data text.txt --against back --json
ok "packed and restored model predict the same" sh -c "grep -A1 '\"kl\": {' out | grep -q '\"value\": 0,'"

works pvq p.quern "points of pyramids" 'pvq .*points of pyramids'
run compress "$model" --codec=pvq --bits=6 -o x.quern
ok "… too many bits" fails 2 'allowed are 0.25 to'

works vq v.quern "centroids" 'vq .*centroids of vectors'
run compress "$model" --codec=vq --bits=2 --vector=8 --stats m.qstats -o v8.quern -q
ok "… of eight rows" is 0
run inspect v8.quern
ok "… as the recipe tells" out_has 'vq bits=2 vector=8'
run compress "$model" --codec=vq --bits=0.2 -o x.quern
ok "… too few bits" fails 2 'allowed are 0.25 to'
run compress "$model" --codec=vq --bits=2 --vector=3 -o x.quern
ok "… of three rows" fails 2 'allowed are 2, 4, 6'
works trellis f.quern "paths through a trellis" 'trellis .*paths through a trellis'
if [ -z "${QUERN_SANITIZED:-}" ]; then # minutes, with sanitizers
    QUERN_CPU=scalar "$quern" compress "$model" --codec=trellis --bits=2.25 --stats m.qstats -o t.quern -f -q
    ok "… and without vectors" cmp -s f.quern t.quern
fi
run compress "$model" --codec=trellis --bits=8.5 --head-bits=8 --embedding-bits=8 -o x.quern
ok "… too many bits" fails 2 'allowed are 0.25 to'
run compress "$model" --codec=trellis --bits=2 --window=9 -o x.quern
ok "… too short a window" fails 2 'window: found .9., allowed are'

# Recipes, plans, sizes.
cat >r.yaml <<END
codec: ect
bits: 3
embedding: {codec: grid, bits: 8}
tensors:
  - match: "*.down_proj.weight"
    codec: grid
    bits: 4
    group: 64
  - match: model.layers.0.*
    codec: lossless
END
run plan "$model" --recipe r.yaml --stats m.qstats
ok "a plan" is 0
ok "… says what a rule gives" out_has 'layers.1.mlp.down_proj.weight .*grid .*bits=4 group=64'
ok "… what stays as it is, and why" out_has 'layers.0.mlp.up_proj.weight: as asked for'
ok "… and the cost" out_has 'memory .*at most'
run plan "$model" --recipe r.yaml --json
ok "… as JSON" sh -c "\"$tool\" json schema=quern/plan/1 memory_bytes <out"
run compress "$model" --recipe r.yaml --stats m.qstats -o rec.quern --json
ok "compress by a recipe" is 0
ok "… keeps it in the output" out_has '"lossy": *"ect bits=3; embedding: grid bits=8; [*].down_proj.weight: grid bits=4 group=64; model.layers.0.[*]: lossless'
run inspect rec.quern
ok "… where inspect finds it" out_has 'embedding: grid bits=8'
run compress "$model" --recipe r.yaml --bits=2 -o x.quern -n
ok "the command line comes on top" out_has 'ect  .*trellis'
echo '  - {match: no.such.*, bits: 3}' >>r.yaml
run compress "$model" --recipe r.yaml -o x.quern
ok "a rule that matches nothing" fails 2 "line 11: 'no.such.[*]' matches none"
echo 'bits: [' >bad.yaml
run plan "$model" --recipe bad.yaml
ok "no YAML" fails 2 'bad.yaml: line'
run plan "$model" --recipe none.yaml
ok "no recipe" fails 5 'none.yaml'
run compress "$model" --size=90000 --stats m.qstats -o s.quern -q
ok "a size" is 0
ok "… is kept" test "$(wc -c <s.quern)" -le 90000
ok "… and used" test "$(wc -c <s.quern)" -ge 89000
run compress "$model" --bpw=3.5 --stats m.qstats --codec=pvq -o b.quern -q
ok "bits per weight of the whole file" test "$(wc -c <b.quern)" -le 113900 -a "$(wc -c <b.quern)" -ge 110000
run compress "$model" --size=90000 --codec=grid -o g.quern -q
ok "a size with whole bits" test "$(wc -c <g.quern)" -le 90000
run compress "$model" --size=9000 -o x.quern -q
ok "too small a size" fails 2 '9000 bytes are too few'
run compress "$model" --size=90000 --bits=3 -o x.quern
ok "a size and bits" fails 2 'give one of them'
run plan "$model" --size=90000
ok "a plan for a size" out_has 'budget'

run compress back --codec=grid --stats m.qstats -o x.quern
ok "statistics of another model" fails 2 'of another model'
run compress a.quern --codec=grid --bits=8 -o again.quern -q
ok "a .quern is a model like any other" is 0

finish
