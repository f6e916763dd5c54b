"""Exported model folders, decoded by what is published of each layout and by nothing of quern: compressed-tensors, GPTQ, AWQ, MLX, dense. In float32, then rounded to the
type of the weight, they must be the very bits that the .quern of the solve decodes to; written again from that .quern they must be the same file.

    export_numpy.py QUERN MODEL [TARGET...]    MODEL: a folder of safetensors with config.json
"""
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("skipped: numpy is not there")
    sys.exit(77)


# --- files ---------------------------------------------------------------------------------------------------------------

def load(folder):
    """name → (dtype, array); BF16 and F8 as their bits"""
    kinds = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I32": "<i4", "U32": "<u4", "I64": "<i8", "I8": "i1", "U8": "u1", "F8_E4M3": "u1", "F64": "<f8"}
    out, index = {}, os.path.join(folder, "model.safetensors.index.json")
    mapped = json.load(open(index))["weight_map"] if os.path.exists(index) else None
    for f in sorted(os.listdir(folder)):
        if not f.endswith(".safetensors"):
            continue
        raw = open(os.path.join(folder, f), "rb").read()
        n = struct.unpack("<Q", raw[:8])[0]
        head = json.loads(raw[8:8 + n])
        assert n % 8 == 0 and head.get("__metadata__", {}).get("format") == "pt", f
        spans = []
        for name, t in head.items():
            if name == "__metadata__":
                continue
            a, b = t["data_offsets"]
            spans.append((a, b))
            assert mapped is None or mapped.pop(name) == f, name
            assert name not in out
            out[name] = (t["dtype"], np.frombuffer(raw[8 + n + a:8 + n + b], kinds[t["dtype"]]).reshape(t["shape"]))
        spans.sort()
        assert spans[0][0] == 0 and spans[-1][1] == len(raw) - 8 - n and all(x[1] == y[0] for x, y in zip(spans, spans[1:])), f
    assert not mapped
    return out


def widen(kind, a):
    if kind == "BF16":
        return (a.astype(np.uint32) << 16).view(np.float32)
    return a.astype(np.float32)


def narrow(kind, a):
    """float32 → the bits of a type, to nearest, ties to even"""
    assert a.dtype == np.float32
    if kind == "F32":
        return a.view(np.uint32)
    if kind == "F16":
        return a.astype(np.float16).view(np.uint16)
    u = a.view(np.uint32).astype(np.uint64)
    return ((u + 0x7fff + (u >> 16 & 1)) >> 16).astype(np.uint16)


def stream(words, bits, n):
    """n codes of `bits` from the lowest bit of the first 32-bit word on, along the last axis"""
    b = np.unpackbits(np.ascontiguousarray(words).view(np.uint32).astype("<u4").view(np.uint8).reshape(*words.shape[:-1], -1), axis=-1, bitorder="little")
    b = b[..., :n * bits].reshape(*words.shape[:-1], n, bits)
    return (b.astype(np.int64) << np.arange(bits)).sum(-1)


def e4m3(bits):
    s, e, m = bits >> 7, (bits >> 3 & 15).astype(np.int64), (bits & 7).astype(np.float64)
    assert ((bits & 0x7f) != 0x7f).all()
    v = np.where(e == 0, m / 8 * 2.0 ** -6, (1 + m / 8) * np.exp2((e - 7).astype(np.float64)))
    return np.where(s == 1, -v, v).astype(np.float32)


def spread(a, cols):
    """a value for each group of a row → one for each column"""
    g = a.shape[1]
    assert cols % g == 0
    return np.repeat(a, cols // g, axis=1)


# --- layouts ----------------------------------------------------------------------------------------------------------------
# each: (tensors, config) → {module: (kind of the weight or None, float32 weights)}, names of tensors used

def ct_scheme(q, module):
    """names come before classes"""
    for g in q["config_groups"].values():
        if module in g["targets"]:
            return g
    for g in q["config_groups"].values():
        if "Linear" in g["targets"] and module not in q["ignore"]:
            return g
    return None


def compressed_tensors(t, c):
    q = c["quantization_config"]
    assert q["quant_method"] == "compressed-tensors" and q["quantization_status"] == "compressed"
    out, used = {}, set()
    for name in t:
        if not name.endswith(".weight_scale"):
            continue
        m = name[:-len(".weight_scale")]
        g = ct_scheme(q, m)
        assert g, m
        assert g["format"] == q["format"]
        w, kind = g["weights"], t[name][0]
        scale = widen(*t[name])
        used |= {name}
        if q["format"] == "mxfp4-pack-quantized":
            d, v = t[m + ".weight_packed"]
            assert d == t[name][0] == "U8" and w["type"] == "float" and w["group_size"] == 32 and g["input_activations"] is None
            used |= {m + ".weight_packed"}
            nib = np.stack([v & 15, v >> 4], -1).reshape(v.shape[0], -1)
            lev = np.array([0, .5, 1, 1.5, 2, 3, 4, 6, -0., -.5, -1, -1.5, -2, -3, -4, -6], np.float32)[nib]
            out[m] = None, lev * np.exp2(np.repeat(t[name][1].astype(np.float32), 32, 1) - 127)
        elif q["format"] == "pack-quantized":
            rows, cols = (int(x) for x in t[m + ".weight_shape"][1])
            b = w["num_bits"]
            assert w["type"] == "int" and t[m + ".weight_packed"][0] == "I32" and g["input_activations"] is None
            assert t[m + ".weight_packed"][1].shape == (rows, -(-cols * b // 32))
            code = stream(t[m + ".weight_packed"][1], b, cols) - (1 << (b - 1))
            used |= {m + ".weight_packed", m + ".weight_shape"}
            groups = 1 if w["strategy"] == "channel" else cols // w["group_size"]
            assert scale.shape == (rows, groups), (m, scale.shape, groups)
            if w["symmetric"]:
                zero = np.zeros((rows, groups), np.int64)
            else:
                z = t[m + ".weight_zero_point"][1]
                assert z.shape == (-(-rows * b // 32), groups)
                zero = stream(z.T, b, rows).T - (1 << (b - 1))
                used |= {m + ".weight_zero_point"}
            out[m] = kind, (code - spread(zero, cols)).astype(np.float32) * spread(scale, cols)
        else:
            d, v = t[m + ".weight"]
            used |= {m + ".weight"}
            assert w["strategy"] == "channel" and scale.shape == (v.shape[0], 1) and g["input_activations"]["dynamic"] is True
            if q["format"] == "int-quantized":
                assert d == "I8" and w["type"] == "int"
                out[m] = kind, v.astype(np.float32) * scale
            else:
                assert q["format"] == "float-quantized" and d == "F8_E4M3" and w["type"] == "float"
                out[m] = kind, e4m3(v) * scale
    for m in q["ignore"]:
        assert m not in out
    return out, used


def gptq(t, c):
    q = c["quantization_config"]
    assert q["quant_method"] == "gptq" and q["checkpoint_format"] == "gptq"
    out, used = {}, set()
    for name in t:
        if not name.endswith(".qweight"):
            continue
        m = name[:-len(".qweight")]
        own = dict(q)
        for rule, change in q["dynamic"].items():
            if re.match(rule[2:], m):
                assert rule[:2] == "+:", m
                own.update(change)
        b = own["bits"]
        words, zeros, (kind, scales), idx = t[name][1], t[m + ".qzeros"][1], t[m + ".scales"], t[m + ".g_idx"][1]
        used |= {name, m + ".qzeros", m + ".scales", m + ".g_idx"}
        rows, cols = words.shape[1], idx.size
        assert kind == "F16" and words.shape[0] * 32 == cols * b and zeros.shape == (scales.shape[0], rows * b // 32)
        size = cols if own["group_size"] == -1 else own["group_size"]
        assert (idx == np.arange(cols) // size).all() and scales.shape == (-(-cols // size), rows)
        code = stream(words.T, b, cols).T                    # (in, out)
        zero = stream(zeros, b, rows) + 1                     # version 1
        assert not own["sym"] or (zero == 1 << (b - 1)).all()
        out[m] = None, ((code - zero[idx]).astype(np.float32) * scales.astype(np.float32)[idx]).T
    return out, used


def awq(t, c):
    q = c["quantization_config"]
    assert q["quant_method"] == "awq" and q["bits"] == 4 and q["version"] == "gemm"
    order = [0, 4, 1, 5, 2, 6, 3, 7]                           # of the nibble that output p comes from
    out, used = {}, set()
    nibbles = lambda a: np.stack([a.view(np.uint32) >> (4 * order[p]) & 15 for p in range(8)], -1).reshape(a.shape[0], -1).astype(np.int64)
    for name in t:
        if not name.endswith(".qweight"):
            continue
        m = name[:-len(".qweight")]
        assert not any(x in m for x in q["modules_to_not_convert"]), m
        code, zero, (kind, scales) = nibbles(t[name][1]), nibbles(t[m + ".qzeros"][1]), t[m + ".scales"]
        used |= {name, m + ".qzeros", m + ".scales"}
        g = q["group_size"]
        assert kind == "F16" and code.shape[0] % g == 0 and scales.shape == (code.shape[0] // g, code.shape[1]) == zero.shape
        at = np.arange(code.shape[0]) // g
        out[m] = None, ((code - zero[at]).astype(np.float32) * scales.astype(np.float32)[at]).T
    return out, used


def mlx(t, c):
    q = c["quantization"]
    assert q == c["quantization_config"] and q["mode"] == "affine"
    out, used = {}, set()
    for name in t:
        if not name.endswith(".scales"):
            continue
        m = name[:-len(".scales")]
        b, g = q["bits"], q["group_size"]
        kind, words = t[m + ".weight"]
        assert kind == "U32"
        cols = words.shape[1] * 32 // b
        scale, bias = widen(*t[name]), widen(*t[m + ".biases"])
        assert scale.shape == bias.shape == (words.shape[0], cols // g)
        used |= {name, m + ".biases", m + ".weight"}
        code = stream(words, b, cols).astype(np.float32)
        out[m] = t[name][0], code * spread(scale, cols) + spread(bias, cols)
    return out, used


DECODERS = {"compressed-tensors": compressed_tensors, "gptq": gptq, "awq": awq, "mlx": mlx}


# --- the check ------------------------------------------------------------------------------------------------------------------

def run(*args):
    r = subprocess.run(args, capture_output=True, text=True)
    if r.returncode:
        sys.exit(f"{' '.join(args)}: {r.stderr}")


def check(quern, model, scratch, spec):
    target, _, rest = spec.partition(":")
    variant, *options = (rest or "").split(" ") if rest else [""]
    to = target + (":" + variant if variant else "")
    out, solve, again, dense = (os.path.join(scratch, x) for x in ("out", "solve.quern", "again", "dense"))
    for x in (out, again, dense):
        shutil.rmtree(x, ignore_errors=True)
    if os.path.exists(solve):
        os.remove(solve)
    run(quern, "export", model, "--to", to, "-o", out, "--keep-solve", solve, "-q", *options)
    run(quern, "decompress", solve, "-o", dense, "-q")
    run(quern, "export", solve, "--to", to, "-o", again, "-q", *[o for o in options if "shard" in o])
    got, want, was = load(out), load(dense), load(model)
    config = json.load(open(os.path.join(out, "config.json")))
    modules, used = DECODERS[target](got, config)
    assert modules, spec
    worst = 0
    for m, (kind, w) in modules.items():
        k, bits = want[m + ".weight"]
        assert kind in (None, k)
        assert np.array_equal(narrow(k, w), bits.view(np.uint32) if k == "F32" else bits.view(np.uint16)), f"{spec}: {m} is not what the .quern decodes to"
        first = widen(*was[m + ".weight"]).astype(np.float64)
        worst = max(worst, np.square(w - first).sum() / np.square(first).sum())
        assert m + ".weight" in used or m + ".weight" not in got
    rest = {n for n in want if n.endswith(".weight") and n[:-7] in modules} ^ set(want)
    assert rest == set(got) - used, (rest ^ (set(got) - used))
    for n in rest:
        assert got[n][0] == was[n][0] and np.array_equal(got[n][1].view(np.uint8), was[n][1].view(np.uint8)), n
    for f in os.listdir(model):
        if not f.endswith((".safetensors", ".index.json")) and f != "config.json":
            assert open(os.path.join(model, f), "rb").read() == open(os.path.join(out, f), "rb").read(), f
    kept = json.load(open(os.path.join(model, "config.json")))
    assert all(config[k] == v for k, v in kept.items())
    for f in os.listdir(out):
        assert open(os.path.join(out, f), "rb").read() == open(os.path.join(again, f), "rb").read(), f"{spec}: {f} is another one from the .quern"
    print(f"{spec}: {len(modules)} modules of {len(was)} tensors identical, worst |W - W'|^2 / |W|^2 {worst:.2e}")


def check_dense(quern, model, scratch):
    was = load(model)
    for variant, kind in (("", None), ("f32", "F32"), ("f16", "F16"), ("bf16", "BF16")):
        out = os.path.join(scratch, "dense-" + variant)
        shutil.rmtree(out, ignore_errors=True)
        run(quern, "export", model, "--to", "safetensors" + (":" + variant if variant else ""), "-o", out, "-q", "--shard-size=100000")
        got = load(out)
        assert set(got) == set(was)
        for n, (k, a) in was.items():
            to = kind or k
            assert got[n][0] == to
            bits = got[n][1].view(np.uint32 if to == "F32" else np.uint16)
            assert np.array_equal(narrow(to, widen(k, a)), bits), (variant, n)
        said = json.load(open(os.path.join(out, "config.json"))).get("torch_dtype")
        assert kind is None or said == {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[kind]
    print(f"safetensors: {len(was)} tensors in each type")


ALL = ["compressed-tensors", "compressed-tensors:int4 --asymmetric", "compressed-tensors:int8 --group=32", "compressed-tensors:int4 --group=row --shard-size=100000",
       "compressed-tensors:w8a8", "compressed-tensors:fp8", "compressed-tensors:mxfp4", "gptq", "gptq:int2 --group=32", "gptq:int3 --asymmetric", "gptq:int8 --group=row", "gptq:int4 --asymmetric --group=64",
       "awq", "awq:int4 --group=32 --asymmetric=no", "mlx", "mlx:int3 --group=32", "mlx:int6", "mlx:int8"]

if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    scratch = tempfile.mkdtemp()
    try:
        for spec in sys.argv[3:] or ALL:
            check(sys.argv[1], sys.argv[2], scratch, spec)
        if len(sys.argv) == 3:
            check_dense(sys.argv[1], sys.argv[2], scratch)
    finally:
        shutil.rmtree(scratch)
