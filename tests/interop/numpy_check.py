"""The program against numpy: .npy files load with the right values, statistics and error measures are the ones numpy
computes. Usage: numpy_check.py QUERN. Exit code 77 (skipped) without numpy."""
import json
import os
import struct
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("skipped: python3-numpy is not installed")
    sys.exit(77)

QUERN = sys.argv[1]
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "F8_E4M3": "|u1", "F8_E5M2": "|u1", "I64": "<i8",
          "I32": "<i4", "I16": "<i2", "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
          "C64": "<c8"}
rng = np.random.default_rng(1)
checks = 0


def check(ok, what):
    global checks
    checks += 1
    if not ok:
        print("not ok", checks, what)
        sys.exit(1)
    print("ok", checks, what)


def as_type(array, kind):
    """The bits of an array as a flat array of another type."""
    return np.frombuffer(array.tobytes(), dtype=kind)


def near(a, b, rel=1e-5, tiny=1e-300):  # JSON carries six digits
    return abs(a - b) <= rel * abs(b) + tiny


def save(path, tensors):
    header, blobs, at = {}, [], 0
    for name, (dtype, array) in tensors.items():
        data = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + len(data)]}
        blobs.append(data)
        at += len(data)
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def quern(*args, code=0):
    p = subprocess.run([QUERN, *args], capture_output=True, text=True)
    check(p.returncode == code, "quern %s exits with %d: %s" % (" ".join(args[:1]), p.returncode, p.stderr.strip()))
    return p.stdout


def widened(dtype, array):
    """Values of dtypes that numpy lacks, from their definition."""
    if dtype == "BF16":
        return as_type(array.astype(np.uint32) << np.uint32(16), np.float32).reshape(array.shape)
    if dtype in ("F8_E4M3", "F8_E5M2"):
        ebits, mbits, bias = (4, 3, 7) if dtype == "F8_E4M3" else (5, 2, 15)
        v = np.arange(256)
        sign = np.where(v & 128, -1.0, 1.0)
        e, m = (v >> mbits) & ((1 << ebits) - 1), v & ((1 << mbits) - 1)
        value = np.where(e == 0, m * 2.0 ** (1 - bias - mbits), (1 + m * 2.0 ** -mbits) * 2.0 ** (e.astype(float) - bias))
        if dtype == "F8_E4M3":
            value = np.where((e == 15) & (m == 7), np.nan, value)
        else:
            value = np.where(e == 31, np.where(m == 0, np.inf, np.nan), value)
        return (sign * value).astype(np.float32)[array]
    return array


def values_of(dtype, array):
    v = widened(dtype, array)
    if dtype == "C64":
        v = as_type(v, np.float32)
    return v.astype(np.float64).ravel()


def entropy(counts):
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum())


def bound(dtype, array):
    fields = {"F64": (np.uint64, 52, 0x7FF, 53), "F32": (np.uint32, 23, 0xFF, 24), "C64": (np.uint32, 23, 0xFF, 24),
              "F16": (np.uint16, 10, 0x1F, 11), "BF16": (np.uint16, 7, 0xFF, 8)}
    if dtype in fields:
        kind, shift, mask, raw_bits = fields[dtype]
        e = (as_type(array, kind) >> kind(shift)) & kind(mask)
        return entropy(np.bincount(e.astype(np.int64))) + raw_bits
    planes = as_type(array, np.uint8).reshape(-1, array.itemsize)
    return sum(entropy(np.bincount(planes[:, i])) for i in range(array.itemsize))


def make(dtype, shape):
    if dtype in ("F8_E4M3", "F8_E5M2", "U8", "BF16", "U16", "U32", "U64", "I8", "I16", "I32", "I64"):
        a = rng.integers(0, 256, size=(*shape, np.dtype(DTYPES[dtype]).itemsize), dtype=np.uint8)
        a = as_type(a, DTYPES[dtype]).reshape(shape)
        if dtype == "BF16":  # weights, with a few of everything else
            w = as_type((rng.standard_normal(shape) * 0.02).astype(np.float32), np.uint32) >> np.uint32(16)
            a = np.where(rng.random(shape) < 0.001, a, w.astype(np.uint16).reshape(shape))
        return np.array(a)
    if dtype == "BOOL":
        return np.array(rng.random(shape) < 0.3)
    if dtype == "C64":
        return np.array(rng.standard_normal(shape) + 1j * rng.standard_normal(shape), dtype=np.complex64)
    return np.array(rng.standard_normal(shape) * 0.02, dtype=DTYPES[dtype])


def check_npy(folder, path, tensors):
    for name, (dtype, array) in tensors.items():
        out = os.path.join(folder, "x.npy")
        quern("decompress", path, "--tensor", name, "-o", out, "-f", "-q")
        got = np.load(out)
        check(got.dtype == np.dtype(DTYPES[dtype]) and got.shape == array.shape and got.tobytes() == array.tobytes(),
              "%s: numpy loads the same bits" % name)
        if dtype in ("BF16", "F16", "F8_E4M3", "F8_E5M2"):
            quern("decompress", path, "--tensor", name, "-o", out, "-f", "-q", "--f32")
            got = np.load(out)
            check(got.dtype == np.float32 and np.array_equal(got, widened(dtype, array).astype(np.float32), equal_nan=True),
                  "%s: widened values" % name)
        if array.ndim and array.shape[0] > 2:
            quern("decompress", path, "--tensor", name, "-o", out, "-f", "-q", "--rows", "1:3")
            check(np.load(out).tobytes() == array[1:3].tobytes(), "%s: rows" % name)


def check_stats(path, tensors):
    found = json.loads(quern("inspect", path, "--stats", "--json"))["inputs"][0]["tensors"]
    check([t["name"] for t in found] == list(tensors), "all tensors are listed")
    for t in found:
        dtype, array = tensors[t["name"]]
        s, v = t["stats"], values_of(dtype, array)
        f = v[np.isfinite(v)]
        check(t["shape"] == list(array.shape) and s["values"] == v.size, "%s: size" % t["name"])
        check(s["nan"] == np.isnan(v).sum() and s["inf"] == np.isinf(v).sum() and s["zeros"] == (v == 0).sum()
              and s["negative_zeros"] == ((v == 0) & np.signbit(v)).sum(), "%s: counts" % t["name"])
        if f.size:
            check(near(s["min"], f.min()) and near(s["max"], f.max()) and near(s["abs_max"], np.abs(f).max()),
                  "%s: range" % t["name"])
            check(near(s["mean"], f.mean(), tiny=1e-12 * np.abs(f).max()) and near(s["std"], f.std(), tiny=1e-12 * np.abs(f).max()),
                  "%s: moments %r %r" % (t["name"], s["mean"], f.mean()))
        if v.size:
            check(near(s["bound_bits_per_weight"], bound(dtype, array), 1e-5, 1e-9), "%s: order-0 bound" % t["name"])
            distinct = np.unique(as_type(array, "u4" if dtype == "C64" else "u%d" % array.itemsize)).size
            check(s.get("distinct_values", 0) == (distinct if distinct <= 256 else 0), "%s: distinct" % t["name"])


def check_diff(folder):
    a, b = {}, {}
    for dtype in ("F64", "F32", "F16", "BF16", "I32", "I8", "U16"):
        x, y = make(dtype, (300, 70)), None
        y = x.copy()
        y[::3, ::5] = make(dtype, (300, 70))[::3, ::5]
        a[dtype], b[dtype] = (dtype, x), (dtype, y)
    w = (rng.standard_normal((513, 300)) * 0.02).astype(np.float32)
    a["across"], b["across"] = ("F32", w), ("BF16", (w.view(np.uint32) >> 16).astype(np.uint16))
    pa, pb = os.path.join(folder, "a.safetensors"), os.path.join(folder, "b.safetensors")
    save(pa, a)
    save(pb, b)
    found = json.loads(quern("diff", pa, pb, "--json", code=1))
    check(found["different"] and len(found["tensors"]) == len(a), "every pair differs")
    for t in found["tensors"]:
        name = t["name"]
        x, y = values_of(*a[name]), values_of(*b[name])
        if a[name][0] == b[name][0]:
            kind = "u%d" % a[name][1].itemsize
            unequal = (a[name][1].view(kind) != b[name][1].view(kind)).ravel()
        else:
            unequal = x != y
        e = t["error"]
        both = np.isfinite(x) & np.isfinite(y)
        check(t["differing"] == unequal.sum() and t["first_differing"] == unequal.argmax(), "%s: positions" % name)
        check(e["values"] == x.size and e["finite_pairs"] == both.sum()
              and e["nan_mismatches"] == (np.isnan(x) != np.isnan(y)).sum(), "%s: counts" % name)
        x, y = x[both], y[both]
        d = np.abs(x - y)
        check(near(e["max_abs"], d.max()) and near(d[e["max_abs_at"]] if both.all() else d.max(), d.max()), "%s: max abs" % name)
        with np.errstate(divide="ignore", invalid="ignore"):
            rel = np.where(x != 0, d / np.abs(x), 0).max()
        check(near(e["max_rel"], rel) and near(e["mean_abs"], d.mean()) and near(e["rms"], np.sqrt((d ** 2).mean())),
              "%s: mean and RMS" % name)
        norm = np.linalg.norm
        check(near(e["rel_rms"], norm(x - y) / norm(x)) and near(e["cosine"], x @ y / norm(x) / norm(y))
              and near(e["sqnr_db"], 20 * np.log10(norm(x) / norm(x - y))), "%s: relative measures" % name)
    quern("diff", pa, pb, "-q", "--tensor", "across", "--tolerance", "rel-rms=0.005")
    quern("diff", pa, pb, "-q", "--tensor", "across", "--tolerance", "rel-rms=0.001", code=1)
    quern("diff", pa, pa, "-q")


def main():
    with tempfile.TemporaryDirectory() as folder:
        tensors = {}
        for dtype in DTYPES:
            for k, shape in enumerate([(33, 65), (5, 3, 7), (11,), (), (0, 4)]):
                tensors["%s.%d" % (dtype, k)] = (dtype, make(dtype, shape))
        path = os.path.join(folder, "all.safetensors")
        save(path, tensors)
        check_stats(path, tensors)
        packed = os.path.join(folder, "all.quern")
        quern("compress", path, "-o", packed, "-q")
        check_npy(folder, packed, tensors)
        check_npy(folder, path, {k: v for k, v in tensors.items() if k.endswith((".0", ".3"))})
        check_diff(folder)


main()
