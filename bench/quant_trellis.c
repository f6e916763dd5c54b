/* quant_trellis.c: distortion and speed of the trellis codec on normal numbers of variance 1. Markdown on stdout.
 *
 *     bench/quant_trellis [WINDOW [COLUMNS]]
 *
 * First table: paths alone, one K for all, columns of 4096 rows. D: mean squared error with the best step; gap: ½ log2(D 4^K), bits above
 * the rate-distortion bound; spread: the column's root mean square over the code's for which D was least. Second table: whole
 * payloads of f32, 2048 rows of 1024, with K as columns of different weights take them ("mixed") or one or two; thread CPU time. */
#include "base/alloc.h"
#include "base/cpu.h"
#include "bench/must.h"
#include "bench/timing.h"
#include "compress/quantizer.h"
#include "compress/trellis_rate.h"
#include "compress/trellis_search.h"
#include "runtime/trellis.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 4096, WHOLE_ROWS = 2048, WHOLE_COLS = 1024 };
#define CODE_SPREAD 147.8

static double normal(uint64_t *s)
{
    double u[2];
    for (unsigned i = 0; i < 2; i++) {
        *s = *s * 6364136223846793005u + 1442695040888963407u;
        u[i] = ((double)(*s >> 11) + 0.5) * 0x1p-53;
    }
    return sqrt(-2 * log(u[0])) * cos(6.283185307179586 * u[1]);
}

/* Mean squared error of the path for x, with the step that suits it best. */
static double distortion(const qn_ekern_trellis *kern, const qn_trellis_walk *w, const float *x, double spread, float *scaled, uint8_t *bits,
                         void *room)
{
    double xx = 0, xv = 0, vv = 0;
    for (uint32_t i = 0; i < ROWS; i++)
        scaled[i] = (float)((double)x[i] * CODE_SPREAD / spread);
    uint32_t node = qn_trellis_search(kern, w, scaled, ROWS, bits, room);
    for (uint32_t i = 0; i < ROWS; i++) {
        const uint32_t window = node << w->k | bits[i];
        const double v = (double)w->value[window], t = (double)x[i];
        node = window & ((1u << (w->log2_windows - w->k)) - 1);
        xx += t * t;
        xv += t * v;
        vv += v * v;
    }
    return (xx - xv * xv / vv) / ROWS;
}

static void paths(unsigned log2_windows, uint32_t cols)
{
    float *value = must_get(sizeof *value << log2_windows), *x = must_get((size_t)cols * ROWS * sizeof *x), *scaled = must_get(ROWS * sizeof *scaled);
    uint8_t *bits = must_get(ROWS);
    void *room = must_get(qn_trellis_search_bytes(log2_windows));
    qn_ekern_trellis kern;
    uint64_t seed = 1;
    qn_ekern_trellis_init(&kern, qn_cpu_detect());
    for (size_t i = 0; i < (size_t)cols * ROWS; i++)
        x[i] = (float)normal(&seed);
    printf("| L | K | D | gap | spread | search Mw/s |\n|--:|--:|--:|--:|--:|--:|\n");
    for (unsigned k = 1; k <= QN_TRELLIS_K_MAX; k++) {
        const qn_trellis_walk w = {value, log2_windows, k};
        const double spread = qn_trellis_spread[k];
        double d = 0, best_spread = spread, least = HUGE_VAL;
        for (uint32_t i = 0; i < 1u << log2_windows; i++)
            value[i] = (float)qn_trellis_value(i, qn_trellis_multiplier[log2_windows - QN_TRELLIS_L_MIN][k - 1]);
        const double t = bench_cpu_now();
        for (uint32_t j = 0; j < cols; j++)
            d += distortion(&kern, &w, x + (size_t)j * ROWS, spread, scaled, bits, room) / cols;
        const double seconds = bench_cpu_now() - t;
        for (int i = -3; i <= 3; i++) {
            const double e = distortion(&kern, &w, x, spread + 0.02 * i, scaled, bits, room);
            best_spread = e < least ? spread + 0.02 * i : best_spread;
            least = e < least ? e : least;
        }
        printf("| %u | %u | %.5f | %.3f | %.2f | %.2f |\n", log2_windows, k, d, 0.5 * log2(d * exp2(2.0 * k)), best_spread,
               cols * (double)ROWS / seconds * 1e-6);
        (void)fflush(stdout);
    }
    free(value);
    free(x);
    free(scaled);
    free(bits);
    free(room);
}

/* --- whole payloads --- */

struct whole {
    const qn_quantizer *q;
    qn_quant_layer layer;
    float *by_col, recon[WHOLE_ROWS];
    uint8_t *payload, *dst;
    size_t n_bytes;
    qn_kern kern;
};

static void encode_whole(struct whole *w)
{
    const void *plan;
    void *state;
    qn_arena arena;
    qn_arena_init(&arena, NULL);
    const qn_quant_segment s = {.rows = WHOLE_ROWS, .w = w->layer.sample, .scratch = &arena};
    must(w->q->ops->begin(w->q, &w->layer, &arena, &plan, NULL));
    must(w->q->ops->segment(w->q, &w->layer, plan, &s, &state, NULL));
    for (uint32_t j = 0; j < WHOLE_COLS; j++)
        must(w->q->ops->column(state, j, w->by_col + (size_t)j * WHOLE_ROWS, w->recon, NULL));
    must(w->q->ops->finish(state, w->payload, 8 * WHOLE_ROWS * WHOLE_COLS, &w->n_bytes, NULL));
    qn_arena_release(&arena);
}

static void decode_whole(void *ctx)
{
    struct whole *w = ctx;
    const qn_block b = {QN_F32, WHOLE_ROWS * WHOLE_COLS, WHOLE_COLS};
    qn_arena arena;
    qn_arena_init(&arena, NULL);
    const qn_dec_ctx cx = {.kern = &w->kern, .scratch = &arena};
    must(qn_codec_decode(&cx, QN_CODEC_TRELLIS, &b, w->payload, w->n_bytes, w->dst, NULL));
    qn_arena_release(&arena);
}

static void whole(unsigned log2_windows)
{
    static double weight[WHOLE_COLS];
    static struct whole w;
    const unsigned cpus[] = {0, QN_CPU_AVX2, qn_cpu_detect()};
    const double n = (double)WHOLE_ROWS * WHOLE_COLS;
    float *by_row = must_get((size_t)WHOLE_ROWS * WHOLE_COLS * sizeof *by_row);
    uint64_t seed = 2;
    w.by_col = must_get((size_t)WHOLE_ROWS * WHOLE_COLS * sizeof *w.by_col);
    w.payload = must_get(8 * WHOLE_ROWS * WHOLE_COLS);
    w.dst = must_get(4 * WHOLE_ROWS * WHOLE_COLS);
    for (uint32_t j = 0; j < WHOLE_COLS; j++) {
        weight[j] = exp(2 * normal(&seed));
        for (uint32_t i = 0; i < WHOLE_ROWS; i++)
            by_row[(size_t)i * WHOLE_COLS + j] = w.by_col[(size_t)j * WHOLE_ROWS + i] = (float)normal(&seed);
    }
    printf("\n| bits asked | K of columns | bits stored | encode Mw/s | decode to f32, Gw/s: C | AVX2 | best |\n|--:|---|--:|--:|--:|--:|--:|\n");
    for (unsigned i = 0; i < 6; i++) {
        const qn_quant_settings set = {.bits = 2 + i / 2, .window = log2_windows};
        qn_arena arena;
        double t[3];
        qn_arena_init(&arena, NULL);
        w.layer = (qn_quant_layer){.name = "w", .rows = WHOLE_ROWS, .cols = WHOLE_COLS, .dtype = QN_F32, .weight = i % 2 ? weight : NULL,
                                   .sample = by_row, .n_sample = WHOLE_ROWS};
        must(qn_quantizer_open("trellis", &set, qn_cpu_detect(), &arena, &w.q, NULL));
        const double t0 = bench_cpu_now();
        encode_whole(&w);
        const double t_encode = bench_cpu_now() - t0;
        for (unsigned c = 0; c < 3; c++) {
            qn_kern_init(&w.kern, cpus[c] & qn_cpu_detect());
            t[c] = bench_time(decode_whole, &w, 5);
        }
        printf("| %u | %s | %.4f | %.2f | %.3f | %.3f | %.3f |\n", 2 + i / 2, i % 2 ? "mixed" : "one or two", (double)w.n_bytes * 8 / n,
               n / t_encode * 1e-6, n / t[0] * 1e-9, n / t[1] * 1e-9, n / t[2] * 1e-9);
        (void)fflush(stdout);
        qn_arena_release(&arena);
    }
    free(by_row);
    free(w.by_col);
    free(w.payload);
    free(w.dst);
}

int main(int argc, char **argv)
{
    const unsigned log2_windows = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 12;
    const uint32_t cols = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 16;
    if (log2_windows < QN_TRELLIS_L_MIN || log2_windows > QN_TRELLIS_L_MAX || cols == 0)
        return 2;
    paths(log2_windows, cols);
    if (log2_windows <= 12)
        whole(log2_windows);
    return 0;
}
