#!/usr/bin/env python3
"""Statistics against numpy in double precision, and importance matrices against ggml's own reader where it is there.

usage: stats_numpy.py STATS_TOOL QUERN BUILD_FOLDER

H_ij is measured against sqrt(H_ii H_jj): 1e-6 is the bar. Files must not depend on the number of threads.
"""
import ctypes
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    if sys.executable != "/usr/bin/python3" and os.path.exists("/usr/bin/python3") and "QN_SECOND_TRY" not in os.environ:
        os.environ["QN_SECOND_TRY"] = "1"
        os.execv("/usr/bin/python3", ["/usr/bin/python3"] + sys.argv)
    print("skipped: no numpy (Debian: python3-numpy)")
    sys.exit(77)

BAR = 1e-6
tool, quern, build = sys.argv[1:4]


def run(cmd, data=b"", ok=(0,)):
    r = subprocess.run(cmd, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert r.returncode in ok, (cmd, r.returncode, r.stderr)
    return r


def dump(path, n, name="w", diag=False):
    raw = run([tool, "dump", path, name]).stdout
    count = struct.unpack_from("<Q", raw)[0]
    at = 8
    h = None
    if not diag:
        h = np.frombuffer(raw, "<f8", n * n, at).reshape(n, n)
        at += 8 * n * n
    v = np.frombuffer(raw, "<f8", 3 * n, at).reshape(3, n)
    e = np.frombuffer(raw, "<f4", 2 * n, at + 24 * n).reshape(2, n)
    return count, h, v, e


def reference(x):
    d = x.astype(np.float64)
    return d.T @ d, np.stack([(d * d).sum(0), d.sum(0), np.abs(d).sum(0)]), np.stack([x.min(0), x.max(0)])


def error(h, want):
    """Largest error of an element against the geometric mean of its diagonal elements."""
    s = np.sqrt(np.diag(want))
    scale = np.outer(s, s)
    bad = np.abs(h - want)
    assert (bad[scale == 0] == 0).all()
    return (bad[scale > 0] / scale[scale > 0]).max() if (scale > 0).any() else 0.0


def check(name, x, path, batch, diag=False):
    n = x.shape[1]
    run([tool, "diag" if diag else "add", path, "2", str(batch), str(n)], x.tobytes())
    count, h, v, e = dump(path, n, diag=diag)
    want_h, want_v, want_e = reference(x)
    assert count == len(x), name
    worst = 0.0
    if not diag:
        assert (h == h.T).all(), name
        worst = error(h, want_h)
        assert worst <= BAR, (name, worst)
    scale = np.maximum(want_v[2], np.finfo(np.float64).tiny)
    assert (np.abs(v[0] - want_v[0]) <= 1e-13 * want_v[0]).all(), name
    assert (np.abs(v[1] - want_v[1]) <= 1e-13 * scale).all(), name
    assert (np.abs(v[2] - want_v[2]) <= 1e-13 * scale).all(), name
    assert (e == want_e).all(), name
    print(f"{name}: n {n}, {len(x)} rows{', diagonal' if diag else f', error {worst:.1e}'}")


def ggml(build):
    for folder in filter(None, [os.environ.get("QUERN_NPM"), build]):
        path = pathlib.Path(folder) / "node_modules/@node-llama-cpp/linux-x64/bins/linux-x64/libggml-base.so"
        if path.is_file():
            return ctypes.CDLL(str(path))
    return None


class Params(ctypes.Structure):
    _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p)]


def check_ggml(so, path, want):
    """The stock reader takes the file and finds the same tensors with the same values."""
    so.gguf_init_from_file.restype = ctypes.c_void_p
    so.gguf_init_from_file.argtypes = [ctypes.c_char_p, Params]
    for fn, res, args in [("gguf_get_n_tensors", ctypes.c_int64, []), ("gguf_find_key", ctypes.c_int64, [ctypes.c_char_p]),
                          ("gguf_get_val_str", ctypes.c_char_p, [ctypes.c_int64]), ("gguf_get_arr_n", ctypes.c_size_t, [ctypes.c_int64]),
                          ("gguf_get_arr_str", ctypes.c_char_p, [ctypes.c_int64, ctypes.c_size_t]),
                          ("gguf_get_val_u32", ctypes.c_uint32, [ctypes.c_int64]),
                          ("gguf_get_tensor_name", ctypes.c_char_p, [ctypes.c_int64]),
                          ("gguf_get_tensor_offset", ctypes.c_size_t, [ctypes.c_int64]),
                          ("gguf_get_data_offset", ctypes.c_size_t, [])]:
        f = getattr(so, fn)
        f.restype, f.argtypes = res, [ctypes.c_void_p] + args
    g = so.gguf_init_from_file(path.encode(), Params(True, None))
    assert g, "ggml refuses the file"
    assert so.gguf_get_val_str(g, so.gguf_find_key(g, b"general.type")) == b"imatrix"
    assert so.gguf_get_arr_n(g, so.gguf_find_key(g, b"imatrix.datasets")) >= 1
    assert so.gguf_get_val_u32(g, so.gguf_find_key(g, b"imatrix.chunk_count")) >= 1
    raw = pathlib.Path(path).read_bytes()
    base = so.gguf_get_data_offset(g)
    names = [so.gguf_get_tensor_name(g, i).decode() for i in range(so.gguf_get_n_tensors(g))]
    assert sorted(names) == sorted(want), names
    for i, name in enumerate(names):
        at = base + so.gguf_get_tensor_offset(g, i)
        got = np.frombuffer(raw, "<f4", len(want[name]), at)
        assert (got == want[name]).all(), name
    print(f"ggml's reader: {len(names)} tensors as written")


def dat(entries, tail=b""):
    out = struct.pack("<i", len(entries))
    for name, calls, values in entries:
        out += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", calls, len(values)) + \
            np.asarray(values, "<f4").tobytes()
    return out + tail


def parse_dat(raw):
    at, out = 4, {}
    for _ in range(struct.unpack_from("<i", raw)[0]):
        n = struct.unpack_from("<i", raw, at)[0]
        name = raw[at + 4:at + 4 + n].decode()
        calls, k = struct.unpack_from("<ii", raw, at + 4 + n)
        at += 12 + n
        out[name] = (calls, np.frombuffer(raw, "<f4", k, at))
        at += 4 * k
    return out, raw[at:]


def check_imatrix(tmp, rng):
    sums = rng.random(24).astype("<f4") * 100
    moe = rng.random(4 * 24).astype("<f4")
    down = rng.random(4 * 10).astype("<f4")
    entries = [("blk.0.attn_q.weight", 40, sums), ("blk.0.ffn_up_exps.weight", 40, moe), ("blk.0.ffn_down_exps.weight", 40, down)]
    text = b"calib.txt"
    pathlib.Path(tmp, "a.dat").write_bytes(dat(entries, struct.pack("<ii", 40, len(text)) + text))
    run([quern, "stats", "--import-imatrix", f"{tmp}/a.dat", "-o", f"{tmp}/a.qstats", "--arch", "qwen2moe"])
    j = json.loads(run([quern, "stats", "--json", f"{tmp}/a.qstats"]).stdout)
    names = [e["name"] for e in j["inputs"][0]["entries"]]
    assert len(names) == 9 and "model.layers.0.mlp.experts.3.up_proj.weight" in names, names
    run([quern, "stats", f"{tmp}/a.qstats", "--export-imatrix", f"{tmp}/b.dat"])
    back, rest = parse_dat(pathlib.Path(tmp, "b.dat").read_bytes())
    assert rest == struct.pack("<ii", 40, len(text)) + text
    for name, calls, values in entries:
        assert back[name][0] == calls and np.allclose(back[name][1], values, rtol=3e-7, atol=0), name
    run([quern, "stats", f"{tmp}/a.qstats", "--export-imatrix", f"{tmp}/b.gguf"])
    run([quern, "stats", "--import-imatrix", f"{tmp}/b.gguf", "-o", f"{tmp}/c.qstats", "--arch", "qwen2moe"])
    run([quern, "stats", f"{tmp}/c.qstats", "--export-imatrix", f"{tmp}/c.dat"])
    assert pathlib.Path(tmp, "c.dat").read_bytes() == pathlib.Path(tmp, "b.dat").read_bytes()
    print("imatrix: .dat -> .qstats -> .gguf -> .qstats -> .dat gives the same file")
    so = ggml(build)
    if so is None:
        print("no libggml-base.so: its reader is not asked (see gguf_ggml.py)")
        return
    want = {}
    for name, calls, values in entries:
        e = 1 if "exps" not in name else 4
        want[name + ".in_sum2"] = values
        want[name + ".counts"] = np.full(e, calls, "<f4")
    check_ggml(so, f"{tmp}/b.gguf", want)


def main():
    rng = np.random.default_rng(11)
    with tempfile.TemporaryDirectory() as tmp:
        path = f"{tmp}/s.qstats"
        normal = rng.standard_normal
        for n, rows, batch in [(1, 1, 8), (1, 100, 7), (3, 50, 50), (127, 300, 100), (128, 300, 64), (129, 1000, 333), (288, 2000, 512),
                               (640, 1500, 1000), (2048, 3000, 1024)]:
            check("normal", normal((rows, n)).astype(np.float32), path, batch)
        check("diagonal", normal((500, 777)).astype(np.float32), path, 100, diag=True)
        x = normal((4000, 320)).astype(np.float32)
        check("mean 100", x + np.float32(100), path, 512)
        check("mean 1000, spread 1e-2", (1000 + 0.01 * x).astype(np.float32), path, 512)
        check("constants", np.full((3000, 130), 0.1, np.float32), path, 1000)
        check("a few columns 1e4 as large", x * np.where(np.arange(320) % 64 == 0, np.float32(1e4), np.float32(1)), path, 512)
        check("columns over 30 decades", (x * 10.0 ** np.linspace(-15, 15, 320)).astype(np.float32), path, 512)
        check("dead columns", x * (np.arange(320) % 3 > 0), path, 512)
        check("beyond f32 squares", (x * 1e17).astype(np.float32)[:500], path, 100)
        check("below f32 squares", (x * 1e-18).astype(np.float32)[:500], path, 100)
        check("sparse", (x * (rng.random(x.shape) < 0.01)).astype(np.float32), path, 512)
        want = None
        for threads in (1, 2, 3, 8):
            run([tool, "add", path, str(threads), "700", "320"], x.tobytes())
            raw = pathlib.Path(path).read_bytes()
            assert want is None or raw == want, f"{threads} threads give another file"
            want = raw
        print("1, 2, 3 and 8 threads: the same bytes")
        halves = []
        for i, part in enumerate((x[:1500], x[1500:])):
            halves.append(f"{tmp}/{i}.qstats")
            run([tool, "add", halves[i], "2", "500", "320"], part.tobytes())
        run([quern, "stats", "--merge", *halves, "-o", f"{tmp}/m.qstats"])
        run([quern, "stats", "--merge", *halves[::-1], "-o", f"{tmp}/n.qstats"])
        assert pathlib.Path(tmp, "m.qstats").read_bytes() == pathlib.Path(tmp, "n.qstats").read_bytes()
        count, h, v, e = dump(f"{tmp}/m.qstats", 320, name="v")
        want_h, want_v, want_e = reference(x)
        assert count == len(x) and error(h, want_h) <= BAR and (e == want_e).all()
        assert (np.abs(v - want_v) <= 1e-12 * np.maximum(want_v[2], want_v[0])).all()
        print(f"merged halves: error {error(h, want_h):.1e}, either order the same bytes")
        bad = x[:100].copy()
        bad[70, 200] = np.inf
        r = run([tool, "add", path, "2", "50", "320"], bad.tobytes(), ok=(3,))
        assert b"infinite in row 20, column 200" in r.stderr and b"'w'" in r.stderr, r.stderr
        bad[40, 300] = np.nan
        r = run([tool, "add", path, "2", "50", "320"], bad.tobytes(), ok=(3,))
        assert b"NaN in row 40, column 300" in r.stderr, r.stderr
        check_imatrix(tmp, rng)
    return 0


sys.exit(main())
