"""Reference models with a state that runs along the sequence: Mamba (Gu and Dao 2023, section 3), Mamba-2 (Dao and Gu 2024,
section 7), RWKV-5.2 (Peng et al. 2024, "Eagle", equations 3 to 9). Token by token, in f64."""
import torch
import torch.nn.functional as F


def causal_conv(w, x, name, kernel, bias):
    """Each channel by itself; the last tap is the token's own."""
    taps = w.get(name + ".weight", x.shape[1], 1, kernel, std=0.5)[:, 0]
    y = torch.zeros_like(x)
    for t in range(len(x)):
        for j in range(kernel):
            if t - j >= 0:
                y[t] += x[t - j] * taps[:, kernel - 1 - j]
    return y + w.get(name + ".bias", x.shape[1], std=0.3) if bias else y


def mamba(w, hidden=18, inner=30, state=5, kernel=4, rank=3, layers=2, vocab=97, bias=False):
    config = {"architectures": ["MambaForCausalLM"], "model_type": "mamba", "hidden_size": hidden, "intermediate_size": inner,
              "state_size": state, "conv_kernel": kernel, "time_step_rank": rank, "num_hidden_layers": layers, "vocab_size": vocab,
              "layer_norm_epsilon": 1e-5, "use_conv_bias": True, "use_bias": bias, "hidden_act": "silu", "tie_word_embeddings": True,
              "residual_in_fp32": True}

    def mixer(u, p):
        x, z = w.linear(u, p + "in_proj", 2 * inner, bias).split(inner, 1)
        x = F.silu(causal_conv(w, x, p + "conv1d", kernel, True))
        dt, b, c = w.linear(x, p + "x_proj", rank + 2 * state, gain=2.0).split([rank, state, state], 1)
        dt = F.softplus(w.linear(dt, p + "dt_proj", inner, True))
        a = -torch.exp(w.get(p + "A_log", inner, state, std=0.7))
        d = w.get(p + "D", inner, std=0.5, mean=1.0)
        h, y = torch.zeros(inner, state, dtype=u.dtype), torch.zeros_like(x)
        for t in range(len(u)):
            h = torch.exp(dt[t][:, None] * a) * h + (dt[t] * x[t])[:, None] * b[t]
            y[t] = h @ c[t] + d * x[t]
        return w.linear(y * F.silu(z), p + "out_proj", hidden, bias)

    def forward(tokens):
        table = w.get("backbone.embeddings.weight", vocab, hidden, std=1.0)
        x = table[tokens]
        for i in range(layers):
            p = f"backbone.layers.{i}."
            x = x + mixer(w.rms(x, p + "norm", 1e-5), p + "mixer.")
        return w.rms(x, "backbone.norm_f", 1e-5) @ table.T
    return config, forward


def mamba2(w, hidden=20, heads=6, head=5, groups=2, state=7, kernel=3, layers=2, vocab=97, tied=False):
    inner = heads * head
    config = {"architectures": ["Mamba2ForCausalLM"], "model_type": "mamba2", "hidden_size": hidden, "num_heads": heads,
              "head_dim": head, "n_groups": groups, "state_size": state, "conv_kernel": kernel, "expand": inner / hidden,
              "num_hidden_layers": layers, "vocab_size": vocab, "layer_norm_epsilon": 1e-5, "use_conv_bias": True, "use_bias": False,
              "hidden_act": "silu", "rms_norm": True, "chunk_size": 16, "time_step_limit": [0.05, 3.0],
              "tie_word_embeddings": tied}

    def mixer(u, p):
        z, xbc, dt = w.linear(u, p + "in_proj", 2 * inner + 2 * groups * state + heads).split(
            [inner, inner + 2 * groups * state, heads], 1)
        xbc = F.silu(causal_conv(w, xbc, p + "conv1d", kernel, True))
        x, b, c = xbc.split([inner, groups * state, groups * state], 1)
        x, b, c = x.reshape(-1, heads, head), b.reshape(-1, groups, state), c.reshape(-1, groups, state)
        dt = F.softplus(dt + w.get(p + "dt_bias", heads, std=0.5)).clamp(0.05, 3.0)
        a = -torch.exp(w.get(p + "A_log", heads, std=0.7))
        d = w.get(p + "D", heads, std=0.5, mean=1.0)
        group = torch.arange(heads) // (heads // groups)
        s, y = torch.zeros(heads, head, state, dtype=u.dtype), torch.zeros_like(x)
        for t in range(len(u)):
            s = s * torch.exp(dt[t] * a)[:, None, None] + torch.einsum("h,hp,hn->hpn", dt[t], x[t], b[t][group])
            y[t] = torch.einsum("hpn,hn->hp", s, c[t][group]) + d[:, None] * x[t]
        y = (y.flatten(1) * F.silu(z)).reshape(-1, groups, inner // groups)
        y = (y * torch.rsqrt((y * y).mean(-1, keepdim=True) + 1e-5)).flatten(1)
        return w.linear(y * w.get(p + "norm.weight", inner, std=0.3, mean=1.0), p + "out_proj", hidden)

    def forward(tokens):
        table = w.get("backbone.embeddings.weight", vocab, hidden, std=1.0)
        x = table[tokens]
        for i in range(layers):
            p = f"backbone.layers.{i}."
            x = x + mixer(w.rms(x, p + "norm", 1e-5), p + "mixer.")
        x = w.rms(x, "backbone.norm_f", 1e-5)
        return x @ table.T if tied else w.linear(x, "lm_head", vocab)
    return config, forward


def rwkv5(w, width=24, head=6, inner=40, layers=2, vocab=97, converted=True):
    """Without config.json. converted: as the files of rwkv.cpp, time_decay (heads, head, 1) is exp(-exp(x)) already; else the training
    code's (heads, head), raw."""
    heads = width // head

    def shifted(x, mix):
        before = torch.cat([torch.zeros_like(x[:1]), x[:-1]])
        return x * mix + before * (1 - mix)

    def mixes(p, names, shape):
        return [w.get(p + "time_mix_" + n, *shape, std=0.3, mean=0.5).reshape(-1) for n in names]

    def attention(x, p):
        shape = (width,) if converted else (1, 1, width)
        xk, xv, xr, xg = (shifted(x, m) for m in mixes(p, "kvrg", shape))
        r, k, v = (w.linear(t, p + n, width).reshape(-1, heads, head)
                   for t, n in ((xr, "receptance"), (xk, "key"), (xv, "value")))
        g = F.silu(w.linear(xg, p + "gate", width))
        raw = w.get(p + "time_decay", *((heads, head, 1) if converted else (heads, head)), std=0.2 if converted else 1.0,
                    mean=0.6 if converted else -1.0).reshape(heads, head)
        decay = raw if converted else torch.exp(-torch.exp(raw))
        u = w.get(p + "time_faaaa", *((heads, head, 1) if converted else (heads, head)), std=0.5).reshape(heads, head)
        s, y = torch.zeros(heads, head, head, dtype=x.dtype), torch.zeros(len(x), heads, head, dtype=x.dtype)
        for t in range(len(x)):
            kv = torch.einsum("hi,hj->hij", k[t], v[t])
            y[t] = torch.einsum("hi,hij->hj", r[t], s + u[:, :, None] * kv)
            s = s * decay[:, :, None] + kv
        y = F.group_norm(y.flatten(1), heads, w.get(p + "ln_x.weight", width, std=0.3, mean=1.0),
                         w.get(p + "ln_x.bias", width, std=0.3), 64e-5)
        return w.linear(y * g, p + "output", width)

    def ffn(x, p):
        xk, xr = (shifted(x, m) for m in mixes(p, "kr", (width,) if converted else (1, 1, width)))
        k = torch.relu(w.linear(xk, p + "key", inner)) ** 2
        return torch.sigmoid(w.linear(xr, p + "receptance", width)) * w.linear(k, p + "value", width)

    def forward(tokens):
        x = w.layernorm(w.get("emb.weight", vocab, width, std=1.0)[tokens], "blocks.0.ln0", 1e-5)
        for i in range(layers):
            p = f"blocks.{i}."
            x = x + attention(w.layernorm(x, p + "ln1", 1e-5), p + "att.")
            x = x + ffn(w.layernorm(x, p + "ln2", 1e-5), p + "ffn.")
        return w.linear(w.layernorm(x, "ln_out", 1e-5), "head", vocab)
    return None, forward
