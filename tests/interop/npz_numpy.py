"""The program reads what numpy has written: arrays of every dtype, in both orders and byte orders, plain and in archives,
compressed or not, are the same bit for bit. Usage: npz_numpy.py QUERN. Exit code 77 (skipped) without numpy."""
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile

try:
    import numpy as np
except ImportError:
    print("skipped: python3-numpy is not installed")
    sys.exit(77)

QUERN = sys.argv[1]
DTYPES = {"b1": "BOOL", "u1": "U8", "i1": "I8", "u2": "U16", "i2": "I16", "f2": "F16", "u4": "U32", "i4": "I32", "f4": "F32",
          "u8": "U64", "i8": "I64", "f8": "F64", "c8": "C64"}
SHAPES = [(), (0,), (1,), (7,), (3, 5), (1, 6), (6, 1), (2, 3, 4), (4, 1, 3, 2), (2, 0, 3), (129, 67), (5, 2000)]
rng = np.random.default_rng(7)
checks = 0


def check(ok, what):
    global checks
    checks += 1
    if not ok:
        print("not ok", checks, what)
        sys.exit(1)


def quern(*args, code=0):
    p = subprocess.run([QUERN, *args], capture_output=True, text=True)
    check(p.returncode == code, "quern %s exits with %d: %s" % (" ".join(args), p.returncode, p.stderr.strip()))
    return p.stdout + p.stderr


def make(kind, shape, big, fortran):
    plain = np.dtype("<" + kind)
    n = int(np.prod(shape))
    bits = rng.integers(0, 256, n * plain.itemsize, dtype=np.uint8)
    if kind == "b1":
        bits &= 1
    a = np.frombuffer(bits.tobytes(), dtype=plain).reshape(shape).copy()
    if big:
        a = a.byteswap().view(plain.newbyteorder())
    return np.asfortranarray(a) if fortran else a


def plain_bytes(a):
    """Row-major and little-endian, whatever the values are (NaNs keep their payload)."""
    if a.dtype.byteorder == ">":
        a = a.byteswap().view(a.dtype.newbyteorder("<"))
    return a.tobytes(order="C")


def tensors_of(path, folder, names):
    """All tensors as one safetensors-free way out: each as .npy, read back as bytes."""
    out = {}
    for name in names:
        target = os.path.join(folder, "one.npy")
        quern("decompress", path, "--tensor", name, "-o", target, "-f", "-q")
        out[name] = np.load(target)
    return out


def check_listing(path, want):
    found = json.loads(quern("inspect", path, "--json"))["inputs"][0]["tensors"]
    check({t["name"] for t in found} == set(want), "%s: names" % path)
    for t in found:
        kind, array = want[t["name"]]
        check(t["dtype"] == DTYPES[kind] and t["shape"] == list(array.shape) and t["bytes"] == array.nbytes,
              "%s: %s is %s %s" % (path, t["name"], t["dtype"], t["shape"]))


def round_trip(path, folder):
    packed, back = os.path.join(folder, "p.quern"), os.path.join(folder, "back")
    quern("compress", path, "-o", packed, "-f", "-q")
    quern("decompress", packed, "-o", back, "-f", "-q")
    with open(path, "rb") as x, open(back, "rb") as y:
        check(x.read() == y.read(), "%s: the file comes back" % path)


def all_arrays():
    out = {}
    for kind in DTYPES:
        for shape in SHAPES:
            for big in (False, True):
                for fortran in (False, True):
                    if (big and kind[1] == "1") or (fortran and len(shape) < 2):
                        continue
                    name = "%s.%s.%s%s" % (kind, "x".join(map(str, shape)) or "scalar", "B" if big else "L", "F" if fortran else "C")
                    out[name] = (kind, make(kind, shape, big, fortran))
    return out


def check_archives(folder, arrays):
    plain = {n: a for n, (_, a) in arrays.items()}
    stored, deflated = os.path.join(folder, "stored.npz"), os.path.join(folder, "deflated.npz")
    np.savez(stored, **plain)
    np.savez_compressed(deflated, **plain)
    # a third, row-major and little-endian throughout: what the others must be equal to
    straight = os.path.join(folder, "straight.npz")
    np.savez(straight, **{n: np.frombuffer(plain_bytes(a), dtype=a.dtype.newbyteorder("<")).reshape(a.shape)
                          for n, a in plain.items()})
    for path in (stored, deflated, straight):
        check_listing(path, arrays)
    check("equal: %d tensors" % len(arrays) in quern("diff", straight, stored, "--tensors-only"), "stored is equal")
    check("equal: %d tensors" % len(arrays) in quern("diff", straight, deflated, "--tensors-only"), "deflated is equal")
    some = list(arrays)[:: max(1, len(arrays) // 60)]
    for path in (stored, deflated):
        for name, got in tensors_of(path, folder, some).items():
            check(got.shape == plain[name].shape and got.tobytes() == plain_bytes(plain[name]), "%s of %s" % (name, path))
        round_trip(path, folder)


def check_files(folder, arrays):
    for name, (kind, array) in arrays.items():
        if "129x67" not in name and "2x3x4" not in name and "scalar" not in name:
            continue
        path = os.path.join(folder, name + ".npy")
        np.save(path, array)
        check_listing(path, {name: (kind, array)})
        got = tensors_of(path, folder, [name])[name]
        check(got.shape == array.shape and got.tobytes() == plain_bytes(array), path)
        if array.ndim == 2:
            out = os.path.join(folder, "rows.npy")
            quern("decompress", path, "--tensor", name, "-o", out, "-f", "-q", "--rows", "3:5")
            check(np.load(out).tobytes() == plain_bytes(array[3:5]), "%s: rows" % path)
    round_trip(path, folder)


def check_large(folder):
    """Many chunks: Fortran order over windows, deflated over skips, by two threads."""
    a = rng.standard_normal((3000, 1100)).astype(np.float32)
    b = np.asfortranarray(rng.standard_normal((40, 50, 700)))
    path, other = os.path.join(folder, "large.npz"), os.path.join(folder, "c.npz")
    np.savez_compressed(path, a=a, f=np.asfortranarray(a), big=a.astype(">f4"), b=b)
    np.savez(other, a=a, f=a, big=a, b=np.ascontiguousarray(b))
    check("equal: 4 tensors" in quern("diff", path, other, "--tensors-only"), "large arrays")
    np.savez(path, a=a, f=np.asfortranarray(a), big=a.astype(">f4"), b=b)
    check("equal: 4 tensors" in quern("diff", path, other, "--tensors-only"), "large arrays, stored")


def check_versions(folder):
    a = rng.standard_normal((4, 6)).astype(np.float32)
    for version in ((1, 0), (2, 0), (3, 0)):
        path = os.path.join(folder, "v.npy")
        with open(path, "wb") as f:
            np.lib.format.write_array(f, a, version=version)
        check(tensors_of(path, folder, ["v"])["v"].tobytes() == a.tobytes(), "version %d.%d" % version)


def check_refusals(folder):
    path = os.path.join(folder, "r.npy")
    for array, text in ((np.array(["a", "bc"]), "is text"), (np.array([1, "x", None], dtype=object), "Python objects"),
                        (np.zeros(2, dtype=[("x", "<f4"), ("y", "<i4")]), "with fields"),
                        (np.zeros(3, dtype=np.complex128), "'<c16' is not known"), (np.zeros(2, "V2"), "without a meaning"),
                        (np.zeros(2, "M8[s]"), "dates or times")):
        np.save(path, array, allow_pickle=True)
        check(text in quern("inspect", path, code=4), "refused: %s" % text)
    mixed = os.path.join(folder, "mixed.npz")
    np.savez(mixed, w=np.ones(3, np.float32), names=np.array(["a", "b"]))
    said = quern("inspect", mixed)
    check("1 tensor" in said and "names.npy is kept but not read: dtype '<U1' is text" in said, "text beside weights")
    round_trip(mixed, folder)
    damaged = io.BytesIO()
    with zipfile.ZipFile(damaged, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("w.npy", b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }".ljust(79) + b"\n" + bytes(8))
    path = os.path.join(folder, "short.npz")
    with open(path, "wb") as f:
        f.write(damaged.getvalue())
    check("array needs 12 bytes" in quern("inspect", path, code=3), "an array cut short")


with tempfile.TemporaryDirectory() as folder:
    arrays = all_arrays()
    check_archives(folder, arrays)
    check_files(folder, arrays)
    check_large(folder)
    check_versions(folder)
    check_refusals(folder)
print("%d arrays, %d checks, numpy %s" % (len(arrays), checks, np.__version__))
