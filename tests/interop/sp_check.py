#!/usr/bin/env python3
"""Our sentencepiece tokenizers against the library itself (Debian: python3-sentencepiece): the same ids and the same decoded text.

usage: sp_check.py DUMP_IDS SHARED

Trains small models of every kind on mixed text, and changes one of them by hand (unused pieces), then compares whole files line by line
and texts that are awkward: malformed UTF-8, spaces at all places, special tokens as text. QUERN_TEST_FULL=1: all of the texts,
else a part.
"""
import os
import pathlib
import sys
import tempfile

import token_texts as tt

MODELS = {
    "unigram": dict(model_type="unigram", vocab_size=3000),
    "unigram-bytes": dict(model_type="unigram", vocab_size=2500, byte_fallback=True, normalization_rule_name="nfkc"),
    "unigram-user": dict(model_type="unigram", vocab_size=2000, user_defined_symbols=["<sep>", "def ", "http", "\u2581\u2581", "in"],
                         control_symbols=["<ctl>"]),
    "unigram-suffix": dict(model_type="unigram", vocab_size=2000, treat_whitespace_as_suffix=True,
                           normalization_rule_name="nmt_nfkc_cf"),
    "bpe-llama": dict(model_type="bpe", vocab_size=2500, byte_fallback=True, normalization_rule_name="identity",
                      remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True),
    "bpe": dict(model_type="bpe", vocab_size=2500),
    "bpe-user": dict(model_type="bpe", vocab_size=2000, user_defined_symbols=["<sep>", "def ", "http", "\u2581\u2581", "in", "the"],
                     normalization_rule_name="nfkc_cf", add_dummy_prefix=False),
    "bpe-suffix": dict(model_type="bpe", vocab_size=2000, treat_whitespace_as_suffix=True),
    "bpe-nosplit": dict(model_type="bpe", vocab_size=2000, split_by_whitespace=False, max_sentencepiece_length=24),
    "characters": dict(model_type="char", vocab_size=400, user_defined_symbols=["the", "\u2581of"]),
    "words": dict(model_type="word", vocab_size=2000),
}


def varint(v):
    out = bytearray()
    while v >= 0x80:
        out.append(v & 0x7F | 0x80)
        v >>= 7
    return bytes(out) + bytes([v])


def with_unused(raw, rng):
    """The model with the type of some normal pieces of several characters set to unused (5)."""
    out, at = bytearray(), 0
    while at < len(raw):
        tag = raw[at]
        n, shift, k = 0, 0, at + 1
        while True:
            n |= (raw[k] & 0x7F) << shift
            shift += 7
            k += 1
            if not raw[k - 1] & 0x80:
                break
        body = raw[k:k + n]
        at = k + n
        text = body[2:2 + body[1]].decode(errors="replace") if tag == 0x0A else ""
        if tag == 0x0A and b"\x18" not in body[2 + body[1]:] and len(text) > 1 and rng.random() < 0.3:
            body += b"\x18\x05"
        out += bytes([tag]) + varint(len(body)) + body
    return bytes(out)


def main():
    exe, shared = sys.argv[1:3]
    try:
        import sentencepiece
    except ImportError:
        print("skipped: python3-sentencepiece is not installed")
        return 77
    rng = tt.rng(7)
    full = os.environ.get("QUERN_TEST_FULL") == "1"
    folder = pathlib.Path(shared) / "text"
    base = tt.lines(folder) if folder.is_dir() else tt.small_corpus(rng, 20000)
    texts = list(base)
    rng.shuffle(texts)
    train = [t[:2000] for t in texts if b"\0" not in t and t.strip()][:8000 if full else 3000] + [tt.EMOJI.encode()] * 20
    texts = (texts if full else texts[:4000]) + tt.odd(rng, base, 4000 if full else 1500) + [b"", b"\n".join(base[:4000])]
    ok = True
    with tempfile.TemporaryDirectory() as tmp:
        corpus = pathlib.Path(tmp) / "corpus"
        corpus.write_bytes(b"\n".join(train))
        for name, options in MODELS.items():
            path = f"{tmp}/{name}.model"
            sentencepiece.SentencePieceTrainer.train(
                input=str(corpus), model_prefix=path[:-6], minloglevel=2, num_threads=2, character_coverage=0.985,
                hard_vocab_limit=False, **options)
            names = [path]
            if name in ("bpe", "bpe-nosplit"):
                names.append(f"{tmp}/{name}-unused.model")
                pathlib.Path(names[1]).write_bytes(with_unused(pathlib.Path(path).read_bytes(), rng))
            for path in names:
                ok = compare(sentencepiece, exe, path, texts) and ok
    return 0 if ok else 1


def compare(sentencepiece, exe, path, texts):
    name = pathlib.Path(path).stem
    ref = sentencepiece.SentencePieceProcessor(model_file=path)
    got = tt.run(exe, path, texts)
    if got is None:
        print(f"{name}: our program failed")
        return False
    want = [ref.EncodeAsIds(t) for t in texts]
    text = [ref.DecodeIds(w).encode() if w else b"" for w in want]
    ok = tt.report(name, texts, [g[0] for g in got], want)
    ok = tt.report(name, texts, [g[1] for g in got], text, "decoded text") and ok
    rng = tt.rng(5)
    n = ref.get_piece_size()
    # low ids twice as often: bytes and special pieces stand there
    lists = [[rng.randrange(rng.choice((n, min(n, 300)))) for _ in range(rng.randrange(1, 12))] for _ in range(2000)]
    back, want = tt.decode(exe, path, lists), [ref.DecodeIds(ids).encode() for ids in lists]
    if back is None:
        print(f"{name}: our program failed to decode")
        return False
    return tt.report(f"{name} random ids", [repr(ids).encode() for ids in lists], back, want, "decoded text") and ok


if __name__ == "__main__":
    sys.exit(main())
