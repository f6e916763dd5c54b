/* iq_tmpl.h: one super-block through the search; the same text for every step of processor. To be set: TARGET, ENCODE (the name).
 *
 * First a pass over the sub-blocks with feedback: each is tried with several scale codes, unit by unit, under what of M cannot be undone later. Then
 * descent: scale codes, units, sub-blocks with another scale or shift, each the best with all else as it is, and d by least squares.
 * Nothing here is reduced across lanes, so the numbers do not depend on how wide they are. */
#include "compress/blocks/iq_point_tmpl.h"
#include <math.h>

enum {
    PASSES = 2,         /* without feedback: the second one starts from the scale codes of the first      */
    WIDE = 2,           /* scale codes to either side of the guess that are tried; without feedback twice that, then one */
    SWEEPS = 5,         /* of descent at most                                                         */
    SWEEPS_RETRY = 3    /* of these, how many try sub-blocks with other scales                        */
};

static void take(work *w, uint32_t j, const choice *c)
{
    const qn_iq_kind *k = w->k;
    const unsigned shift = j % 8;
    memcpy(w->c + j, c->c, k->unit * sizeof *w->c);
    for (unsigned p = 0; p < k->unit / k->values; p++)
        w->f.index[j / k->values + p] = c->index[p];
    w->f.below[j / 8] = c->below;
    w->f.signs[j / 8] = (uint8_t)((w->f.signs[j / 8] & ~(((1u << k->unit) - 1) << shift)) | (unsigned)c->signs << shift);
}

static inline float scale_of(const work *w, unsigned s)
{
    return w->d * (w->k->scale0 + w->k->scale1 * (float)s);
}

TARGET static inline void axpy(float *y, const float *x, float a, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

/* ---- one pass with feedback ---- */

/* Sub-block at column j0 with scale code s; u: targets with everything before it fed in. What it adds to the loss, FAR once that is above `limit`. The
 * choices go to o, what they decode to, to r. */
TARGET static float try_sub(work *w, uint32_t j0, const float *u, unsigned s, int below, float limit, choice *o, float *r)
{
    const qn_iq_kind *k = w->k;
    const unsigned unit = k->unit;
    const float scale = scale_of(w, s), inverse = 1 / scale, square = scale * scale;
    static const float none[8] = {0};
    float v[32], loss = 0;
    memcpy(v, u, k->sub * sizeof *v);
    for (uint32_t j = 0; j < k->sub; j += unit, o++) {
        float x[8];
        for (unsigned i = 0; i < unit; i++)
            x[i] = v[j + i] * inverse;
        if (!w->p || w->plain) {
            float a[8];
            for (unsigned i = 0; i < unit; i++) {
                const float d = w->m->diag[j0 + j + i];
                a[i] = d > w->floor ? d : w->floor;
            }
            choose_alone(w, x, a, below, o);
        } else {
            choose(w, x, none, w->p->metric + (size_t)(j0 + j) * unit, unit, below, false, o);
        }
        loss += square * o->cost;
        if (loss > limit)
            return FAR;
        for (unsigned i = 0; i < unit; i++)
            r[j + i] = scale * o->c[i];
        if (w->p && !w->plain)
            for (unsigned i = 0; i < unit; i++)
                axpy(v + j + unit, w->p->feed + (size_t)(j0 + j + i) * QN_IQ_COLS + j0 + j + unit, w->t[j0 + j + i] - r[j + i], k->sub - j - unit);
    }
    return loss;
}

TARGET static unsigned guess(const work *w, uint32_t j0, const float *u)
{
    double sum = 0, weight = 0;
    for (uint32_t j = 0; j < w->k->sub; j++) {
        const double a = (double)(w->m->diag[j0 + j] > w->floor ? w->m->diag[j0 + j] : w->floor);
        sum += a * (double)u[j] * (double)u[j];
        weight += a;
    }
    const float s = ((float)sqrt(sum / weight) * w->k->typical / w->d - w->k->scale0) / w->k->scale1 + 0.5f;
    return s > (float)w->k->top ? w->k->top : s > 0 ? (unsigned)s : 0;
}

/* All columns, with w->d: c, r, and the fields. Scale codes are tried from a guess on, the way that least squares points to, as long as it gets better. */
TARGET static float pass(work *w)
{
    const qn_iq_kind *k = w->k;
    const unsigned units = k->sub / k->unit;
    float fed[QN_IQ_COLS] = {0}, total = 0;
    for (uint32_t b = 0; b < QN_IQ_COLS / k->sub; b++) {
        const uint32_t j0 = b * k->sub;
        float u[32], r[2][32], best = INFINITY;
        choice o[2][8];
        unsigned now = 0, at = QN_IQ_NONE;
        for (uint32_t j = 0; j < k->sub; j++)
            u[j] = w->t[j0 + j] + fed[j0 + j];
        const unsigned s0 = w->again ? w->f.scale[b] : guess(w, j0, u);
        for (unsigned side = 0; side < (k->shared_shift ? 2u : 1u); side++) {
            const int below = k->shared_shift ? (int)side : -1;
            const unsigned wide = w->plain ? 0 : w->wide, first = s0 > wide ? s0 - wide : 0, last = s0 + wide < k->top ? s0 + wide : k->top;
            for (unsigned s = first; s <= last; s++) {
                const float loss = try_sub(w, j0, u, s, below, best, o[now], r[now]);
                if (loss < best || at == QN_IQ_NONE) {
                    best = loss;
                    at = s;
                    now ^= 1;
                }
            }
        }
        w->f.scale[b] = (uint8_t)at;
        total += best;
        for (unsigned i = 0; i < units; i++)
            take(w, j0 + i * k->unit, &o[now ^ 1][i]);
        memcpy(w->r + j0, r[now ^ 1], k->sub * sizeof *r[0]);
        if (w->p && !w->plain)
            for (uint32_t j = j0; j < j0 + k->sub; j++)
                axpy(fed + j0 + k->sub, w->p->feed + (size_t)j * QN_IQ_COLS + j0 + k->sub, w->t[j] - w->r[j], QN_IQ_COLS - j0 - k->sub);
    }
    return total;
}

/* ---- improving what there is ---- */

/* y = M x */
TARGET static void times(const work *w, const float *x, float *y)
{
    if (!w->m->m) {
        for (uint32_t j = 0; j < QN_IQ_COLS; j++)
            y[j] = w->m->weight[j] * x[j];
        return;
    }
    memset(y, 0, QN_IQ_COLS * sizeof *y);
    for (uint32_t j = 0; j < QN_IQ_COLS; j += 4) { /* four rows at a time: fewer passes over y */
        const float *m = w->m->m + (size_t)j * QN_IQ_COLS;
        for (uint32_t i = 0; i < QN_IQ_COLS; i++)
            y[i] += (x[j] * m[i] + x[j + 1] * m[QN_IQ_COLS + i]) + (x[j + 2] * m[2 * QN_IQ_COLS + i] + x[j + 3] * m[3 * QN_IQ_COLS + i]);
    }
}

static double dot(const float *a, const float *b, uint32_t n)
{
    double s[4] = {0};
    for (uint32_t i = 0; i < n; i += 4)
        for (uint32_t k = 0; k < 4; k++)
            s[k] += (double)a[i + k] * (double)b[i + k];
    return (s[0] + s[1]) + (s[2] + s[3]);
}

static void set_d(work *w, float d)
{
    d = d > 0 ? d : 0;
    w->f.d = qn_f32_to_f16(d < 65504.0f ? d : 65504.0f);
    w->d = qn_f16_to_f32(w->f.d);
}

/* d by least squares; r and g follow. g need not be right before. */
TARGET static void fit_d(work *w)
{
    float y[QN_IQ_COLS];
    times(w, w->r, y);
    const double square = dot(w->r, y, QN_IQ_COLS), with = dot(w->r, w->mt, QN_IQ_COLS);
    float ratio = 1;
    if (square > 0 && with > 0) {
        const float before = w->d;
        set_d(w, before * (float)(with / square));
        if (w->d > 0)
            ratio = w->d / before;
        else
            set_d(w, before);
    }
    for (uint32_t j = 0; j < QN_IQ_COLS; j++) {
        w->r[j] = scale_of(w, w->f.scale[j / w->k->sub]) * w->c[j];
        w->g[j] = w->mt[j] - ratio * y[j];
    }
}

static double loss_of(const work *w)
{
    double sum = 0;
    for (uint32_t j = 0; j < QN_IQ_COLS; j++)
        sum += ((double)w->t[j] - (double)w->r[j]) * (double)w->g[j];
    return sum;
}

TARGET static void move(work *w, uint32_t j0, uint32_t n, const float *r)
{
    for (uint32_t j = 0; j < n; j++) {
        const float d = r[j] - w->r[j0 + j];
        w->r[j0 + j] = r[j];
        if (d == 0)
            continue;
        if (w->m->m)
            axpy(w->g, w->m->m + (size_t)(j0 + j) * QN_IQ_COLS, -d, QN_IQ_COLS);
        else
            w->g[j0 + j] -= w->m->weight[j0 + j] * d;
    }
}

/* Scale codes, each where the loss is least with all else as it is. */
TARGET static unsigned sweep_scales(work *w)
{
    const qn_iq_kind *k = w->k;
    unsigned moved = 0;
    for (uint32_t b = 0; b < QN_IQ_COLS / k->sub; b++) {
        const uint32_t j0 = b * k->sub;
        float y[32] = {0}, q = 0, p = 0, r[32];
        const float *m = w->m->m;
        for (uint32_t j = 0; j < k->sub; j++)
            if (m)
                axpy(y, m + (size_t)(j0 + j) * QN_IQ_COLS + j0, w->r[j0 + j], k->sub);
            else
                y[j] = w->m->weight[j0 + j] * w->r[j0 + j];
        for (uint32_t j = 0; j < k->sub; j++) {
            q += y[j] * w->r[j0 + j];
            p += w->g[j0 + j] * w->r[j0 + j];
        }
        if (!(q > 0))
            continue;
        const float now = k->scale0 + k->scale1 * (float)w->f.scale[b], want = now * (1 + p / q);
        const float at = (want - k->scale0) / k->scale1 + 0.5f;
        const unsigned s = at > (float)k->top ? k->top : at > 0 ? (unsigned)at : 0;
        const float move_by = (k->scale0 + k->scale1 * (float)s) / now - 1;
        if (s == w->f.scale[b] || move_by * (move_by * q - 2 * p) >= 0)
            continue;
        w->f.scale[b] = (uint8_t)s;
        for (uint32_t j = 0; j < k->sub; j++)
            r[j] = scale_of(w, s) * w->c[j0 + j];
        move(w, j0, k->sub, r);
        moved++;
    }
    return moved;
}

/* Units, each the best that is found with all else as it is. */
TARGET static unsigned sweep_units(work *w)
{
    const qn_iq_kind *k = w->k;
    const unsigned unit = k->unit;
    unsigned moved = 0;
    for (uint32_t j = 0; j < QN_IQ_COLS; j += unit) {
        const float scale = scale_of(w, w->f.scale[j / k->sub]), inverse = 1 / scale;
        float b[8], r[8];
        choice o;
        for (unsigned i = 0; i < unit; i++)
            b[i] = w->g[j + i] * inverse;
        choose(w, w->c + j, b, w->m->m + (size_t)j * QN_IQ_COLS + j, QN_IQ_COLS, k->shared_shift ? w->f.below[j / 8] : -1, true, &o);
        if (!(o.cost < 0))
            continue;
        take(w, j, &o);
        for (unsigned i = 0; i < unit; i++)
            r[i] = scale * o.c[i];
        move(w, j, unit, r);
        moved++;
    }
    return moved;
}

/* A sub-block with another scale code or shift: its points are kept, then each unit may go where that suits it better. Taken if the loss falls. */
TARGET static bool retry(work *w, uint32_t b, unsigned s, unsigned below)
{
    const qn_iq_kind *k = w->k;
    const uint32_t j0 = b * k->sub, unit = k->unit;
    const float *m = w->m->m + (size_t)j0 * QN_IQ_COLS + j0;
    const float scale = scale_of(w, s), inverse = 1 / scale;
    const float shift = !k->shared_shift ? 0 : ((float)w->f.below[j0 / 8] - (float)below) * 0.25f;
    float g[32], c[32], r[32], y[32] = {0}, change = 0;
    choice o[8];
    bool moved[8];
    for (uint32_t j = 0; j < k->sub; j++) {
        c[j] = w->c[j0 + j] + shift;
        r[j] = scale * c[j];
    }
    for (uint32_t j = 0; j < k->sub; j++)
        axpy(y, m + (size_t)j * QN_IQ_COLS, r[j] - w->r[j0 + j], k->sub);
    for (uint32_t j = 0; j < k->sub; j++) {
        g[j] = w->g[j0 + j] - y[j];
        change += (r[j] - w->r[j0 + j]) * (y[j] - 2 * w->g[j0 + j]);
    }
    for (uint32_t j = 0, u = 0; j < k->sub; j += unit, u++) {
        float at[8];
        for (unsigned i = 0; i < unit; i++)
            at[i] = g[j + i] * inverse;
        choose(w, c + j, at, m + (size_t)j * QN_IQ_COLS + j, QN_IQ_COLS, k->shared_shift ? (int)below : -1, true, &o[u]);
        moved[u] = o[u].cost < 0;
        if (!moved[u])
            continue;
        change += scale * scale * o[u].cost;
        for (unsigned i = 0; i < unit; i++) {
            axpy(g, m + (size_t)(j + i) * QN_IQ_COLS, r[j + i] - scale * o[u].c[i], k->sub);
            r[j + i] = scale * o[u].c[i];
        }
    }
    if (!(change < 0))
        return false;
    w->f.scale[b] = (uint8_t)s;
    memcpy(w->c + j0, c, k->sub * sizeof *c);
    if (k->shared_shift)
        memset(w->f.below + j0 / 8, (int)below, k->sub / 8);
    for (uint32_t j = 0, u = 0; j < k->sub; j += unit, u++)
        if (moved[u])
            take(w, j0 + j, &o[u]);
    move(w, j0, k->sub, r);
    return true;
}

TARGET static unsigned sweep_retries(work *w)
{
    const qn_iq_kind *k = w->k;
    unsigned moved = 0;
    for (uint32_t b = 0; b < QN_IQ_COLS / k->sub; b++) {
        if (k->shared_shift)
            moved += retry(w, b, w->f.scale[b], !w->f.below[b * k->sub / 8]);
        if (w->f.scale[b] < k->top && retry(w, b, w->f.scale[b] + 1u, w->f.below[b * k->sub / 8]))
            moved++;
        else if (w->f.scale[b] > 0)
            moved += retry(w, b, w->f.scale[b] - 1u, w->f.below[b * k->sub / 8]);
    }
    return moved;
}

typedef struct kept {
    double loss;
    qn_iq_fields f;
} kept;

TARGET static void keep_if_better(work *w, kept *best)
{
    const double loss = loss_of(w);
    if (loss < best->loss) {
        best->loss = loss;
        best->f = w->f;
    }
}

TARGET void ENCODE(const qn_iq_kind *k, const qn_span_metric *m, const float *t, uint8_t *block, float *r, void *scratch)
{
    work *w = scratch;
    memset(w, 0, sizeof *w);
    w->k = k;
    w->index = qn_iq_index_of(k);
    w->m = m;
    w->p = m->m ? m->prepared : NULL;
    w->t = t;
    double diag = 0;
    float most = 0;
    for (uint32_t j = 0; j < QN_IQ_COLS; j++)
        diag += (double)m->diag[j];
    w->floor = diag > 0 ? (float)(diag * 1e-5 / QN_IQ_COLS) : 1;
    times(w, t, w->mt);
    for (uint32_t j0 = 0; j0 < QN_IQ_COLS; j0 += k->sub) {
        double sum = 0, weight = 0;
        for (uint32_t j = j0; j < j0 + k->sub; j++) {
            const double a = (double)(m->diag[j] > w->floor ? m->diag[j] : w->floor);
            sum += a * (double)t[j] * (double)t[j];
            weight += a;
        }
        const float rms = (float)sqrt(sum / weight);
        most = rms > most ? rms : most;
    }
    kept best = {.loss = dot(t, w->mt, QN_IQ_COLS)}; /* of all zeros */
    set_d(w, most * k->typical / (k->scale0 + k->scale1 * (float)(k->top - k->room)));
    const unsigned passes = m->m ? 1 : PASSES;
    for (unsigned i = 0; i < passes && w->d > 0; i++) {
        w->again = i > 0;
        w->wide = m->m ? WIDE : i ? 1 : 2 * WIDE;
        pass(w);
        fit_d(w);
        keep_if_better(w, &best);
    }
    for (unsigned i = 0; i < SWEEPS && m->m && w->d > 0; i++) {
        sweep_scales(w);
        unsigned moved = sweep_units(w);
        if (i < SWEEPS_RETRY)
            moved += sweep_retries(w);
        fit_d(w);
        keep_if_better(w, &best);
        if (!moved)
            break;
    }
    /* Never worse than rounding every unit for itself. */
    if (w->d > 0 && m->m) {
        w->plain = w->again = true;
        pass(w);
        fit_d(w);
        keep_if_better(w, &best);
    }
    k->pack(&best.f, block);
    k->decode(block, r);
}
