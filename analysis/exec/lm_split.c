/* lm_split.c: the parts of a fused projection: [q | k | v], [gate | up], or per head [q k v][q k v] … (groups). */
#include "analysis/exec/lm_help.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <string.h>

enum { PARTS_MAX = 16 };

struct split {
    const float *x;
    float *y[PARTS_MAX];
    uint64_t size[PARTS_MAX], n, groups, sum;
};

/* Sizes of the outputs; their sum × groups must be the last axis when that is known. */
static qn_code parse(const qn_node *n, int64_t cols, struct split *s, qn_err *err)
{
    unsigned count;
    const int64_t *sizes = qn_node_ints(n, "sizes", &count);
    QN_TRY(qn_lm_size(n, "groups", 1, &s->groups, err));
    if (count != n->n_out || count > PARTS_MAX)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%u sizes for %u outputs; as many, at most %d, are allowed", count, n->n_out, PARTS_MAX);
    s->n = count;
    s->sum = 0;
    for (unsigned i = 0; i < count; i++) {
        if (sizes[i] < 1 || sizes[i] > 1 << 28)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a size is %" PRId64, sizes[i]);
        s->size[i] = (uint64_t)sizes[i];
        s->sum += s->size[i];
    }
    if (cols != QN_DIM_UNKNOWN && (uint64_t)cols != s->sum * s->groups)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "rows of %" PRId64 " values are split into %" PRIu64, cols, s->sum * s->groups);
    return QN_OK;
}

qn_code qn_split_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    struct split s;
    const bool known = in[0].rank != QN_RANK_UNKNOWN && in[0].rank > 0;
    QN_TRY(parse(n, known ? in[0].dims[in[0].rank - 1] : QN_DIM_UNKNOWN, &s, err));
    for (unsigned i = 0; i < n->n_out; i++) {
        qn_lm_like(in, &out[i]);
        if (known)
            out[i].dims[in[0].rank - 1] = (int64_t)(s.size[i] * s.groups);
    }
    return QN_OK;
}

static void rows_split(const void *ctx, uint64_t first, uint64_t n)
{
    const struct split *s = ctx;
    for (uint64_t g = first * s->groups; g < (first + n) * s->groups; g++) {
        const float *x = s->x + g * s->sum;
        for (unsigned i = 0; i < s->n; i++) {
            memcpy(s->y[i] + g * s->size[i], x, s->size[i] * sizeof *x);
            x += s->size[i];
        }
    }
}

qn_code qn_split_forward(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    struct split s;
    int64_t dims[QN_ARRAY_RANK_MAX];
    QN_TRY(qn_lm_floats(&in[0], "x", err));
    const unsigned last = in[0].rank - 1u;
    QN_TRY(parse(n, in[0].dims[last], &s, err));
    s.x = in[0].data;
    memcpy(dims, in[0].dims, sizeof dims);
    qn_code rc = QN_OK;
    for (unsigned i = 0; i < s.n && rc == QN_OK; i++) {
        dims[last] = (int64_t)(s.size[i] * s.groups);
        rc = qn_exec_new(x, &out[i], QN_F32, dims, in[0].rank, err);
        s.y[i] = out[i].data;
    }
    if (rc == QN_OK)
        rc = qn_lm_each_row(x, in[0].n / (s.sum * s.groups), s.sum * s.groups, rows_split, &s, err);
    for (unsigned i = 0; i < s.n && rc != QN_OK; i++)
        qn_array_release(&out[i]);
    return rc;
}
