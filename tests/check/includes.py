#!/usr/bin/env python3
"""Includes go down only: base <- runtime <- formats <- analysis <- compress <- cli; include/ stands below all of them.

usage: includes.py SOURCE_ROOT
"""
import pathlib
import re
import sys

ORDER = ["base", "runtime", "formats", "analysis", "compress", "cli"]
# what a folder may use of the public headers, and who may include from where
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def main():
    root = pathlib.Path(sys.argv[1])
    bad, seen = [], 0
    for level, folder in enumerate(ORDER):
        for path in sorted((root / folder).rglob("*.[ch]")):
            seen += 1
            for name in INCLUDE.findall(path.read_text()):
                top = name.split("/")[0]
                where = f"{path.relative_to(root)}: includes {name}"
                if top == "quern":
                    continue
                if top not in ORDER:
                    # a neighbour, or a template of the same folder given without it
                    if not (path.parent / name).is_file():
                        bad.append(f"{where}: neither ours nor beside it; write it from the root of the tree")
                elif ORDER.index(top) > level:
                    bad.append(f"{where}: {top} stands above {folder}")
                elif not (root / name).is_file():
                    bad.append(f"{where}: there is no such file")
    for path in sorted((root / "include").rglob("*.h")):
        seen += 1
        for name in INCLUDE.findall(path.read_text()):
            if not name.startswith("quern/"):
                bad.append(f"{path.relative_to(root)}: a public header includes {name}")
    for line in bad:
        print(line)
    print(f"{seen} files, {len(bad)} includes that go up")
    return 1 if bad or not seen else 0


sys.exit(main())
