/* lm_scan.c: see lm_scan.h. */
#include "analysis/exec/lm_scan.h"
#include "base/err.h"
#include <inttypes.h>

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
    QN_TRY(qn_lm_starts(starts, n_tokens, err));
    *n_seqs = starts->n - 1;
    return QN_OK;
}
