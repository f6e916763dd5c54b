#!/bin/sh
# The command line as a user meets it. Arguments: the quern program, the tool beside this script, the testdata folder.
# Speaks TAP. Commands run in a scratch folder; each `ok` states what should hold.
. "$(dirname "$0")/tap.sh"
quern=$(absolute "$1") tool=$(absolute "$2") data=$(absolute "$3")
scratch

cp -R "$data/stories260k-bf16" m && chmod -R u+w m && cp m/model.safetensors w.safetensors
"$tool" model 4 big.safetensors

# ---- help, man, completion say the same ----
run
ok "no command" fails 2 'a command is missing'
run --help
ok "overview" is 0
ok "overview names the commands" out_has 'decompress'
for c in $(sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' out); do
    run help "$c"
    cp out help.txt
    ok "help $c" is 0
    ok "help $c fits 80 columns" sh -c '! grep -q "^.\{81\}" help.txt'
    run "$c" --help
    ok "$c --help is the same" cmp -s out help.txt
    run __man "$c"
    cp out man.txt
    run __complete bash
    sed -n "/^        $c) /p" out >bash.txt
    run __complete fish
    grep "from $c'" out >fish.txt
    run __complete zsh
    sed -n "/^        $c)/,/;;/p" out >zsh.txt
    missing=
    for o in $(sed -n 's/^ *\(-[a-zA-Z], \)\{0,1\}--\([a-z-]*\).*/\2/p' help.txt); do
        roff=$(echo "$o" | sed 's/-/\\\\-/g')
        grep -q -e "--$o" bash.txt && grep -q -e "-l $o" fish.txt && grep -q -e "--$o" zsh.txt &&
            grep -q -e "\\\\-\\\\-$roff" man.txt || missing="$missing $o"
    done
    ok "every option of $c is in man page and completions:$missing" [ -z "$missing" ]
done
run __complete bash
ok "bash can read its completion" bash -n out
run version -q
ok "version" grep -qx 'quern [0-9.]*' out
run version --json
ok "version --json" "$tool" json schema=quern/version/1 compiler zstd <out

# ---- the line ----
run comprss w.safetensors
ok "unknown command" fails 2 "unknown command 'comprss'"
ok "… with a suggestion" err_has "hint: did you mean 'compress'?"
run compress --outptu x w.safetensors
ok "unknown option" fails 2 "unknown option '--outptu'"
ok "… with a suggestion" err_has 'did you mean --output?'
run compress
ok "missing operand" fails 2 'the checkpoint to pack is missing'
run compress w.safetensors extra
ok "operand too many" fails 2 "'extra' is one argument too many"
run compress w.safetensors -o
ok "missing value" fails 2 'needs a value'
run compress w.safetensors --force=yes
ok "value for a flag" fails 2 'takes no value'
run compress w.safetensors -o a -o b
ok "given twice" fails 2 'given twice'
run compress w.safetensors --lossless=tiny
ok "unknown choice" fails 2 "'tiny' found, allowed is fast, dense or max"
for v in 0 -1 x 1.5 99999999999999999999; do
    run compress w.safetensors --threads=$v
    ok "--threads $v" fails 2 "'$v' found"
done
for v in 2Q 1..5G '' 99999999P 5; do
    run compress w.safetensors --memory="$v"
    ok "--memory '$v'" fails 2 "'$v' found"
done
run compress w.safetensors -o mem.quern --memory 1M
ok "over the memory limit" fails 6 'at least .* MiB are needed'
for v in 64M 0.5GiB 100MB 67108864; do
    run compress w.safetensors --dry-run -qm $v
    ok "--memory $v" is 0
done
run compress -q -o -- -- w.safetensors
ok "an option's value may be '--'" is 0
ok "… and names the file" [ -f ./-- ]
cp w.safetensors ./-w
run compress -qn -- -w
ok "'--' ends options" is 0

# ---- tokenize ----
mkdir tok
cat >tok/tokenizer.json <<'END'
{"added_tokens":[{"id":0,"content":"<s>","special":true}],
 "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}},{"Sequence":{"id":"A"}}],
  "special_tokens":{"<s>":{"ids":[0]}}},
 "decoder":{"type":"Fuse"},
 "model":{"type":"BPE","unk_token":"<s>","vocab":{"<s>":0,"a":1,"b":2,"ab":3,"\n":4},"merges":["a b"]}}
END
run tokenize tok --text abba
ok "tokenize prints tokens" out_has '^ *3  ab$'
ok "… and how many" out_has '^4 tokens of 4'
run tokenize tok --text abba --ids
ok "… --ids" grep -qx '0 3 2 1' out
run tokenize tok/tokenizer.json --text abba --ids --no-special
ok "… --no-special" grep -qx '3 2 1' out
run tokenize tok --text 'a<s>' --ids --plain
ok "… --plain" grep -qx '0 1 0 0 0' out
run tokenize tok --text abba --count
ok "… --count" grep -qx 4 out
run tokenize tok --text abba --json
ok "… --json" "$tool" json schema=quern/tokenize/1 count=4 bytes=4 vocabulary=5 kind=BPE <out
printf 'ab\nb' >t.txt
run tokenize tok t.txt -o t.npy
ok "… -o" is 0
ok "… a numpy array" [ "$(wc -c <t.npy)" -eq 144 ]
cp t.npy t0.npy
run tokenize tok t.txt -o t.npy
ok "… does not overwrite" fails 2 'exists'
run tokenize tok t.txt -o other.npy -n
ok "… dry run writes nothing" sh -c '[ ! -e other.npy ] && grep -q "would write" out'
run tokenize tok t.txt -o t.npy -qf
ok "… --force" cmp -s t.npy t0.npy
run tokenize tok t.npy --decode --no-special
ok "… --decode of an array" cmp -s out t.txt
run tokenize tok --text '3 2 1' --decode
ok "… --decode of numbers" [ "$(cat out)" = abba ]
"$quern" tokenize tok --ids <t.txt >out 2>err; rc=$?
ok "… standard input" grep -qx '0 3 4 2' out
run tokenize tok --text '3 9' --decode
ok "… an id that is none" fails 3 'id 9'
run tokenize tok --text '3 x' --decode
ok "… no number" fails 3 'byte 0x78'
run tokenize tok t.txt --text a
ok "… two texts" fails 2 'do not go together'
run tokenize tok t.txt --decode -o x.npy
ok "… --decode with -o" fails 2 'do not go with it'
run tokenize w.safetensors --text a
ok "… a checkpoint without a tokenizer" fails 4 'holds no tokenizer'
run tokenize nothing --text a
ok "… no such model" fails 5 'nothing'
run compress m -o mt.quern -q
run tokenize mt.quern --text 'Once upon a time' --ids
ok "… of a packed folder" grep -qx '1 403 407 261 378' out
run tokenize m --text 'Once upon a time' --ids
ok "… as of the folder" grep -qx '1 403 407 261 378' out
rm mt.quern

# ---- compress, verify, decompress ----
run compress w.safetensors
ok "compress" is 0
ok "… says what was saved" out_has 'of the original'
ok "… and that it was verified" out_has 'verified'
ok "… nothing on standard error" [ ! -s err ]
ok "… default name" [ -f w.safetensors.quern ]
ok "… nothing else left" sh -c '! ls | grep -q -e partial -e journal'
run compress w.safetensors
ok "an output that exists is kept" fails 2 'give --force'
run compress w.safetensors --force --json
ok "--force --json" "$tool" json schema=quern/compress/1 dry_run=false source_bytes=524992 packed_bytes tensors=47 \
    weights=260032 bits_per_weight codecs dtypes tied verified=true <out
run compress w.safetensors -o q.quern --quiet
ok "--quiet" sh -c '[ ! -s out ] && [ ! -s err ]'
ok "… the same bytes" cmp -s q.quern w.safetensors.quern
run compress w.safetensors -o t1.quern -qt 1
ok "threads change nothing" cmp -s q.quern t1.quern
run decompress q.quern -o back.safetensors
ok "decompress" is 0
ok "… the same file" cmp -s back.safetensors w.safetensors
run decompress q.quern -o back.safetensors
ok "… an output that exists is kept" fails 2 'give --force'
run decompress q.quern -o back.safetensors -f --json
ok "… --json" "$tool" json schema=quern/decompress/1 bytes=524992 files=1 intact=true damaged_count=0 <out
run decompress q.quern
ok "… default name" cmp -s q w.safetensors
run compress m/ -q
ok "a folder" [ -f m.quern ]
run decompress m.quern -q -o m2
ok "… restored" diff -r m m2
run verify m.quern
ok "verify" is 0
run verify m.quern --json
ok "verify --json" "$tool" json schema=quern/verify/1 tensors=47 files=4 checksums=true intact=true <out
run verify m.quern --against m
ok "verify --against" is 0
"$tool" flip m2/model.safetensors 300000
run verify m.quern --against m2
ok "different" is 1
ok "… the tensor is named" out_has "tensor 'model.*' at byte 0x"
ok "… no error line" [ ! -s err ]
run verify m2 --against m --json
ok "different --json" "$tool" json equal=false different_count=1 checksums=false <out
run verify m.quern --against m2 -q
ok "different --quiet" sh -c '[ ! -s out ] && [ ! -s err ]'
ok "… exits with 1" is 1
run verify m
ok "verify without checksums" fails 2 'not a .quern file'
run decompress w.safetensors -o x
ok "decompress of something else" fails 2 'not a .quern file'
cp w.safetensors tuned.safetensors && "$tool" flip tuned.safetensors 400000
run compress tuned.safetensors --base w.safetensors -q -o tuned.quern
ok "compress --base" is 0
run decompress tuned.quern --base w.safetensors -q -o tuned2
ok "decompress --base" cmp -s tuned2 tuned.safetensors

# ---- damage ----
cp q.quern bad.quern && "$tool" flip bad.quern 200000
run verify bad.quern
ok "damage" is 3
ok "… is listed" out_has '^damaged: bad.quern: tensor'
run verify bad.quern --json
ok "damage --json" "$tool" json intact=false damaged_count=1 <out
run decompress bad.quern -o lost
ok "damage ends decompress" fails 3 'checksum'
ok "… and leaves nothing" sh -c '! ls -d lost* >/dev/null 2>&1'
run decompress bad.quern -o lost --salvage
ok "salvage exits with 3" is 3
ok "… and writes what is left" [ "$(wc -c <lost)" -eq 524992 ]
head -c 100000 q.quern >cut.quern
run verify cut.quern
ok "cut short" fails 3 'cut.quern at byte'
echo hello >text
run compress text
ok "not a checkpoint" fails 3 'not a checkpoint'
run compress none.safetensors
ok "no such file" fails 5 'none.safetensors: .*No such file'
if [ "$(id -u)" -ne 0 ]; then
    cp w.safetensors secret.safetensors && chmod 0 secret.safetensors
    run compress secret.safetensors
    ok "unreadable file" fails 5 'Permission denied'
fi
run compress w.safetensors -o nowhere/x.quern
ok "no such folder" fails 5 'No such file'
printf '\050\265\057\375\000\000\000\000\000\000\000\000' >x.zst
run compress x.zst
ok "a damaged packed file" fails 3 'zstd data are cut or damaged'

# ---- archives that hold a model ----
tar -cf b.tar m
gzip -c b.tar >b.tar.gz
for b in b.tar b.tar.gz; do
    run inspect $b
    ok "inspect $b" out_has 'hf, 47 tensors'
    run compress $b --force
    ok "compress $b" is 0
    ok "… says what is kept" err_has 'note: the files in the archive are packed'
    ok "… under the name of a folder" [ -f b.quern ]
    run verify b.quern --against $b
    ok "… is the archive's content" is 0
    run verify b.quern --against m
    ok "… and the folder's" is 0
    run diff $b m
    ok "diff $b with the folder" is 0
    rm -rf b
    run decompress b.quern
    ok "… gives the folder back" diff -r b m
done
gzip -c w.safetensors >w2.safetensors.gz
run compress w2.safetensors.gz
ok "a packed file takes its own name" [ -f w2.safetensors.quern ]
run compress b.tar -o b.tar
ok "an archive is not overwritten" fails 2 'exists'
cp b.tar y.quern.partial
run compress y.quern.partial -o y.quern
ok "… nor on the way" sh -c 'grep -q "is an input" err && cmp -s b.tar y.quern.partial'
rm y.quern.partial
head -c 100000 b.tar >cut.tar
run inspect cut.tar
ok "a cut archive" fails 3 'cut.tar at byte .*the archive is cut'
ln -s w.safetensors m/link.safetensors && tar -cf link.tar m && rm m/link.safetensors
run inspect link.tar
ok "a symlink in an archive" fails 4 "'m/link.safetensors' is a symlink"
mkdir bomb && head -c 400000000 /dev/zero >bomb/a.safetensors && tar -C bomb -cf - a.safetensors | gzip -9 >bomb.tar.gz && rm -r bomb
mkdir tmpdir
TMPDIR=$dir/tmpdir run inspect bomb.tar.gz
ok "a bomb" fails 4 'unpacks to more than'
ok "… leaves nothing behind" rmdir tmpdir
TMPDIR=$dir/nowhere run inspect bomb.tar.gz
ok "no room for what is unpacked" fails 5 'nowhere/quern-'
rm bomb.tar.gz b.quern

# ---- nothing is written that should not be ----
: >before >after
ls >before
run compress w.safetensors -o dry.quern --dry-run
ok "dry run" is 0
ok "… says so" out_has 'nothing was written'
run decompress m.quern -o dry -n
ok "dry run of decompress" is 0
run compress w.safetensors -o q.quern --dry-run
ok "a dry run refuses what the run would" fails 2 'give --force'
ls >after
ok "… and nothing was written" cmp -s before after
cp w.safetensors in && ln in hard && ln -s in sym
run compress in -o in
ok "input as output" fails 2 'give --force'
run compress in -o hard -q
ok "… by a hard link" fails 2 'give --force'
run compress in -o sym -q --force
ok "… by a symlink, forced" is 0
ok "… the input is what it was" cmp -s in w.safetensors
run compress in -o in -qf
ok "in place" is 0
ok "… the other name is untouched" cmp -s hard w.safetensors
run decompress in -o in -qf
ok "… and back" cmp -s in w.safetensors
cp w.safetensors z.partial
run compress z.partial -o z --restart
ok "an input is not taken for a partial output" fails 2 'is an input'
ok "… and is intact" cmp -s z.partial w.safetensors
cp q.quern z.quern-unpack
run decompress z.quern-unpack -o z
ok "an input is not taken for a temporary" fails 2 'in the way'
ok "… and is intact" cmp -s z.quern-unpack q.quern
run compress m -o m/inside.quern
ok "not inside the folder that is packed" fails 2 'lies in the folder'
echo mine >y.partial
run compress w.safetensors -o y
ok "a stranger's partial file is kept" fails 2 'not ours'
ok "… as it was" [ "$(cat y.partial)" = mine ]

# ---- standard output ----
if [ -w /dev/full ]; then
    "$quern" help >/dev/full 2>err
    rc=$?
    : >out
    ok "full disk behind standard output" fails 5 'standard output: cannot be written'
fi
{ "$quern" help compress 2>err; echo $? >status; } | :
sleep 0.1
ok "closed pipe is quiet" [ ! -s err ]
"$quern" version >&- 2>err
rc=$?
: >out
ok "closed standard output" is 5
"$quern" compress w.safetensors -o c.quern >&- 2>err
rc=$?
ok "… is not where a file goes" is 5
run verify c.quern --against w.safetensors
ok "… which is whole" is 0
run compress big.safetensors -o p.quern --progress
ok "progress goes to standard error" err_has 'compressing'
ok "… without control characters" sh -c '! grep -q "$(printf "\033")" err'
run compress m -nf --color=always
ok "colour when asked for" out_has "$(printf '\033')"
run compress m -nf
ok "no colour without a terminal" sh -c '! grep -q "$(printf "\033")" out'

# ---- signals: work is kept, and the same command goes on ----
"$tool" model 40 long.safetensors
run compress long.safetensors -q -o whole.quern
gzip -1 <long.safetensors >long.gz
mkdir tmpdir
TMPDIR=$dir/tmpdir run verify whole.quern --against long.gz
ok "more than fits into the memory for archives goes into a temporary file" is 0
ok "… that leaves nothing" rmdir tmpdir
stopped=
for signal in INT TERM; do
    expect=130
    [ $signal = TERM ] && expect=143
    for after in 0.02 0.05 0.1 0.2 0.4 0.8 1.6 3.2; do
        rm -f part.quern*
        timeout --preserve-status -s $signal $after "$quern" compress long.safetensors -t 1 -o part.quern >out 2>err
        rc=$?
        [ -f part.quern.journal ] && break
    done
    if [ -f part.quern.journal ]; then
        stopped=1
        ok "SIG$signal: status $expect" is $expect
        ok "… one line, and how to go on" sh -c 'grep -q "^quern: .*interrupted" err && grep -q "^hint: " err'
        ok "… nothing under the final name" [ ! -e part.quern ]
        run compress long.safetensors -o part.quern --json
        ok "… resumed" "$tool" json verified=true chunks_resumed <out
        ok "… to the same bytes" cmp -s part.quern whole.quern
        ok "… and tidied up" sh -c '! ls | grep -q "^part.quern\\.[pj]"'
    fi
done
ok "a run could be stopped" [ -n "$stopped" ]

finish
