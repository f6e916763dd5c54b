"""What the reference models of logits_torch.py are put together from: weights that come into being when they are first asked for,
and the published formulas in f64, one sequence at a time.

x is (T, width); q, k, v are (T, heads, head size).
"""
import math

import torch
import torch.nn.functional as F


class Weights:
    """Seeded random tensors by name, rounded to what the file holds (f32) and used in f64."""

    def __init__(self, seed):
        self.gen = torch.Generator().manual_seed(seed)
        self.tensors = {}

    def get(self, name, *shape, std=None, mean=0.0):
        if name not in self.tensors:
            std = 1 / math.sqrt(shape[-1]) if std is None else std
            made = mean + std * torch.randn(*shape, generator=self.gen, dtype=torch.float64)
            self.tensors[name] = made.float()
        assert tuple(self.tensors[name].shape) == shape, name
        return self.tensors[name].double()

    def linear(self, x, name, width, bias=False, gain=1.0):
        y = x @ self.get(name + ".weight", width, x.shape[-1], std=gain / math.sqrt(x.shape[-1])).T
        return y + self.get(name + ".bias", width, std=0.3) if bias else y

    def conv1d(self, x, name, width):
        """GPT-2 keeps its projections (in, out)."""
        y = x @ self.get(name + ".weight", x.shape[-1], width, std=1 / math.sqrt(x.shape[-1]))
        return y + self.get(name + ".bias", width, std=0.3)

    def rms(self, x, name, eps, stored_less=0.0):
        w = stored_less + self.get(name + ".weight", x.shape[-1], std=0.3, mean=1.0 - stored_less)
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * w

    def layernorm(self, x, name, eps):
        n = x.shape[-1]
        return F.layer_norm(x, (n,), self.get(name + ".weight", n, std=0.3, mean=1.0), self.get(name + ".bias", n, std=0.3), eps)


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def gelu_erf(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def frequencies(dim, base, rule, n_tokens, max_positions):
    """(inverse frequencies, factor of cos and sin) for a sequence of n_tokens; rule: the rope_scaling of config.json."""
    rule = rule or {}
    kind = rule.get("rope_type", rule.get("type", "default"))
    k = torch.arange(0, dim, 2, dtype=torch.float64)
    factor = rule.get("factor", 1.0)
    if kind == "dynamic":
        longest = max(n_tokens, max_positions)
        base = base * (factor * longest / max_positions - (factor - 1)) ** (dim / (dim - 2))
    inv = base ** (-k / dim)
    old = rule.get("original_max_position_embeddings", max_positions)
    if kind == "linear":
        return inv / factor, 1.0
    if kind == "llama3":
        low, high = rule["low_freq_factor"], rule["high_freq_factor"]
        out = []
        for f in inv.tolist():
            wave = 2 * math.pi / f
            s = min(max((old / wave - low) / (high - low), 0.0), 1.0)
            out.append((1 - s) * f / factor + s * f)
        return torch.tensor(out, dtype=torch.float64), 1.0
    if kind == "yarn":
        def dimension_of(turns):
            return dim * math.log(old / (2 * math.pi * turns)) / (2 * math.log(base))
        lo, hi = dimension_of(rule.get("beta_fast", 32)), dimension_of(rule.get("beta_slow", 1))
        if rule.get("truncate", True):
            lo, hi = math.floor(lo), math.ceil(hi)
        lo, hi = max(lo, 0), min(hi, dim - 1)
        if lo == hi:
            hi += 0.001
        ramp = ((k / 2 - lo) / (hi - lo)).clamp(0, 1)
        def m(x):
            return 0.1 * x * math.log(factor) + 1 if factor > 1 else 1.0
        scale = m(1.0)
        if rule.get("mscale") and rule.get("mscale_all_dim"):
            scale = m(rule["mscale"]) / m(rule["mscale_all_dim"])
        return inv / factor * ramp + inv * (1 - ramp), rule.get("attention_factor", scale)
    if kind in ("longrope", "su"):
        each = torch.tensor(rule["long_factor" if n_tokens > old else "short_factor"], dtype=torch.float64)
        f = max_positions / old
        return inv / each, rule.get("attention_factor", math.sqrt(1 + math.log(f) / math.log(old)) if f > 1 else 1.0)
    assert kind in ("default", "dynamic"), kind
    return inv, 1.0


def rotate(x, dim, base=10000.0, rule=None, max_positions=2048):
    """Pairs (i, i + dim/2) of the first dim channels as complex numbers, turned by position × frequency."""
    inv, scale = frequencies(dim, base, rule, len(x), max_positions)
    angle = torch.arange(len(x), dtype=torch.float64)[:, None] * inv
    turn = torch.polar(torch.full_like(angle, scale), angle)[:, None, :]
    z = torch.complex(x[..., :dim // 2].contiguous(), x[..., dim // 2:dim].contiguous()) * turn
    return torch.cat([z.real, z.imag, x[..., dim:]], -1)


def attend(q, k, v, scale, window=None, cap=None):
    """Causal; each key head serves heads / kv heads neighbours; a window counts the token itself. Row by row on purpose."""
    per = q.shape[1] // k.shape[1]
    out = torch.zeros(q.shape[0], q.shape[1], v.shape[2], dtype=q.dtype)
    for t in range(len(q)):
        first = max(0, t + 1 - window) if window else 0
        for h in range(q.shape[1]):
            s = k[first:t + 1, h // per] @ q[t, h] * scale
            if cap:
                s = cap * torch.tanh(s / cap)
            out[t, h] = torch.softmax(s, 0) @ v[first:t + 1, h // per]
    return out.flatten(1)


def gated(w, x, name, inner, act=F.silu, names=("gate_proj", "up_proj", "down_proj"), bias=False):
    g, u = (w.linear(x, f"{name}{n}", inner, bias) for n in names[:2])
    return w.linear(act(g) * u, name + names[2], x.shape[-1], bias, gain=2.0)


def routed(w, x, gate, experts, inner, n_experts, top, renormalise, names):
    p = torch.softmax(w.linear(x, gate, n_experts, gain=2.0), -1)
    out = torch.zeros_like(x)
    for e in range(n_experts): # all weights must exist, whether a token goes there or not
        y = gated(w, x, f"{experts}.{e}.", inner, names=names)
        for t in range(len(x)):
            best = torch.argsort(p[t], descending=True)[:top].tolist()
            if e in best:
                out[t] += y[t] * p[t, e] / (p[t, best].sum() if renormalise else 1.0)
    return out
