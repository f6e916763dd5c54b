"""Every operator of the ONNX project's test data between two linear layers, cut at random: the model without channels must compute what the same
with zeros computes. Usage: prune_ops.py PRUNE_ONNX [SUBSTRING]. Exit code 77 (skipped) without python3-onnx or libonnx-testdata.

Each test model of one node gets its float inputs from a product with random weights (along the last axis, and in a second model along axis 1), and
its float outputs go into one. Where nothing can be cut nothing is compared: the last line counts."""
import collections
import glob
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError:
    print("skipped: python3-onnx or python3-numpy is not installed")
    sys.exit(77)

WORDS = [a for a in sys.argv[2:] if not a.startswith("every=")]
EVERY = max([1] + [int(a[6:]) for a in sys.argv[2:] if a.startswith("every=")])
TOOL, ONLY = sys.argv[1], WORDS[0] if WORDS else ""
MODELS = [p for p in sorted(glob.glob("/usr/share/libonnx-testdata/data/node/*/model.onnx")) if ONLY in p][::EVERY]
if not MODELS:
    print("skipped: no models (libonnx-testdata)")
    sys.exit(77)
LIMIT = 1e-5
rng = np.random.default_rng(1)


def shape_of(value):
    t = value.type.tensor_type
    if t.elem_type != TensorProto.FLOAT or not t.HasField("shape"):
        return None
    dims = [d.dim_value for d in t.shape.dim]
    return dims if len(dims) >= 2 and all(d > 0 for d in dims) else None


def layer(nodes, weights, source, target, dims, axis, width):
    """target = source times random weights along an axis."""
    name, turn = target + ".w", [k for k in range(len(dims)) if k != axis] + [axis]
    back = [turn.index(k) for k in range(len(dims))]
    weights.append(numpy_helper.from_array((rng.standard_normal((dims[axis], width)) * 0.5).astype(np.float32), name))
    nodes.append(helper.make_node("Transpose", [source], [target + ".t"], perm=turn))
    nodes.append(helper.make_node("MatMul", [target + ".t", name], [target + ".m"]))
    nodes.append(helper.make_node("Transpose", [target + ".m"], [target], perm=back))


def wrapped(model, folder, which):
    """None: nothing to wrap. Inputs that are no floats, and those of rank below 2, become constants where the test data have them."""
    graph, nodes, tail, weights, inputs, outputs = model.graph, [], [], [], [], []
    given = {}
    for k, value in enumerate(graph.input):
        path = os.path.join(folder, "test_data_set_0", "input_%d.pb" % k)
        if os.path.exists(path) and value.type.HasField("tensor_type"):
            given[value.name] = onnx.load_tensor(path)
    for value in graph.input:
        dims = shape_of(value)
        if not value.name:
            continue
        if dims and len(inputs) == 0:
            axis = len(dims) - 1 if which == 0 else 1
            inputs.append(helper.make_tensor_value_info(value.name + ".in", TensorProto.FLOAT, dims))
            layer(nodes, weights, value.name + ".in", value.name, dims, axis, dims[axis])
        elif value.name in given:
            t = given[value.name]
            t.name = value.name
            weights.append(t)
        else:
            return None
    if not inputs:
        return None
    for value in graph.output:
        dims = shape_of(value)
        if not dims:
            outputs.append(value)
            continue
        axis = len(dims) - 1 if which == 0 else 1
        outputs.append(helper.make_tensor_value_info(value.name + ".out", TensorProto.FLOAT, [3 if k == axis else d for k, d in enumerate(dims)]))
        layer(tail, weights, value.name, value.name + ".out", dims, axis, 3)
    g = helper.make_graph(nodes + list(graph.node) + tail, "wrapped", inputs, outputs, weights + list(graph.initializer))
    return helper.make_model(g, opset_imports=model.opset_import, ir_version=8)


counts, bad = collections.Counter(), 0
with tempfile.TemporaryDirectory() as scratch:
    p = [os.path.join(scratch, n) for n in ("m.onnx", "c.onnx", "z.onnx")]
    for path in MODELS:
        folder = os.path.dirname(path)
        model = onnx.load(path)
        for which in (0, 1):
            try:
                made = wrapped(model, folder, which)
            except Exception:
                made = None
            if made is None:
                counts["not wrapped"] += 1
                continue
            onnx.save(made, p[0])
            r = subprocess.run([TOOL, "cut", *p, "40", "1"], capture_output=True, text=True)
            said = dict(line.split(" ", 1) for line in r.stdout.splitlines() if " " in line)
            what = "%s, %s" % (os.path.basename(folder), "last axis" if which == 0 else "axis 1")
            if r.returncode not in (0, 1, 4):
                bad += 1
                print("%s: ended with %d" % (what, r.returncode))
            elif "gone" in said and int(said["gone"]) > 0:
                if "diff" in said and float(said["diff"]) <= LIMIT:
                    counts["cut and equal"] += 1
                elif r.returncode == 4:
                    counts["refused"] += 1
                    print("%s: refused: %s" % (what, said["error"]))
                else:
                    bad += 1
                    print("%s: %s" % (what, said.get("error") or "differs by " + said["diff"]))
            else:
                counts["nothing can go" if "gone" in said else "not supported"] += 1
print(", ".join("%d %s" % (n, k) for k, n in sorted(counts.items())) + ", %d wrong" % bad)
sys.exit(1 if bad else 0)
