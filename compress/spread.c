/* spread.c: see spread.h. */
#include "compress/spread.h"
#include "base/err.h"
#include <math.h>
#include <string.h>

/* ½ log2(s t² / n) of a row; false when it is not known, or its bits are its own. */
static bool wish(const qn_lossy_row *r, const qn_stats_file *stats, double *v)
{
    double s = 0;
    if (r->kept || r->explicit_bits || r->n_done == 0 || !(r->sum.energy > 0) || !(r->sum.loss > 0))
        return false;
    const qn_stats_item *item = qn_stats_find(stats, r->name, QN_STATS_NO_EXPERT);
    if (!item || !qn_stats_sensitivity(stats, item, &s) || !(s > 0))
        return false;
    *v = 0.5 * log2(s * (r->sum.loss / r->sum.energy) / ((double)r->rows * r->cols));
    return isfinite(*v);
}

bool qn_spread_applies(const qn_recipe *r, const qn_stats_file *stats)
{
    return r->spread > 0 && stats && stats->n_costs > 0;
}

qn_code qn_spread_find(const qn_lossy *measured, const qn_source *src, const qn_stats_file *stats, double share, qn_arena *arena,
                       const double **more, qn_err *err)
{
    double *m = qn_arena_get(arena, (src->n_objects + 1) * sizeof *m, 8, err);
    double sum = 0, weights = 0;
    if (!m)
        return QN_E_MEMORY;
    memset(m, 0, (src->n_objects + 1) * sizeof *m);
    for (uint64_t i = 0; i < qn_lossy_count(measured); i++) {
        const qn_lossy_row r = qn_lossy_report(measured, i);
        double v;
        if (wish(&r, stats, &v)) {
            sum += v * r.rows * r.cols;
            weights += (double)r.rows * r.cols;
        }
    }
    for (uint64_t i = 0; i < qn_lossy_count(measured); i++) {
        const qn_lossy_row r = qn_lossy_report(measured, i);
        double v;
        if (weights > 0 && wish(&r, stats, &v))
            m[r.object] = fmax(-QN_SPREAD_MOST * r.set.bits, fmin(QN_SPREAD_MOST * r.set.bits, share * (v - sum / weights)));
    }
    *more = m;
    return QN_OK;
}
