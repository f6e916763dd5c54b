#!/usr/bin/env python3
"""Unigram and WordPiece in tokenizer.json, here and in the tokenizers library (and its JavaScript edition): the same ids.

usage: json_models.py DUMP_IDS BUILD_FOLDER SHARED

The unigram vocabularies are trained by sentencepiece (Debian: python3-sentencepiece), charsmap included; the WordPiece ones hold
frequent words. The references are packages that the project does not depend on:
    npm i --ignore-scripts @anush008/tokenizers@0.6.0 @huggingface/tokenizers@0.2.0
in the folder that QUERN_NPM names, or in BUILD_FOLDER. Either may be missing. The JavaScript edition does not read charsmaps, so
it is not asked about those.
"""
import base64
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import unicodedata

import gguf_tokens
import token_texts as tt

PEER = """
const fs = require('fs');
const [modules, which, model, texts, out] = process.argv.slice(1);
const json = fs.readFileSync(model, 'utf8'), raw = fs.readFileSync(texts);
const require_from = require('module').createRequire(modules + '/');
let one;
if (which === 'rust') {
  const t = require_from('@anush008/tokenizers').Tokenizer.fromString(json);
  one = async (s) => (await t.encode(s)).getIds();
} else {
  const { Tokenizer } = require_from('@huggingface/tokenizers');
  const t = new Tokenizer(JSON.parse(json), {});
  one = async (s) => t.encode(s).ids;
}
(async () => {
  const got = [];
  for (let at = 0; at < raw.length;) {
    const n = raw.readUInt32LE(at);
    got.push(await one(raw.toString('utf8', at + 4, at + 4 + n)));
    at += 4 + n;
  }
  fs.writeFileSync(out, JSON.stringify(got.map((ids) => Array.from(ids))));
})();
"""


def peer(modules, which, model, texts, tmp):
    (tmp / "texts").write_bytes(b"".join(struct.pack("<I", len(t)) + t for t in texts))
    done = subprocess.run(["node", "-e", PEER, str(modules), which, str(model), str(tmp / "texts"), str(tmp / "out")])
    return None if done.returncode else json.loads((tmp / "out").read_text())


def added(tokens):
    return [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
            for i, t in tokens]


def unigram(vocab, unk, normalizer, pre, byte_fallback=False):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added([(unk, vocab[unk][0])]),
            "normalizer": normalizer, "pre_tokenizer": pre, "post_processor": None, "decoder": None,
            "model": {"type": "Unigram", "unk_id": unk, "vocab": vocab, "byte_fallback": byte_fallback}}


def metaspace(scheme, split=True):
    return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": split}


def models(tmp, train):
    """name, tokenizer.json, whether the JavaScript edition reads it."""
    try:
        import sentencepiece  # noqa: F401
    except ImportError:
        print("without python3-sentencepiece: no trained unigram vocabulary")
    else:
        options = dict(model_type="unigram", vocab_size=2000)
        keys, charmap = gguf_tokens.from_sentencepiece(None, tmp, "unigram", options, train)
        keys = {k.rsplit(".", 1)[1]: v for k, _, v in keys}
        vocab = [[t, s] for t, s in zip(keys["tokens"], keys["scores"])]
        unk = keys["unknown_token_id"]
        compiled = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charmap).decode()}
        spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
        yield "unigram-plain", unigram(vocab, unk, None, metaspace("always")), True
        yield "unigram-whole", unigram(vocab, unk, None, metaspace("first", False)), False
        yield "unigram-precompiled", unigram(vocab, unk, compiled, metaspace("always")), False
        yield "unigram-t5", unigram(vocab, unk, {"type": "Sequence", "normalizers": [compiled, spaces]}, metaspace("always")), False
        with_bytes = vocab + [[f"<0x{b:02X}>", -20.0] for b in range(256)]
        yield "unigram-bytes", unigram(with_bytes, unk, None, metaspace("always"), True), False
    words, _ = gguf_tokens.wordpiece(train)
    # GGUF marks the beginning of a word, tokenizer.json its inside
    tokens = [w if i < 104 else w[1:] if w[0] == "\u2581" else "##" + w for i, w in enumerate(words)]
    bert = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    template = {"type": "TemplateProcessing", "pair": [],
                "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                           {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
                "special_tokens": {t: {"id": t, "ids": [tokens.index(t)], "tokens": [t]} for t in ("[CLS]", "[SEP]")}}
    for name, most, prefix in (("wordpiece", 100, "##"), ("wordpiece-short", 6, "##")):
        yield name, {"version": "1.0", "truncation": None, "padding": None,
                     "added_tokens": added([(i, tokens[i]) for i in (0, 100, 101, 102, 103)]), "normalizer": bert,
                     "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": template,
                     "decoder": {"type": "WordPiece", "prefix": prefix, "cleanup": True},
                     "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": prefix,
                               "max_input_chars_per_word": most, "vocab": {t: i for i, t in enumerate(tokens)}}}, True


def settled(text):
    """Only characters whose category is the same in Unicode 3.2 and now: the libraries carry tables of different years."""
    old = unicodedata.ucd_3_2_0
    return all(old.category(c) == unicodedata.category(c) for c in text.decode())


def main():
    exe, build, shared = sys.argv[1:4]
    rust, js = tt.npm(build, "@anush008/tokenizers"), tt.npm(build, "@huggingface/tokenizers")
    if rust is None and js is None:
        print("skipped: no @anush008/tokenizers and no @huggingface/tokenizers (see the head of this script, and QUERN_NPM)")
        return 77
    rng = tt.rng(23)
    folder = pathlib.Path(shared) / "text"
    base = tt.lines(folder) if folder.is_dir() else tt.small_corpus(rng, 20000)
    rng.shuffle(base)
    train = [t[:2000] for t in base if b"\0" not in t and t.strip()][:4000]
    lines = [t.decode(errors="replace").encode() for t in base[:6000]]
    texts = lines + tt.odd(rng, base, 2000, valid=True)
    ok = True
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        for name, model, for_js in models(tmp, train):
            path = tmp / "tokenizer.json"
            path.write_text(json.dumps(model))
            ok = compare(exe, path, name, [t for t in texts if name[0] != "w" or settled(t)], rust, "rust", tmp) and ok
            if for_js:
                ok = compare(exe, path, name, lines, js, "js", tmp) and ok
    return 0 if ok else 1


def compare(exe, path, name, texts, package, which, tmp):
    if package is None:
        return True
    got = tt.run(exe, str(path), texts, "special")
    want = peer(package.parents[1], which, path, texts, tmp)
    if got is None or want is None:
        print(f"{name}: {'our program' if got is None else which} failed")
        return False
    return tt.report(f"{name} ({which})", texts, [g[0] for g in got], want)


if __name__ == "__main__":
    sys.exit(main())
