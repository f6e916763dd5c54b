"""Archives that quern exports, loaded by numpy: the numbers of the model's safetensors, as the variant has them.

    export_npz.py QUERN MODEL      MODEL: a folder of BF16 safetensors
"""
import json
import os
import struct
import subprocess
import sys
import tempfile
import zipfile

try:
    import numpy as np
except ImportError:
    print("skipped: numpy is not there")
    sys.exit(77)


def load(folder):
    out = {}
    for f in sorted(os.listdir(folder)):
        if not f.endswith(".safetensors"):
            continue
        raw = open(os.path.join(folder, f), "rb").read()
        n = struct.unpack("<Q", raw[:8])[0]
        for name, t in json.loads(raw[8:8 + n]).items():
            if name != "__metadata__":
                assert t["dtype"] == "BF16"
                a, b = t["data_offsets"]
                out[name] = np.frombuffer(raw[8 + n + a:8 + n + b], "<u2").reshape(t["shape"])
    return out


def main():
    quern, model = sys.argv[1:3]
    want = load(model)
    single = {k: (v.astype("<u4") << 16).view("<f4") for k, v in want.items()}
    with tempfile.TemporaryDirectory() as tmp:
        for variant, dtype in (("", "<f4"), (":f16", "<f2"), (":bits", "<u2"), (":f32+deflate", "<f4"), (":deflate+bits", "<u2")):
            path = os.path.join(tmp, "x.npz")
            done = subprocess.run([quern, "export", model, "--to", "npz" + variant, "-o", path, "-f", "--quiet"], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert zipfile.ZipFile(path).testzip() is None
            with np.load(path, allow_pickle=False) as z:
                assert set(z.files) == set(want)
                for k, v in want.items():
                    a = z[k]
                    b = v if dtype == "<u2" else single[k].astype(dtype)
                    assert a.dtype == np.dtype(dtype) and a.shape == v.shape and a.tobytes() == b.tobytes(), (variant, k)
            print(f"npz{variant}: {len(want)} arrays are equal, {os.path.getsize(path)} bytes")


main()
