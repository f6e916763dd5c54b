/* vq_kmeans.c: see vq_kmeans.h. */
#include "compress/vq_kmeans.h"
#include "base/err.h"
#include "base/half.h"
#include <math.h>
#include <string.h>

enum { GROW_ROUNDS = 4,   /* at each size but the last                            */
       GROW_VECTORS = 96, /* vectors for a centroid are enough while a book grows */
       MOST_NEW = 32      /* centroids put elsewhere in a round                   */ };

/* How far the halves of a cell move apart, in its coordinates' spread. */
#define SPLIT 0.2

struct work {
    const qn_ekern_vq *kern;
    const qn_vq_sample *s;
    float *half;      /* (k)    */
    uint16_t *at;     /* (n)    */
    double *sum;      /* (k, v) */
    double *mass;     /* (k)    */
    double *cell;     /* (k): Σ weight |x − c|² */
};

static qn_code make_work(struct work *w, const qn_ekern_vq *kern, const qn_vq_sample *s, uint32_t k, qn_arena *scratch, qn_err *err)
{
    *w = (struct work){.kern = kern, .s = s};
    w->half = qn_arena_get(scratch, k * sizeof *w->half, 64, err);
    w->at = w->half ? qn_arena_get(scratch, s->n * sizeof *w->at, 64, err) : NULL;
    w->sum = w->at ? qn_arena_get(scratch, (uint64_t)k * s->v * sizeof *w->sum, 64, err) : NULL;
    w->mass = w->sum ? qn_arena_get(scratch, k * sizeof *w->mass, 64, err) : NULL;
    w->cell = w->mass ? qn_arena_get(scratch, k * sizeof *w->cell, 64, err) : NULL;
    return w->cell ? QN_OK : QN_E_MEMORY;
}

static float as_stored(double v)
{
    return qn_f16_to_f32(qn_f32_to_f16((float)(v > 60000 ? 60000 : v < -60000 ? -60000 : v)));
}

/* Cells of the first n vectors for the book as it is: w->sum, mass and cell. Returns the error. */
static double assign(struct work *w, const float *book, uint32_t k, size_t n)
{
    const unsigned v = w->s->v;
    double error = 0;
    qn_vq_book_halves(book, v, k, w->half);
    const qn_vq_book b = {.v = v, .k = k, .c = book, .half = w->half};
    w->kern->nearest(&b, w->s->x, w->s->ld, n, w->at);
    memset(w->sum, 0, (size_t)k * v * sizeof *w->sum);
    memset(w->mass, 0, k * sizeof *w->mass);
    memset(w->cell, 0, k * sizeof *w->cell);
    for (size_t i = 0; i < n; i++) {
        const double m = w->s->weight ? (double)w->s->weight[i] : 1;
        const float *c = book + (size_t)w->at[i] * v;
        double *sum = w->sum + (size_t)w->at[i] * v, d2 = 0;
        for (unsigned d = 0; d < v; d++) {
            const double x = (double)w->s->x[d * w->s->ld + i], e = x - (double)c[d];
            sum[d] += m * x;
            d2 += e * e;
        }
        w->mass[w->at[i]] += m;
        w->cell[w->at[i]] += m * d2;
    }
    for (uint32_t i = 0; i < k; i++)
        error += w->cell[i];
    return error;
}

/* Moves centroid c and centroid `to` apart from where c was, in a direction that the latter's number decides. */
static void halve(float *book, unsigned v, uint32_t c, uint32_t to, double far)
{
    uint64_t h = (to + 1) * UINT64_C(0x9e3779b97f4a7c15);
    h ^= h >> 29;
    for (unsigned d = 0; d < v; d++) {
        const double at = (double)book[(size_t)c * v + d], by = h >> d & 1 ? far : -far;
        book[(size_t)to * v + d] = as_stored(at + by);
        book[(size_t)c * v + d] = as_stored(at - by);
    }
}

/* What giving up cell i costs: its vectors go to the nearest other centroid. */
static double merging(const struct work *w, const float *book, uint32_t k, uint32_t i)
{
    const unsigned v = w->s->v;
    double least = HUGE_VAL;
    for (uint32_t a = 0; a < k; a++) {
        double d2 = 0;
        for (unsigned d = 0; d < v; d++) {
            const double e = (double)book[(size_t)i * v + d] - (double)book[(size_t)a * v + d];
            d2 += e * e;
        }
        least = a != i && d2 < least ? d2 : least;
    }
    return w->mass[i] > 0 ? w->mass[i] * least : 0;
}

/* Cells that err least are given up where it costs less than halving the cell that errs most will save (Patanè and Russo, The enhanced
 * LBG algorithm, Neural Networks 2001). A cell of v coordinates that is even saves ¾/v of its error along one of them. Returns how
 * many were moved. */
static unsigned relocate(struct work *w, float *book, uint32_t k)
{
    const unsigned v = w->s->v;
    unsigned moved = 0;
    while (moved < MOST_NEW) {
        uint32_t worst = 0, best = 0;
        for (uint32_t a = 1; a < k; a++) {
            worst = w->cell[a] > w->cell[worst] ? a : worst;
            best = w->cell[a] < w->cell[best] ? a : best;
        }
        if (!(w->mass[worst] > 0) || best == worst || merging(w, book, k, best) > 0.6 / v * w->cell[worst])
            break;
        halve(book, v, worst, best, SPLIT * sqrt(w->cell[worst] / w->mass[worst] / v));
        w->cell[best] = w->cell[worst] = w->cell[worst] / 2;
        w->mass[best] = w->mass[worst] = w->mass[worst] / 2;
        moved++;
    }
    return moved;
}

static unsigned recentre(struct work *w, float *book, uint32_t k, bool last)
{
    const unsigned v = w->s->v;
    for (uint32_t i = 0; i < k; i++)
        for (unsigned d = 0; d < v && w->mass[i] > 0; d++)
            book[(size_t)i * v + d] = as_stored(w->sum[(size_t)i * v + d] / w->mass[i]);
    return last ? 0 : relocate(w, book, k);
}

static double improve(struct work *w, float *book, uint32_t k, size_t n, unsigned rounds)
{
    double error = assign(w, book, k, n);
    for (unsigned r = 0; r < rounds; r++) {
        const double before = error;
        const unsigned moved = recentre(w, book, k, 3 * r >= 2 * rounds); /* the last third only settles */
        error = assign(w, book, k, n);
        if (r && !moved && error > before * 0.9995)
            break;
    }
    return error;
}

qn_code qn_vq_lloyd(const qn_ekern_vq *kern, const qn_vq_sample *s, float *book, uint32_t k, unsigned rounds, double *error,
                    qn_arena *scratch, qn_err *err)
{
    const qn_arena_mark mark = qn_arena_tell(scratch);
    struct work w;
    QN_TRY(make_work(&w, kern, s, k, scratch, err));
    const double e = improve(&w, book, k, s->n, rounds);
    if (error)
        *error = e;
    qn_arena_rewind(scratch, mark);
    return QN_OK;
}

qn_code qn_vq_grow(const qn_ekern_vq *kern, const qn_vq_sample *s, float *book, uint32_t k, unsigned rounds, double *error,
                   qn_arena *scratch, qn_err *err)
{
    const qn_arena_mark mark = qn_arena_tell(scratch);
    struct work w;
    double e;
    QN_TRY(make_work(&w, kern, s, k, scratch, err));
    memset(book, 0, s->v * sizeof *book);
    e = improve(&w, book, 1, s->n, 1);
    for (uint32_t have = 1; have < k; have *= 2) {
        for (uint32_t i = 0; i < have; i++) {
            const double far = w.mass[i] > 0 ? SPLIT * sqrt(w.cell[i] / w.mass[i] / s->v) : 0;
            halve(book, s->v, i, have + i, far);
        }
        const size_t n = (size_t)GROW_VECTORS * 2 * have < s->n && 2 * have < k ? (size_t)GROW_VECTORS * 2 * have : s->n;
        e = improve(&w, book, 2 * have, n, 2 * have < k ? GROW_ROUNDS : rounds);
    }
    if (error)
        *error = e;
    qn_arena_rewind(scratch, mark);
    return QN_OK;
}
