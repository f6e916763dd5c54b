#!/usr/bin/env python3
"""No path or name of the machine it was written on, no trailing space, no tab in C, every C file opens with its purpose.

usage: words.py SOURCE_ROOT
"""
import pathlib
import re
import sys

FOLDERS = ["include", "base", "runtime", "formats", "analysis", "compress", "cli", "tests", "bench", "docs"]
SUFFIXES = {".c", ".h", ".py", ".sh", ".md", ".build"}
MACHINE = re.compile(r"/(?:home|root|work|Users)/\w+|\blocalhost\b")


def main():
    root = pathlib.Path(sys.argv[1])
    bad, seen = [], 0
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in SUFFIXES and path.name != "meson.build" or not path.is_file():
                continue
            rel = path.relative_to(root).as_posix()
            text = path.read_text()
            seen += 1
            for i, line in enumerate(text.split("\n"), 1):
                if MACHINE.search(line):
                    bad.append(f"{rel}:{i}: names a place on a machine")
                if line != line.rstrip():
                    bad.append(f"{rel}:{i}: space at the end")
                if "\t" in line and path.suffix in {".c", ".h"}:
                    bad.append(f"{rel}:{i}: tab")
            if path.suffix in {".c", ".h"} and not text.startswith("/*"):
                bad.append(f"{rel}: does not open with a line that says what it is")
            if text and not text.endswith("\n"):
                bad.append(f"{rel}: last line has no end")
    for line in bad:
        print(line)
    print(f"{seen} files, {len(bad)} findings")
    return 1 if bad or not seen else 0


sys.exit(main())
