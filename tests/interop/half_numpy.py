#!/usr/bin/env python3
"""Half floats against numpy: all 65536 widened, ten million f32 narrowed.

usage: half_numpy.py PROGRAM    (dump_halves)
"""
import os
import subprocess
import sys

try:
    import numpy as np
except ImportError:
    # a python in front of the system's may lack what the system's has
    if sys.executable != "/usr/bin/python3" and os.path.exists("/usr/bin/python3") and "QN_SECOND_TRY" not in os.environ:
        os.environ["QN_SECOND_TRY"] = "1"
        os.execv("/usr/bin/python3", ["/usr/bin/python3"] + sys.argv)
    print("skipped: no numpy (Debian: python3-numpy)")
    sys.exit(77)

exe = sys.argv[1]


def run(args, data=b""):
    return subprocess.run([exe] + args, input=data, stdout=subprocess.PIPE, check=True).stdout


codes = np.arange(65536, dtype=np.uint16)
wide = np.frombuffer(run(["widen", "f16"]), dtype=np.float32)
want = codes.view(np.float16).astype(np.float32)
nan = np.isnan(want)
assert (np.isnan(wide) == nan).all() and (wide.view(np.uint32)[~nan] == want.view(np.uint32)[~nan]).all()
wide = np.frombuffer(run(["widen", "bf16"]), dtype=np.uint32)
assert (wide == codes.astype(np.uint32) << 16).all()

rng = np.random.default_rng(1)
n = 10_000_000
bits = rng.integers(0, 1 << 32, n, dtype=np.uint32)
bits[n // 2:] = (bits[n // 2:] & 0x807FFFFF) | (rng.integers(97, 145, n - n // 2, dtype=np.uint32) << 23)
f = bits.view(np.float32)
nan = np.isnan(f)
with np.errstate(over="ignore"):
    want = f.astype(np.float16).view(np.uint16)
got = np.frombuffer(run(["narrow", "f16"], f.tobytes()), dtype=np.uint16)
assert (got[~nan] == want[~nan]).all(), "f16"
assert np.isnan(got.view(np.float16)[nan]).all()
got = np.frombuffer(run(["narrow", "bf16"], f.tobytes()), dtype=np.uint16)
want = ((bits.astype(np.uint64) + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
assert (got[~nan] == want[~nan]).all(), "bf16"
print(f"65536 codes widened, {n} values narrowed to f16 and bf16: as numpy {np.__version__}")
