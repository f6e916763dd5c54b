/* quant_vq.c: distortion of books of centroids on normal numbers of variance 1, and speed of the vq codec. Markdown on stdout.
 *
 *     bench/quant_vq            distortions
 *     bench/quant_vq COLUMNS    speeds: chunks of 1024 rows through the engine, training of books and feedback included, and back;
 *                               one thread. "uneven": inputs differ in size, so that columns are of many classes
 *     bench/quant_vq table      runtime/vq_book_tab.c: the constant books, trained on a million vectors
 *     bench/quant_vq offers     mean squared errors for compress/vq_rate.c: v, bits, error
 *
 * R: bits of index for a weight. D: mean squared error on vectors that the book was not trained on, and on those that it was.
 * gap: ½ log2(D 4^R), bits above the rate-distortion bound. */
#include "base/alloc.h"
#include "base/cpu.h"
#include "bench/must.h"
#include "bench/timing.h"
#include "compress/feedback.h"
#include "compress/vq_kmeans.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double uniform(uint64_t *s)
{
    uint64_t z = *s += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return ((double)((z ^ z >> 31) >> 11) + 0.5) * 0x1p-53;
}

static float *normals(size_t n, uint64_t seed)
{
    float *x = must_get(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(sqrt(-2 * log(uniform(&seed))) * cos(6.283185307179586 * uniform(&seed)));
    return x;
}

/* Error of a weight for vectors of x; the book is grown on them first when rounds > 0. */
static double error_of(unsigned v, uint32_t k, const float *x, size_t n, float *book, unsigned rounds)
{
    const qn_vq_sample s = {.v = v, .n = n, .ld = n, .x = x};
    qn_ekern_vq kern;
    qn_arena arena;
    double error;
    qn_ekern_vq_init(&kern, qn_cpu_detect());
    qn_arena_init(&arena, NULL);
    if (rounds)
        must(qn_vq_grow(&kern, &s, book, k, rounds, &error, &arena, NULL));
    else
        must(qn_vq_lloyd(&kern, &s, book, k, 0, &error, &arena, NULL));
    qn_arena_release(&arena);
    return error / (double)n / v;
}

static void table(void)
{
    static const unsigned of[] = {2, 4, 8};
    enum { N = 1 << 20 };
    float *x = normals((size_t)N * 8, 1), *book = must_get(256 * 8 * sizeof *book);
    printf("/* vq_book_tab.c: the constant books of the vq codec: Lloyd's centroids for normal numbers of variance 1, in units of 1/4096. Made by\n"
           " * `bench/quant_vq table`; they are a part of the format. */\n#include \"runtime/vq.h\"\n");
    for (unsigned i = 0; i < 3; i++) {
        const unsigned v = of[i];
        printf("\n/* 2, 4, … 256 centroids of %u coordinates */\nstatic const int16_t book_%u[%u * 510] = {", v, v, v);
        for (unsigned bits = 1, at = 0; bits <= 8; bits++) {
            (void)error_of(v, 1u << bits, x, N, book, 200);
            for (unsigned a = 0; a < v << bits; a++, at++)
                printf("%s%d,", at % 16 ? " " : "\n    ", (int)lrint((double)book[a] * 4096));
        }
        printf("\n};\n");
    }
    printf("\nconst int16_t *qn_vq_constant(unsigned v, unsigned bits)\n{\n    const int16_t *tab = v == 2 ? book_2 : v == 4 ? book_4 : v == 8 ? book_8 : "
           "NULL;\n    return tab && bits >= 1 && bits <= QN_VQ_CONSTANT_BITS ? tab + v * ((1u << bits) - 2) : NULL;\n}\n");
    free(x);
    free(book);
}

static void offers(void)
{
    enum { N = 1 << 18 };
    static const unsigned of[] = {2, 4, 8};
    float *x = normals((size_t)N * 8, 1), *y = normals((size_t)N * 8, 2), *book = must_get(4096 * 8 * sizeof *book);
    for (unsigned i = 0; i < 3; i++)
        for (unsigned bits = 1; bits <= 12; bits++) {
            (void)error_of(of[i], 1u << bits, x, N, book, 20);
            printf("%u\t%u\t%.6f\n", of[i], bits, error_of(of[i], 1u << bits, y, N, book, 0));
            fflush(stdout);
        }
    free(x);
    free(y);
    free(book);
}

static void distortions(void)
{
    static const struct {
        unsigned v, bits;
        double want; /* of the literature, and of the specification's own runs */
    } some[] = {{2, 4, .1093}, {2, 6, .0298}, {2, 8, .0079}, {4, 4, .3462}, {4, 6, .1845}, {4, 8, .0971}, {8, 8, .3227}, {8, 12, .1710}};
    enum { N = 1 << 18 };
    float *x = normals((size_t)N * 8, 3), *y = normals((size_t)N * 8, 4), *book = must_get(4096 * 8 * sizeof *book);
    printf("| v | centroids | R | D, trained on | D, others | expected | gap |\n|--:|--:|--:|--:|--:|--:|--:|\n");
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
        const unsigned v = some[i].v;
        const uint32_t k = 1u << some[i].bits;
        const double r = (double)some[i].bits / v, train = error_of(v, k, x, N, book, 60),
                     d = error_of(v, k, y, N, book, 0);
        printf("| %u | %u | %.3f | %.4f | %.4f | %.4f | %.3f |\n", v, k, r, train, d, some[i].want, 0.5 * log2(d * exp2(2 * r)));
        fflush(stdout);
    }
    free(x);
    free(y);
    free(book);
}

/* --- whole payloads --- */

struct whole {
    const qn_quantizer *q;
    qn_quant_layer layer;
    qn_feedback_job job;
    float *recon;
    uint8_t *payload, *dst;
    size_t n_bytes, cap;
    qn_feedback_loss loss;
    qn_kern kern;
    uint32_t rows, cols;
    qn_dtype t;
};

static void encode_whole(void *ctx)
{
    struct whole *w = ctx;
    qn_arena arena;
    qn_arena_init(&arena, NULL);
    must(qn_feedback_segment(&w->job, w->recon, w->payload, w->cap, &w->n_bytes, &w->loss, &arena, NULL));
    qn_arena_release(&arena);
}

static void decode_whole(void *ctx)
{
    struct whole *w = ctx;
    const qn_block b = {w->t, w->rows * w->cols, w->cols};
    qn_arena arena;
    qn_arena_init(&arena, NULL);
    const qn_dec_ctx cx = {.kern = &w->kern, .scratch = &arena};
    must(qn_codec_decode(&cx, QN_CODEC_VQ, &b, w->payload, w->n_bytes, w->dst, NULL));
    qn_arena_release(&arena);
}

/* Second moments of inputs whose neighbours are alike; uneven: columns differ in size, by e^±2 or so. */
static double *moment(uint32_t n, bool uneven)
{
    double *h = must_get((size_t)n * n * sizeof *h), *size = must_get(n * sizeof *size);
    uint64_t seed = 5;
    for (uint32_t i = 0; i < n; i++)
        size[i] = uneven ? exp(2 * (uniform(&seed) - 0.5)) : 1;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++)
            h[(size_t)i * n + j] = size[i] * size[j] * pow(0.6, i > j ? i - j : j - i);
    free(size);
    return h;
}

static void speed(double bits, unsigned v, bool uneven, struct whole *w, double *h)
{
    const qn_quant_settings set = {.bits = bits, .vector = v};
    const unsigned cpus[] = {0, QN_CPU_AVX2, qn_cpu_detect()};
    const double many = (double)w->rows * w->cols;
    qn_arena arena;
    qn_ldl ldl;
    const void *plan;
    double t[3];
    double *mine = must_get((size_t)w->cols * w->cols * sizeof *mine);
    memcpy(mine, h, (size_t)w->cols * w->cols * sizeof *mine);
    qn_arena_init(&arena, NULL);
    must(qn_quantizer_open("vq", &set, qn_cpu_detect(), &arena, &w->q, NULL));
    must(qn_ldl_make(&ldl, NULL, w->cols, mine, NULL, 1, QN_ORDER_NATURAL, 0, NULL));
    w->layer.weight = ldl.weight;
    w->layer.ldl = &ldl;
    w->layer.dtype = w->t;
    must(w->q->ops->begin(w->q, &w->layer, &arena, &plan, NULL));
    w->job = (qn_feedback_job){.q = w->q, .layer = &w->layer, .plan = plan, .ldl = &ldl, .rows = w->rows, .w = w->layer.sample};
    const double t_encode = bench_time(encode_whole, w, 1);
    for (unsigned c = 0; c < 3; c++) {
        qn_kern_init(&w->kern, cpus[c] & qn_cpu_detect());
        t[c] = bench_time(decode_whole, w, 5);
    }
    printf("| %.3g | %s | %s | %u | %.4f | %.2f | %.3f | %.3f | %.3f |\n", bits, qn_dtype_name(w->t), uneven ? "uneven" : "even", w->payload[0],
           (double)w->n_bytes * 8 / many, many / t_encode * 1e-6, many / t[0] * 1e-9, many / t[1] * 1e-9, many / t[2] * 1e-9);
    fflush(stdout);
    qn_ldl_release(&ldl);
    qn_arena_release(&arena);
    free(mine);
}

/* Chunks of a layer of 4096 columns, through the engine and back. */
static void speeds(uint32_t cols)
{
    static const double bits[] = {1.02, 2.02, 3.02, 4.02};
    struct whole w = {.cols = cols, .t = QN_F32, .rows = 1024};
    w.cap = 8 * (size_t)w.rows * cols;
    w.recon = must_get((size_t)w.rows * cols * sizeof *w.recon);
    w.payload = must_get(w.cap);
    w.dst = must_get(4 * (size_t)w.rows * cols);
    float *x = normals((size_t)w.rows * cols, 9);
    double *h[] = {moment(cols, false), moment(cols, true)};
    w.layer = (qn_quant_layer){.name = "w", .rows = w.rows, .cols = cols, .sample = x, .n_sample = 64};
    printf("\n| bits asked | dtype | columns | v | bits stored | encode Mw/s | decode Gw/s: C | AVX2 | best |\n|--:|---|---|--:|--:|--:|--:|--:|--:|\n");
    for (unsigned i = 0; i < 8; i++)
        speed(bits[i / 2], 0, i % 2, &w, h[i % 2]);
    w.t = QN_BF16;
    speed(2.02, 4, false, &w, h[0]);
    speed(2.02, 4, true, &w, h[1]);
    free(x);
    free(h[0]);
    free(h[1]);
    free(w.recon);
    free(w.payload);
    free(w.dst);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "table") == 0)
        table();
    else if (argc > 1 && strcmp(argv[1], "offers") == 0)
        offers();
    else if (argc > 1)
        speeds((uint32_t)strtoul(argv[1], NULL, 10));
    else
        distortions();
    return 0;
}
