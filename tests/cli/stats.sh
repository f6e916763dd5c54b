#!/bin/sh
# quern stats as a user meets it. Arguments: the quern program. Speaks TAP; each `ok` states what should hold.
. "$(dirname "$0")/tap.sh"
quern=$(absolute "$1")
scratch

# two entries of 2 and 1 columns, 5 calls; text "t.txt"
matrix() { # value of the second column
    printf '\002\000\000\000'
    printf '\023\000\000\000blk.0.attn_q.weight\005\000\000\000\002\000\000\000\000\000\200\077'"$1"
    printf '\025\000\000\000blk.0.ffn_down.weight\005\000\000\000\001\000\000\000\000\000\000\100'
    printf '\005\000\000\000\005\000\000\000t.txt'
}
matrix '\000\000\000\100' >a.dat
matrix '\000\000\200\100' >b.dat

run stats --import-imatrix a.dat -o a.qstats --dry-run
ok "dry run" is 0
ok "… says what it would do" out_has '^would write a.qstats: 2 tensors'
ok "… and does not" [ ! -e a.qstats ]
run stats --import-imatrix a.dat -o a.qstats
ok "import" is 0
ok "… leaves nothing beside it" [ "$(ls | tr '\n' ' ')" = "a.dat a.qstats b.dat err out " ]
run stats --import-imatrix a.dat -o a.qstats
ok "not over a file" fails 2 'exists: give --force'
run stats --import-imatrix a.dat -o a.qstats -f -q
ok "with --force it is" is 0
ok "quiet" [ ! -s out ]
run stats a.qstats
ok "list" out_has 'blk.0.attn_q.weight  *diagonal  *2  *5 '
ok "… with the text" out_has 'data: t.txt'
run stats a.qstats --check -T 'blk.*.ffn*'
ok "pattern and check" is 0
ok "… lists one" sh -c 'grep -q ffn_down out && ! grep -q attn_q out && grep -q "right checksums" out'
run stats a.qstats -T nothing
ok "a pattern for nothing" fails 2 "no tensor matches 'nothing'"
run stats a.qstats --json
ok "JSON" out_has '"schema": *"quern/stats/1"'
ok "… of entries" out_has '"name": *"blk.0.ffn_down.weight"'
run stats --import-imatrix a.dat -o h.qstats --arch llama
ok "names of Hugging Face" is 0
run stats h.qstats
ok "… are listed" out_has 'model.layers.0.mlp.down_proj.weight'
run stats h.qstats --export-imatrix h.dat
ok "export .dat" is 0
ok "… gives what came in" cmp -s h.dat a.dat
run stats h.qstats --export-imatrix h.gguf
ok "export .gguf" out_has '^h.gguf: 2 tensors'
run inspect h.gguf
ok "… is a GGUF file" out_has 'blk.0.attn_q.weight.in_sum2'
run stats h.qstats --export-imatrix h.bin
ok "another ending" fails 2 'ends with .gguf or .dat'
run stats --import-imatrix a.dat -o x --arch lama
ok "an architecture that is none" sh -c 'grep -q "not known" err && grep -q "^hint: known: llama" err'
run stats --import-imatrix b.dat -o b.qstats
run stats --merge a.qstats b.qstats -o ab.qstats
ok "merge" out_has 'ab.qstats: the sum of 2 files'
run stats --merge b.qstats a.qstats -o ba.qstats
ok "… in either order" cmp -s ab.qstats ba.qstats
run stats --merge a.qstats a.qstats -o aa.qstats
ok "not the same twice" fails 3 'count twice'
ok "… and nothing is left" [ -z "$(ls | grep '^aa')" ]
for line in "--merge a.qstats -o x" "--merge a.qstats b.qstats" "a.qstats -o x" "a.qstats --force" "a.qstats --arch llama" \
    "--merge --import-imatrix a.dat b.dat -o x" "--merge a.qstats b.qstats -o x --check" "a.qstats b.qstats --export-imatrix x.dat"; do
    # shellcheck disable=SC2086
    run stats $line
    ok "stats $line" fails 2 '^quern: stats: '
done
run stats a.dat
ok "not a statistics file" fails 3 'a.dat.*not a statistics file'
head -c 300 a.qstats >cut.qstats
run stats cut.qstats
ok "cut short" fails 3 'cut.qstats'
run stats none.qstats
ok "no such file" fails 5 'none.qstats'
printf 'abc' >short
run stats --import-imatrix short -o x
ok "an import of nothing" fails 3 'number of entries is missing'

finish
