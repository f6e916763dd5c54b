/* vq_rate.c: Lagrangian choice over a convex set (Shoham and Gersho, IEEE Trans. ASSP 1988): at a price of a bit each column takes
 * every step that is worth more than it costs; the price is bisected until the sum of bits is the wanted one. That is done for
 * each length of vectors and each size of the largest book, whose own bits are taken off beforehand. */
#include "compress/vq_rate.h"
#include <math.h>
#include <string.h>

enum { LADDER = QN_VQ_BITS + 9, ROUNDS = 6 };

/* Mean squared error on normal numbers by bits of index, books trained on others (bench/quant_vq offers). */
static const double error_2[QN_VQ_BITS + 1] = {1, .680679, .362279, .201022, .109137, .058202, .030041, .015468, .00798, .004057, .002079, .001071, .000552};
static const double error_4[QN_VQ_BITS + 1] = {1, .83957, .646431, .463937, .346208, .254521, .186718, .135952, .098586, .071151, .051355, .036992, .026738};
static const double error_8[QN_VQ_BITS + 1] = {1, .919713, .82318, .710367, .602509, .521267, .444595, .378833, .32371, .27741, .236813, .203, .172};

/* Between whole bits of the table's own vectors, along the logarithm. */
static double between(const double *tab, double bits)
{
    const double at = bits < QN_VQ_BITS ? bits : QN_VQ_BITS;
    const unsigned i = at < QN_VQ_BITS ? (unsigned)at : QN_VQ_BITS - 1;
    return tab[i] * pow(tab[i + 1] / tab[i], bits - i);
}

static double main_error(unsigned v, unsigned bits)
{
    if (v == 2)
        return error_2[bits];
    if (v == 4)
        return error_4[bits];
    if (v == 8)
        return error_8[bits];
    const double by_8 = between(error_8, 8.0 * bits / v);
    return v == 6 ? sqrt(by_8 * between(error_4, 4.0 * bits / v)) : by_8;
}

double qn_vq_error(unsigned v, qn_vq_bits bits)
{
    return main_error(v, bits.main) * main_error(v, bits.residual);
}

double qn_vq_book_bits(unsigned v, qn_vq_bits b, uint32_t stored)
{
    double n = 0;
    if (b.main && ((stored >> b.main & 1) || !qn_vq_constant(v, b.main)))
        n += 16.0 * v * exp2(b.main);
    if (b.residual)
        n += 16.0 * v * exp2(b.residual);
    return n;
}

/* The steps that a column may take, and what each saves for a bit. */
typedef struct ladder {
    unsigned v, n;
    qn_vq_bits step[LADDER];
    double bits[LADDER], error[LADDER], slope[LADDER]; /* slope[i]: from i − 1 to i, falling */
} ladder;

static void make_ladder(ladder *l, unsigned v, unsigned most)
{
    l->v = v;
    l->n = 0;
    for (unsigned i = 0; i <= most + 8u && l->n < LADDER; i++) {
        const qn_vq_bits b = {(uint8_t)(i < most ? i : most), (uint8_t)(i > most ? i - most : 0)};
        l->step[l->n] = b;
        l->bits[l->n] = i;
        l->error[l->n++] = qn_vq_error(v, b);
    }
    for (unsigned i = 1; i < l->n; i++) {
        l->slope[i] = l->error[i - 1] - l->error[i];
        if (i > 1 && l->slope[i] > l->slope[i - 1])
            l->slope[i] = l->slope[i - 1];
    }
}

static unsigned at_price(const ladder *l, double value, double price)
{
    unsigned i = 0;
    while (i + 1 < l->n && value * l->slope[i + 1] > price)
        i++;
    return i;
}

static double sum_at(const ladder *l, const qn_vq_ask *a, double price)
{
    double sum = 0;
    for (uint32_t j = 0; j < a->cols; j++)
        sum += l->bits[at_price(l, a->value[j], price)];
    return sum;
}

/* Σ bits of a strip ≤ budget; what is left over after the last whole step of equal columns goes to columns spread over the layer. */
static void allot(const ladder *l, const qn_vq_ask *a, double budget, uint8_t *choice)
{
    double most = 0, low = 0, have = 0;
    for (uint32_t j = 0; j < a->cols; j++)
        most = a->value[j] > most ? a->value[j] : most;
    double high = most * l->slope[1] * 1.0001 + 1e-300;
    for (unsigned i = 0; i < 64; i++) {
        /* prices differ by orders of magnitude */
        const double middle = i < 24 ? (low > 0 ? sqrt(low * high) : high / 16) : (low + high) / 2;
        if (sum_at(l, a, middle) > budget)
            low = middle;
        else
            high = middle;
    }
    for (uint32_t j = 0; j < a->cols; j++) {
        choice[j] = (uint8_t)at_price(l, a->value[j], high);
        have += l->bits[choice[j]];
    }
    unsigned log2_n = 0;
    while (a->cols > UINT64_C(1) << log2_n)
        log2_n++;
    for (uint64_t r = 0; r < UINT64_C(1) << log2_n; r++) {
        uint64_t j = 0;
        for (unsigned b = 0; b < log2_n; b++)
            j |= (r >> b & 1) << (log2_n - 1 - b);
        if (j >= a->cols)
            continue;
        const unsigned want = at_price(l, a->value[j], low);
        const double more = l->bits[want] - l->bits[choice[j]];
        if (want > choice[j] && have + more <= budget) {
            choice[j] = (uint8_t)want;
            have += more;
        }
    }
}

static double books_of(const ladder *l, const qn_vq_ask *a, const uint8_t *choice)
{
    bool used[LADDER] = {false};
    double bits = 0;
    for (uint32_t j = 0; j < a->cols; j++)
        used[choice[j]] = true;
    for (unsigned i = 0; i < l->n; i++)
        bits += used[i] ? qn_vq_book_bits(l->v, l->step[i], a->stored) : 0;
    return bits;
}

/* Σ value · error, HUGE_VAL when the books take it all. Which books there are depends on what they leave: an allowance for them is
 * raised until it is enough, then lowered while it is too much. */
static double try(const ladder *l, const qn_vq_ask *a, uint8_t *choice, uint8_t *spare)
{
    const double strips = ceil((double)a->rows / l->v), all = a->bits * a->rows * a->cols;
    double low = 0, high = all > 0 ? all : 0, allow = 0, least = HUGE_VAL;
    for (unsigned i = 0; i < ROUNDS && low <= high; i++) {
        double sum = 0;
        allot(l, a, all > allow ? (all - allow) / strips : 0, spare);
        const double books = books_of(l, a, spare);
        if (books > allow) {
            low = allow;
            allow = books > (low + high) / 2 ? (low + high) / 2 : books;
            continue;
        }
        for (uint32_t j = 0; j < a->cols; j++)
            sum += a->value[j] * l->error[spare[j]];
        if (sum < least) {
            least = sum;
            memcpy(choice, spare, a->cols);
        }
        if (allow - books < 0.005 * all)
            break;
        high = allow;
        allow = books > low ? books : (low + high) / 2;
    }
    return least;
}

unsigned qn_vq_choose(const qn_vq_ask *a, qn_vq_bits *choice)
{
    static const unsigned lengths[] = {2, 4, 8};
    uint8_t *steps = (uint8_t *)choice, *spare = steps + a->cols; /* each column's number of a step; a qn_vq_bits has room for two */
    double least = HUGE_VAL;
    unsigned v = a->v ? a->v : 4, most = QN_VQ_CONSTANT_BITS;
    ladder l;
    for (unsigned i = 0; i < 3; i++)
        for (unsigned m = QN_VQ_CONSTANT_BITS; m <= QN_VQ_BITS; m++) {
            const unsigned length = a->v ? a->v : lengths[i];
            make_ladder(&l, length, m);
            const double e = i && a->v ? HUGE_VAL : try(&l, a, steps, spare);
            if (e < least) {
                least = e;
                v = length;
                most = m;
            }
        }
    make_ladder(&l, v, most);
    if (!(try(&l, a, steps, spare) < HUGE_VAL))
        memset(steps, 0, a->cols);
    for (uint32_t j = a->cols; j-- > 0;)
        choice[j] = l.step[steps[j]];
    return v;
}

unsigned qn_vq_choose_even(uint32_t rows, uint32_t cols, double bits, unsigned v, qn_vq_bits *choice)
{
    static const uint8_t lengths[] = {2, 4, 6, 8, 12, 16}, mains[] = {4, 8, 10, 12}, residuals[] = {0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    const double all = bits * rows * cols;
    double least = HUGE_VAL, fewest = HUGE_VAL;
    unsigned best = 0, small = 0;
    qn_vq_bits of_small = {4, 0};
    for (unsigned i = 0; i < sizeof lengths; i++)
        for (unsigned m = 0; m < sizeof mains; m++)
            for (unsigned r = 0; r < sizeof residuals; r++) {
                const qn_vq_bits b = {mains[m], residuals[r]};
                const unsigned n = lengths[i];
                if ((v && v != n) || b.residual > b.main)
                    continue;
                const double words = ceil((double)cols * (b.main + b.residual) / 32), sum = 32 * words * ceil((double)rows / n) +
                                     16.0 * n * (exp2(b.main) + (b.residual ? exp2(b.residual) : 0)) + 32.0 * cols;
                const double e = qn_vq_error(n, b);
                if (sum < fewest) {
                    fewest = sum;
                    small = n;
                    of_small = b;
                }
                if (sum <= all && e < least) {
                    least = e;
                    best = n;
                    *choice = b;
                }
            }
    if (!best)
        *choice = of_small;
    return best ? best : small;
}
