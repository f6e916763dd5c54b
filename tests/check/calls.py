#!/usr/bin/env python3
"""Calls that the libraries must not make, and files that have grown too long.

usage: calls.py SOURCE_ROOT
"""
import pathlib
import re
import sys

LIBRARY = ["base", "runtime", "formats", "analysis", "compress"]
LINES_MAX = 600

# (words, why, folders, files that may)
RULES = [
    ("malloc calloc realloc free posix_memalign aligned_alloc strdup strndup asprintf vasprintf getline reallocarray",
     "memory goes through base/alloc.h", LIBRARY + ["cli"],
     {"base/alloc.c", "base/io_mem.c", "base/io_mem_cut.c"}),  # the last two are for tests only
    ("printf vprintf puts putchar perror exit _exit quick_exit", "only cli/ speaks to the user", LIBRARY, set()),
    ("fprintf vfprintf fputs fputc fwrite abort", "only cli/ speaks to the user", LIBRARY, {"base/err.c"}),
    ("strcpy strcat sprintf vsprintf gets atoi atol atoll atof alloca strtok scanf sscanf tmpnam mktemp system popen rand "
     "srand strncpy strncat", "no bounds, no error, or hidden state", LIBRARY + ["cli"], set()),
    ("getenv setenv putenv", "the environment is read in base/cpu.c, base/env.c and cli/", LIBRARY,
     {"base/cpu.c", "base/env.c"}),
    ("fopen fread fscanf open openat creat pread pwrite rename unlink mkdir opendir mmap",
     "files go through base/io.h", LIBRARY + ["cli"],
     {"base/io_posix.c", "base/threads.c", "base/io_fault.c", "cli/main.c"}),  # io_fault.c passes on members of these names
    ("time gettimeofday localtime gmtime strftime", "output must not depend on the date", LIBRARY, set()),
    ("setlocale uselocale signal sigaction", "the process belongs to the caller", LIBRARY, set()),
]

TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def code_only(text):
    """The text with comments and literals blanked, line breaks kept."""
    return TOKEN.sub(lambda m: "".join(c if c == "\n" else " " for c in m.group()), text)


def main():
    root = pathlib.Path(sys.argv[1])
    bad, seen = [], 0
    for folder in LIBRARY + ["cli", "include"]:
        for path in sorted((root / folder).rglob("*.[ch]")):
            rel = path.relative_to(root).as_posix()
            text = path.read_text()
            seen += 1
            lines = text.count("\n")
            if lines > LINES_MAX and "lines:" not in text[:1500].lower():
                bad.append(f"{rel}: {lines} lines; past {LINES_MAX} the top must say why ('lines: …')")
            code = code_only(text)
            for words, why, folders, may in RULES:
                if folder not in folders or rel in may:
                    continue
                # a call of a plain function: not a member, not a longer word, not a definition of a member
                for m in re.finditer(r"(?<![\w.>])(" + "|".join(words.split()) + r")\s*\(", code):
                    line = code.count("\n", 0, m.start()) + 1
                    bad.append(f"{rel}:{line}: {m.group(1)}: {why}")
    for line in bad:
        print(line)
    print(f"{seen} files, {len(bad)} findings")
    return 1 if bad or not seen else 0


sys.exit(main())
