/* names.c: see names.h. */
#include "cli/names.h"
#include "base/err.h"
#include <string.h>

static const char suffix[] = ".quern";

static bool ends_with(const char *s, size_t n, const char *tail)
{
    const size_t t = strlen(tail);
    return n > t && memcmp(s + n - t, tail, t) == 0;
}

/* "p[0 … n)" "name" "tail" */
static qn_code put_tail(qn_arena *arena, const char *p, size_t n, const char *name, const char *tail, const char **out, qn_err *err)
{
    const size_t n_name = strlen(name), n_tail = strlen(tail);
    char *s = qn_arena_get(arena, n + n_name + n_tail + 1, 1, err);
    if (!s)
        return QN_E_MEMORY;
    memcpy(s, p, n);
    memcpy(s + n, name, n_name);
    memcpy(s + n + n_name, tail, n_tail + 1);
    *out = s;
    return QN_OK;
}

const char *qn_name_last(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

/* The input's length without slashes at its end; its last component must name something. */
static qn_code check_name(const char *input, size_t *n, const char **name, qn_err *err)
{
    *n = strlen(input);
    while (*n > 1 && input[*n - 1] == '/')
        (*n)--;
    const char *slash = NULL;
    for (size_t i = 0; i < *n; i++)
        if (input[i] == '/')
            slash = input + i;
    *name = slash ? slash + 1 : input;
    const size_t len = *n - (size_t)(*name - input);
    if (len == 0 || (len <= 2 && memcmp(*name, "..", len) == 0))
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "has no name to derive the output's from: give "
                                                                          "-o FILE"), input);
    return QN_OK;
}

qn_code qn_name_beside(qn_arena *arena, const char *input, const char *tail, const char **out, qn_err *err)
{
    const char *name;
    size_t n;
    QN_TRY(check_name(input, &n, &name, err));
    return put_tail(arena, input, n, "", tail, out, err);
}

qn_code qn_name_packed(qn_arena *arena, const char *input, const char **out, qn_err *err)
{
    static const char *const index_tails[] = {".safetensors.index.json", ".bin.index.json", ".json"};
    const char *name;
    size_t n;
    QN_TRY(check_name(input, &n, &name, err));
    for (size_t i = 0; i < sizeof index_tails / sizeof index_tails[0]; i++)
        if (ends_with(name, n - (size_t)(name - input), index_tails[i]))
            return put_tail(arena, input, n - strlen(index_tails[i]), "", suffix, out, err);
    return put_tail(arena, input, n, "", suffix, out, err);
}

qn_code qn_name_packed_bundle(qn_arena *arena, const char *bundle, const char *file, const char **out, qn_err *err)
{
    static const char *const tails[] = {".tar.gz", ".tar.zst", ".tar.xz", ".tar.bz2", ".tgz", ".tzst", ".txz", ".tbz2", ".tar",
                                        ".zip", ".gz", ".zst", ".xz", ".bz2"};
    const char *slash = strrchr(bundle, '/'), *name = slash ? slash + 1 : bundle;
    const size_t n_dir = (size_t)(name - bundle), n = strlen(name);
    if (file)
        return put_tail(arena, bundle, n_dir, file, suffix, out, err);
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++)
        if (ends_with(name, n, tails[i]))
            return put_tail(arena, bundle, n_dir + n - strlen(tails[i]), "", suffix, out, err);
    return put_tail(arena, bundle, n_dir + n, "", suffix, out, err);
}

qn_code qn_name_unpacked(qn_arena *arena, const char *packed, const char **out, qn_err *err)
{
    const size_t n = strlen(packed);
    if (!ends_with(packed, n, suffix) || packed[n - sizeof suffix] == '/')
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "does not end in .quern: give -o OUTPUT"),
                              packed);
    *out = qn_arena_str(arena, packed, n - (sizeof suffix - 1), err);
    return *out ? QN_OK : QN_E_MEMORY;
}
