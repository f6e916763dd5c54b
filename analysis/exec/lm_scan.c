#include "analysis/exec/lm_scan.h"
#include "base/err.h"
#include <inttypes.h>

void qn_scan_like(const qn_info *in, qn_info *out)
{
    *out = *in;
    out->value = NULL;
    out->dtype = QN_F32;
}

qn_code qn_scan_info(const qn_info *in, const char *what, int64_t n, qn_err *err)
{
    if (in->rank == QN_RANK_UNKNOWN || n == QN_DIM_UNKNOWN)
        return QN_OK;
    int64_t have = 1;
    for (unsigned i = 0; i < in->rank; i++) {
        if (in->dims[i] == QN_DIM_UNKNOWN)
            return QN_OK;
        if (__builtin_mul_overflow(have, in->dims[i], &have))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%s is too large", what);
    }
    if (have != n)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%s has %" PRId64 " values, %" PRId64 " are expected", what, have, n);
    return QN_OK;
}

int64_t qn_scan_last(const qn_info *in)
{
    return in->rank == QN_RANK_UNKNOWN || in->rank == 0 ? QN_DIM_UNKNOWN : in->dims[in->rank - 1];
}

qn_code qn_scan_fits(const qn_array *a, const char *what, uint64_t n, qn_err *err)
{
    char text[128];
    if (a->dtype != QN_F32 || a->n != n)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%s is %s; %" PRIu64 " values of f32 are expected", what, qn_array_text(a, text), n);
    return QN_OK;
}

qn_code qn_scan_rows(const qn_array *x, const char *what, uint64_t *n_tokens, uint64_t *n, qn_err *err)
{
    char text[128];
    if (x->dtype != QN_F32 || x->rank != 2 || x->dims[1] < 1)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%s is %s; rows of f32 are expected, one per token", what, qn_array_text(x, text));
    *n_tokens = (uint64_t)x->dims[0];
    *n = (uint64_t)x->dims[1];
    return QN_OK;
}

qn_code qn_scan_starts(const qn_array *starts, uint64_t n_tokens, uint64_t *n_seqs, qn_err *err)
{
    char text[128];
    if (starts->dtype != QN_I64 || starts->rank != 1 || starts->n < 1)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "starts is %s; i64 (sequences + 1) is expected", qn_array_text(starts, text));
    const int64_t *s = starts->data;
    const uint64_t n = starts->n - 1;
    if (s[0] != 0 || s[n] < 0 || (uint64_t)s[n] != n_tokens)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the sequences cover %" PRId64 " to %" PRId64 " of %" PRIu64 " tokens", s[0], s[n],
                       n_tokens);
    for (uint64_t i = 0; i < n; i++)
        if (s[i] > s[i + 1])
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "sequence %" PRIu64 " begins at %" PRId64 " and ends at %" PRId64, i, s[i],
                           s[i + 1]);
    *n_seqs = n;
    return QN_OK;
}
