/* speed.c: how fast the codecs that approximate are, on a made layer of normal weights with a made second moment, one thread; and beside
 * them the peer's quantizers in the same run, through a shared library that is only looked for when it is named. */
#include "base/cpu.h"
#include "bench/quant.h"
#include "bench/timing.h"
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CPUS = 3, LOSS_ROWS = 256 };
#define ENCODE_SECONDS 2.0 /* a whole segment at least */

struct bench_layer {
    uint32_t side;
    double *moment;
    float *w, *back;
};

static void open_layer(struct bench_layer *l, uint32_t side)
{
    const size_t n = (size_t)side * side;
    l->side = side;
    l->moment = malloc(n * sizeof *l->moment);
    l->w = malloc(n * sizeof *l->w);
    l->back = malloc(n * sizeof *l->back);
    quant_moment(l->moment, side);
    quant_fill(l->w, n, quant_normal);
}

static void close_layer(struct bench_layer *l)
{
    free(l->moment);
    free(l->w);
    free(l->back);
}

static bool encode(const struct bench_layer *l, const quant_variant *v, double bits, const qn_ldl *ldl, unsigned cpu, bool as_compress,
                   quant_coded *c)
{
    const quant_job j = {.v = v, .bits = bits, .cpu = cpu, .w = l->w, .rows = l->side, .cols = l->side, .ldl = ldl,
                         .as_compress = as_compress, .seconds = ENCODE_SECONDS};
    return quant_encode(&j, c);
}

struct pass {
    const quant_coded *c;
    qn_kern kern;
    float *dst;
};

static void decode_pass(void *ctx)
{
    const struct pass *p = ctx;
    quant_decode(p->c, &p->kern, p->dst);
}

static void copy_pass(void *ctx)
{
    const struct pass *p = ctx;
    memcpy(p->dst, p->c->recon, (size_t)p->c->rows_done * p->c->cols * sizeof *p->dst);
}

static void print_speed(double v, int digits)
{
    if (v > 0)
        (void)printf(" %.*f |", digits, v);
    else
        (void)printf(" – |");
}

static void speed_row(const struct bench_layer *l, const quant_variant *v, double bits, const quant_options *o)
{
    const unsigned want[CPUS] = {0, QN_CPU_AVX2, QN_CPU_AVX2 | QN_CPU_AVX512};
    const double n = (double)l->side * l->side;
    const unsigned have = o->cpu;
    double speed[CPUS] = {0}, ratio = 0, whole = 0;
    qn_ldl ldl;
    quant_coded c = {0};
    const double t0 = bench_cpu_now();
    quant_ldl(v, bits, l->side, o->alike ? NULL : l->moment, &ldl);
    const double factor = bench_cpu_now() - t0;
    for (unsigned i = 0; i < CPUS; i++) {
        if (!ldl.n || (want[i] & have) != want[i])
            continue;
        quant_free(&c);
        if (!encode(l, v, bits, &ldl, want[i], false, &c))
            break;
        whole = speed[i] = n / c.encode * 1e-6;
    }
    if (c.n_done == 0) {
        qn_ldl_release(&ldl);
        return;
    }
    quant_coded twice;
    if (!c.q->costly && encode(l, v, bits, &ldl, have, true, &twice)) {
        whole = n / twice.encode * 1e-6;
        quant_free(&twice);
    }
    (void)printf("| %s | %g | %.3f | %.2f |", quant_label(v), bits, c.bits, whole);
    for (unsigned i = 0; i < CPUS; i++)
        print_speed(speed[i], 2);
    (void)printf(" %.1f |", factor);
    for (unsigned i = 0; i < CPUS; i++) {
        struct pass p = {.c = &c, .dst = l->back};
        double t, t_copy;
        if (speed[i] <= 0) {
            print_speed(0, 0);
            continue;
        }
        qn_kern_init(&p.kern, want[i]);
        bench_pair(decode_pass, &p, copy_pass, &p, 5, &t, &t_copy);
        print_speed((double)c.rows_done * c.cols / t * 1e-9, 3);
        ratio = t_copy / t;
    }
    (void)printf(" %.3f |\n", ratio);
    (void)fflush(stdout);
    quant_free(&c);
    qn_ldl_release(&ldl);
}

void quant_speed_table(const quant_options *o)
{
    static const double rates[] = {2, 4};
    struct bench_layer l;
    quant_variant v;
    open_layer(&l, o->side);
    (void)printf("\n### Speed, %u × %u, f32, one thread%s\n\nEncoding, Mweights/s, preparing the layer and feedback included: as compress does it (most codecs also "
                 "round without feedback, to compare), and feedback alone. Factor: CPU seconds for Cholesky's factor, once for all layers with this input. "
                 "Decoding to f32, Gweights/s, and the last of them over memcpy's of the result.\n\n"
                 "| codec | asked | R | as compress | encode: C | AVX2 | AVX-512 | factor, s | decode: C | AVX2 | AVX-512 | ÷ memcpy |\n"
                 "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |\n", l.side, l.side,
                 o->alike ? ", all columns alike, no feedback" : "");
    for (unsigned at = 0; quant_next(&at, o->only, &v);)
        for (unsigned r = 0; r < sizeof rates / sizeof rates[0] && !v.in_between; r++)
            speed_row(&l, &v, rates[r], o);
    close_layer(&l);
}

/* --- the peer ------------------------------------------------------------------------------------------------------- */

static const struct peer_type {
    const char *name, *decoder;
    int id;
    unsigned block_bytes, block;
} types[] = {
    {"IQ1_S", "dequantize_row_iq1_s", 19, 50, 256},    {"IQ1_M", "dequantize_row_iq1_m", 29, 56, 256},
    {"IQ2_XXS", "dequantize_row_iq2_xxs", 16, 66, 256}, {"IQ2_XS", "dequantize_row_iq2_xs", 17, 74, 256},
    {"Q2_K", "dequantize_row_q2_K", 10, 84, 256},      {"IQ3_XXS", "dequantize_row_iq3_xxs", 18, 98, 256},
    {"Q3_K", "dequantize_row_q3_K", 11, 110, 256},     {"IQ4_XS", "dequantize_row_iq4_xs", 23, 136, 256},
    {"Q4_0", "dequantize_row_q4_0", 2, 18, 32},        {"Q4_K", "dequantize_row_q4_K", 12, 144, 256},
};

struct peer {
    void (*init)(int type);
    size_t (*quantize)(int type, const float *src, void *dst, int64_t start, int64_t rows, int64_t cols, const float *imatrix);
    void *so;
};

/* ISO C has no conversion from object to function pointers, POSIX does. */
static void take(void *so, const char *name, void *fn)
{
    void *p = dlsym(so, name);
    if (!p) {
        (void)fprintf(stderr, "quant: the library has no %s\n", name);
        exit(1);
    }
    memcpy(fn, &p, sizeof p);
}

void quant_peer_table(const quant_options *o)
{
    struct bench_layer l;
    struct peer p = {.so = dlopen(o->peer, RTLD_NOW | RTLD_LOCAL)};
    if (!p.so) {
        (void)fprintf(stderr, "quant: %s\n", dlerror());
        exit(1);
    }
    take(p.so, "ggml_quantize_init", &p.init);
    take(p.so, "ggml_quantize_chunk", &p.quantize);
    open_layer(&l, o->side);
    const uint32_t side = l.side, rows = LOSS_ROWS < side ? LOSS_ROWS : side;
    float *imatrix = malloc(side * sizeof *imatrix);
    uint8_t *blocks = malloc((size_t)side * side);
    for (uint32_t j = 0; j < side; j++)
        imatrix[j] = (float)l.moment[(size_t)j * side + j];
    (void)printf("\n### Beside the peer's quantizers, %u × %u, one thread each, the same matrix and second moment\n\nThe peer takes its diagonal (imatrix). Loss: "
                 "tr(E H Eᵀ) / tr(W H Wᵀ), of the first %u rows.\n\n"
                 "| bits | peer | Mw/s | loss | codec | R | Mw/s | loss | speed ÷ peer's | loss ÷ peer's |\n"
                 "| --: | --- | --: | --: | --- | --: | --: | --: | --: | --: |\n", side, side, rows);
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        const struct peer_type *y = &types[t];
        void (*decode)(const void *src, float *dst, int64_t n);
        const double bits = 8.0 * y->block_bytes / y->block;
        quant_variant v;
        take(p.so, y->decoder, &decode);
        p.init(y->id); /* tables of neighbours: not timed */
        const double t0 = bench_cpu_now();
        (void)p.quantize(y->id, l.w, blocks, 0, rows, side, imatrix);
        const double t_peer = bench_cpu_now() - t0, peer_speed = (double)rows * side / t_peer * 1e-6;
        decode(blocks, l.back, (int64_t)rows * side);
        const double loss_peer = quant_relative_loss(l.w, l.back, rows, side, l.moment);
        for (unsigned at = 0; quant_next(&at, o->only, &v);) {
            qn_ldl ldl;
            quant_coded c;
            if (v.in_between)
                continue;
            quant_ldl(&v, bits, side, l.moment, &ldl);
            bool ok = ldl.n && encode(&l, &v, bits, &ldl, o->cpu, false, &c);
            if (!ldl.n) { /* whole bits only */
                quant_ldl(&v, floor(bits), side, l.moment, &ldl);
                ok = ldl.n && encode(&l, &v, floor(bits), &ldl, o->cpu, false, &c);
            }
            if (ok) {
                const double speed = (double)side * side / c.encode * 1e-6;
                const double loss = quant_relative_loss(l.w, c.recon, c.rows_done < rows ? c.rows_done : rows, side, l.moment);
                (void)printf("| %.4g | %s | %.2f | %.5f | %s | %.3f | %.2f | %.5f | %.2f | %.3f |\n", bits, y->name, peer_speed, loss_peer,
                             quant_label(&v), c.bits, speed, loss, speed / peer_speed, loss / loss_peer);
                (void)fflush(stdout);
                quant_free(&c);
            }
            qn_ldl_release(&ldl);
        }
    }
    free(imatrix);
    free(blocks);
    close_layer(&l);
    (void)dlclose(p.so);
}
