/* quant_grid.c: distortion and speed of the grid codec. Markdown on stdout.
 *
 *     bench/quant_grid [ROUNDS]
 *
 * First table: D, mean squared error over variance, of 1024 rows of 1024 numbers of three kinds (normal, Laplace, Student's t
 * with 5 degrees of freedom) in groups of 32; R: all bits of the payload by weight, with entropy-coded codes and with packed ones;
 * gap: ½ log2(D 4^R) of the normal numbers, bits above the rate-distortion bound. Second: Gweights/s of decoding to F32 and
 * BF16, one thread, for C, AVX2 and the best. Third: Mweights/s of encoding segments of 256 rows of 4096, one thread, with error
 * feedback from a second moment and without it. */
#include "base/alloc.h"
#include "base/cpu.h"
#include "bench/must.h"
#include "bench/timing.h"
#include "compress/feedback.h"
#include "runtime/kern.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 1024, N = SIDE * SIDE, WIDE = 4096, SEGMENT = 256 };

struct work {
    const qn_quantizer *q;
    qn_quant_layer layer;
    qn_ldl ldl;
    const float *w;
    float *recon;
    uint8_t *payload, *dst;
    size_t n_bytes;
    qn_block block;
    qn_kern kern;
    bool compare;
};

static double uniform(uint64_t *s)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return ((double)(*s >> 11) + 0.5) * 0x1p-53;
}

static double normal(uint64_t *s)
{
    const double r = sqrt(-2 * log(uniform(s)));
    return r * cos(6.283185307179586 * uniform(s));
}

static double student(uint64_t *s)
{
    double sum = 0;
    const double x = normal(s);
    for (unsigned i = 0; i < 5; i++) {
        const double z = normal(s);
        sum += z * z;
    }
    return x / sqrt(sum / 5);
}

static double laplace(uint64_t *s)
{
    const double u = uniform(s) - 0.5;
    return u < 0 ? log(1 + 2 * u) : -log(1 - 2 * u);
}

static void encode(void *ctx)
{
    struct work *k = ctx;
    qn_feedback_loss loss;
    qn_arena scratch;
    qn_arena_init(&scratch, NULL);
    const uint32_t rows = k->block.n / k->block.cols;
    const qn_feedback_job j = {.q = k->q, .layer = &k->layer, .ldl = &k->ldl, .rows = rows, .w = k->w, .compare = k->compare};
    must(qn_feedback_segment(&j, k->recon, k->payload, 8 * (size_t)k->block.n, &k->n_bytes, &loss, &scratch, NULL));
    qn_arena_release(&scratch);
}

static void decode(void *ctx)
{
    struct work *k = ctx;
    static qn_arena scratch;
    const qn_dec_ctx cx = {.kern = &k->kern, .scratch = &scratch};
    must(qn_codec_decode(&cx, QN_CODEC_GRID, &k->block, k->payload, k->n_bytes, k->dst, NULL));
    qn_arena_reset(&scratch);
}

static void open(struct work *k, unsigned bits, bool packed, uint32_t cols, uint32_t rows, qn_dtype t, double *h, qn_arena *arena)
{
    const qn_quant_settings set = {.bits = bits, .packed = packed};
    must(qn_quantizer_open("grid", &set, qn_cpu_detect(), arena, &k->q, NULL));
    must(qn_ldl_make(&k->ldl, NULL, cols, h, NULL, k->q->group_cols, h ? QN_ORDER_ACT : QN_ORDER_NATURAL, 0, NULL));
    k->layer = (qn_quant_layer){.name = "w", .rows = rows, .cols = cols, .dtype = t, .weight = k->ldl.weight};
    k->block = (qn_block){t, rows * cols, cols};
}

static double distortion(const struct work *k)
{
    double e2 = 0, w2 = 0;
    for (size_t i = 0; i < k->block.n; i++) {
        const double w = (double)k->w[i], e = w - (double)k->recon[i];
        e2 += e * e;
        w2 += w * w;
    }
    return e2 / w2;
}

static void quality(struct work *k, float *const x[3])
{
    static const char *const name[] = {"normal", "Laplace", "Student t5"};
    printf("| bits | numbers | D | R | R packed | gap | gap packed |\n|--:|---|--:|--:|--:|--:|--:|\n");
    for (unsigned bits = 2; bits <= 8; bits += bits < 4 ? 1 : 2)
        for (unsigned s = 0; s < 3; s++) {
            double rate[2], d = 0;
            for (unsigned packed = 0; packed < 2; packed++) {
                qn_arena arena;
                qn_arena_init(&arena, NULL);
                open(k, bits, packed, SIDE, SIDE, QN_F32, NULL, &arena);
                k->w = x[s];
                encode(k);
                rate[packed] = (double)k->n_bytes * 8 / N;
                d = distortion(k);
                qn_ldl_release(&k->ldl);
                qn_arena_release(&arena);
            }
            printf("| %u | %s | %.5f | %.3f | %.3f |", bits, name[s], d, rate[0], rate[1]);
            if (s == 0)
                printf(" %.3f | %.3f |\n", 0.5 * log2(d) + rate[0], 0.5 * log2(d) + rate[1]);
            else
                printf(" | |\n");
        }
}

static void decoding(struct work *k, float *const x[3], unsigned rounds)
{
    const unsigned cpus[] = {0, QN_CPU_AVX2, qn_cpu_detect()};
    printf("\n| bits | codes | R | F32 Gw/s: C | AVX2 | best | BF16: C | AVX2 | best |\n|--:|---|--:|--:|--:|--:|--:|--:|--:|\n");
    for (unsigned bits = 2; bits <= 8; bits += bits < 4 ? 1 : 2)
        for (unsigned packed = 2; packed-- > 0;) {
            for (unsigned t = 0; t < 2; t++) {
                qn_arena arena;
                qn_arena_init(&arena, NULL);
                open(k, bits, packed, SIDE, SIDE, t ? QN_BF16 : QN_F32, NULL, &arena);
                k->w = x[0];
                encode(k);
                if (t == 0)
                    printf("| %u | %s | %.3f |", bits, packed ? "packed" : "entropy coded", (double)k->n_bytes * 8 / N);
                for (unsigned c = 0; c < 3; c++) {
                    qn_kern_init(&k->kern, cpus[c] & qn_cpu_detect());
                    printf(" %.2f |", N / bench_time(decode, k, rounds) * 1e-9);
                }
                qn_ldl_release(&k->ldl);
                qn_arena_release(&arena);
            }
            printf("\n");
        }
}

/* A second moment with a spectrum like those of layers: neighbours agree, few columns are much larger. */
static double *moment(uint32_t n)
{
    double *h = must_get((size_t)n * n * sizeof *h);
    uint64_t seed = 5;
    double *s = must_get(n * sizeof *s);
    for (uint32_t i = 0; i < n; i++)
        s[i] = exp(0.7 * normal(&seed));
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++)
            h[(size_t)i * n + j] = s[i] * s[j] * (pow(0.9, fabs((double)i - (double)j)) + (i == j ? 0.1 : 0));
    free(s);
    return h;
}

static void encoding(struct work *k, unsigned rounds)
{
    float *w = must_get((size_t)SEGMENT * WIDE * sizeof *w);
    uint64_t seed = 9;
    for (size_t i = 0; i < (size_t)SEGMENT * WIDE; i++)
        w[i] = (float)normal(&seed);
    printf("\n| bits | feedback | codes | Mw/s |\n|--:|---|---|--:|\n");
    for (unsigned bits = 2; bits <= 4; bits++)
        for (unsigned way = 0; way < 4; way++) {
            qn_arena arena;
            qn_arena_init(&arena, NULL);
            double *h = way & 1 ? moment(WIDE) : NULL;
            open(k, bits, way < 2, WIDE, SEGMENT, QN_BF16, h, &arena);
            k->w = w;
            printf("| %u | %s | %s | %.2f |\n", bits, way & 1 ? "yes" : "no", way < 2 ? "packed" : "entropy coded",
                   SEGMENT * WIDE / bench_time(encode, k, rounds) * 1e-6);
            fflush(stdout);
            free(h);
            qn_ldl_release(&k->ldl);
            qn_arena_release(&arena);
        }
    free(w);
}

int main(int argc, char **argv)
{
    const unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 5;
    double (*const draw[3])(uint64_t *) = {normal, laplace, student};
    struct work k = {.recon = must_get(N * sizeof(float)), .payload = must_get(8 * (size_t)N), .dst = must_get(4 * (size_t)N)};
    float *x[3];
    uint64_t seed = 1;
    for (unsigned s = 0; s < 3; s++) {
        x[s] = must_get(N * sizeof(float));
        for (size_t i = 0; i < N; i++)
            x[s][i] = (float)draw[s](&seed);
    }
    quality(&k, x);
    decoding(&k, x, rounds);
    if (rounds > 1)
        encoding(&k, rounds);
    for (unsigned s = 0; s < 3; s++)
        free(x[s]);
    free(k.recon);
    free(k.payload);
    free(k.dst);
    return 0;
}
