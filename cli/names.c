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

qn_code qn_name_packed(qn_arena *arena, const char *input, const char **out, qn_err *err)
{
    static const char index_tail[] = ".safetensors.index.json";
    size_t n = strlen(input);
    while (n > 1 && input[n - 1] == '/')
        n--;
    const char *slash = NULL;
    for (size_t i = 0; i < n; i++)
        if (input[i] == '/')
            slash = input + i;
    const char *name = slash ? slash + 1 : input;
    const size_t len = n - (size_t)(name - input);
    if (len == 0 || (len <= 2 && memcmp(name, "..", len) == 0))
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "has no name to derive the output's from: give "
                                                                          "-o FILE"), input);
    if (ends_with(name, len, index_tail))
        n -= sizeof index_tail - 1;
    char *s = qn_arena_get(arena, n + sizeof suffix, 1, err);
    if (!s)
        return QN_E_MEMORY;
    memcpy(s, input, n);
    memcpy(s + n, suffix, sizeof suffix);
    *out = s;
    return QN_OK;
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
