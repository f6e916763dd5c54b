/* rows_near.c: rows of a matrix that are so much alike that one of them can stand for all. Vocabularies have them: words that no text had
 * share what training did to all words, and differ by what they began with.
 *
 * Rows are sorted by their projection on a vector of signs: close rows lie close there, since |s·(a − b)| ≤ √cols |a − b|. Each is
 * compared with a few that came before it. */
#include "base/err.h"
#include "compress/rows.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TRIES = 8 };

struct item {
    double p; /* projection */
    uint32_t row;
};

static int by_projection(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->p != y->p)
        return x->p < y->p ? -1 : 1;
    return x->row < y->row ? -1 : 1;
}

static double project(const float *w, uint32_t cols)
{
    uint64_t s = 0x9e3779b97f4a7c15u;
    double sum = 0;
    for (uint32_t j = 0; j < cols; j++) {
        s = s * UINT64_C(6364136223846793005) + 1442695040888963407u;
        sum += s >> 63 ? (double)w[j] : -(double)w[j];
    }
    return sum;
}

static double square(const float *w, uint32_t cols)
{
    double sum = 0;
    for (uint32_t j = 0; j < cols; j++)
        sum += (double)w[j] * (double)w[j];
    return sum;
}

static bool alike(const float *a, const float *b, uint32_t cols, double most)
{
    double sum = 0;
    for (uint32_t j = 0; j < cols && sum <= most; j++) {
        const double d = (double)a[j] - (double)b[j];
        sum += d * d;
    }
    return sum <= most;
}

/* stands[row] = the row that stands for it, itself perhaps. */
static void choose(const struct item *items, uint32_t n, const float *w, uint32_t cols, double share, struct item *kept, uint32_t *stands)
{
    uint32_t n_kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t r = items[i].row;
        const float *row = w + (size_t)r * cols;
        const double most = share * square(row, cols), reach = sqrt(most * cols);
        stands[r] = r;
        for (uint32_t k = n_kept; k-- > 0 && n_kept - k <= TRIES && items[i].p - kept[k].p <= reach;)
            if (alike(row, w + (size_t)kept[k].row * cols, cols, most)) {
                stands[r] = kept[k].row;
                break;
            }
        if (stands[r] == r)
            kept[n_kept++] = items[i];
    }
}

qn_code qn_rows_near(qn_rows *m, const float *w, uint32_t n_rows, uint32_t cols, double share, qn_arena *scratch, qn_err *err)
{
    struct item *items = qn_arena_get(scratch, 2 * (uint64_t)n_rows * sizeof *items, 64, err);
    uint32_t *stands = items ? qn_arena_get(scratch, n_rows * sizeof *stands, 64, err) : NULL;
    uint32_t *number = stands ? qn_arena_get(scratch, n_rows * sizeof *number, 64, err) : NULL;
    *m = (qn_rows){.n_rows = n_rows};
    m->map = number ? qn_arena_get(scratch, n_rows * sizeof *m->map, 64, err) : NULL;
    m->first = m->map ? qn_arena_get(scratch, n_rows * sizeof *m->first, 64, err) : NULL;
    if (!m->first)
        return QN_E_MEMORY;
    for (uint32_t r = 0; r < n_rows; r++)
        items[r] = (struct item){project(w + (size_t)r * cols, cols), r};
    qsort(items, n_rows, sizeof *items, by_projection);
    choose(items, n_rows, w, cols, share, items + n_rows, stands);
    memset(number, 0xff, n_rows * sizeof *number);
    for (uint32_t r = 0; r < n_rows; r++) {
        uint32_t *of = &number[stands[r]];
        if (*of == UINT32_MAX) {
            *of = m->n_unique;
            m->first[m->n_unique++] = stands[r];
        }
        m->map[r] = *of;
    }
    return QN_OK;
}
