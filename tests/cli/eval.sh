#!/bin/sh
# quern eval and inspect --graph as a user meets them, on the trained model and the texts of testdata. Arguments: the quern program,
# the tool beside this script, the testdata folder. Speaks TAP; each `ok` states what should hold.
. "$(dirname "$0")/tap.sh"
quern=$(absolute "$1") tool=$(absolute "$2") data=$(absolute "$3")
scratch
# The figures alone: what does not depend on the model's name, on memory or on time.
figures() { grep -v -e '"model"' -e '"seconds"' -e '"peak_tensor_bytes"' out; }
value() { # of "value" in the object of that key, which stands on the next line
    sed -n "/\"$1\": {/{n;s/.*: \([-0-9.e]*\),*/\1/p;q}" out
}
copy() { # a model folder to break
    rm -rf "$1" && cp -R "$data/stories260k-bf16" "$1" && chmod -R u+w "$1"
}
npy() { # file, dtype, shape; then the bytes on standard input
    head=$(printf "{'descr': '%s', 'fortran_order': False, 'shape': %s, }" "$2" "$3")
    { printf '\223NUMPY\001\000\166\000%-117s\n' "$head" && cat; } >"$1"
}

copy m
text=$data/tinystories-eval.txt
"$quern" compress m -q -o m.quern

# ---- what it says ----
run eval m --data "$text" --context 128
ok "eval" is 0
ok "… nothing on standard error" [ ! -s err ]
# llama.cpp on the same weights as a BF16 GGUF file, the same text and cuts: 5.5223, and the right token first in 60.942 %
ok "… the perplexity, with its interval" out_has '^  perplexity  *5\.52..  *4\..... to 6\.....$'
ok "… how often the right token is first" out_has '^  right token first  *60\.94. %'
ok "… from which text" out_has '61 chunks of 128 tokens, 3,843 scored (second half of each)$'
run eval m --data "$text" --context 128 --json
cp out dense.json
figures >dense
ok "--json" "$tool" json schema=quern/eval/1 family=llama vocabulary=512 tokenizer=BPE unit=chunk context=128 n_chunks=61 \
    tokens_fed=7747 tokens_scored=3843 tokens_left_out=102 tokens_digest perplexity nll top1 chunks seconds against <out
ok "… the same perplexity" [ "$(value perplexity | cut -c1-4)" = 5.52 ]
run eval m --data "$text" -q
ok "--quiet" sh -c '[ ! -s out ] && [ ! -s err ]'

# ---- a lossless file is the model ----
run eval m.quern --data "$text" --context 128 --json
figures >packed
ok "from .quern: the same digits, and the same tokens" cmp -s dense packed
for t in 1 2 5; do
    run eval m --data "$text" --context 128 --json --threads $t
    figures >threads
    ok "--threads $t: the same digits" cmp -s dense threads
done
run eval m --data "$text" --context 128 --json --memory 31M
figures >small
ok "--memory: the same digits" cmp -s dense small
run eval m.quern --data "$text" --context 128 --against m --layers --json
ok "--against itself" is 0
ok "… no divergence" [ "$(value kl)" = 0 ]
ok "… the same token first" [ "$(value same_top1)" = 1 ]
ok "… a ratio of one" [ "$(value perplexity_ratio)" = 1 ]
ok "… no layer differs" [ "$(grep -c '"rel_rms": 0,' out)" -eq 6 ]
ok "… its own perplexity" [ "$(value perplexity)" = "$(sed -n '/"perplexity": {/{n;s/.*: \(.*\),/\1/p;q}' dense.json)" ]
copy tuned && "$tool" flip tuned/model.safetensors 200001
run eval tuned --data "$text" --context 128 --against m --layers --json
ok "--against another" is 0
ok "… some divergence" sh -c 'case $1 in 0 | -* | "") false ;; *) true ;; esac' - "$(value kl)"
run eval tuned --data "$text" --context 128 --against m --layers
ok "… as text" out_has 'mean KL divergence, nats'
ok "… by layer" out_has '^  layers.4  *[0-9.]*e-'

# ---- how text is cut ----
run eval m --data "$text" --documents --context 256 --json
ok "--documents" "$tool" json unit=document n_chunks=24 tokens_scored=5835 <out
run eval m --data "$text" --score all --context 128 --json
ok "--score all" "$tool" json unit=chunk tokens_scored=7747 <out
run eval m --data "$text" --chunks 3 --context 128 --json
ok "--chunks" "$tool" json n_chunks=3 tokens_scored=189 <out
run eval m --data "$text" --chunks 300 --context 128
ok "more chunks than there are" err_has 'note: the data has 61 chunks, not 300'
run eval m --data "$text" --context 1024
ok "a context that the model was not made for" err_has 'warning: the model was made for 512 tokens'
printf '%s\n' '{"text":"Once upon a time there was a dog."}' '' '{"id":1,"text":"The cat sat."}' >d.jsonl
run eval m --data d.jsonl --json
ok "JSON lines" "$tool" json unit=document n_chunks=2 <out
printf '{"story":"The cat sat."}\n' >e.jsonl
run eval m --data e.jsonl --field story --json
ok "… --field" "$tool" json n_chunks=1 <out
run eval m --data e.jsonl
ok "… of which there is none" fails 3 'e.jsonl at byte 0x0: line 1 has no string "text"'
printf '{"text":"a' >f.jsonl
run eval m --data f.jsonl
ok "… that are none" fails 3 'line 1 is no JSON'
run tokenize m "$text" -o all.npy -q
run eval m --data all.npy --context 128 --json
cp out tokens.json
ok "tokens as .npy" "$tool" json tokenizer n_chunks=61 <out
printf '\001\000\005\000\001\000\006\000\001\000\007\000' | npy rows.npy '<u2' '(3, 2)'
run eval m --data rows.npy --json
ok "… a chunk in each row" "$tool" json unit=chunk n_chunks=3 context=2 tokens_scored=3 <out
run eval m --data rows.npy --documents --json
ok "… a document in each row" "$tool" json unit=document n_chunks=3 <out
run eval m --data all.npy --documents
ok "… one row has no documents" fails 2 'no documents'

# ---- what cannot be ----
run eval m
ok "no data" fails 2 'either --data TEXT or --inputs ARRAYS'
run eval m --data "$text" --inputs rows.npy
ok "two kinds of data" fails 2 'either --data TEXT or --inputs ARRAYS'
run eval m --data "$text" --layers
ok "--layers without a reference" fails 2 'give --against MODEL'
for c in 0 1 x 99999999; do
    run eval m --data "$text" --context $c
    ok "--context $c" fails 2 "'$c' found, allowed is a whole number"
done
printf 'Once upon a time' >short.txt
run eval m --data short.txt
ok "a text shorter than a chunk" fails 3 'short.txt: the text has 5 tokens; one chunk of --context needs 512'
: >empty.txt
run eval m --data empty.txt
ok "an empty text" fails 3 'empty.txt: the text has 1 token; '
run eval m --data empty.txt --documents
ok "an empty document" fails 3 'no document has two tokens'
run eval m --data none.txt
ok "no such text" fails 5 'none.txt: cannot be opened'
run eval none --data "$text"
ok "no such model" fails 5 'none'
run eval m --data "$text" --tokenizer none.json
ok "no such tokenizer" fails 5 'none.json'
printf '\001\000\000\002' | npy big.npy '<u2' '(1, 2)'
run eval m --data big.npy
ok "a token that the model does not have" fails 3 "big.npy: token 512 at place 1; the model's vocabulary has 512"
printf '\377\377\377\377\001\000\000\000' | npy neg.npy '<i4' '(1, 2)'
run eval m --data neg.npy
ok "a negative token" fails 3 'neg.npy: element 0 is no token id'
printf '\000\000\200\077\000\000\200\077' | npy real.npy '<f4' '(1, 2)'
run eval m --data real.npy
ok "tokens that are no integers" fails 3 'one array of integers of rank 1 or 2'
run eval m/model.safetensors --data all.npy
ok "tensors without a meaning" fails 4 'a config.json beside them'
run eval m --data "$text" --memory 20M
ok "too little memory" fails 6 '--memory leaves no room: at least 31 MiB'
copy nan && printf '\300\177' | dd of=nan/model.safetensors bs=1 seek=524990 conv=notrunc 2>/dev/null
run eval nan --data "$text"
ok "a NaN among the weights" fails 3 "nan: the model's logits are not finite"
run eval m --data "$text" --against nan
ok "… of the reference" fails 3 "logits are not finite"
copy gone && LC_ALL=C sed -i 's/layers\.3\.mlp\.up_proj/layers.3.mlp.xx_proj/' gone/model.safetensors
run eval gone --data "$text"
ok "a tensor that is missing" fails 3 "tensor 'model.layers.3.mlp.up_proj.weight': the model needs this tensor"
copy wide && sed -i 's/"hidden_size": 64/"hidden_size": 128/' wide/config.json
run eval wide --data "$text"
ok "a configuration that the tensors contradict" fails 3 'shape (512, 64): (512, 128) is expected by the configuration'
copy foreign && sed -i 's/LlamaForCausalLM/OtherForCausalLM/;s/"model_type": "llama"/"model_type": "other"/' foreign/config.json
run eval foreign --data "$text"
ok "an architecture that is not known" fails 4 'the architecture "OtherForCausalLM" is not known'
copy shallow && sed -i 's/"num_hidden_layers": 5/"num_hidden_layers": 4/' shallow/config.json
run eval shallow --data "$text"
ok "tensors that are not used are named" err_has 'warning: 9 tensors that a llama model does not use: model.layers.4'
run eval shallow --data "$text" --against m --layers -q
ok "--layers of models with other layers" sh -c 'grep -q "the model has 6 blocks, its reference 7" err && [ ! -s out ]'
copy many && sed -i 's/"vocab_size": 512/"vocab_size": 500/' many/config.json
run eval many --data "$text"
ok "another size of vocabulary" fails 3 'expected by the configuration'

# ---- arrays ----
arrays() { # file, name of the first array
    h='{"'$2'":{"dtype":"I64","shape":[4],"data_offsets":[0,32]},"starts":{"dtype":"I64","shape":[2],"data_offsets":[32,48]}}'
    { printf "\\$(printf %o ${#h})\\000\\000\\000\\000\\000\\000\\000%s" "$h"
    printf '\001\000\000\000\000\000\000\000\003\000\000\000\000\000\000\000\005\000\000\000\000\000\000\000\007\000\000\000\000\000\000\000'
    printf '\000\000\000\000\000\000\000\000\004\000\000\000\000\000\000\000'; } >"$1"
}
arrays in.safetensors tokens
run eval m.quern --inputs in.safetensors --batch 4 --against m --json
ok "--inputs" "$tool" json schema=quern/eval/1 samples=4 runs=1 labels=0 inputs_digest outputs <out
ok "… of a lossless file: no error" grep -q '"max_abs": 0,' out
ok "… the same place first" [ "$(value same_top1)" = 1 ]
arrays typo.safetensors tokns
run eval m --inputs typo.safetensors --against m
ok "a misspelt name" fails 3 "typo.safetensors: the model's input 'tokens' has no array here"
run eval m --inputs rows.npy --against m
ok "an input without an array" fails 3 "rows.npy: the model's input 'tokens' has no array here"
run eval m --inputs in.safetensors
ok "arrays and nothing to compare with" fails 2 'give --against MODEL or --labels FILE'
run eval m --inputs in.safetensors --against m --context 64
ok "--context of arrays" fails 2 '\-\-context says how a text is cut'
printf '\001\000\002\000\003\000\004\000' | npy labels.npy '<u2' '(4,)'
run eval m --inputs in.safetensors --batch 4 --labels labels.npy --json
ok "--labels" "$tool" json labels=4 <out
ok "… give an accuracy" out_has '"accuracy"'
printf '\001\000\002\000\003\000' | npy less.npy '<u2' '(3,)'
run eval m --inputs in.safetensors --batch 4 --labels less.npy
ok "… too few" fails 3 '3 labels, and more rows than that'
printf '\001\000\002\000\003\000\000\004' | npy class.npy '<u2' '(4,)'
run eval m --inputs in.safetensors --batch 4 --labels class.npy
ok "… a class that is none" fails 3 'label 3 is 1024; the output has 512 classes'
head -c 32000 /dev/zero | npy complex.npy '<c8' '(4000,)'
run eval m --inputs in.safetensors --batch 4 --labels complex.npy
ok "… complex numbers" fails 3 'labels must be one array of integers'

# ---- the graph ----
run inspect m --graph
ok "inspect --graph" is 0
ok "… what it is" out_has '^graph: llama, 78 nodes in 7 blocks, 47 weights (260 K)$'
ok "… layers that are alike are shown once" out_has '^layers.0 (5 blocks like this one, to layers.4)$'
ok "… operators with what they read" out_has 'mlp.down_proj  *Linear  *.*mlp.down_proj.weight (64, 172)  *F32 (?, 64)$'
cp out graph
run inspect m.quern --graph
ok "… of a .quern file: the same" cmp -s out graph
run inspect m --graph --json
ok "… --json" "$tool" json schema=quern/inspect/1 inputs <out
ok "… every node" [ "$(grep -c '"operator"' out)" -eq 78 ]
run inspect m --svg m.svg
ok "--svg" is 0
ok "… says nothing" sh -c '[ ! -s out ] && [ ! -s err ]'
ok "… leaves nothing beside it" sh -c '! ls | grep -q quern-export'
ok "… a drawing with all boxes of one layer, the embedding and the head" [ "$(grep -c '<rect class="b ' m.svg)" -eq 18 ]
ok "… of balanced tags" [ "$(grep -o '<g>' m.svg | wc -l)" -eq "$(grep -o '</g>' m.svg | wc -l)" ]
ok "… without references to elsewhere" sh -c '! grep -q -e href -e url m.svg'
cp m.svg kept.svg
run inspect m --svg m.svg
ok "an existing drawing is kept" fails 2 'm.svg: exists: give --force'
run inspect m --svg m.svg --force
ok "… or replaced by the same" cmp -s m.svg kept.svg
run inspect m --svg nowhere/m.svg
ok "no such folder" fails 5 'No such file'
run inspect m m --svg two.svg
ok "one drawing for two models" fails 2 'draws one model'
run inspect m --graph --stats
ok "--graph with --stats" fails 2 'go without --stats'
run inspect m --force
ok "--force alone" fails 2 'goes with --svg'
run inspect foreign --graph
ok "a graph that nobody knows" fails 4 'is not known'
if command -v xmllint >/dev/null; then
    ok "the drawing is XML" xmllint --noout m.svg
fi

# ---- what can be cut ----
run inspect m --groups
ok "inspect --groups" is 0
ok "… heads with what one of them holds" out_has 'layers.0.self_attn.q_proj.weight  heads *4  3.07 K .* exact$'
ok "… units of a ffn" out_has 'layers.4.mlp.gate_proj.weight *ffn *172 *192  *1.54 K *12.7% .* exact$'
ok "… the width, and why it is not exact" out_has 'width *64 .* the mean square of node .* is over the whole width$'
ok "… what is frozen" out_has "512  model.embed_tokens.weight  belongs to output 'lm_head' of the model"
ok "… totals" out_has '^3000 of 3000 channels can be cut (100.0%); 512 more'
cp out groups
run inspect m.quern --groups
ok "… of a .quern file: the same" cmp -s out groups
run inspect m --groups --json
ok "… --json" "$tool" json schema=quern/inspect/1 inputs <out
ok "… every family" [ "$(grep -c '"params_each"' out)" -eq 11 ]
run inspect m --groups --svg families.svg --quiet
ok "… --svg" is 0
ok "… as many boxes as without colours" [ "$(grep -c '<rect class="b ' families.svg)" -eq 18 ]
ok "… in colours" [ "$(grep -c 'style="fill:hsl' families.svg)" -gt 5 ]
run inspect m --groups --graph
ok "two views" fails 2 'give one'
run inspect m --inner
ok "--inner alone" fails 2 'goes with --groups'
run inspect foreign --groups
ok "groups of a graph that nobody knows" fails 4 'is not known'

finish
