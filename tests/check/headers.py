#!/usr/bin/env python3
"""Every header compiles alone: the public ones as C17 and C++17, all others as C17.

usage: headers.py SOURCE_ROOT CC [CXX]
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

FOLDERS = ["include", "base", "runtime", "formats", "analysis", "compress", "cli"]
DEFS = ["-D_POSIX_C_SOURCE=200809L", "-D_FILE_OFFSET_BITS=64", '-DQN_VERSION="0"']
STRICT = ["-Wall", "-Wextra", "-Werror", "-fsyntax-only"]


def compiles(cmd, text, suffix):
    with tempfile.NamedTemporaryFile("w", suffix=suffix) as f:
        f.write(text)
        f.flush()
        run = subprocess.run(cmd + [f.name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return run.returncode == 0, run.stdout


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    cc = sys.argv[2].split()
    cxx = (sys.argv[3] if len(sys.argv) > 3 else os.environ.get("CXX", "c++")).split()
    if not shutil.which(cc[0]):
        print(f"skipped: no compiler {cc[0]}")
        return 77
    inc = [f"-I{root}", f"-I{root / 'include'}"]
    bad = n = n_cxx = 0
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.h")):
            if path.name.endswith("_tmpl.h") or path.name.endswith("_template.h"):
                continue  # a body that is included with macros set
            rel = path.relative_to(root).as_posix()
            name = path.relative_to(root / "include").as_posix() if folder == "include" else rel
            text = f'#include "{name}"\n#include "{name}"\nint qt_x;\n'
            ok, out = compiles(cc + ["-std=c17"] + STRICT + DEFS + inc, text, ".c")
            n += 1
            if not ok:
                bad += 1
                print(f"{rel}: not alone as C17\n{out}")
            if folder != "include":
                continue
            public = [f"-I{root / 'include'}"]
            ok, out = compiles(cc + ["-std=c17", "-pedantic"] + STRICT + public, text, ".c")
            if not ok:
                bad += 1
                print(f"{rel}: not alone as plain C17, without our definitions\n{out}")
            if shutil.which(cxx[0]):
                ok, out = compiles(cxx + ["-std=c++17", "-pedantic"] + STRICT + public, text, ".cpp")
                n_cxx += 1
                if not ok:
                    bad += 1
                    print(f"{rel}: not alone as C++17\n{out}")
    if not n_cxx:
        print(f"no C++ compiler ({cxx[0]}): public headers were tried as C only")
    print(f"{n} headers as C17, {n_cxx} as C++17, {bad} failures")
    return 1 if bad or not n else 0


sys.exit(main())
