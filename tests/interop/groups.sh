#!/bin/sh
# Groups of models that other people made, cut and compared with zeros (groups_check.c). Arguments: the program, and the folder of measured models;
# QUERN_PRUNE=FOLDER: what fetch_prune_models.sh has put there.
check=$1 shared=${QUERN_SHARED:-$2}
set --
for f in "$shared"/models/ppocrv4/*.onnx "$shared"/models/magika/model.onnx "$shared"/models/stories260k/hf-f32 "$shared"/models/bytelm-5m \
         "${QUERN_PRUNE:-/nonexistent}"/onnx-models/*.onnx; do
    [ -e "$f" ] && set -- "$@" "$f"
done
if [ $# -eq 0 ]; then
    echo "no models: $shared and QUERN_PRUNE name none; skipped"
    exit 77
fi
status=0
for f in "$@"; do # each on its own: one that fails is one line, not the end
    "$check" "$f" || { echo "$f: FAILED"; status=1; }
done
exit $status
