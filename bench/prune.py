#!/usr/bin/env python3
"""What structured pruning costs: accuracy of classifiers and divergence of language models, beside simpler ways to cut. Markdown on stdout.

usage: prune.py QUERN DATA WORK [--runtime FOLDER] [--shared FOLDER] [--only NAME]… [--sets N] [--slow]

DATA is what tests/interop/fetch_prune_models.sh and prune_data.py fill. Each cell is one `quern prune`: a network, a share, how the groups are chosen
and whether what is left is refitted. The model written is then run in ONNX Runtime over the whole test set (bench/ort_eval.js; FOLDER/node_modules
holds onnxruntime-node; DATA when not given), and for every "obs" cell `quern eval` must count the same right answers. --sets 3 takes the mean over
three calibration sets (and three seeds of random choices). --slow adds the rows with training. Language models come from SHARED and are measured
with `quern eval --against`. What was measured is kept in WORK/rows.json and not measured again."""
import argparse
import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
CHOICES = ["random", "magnitude", "wanda", "variance", "obs"]
NAMES = {"random": "random", "magnitude": "magnitude", "wanda": "Wanda-style", "variance": "variance", "obs": "OBS"}

# name: file, folder of arrays, test set, calibration sets, the same for training, shares of groups.
NETS = {
    "MNIST MLP 2×256": ("nets/mnist-net_256x2.onnx", "mnist/mlp", "test", ["calib_1024", "calib_1024_b", "calib_1024_c"], "calib_8192", [25, 50, 75, 90]),
    "MNIST MLP 4×256": ("nets/mnist-net_256x4.onnx", "mnist/mlp", "test", ["calib_1024", "calib_1024_b", "calib_1024_c"], "calib_8192", [25, 50, 75, 90]),
    "MNIST MLP 6×256": ("nets/mnist-net_256x6.onnx", "mnist/mlp", "test", ["calib_1024", "calib_1024_b", "calib_1024_c"], "calib_8192", [25, 50, 75, 90]),
    "MNIST CNN": ("nets/mnist.onnx", "mnist/cnn", "test", ["calib_512", "calib_512_b", "calib_512_c"], "calib_8192", [25, 50, 75]),
    "CIFAR ResNet-20": ("nets/resnet20.onnx", "cifar", "test_1000", ["calib_500"], "calib_500", [25, 50, 75]),
    "CIFAR ResNet 4b": ("nets/resnet_4b.onnx", "cifar/resnet", "test_1000", ["calib_500"], "calib_500", [25, 50, 75]),
    "CIFAR ResNet 3b2": ("nets/sri_resnet_a.onnx", "cifar/sri", "test_1000", ["calib_500"], "calib_500", [25, 50, 75]),
    "CIFAR ViT (pgd)": ("nets/pgd_2_3_16.onnx", "cifar/vit", "test_1000", ["calib_500"], "calib_500", [25, 50, 75]),
    "CIFAR CNN, NHWC": ("nets/cifar10_large.onnx", "cifar/nhwc", "test_1000", ["calib_500"], "calib_500", [25, 50, 75]),
}
# name: folder, calibration text, evaluation text, arguments of eval
MODELS = {
    "bytelm-5m": ("bytelm-5m", "wiki_calib.txt", "wiki_test_ascii.txt", ["--context", "256", "--chunks", "100"]),
    "stories260k": ("stories260k/hf-f32", "tinystories_calib.txt", "tinystories_eval_120.txt", ["--documents", "--context", "256"]),
}
TEXT_CHUNKS = "128"  # of calibration


def arguments():
    p = argparse.ArgumentParser()
    for name in ("quern", "data", "work"):
        p.add_argument(name, type=pathlib.Path)
    p.add_argument("--runtime", type=pathlib.Path)
    p.add_argument("--shared", type=pathlib.Path)
    p.add_argument("--only", action="append", default=[])
    p.add_argument("--sets", type=int, default=1)
    p.add_argument("--slow", action="store_true")
    a = p.parse_args()
    a.work.mkdir(parents=True, exist_ok=True)
    return a


class Rows:
    """Measurements by what was run, in a file."""
    def __init__(self, path):
        self.path = path
        self.rows = json.loads(path.read_text()) if path.exists() else {}

    def get(self, key, make):
        key = " ".join(key)
        if key not in self.rows:
            self.rows[key] = make()
            self.path.write_text(json.dumps(self.rows, indent=0))
        return self.rows[key]


def run(args):
    r = subprocess.run([str(x) for x in args], capture_output=True, text=True)
    if r.returncode != 0:
        sys.exit("prune.py: %s: code %d\n%s" % (" ".join(map(str, args)), r.returncode, r.stderr.strip()))
    return r.stdout


def prune(a, model, out, options):
    return json.loads(run([a.quern, "prune", model, "-o", out, "--json", "-f", *options]))


# --- classifiers ------------------------------------------------------------------------------------------------------

def in_runtime(a, net, models, time=False):
    arrays = a.data / net[1] / (net[2] + ".npz")
    out = run(["node", HERE / "ort_eval.js", a.runtime or a.data, arrays, a.data / net[1] / (net[2] + "_labels.npy"), *(["--time"] if time else []),
               *models])
    return [json.loads(line) for line in out.splitlines()]


def in_quern(a, net, model):
    out = json.loads(run([a.quern, "eval", model, "--inputs", a.data / net[1] / (net[2] + ".npz"), "--labels",
                          a.data / net[1] / (net[2] + "_labels.npy"), "--json"]))
    return out["outputs"][0]["accuracy"]["value"]


def measure(a, net, options, check, time=False):
    """One cut: accuracy, and what is left of parameters, products, bytes and time."""
    model, out = a.data / net[0], a.work / "cut.onnx"
    report = prune(a, model, out, options)
    dense, cut = in_runtime(a, net, [model, out], time)
    row = {"accuracy": cut["right"] / cut["n"], "agree": sum(x == y for x, y in zip(dense["tops"], cut["tops"])) / cut["n"],
           "params": report["after"]["params"] / report["before"]["params"], "macs": report["after"]["macs"] / report["before"]["macs"],
           "bytes": out.stat().st_size / model.stat().st_size, "seconds": report["seconds"], "proof": report["proof"]["largest"]}
    if time:
        row["time"] = cut["ms"] / dense["ms"]
    if check:
        ours = in_quern(a, net, out)
        if abs(ours - row["accuracy"]) * cut["n"] > 1.5:
            sys.exit("prune.py: quern eval finds %.4f right, ONNX Runtime %.4f: %s" % (ours, row["accuracy"], " ".join(map(str, options))))
    return row


def whole(a, net):
    r = in_runtime(a, net, [a.data / net[0]])[0]
    return {"accuracy": r["right"] / r["n"]}


def mean(rows, key):
    return sum(r[key] for r in rows) / len(rows)


def cells(a, rows, name, share, options, sets, check):
    net, out = NETS[name], []
    for k, data in enumerate(sets):
        full = ["--ratio", str(share / 100), "--inputs", str(a.data / net[1] / (data + ".npz")), "--seed", str(k + 1), *options]
        key = [name, data, "--ratio", str(share / 100), "--seed", str(k + 1), *options]
        out.append(rows.get(key, lambda: measure(a, net, full, check and k == 0)))
    return out


def classifier(a, rows, name):
    net = NETS[name]
    if not (a.data / net[0]).exists():
        return
    sets, training = net[3][:a.sets], [net[4]]
    dense = rows.get([name, "dense"], lambda: whole(a, net))
    shares = net[5]
    print("\n### %s, dense %.2f %%\n" % (name, 100 * dense["accuracy"]))
    print("| groups of each family that go | " + " | ".join("%d %%" % s for s in shares) + " |\n| --- |" + " ---: |" * len(shares))
    for choice in CHOICES:
        for refit in (False, True):
            options = ["--by", "groups", "--saliency", choice] + ([] if refit else ["--no-refit"])
            got = [mean(cells(a, rows, name, s, options, sets, choice == "obs"), "accuracy") for s in shares]
            print("| %s%s | %s |" % (NAMES[choice], " + refit" if refit else "", " | ".join("%.2f" % (100 * g) for g in got)), flush=True)
    if not a.slow:
        return
    for label, options in (("OBS + refit, 400 steps of training", ["--by", "groups", "--recover"]),
                           ("OBS + refit, 2000 steps", ["--by", "groups", "--recover=2000"]),
                           ("gradual, 2000 steps", ["--by", "groups", "--recover=2000", "--gradual"])):
        got = [mean(cells(a, rows, name, s, options, training, True), "accuracy") for s in shares]
        print("| %s | %s |" % (label, " | ".join("%.2f" % (100 * g) for g in got)), flush=True)


def sizes(a, rows, names):
    print("\n### What becomes smaller\n\nHalf of the groups of each family go (OBS + refit); left of the dense model. Time: CPU time in ONNX Runtime, one thread, one sample, the least of 40 blocks of 20 runs.\n")
    print("| network | parameters | products | file bytes | time |\n| --- | ---: | ---: | ---: | ---: |")
    for name in names:
        net = NETS[name]
        if not (a.data / net[0]).exists():
            continue
        options = ["--ratio", "0.5", "--by", "groups", "--inputs", str(a.data / net[1] / (net[3][0] + ".npz"))]
        r = rows.get([name, "time", "0.5"], lambda: measure(a, net, options, False, True))
        print("| %s | %.2f | %.2f | %.2f | %.2f |" % (name, r["params"], r["macs"], r["bytes"], r["time"]), flush=True)


def allocations(a, rows, names):
    print("\n### Who goes: allocation\n\nHalf of the products go, by parameters of `--allocate`; OBS + refit, accuracy in %.\n")
    print("| network | dense | uniform | curves | table | evolve |" + (" curves, 2000 steps |" if a.slow else "") + "\n| --- |" + " ---: |" * (6 if a.slow else 5))
    for name in names:
        net = NETS[name]
        if not (a.data / net[0]).exists():
            continue
        got = [rows.get([name, "dense"], lambda: whole(a, net))["accuracy"]]
        ways = [["--allocate", h] for h in ("uniform", "curves", "table", "evolve")] + ([["--allocate", "curves", "--recover=2000"]] if a.slow else [])
        for way in ways:
            got.append(mean(cells(a, rows, name, 50, ["--by", "macs", *way], [net[4] if "--recover=2000" in way else net[3][0]], True), "accuracy"))
        print("| %s | %s |" % (name, " | ".join("%.2f" % (100 * g) for g in got)), flush=True)


# --- language models --------------------------------------------------------------------------------------------------

def divergence(a, name, options):
    folder, calibration, text, how = MODELS[name]
    model, out = a.shared / "models" / folder, a.work / "cut-lm"
    report = prune(a, model, out, ["--data", a.shared / "text" / calibration, "--chunks", TEXT_CHUNKS, *options])
    e = json.loads(run([a.quern, "eval", out, "--against", model, "--data", a.shared / "text" / text, *how, "--json"]))
    ref = e["reference"]
    return {"kl": ref["kl"]["value"], "perplexity": e["perplexity"]["value"], "dense": ref["perplexity"]["value"], "same": ref["same_top1"]["value"],
            "params": report["after"]["params"] / report["before"]["params"], "kept": [(f["name"], f["kept"], f["groups"]) for f in report["families"]]}


def language(a, rows, name):
    if not a.shared or not (a.shared / "models" / MODELS[name][0]).exists():
        return
    print("\n### %s\n" % name)
    print("| 20 % of every family's groups | perplexity | KL divergence | same token first | parameters left |\n| --- | ---: | ---: | ---: | ---: |")
    base = None
    for choice in CHOICES:
        for refit in (False, True):
            options = ["--ratio", "0.2", "--by", "groups", "--saliency", choice, "--seed", "1"] + ([] if refit else ["--no-refit"])
            r = rows.get([name, *options], lambda: divergence(a, name, options))
            if not base:
                print("| dense | %.4f | 0 | 100 %% | 1 |" % r["dense"])
                base = r
            print("| %s%s | %.4f | %.4f | %.1f %% | %.3f |" % (NAMES[choice], " + refit" if refit else "", r["perplexity"], r["kl"], 100 * r["same"],
                                                            r["params"]), flush=True)
    if a.slow:
        options = ["--ratio", "0.2", "--by", "groups", "--recover=400", "--seed", "1"]
        r = rows.get([name, *options], lambda: divergence(a, name, options))
        print("| OBS + refit, 400 steps of training | %.4f | %.4f | %.1f %% | %.3f |" % (r["perplexity"], r["kl"], 100 * r["same"], r["params"]), flush=True)


def main():
    a = arguments()
    rows = Rows(a.work / "rows.json")
    wanted = lambda name: not a.only or any(o in name for o in a.only)
    nets = [n for n in NETS if wanted(n)]
    for name in nets:
        classifier(a, rows, name)
    if nets:
        sizes(a, rows, nets)
        some = [n for n in nets if n.startswith("CIFAR") or "4×256" in n]
        if some:
            allocations(a, rows, some)
    for name in MODELS:
        if wanted(name):
            language(a, rows, name)


main()
