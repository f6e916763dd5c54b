#!/usr/bin/env python3
"""Size against divergence on a real language model, beside llama.cpp's types. Markdown on stdout.

usage: ladder.py QUERN MODEL STATS TEXT WORK [--context N] [--chunks N] [--codec NAME[,SETTING=VALUE…]]… [--rows FILE]
                 [--peer BIN --gguf F32_GGUF --calibration TEXT]

For each row of the peer's ladder the model is compressed with `quern compress --size` to at most the row's bytes, and `quern eval
--against MODEL` tells perplexity and mean KL divergence. The divergence is compared with the least that any of the peer's
rows reaches in as many bytes or fewer (with an importance matrix; its own mix of types, or one type throughout).

Rows come from FILE (tab-separated: type, mix, bytes, perplexity, KLD), or are measured in this run when BIN holds llama-quantize,
llama-imatrix and llama-perplexity: same text, context and chunks; F32_GGUF is the same model (llama_gguf.py), the importance
matrix is made from --calibration, 300 chunks. They are kept in WORK/rows.tsv. What was measured stays in WORK and is not measured again.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys

MIXES = ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_XS", "Q3_K_M", "IQ3_XXS", "Q2_K", "Q2_K_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"]
PURE = ["Q4_K", "Q4_0", "IQ4_XS", "IQ3_XXS", "Q2_K", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"]


def arguments():
    p = argparse.ArgumentParser()
    for name in ("quern", "model", "stats", "text", "work"):
        p.add_argument(name)
    p.add_argument("--context", default="256")
    p.add_argument("--chunks", default="300")
    p.add_argument("--codec", action="append")
    p.add_argument("--rows")
    p.add_argument("--peer")
    p.add_argument("--gguf")
    p.add_argument("--calibration")
    a = p.parse_args()
    a.work = pathlib.Path(a.work)
    a.work.mkdir(parents=True, exist_ok=True)
    a.codec = a.codec or ["ect"]
    return a


def run(*args, may_fail=False):
    r = subprocess.run([str(x) for x in args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if r.returncode != 0 and not may_fail:
        sys.exit(f"ladder: {' '.join(map(str, args))}: code {r.returncode}\n{r.stdout[-2000:]}")
    return r.stdout if r.returncode == 0 else None


def kept(path, make):
    if not path.exists():
        value = make()
        if value is None:
            return None
        path.write_text(json.dumps(value))
    return json.loads(path.read_text())


# --- the peer ---------------------------------------------------------------------------------------------------------


def perplexity(a, model, *more):
    """Its report may lack the end (a logger that is not flushed): then once more."""
    for _ in range(6):
        out = run(f"{a.peer}/llama-perplexity", "-m", model, "-f", a.text, "-c", a.context, "--chunks", a.chunks, "-t", 2, *more)
        ppl = re.search(r"Mean PPL\(Q\)\s*:\s*([\d.]+)", out)
        kld = re.search(r"Mean\s+KLD:\s*(-?[\d.]+)\s*±\s*([\d.]+)", out)
        if "--kl-divergence" not in more or (ppl and kld and "Same top" in out):
            return (float(ppl[1]), float(kld[1]), float(kld[2])) if ppl else None
    sys.exit("ladder: llama-perplexity never finished its report")


def measure_type(a, imatrix, base, name, pure):
    out = a.work / "peer.gguf"
    how = ["--pure", "--token-embedding-type", "q4_K", "--output-tensor-type", "q6_K"] if pure else []
    if run(f"{a.peer}/llama-quantize", "--imatrix", imatrix, *how, a.gguf, out, name, 2, may_fail=True) is None:
        return None
    ppl, kld, se = perplexity(a, out, "--kl-divergence-base", base, "--kl-divergence")
    size = out.stat().st_size
    out.unlink()
    return [name, "pure" if pure else "mix", size, ppl, kld, se]


def measure_peer(a):
    imatrix, base = a.work / "imatrix.gguf", a.work / f"base-{a.chunks}.kld"
    if not imatrix.exists():
        run(f"{a.peer}/llama-imatrix", "-m", a.gguf, "-f", a.calibration, "-c", a.context, "--chunks", 300, "-t", 2, "-o", imatrix)
    if not base.exists():
        perplexity(a, a.gguf, "--kl-divergence-base", base)
    rows = []
    for name, pure in [(n, False) for n in MIXES] + [(n, True) for n in PURE]:
        rows.append(kept(a.work / f"peer-{name}-{'pure' if pure else 'mix'}-{a.chunks}.json",
                         lambda: measure_type(a, imatrix, base, name, pure)))
    rows = [r for r in rows if r]
    (a.work / "rows.tsv").write_text("".join("\t".join(map(str, r)) + "\n" for r in rows))
    return rows


def read_rows(path):
    rows = []
    for line in pathlib.Path(path).read_text().splitlines():
        f = line.split("\t")
        rows.append([f[0], f[1], int(f[2]), float(f[3]), float(f[4]), float(f[5]) if len(f) > 5 else 0.0])
    return rows


# --- ours -------------------------------------------------------------------------------------------------------------


def measure_ours(a, codec, size):
    name, *settings = codec.split(",")
    out = a.work / "ours.quern"
    if run(a.quern, "compress", a.model, f"--codec={name}", f"--size={size}", *[f"--{s}" for s in settings], "--stats", a.stats, "-o", out, "-f",
           "--json", may_fail=True) is None:
        return None
    e = json.loads(run(a.quern, "eval", out, "--against", a.model, "--data", a.text, "-c", a.context, "--chunks", a.chunks, "--json", "-q"))
    n, kl = out.stat().st_size, e["reference"]["kl"]
    out.unlink()
    return {"bytes": n, "ppl": e["perplexity"]["value"], "dense": e["reference"]["perplexity"]["value"], "kld": kl["value"], "se": kl["se"],
            "same": e["reference"]["same_top1"]["value"]}


def main():
    a = arguments()
    rows = measure_peer(a) if a.peer else read_rows(a.rows or a.work / "rows.tsv")
    rows.sort(key=lambda r: r[2])
    for codec in a.codec:
        print(f"\n### {codec}\n\n| at most as large as | its bytes | its perplexity | its KLD | least KLD of the peer's in as many bytes | bytes | perplexity | "
              "same token first | KLD | ratio |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
        for name, mix, size, ppl, kld, se in rows:
            ours = kept(a.work / f"ours-{codec}-{size}-{a.chunks}.json", lambda: measure_ours(a, codec, size))
            if not ours:
                print(f"| {name} {mix} | {size:,} | {ppl:.4f} | {kld:.6f} | | refused | | | | |", flush=True)
                continue
            best = min((r for r in rows if r[2] <= size), key=lambda r: r[4])
            print(f"| {name}{' throughout' if mix == 'pure' else ''} | {size:,} | {ppl:.4f} | {kld:.6f} | {best[4]:.6f} | {ours['bytes']:,} | "
                  f"{ours['ppl']:.4f} | {100 * ours['same']:.2f} % | {ours['kld']:.6f} ± {ours['se']:.6f} | {ours['kld'] / best[4]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
