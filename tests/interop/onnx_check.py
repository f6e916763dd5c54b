"""Our ONNX reader against the reference library: every dtype in every way to hold it, real models, and the library's own test
data. Usage: onnx_check.py DUMP_ONNX QUERN SHARED. Exit code 77 (skipped) without python3-onnx."""
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

DUMP, QUERN, SHARED = sys.argv[1:4]
DATA = "/usr/share/libonnx-testdata"
NAMES = {1: "F32", 2: "U8", 3: "I8", 4: "U16", 5: "I16", 6: "I32", 7: "I64", 9: "BOOL", 10: "F16", 11: "F64", 12: "U32",
         13: "U64", 14: "C64", 16: "BF16"}


def expected_bytes(t, folder):
    """From the protobuf object, without our code. None: a tensor that we leave alone."""
    if t.data_type in (TensorProto.STRING, TensorProto.COMPLEX128):
        return None
    if t.data_location == TensorProto.EXTERNAL:
        where = {e.key: e.value for e in t.external_data}
        with open(os.path.join(folder, where["location"]), "rb") as f:
            f.seek(int(where.get("offset", 0)))
            return f.read(int(where["length"])) if "length" in where else f.read()
    if t.HasField("raw_data"):
        return t.raw_data
    if t.data_type in (TensorProto.BFLOAT16, TensorProto.FLOAT16):
        return np.array(list(t.int32_data), dtype=np.int64).astype("<u2").tobytes()
    return numpy_helper.to_array(t).tobytes()


def walk(graph, prefix, out):
    """Weights in our order with the names that our rules give, before doubles are numbered."""
    out += [(prefix + t.name, t) for t in graph.initializer]
    for node in graph.node:
        for a in node.attribute:
            if a.type == onnx.AttributeProto.TENSOR and node.op_type == "Constant" and node.domain in ("", "ai.onnx") \
                    and a.name == "value" and len(node.output) == 1 and node.output[0]:
                out.append((prefix + node.output[0], a.t))
            inner = prefix + (node.name or (node.output[0] if node.output else "") or node.op_type) + "/"
            for g in ([a.g] if a.type == onnx.AttributeProto.GRAPH else a.graphs):
                walk(g, inner, out)
    return out


def numbered(weights):
    seen, last, out = set(), {}, []
    for name, t in weights:
        full = name
        while full in seen:
            last[name] = last.get(name, 1) + 1
            full = "%s.%d" % (name, last[name])
        seen.add(full)
        out.append((full, t))
    return out


def compare(path, lines):
    m = onnx.load(path, load_external_data=False)
    g = m.graph
    opset = next((o.version for o in m.opset_import if o.domain in ("", "ai.onnx")), 0)
    head = [str(x) for x in (m.ir_version, opset, len(g.node), len(g.initializer), len(g.input), len(g.output),
                             len(g.value_info))]
    assert lines[0] == ["structure"] + head, (path, lines[0], head)
    nodes = [["node", n.op_type, n.name, str(len(n.attribute)), *n.input, *n.output] for n in g.node]
    assert lines[1:1 + len(nodes)] == nodes, path
    want = []
    for name, t in numbered(walk(g, "", [])):
        data = expected_bytes(t, os.path.dirname(path))
        if data is not None:
            want.append(["tensor", name, NAMES.get(t.data_type, "U8"), ",".join(map(str, t.dims)), data.hex()])
    got = lines[1 + len(nodes):]
    for w, x in zip(want, got):
        if w[2] == "U8" and x[3] != w[3]:  # elements below a byte: bytes
            w[3] = str(len(x[4]) // 2)
        assert w == x, (path, w[:4], x[:4], w[4][:80], x[4][:80])
    assert len(want) == len(got), (path, len(want), len(got))
    return len(want)


def run(paths):
    """All files through our reader; (tensors compared, files). An error of ours is a failure."""
    p = subprocess.run([DUMP], input="\n".join(paths) + "\n", capture_output=True, text=True)
    lines, tensors, files = [x.split("\t") for x in p.stdout.split("\n")[:-1]], 0, 0
    assert p.returncode == 0, [x for x in lines if x[0] == "error"][:5] or p.stderr
    starts = [i for i, x in enumerate(lines) if x[0] == "file"] + [len(lines)]
    for a, b in zip(starts, starts[1:]):
        tensors += compare(lines[a][1], lines[a + 1:b])
        files += 1
    assert files == len(paths)
    return tensors, files


def every_dtype(folder):
    rng, tensors = np.random.default_rng(1), []
    kinds = {TensorProto.FLOAT: "<f4", TensorProto.UINT8: "|u1", TensorProto.INT8: "|i1", TensorProto.UINT16: "<u2",
             TensorProto.INT16: "<i2", TensorProto.INT32: "<i4", TensorProto.INT64: "<i8", TensorProto.BOOL: "|b1",
             TensorProto.FLOAT16: "<f2", TensorProto.DOUBLE: "<f8", TensorProto.UINT32: "<u4", TensorProto.UINT64: "<u8",
             TensorProto.COMPLEX64: "<c8", TensorProto.BFLOAT16: "<u2"}
    for data_type, kind in kinds.items():
        for shape in ((), (3,), (2, 3, 5), (0, 4), (70000,)):
            n = int(np.prod(shape, dtype=np.int64))
            raw = rng.bytes(n * np.dtype(kind).itemsize)
            if data_type == TensorProto.BOOL:
                raw = bytes(b & 1 for b in raw)
            a = np.frombuffer(raw, kind)
            name = "%d-%s" % (data_type, "x".join(map(str, shape)))
            t = TensorProto(name=name + "-raw", data_type=data_type, dims=shape, raw_data=raw)
            tensors.append((t, raw))
            t = TensorProto(name=name + "-typed", data_type=data_type, dims=shape)
            if data_type in (TensorProto.FLOAT, TensorProto.COMPLEX64):
                t.float_data.extend(np.frombuffer(np.where(np.isnan(a.view("<f4")), 1, a.view("<f4")).astype("<f4")
                                                  .tobytes(), "<f4").tolist())
                raw = np.array(t.float_data, "<f4").tobytes()
            elif data_type == TensorProto.DOUBLE:
                t.double_data.extend(np.where(np.isnan(a), 1, a).tolist())
                raw = np.array(t.double_data, "<f8").tobytes()
            elif data_type == TensorProto.INT64:
                t.int64_data.extend(a.tolist())
            elif data_type in (TensorProto.UINT32, TensorProto.UINT64):
                t.uint64_data.extend(a.tolist())
            elif data_type == TensorProto.FLOAT16:
                t.int32_data.extend(a.view("<u2").tolist())
            else:
                t.int32_data.extend(a.astype(np.int64).tolist())
            tensors.append((t, raw))
    for data_type, per_byte in ((21, 2), (22, 2), (23, 2), (25, 4), (26, 4)):  # past what the library has names for
        raw = rng.bytes(3)
        tensors.append((TensorProto(name="%d-raw" % data_type, data_type=data_type, dims=[3 * per_byte - 1], raw_data=raw), raw))
    for data_type in (17, 18, 19, 20, 24):
        raw = rng.bytes(6)
        tensors.append((TensorProto(name="%d-raw" % data_type, data_type=data_type, dims=[2, 3], raw_data=raw), raw))
        tensors.append((TensorProto(name="%d-typed" % data_type, data_type=data_type, dims=[6], int32_data=list(raw)), raw))
    graph = helper.make_graph([], "g", [], [], initializer=[t for t, _ in tensors])
    path = os.path.join(folder, "dtypes.onnx")
    onnx.save(helper.make_model(graph), path)
    p = subprocess.run([DUMP], input=path + "\n", capture_output=True, text=True)
    assert p.returncode == 0, p.stdout[:500]
    got = [x.split("\t") for x in p.stdout.split("\n") if x.startswith("tensor\t")]
    assert len(got) == len(tensors)
    for x, (t, raw) in zip(got, tensors):
        assert x[1] == t.name and x[4] == raw.hex(), (t.name, x[4][:60], raw.hex()[:60])
    print(len(tensors), "tensors of", len(kinds) + 10, "dtypes: the same bits")


def external(folder):
    arrays = {"a": np.arange(40000, dtype=np.float32), "b": np.arange(3000, dtype=np.int64), "c": np.ones((7, 5), np.float16)}
    graph = helper.make_graph([], "g", [], [], initializer=[numpy_helper.from_array(v, k) for k, v in arrays.items()])
    for one in (True, False):
        sub = os.path.join(folder, "one" if one else "each")
        os.mkdir(sub)
        m = helper.make_model(graph)
        onnx.save_model(m, os.path.join(sub, "model.onnx"), save_as_external_data=True, all_tensors_to_one_file=one,
                        location="weights.data" if one else None, size_threshold=0)
        tensors, _ = run([os.path.join(sub, "model.onnx")])
        packed, back = os.path.join(folder, sub + ".quern"), os.path.join(folder, sub + "-back")
        model = os.path.join(sub, "model.onnx")
        for args in (["compress", model, "-o", packed, "-q"], ["verify", packed, "--against", model, "-q"],
                     ["diff", model, packed, "-q"], ["decompress", packed, "-o", back, "-q"]):
            r = subprocess.run([QUERN, *args], capture_output=True, text=True)
            assert r.returncode == 0, (args, r.stderr)
        names = sorted(os.listdir(sub))
        assert names == sorted(os.listdir(back)), (names, os.listdir(back))
        for name in names:
            assert open(os.path.join(sub, name), "rb").read() == open(os.path.join(back, name), "rb").read(), name
        print(tensors, "tensors in", len(names) - 1, "data files: found, packed, restored")


def round_trips(paths, folder):
    for path in paths:
        packed, back = os.path.join(folder, "x.quern"), os.path.join(folder, "x.onnx")
        for args in (["compress", path, "-o", packed, "-qf"], ["decompress", packed, "-o", back, "-qf"]):
            r = subprocess.run([QUERN, *args], capture_output=True, text=True)
            assert r.returncode == 0, (args, r.stderr)
        assert open(path, "rb").read() == open(back, "rb").read(), path


with tempfile.TemporaryDirectory() as tmp:
    every_dtype(tmp)
    external(tmp)
    real = sorted(glob.glob(os.path.join(SHARED, "models", "*", "*.onnx")))
    if real:
        print("%d tensors in %d real models: the same bits" % run(real))
        round_trips(real, tmp)
        print(len(real), "real models packed and restored")
    else:
        print("no real models here: passed over")
    found = sorted(glob.glob(DATA + "/**/*.onnx", recursive=True))
    if found:
        print("%d tensors in %d models of the library's test data: the same structure and bits" % run(found))
    else:
        print("libonnx-testdata is not installed: passed over")
