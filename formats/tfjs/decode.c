/* decode.c (tfjs): weights as values. TensorFlow.js computes in doubles, code · scale + min, and rounds once to float32; an
 * int32 is rounded as Math.round does (halves towards +∞) and taken modulo 2^32. */
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "formats/tfjs/tfjs.h"
#include <math.h>
#include <string.h>

qn_code qn_tfjs_read_group(const qn_tfjs_model *m, uint64_t group, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    const qn_tfjs_group *g = &m->groups[group];
    uint8_t *p = dst;
    uint64_t lo = g->first_shard, hi = g->first_shard + g->n_shards;
    while (lo < hi) { /* the shard that holds off */
        const uint64_t mid = lo + (hi - lo) / 2;
        if (m->shards[mid].off + m->shards[mid].n_bytes <= off)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; n > 0; lo++) {
        if (lo >= g->first_shard + g->n_shards)
            return QN_BUG(err, "read past the end of a group");
        const qn_tfjs_shard *h = &m->shards[lo];
        const uint64_t take = qn_min_u64(n, h->off + h->n_bytes - off);
        QN_TRY(qn_fileset_read(m->s, h->file, off - h->off, take, p, err));
        p += take;
        off += take;
        n -= take;
    }
    return QN_OK;
}

/* Math.round and then the Int32Array it is stored into. */
static uint32_t to_int32(double v)
{
    const double two32 = 4294967296.0;
    double r = floor(v);
    if (v - r >= 0.5)
        r += 1;
    if (!isfinite(r))
        return 0;
    r = fmod(r, two32);
    return (uint32_t)(r < 0 ? r + two32 : r);
}

/* n elements of `codes` as values of 4 bytes each, little-endian. */
static void widen(const qn_tfjs_weight *w, const uint8_t *codes, uint64_t n, uint8_t *dst)
{
    for (uint64_t i = 0; i < n; i++) {
        uint32_t bits;
        if (w->kind == QN_TFJS_F16) {
            const float f = qn_f16_to_f32(qn_load16(codes + 2 * i));
            memcpy(&bits, &f, 4);
        } else {
            const double v = (double)(w->kind == QN_TFJS_U8 ? codes[i] : qn_load16(codes + 2 * i)) * w->scale + w->min;
            const float f = (float)v;
            memcpy(&bits, &f, 4);
            if (w->dtype == QN_I32)
                bits = to_int32(v);
        }
        qn_store32(dst + 4 * i, bits);
    }
}

qn_code qn_tfjs_read_weight(qn_source *s, const qn_source_tensor *t, const void *how, uint64_t at, uint64_t n, uint8_t *dst,
                            qn_err *err)
{
    enum { BLOCK = 4096, WIDE = 4 };
    const qn_tfjs_weight *w = how;
    (void)t;
    if (w->kind == QN_TFJS_PLAIN)
        return qn_tfjs_read_group(w->model, w->group, w->off + at, n, dst, err);
    const uint64_t narrow = w->kind == QN_TFJS_U8 ? 1 : 2;
    uint8_t *codes = qn_mem_get(s->env->alloc, BLOCK * (narrow + WIDE), err);
    if (!codes)
        return QN_E_MEMORY;
    uint8_t *values = codes + BLOCK * narrow;
    qn_code rc = QN_OK;
    while (n > 0 && rc == QN_OK) {
        const uint64_t first = at / WIDE, skip = at % WIDE;
        const uint64_t n_elems = qn_min_u64(BLOCK, qn_ceil_div(skip + n, WIDE)), take = qn_min_u64(n, n_elems * WIDE - skip);
        rc = qn_tfjs_read_group(w->model, w->group, w->off + first * narrow, n_elems * narrow, codes, err);
        if (rc != QN_OK)
            break;
        widen(w, codes, n_elems, values);
        memcpy(dst, values + skip, (size_t)take);
        dst += take;
        at += take;
        n -= take;
    }
    qn_mem_put(s->env->alloc, codes);
    return rc;
}
