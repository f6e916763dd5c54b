#!/usr/bin/env python3
"""Cut models in stock llama.cpp: GGUF files of the shared folder are cut at random (cut-model), a folder is cut and then converted by
bench/llama_gguf.py. llama.cpp must load what was written, and its logits must be those that we compute for the model in its old shape
with the same weights at 0, to 1e-3 of the largest; what the two programs differ by on the dense model is said beside it.

usage: prune_llama.py CUT_MODEL DUMP_LOGITS BUILD_FOLDER SHARED SOURCE_ROOT

llama.cpp as for gguf_ppl.py: see there.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("1..0 # SKIP this Python has no numpy")
    sys.exit(0)

BAR, BF16_BAR = 1e-3, 1e-2 # llama.cpp rounds what it multiplies with bf16 weights to bf16: the dense model differs by 2.6e-3 already
IDS = "1,203,107,61,78,232,83,86,61,176,98,31,4,259,100,17,17,90"
G, F = "stories260k/gguf/stories260k-{}.gguf", "bytelm-5m"
CASES = [ # model, share, layers, the stream's width
    (G.format("f32"), "0.2", "", False), (G.format("f32"), "0.5", "", False), (G.format("f32"), "0.2", "1,3", False), (G.format("f32"), "0.25", "", True),
    (G.format("f16"), "0.2", "", False), (G.format("bf16"), "0.2", "", False), (F, "0.2", "", False), (F, "0.4", "2", False), (F, "0.25", "", True),
]


def npm(build):
    for folder in filter(None, [os.environ.get("QUERN_NPM"), build]):
        if all((pathlib.Path(folder) / "node_modules" / p).is_dir() for p in ("node-llama-cpp", "@node-llama-cpp/linux-x64")):
            return os.path.abspath(folder)
    return None


def output(*args):
    run = subprocess.run([str(a) for a in args], capture_output=True)
    if run.returncode:
        raise RuntimeError(f"{os.path.basename(args[0])}: {run.stderr.decode(errors='replace').strip()[-300:] or run.returncode}")
    return run.stdout


def main():
    cut, dump, build, shared, root = sys.argv[1:6]
    folder, models = npm(build), pathlib.Path(shared) / "models"
    if folder is None or shutil.which("node") is None:
        print("1..0 # SKIP no node-llama-cpp (see the head of tests/interop/gguf_ppl.py, and QUERN_NPM)")
        return 0
    if not (models / G.format("f32")).is_file():
        print("1..0 # SKIP there is no", models / G.format("f32"))
        return 0
    here = pathlib.Path(__file__)
    bad, dense = 0, {}

    def theirs(model, tmp):
        if os.path.isdir(model):
            output(sys.executable, pathlib.Path(root) / "bench/llama_gguf.py", model, tmp / "converted.gguf")
            model = tmp / "converted.gguf"
        return np.frombuffer(output("node", here.with_name("logits_peer.mjs"), folder, model, IDS), "<f4")

    def ours(model):
        return np.frombuffer(output(dump, model, IDS), "<f4")

    def apart(a, b):
        return float(np.abs(a - b).max() / np.abs(b).max()) if a.shape == b.shape else float("inf")

    print(f"1..{len(CASES)}")
    for i, (name, share, layers, wide) in enumerate(CASES):
        with tempfile.TemporaryDirectory() as name_of_tmp:
            tmp = pathlib.Path(name_of_tmp)
            try:
                if name not in dense:
                    dense[name] = ours(models / name), apart(theirs(models / name, tmp), ours(models / name))
                said = output(cut, models / name, tmp / "out", tmp / "zeroed", share, 7 + i, layers, *(["wide"] if wide else []))
                want = ours(tmp / "zeroed")
                moved, found = apart(want, dense[name][0]), apart(theirs(tmp / "out", tmp), want)
                size = [sum(f.stat().st_size for f in (p.rglob("*") if p.is_dir() else [p]) if f.is_file()) for p in (models / name, tmp / "out")]
                good = found <= (BF16_BAR if "bf16" in name else BAR) and moved > 10 * BF16_BAR
                text = f"llama.cpp {found:.1e} from our model with zeros (dense {dense[name][1]:.1e}; the cut moves {moved:.2f}); " \
                       f"{size[0]} → {size[1]} bytes; {said.decode().strip()}".replace("\n", ", ")
            except RuntimeError as e:
                good, text = False, str(e)
        bad += not good
        print(f"{'ok' if good else 'not ok'} {i + 1} - {name}, {share}{' of the width' if wide else ''}"
              f"{', without layers ' + layers if layers else ''}: {text}", flush=True)
    return bad != 0


sys.exit(main())
