/* adamw.c: see adamw.h. */
#include "compress/train/adamw.h"
#include "base/num.h"
#include <math.h>

enum { PART = 1 << 14 };

struct step {
    const float *g;
    const uint8_t *keep;
    float *w, *m, *v;
    uint64_t n;
    float b1, b2, size, root, eps, shrink;
};

static qn_code part(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const struct step *s = ctx;
    const uint64_t end = qn_min_u64(s->n, (i + 1) * PART);
    for (uint64_t k = i * PART; k < end; k++) {
        const float g = s->g[k], m = s->b1 * s->m[k] + (1.0f - s->b1) * g, v = s->b2 * s->v[k] + (1.0f - s->b2) * g * g;
        const float w = s->w[k] * s->shrink - s->size * m / (sqrtf(v) * s->root + s->eps);
        s->m[k] = m;
        s->v[k] = v;
        s->w[k] = !s->keep || s->keep[k] ? w : s->w[k];
    }
    return QN_OK;
}

qn_code qn_adamw_step(qn_exec *x, const qn_adamw *a, const float *g, const uint8_t *keep, float *w, float *m, float *v, uint64_t n, qn_err *err)
{
    struct step s = {.g = g, .keep = keep, .w = w, .m = m, .v = v, .n = n, .b1 = (float)a->beta1, .b2 = (float)a->beta2};
    s.size = (float)(a->rate / (1.0 - pow(a->beta1, a->t)));
    s.root = (float)(1.0 / sqrt(1.0 - pow(a->beta2, a->t)));
    s.eps = (float)a->eps;
    s.shrink = (float)(1.0 - a->rate * a->decay);
    return qn_exec_parts(x, qn_ceil_div(n, PART), 16 * n, part, &s, err);
}
