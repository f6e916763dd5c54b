#!/usr/bin/python3
"""Types of the named mixes, tensor by tensor: what `quern export --dry-run` would give against what llama-quantize gives. The folder of its tools is
QUERN_LLAMA_BIN.

usage: gguf_mixes.py QUERN SHARED
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import gguf_made  # noqa: E402

MIXES = ("Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q2_K_S Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ2_M IQ3_XXS IQ3_XS "
         "IQ3_S IQ3_M IQ4_NL IQ4_XS TQ1_0 TQ2_0 Q2_0 MXFP4_MOE").split()


def run(*command):
    return subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def theirs(quantize, gguf, mix, imatrix, scratch):
    out = run(quantize, "--dry-run", *(["--imatrix", imatrix] if imatrix else []), gguf, scratch / "out.gguf", mix, 1).stdout.decode(errors="replace")
    types = {}
    for line in out.splitlines():
        m = re.search(r"\]\s+(\S+)\s+-\s+\[.*?type =\s*(\w+),\s+size =\s+[\d.]+ MiB(?:.*?->\s*[\d.]+ MiB \((\w+)\))?", line)
        if m:
            types[m[1]] = (m[3] or m[2]).upper()
    return types, out


def main():
    quern, shared = sys.argv[1:3]
    tools = os.environ.get("QUERN_LLAMA_BIN")
    if not tools or not (pathlib.Path(tools) / "llama-quantize").is_file():
        print("skipped: QUERN_LLAMA_BIN names no folder with llama-quantize")
        return 77
    quantize, bad, n = pathlib.Path(tools) / "llama-quantize", 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        real = pathlib.Path(shared) / "models"
        models = [(m, real / m) for m in ("bytelm-5m", "stories260k/hf-f32", "stories-moe8x-upcycled/hf-f32")]
        models += [m for m in gguf_made.make(scratch / "made", real / "stories260k/hf-f32") if m[0] in ("gemma2", "gpt2", "phi3", "qwen2", "mixtral", "mamba")]
        for name, model in models:
            gguf = scratch / "dense.gguf"
            run(quern, "export", model, "--to", "gguf:f32", "-o", gguf, "--force")
            for mix in MIXES:
                them, log = theirs(quantize, gguf, mix, None, scratch)
                if not them:
                    print(f"{name} {mix}: llama-quantize says nothing: {log.strip().splitlines()[-1][:150]}")
                    continue
                out = run(quern, "export", model, "--like", mix, "--dry-run", "--json", "-o", scratch / "none.gguf").stdout.decode()
                if not out.startswith("{"):
                    print(f"{name} {mix}: {out.strip()[:150]}")
                    continue
                ours = json.loads(out)
                ours = {t["tensor"]: t for t in ours["outputs"][0]["tensors"]}
                n += len(them)
                for tensor, type_ in sorted(them.items()):
                    t = ours.get(tensor)
                    # what the solve cannot approximate it leaves dense; so do they with what the type cannot hold
                    if t is None or (t["given"] != type_ and not (t["given"] in ("F16", "F32") and t["why"] and "multiple" not in t["why"])):
                        bad += 1
                        print(f"WRONG: {name} {mix} {tensor}: {t and t['given']} ({t and t['why']}), llama-quantize {type_}")
    print(f"{n} tensors compared, {bad} differ")
    return 1 if bad else 0


sys.exit(main())
