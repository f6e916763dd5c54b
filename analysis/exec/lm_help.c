/* lm_help.c: see lm_help.h. */
#include "analysis/exec/lm_help.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>

void qn_lm_like(const qn_info *in, qn_info *out)
{
    *out = *in;
    out->value = NULL;
    out->dtype = QN_F32;
}

qn_code qn_lm_floats(const qn_array *a, const char *what, qn_err *err)
{
    char text[128];
    if (a->dtype == QN_F32 && a->rank > 0)
        return QN_OK;
    return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%s is %s: f32 is expected", what, qn_array_text(a, text));
}

qn_code qn_lm_matrix(const qn_array *a, const char *what, uint64_t cols, qn_err *err)
{
    char text[128];
    if (a->dtype == QN_F32 && a->rank == 2 && (uint64_t)a->dims[1] == cols)
        return QN_OK;
    return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%s is %s: f32 (tokens, %" PRIu64 ") is expected", what, qn_array_text(a, text), cols);
}

qn_code qn_lm_starts(const qn_array *starts, uint64_t n_tokens, qn_err *err)
{
    char text[128];
    if (starts->dtype != QN_I64 || starts->rank != 1 || starts->n < 1)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "starts is %s: i64 (sequences + 1) is expected", qn_array_text(starts, text));
    const int64_t *s = starts->data;
    bool good = s[0] == 0 && s[starts->n - 1] == (int64_t)n_tokens;
    for (uint64_t i = 0; i + 1 < starts->n && good; i++)
        good = s[i] <= s[i + 1];
    return good ? QN_OK : QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "starts must rise from 0 to the %" PRIu64 " tokens", n_tokens);
}

uint64_t qn_lm_sequence(const qn_array *starts, uint64_t i)
{
    const int64_t *s = starts->data;
    uint64_t low = 0, high = starts->n - 1;
    while (high - low > 1) {
        const uint64_t mid = low + (high - low) / 2;
        if ((uint64_t)s[mid] <= i)
            low = mid;
        else
            high = mid;
    }
    return low;
}

qn_code qn_lm_size(const qn_node *n, const char *name, uint64_t otherwise, uint64_t *v, qn_err *err)
{
    const int64_t i = qn_node_int(n, name, (int64_t)otherwise);
    if (i < 1 || i > 1 << 24)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%s is %" PRId64 ": 1 to %d is expected", name, i, 1 << 24);
    *v = (uint64_t)i;
    return QN_OK;
}

struct rows {
    void (*fn)(const void *ctx, uint64_t first, uint64_t n);
    const void *ctx;
    uint64_t n_rows, per;
};

static qn_code run_rows(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    const struct rows *r = ctx;
    (void)slot;
    (void)err;
    const uint64_t first = i * r->per;
    r->fn(r->ctx, first, qn_min_u64(r->per, r->n_rows - first));
    return QN_OK;
}

qn_code qn_lm_each_row(qn_exec *x, uint64_t n_rows, uint64_t work, void (*fn)(const void *ctx, uint64_t first, uint64_t n), const void *ctx,
                       qn_err *err)
{
    enum { RUN = 1 << 15 };
    work = qn_max_u64(1, work);
    struct rows r = {.fn = fn, .ctx = ctx, .n_rows = n_rows, .per = qn_max_u64(1, RUN / work)};
    return qn_exec_parts(x, qn_ceil_div(n_rows, r.per), n_rows * work, run_rows, &r, err);
}
