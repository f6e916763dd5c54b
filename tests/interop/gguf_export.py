#!/usr/bin/python3
"""Exports to GGUF in stock llama.cpp: `quern export --to gguf:…` of model folders, which llama.cpp must load, tokenize as we do, and give the perplexity that
`quern eval` measures of the same file (0.1 %); the dense file's must be the folder's own. Blocks and BF16 are multiplied with activations that llama.cpp rounds, which we do not: what the runtime adds by that is
taken out by writing the file once more as F32, and it is that one's perplexity that must agree.

usage: gguf_export.py QUERN BUILD_FOLDER SHARED TEXT [VARIANT …]

Models: those of the shared folder, and small made ones of every family (gguf_made.py), whose weights are random: there the mean negative log-likelihood must
agree to 0.1 %. llama.cpp as for gguf_ppl.py.
"""
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import gguf_made  # noqa: E402

REAL = ["stories260k/hf-f32", "babyllama105/hf-f32", "bytelm-5m", "stories-moe8x-upcycled/hf-bf16"]
CONTEXT, CHUNKS, TEXT_BYTES = 128, 100, 3000


def npm(build):
    for folder in filter(None, [os.environ.get("QUERN_NPM"), build]):
        if all((pathlib.Path(folder) / "node_modules" / p).is_dir() for p in ("node-llama-cpp", "@node-llama-cpp/linux-x64")):
            return os.path.abspath(folder)
    return None


def run(*command):
    return subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def evaluate(quern, model, text):
    out = run(quern, "eval", model, "--data", text, "--context", CONTEXT, "--json")
    if out.returncode == 4:  # a family that our GGUF builder does not know
        return None, None
    if out.returncode:
        raise RuntimeError(out.stderr.decode()[:300])
    report = json.loads(out.stdout)
    n = sum(c["scored"] for c in report["chunks"])
    return sum(c["nll"] * c["scored"] for c in report["chunks"]) / n, report["n_chunks"] * CONTEXT + report["tokens_left_out"]


def check(quern, folder, peer, name, model, variant, text, scratch, dense):
    gguf = scratch / f"{name.replace('/', '-')}-{variant}.gguf"
    out = run(quern, "export", model, "--to", f"gguf:{variant}", "-o", gguf, "--force")
    if out.returncode:
        print(f"WRONG: {name} {variant}: {out.stderr.decode().strip()[:300]}")
        return 1
    notes = [line for line in out.stderr.decode().splitlines() if "note:" in line]
    tools = os.environ.get("QUERN_LLAMA_BIN")
    if name.startswith("babyllama"):
        found = None
        for _ in range(4 if tools else 0):  # the tool may lose the end of its own report
            theirs = run(pathlib.Path(tools) / "llama-perplexity", "-m", gguf, "-f", text, "-c", CONTEXT, "-b", CONTEXT, "-t", 2)
            found = found or re.search(r"PPL = ([0-9.]+)", (theirs.stdout + theirs.stderr).decode(errors="replace"))
            if found:
                break
        a, _ = evaluate(quern, gguf, text)
        good = not tools or (found and abs(math.exp(a) / float(found[1]) - 1) < 1e-3)
        print(f"{'' if good else 'WRONG: '}{name} {variant}: perplexity {math.exp(a):.5f}, llama.cpp {found[1] if found else 'not asked'}")
        return 0 if good else 1
    asked = gguf
    if variant.lower() not in ("f32", "f16"):
        asked = scratch / "wide.gguf"
        run(quern, "export", gguf, "--to", "gguf:f32", "-o", asked, "--force")
    theirs = run("node", peer, folder, asked, text, CONTEXT, CHUNKS)
    if theirs.returncode or not theirs.stdout:
        print(f"WRONG: {name} {variant}: llama.cpp: {theirs.stderr.decode().strip()[-400:]}")
        return 1
    theirs = json.loads(theirs.stdout)
    b = sum(c["nll"] * c["scored"] for c in theirs["chunks"]) / sum(c["scored"] for c in theirs["chunks"])
    folder_nll, n_folder = evaluate(quern, model, text)
    a, n_own = evaluate(quern, gguf, text)
    n_own = n_own or n_folder
    limit = math.log1p(1e-3)
    good = n_own == theirs["tokens"] == n_folder and abs((folder_nll if a is None else a) - b) <= limit and (not dense or abs(folder_nll - b) <= limit)
    size = gguf.stat().st_size
    print(f"{'' if good else 'WRONG: '}{name} {variant}: {size} bytes; nll folder {folder_nll:.6f}, our reading of the file "
          f"{'-' if a is None else f'{a:.6f}'}, llama.cpp {b:.6f} ({100 * (math.exp(b - (folder_nll if a is None else a)) - 1):+.4f} % perplexity); "
          f"{n_folder}, {n_own}, {theirs['tokens']} tokens" + (f"; {len(notes)} notes" if notes else ""))
    if os.environ.get("VERBOSE"):
        print("   ", "\n    ".join(notes))
    gguf.unlink()
    return 0 if good else 1


def main():
    quern, build, shared, text = sys.argv[1:5]
    variants = sys.argv[5:] or ["f32", "f16", "bf16"]
    folder = npm(build)
    if folder is None or shutil.which("node") is None:
        print("skipped: no node-llama-cpp (see the head of tests/interop/gguf_ppl.py, and QUERN_NPM)")
        return 77
    peer, bad = str(pathlib.Path(__file__).with_name("perplexity_peer.mjs")), 0
    only = os.environ.get("ONLY", "")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        piece = pathlib.Path(text).read_bytes()[:TEXT_BYTES]
        text = scratch / "text.txt"
        text.write_bytes(piece.decode("ascii", "ignore").encode())
        models = [(m, pathlib.Path(shared) / "models" / m) for m in REAL]
        models = [m for m in models if m[1].is_dir()] + gguf_made.make(scratch / "made", pathlib.Path(shared) / "models/stories260k/hf-f32")
        line = scratch / "line.txt"
        line.write_text(text.read_text().replace("\n", " "))
        for name, model in models:
            data = line if name.startswith("babyllama") else text  # which has no token for the end of a line: llama.cpp throws there
            for variant in variants:
                if only in name:
                    bad += check(quern, folder, peer, name, model, variant, data, scratch, variant == "f32")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
