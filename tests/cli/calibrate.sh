#!/bin/sh
# quern calibrate as a user meets it, on the trained model and the text of testdata. Arguments: the quern program, the tool beside
# this script, the testdata folder. Speaks TAP; each `ok` states what should hold.
. "$(dirname "$0")/tap.sh"
quern=$(absolute "$1") tool=$(absolute "$2") data=$(absolute "$3")
scratch
copy() { # a model folder to break
    rm -rf "$1" && cp -R "$data/stories260k-bf16" "$1" && chmod -R u+w "$1"
}

copy m
text=$data/tinystories-calib.txt
"$quern" compress m -q -o m.quern

# ---- what it writes ----
run calibrate m --data "$text" --context 128 --dry-run
ok "dry run" out_has '^would run 7,424 tokens in 8 batches through 7 blocks, and write m.qstats$'
ok "… writes nothing" [ ! -e m.qstats ]
run calibrate m --data "$text" --context 128
ok "calibrate" is 0
ok "… nothing on standard error" [ ! -s err ]
ok "… says what it wrote" out_has '^m.qstats: inputs of 36 tensors, .* from 7,424 tokens, in '
ok "… nothing beside it" sh -c '! ls | grep -q partial'
run calibrate m --data "$text" --context 128
ok "an existing file is kept" fails 2 'm.qstats: .*--force'
run calibrate m --data "$text" --context 128 -o other.qstats --json
ok "--json" "$tool" json schema=quern/calibrate/1 model=m output=other.qstats dry_run=false tokens=7424 sequences=58 blocks=7 \
    blocks_resumed=0 inputs=21 tensors=36 starved_experts=0 model_digest data_digest bytes peak_tensor_bytes seconds <out
ok "the same run gives the same bytes" cmp -s m.qstats other.qstats
run calibrate m/ --data "$text" --context 128 --force -q
ok "--force, and a slash behind the folder" cmp -s m.qstats other.qstats
ok "--quiet" sh -c '[ ! -s out ] && [ ! -s err ]'
run calibrate m.quern --data "$text" --context 128 -o packed.qstats -q
ok "of a lossless .quern file: the same bytes" cmp -s m.qstats packed.qstats
for t in 1 2 5; do
    run calibrate m --data "$text" --context 128 -t $t -qfo t.qstats
    ok "--threads $t: the same bytes" cmp -s m.qstats t.qstats
done
# 7.4 K tokens of 64 floats are 1.9 MB, more than a quarter of what the limit leaves for tensors: they go through a file
run calibrate m --data "$text" --context 128 -qfo t.qstats --memory 31M
ok "--memory: the same bytes" cmp -s m.qstats t.qstats
mkdir tmp && chmod 500 tmp
if [ "$(id -u)" -ne 0 ]; then
    TMPDIR=$dir/tmp run calibrate m --data "$text" --context 128 -qfo t.qstats --memory 31M
    ok "a temporary folder that cannot be written" fails 5 'tmp/quern-tmp'
fi
TMPDIR=$dir/none run calibrate m --data "$text" --context 128 -qfo t.qstats --memory 31M
ok "a temporary folder that is not there" fails 5 'none/quern-tmp.0: cannot be created'
TMPDIR=$dir run calibrate m --data "$text" --context 128 -qfo t.qstats --memory 31M
ok "a temporary folder that is" cmp -s m.qstats t.qstats
ok "… holds nothing afterwards" sh -c '! ls | grep -q quern-tmp'

# ---- what is in it ----
run stats m.qstats --check
ok "stats reads it" is 0
ok "… checksums" out_has 'right checksums'
ok "… what every weight saw: all tokens" [ "$(grep -c ' 7424 ' out)" -eq 36 ]
ok "… the data" out_has 'data: tinystories-calib.txt'
run stats m.qstats --export-imatrix m.gguf
ok "llama.cpp's importance matrix" out_has '^m.gguf: 36 tensors'
run calibrate m --data "$text" --context 128 --diagonal -o d.qstats -q
run stats d.qstats
ok "--diagonal" sh -c 'grep -q diagonal out && ! grep -q " H  *64" out'
ok "… is smaller" [ "$(wc -c <d.qstats)" -lt 70000 ]
run calibrate m --data "$text" --context 128 --wide 100 -o w.qstats -q
run stats w.qstats
ok "--wide" sh -c '[ "$(grep -c diagonal out)" -eq 5 ] && [ "$(grep -c " H  *64 " out)" -eq 31 ]'
run calibrate m --data "$text" --documents --context 256 -o doc.qstats --json
ok "--documents" "$tool" json sequences=24 <out
run calibrate m --data "$text" --chunks 2 --context 128 -o two.qstats --json
ok "--chunks" "$tool" json sequences=2 tokens=256 <out

# ---- what errors cost ----
run calibrate m --data "$text" --context 128 --sensitivity=1 -o s.qstats
ok "--sensitivity" out_has '^sensitivities of 36 weights$'
run stats s.qstats
ok "… stats shows them" out_has 'worst/rms  *sensitivity'
run calibrate m --data "$text" --context 128 --sensitivity=1 --from m.qstats -o later.qstats -t 1 --json
ok "--from: later, into a file that was there" "$tool" json sensitivities=36 tensors=36 <out
sensitivities() { "$quern" stats "$1" --json | grep -A1 '"name"\|"sensitivity' | grep -v '"input"'; }
sensitivities s.qstats >a && sensitivities later.qstats >b
ok "… gives the same, for any number of threads" cmp -s a b
ok "… of every weight" [ "$(grep -c '"sensitivity":' a)" -eq 36 ]
run stats s.qstats --check
ok "… checksums" out_has 'right checksums'
run calibrate m --data "$text" --chunks 2 --context 128 -o pair.qstats -q
run stats --merge s.qstats pair.qstats -o sum.qstats
ok "merging keeps them" sh -c "$quern stats sum.qstats | grep -q sensitivity"
run calibrate m --data "$text" --sensitivity=1 --from two.qstats -o m.qstats
ok "an existing file is kept" fails 2 'm.qstats: .*--force'
run calibrate m --data "$text" --from m.qstats -o x
ok "--from alone" fails 2 'goes with --sensitivity'
run calibrate m --inputs none.npz --sensitivity -o x
ok "sensitivity of arrays" fails 2 'language models'

# ---- behind compressed weights ----
run calibrate m --data "$text" --context 128 --through m.quern -o t.qstats -qf
ok "--through a lossless copy" is 0
run calibrate m --data "$text" --context 128 --sequential --codec=grid --bits=3 -o seq.qstats -q
ok "--sequential" is 0
run stats seq.qstats
ok "… says so" out_has 'sequential: grid bits=3'
run calibrate m --data "$text" --context 128 --sequential --codec=grid --bits=3 -o seq1.qstats -q -t 1
ok "… the same for any number of threads" cmp -s seq.qstats seq1.qstats
run compress m --codec=grid --bits=3 --stats seq.qstats -o three.quern -q
ok "… compress takes it" is 0
run calibrate m --data "$text" --context 128 --through three.quern -o thr.qstats -q
ok "--through what it made" is 0
run stats thr.qstats
ok "… says so" out_has 'through: [0-9a-f]*$'
run calibrate m --data "$text" --context 128 --chunks 4 --through three.quern --sensitivity=1 -o thr.qstats -f
ok "… with sensitivities" out_has '^sensitivities of 36 weights$'
copy other && printf '\1' | dd of=other/model.safetensors bs=1 seek=524990 conv=notrunc 2>/dev/null
run calibrate other --data "$text" --context 128 --through three.quern -o x
ok "through a copy of another model" fails 2 'three.quern: was not packed from this model'
run calibrate m --data "$text" --sequential -o x
ok "--sequential without bits" fails 2 'needs --bits'
run calibrate m --data "$text" --bits 3 -o x
ok "bits without --sequential" fails 2 'go with --sequential'
run calibrate m --data "$text" --sequential --size 1M -o x
ok "--sequential with a size" fails 2 'needs bits, not a size'

# ---- what cannot be ----
run calibrate m
ok "no data" fails 2 'either --data TEXT or --inputs ARRAYS'
run calibrate m --inputs none.npz -o x
ok "no such arrays" fails 5 'none.npz'
run calibrate m --inputs "$text" -o x --documents
ok "--documents of arrays" fails 2 'says how a text is cut'
printf 'Once' >short.txt
run calibrate m --data short.txt -o x
ok "too short a text" fails 3 'one chunk of --context needs 512'
run calibrate m --data "$text" -o nowhere/x
ok "no such folder" fails 5 'nowhere'
run calibrate m --data "$text" -o x --memory 20M
ok "too little memory" fails 6 '--memory leaves no room: at least'
copy nan && printf '\300\177' | dd of=nan/model.safetensors bs=1 seek=524990 conv=notrunc 2>/dev/null
run calibrate nan --data "$text" -o x
ok "a NaN among the weights" fails 3 "^quern: nan: tensor '.*': its input is NaN"
rm -f x.partial
copy foreign && sed -i 's/LlamaForCausalLM/OtherForCausalLM/;s/"model_type": "llama"/"model_type": "other"/' foreign/config.json
run calibrate foreign --data "$text" -o x
ok "an architecture that is not known" fails 4 'is not known'
ok "… and nothing was written" sh -c '! ls | grep -q "^x"'

# ---- stopped, and gone on with ----
# Killed processes tell sanitizers nothing, and start slowly with them.
signals='KILL INT TERM'
[ -z "${QUERN_SANITIZED:-}" ] || signals=
if [ "$signals" ]; then
    for i in 1 2 3 4 5 6 7 8 9 10 11 12; do cat "$text"; done >long.txt
    run calibrate m --data long.txt --context 128 -o whole.qstats -q
fi
for signal in $signals; do
    stopped= resumed=0
    for after in 0.2 0.4 0.6 0.9 1.3 2 3 4 6; do
        rm -f part.qstats*
        timeout -s $signal $after "$quern" calibrate m --data long.txt --context 128 -o part.qstats -t 1 >out 2>err
        rc=$?
        [ -f part.qstats ] && break # too late
        [ -f part.qstats.partial ] || continue
        "$quern" calibrate m --data long.txt --context 128 -o part.qstats --json -t 2 >json 2>/dev/null || continue
        resumed=$(sed -n 's/.*"blocks_resumed": \([0-9]*\),/\1/p' json)
        if [ "${resumed:-0}" -gt 0 ]; then
            stopped=1
            break
        fi
    done
    if [ -z "$stopped" ]; then
        echo "# SIG$signal: no run was stopped between its first block and its last"
        continue
    fi
    if [ $signal != KILL ]; then
        ok "SIG$signal: one line, and how to go on" sh -c 'grep -q "^quern: .*interrupted" err && grep -q "^hint: .*part.qstats.partial" err'
    fi
    ok "SIG$signal: $resumed blocks were kept, and the file is that of a run that was not stopped" cmp -s part.qstats whole.qstats
    ok "… nothing is left" sh -c '! ls | grep -q partial'
done
# a run that fails behind its first blocks leaves them; another run must not go on from there
run calibrate nan --data "$text" -o p.qstats
if [ -f p.qstats.partial ]; then
    run calibrate m --data "$text" -o p.qstats
    ok "what another model has left is not gone on with" fails 2 'p.qstats.partial'
    run calibrate m --data "$text" -o p.qstats --restart -q
    ok "… --restart begins anew" is 0
fi

finish
