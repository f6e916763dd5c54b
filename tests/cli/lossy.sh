#!/bin/sh
# compress --codec as a user meets it: calibrate, approximate, look, restore, measure. Arguments: the quern program, a small model
# folder. Speaks TAP; each `ok` states what should hold.
. "$(dirname "$0")/tap.sh"
quern=$(absolute "$1") model=$(absolute "$2")
scratch

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
for cpu in scalar avx2 avx512; do
    QUERN_CPU=$cpu "$quern" decompress a.quern -o back-$cpu -q 2>err || { err_has 'does not have\|has not' && continue; }
    [ -d back-scalar ] && ok "$cpu decodes to the same" diff -r back-scalar back-$cpu
done
run compress "$model" --codec=grid --bits=3 --stats m.qstats -o r.quern --no-feedback --json
ok "without feedback" is 0

run compress "$model" --codec=ect --bits=2.5 --states=8 --stats m.qstats -o e.quern --json
ok "a trellis" is 0
ok "… JSON tells what was asked" out_has '"lossy": *"ect bits=2.5 .*states=8'
for cpu in scalar avx2 avx512; do
    QUERN_CPU=$cpu "$quern" decompress e.quern -o ect-$cpu -q 2>err || { err_has 'does not have\|has not' && continue; }
    [ -d ect-scalar ] && ok "$cpu decodes a trellis to the same" diff -r ect-scalar ect-$cpu
done
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

run compress "$model" --codec=pvq --bits=2.25 --stats m.qstats -o p.quern
ok "points of pyramids" is 0
ok "… for the layers" out_has 'pvq .*points of pyramids'
run compress "$model" --codec=pvq --bits=2.25 --stats m.qstats -o t.quern -f -q -t 3
ok "… the same bytes on three threads" cmp -s p.quern t.quern
run verify p.quern
ok "… intact" out_has 'intact'
for cpu in scalar avx2 avx512; do
    QUERN_CPU=$cpu "$quern" decompress p.quern -o pvq-$cpu -q 2>err || { err_has 'does not have\|has not' && continue; }
    [ -d pvq-scalar ] && ok "… $cpu decodes to the same" diff -r pvq-scalar pvq-$cpu
done
run compress "$model" --codec=pvq --bits=6 -o x.quern
ok "… too many bits" fails 2 'allowed are 0.25 to'

run compress "$model" --codec=vq --bits=2.25 --stats m.qstats -o v.quern
ok "centroids" is 0
ok "… for the layers" out_has 'vq .*centroids of vectors'
run compress "$model" --codec=vq --bits=2.25 --stats m.qstats -o t.quern -f -q -t 3
ok "… the same bytes on three threads" cmp -s v.quern t.quern
run verify v.quern
ok "… intact" out_has 'intact'
for cpu in scalar avx2 avx512; do
    QUERN_CPU=$cpu "$quern" decompress v.quern -o vq-$cpu -q 2>err || { err_has 'does not have\|has not' && continue; }
    [ -d vq-scalar ] && ok "… $cpu decodes to the same" diff -r vq-scalar vq-$cpu
done
run compress "$model" --codec=vq --bits=2 --vector=8 --stats m.qstats -o x.quern -f -q
ok "… of eight rows" is 0
run inspect x.quern
ok "… as the recipe tells" out_has 'vq bits=2 vector=8'
run compress "$model" --codec=vq --bits=0.2 -o x.quern -f
ok "… too many bits" fails 2 'allowed are 0.25 to'
run compress "$model" --codec=vq --bits=2 --vector=3 -o x.quern -f
ok "… of three rows" fails 2 'allowed are 2, 4, 6'

run compress back --codec=grid --stats m.qstats -o x.quern
ok "statistics of another model" fails 2 'of another model'
run compress a.quern --codec=grid --bits=8 -o again.quern -q
ok "a .quern is a model like any other" is 0

finish
