#!/bin/sh
# The project's own accuracy check: the model in testdata is calibrated, compressed with a fixed recipe, and gated by the baseline and the limits
# beside it. What makes the compressed model worse fails here, with the tensor and the layer that it is about.
#
#   gate_model.sh QUERN TESTDATA               gates
#   gate_model.sh QUERN TESTDATA REASON        writes the baseline anew: a change of accuracy that is meant
set -eu
quern=$1 data=$(cd "$2" && pwd)
case $quern in /*) ;; *) quern=$PWD/$quern ;; esac
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cp -R "$data/stories260k-bf16" model
cp "$data/tinystories-calib.txt" "$data/tinystories-eval.txt" "$data/gate/"*.yaml .
"$quern" calibrate model --data tinystories-calib.txt --documents --context 256 -o model.qstats -q
"$quern" compress model --stats model.qstats --recipe recipe.yaml -o model.quern -q
gate="$quern gate model.quern --against model --data tinystories-eval.txt --context 128 --thresholds thresholds.yaml"
[ $# -lt 3 ] || exec $gate --write-baseline "$data/gate/baseline.json" --reason "$3"
cp "$data/gate/baseline.json" .
$gate --baseline baseline.json
