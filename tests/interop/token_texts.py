"""Texts to tokenize, and the calls that the scripts beside this one share."""
import os
import pathlib
import random
import struct
import subprocess

ODD = [b" ", b"\xe2\x96\x81", b"in", b"the", b"<sep>", b"http", b"def ", b"\t", b"<s>", b"</s>", b"<unk>", b"\xe3\x80\x80",
       b"\xef\xbf\xbd", b"a", b"\xff", b"<0x41>", b"\xe2\x96", b"\xc2\xa0", b"\xcc\x81", b"e", b"\xef\xac\x81", b"\r", b"\x00", b"\n"]
RANGES = [(0x20, 0x250), (0x3000, 0x9FFF), (0x1F300, 0x1FA00), (0xAC00, 0xD7A3), (0x600, 0xE00)]
EMOJI = "\U0001f600 \U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308 \u2764\ufe0f ok "


def lines(folder):
    """Every line of every text in the folder."""
    out = []
    for path in sorted(pathlib.Path(folder).glob("*")):
        out += path.read_bytes().split(b"\n")
    return out


def odd(rng, base, n, valid=False):
    """n short awkward texts; valid: UTF-8 only."""
    out = []
    for _ in range(n):
        kind, size = rng.randrange(5), rng.randrange(1, 60)
        if kind == 0:
            text = bytes(rng.randrange(256) for _ in range(size))
        elif kind == 1:
            text = b"".join(rng.choice(ODD) for _ in range(size))
        elif kind == 2:
            text = "".join(chr(rng.randrange(*rng.choice(RANGES))) for _ in range(size)).encode()
        elif kind == 3:
            text = bytearray(rng.choice(base)[:200])
            for _ in range(rng.randrange(4)):
                if text:
                    text[rng.randrange(len(text))] = rng.randrange(256)
            text = bytes(text)
        else:
            text = b" " * rng.randrange(5) + rng.choice(base)[:80] + b" " * rng.randrange(5) + EMOJI.encode()[:rng.randrange(40)]
        out.append(text.decode(errors="replace").encode() if valid else text)
    return out


def small_corpus(rng, n):
    """Made text, for when the shared folder is absent: words of a small language, digits, CJK, emoji."""
    words = ["".join(rng.choice("etaoinshrdlucmfwypvbgkjqxz") for _ in range(rng.randrange(1, 9))) for _ in range(400)]
    out = []
    for _ in range(n):
        text = " ".join(rng.choice(words[: rng.randrange(1, 400)]) for _ in range(rng.randrange(1, 20)))
        if rng.random() < 0.2:
            text += " " + str(rng.randrange(100000)) + ", " + "".join(chr(rng.randrange(0x4E00, 0x4E80)) for _ in range(8)) + EMOJI
        out.append(text.encode())
    return out


def run(exe, path, texts, *flags):
    """[(ids, decoded bytes)] of our program; None when it failed (its message is printed)."""
    given = b"".join(struct.pack("<I", len(t)) + t for t in texts)
    done = subprocess.run([exe, path, *flags], input=given, stdout=subprocess.PIPE)
    if done.returncode:
        return None
    out, at, raw = [], 0, done.stdout
    for _ in texts:
        (n,) = struct.unpack_from("<I", raw, at)
        ids = struct.unpack_from(f"<{n}I", raw, at + 4)
        at += 4 + 4 * n
        (n,) = struct.unpack_from("<I", raw, at)
        out.append((list(ids), raw[at + 4:at + 4 + n]))
        at += 4 + n
    assert at == len(raw)
    return out


def decode(exe, path, lists):
    """[bytes] that the lists of ids are decoded to, without special tokens."""
    given = b"".join(struct.pack(f"<I{len(ids)}I", 4 * len(ids), *ids) for ids in lists)
    done = subprocess.run([exe, path, "ids", "skip"], input=given, stdout=subprocess.PIPE)
    if done.returncode:
        return None
    out, at = [], 0
    for _ in lists:
        (n,) = struct.unpack_from("<I", done.stdout, at)
        out.append(done.stdout[at + 4:at + 4 + n])
        at += 4 + n
    return out


def report(name, texts, ours, theirs, what="ids"):
    """Counts what differs and shows the first; True when nothing does."""
    bad = [i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b]
    n_bytes = sum(map(len, texts))
    print(f"{name}: {len(texts)} texts, {n_bytes / 1e6:.2f} MB: {what} of {len(bad)} differ")
    for i in bad[:3]:
        a, b = ours[i], theirs[i]
        k = next((k for k, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        print(f"   {texts[i][:120]!r}\n   at {k}: ours {a[max(0, k - 3):k + 6]} theirs {b[max(0, k - 3):k + 6]}")
    return not bad


def npm(build, package):
    """Folder of a node package in QUERN_NPM or the build folder, or None."""
    for folder in filter(None, [os.environ.get("QUERN_NPM"), build]):
        path = pathlib.Path(folder) / "node_modules" / package
        if path.is_dir():
            return path
    return None


def rng(seed):
    return random.Random(seed)
