/* path.h: relative paths that came from a file, and names beside an output. */
#ifndef QN_BASE_PATH_H
#define QN_BASE_PATH_H

#include "base/alloc.h"

/* A relative path that may be created below a target directory: no empty, "." or ".." component, no leading
 * or trailing '/', no backslash, no control bytes, valid UTF-8, ≤ 1024 bytes, ≤ 16 components. */
bool qn_path_is_safe(const char *p, size_t n);
/* Strict UTF-8: shortest forms, no surrogates, ≤ U+10FFFF. */
bool qn_utf8_is_valid(const char *p, size_t n);

/* Does s end so? Also when it is nothing else. */
bool qn_text_ends(const char *s, const char *tail);

/* Concatenation of a and b in heap memory, freed with qn_mem_put; NULL and *err when there is none. */
char *qn_path_cat(const qn_alloc *alloc, const char *a, const char *b, qn_err *err) QN_MUST_CHECK;
/* "dir/name" (no doubled slash). */
char *qn_path_join(const qn_alloc *alloc, const char *dir, const char *name, qn_err *err) QN_MUST_CHECK;
/* The folder of a path: "a/b" → "a", "b" → ".", "/b" → "/". Trailing slashes do not count. */
char *qn_path_dir(const qn_alloc *alloc, const char *path, qn_err *err) QN_MUST_CHECK;
/* The last name of a path, without trailing slashes: "a/b/" → "b". */
char *qn_path_last(const qn_alloc *alloc, const char *path, qn_err *err) QN_MUST_CHECK;

#endif
