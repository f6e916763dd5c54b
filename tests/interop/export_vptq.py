"""VPTQ's layout as quern writes it, decoded by what is written down of it and by nothing of quern, against the weights of the solve it was written from:
the same numbers. Then once more from the kept solve: the same file.

    export_vptq.py QUERN MODEL [BITS [VARIANT [STATS]]]
"""
import json
import os
import struct
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    print("skipped: numpy is not there")
    sys.exit(77)


def load(folder):
    out = {}
    for f in sorted(os.listdir(folder)):
        if f.endswith(".safetensors"):
            raw = open(os.path.join(folder, f), "rb").read()
            n = struct.unpack("<Q", raw[:8])[0]
            for name, t in json.loads(raw[8:8 + n]).items():
                if name != "__metadata__":
                    a, b = t["data_offsets"]
                    out[name] = (t["dtype"], t["shape"], raw[8 + n + a:8 + n + b])
    return out


def floats(t):
    dtype, shape, raw = t
    if dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4").reshape(shape)
    return np.frombuffer(raw, {"F16": "<f2", "F32": "<f4"}[dtype]).astype("<f4").reshape(shape)


def rounded(w, dtype):
    """to nearest even, as float32 again"""
    if dtype == "F32":
        return w
    if dtype == "F16":
        return w.astype("<f2").astype("<f4")
    u = w.view("<u4").astype(np.uint64)
    u = (u + 0x7FFF + (u >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)
    return (u.astype("<u4") << 16).view("<f4")


def decode(t, name, c):
    m, n = c["out_features"], c["in_features"]
    v, k, kr = c["vector_lens"][1], c["num_centroids"][1], c["num_res_centroids"][1]
    assert v in (2, 4, 6, 8, 10, 12, 16) and k in (1 << 4, 1 << 8, 1 << 10, 1 << 12) and (kr == -1 or 4 <= kr <= 4096)
    assert c["group_num"] == 1 and c["group_size"] == n and c["outlier_size"] == 0 and not c["enable_perm"] and c["is_indice_packed"]
    ib, rb = k.bit_length() - 1, kr.bit_length() - 1 if kr > 0 else 0
    strips = -(-m // v)
    dtype, shape, raw = t[name + ".indices"]
    assert dtype == "I32" and shape == [1, strips, -(-n * (ib + rb) // 32)]
    bits = np.unpackbits(np.frombuffer(raw, np.uint8).reshape(strips, -1), axis=1, bitorder="little")
    assert not bits[:, n * (ib + rb):].any()
    code = bits[:, :n * (ib + rb)].reshape(strips, n, ib + rb).astype(np.int64) @ (1 << np.arange(ib + rb))
    centroids = floats(t[name + ".centroids.weight"]).reshape(k, v)
    w = centroids[code & (k - 1)]
    if rb:
        w = w + floats(t[name + ".res_centroids.weight"]).reshape(kr, v)[code >> ib]
    w = w.transpose(0, 2, 1).reshape(strips * v, n)[:m]
    return w * floats(t[name + ".weight_scale"])[None, :] + floats(t[name + ".weight_bias"])[None, :]


def run(*args):
    done = subprocess.run(args, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def main():
    quern, model = sys.argv[1:3]
    bits, variant, stats = (sys.argv[3:] + ["4", "", ""][len(sys.argv) - 3:])[:3]
    more = ["--stats", stats] if stats else []
    with tempfile.TemporaryDirectory() as tmp:
        out, solve, npz, again = (os.path.join(tmp, x) for x in ("out", "solve.quern", "solve.npz", "again"))
        to = "vptq" + (":" + variant if variant else "")
        run(quern, "export", model, "--to", to, "--bits", bits, "-o", out, "--keep-solve", solve, "--quiet", *more)
        run(quern, "export", solve, "--to", "npz", "-o", npz, "--quiet")
        run(quern, "export", solve, "--to", to, "--bits", bits, "-o", again, "--quiet")
        t, source = load(out), load(model)
        assert t == load(again), "from the solve it is another file"
        config = json.load(open(os.path.join(out, "config.json")))["quantization_config"]
        assert config["quant_method"] == "vptq"
        layers, total, weights, error = config["config_for_layers"], 0, 0, 0.0
        with np.load(npz) as want:
            for name, c in layers.items():
                dtype = source[name + ".weight"][0]
                got = rounded(decode(t, name, c).astype("<f4"), dtype)
                assert got.shape == want[name + ".weight"].shape and (got == want[name + ".weight"]).all(), name
                assert name + ".weight" not in t
                total += sum(len(v[2]) for k, v in t.items() if k.startswith(name + ".") and not k.endswith(".bias"))
                weights += got.size
                w = floats(source[name + ".weight"]).astype(np.float64)
                error += ((got - w) ** 2).sum() / (w ** 2).sum() / len(layers)
            for name, x in source.items():
                if name[:-len(".weight")] not in layers:
                    assert t[name] == x, name
        shapes = sorted({(c["vector_lens"][1], c["num_centroids"][1], c["num_res_centroids"][1]) for c in layers.values()})
        print(f"{model}: {len(layers)} layers identical, {8 * total / weights:.3f} bits a weight, relative error {error:.4f}, {shapes}")


main()
