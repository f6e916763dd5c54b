/* stream.c (gguf): reads the head of a file front to back through a small buffer; see gguf.h. */
#include "base/err.h"
#include "base/num.h"
#include "formats/gguf/gguf.h"
#include <string.h>

void qn_gguf_in_begin(qn_gguf_in *in, const qn_gguf *g, uint64_t at)
{
    in->g = g;
    in->at = in->off = at;
    in->n = 0;
}

uint64_t qn_gguf_in_left(const qn_gguf_in *in)
{
    return in->g->n_bytes - in->at;
}

static qn_code fill(qn_gguf_in *in, qn_err *err)
{
    const uint64_t n = qn_min_u64(sizeof in->buf, qn_gguf_in_left(in));
    in->n = 0;
    QN_TRY(in->g->read(in->g->ctx, in->buf, n, in->at, err));
    in->off = in->at;
    in->n = (size_t)n;
    return QN_OK;
}

qn_code qn_gguf_in_take(qn_gguf_in *in, void *dst, uint64_t n, const char *what, qn_err *err)
{
    if (n > qn_gguf_in_left(in))
        return QN_FAIL(err, QN_E_INPUT, in->at, "ends early: %s needs %llu bytes, %llu are left", what, (unsigned long long)n,
                       (unsigned long long)qn_gguf_in_left(in));
    if (!dst) {
        in->at += n;
        return QN_OK;
    }
    for (uint8_t *p = dst; n > 0;) {
        if (in->at < in->off || in->at - in->off >= in->n)
            QN_TRY(fill(in, err));
        const size_t from = (size_t)(in->at - in->off), m = (size_t)qn_min_u64(n, in->n - from);
        memcpy(p, in->buf + from, m);
        p += m;
        n -= m;
        in->at += m;
    }
    return QN_OK;
}

qn_code qn_gguf_in_u32(qn_gguf_in *in, uint32_t *v, const char *what, qn_err *err)
{
    uint8_t b[4];
    QN_TRY(qn_gguf_in_take(in, b, sizeof b, what, err));
    *v = qn_load32(b);
    return QN_OK;
}

qn_code qn_gguf_in_u64(qn_gguf_in *in, uint64_t *v, const char *what, qn_err *err)
{
    uint8_t b[8];
    QN_TRY(qn_gguf_in_take(in, b, sizeof b, what, err));
    *v = qn_load64(b);
    return QN_OK;
}

qn_code qn_gguf_in_name(qn_gguf_in *in, qn_arena *arena, uint64_t most, const char *what, const char **name, qn_err *err)
{
    const uint64_t at = in->at;
    uint64_t n;
    QN_TRY(qn_gguf_in_u64(in, &n, what, err));
    if (n == 0 || n > most)
        return QN_FAIL(err, QN_E_INPUT, at, "%s of %llu bytes: 1 to %llu are allowed", what, (unsigned long long)n,
                       (unsigned long long)most);
    if (n > qn_gguf_in_left(in))
        return QN_FAIL(err, QN_E_INPUT, at, "ends early: %s needs %llu bytes, %llu are left", what, (unsigned long long)n,
                       (unsigned long long)qn_gguf_in_left(in));
    char *s = qn_arena_get(arena, n + 1, 1, err);
    if (!s)
        return QN_E_MEMORY;
    QN_TRY(qn_gguf_in_take(in, s, n, what, err));
    s[n] = '\0';
    if (memchr(s, 0, (size_t)n) || !qn_utf8_is_valid(s, (size_t)n))
        return QN_FAIL(err, QN_E_INPUT, at, "%s is not UTF-8 or has a NUL inside", what);
    *name = s;
    return QN_OK;
}
