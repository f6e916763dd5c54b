/* refit.c: one unit's weights after groups went: refitted on most rows, judged on the others, made of all. */
#include "compress/prune/refit.h"
#include "base/err.h"
#include <string.h>

/* Ridges that are tried beside the one that the number of rows suggests, relative to it: the rows held out decide. */
static const double ridges[] = {1, 0.1, 10, 100};
enum { N_RIDGES = sizeof ridges / sizeof ridges[0] };

struct refit {
    const qn_unit *u;
    qn_ridge r;
    double *h, *w, *t;      /* n² , m × n, m */
    uint32_t *cols;
};

static qn_code open_refit(struct refit *f, const qn_unit *u, const uint8_t *gone, qn_err *err)
{
    const qn_alloc *a = u->fit.alloc;
    f->cols = qn_mem_get(a, ((uint64_t)u->d + 1) * sizeof *f->cols, err);
    if (!f->cols)
        return QN_E_MEMORY;
    uint32_t n = 0;
    for (uint32_t j = 0; j < u->d; j++)
        if (!gone[j])
            f->cols[n++] = j;
    f->u = u;
    f->r = (qn_ridge){.b = NULL, .centred = qn_unit_centred(u), .cols = f->cols, .n_cols = n, .old = u->w[1]};
    f->h = qn_mem_get(a, ((uint64_t)n * n + 1) * sizeof *f->h, err);
    f->w = f->h ? qn_mem_get(a, ((uint64_t)n * u->m + 1) * sizeof *f->w, err) : NULL;
    f->t = f->w ? qn_mem_zeros(a, (uint64_t)u->m + 1, sizeof *f->t, err) : NULL;
    return f->t ? QN_OK : QN_E_MEMORY;
}

static void close_refit(struct refit *f, const qn_alloc *a)
{
    qn_mem_put(a, f->cols);
    qn_mem_put(a, f->h);
    qn_mem_put(a, f->w);
    qn_mem_put(a, f->t);
}

static qn_code solve(struct refit *f, const qn_moments *a, const qn_moments *b, qn_err *err)
{
    f->r.a = a;
    f->r.b = b;
    qn_ridge_matrix(&f->r, f->h);
    return qn_ridge_solve(&f->r, f->h, f->w, f->t, err);
}

static qn_code judge(struct refit *f, const qn_repair_options *o, qn_refitted *out, qn_err *err)
{
    const qn_unit *u = f->u;
    const qn_moments *held = u->hold.n ? &u->hold : &u->fit;
    const double energy = qn_moments_energy(held, NULL, f->r.centred);
    const double scale = energy > 0 ? 1 / energy : 0;
    const uint64_t n = f->r.n_cols;
    for (uint64_t r = 0; r < u->m; r++)
        for (uint64_t j = 0; j < n; j++)
            f->w[r * n + j] = (double)u->w[1][r * u->d + f->cols[j]];
    QN_TRY(qn_ridge_error(held, f->cols, f->r.n_cols, f->w, f->t, &out->before, err));
    out->before *= scale;
    out->after = out->before;
    const double delta = qn_unit_delta(o, u->fit.n + u->hold.n);
    double best = out->before, found = 0;
    for (unsigned k = 0; o->refit && k < (o->ridge > 0 || !u->hold.n ? 1 : N_RIDGES); k++) {
        double after = 0;
        f->r.lambda = qn_ridge_lambda(&u->fit, &u->hold, f->r.centred, k ? ridges[k] * delta : delta, NULL);
        if (!(f->r.lambda > 0))
            return QN_OK;
        QN_TRY(solve(f, &u->fit, NULL, err));
        QN_TRY(qn_ridge_error(held, f->cols, f->r.n_cols, f->w, f->t, &after, err));
        if (after * scale < best) {
            best = after * scale;
            found = f->r.lambda;
        }
    }
    if (!(found > 0))
        return QN_OK;
    out->after = best;
    out->better = true;
    f->r.lambda = found;
    return u->hold.n ? solve(f, &u->fit, &u->hold, err) : QN_OK;
}

/* The new weights into the overlay; the bias takes what the means lost. */
static qn_code put(const struct refit *f, qn_overlay *w, qn_err *err)
{
    const qn_unit *u = f->u;
    float *to, *bias = NULL;
    const uint64_t n = f->r.n_cols;
    QN_TRY(qn_overlay_edit(w, u->weight, &to, err));
    if (f->r.centred)
        QN_TRY(qn_overlay_edit(w, u->bias, &bias, err));
    for (uint64_t r = 0; r < u->m; r++) {
        for (uint64_t j = 0; j < n; j++)
            to[u->first + r * u->row_step + f->cols[j] * u->col_step] = (float)f->w[r * n + j];
        if (bias)
            bias[u->bias_first + r] += (float)(u->bias_gain * f->t[r]);
    }
    return QN_OK;
}

qn_code qn_refit_unit(const qn_unit *u, const qn_repair_options *o, const uint8_t *gone, qn_overlay *w, qn_refitted *out, qn_err *err)
{
    struct refit f = {0};
    *out = (qn_refitted){0};
    qn_code rc = open_refit(&f, u, gone, err);
    if (rc == QN_OK)
        rc = judge(&f, o, out, err);
    if (rc == QN_OK && out->better)
        rc = put(&f, w, err);
    if (rc == QN_E_INPUT) { /* no factor: the old weights stay */
        qn_err_clear(err);
        out->better = false;
        out->after = out->before;
        rc = QN_OK;
    }
    close_refit(&f, u->fit.alloc);
    return rc;
}
