#!/bin/sh
# quern report and quern bisect as a user meets them, on the trained model of testdata. Arguments: the quern program, the tool beside this script, the
# testdata folder. Speaks TAP.
. "$(dirname "$0")/tap.sh"
quern=$(absolute "$1") tool=$(absolute "$2") data=$(absolute "$3")
scratch
cp -R "$data/stories260k-bf16" m
cp "$data/tinystories-eval.txt" text
"$quern" compress m -q --codec grid --bits 4 -o m4.quern

# ---- report ----
"$quern" compare m4.quern m --data text --context 64 --chunks 4 --report r.json --html direct.html -q
run report r.json
ok "report" is 0
ok "… writes a page beside it" out_has '^r.html: [0-9]* bytes'
ok "… the same that compare --html writes" cmp -s r.html direct.html
ok "… with the model's name" grep -q '<h1>m4.quern against m</h1>' r.html
ok "… five drawings" [ "$(grep -o '<svg ' r.html | wc -l)" -eq 5 ]
ok "… all tensors" [ "$(grep -o '<td class="name">' r.html | wc -l)" -eq 47 ]
ok "… nothing from elsewhere, no scripts" sh -c '! grep -qiE "<script|src=|href=|@import|url\(|https?:" r.html'
ok "… every tag is closed" sh -c 'for t in svg figure table details dl div p; do
    [ "$(grep -oE "<$t[ >]" r.html | wc -l)" -eq "$(grep -o "</$t>" r.html | wc -l)" ] || exit 1; done'
ok "… no number is none" sh -c '! grep -qE "[>\" ,]-?(nan|inf)[<\" ,]" r.html'
run report r.json
ok "an existing page is kept" fails 2 'r.html: .*--force'
printf 'kld_mean: {max: 1e-9}\n' >hard.yaml
run report r.json --thresholds hard.yaml --baseline r.json -o judged.html
ok "with verdicts the exit code stays 0" is 0
ok "… the page has them" grep -q '<span class="badge fail">fail</span>' judged.html
run report m/config.json
ok "what is no report" fails 3 'm/config.json: '
ok "… no page" [ ! -e m/config.html ]
run report r.json -o other.html --json
ok "--json" "$tool" json schema=quern/report/1 report=r.json output=other.html bytes <out

# ---- bisect ----
printf 'tensors:\n  - {match: "*layers.2.mlp.up_proj*", codec: grid, bits: 2, group: row}\n' >one.yaml
"$quern" compress m -q --recipe one.yaml -o one.quern
run bisect one.quern m --data text --context 64 --chunks 2 --json
ok "bisect" "$tool" json schema=quern/bisect/1 differing=1 spread=false runs=4 <out
ok "… finds the one" grep -q '"tensor": "model.layers.2.mlp.up_proj.weight"' out
printf 'codec: grid\nbits: 8\ntensors:\n  - {match: "*layers.3.self_attn.v_proj*", bits: 2, group: row}\n' >many.yaml
"$quern" compress m -q --recipe many.yaml -o many.quern
run bisect many.quern m --data text --context 64 --chunks 2
ok "the worst of many that differ" out_has '^  model.layers.3.self_attn.v_proj.weight  *layers.3 '
ok "… alone" [ "$(grep -c '^  model' out)" -eq 1 ]
run bisect m m --data text --context 64 --chunks 2
ok "no damage" out_has '^0 of 47 tensors differ'
run bisect m4.quern m
ok "without data" fails 2 'either --data TEXT or --inputs'
run bisect "$data/mnist/mnist.onnx" m --data text --context 64 --chunks 2
ok "a model of other tensors" fails 3 'is not in'
finish
