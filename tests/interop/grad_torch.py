#!/usr/bin/env python3
"""Derivatives of whole models against PyTorch's autograd: a small convolutional network and a transformer block, random, are exported to ONNX; the loss is the
sum of the outputs with random factors. Every parameter's derivative must be within 1e-4 of the largest of its tensor of PyTorch's in double precision.

usage: grad_torch.py GRAD_RUN
"""
import os
import subprocess
import sys
import tempfile
import warnings

try:
    import numpy as np
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError as e:
    print(f"skipped: this Python has no {e.name}")
    sys.exit(77)

BAR = 1e-4


class Net(nn.Module):
    """Convolutions of every kind, normalizations, pooling, squeeze and excitation, branches that meet."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.depth = nn.Conv2d(12, 12, 5, padding=2, stride=2, groups=12)
        self.grouped = nn.Conv2d(12, 12, 3, padding=2, dilation=2, groups=3)
        self.instance = nn.InstanceNorm2d(12, affine=True)
        self.squeeze = nn.Conv2d(12, 4, 1)
        self.excite = nn.Conv2d(4, 12, 1)
        self.down = nn.Conv2d(12, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 12, 4, stride=2, padding=1)
        self.slope = nn.PReLU(24)
        self.wide = nn.Conv2d(24, 16, 1)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = F.hardswish(self.depth(x))
        x = x + F.leaky_relu(self.instance(self.grouped(x)), 0.2)
        s = torch.sigmoid(self.excite(F.elu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        x = x * s
        y = self.up(torch.tanh(self.down(x)))
        x = self.slope(torch.cat([x, y], 1))
        x = F.max_pool2d(self.wide(x), 2, 2) + F.avg_pool2d(self.wide(x), 3, 2, 1, count_include_pad=False)
        x = F.interpolate(F.softplus(x[:, :, 1:3, 1:3]), scale_factor=2.0, mode="bilinear", align_corners=False)
        x = F.adaptive_avg_pool2d(x, 2)
        return F.log_softmax(self.head(x.flatten(1)), 1)


class Block(nn.Module):
    """An embedding, a transformer block before and one behind its norms, an output by the embedding."""

    def __init__(self, vocabulary=23, width=24, heads=4, length=9):
        super().__init__()
        self.heads = heads
        self.embed = nn.Embedding(vocabulary, width)
        self.place = nn.Parameter(torch.randn(length, width))
        self.ln1, self.ln2, self.ln3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width, eps=1e-3)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, ids):
        b, t = ids.shape
        x = self.embed(ids) + self.place
        q, k, v = self.qkv(self.ln1(x)).chunk(3, -1)
        q, k, v = (h.reshape(b, t, self.heads, -1).transpose(1, 2) for h in (q, k, v))
        p = torch.softmax(q @ k.transpose(2, 3) / 2.5 - 1e4 * torch.triu(torch.ones(t, t, dtype=q.dtype), 1), -1)
        x = x + self.out((p @ v).transpose(1, 2).reshape(b, t, -1))
        h = self.down(F.gelu(self.up(self.ln2(x))))
        x = self.ln3(x + h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-2))
        return x @ self.embed.weight.t()


def check(name, model, inputs, tool, folder):
    torch.manual_seed(5)
    model.eval()
    for p in model.parameters():
        with torch.no_grad():
            p.copy_(torch.randn(p.shape) * (1 / np.sqrt(max(1, p[0].numel())) if p.dim() > 1 else 0.3))
    for b in model.buffers():
        if b.dtype == torch.float32:
            with torch.no_grad():
                b.copy_(b + 0.3 * torch.rand(b.shape))
    path = os.path.join(folder, name + ".onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, inputs, path, input_names=["x"], opset_version=14, do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE)
    here = os.path.join(folder, name)
    os.mkdir(here)
    kinds = {torch.int64: "I64", torch.float32: "F32"}
    with open(os.path.join(here, "inputs"), "w") as f:
        f.write("\t".join(["x", kinds[inputs.dtype], str(inputs.dim())] + [str(d) for d in inputs.shape]) + "\n")
    inputs.numpy().tofile(os.path.join(here, "in0"))
    double = model.double()
    y = double(inputs.double() if inputs.dtype == torch.float32 else inputs)
    r = torch.randn(y.shape, dtype=torch.float32)
    r.numpy().tofile(os.path.join(here, "r0"))
    loss = (y * r.double()).sum()
    loss.backward()
    wanted = [(n, p.grad.numpy()) for n, p in double.named_parameters()]
    with open(os.path.join(here, "weights"), "w") as f:
        f.write("".join(n + "\n" for n, _ in wanted))
    failures, worst = 0, 0.0
    for threads in ("1", "2"):
        run = subprocess.run([tool, path, here, threads], stdout=subprocess.PIPE, text=True)
        if run.returncode:
            print(f"{name}: {run.stdout.strip()}")
            return 1
        value = float(run.stdout.split()[1])
        if not abs(value - loss.item()) <= 1e-4 * max(1, y.detach().abs().max().item() * y.numel() ** 0.5):
            print(f"{name}: loss {value}, PyTorch's {loss.item()}")
            failures += 1
        got = []
        for i, (n, want) in enumerate(wanted):
            d = np.fromfile(os.path.join(here, f"d{i}"), np.float32)
            got.append(d)
            off = np.abs(d - want.ravel()).max() / max(np.abs(want).max(), 1e-3)
            worst = max(worst, off)
            if not off <= BAR:
                print(f"{name}: derivative of {n} is off by {off:.3g} of its largest")
                failures += 1
        if threads == "1":
            first = got
        elif any((a != b).any() for a, b in zip(first, got)):
            print(f"{name}: another result with {threads} threads")
            failures += 1
    print(f"{name}: {len(wanted)} derivatives, worst difference {worst:.2g} of the largest")
    return failures


def main():
    torch.set_num_threads(1)
    torch.manual_seed(3)
    with tempfile.TemporaryDirectory() as folder:
        failures = check("net", Net(), torch.randn(5, 3, 16, 16), sys.argv[1], folder)
        failures += check("block", Block(), torch.randint(0, 23, (3, 9)), sys.argv[1], folder)
    return 1 if failures else 0


sys.exit(main())
