#!/usr/bin/env python3
"""A Llama with a SentencePiece-like vocabulary as F32 GGUF, for llama.cpp's tools in bench/ladder.py.

usage: llama_gguf.py MODEL_FOLDER OUT.gguf

Takes config.json, tokenizer.json (BPE with byte fallback, no merges: pieces and bytes) and model.safetensors in F32. Rows of q and k
are put in the order of GGUF: pairs that are turned together lie side by side.
"""
import json
import pathlib
import struct
import sys

U32, F32, STRING, ARRAY, I32, BOOL = 4, 6, 8, 9, 5, 7


def text(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def key(name, kind, value):
    body = {U32: lambda v: struct.pack("<I", v), F32: lambda v: struct.pack("<f", v), STRING: text, BOOL: lambda v: struct.pack("<B", v)}
    if kind != ARRAY:
        return text(name) + struct.pack("<I", kind) + body[kind](value)
    of, items = value
    pack = {STRING: text, F32: lambda v: struct.pack("<f", v), I32: lambda v: struct.pack("<i", v)}[of]
    return text(name) + struct.pack("<IIQ", ARRAY, of, len(items)) + b"".join(pack(v) for v in items)


def rotary(raw, heads, cols):
    """Row i and row i + d/2 of each head become rows 2i and 2i + 1."""
    row, d = 4 * cols, len(raw) // (4 * cols) // heads
    out = bytearray()
    for h in range(heads):
        for i in range(d // 2):
            for half in (0, 1):
                at = (h * d + half * d // 2 + i) * row
                out += raw[at:at + row]
    return bytes(out)


NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
         "post_attention_layernorm": "ffn_norm"}


def gguf_name(name):
    name = name.removeprefix("model.").removesuffix(".weight")
    if name.startswith("layers."):
        _, i, rest = name.split(".", 2)
        return f"blk.{i}.{NAMES[rest]}.weight"
    return {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}[name] + ".weight"


def main():
    folder, out = pathlib.Path(sys.argv[1]), sys.argv[2]
    c = json.loads((folder / "config.json").read_text())
    t = json.loads((folder / "tokenizer.json").read_text())
    raw = (folder / "model.safetensors").read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    head = json.loads(raw[8:8 + n])
    vocabulary = [p for p, _ in sorted(t["model"]["vocab"].items(), key=lambda kv: kv[1])]
    kind = [2 if i == 0 else 3 if p in ("<s>", "</s>") else 6 if p.startswith("<0x") else 1 for i, p in enumerate(vocabulary)]
    heads, kv = c["num_attention_heads"], c["num_key_value_heads"]
    size = c.get("head_dim", c["hidden_size"] // heads)
    keys = [key("general.architecture", STRING, "llama"), key("general.name", STRING, folder.name), key("general.file_type", U32, 0),
            key("llama.context_length", U32, c["max_position_embeddings"]), key("llama.embedding_length", U32, c["hidden_size"]),
            key("llama.block_count", U32, c["num_hidden_layers"]), key("llama.feed_forward_length", U32, c["intermediate_size"]),
            key("llama.attention.head_count", U32, heads), key("llama.attention.head_count_kv", U32, kv),
            key("llama.rope.dimension_count", U32, size), key("llama.attention.key_length", U32, size), key("llama.attention.value_length", U32, size),
            key("llama.rope.freq_base", F32, c.get("rope_theta", 10000.0)),
            key("llama.attention.layer_norm_rms_epsilon", F32, c["rms_norm_eps"]), key("llama.vocab_size", U32, len(vocabulary)),
            key("tokenizer.ggml.model", STRING, "llama"), key("tokenizer.ggml.pre", STRING, "default"),
            key("tokenizer.ggml.tokens", ARRAY, (STRING, vocabulary)), key("tokenizer.ggml.scores", ARRAY, (F32, [0.0] * len(vocabulary))),
            key("tokenizer.ggml.token_type", ARRAY, (I32, kind)), key("tokenizer.ggml.bos_token_id", U32, c["bos_token_id"]),
            key("tokenizer.ggml.eos_token_id", U32, c["eos_token_id"]), key("tokenizer.ggml.unknown_token_id", U32, 0),
            key("tokenizer.ggml.add_bos_token", BOOL, True), key("tokenizer.ggml.add_space_prefix", BOOL, False)]
    tensors, at = [], 0
    for name, v in head.items():
        if name == "__metadata__":
            continue
        b, e = v["data_offsets"]
        data = raw[8 + n + b:8 + n + e]
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            data = rotary(data, heads if "q_proj" in name else kv, v["shape"][1])
        tensors.append((gguf_name(name), v["shape"], at, data))
        at += (len(data) + 31) // 32 * 32
    blob = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(keys)) + b"".join(keys)
    for name, shape, where, _ in tensors:
        blob += text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", d) for d in reversed(shape)) + struct.pack("<IQ", 0, where)
    with open(out, "wb") as f:
        f.write(blob + bytes(-len(blob) % 32))
        for _, _, _, data in tensors:
            f.write(data + bytes(-len(data) % 32))


if __name__ == "__main__":
    main()
