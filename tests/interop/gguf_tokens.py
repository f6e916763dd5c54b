#!/usr/bin/env python3
"""Tokenizers in GGUF files, here and in stock llama.cpp: the same ids.

usage: gguf_tokens.py DUMP_IDS BUILD_FOLDER SHARED

Vocabularies of all four kinds are made here: BPE by score and unigram trained by sentencepiece (Debian: python3-sentencepiece; those
are left out without it), byte-level BPE trained below, WordPiece from frequent words; the byte-level one under every name of
pre-tokenizer. The library comes with a package that the project does not depend on:
    npm i --ignore-scripts --omit=optional @node-llama-cpp/linux-x64@3.22.1
in the folder that QUERN_NPM names, or in BUILD_FOLDER.
"""
import collections
import ctypes
import json
import os
import pathlib
import re
import struct
import sys
import tempfile
import unicodedata

import token_texts as tt

VERSION = "3.22.1"  # the layout of llama_model_params below is that of this version
VOCAB_ONLY = 72     # its byte in that struct
U32, I32, F32, BOOL, STR, ARRAY, U8 = 4, 5, 6, 7, 8, 9, 0
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)


class Params(ctypes.Structure):
    _fields_ = [("b", ctypes.c_uint8 * 512)]


class Llama:
    """Stock llama.cpp, as far as it is needed."""

    def __init__(self, folder):
        ctypes.CDLL(str(folder / "libggml-base.so"), mode=ctypes.RTLD_GLOBAL)
        ggml = ctypes.CDLL(str(next(folder.glob("libggml.v*.so"))), mode=ctypes.RTLD_GLOBAL)
        self.so = so = ctypes.CDLL(str(next(folder.glob("libllama.v*.so"))), mode=ctypes.RTLD_GLOBAL)
        log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
        self.quiet = log(lambda level, text, ctx: None)
        so.llama_log_set(self.quiet, None)
        ggml.ggml_backend_load_all_from_path(str(folder).encode())
        so.llama_model_default_params.restype = Params
        so.llama_model_load_from_file.argtypes = [ctypes.c_char_p, Params]
        so.llama_model_load_from_file.restype = so.llama_model_get_vocab.restype = ctypes.c_void_p
        so.llama_model_get_vocab.argtypes = so.llama_model_free.argtypes = [ctypes.c_void_p]
        so.llama_tokenize.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.POINTER(ctypes.c_int32),
                                      ctypes.c_int32, ctypes.c_bool, ctypes.c_bool]

    def ids(self, path, texts, add, parse):
        params = self.so.llama_model_default_params()
        params.b[VOCAB_ONLY] = 1
        model = self.so.llama_model_load_from_file(str(path).encode(), params)
        if not model:
            return None
        vocab = self.so.llama_model_get_vocab(model)
        out = []
        for text in texts:
            buf = (ctypes.c_int32 * (2 * len(text) * 3 + 16))()
            n = self.so.llama_tokenize(vocab, text, len(text), buf, len(buf), add, parse)
            assert n >= 0
            out.append(list(buf[:n]))
        self.so.llama_model_free(model)
        return out


def string(s):
    raw = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(kind, v):
    if kind == STR:
        return string(v)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<B", U8: "<B"}[kind], v)


def write(path, keys):
    """keys: (name, type, value); a list is an array."""
    keys = [("general.architecture", STR, "llama")] + keys
    out = b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys))
    for name, kind, v in keys:
        out += string(name)
        if isinstance(v, (list, bytes)):
            out += struct.pack("<IIQ", ARRAY, kind, len(v)) + b"".join(value(kind, x) for x in v)
        else:
            out += struct.pack("<I", kind) + value(kind, v)
    path.write_bytes(out + b"\0" * (-len(out) % 32))


def tok(name, kind, v):
    return ("tokenizer.ggml." + name, kind, v)


def from_sentencepiece(path, tmp, name, options, train):
    """A trained model's pieces as keys; its charsmap too."""
    import sentencepiece
    corpus = tmp / "corpus"
    corpus.write_bytes(b"\n".join(train))
    prefix = str(tmp / name)
    sentencepiece.SentencePieceTrainer.train(input=str(corpus), model_prefix=prefix, minloglevel=2, num_threads=2,
                                             character_coverage=0.985, hard_vocab_limit=False, **options)
    sp = sentencepiece.SentencePieceProcessor(model_file=prefix + ".model")
    n = sp.get_piece_size()
    user = set(options.get("user_defined_symbols", []))
    types = [UNKNOWN if sp.is_unknown(i) else CONTROL if sp.is_control(i) else UNUSED if sp.is_unused(i) else BYTE if sp.is_byte(i)
             else USER if sp.id_to_piece(i) in user else NORMAL for i in range(n)]
    keys = [tok("tokens", STR, [sp.id_to_piece(i) for i in range(n)]), tok("scores", F32, [sp.get_score(i) for i in range(n)]),
            tok("token_type", I32, types), tok("bos_token_id", U32, sp.bos_id()), tok("eos_token_id", U32, sp.eos_id()),
            tok("unknown_token_id", U32, sp.unk_id())]
    return keys, charsmap(pathlib.Path(prefix + ".model").read_bytes())


def charsmap(raw):
    """Field 2 of field 3 (normalizer_spec)."""
    def fields(b):
        at = 0
        while at < len(b):
            tag, at = number(b, at)
            if tag & 7 == 2:
                n, at = number(b, at)
                yield tag >> 3, b[at:at + n]
                at += n
            elif tag & 7 == 0:
                at = number(b, at)[1]
            else:
                at += 4 if tag & 7 == 5 else 8

    def number(b, at):
        v = shift = 0
        while True:
            v |= (b[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if not b[at - 1] & 0x80:
                return v, at
    return next((w for f, v in fields(raw) if f == 3 for g, w in fields(v) if g == 2), b"")


def byte_chars():
    keep = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(256, 512))
    return [chr(b) if b in keep else chr(next(others)) for b in range(256)]


def train_bpe(train, n_merges):
    """Byte-level BPE: tokens and merges."""
    chars = byte_chars()
    words = collections.Counter(w for t in train for w in re.findall(r" ?\w+| ?[^\w\s]+|\s+", t.decode(errors="replace")))
    parts = {w: [chars[b] for b in w.encode()] for w, _ in words.most_common(6000)}
    tokens, merges = list(chars), []
    for _ in range(n_merges):
        pairs = collections.Counter()
        for w, p in parts.items():
            for a, b in zip(p, p[1:]):
                pairs[a, b] += words[w]
        if not pairs:
            break
        a, b = max(pairs, key=lambda k: (pairs[k], k))
        if a + b not in tokens:
            tokens.append(a + b)
        merges.append(a + " " + b)
        for w, p in parts.items():
            if a in p:
                k, out = 0, []
                while k < len(p):
                    if k + 1 < len(p) and p[k] == a and p[k + 1] == b:
                        out.append(a + b)
                        k += 2
                    else:
                        out.append(p[k])
                        k += 1
                parts[w] = out
    return tokens, merges


def wordpiece(train):
    words = collections.Counter(w for t in train for w in re.findall(r"[a-z]+|[0-9]|[^\w\s]", t.decode(errors="replace").lower()))
    tokens = ["[PAD]"] + [f"[unused{i}]" for i in range(99)] + ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    inner = collections.Counter(w[k:] for w in words for k in range(1, len(w)) if len(w) - k < 5)
    tokens += sorted({"\u2581" + w for w, _ in words.most_common(1500)} | {"\u2581" + c for c in map(chr, range(0x21, 0x7F))})
    tokens += sorted({w for w, _ in inner.most_common(600)} | set("abcdefghijklmnopqrstuvwxyz0123456789") - {""})
    return tokens, [CONTROL if i < 104 else NORMAL for i in range(len(tokens))]


def pre_names(source):
    """All names; without QUERN_TEST_FULL=1, one of those that mean the same."""
    rows = re.findall(r'^    \{"([^"]+)", (\{.*)', source.read_text(), re.M)
    if os.environ.get("QUERN_TEST_FULL") == "1":
        return [name for name, _ in rows]
    return list({meaning: name for name, meaning in reversed(rows)}.values())


def main():
    exe, build, shared = sys.argv[1:4]
    package = tt.npm(build, "@node-llama-cpp/linux-x64")
    if package is None or json.loads((package / "package.json").read_text())["version"] != VERSION:
        print(f"skipped: no @node-llama-cpp/linux-x64 {VERSION} (see the head of this script, and QUERN_NPM)")
        return 77
    llama = Llama(package / "bins/linux-x64")
    rng = tt.rng(11)
    folder = pathlib.Path(shared) / "text"
    base = tt.lines(folder) if folder.is_dir() else tt.small_corpus(rng, 20000)
    rng.shuffle(base)
    train = [t[:2000] for t in base if b"\0" not in t and t.strip()][:4000]
    # llama.cpp's calls take a length, but a NUL ends what it makes of some of them
    n = 4000 if os.environ.get("QUERN_TEST_FULL") == "1" else 1500
    any_bytes = [t.replace(b"\0", b"") for t in base[:n] + tt.odd(rng, base, n // 3)]
    valid = [t.decode(errors="ignore").encode() for t in base[:n] + tt.odd(rng, base, n // 3)]
    special = [b"<s>a</s> b<unk>c  <s> ", b"x<|im_end|>y<|user|>z <|endoftext|>", b"[CLS] a [SEP][MASK] b"]
    ok = True
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        for name, keys, texts in vocabularies(tmp, train, any_bytes + special, valid + special):
            path = tmp / f"{name}.gguf"
            write(path, keys)
            ok = compare(llama, exe, path, name, texts) and ok
        real = pathlib.Path(shared) / "models/stories260k/gguf/stories260k-f16.gguf"
        if real.is_file():
            ok = compare(llama, exe, real, "stories260k", any_bytes + special) and ok
    return 0 if ok else 1


def compare(llama, exe, path, name, texts):
    ok = True
    for flags, add, parse in ((["special"], True, True), (["plain"], False, False)):
        want = llama.ids(path, texts, add, parse)
        got = tt.run(exe, path, texts, *flags)
        if want is None or got is None:
            print(f"{name}: {'llama.cpp' if want is None else 'our program'} does not open it")
            return False
        ok = tt.report(f"{name} {flags[0]}", texts, [g[0] for g in got], want) and ok
    return ok


def vocabularies(tmp, train, any_bytes, valid):
    try:
        import sentencepiece  # noqa: F401
    except ImportError:
        print("without python3-sentencepiece: no trained BPE by score and unigram")
    else:
        options = dict(model_type="bpe", vocab_size=2000, byte_fallback=True, normalization_rule_name="identity",
                       remove_extra_whitespaces=False, user_defined_symbols=["<sep>", "in"])
        keys, _ = from_sentencepiece(None, tmp, "spm", options, train)
        yield "spm", [tok("model", STR, "llama")] + keys, any_bytes
        yield "spm-no-prefix", [tok("model", STR, "llama"), tok("add_space_prefix", BOOL, 0), tok("add_bos_token", BOOL, 0),
                                tok("add_eos_token", BOOL, 1)] + keys, any_bytes
        options = dict(model_type="unigram", vocab_size=2000, user_defined_symbols=["<sep>", "in"])
        keys, charmap = from_sentencepiece(None, tmp, "t5", options, train)
        keys = [tok("model", STR, "t5"), tok("precompiled_charsmap", U8, charmap)] + keys
        for prefix in (0, 1):
            for extra in (0, 1):
                yield f"t5-{prefix}{extra}", keys + [tok("add_space_prefix", BOOL, prefix),
                                                     tok("remove_extra_whitespaces", BOOL, extra)], any_bytes
    tokens, merges = train_bpe(train[:1500], 700)
    tokens += ["<|endoftext|>", "<|im_end|>", "<|user|>"]
    types = [NORMAL] * (len(tokens) - 3) + [CONTROL, NORMAL, USER]
    keys = [tok("model", STR, "gpt2"), tok("tokens", STR, tokens), tok("token_type", I32, types), tok("merges", STR, merges),
            tok("bos_token_id", U32, len(tokens) - 3), tok("eos_token_id", U32, len(tokens) - 3)]
    table = pathlib.Path(__file__).resolve().parents[2] / "analysis/tokenize/gguf_pre_tab.c"
    for pre in pre_names(table):
        yield f"gpt2-{pre}", keys + [tok("pre", STR, pre)], valid
    tokens, types = wordpiece(train)
    yield "bert", [tok("model", STR, "bert"), tok("tokens", STR, tokens), tok("token_type", I32, types)], [t for t in valid if plain(t)]


def plain(text):
    """Control characters, and characters of which the two know different properties, are cut out or kept by different rules."""
    return all(c in "\t\n\r" or unicodedata.category(c)[0] in "LNPZS" for c in text.decode())


if __name__ == "__main__":
    sys.exit(main())
