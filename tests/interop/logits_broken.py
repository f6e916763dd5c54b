#!/usr/bin/env python3
"""The checkpoints of logits_torch.py, damaged: a tensor that is missing or has another shape must be named in one line; whatever
stands in config.json, we end with logits or with one line; and what each key means must show in the logits.

usage: logits_broken.py DUMP_LOGITS [every=N] [NAME...]
"""
import copy
import os
import random
import sys
import tempfile

try:
    import torch
except ImportError:
    print("1..0 # SKIP this Python has no torch")
    sys.exit(0)

from logits_torch import BAR, CASES, made, run_ours, write_folder

# Without these a model still is one: a head that is not there is tied.
MAY_LACK = ("lm_head.weight", "embed_out.weight")
# (case, key, other value): the logits must move
MATTERS = [
    ("llama", "rope_theta", 500.0), ("llama", "rms_norm_eps", 0.1), ("llama", "hidden_act", "relu"),
    ("llama, rope linear", "rope_scaling", None), ("llama, rope dynamic", "rope_scaling", None), ("llama, rope llama3", "rope_scaling", None),
    ("llama, rope yarn", "rope_scaling", None), ("llama, rope yarn, mscale", "rope_scaling", None),
    ("llama, rope dynamic", "max_position_embeddings", 13), ("mistral, sliding window", "sliding_window", 6),
    ("mistral, sliding window", "sliding_window", None), ("qwen2", "sliding_window", 7), ("qwen2", "max_window_layers", 2),
    ("qwen2", "use_sliding_window", False), ("gemma2", "attn_logit_softcapping", 4.0), ("gemma2", "final_logit_softcapping", 3.0),
    ("gemma2", "query_pre_attn_scalar", 12), ("gemma2", "sliding_window", 5), ("gemma3", "sliding_window_pattern", 2),
    ("gemma3", "rope_local_base_freq", 600.0), ("gemma3", "rope_scaling", None), ("phi", "partial_rotary_factor", 0.6),
    ("phi3", "sliding_window", None), ("phi3, longrope", "original_max_position_embeddings", 31), ("phi3, longrope", "rope_scaling", None),
    ("phi3, su, partial", "max_position_embeddings", 24), ("gpt2, prefix, by layer", "scale_attn_by_inverse_layer_idx", False),
    ("gpt2", "layer_norm_epsilon", 0.1), ("gpt_neo", "window_size", 4), ("gpt_neo", "attention_types", [[["global"], 4]]),
    ("gpt_neo", "attention_layers", ["local", "global", "local", "global"]), ("gpt_neox", "use_parallel_residual", False),
    ("gpt_neox", "rotary_pct", 0.34), ("gpt_neox", "rotary_emb_base", 500), ("gpt_neox", "hidden_act", "relu"),
    ("opt", "do_layer_norm_before", False), ("opt", "_remove_final_layer_norm", True), ("opt", "activation_function", "gelu"),
    ("mixtral", "num_experts_per_tok", 1), ("qwen2_moe", "norm_topk_prob", True), ("qwen3_moe", "norm_topk_prob", False),
    ("mamba", "layer_norm_epsilon", 0.1), ("mamba2", "time_step_limit", [0.0, 1.0]), ("mamba2", "layer_norm_epsilon", 0.1),
]


def line_of(run):
    """None, or what is wrong with the way that this ended."""
    text = run.stderr.decode(errors="replace")
    if run.returncode not in (0, 3, 4):
        return f"code {run.returncode}: {text[:300]}"
    if run.returncode and (text.count("\n") != 1 or len(text) < 20):
        return f"not one line: {text[:300]!r}"
    return None


def damaged_tensors(dump, name, case, folder, rng):
    config, tensors, ids, _ = case
    some = rng.sample(sorted(tensors), min(6, len(tensors)))
    last = max((t for t in tensors if ".1." in t), default=some[0]) # something of the last layer too
    for t in some + [last]:
        for how in ("missing", "shape", "rank"):
            other = dict(tensors)
            v = other.pop(t)
            if how == "shape":
                other[t] = torch.cat([v, v[:1]])
            elif how == "rank":
                other[t] = v[..., None, None] # a trailing 1 alone is another kind of RWKV
            write_folder(folder, config, other)
            run = run_ours(dump, folder, ids)
            wrong = line_of(run)
            if wrong:
                return f"{t} {how}: {wrong}"
            if run.returncode == 0 and not (how == "missing" and t in MAY_LACK or how == "rank" and config is None):
                return f"{t} {how}: accepted"
            if run.returncode and config is not None and t not in run.stderr.decode():
                return f"{t} {how}: not named: {run.stderr.decode().strip()}"
    return None


def damaged_config(dump, name, case, folder, rng):
    config, tensors, ids, _ = case
    for key, v in list((config or {}).items()) if "," not in name else (): # once for each architecture
        values = ["x", -1, 0, 1 << 40, [], {}, 0.5, True, None]
        if isinstance(v, (int, float)) and not isinstance(v, bool):
            values += [v + 1, v * 2]
        for value in values:
            other = copy.deepcopy(config)
            other[key] = value
            write_folder(folder, other, tensors)
            wrong = line_of(run_ours(dump, folder, ids))
            if wrong:
                return f"{key}: {value!r}: {wrong}"
    for inner in (config or {}).get("rope_scaling") or {}:
        for value in ("x", -1, 0, 1 << 40, [], [1.0], {}, None):
            other = copy.deepcopy(config)
            other["rope_scaling"][inner] = value
            write_folder(folder, other, tensors)
            wrong = line_of(run_ours(dump, folder, ids))
            if wrong:
                return f"rope_scaling.{inner}: {value!r}: {wrong}"
    return None


def what_matters(dump, name, case, folder, rng):
    config, tensors, ids, want = case
    for _, key, value in (m for m in MATTERS if m[0] == name):
        other = copy.deepcopy(config)
        other[key] = value
        write_folder(folder, other, tensors)
        run = run_ours(dump, folder, ids)
        if run.returncode:
            return f"{key}: {value!r} is refused: {run.stderr.decode().strip()}"
        got = torch.frombuffer(bytearray(run.stdout), dtype=torch.float32).double().reshape(want.shape)
        moved = (got - want).abs().max().item() / (want.max() - want.min()).item()
        if moved < 10 * BAR:
            return f"{key}: {value!r} moves the logits by {moved:.1e} of their spread"
    return None


def main():
    dump = os.path.abspath(sys.argv[1])
    only = [a for a in sys.argv[2:] if not a.startswith("every=")]
    every = max([1] + [int(a[6:]) for a in sys.argv[2:] if a.startswith("every=")])
    torch.set_num_threads(1)
    names = [n for n in CASES if not only or n in only][::every]
    parts = (damaged_tensors, damaged_config, what_matters)
    print(f"1..{len(names) * len(parts)}")
    at = failed = 0
    with tempfile.TemporaryDirectory() as tmp:
        for name in names:
            seed = 1000 + list(CASES).index(name)
            case = made(CASES[name], seed)
            for part in parts:
                at += 1
                wrong = part(dump, name, case, os.path.join(tmp, str(at)), random.Random(seed))
                failed += wrong is not None
                print(f"{'not ok' if wrong else 'ok'} {at} - {name}: {part.__name__}{': ' + wrong if wrong else ''}", flush=True)
    return failed != 0


sys.exit(main())
