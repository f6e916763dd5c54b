/* quant_pvq.c: distortion and speed of pyramid vector quantization of normal numbers of variance 1. Markdown on stdout.
 *
 *     bench/quant_pvq [GROUPS]          for chosen (N, K, gain bits)
 *
 * R: bits of index and level for each weight. D: mean squared error, with one scale for all groups. gap: ½ log2(D 4^R),
 * bits above the rate-distortion bound. Speeds: one thread, Mweights/s to find points and indices, Gweights/s back to rows
 * of bf16 by the kernels of this processor. A second table is of whole payloads: a chunk of bf16, 1024 rows of 1024, through
 * quantizer and decoder; "mixed": columns whose errors cost differently, so that they are of many classes. The third is of shells,
 * 1024 rows of 512, with D relative to the variance of the weights and the gap as above. */
#include "base/alloc.h"
#include "base/cpu.h"
#include "base/half.h"
#include "bench/must.h"
#include "bench/pvq_points.h"
#include "bench/timing.h"
#include "compress/pvq_point.h"
#include "compress/ldl.h"
#include "compress/quantizer.h"
#include "runtime/kern.h"
#include "runtime/pvq_codec.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOVES = 4, WIDE = 4096 };

struct made {
    uint32_t n, k, groups;
    float *x;      /* (groups, n) */
    float *length; /* (groups)    */
    int16_t *y;    /* (groups, n) */
    uint64_t *index; /* from the end */
    uint8_t *pulses; /* (WIDE)       */
    qn_pvq_tab tab;
    qn_kern kern;
    int8_t *tile;  /* (n, WIDE) */
    uint32_t *norm2;
    float *scale;
    uint8_t *row;
};

static double uniform(uint64_t *s)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return ((double)(*s >> 11) + 0.5) * 0x1p-53;
}

static void find(void *ctx)
{
    struct made *m = ctx;
    const uint64_t last = qn_u128_sub(qn_pvq_tab_size(&m->tab, m->n, m->k), qn_u128_of(1)).lo;
    for (uint32_t g = 0; g < m->groups; g++) {
        int16_t *y = m->y + (size_t)g * m->n;
        m->length[g] = qn_pvq_nearest(m->x + (size_t)g * m->n, m->n, m->k, MOVES, y);
        m->index[g] = last - qn_pvq_index(&m->tab, y, m->n, m->k).lo;
    }
}

static void back(void *ctx)
{
    static const float shift[2] = {0, 0};
    struct made *m = ctx;
    for (uint32_t at = 0; at + WIDE <= m->groups; at += WIDE) {
        m->kern.pvq.points(&m->tab, m->n, m->index + at, m->pulses, WIDE, m->tile, WIDE);
        m->kern.pvq.norms(m->tile, WIDE, m->n, WIDE, m->norm2);
        for (uint32_t i = 0; i < m->n; i++)
            m->kern.pvq.row(QN_BF16, m->tile + (size_t)i * WIDE, shift, m->scale, NULL, WIDE, m->row);
    }
}

static void prepare(struct made *m, uint32_t n, uint32_t k, qn_arena *arena)
{
    m->n = n;
    m->k = k;
    memset(m->pulses, (int)k, WIDE);
    if (qn_pvq_tab_make(&m->tab, n, k, arena, NULL) != QN_OK)
        abort();
}

/* --- whole payloads --- */

enum { SIDE = 1024 };

struct whole {
    const qn_quantizer *q;
    qn_quant_layer layer;
    float *by_col;
    float recon[SIDE];
    uint8_t *payload, *dst;
    size_t n_bytes;
    qn_kern kern;
};

static void encode_whole(void *ctx)
{
    struct whole *w = ctx;
    const void *plan;
    void *state;
    qn_arena arena;
    qn_arena_init(&arena, NULL);
    const qn_quant_segment s = {.rows = SIDE, .w = w->layer.sample, .scratch = &arena};
    must(w->q->ops->begin(w->q, &w->layer, &arena, &plan, NULL));
    must(w->q->ops->segment(w->q, &w->layer, plan, &s, &state, NULL));
    for (uint32_t j = 0; j < SIDE; j++)
        must(w->q->ops->column(state, j, w->by_col + (size_t)j * SIDE, w->recon, NULL));
    must(w->q->ops->finish(state, w->payload, 4 * SIDE * SIDE, &w->n_bytes, NULL));
    qn_arena_release(&arena);
}

static void decode_whole(void *ctx)
{
    struct whole *w = ctx;
    const qn_block b = {QN_BF16, SIDE * SIDE, SIDE};
    qn_arena arena;
    qn_arena_init(&arena, NULL);
    const qn_dec_ctx cx = {.kern = &w->kern, .scratch = &arena};
    must(qn_codec_decode(&cx, QN_CODEC_PVQ, &b, w->payload, w->n_bytes, w->dst, NULL));
    qn_arena_release(&arena);
}

static void decode_shells(void *ctx)
{
    struct whole *w = ctx;
    const qn_block b = {QN_BF16, w->layer.rows * w->layer.cols, w->layer.cols};
    qn_arena arena;
    qn_arena_init(&arena, NULL);
    const qn_dec_ctx cx = {.kern = &w->kern, .scratch = &arena};
    must(qn_codec_decode(&cx, QN_CODEC_PVQ, &b, w->payload, w->n_bytes, w->dst, NULL));
    qn_arena_release(&arena);
}

static void whole(float *x)
{
    static double weight[SIDE];
    static struct whole w;
    const unsigned cpus[] = {0, QN_CPU_AVX2, qn_cpu_detect()};
    float *by_row = must_get((size_t)SIDE * SIDE * sizeof *by_row);
    w.payload = must_get(4 * SIDE * SIDE);
    w.dst = must_get(2 * SIDE * SIDE);
    for (uint32_t i = 0; i < SIDE; i++)
        for (uint32_t j = 0; j < SIDE; j++)
            by_row[(size_t)i * SIDE + j] = x[(size_t)j * SIDE + i];
    for (uint32_t j = 0; j < SIDE; j++)
        weight[j] = exp(2 * (double)x[j]);
    printf("\n| bits asked | classes | bits stored | encode Mw/s | decode Gw/s: C | AVX2 | best |\n|--:|---|--:|--:|--:|--:|--:|\n");
    for (unsigned i = 0; i < 8; i++) {
        const qn_quant_settings set = {.bits = 1 + i / 2};
        qn_arena arena;
        double t[3];
        qn_arena_init(&arena, NULL);
        w.by_col = x;
        w.layer = (qn_quant_layer){.name = "w", .rows = SIDE, .cols = SIDE, .dtype = QN_BF16, .weight = i % 2 ? weight : NULL,
                                   .sample = by_row, .n_sample = SIDE};
        must(qn_quantizer_open("pvq", &set, qn_cpu_detect(), &arena, &w.q, NULL));
        const double t_encode = bench_time(encode_whole, &w, 3);
        for (unsigned c = 0; c < 3; c++) {
            qn_kern_init(&w.kern, cpus[c] & qn_cpu_detect());
            t[c] = bench_time(decode_whole, &w, 5);
        }
        printf("| %u | %s | %.4f | %.1f | %.3f | %.3f | %.3f |\n", 1 + i / 2, i % 2 ? "mixed" : "one or two",
               (double)w.n_bytes * 8 / SIDE / SIDE, SIDE * SIDE / t_encode * 1e-6, SIDE * SIDE / t[0] * 1e-9,
               SIDE * SIDE / t[1] * 1e-9, SIDE * SIDE / t[2] * 1e-9);
        qn_arena_release(&arena);
    }
    free(by_row);
    free(w.payload);
    free(w.dst);
}

/* --- shells --- */

enum { SHELL_ROWS = 1024, SHELL_COLS = 512 };

/* Kinds: normal; Laplace; normal with a log-normal scale (0.4) for each 16 rows of a column. Variance 1 but for the last. */
static float draw(uint64_t *seed, unsigned kind, double scale)
{
    if (kind == 1) {
        const double u = uniform(seed) - 0.5;
        return (float)((u < 0 ? log(1 + 2 * u) : -log(1 - 2 * u)) * 0.70710678);
    }
    return (float)(scale * sqrt(-2 * log(uniform(seed))) * cos(6.283185307179586 * uniform(seed)));
}

static void shells(void)
{
    static const char *const name[] = {"normal", "Laplace", "normal, scales"};
    static struct whole w;
    float *by_row = must_get((size_t)SHELL_ROWS * SHELL_COLS * 4), *col = must_get(SHELL_ROWS * 4), *recon = must_get(SHELL_ROWS * 4);
    w.payload = must_get(4 * SHELL_ROWS * SHELL_COLS);
    w.dst = must_get(2 * SHELL_ROWS * SHELL_COLS);
    printf("\n| weights | bits asked | stored | D | gap | encode Mw/s | decode Gw/s: C | AVX2 | best |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n");
    for (unsigned kind = 0; kind < 3; kind++) {
        uint64_t seed = 5;
        double square = 0;
        for (uint32_t j = 0; j < SHELL_COLS; j++)
            for (uint32_t b = 0; b < SHELL_ROWS / 16; b++) {
                const double scale = kind == 2 ? exp(0.4 * (double)draw(&seed, 0, 1)) : 1;
                for (uint32_t i = 0; i < 16; i++) {
                    const float v = draw(&seed, kind, scale);
                    by_row[(size_t)(16 * b + i) * SHELL_COLS + j] = v;
                    square += (double)v * (double)v;
                }
            }
        for (unsigned r = 0; r < 6; r++) {
            static const double rate[] = {1, 1.6, 2, 2.2, 3, 4};
            const qn_quant_settings set = {.bits = rate[r], .shells = true};
            qn_arena arena;
            qn_ldl ldl = QN_LDL_EMPTY;
            const void *plan;
            void *state;
            const double t0 = bench_cpu_now();
            qn_arena_init(&arena, NULL);
            must(qn_ldl_make(&ldl, NULL, SHELL_COLS, NULL, NULL, 1, QN_ORDER_NATURAL, 0, NULL));
            w.layer = (qn_quant_layer){.name = "w", .rows = SHELL_ROWS, .cols = SHELL_COLS, .dtype = QN_F32, .sample = by_row,
                                       .n_sample = 64, .ldl = &ldl};
            const qn_quant_segment s = {.rows = SHELL_ROWS, .w = by_row, .scratch = &arena};
            double error = 0;
            must(qn_quantizer_open("pvq", &set, qn_cpu_detect(), &arena, &w.q, NULL));
            must(w.q->ops->begin(w.q, &w.layer, &arena, &plan, NULL));
            must(w.q->ops->segment(w.q, &w.layer, plan, &s, &state, NULL));
            for (uint32_t j = 0; j < SHELL_COLS; j++) {
                for (uint32_t i = 0; i < SHELL_ROWS; i++)
                    col[i] = by_row[(size_t)i * SHELL_COLS + j];
                must(w.q->ops->column(state, j, col, recon, NULL));
                for (uint32_t i = 0; i < SHELL_ROWS; i++)
                    error += ((double)col[i] - (double)recon[i]) * ((double)col[i] - (double)recon[i]);
            }
            must(w.q->ops->finish(state, w.payload, 4 * SHELL_ROWS * SHELL_COLS, &w.n_bytes, NULL));
            const double t_encode = bench_cpu_now() - t0, n_w = (double)SHELL_ROWS * SHELL_COLS;
            const double d = error / square, bits = (double)w.n_bytes * 8 / n_w;
            double t[3];
            for (unsigned c = 0; c < 3; c++) {
                const unsigned cpus[] = {0, QN_CPU_AVX2, qn_cpu_detect()};
                qn_kern_init(&w.kern, cpus[c] & qn_cpu_detect());
                t[c] = bench_time(decode_shells, &w, 3);
            }
            printf("| %s | %.1f | %.4f | %.5f | %.3f | %.1f | %.3f | %.3f | %.3f |\n", name[kind], rate[r], bits, d,
                   0.5 * log2(d) + bits, n_w / t_encode * 1e-6, n_w / t[0] * 1e-9,
                   n_w / t[1] * 1e-9, n_w / t[2] * 1e-9);
            qn_ldl_release(&ldl);
            qn_arena_release(&arena);
        }
    }
    free(by_row);
    free(col);
    free(recon);
    free(w.payload);
    free(w.dst);
}

int main(int argc, char **argv)
{
    static const unsigned some[][3] = {{16, 4, 0},  {16, 7, 1},  {16, 12, 1}, {16, 24, 3}, {16, 49, 4}, {16, 58, 4},
                                       {32, 8, 0},  {32, 14, 0}, {32, 22, 1}};
    struct made m = {.groups = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 8 * WIDE};
    uint64_t seed = 1;
    qn_arena arena;
    qn_arena_init(&arena, NULL);
    m.x = must_get((size_t)m.groups * 32 * sizeof *m.x);
    m.y = must_get((size_t)m.groups * 32 * sizeof *m.y);
    m.length = must_get(m.groups * sizeof *m.length);
    m.index = must_get(m.groups * sizeof *m.index);
    m.pulses = must_get(WIDE);
    m.tile = must_get(WIDE * 32);
    m.norm2 = must_get(WIDE * sizeof *m.norm2);
    m.scale = must_get(WIDE * sizeof *m.scale);
    m.row = must_get(WIDE * 2);
    for (uint32_t i = 0; i < WIDE; i++)
        m.scale[i] = 1;
    for (size_t i = 0; i < (size_t)m.groups * 32; i++)
        m.x[i] = (float)(sqrt(-2 * log(uniform(&seed))) * cos(6.283185307179586 * uniform(&seed)));
    qn_kern_init(&m.kern, qn_cpu_detect());
    printf("| N | K | gain bits | R | D | gap | encode Mw/s | decode Gw/s | decode, C |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n");
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
        prepare(&m, some[i][0], some[i][1], &arena);
        const double t_find = bench_time(find, &m, 3);
        const double d = quant_pvq_distortion(m.n, m.groups, m.x, m.length, some[i][2]), rate = (qn_pvq_bits(m.n, m.k) + some[i][2]) / (double)m.n;
        const double weights = (double)(m.groups / WIDE * WIDE) * m.n, t_back = bench_time(back, &m, 5);
        qn_kern_init(&m.kern, 0);
        const double t_c = bench_time(back, &m, 5);
        qn_kern_init(&m.kern, qn_cpu_detect());
        printf("| %u | %u | %u | %.3f | %.4f | %.3f | %.1f | %.3f | %.3f |\n", m.n, m.k, some[i][2], rate, d,
               0.5 * log2(d * exp2(2 * rate)), (double)m.groups * m.n / t_find * 1e-6, weights / t_back * 1e-9,
               weights / t_c * 1e-9);
        qn_arena_reset(&arena);
    }
    qn_arena_release(&arena);
    if ((size_t)m.groups * 32 >= (size_t)SIDE * SIDE)
        whole(m.x);
    shells();
    return 0;
}
