#!/usr/bin/env python3
"""Checkpoints written by PyTorch, as a zip and as the older stream, must open with every tensor equal bit for bit; what it can write and
we cannot read must be refused in words; and packing must give back the identical file.

usage: torch_check.py DUMP_TENSORS QUERN
"""
import collections
import filecmp
import os
import subprocess
import sys
import tempfile

try:
    import torch
except ImportError:
    print("skipped: this Python has no torch")
    sys.exit(77)

NAMES = {torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16", torch.uint8: "U8", torch.int8: "I8",
         torch.int16: "I16", torch.int32: "I32", torch.int64: "I64", torch.bool: "BOOL", torch.complex64: "C64"}


def raw(t):
    """The bytes of a tensor, row-major."""
    t = t.detach().contiguous()
    if t.numel() == 0:
        return b""
    if t.dtype == torch.bool:
        t = t.to(torch.uint8)
    if t.dtype == torch.bfloat16:
        t = t.view(torch.int16)
    return t.numpy().tobytes()


def flatten(v, prefix=""):
    if isinstance(v, torch.Tensor):
        return {prefix: v}
    items = v.items() if isinstance(v, dict) else enumerate(v) if isinstance(v, (list, tuple)) else []
    out = {}
    for k, x in items:
        out.update(flatten(x, f"{prefix}.{k}" if prefix else str(k)))
    return out


def random_of(dtype, *shape):
    if dtype == torch.bool:
        return torch.rand(*shape) > 0.5
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(*shape, dtype=torch.float64).to(dtype) if dtype != torch.complex64 else torch.randn(*shape, dtype=dtype)
    return torch.randint(0, 100, shape).to(dtype)


def samples():
    yield "every dtype", {str(d).replace("torch.", ""): random_of(d, 5, 7) for d in NAMES}
    big = torch.randn(6, 8, 10)
    yield "views", {"all": big, "t": big.permute(2, 0, 1), "slice": big[1:5, ::2, 3:], "row": big[2], "scalar": big[1, 2, 3],
                    "expanded": torch.arange(4.0).expand(3, 4), "diagonal": torch.randn(9, 9).diagonal(), "empty": torch.zeros(0, 3),
                    "flat": big.view(-1), "column": torch.randn(300, 200).t()}
    tied = torch.randn(10, 4)
    yield "nested", {"model": collections.OrderedDict(a=tied, b=tied), "optimizer": {"state": {0: {"step": torch.tensor(3.0)}, 1: {}},
                     "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": [0, 1]}]}, "epoch": 7, "name": "x" * 5000,
                     "list": [torch.ones(2), (torch.zeros(1), None)], "big": 1 << 80, "none": None}
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Linear(8, 4), torch.nn.GRU(4, 5))
    yield "a state_dict", net.state_dict()
    adam = torch.optim.Adam(net.parameters())
    sum(p.sum() for p in net.parameters()).backward()
    adam.step()
    yield "with an optimizer", {"state_dict": net.state_dict(), "optimizer": adam.state_dict(), "scheduler": {"_step_count": 1}}
    yield "parameters", {"p": torch.nn.Parameter(torch.randn(3)), "list": list(net.parameters())}
    yield "other values", {"w": torch.randn(2), "dtype": torch.float16, "device": torch.device("cpu"), "size": torch.Size([1, 2]),
                           "set": {1, 2}, "complex": 1j, "bytes": b"abc"}


def refused():
    q = torch.quantize_per_tensor(torch.randn(4), 0.1, 0, torch.qint8)
    yield "quantised", {"q": q}, "quantised tensors cannot be read"
    yield "sparse", {"s": torch.eye(3).to_sparse()}, "sparse tensors cannot be read"
    yield "complex128", {"c": torch.zeros(2, dtype=torch.complex128)}, "complex numbers of two F64"
    yield "a function", {"f": os.path.join}, "is not allowed"
    yield "a module", torch.nn.Linear(2, 2), "is not allowed"


def dump(tool, path):
    got = subprocess.run([tool, path], capture_output=True)
    if got.returncode:
        return None, got.stderr.decode()
    out, data = {}, got.stdout
    while data:
        line, _, data = data.partition(b"\n")
        name, dtype, shape, n = line.decode().split("\t")
        out[name] = (dtype, tuple(int(d) for d in shape.split(",") if d), data[:int(n)])
        data = data[int(n):]
    return out, ""


def main():
    tool, quern = sys.argv[1:3]
    torch.manual_seed(1)
    bad = n = n_tensors = n_refused = 0
    ways = [("zip", dict(_use_new_zipfile_serialization=True)), ("stream", dict(_use_new_zipfile_serialization=False)),
            ("zip, protocol 4", dict(_use_new_zipfile_serialization=True, pickle_protocol=4)),
            ("stream, protocol 4", dict(_use_new_zipfile_serialization=False, pickle_protocol=4))]
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "m.pt")
        for way, how in ways:
            for what, value in samples():
                torch.save(value, path, **how)
                want, (got, why) = flatten(value), dump(tool, path)
                n += 1
                n_tensors += len(want)
                wrong = [why] if got is None else [k for k in set(want) | set(got) if k not in want or k not in got or
                         got[k] != (NAMES[want[k].dtype], tuple(want[k].shape), raw(want[k]))]
                packed, back = path + ".quern", os.path.join(tmp, "back.pt")
                for old in (packed, back):
                    if os.path.exists(old):
                        os.remove(old)
                run = [subprocess.run(c, capture_output=True) for c in ([quern, "compress", path, "-o", packed],
                                                                        [quern, "decompress", packed, "-o", back])]
                if any(r.returncode for r in run) or not filecmp.cmp(path, back, shallow=False):
                    wrong.append("not restored: " + " ".join(r.stderr.decode() for r in run))
                if wrong:
                    bad += 1
                    print(f"{way}: {what}: {wrong[:4]}")
            for what, value, text in refused():
                try:
                    torch.save(value, path, **how)
                except Exception as e:  # this version cannot write it this way
                    print(f"{way}: {what}: not written: {e}")
                    continue
                got, why = dump(tool, path)
                n_refused += 1
                if got is not None or text not in why:
                    bad += 1
                    print(f"{way}: {what}: not refused as expected: {why}")
    print(f"torch {torch.__version__}: {n} files with {n_tensors} tensors equal and restored, {n_refused} files refused, {bad} findings")
    return 1 if bad else 0


sys.exit(main())
