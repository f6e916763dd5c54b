/* grad_lm_split.c: derivatives of what only moves values: Split (the parts put together again; a part that nobody reads gives 0) and Rope (turned
 * back by the same angles: a rotation's transpose is its inverse). */
#include "analysis/exec/lm_parts.h"
#include "analysis/grad/backs.h"
#include "base/err.h"
#include <string.h>

struct split {
    const qn_array *d;
    float *dx;
    const int64_t *sizes;
    uint64_t n, groups, sum;
};

static void rows_join(const void *ctx, uint64_t first, uint64_t n)
{
    const struct split *s = ctx;
    for (uint64_t g = first * s->groups; g < (first + n) * s->groups; g++) {
        float *to = s->dx + g * s->sum;
        for (uint64_t i = 0; i < s->n; i++) {
            const uint64_t size = (uint64_t)s->sizes[i];
            if (s->d[i].dtype == QN_F32)
                memcpy(to, (const float *)s->d[i].data + g * size, size * sizeof *to);
            else
                memset(to, 0, size * sizeof *to);
            to += size;
        }
    }
}

qn_code qn_back_lm_split(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                         qn_array *d_in, qn_err *err)
{
    (void)out;
    unsigned count;
    struct split s = {.d = d_out, .sizes = qn_node_ints(n, "sizes", &count), .groups = (uint64_t)qn_node_int(n, "groups", 1)};
    if (!want[0])
        return QN_OK;
    s.n = count;
    for (unsigned i = 0; i < count; i++)
        s.sum += (uint64_t)s.sizes[i];
    QN_TRY(qn_grad_like(x, &in[0], false, &d_in[0], err));
    s.dx = d_in[0].data;
    return qn_lm_each_row(x, in[0].n / (s.sum * s.groups), s.sum * s.groups, rows_join, &s, err);
}

qn_code qn_back_lm_rope(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                        qn_array *d_in, qn_err *err)
{
    (void)out;
    if (!want[0])
        return QN_OK;
    const qn_array turned[4] = {d_out[0], in[1], in[2], n->n_in > 3 ? in[3] : (qn_array){.dtype = QN_BYTES}};
    return qn_lm_rope_turn(x, n, turned, true, &d_in[0], err);
}
