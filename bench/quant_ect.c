/* quant_ect.c: the entropy-coded trellis codec on made sources: true bytes, distortion, distance to Shannon's bound, speed.
 *
 *   quant_ect                  the table
 *   quant_ect --layer          a layer with a made second moment: distance to reverse water-filling
 *   quant_ect --train          prints qn_ect_offset_tab of runtime/ect_tab.c
 *
 * Made sources: normal, Laplace, Student's t with 5 degrees of freedom, all of unit variance. D is the mean squared error
 * of what the decoder gives, R all bytes of the payload; the gap is ½ log2(D) + R bits, which for the normal source is the
 * distance to Shannon's bound (for the others it may be negative: the bound is lower). */
#include "base/cpu.h"
#include "base/err.h"
#include "bench/timing.h"
#include "compress/ect_search.h"
#include "compress/feedback.h"
#include <lapacke.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 4096, COLS = 256, N = ROWS * COLS };

static uint64_t seed = 88172645463325252u;

static double uniform(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return ((double)(seed >> 11) + 0.5) * 0x1p-53;
}

static double normal(void)
{
    return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}

static double laplace(void)
{
    const double e = -log(uniform()) * 0.7071067811865476;
    return uniform() < 0.5 ? -e : e;
}

static double student5(void)
{
    double q = 0;
    for (int i = 0; i < 5; i++) {
        const double g = normal();
        q += g * g;
    }
    return normal() / sqrt(q / 5) * sqrt(3.0 / 5);
}

/* Gamma(a), a ≤ 1 (Marsaglia and Tsang 2000, with their step for small a). */
static double gamma_of(double a)
{
    const double d = a + 1 - 1.0 / 3, c = 1 / sqrt(9 * d), boost = pow(uniform(), 1 / a);
    for (;;) {
        const double g = normal(), v = (1 + c * g) * (1 + c * g) * (1 + c * g);
        if (v > 0 && log(uniform()) < 0.5 * g * g + d - d * v + d * log(v))
            return d * v * boost;
    }
}

/* Density ∝ exp(−|x|^b / b). */
static double shaped(unsigned shape)
{
    const double b = 2 - 0.25 * shape, v = pow(b * gamma_of(1 / b), 1 / b);
    return uniform() < 0.5 ? -v : v;
}

static void die(const qn_err *e)
{
    char line[512];
    qn_err_line(e, line, sizeof line);
    (void)fprintf(stderr, "%s\n", line);
    exit(1);
}

typedef struct outcome {
    double bits, mse, loss, energy, encode, decode; /* bits and squared error a weight; tr(E H Eᵀ), tr(W H Wᵀ); seconds */
} outcome;

static unsigned cpu; /* from QUERN_CPU */

static outcome run(const float *w, uint32_t rows, uint32_t cols, const double *moment, double bits, uint32_t states)
{
    qn_err e = {0};
    qn_arena a, scratch;
    qn_arena_init(&a, NULL);
    qn_arena_init(&scratch, NULL);
    const qn_quant_settings set = {.bits = bits, .states = states};
    const qn_quantizer *q;
    const void *plan;
    qn_ldl ldl = QN_LDL_EMPTY;
    const uint64_t n = (uint64_t)rows * cols;
    double *h = moment ? malloc((size_t)cols * cols * sizeof *h) : NULL;
    if (h)
        memcpy(h, moment, (size_t)cols * cols * sizeof *h);
    float *sample = malloc(64 * (size_t)cols * sizeof *sample), *recon = malloc(n * 4), *back = malloc(n * 4);
    uint8_t *payload = malloc(n * 4);
    for (uint32_t i = 0; i < 64; i++)
        memcpy(sample + (size_t)i * cols, w + (size_t)i * (rows / 64) * cols, cols * sizeof *w);
    if (qn_quantizer_open("ect", &set, cpu, &a, &q, &e) != QN_OK ||
        qn_ldl_make(&ldl, NULL, cols, h, NULL, cols, QN_ORDER_NATURAL, 0, &e) != QN_OK)
        die(&e);
    const qn_quant_layer layer = {.name = "w", .rows = rows, .cols = cols, .dtype = QN_F32, .weight = ldl.weight,
                                  .sample = sample, .n_sample = 64, .ldl = &ldl, .segment_rows = rows};
    if (q->ops->begin(q, &layer, &a, &plan, &e) != QN_OK)
        die(&e);
    const qn_feedback_job job = {.q = q, .layer = &layer, .plan = plan, .ldl = &ldl, .rows = rows, .w = w};
    qn_feedback_loss loss;
    size_t n_out = 0;
    double t0 = bench_cpu_now();
    if (qn_feedback_segment(&job, recon, payload, n * 4, &n_out, &loss, &scratch, &e) != QN_OK)
        die(&e);
    outcome o = {.bits = 8.0 * (double)n_out / (double)n, .encode = bench_cpu_now() - t0};
    qn_kern kern;
    qn_kern_init(&kern, cpu);
    const qn_dec_ctx cx = {.kern = &kern, .scratch = &scratch};
    const qn_block b = {QN_F32, (uint32_t)n, cols};
    o.decode = 1e9;
    for (int i = 0; i < 3; i++) {
        qn_arena_reset(&scratch);
        t0 = bench_cpu_now();
        if (qn_codec_decode(&cx, QN_CODEC_ECT, &b, payload, n_out, (uint8_t *)back, &e) != QN_OK)
            die(&e);
        o.decode = fmin(o.decode, bench_cpu_now() - t0);
    }
    if (memcmp(back, recon, n * 4) != 0) {
        (void)fprintf(stderr, "the decoder gives something else than the quantizer said\n");
        exit(1);
    }
    for (uint64_t i = 0; i < n; i++)
        o.mse += ((double)w[i] - (double)back[i]) * ((double)w[i] - (double)back[i]) / (double)n;
    for (uint32_t i = 0; moment && i < rows; i++)
        for (uint32_t j = 0; j < cols; j++) {
            double eh = 0, wh = 0;
            const float *wi = w + (size_t)i * cols, *bi = back + (size_t)i * cols;
            for (uint32_t k = 0; k < cols; k++) {
                eh += ((double)wi[k] - (double)bi[k]) * moment[(size_t)j * cols + k];
                wh += (double)wi[k] * moment[(size_t)j * cols + k];
            }
            o.loss += eh * ((double)wi[j] - (double)bi[j]);
            o.energy += wh * (double)wi[j];
        }
    qn_ldl_release(&ldl);
    free(h);
    free(sample);
    free(recon);
    free(back);
    free(payload);
    qn_arena_release(&a);
    qn_arena_release(&scratch);
    return o;
}

static void table(void)
{
    static const struct {
        const char *name;
        double (*draw)(void);
    } source[] = {{"normal", normal}, {"laplace", laplace}, {"student5", student5}};
    static const uint32_t states[] = {1, 4, 8, 32, 256};
    static const double bits[] = {0.5, 1, 1.5, 2, 3, 4};
    float *w = malloc(N * sizeof *w);
    (void)printf("source    states   asked   R (all bytes)   D         gap     encode Mw/s  decode Mw/s\n");
    for (size_t s = 0; s < 3; s++) {
        for (size_t i = 0; i < N; i++)
            w[i] = (float)source[s].draw();
        for (size_t t = 0; t < sizeof states / sizeof *states; t++)
            for (size_t r = 0; r < sizeof bits / sizeof *bits; r++) {
                const outcome o = run(w, ROWS, COLS, NULL, bits[r], states[t]);
                (void)printf("%-9s %6u   %5.2f   %8.4f        %.5f   %+.4f   %6.1f       %6.1f\n", source[s].name, states[t],
                             bits[r], o.bits, o.mse, 0.5 * log2(o.mse) + o.bits, N / o.encode * 1e-6, N / o.decode * 1e-6);
                (void)fflush(stdout);
            }
    }
    free(w);
}

/* Sources of every shape and scale through the trellis with the tables as they are; means of what each level stood for. */
static void train(void)
{
    enum { ROUNDS = 4, ROWS_T = 40000 };
    static const unsigned log2_states[3] = {0, 3, 6};
    static double sum[QN_ECT_CLASSES][QN_ECT_OFFSETS], count[QN_ECT_CLASSES][QN_ECT_OFFSETS];
    static float x[ROWS_T], base[ROWS_T];
    static uint8_t class[ROWS_T];
    static int16_t level[ROWS_T];
    qn_ekern_ect k;
    qn_ect_book *b = malloc(sizeof *b);
    void *room = aligned_alloc(64, (qn_ect_search_bytes(6, ROWS_T) + 63) / 64 * 64);
    qn_ekern_ect_init(&k, qn_cpu_detect());
    (void)printf("const int8_t qn_ect_offset_tab[3][QN_ECT_SHAPES][QN_ECT_CLASSES][QN_ECT_OFFSETS] = {\n");
    for (unsigned kind = 0; kind < 3; kind++) {
        (void)printf("    {\n");
        for (unsigned shape = 0; shape < QN_ECT_SHAPES; shape++) {
            qn_ect_book_make(b, log2_states[kind], shape, 0);
            memset(sum, 0, sizeof sum);
            memset(count, 0, sizeof count);
            int off[QN_ECT_CLASSES][QN_ECT_OFFSETS] = {{0}};
            for (int i = 0; i < ROWS_T; i++)
                base[i] = (float)shaped(shape);
            for (int round = 0; round < ROUNDS; round++) {
                for (unsigned tab = 0; tab < QN_ECT_TABS; tab++)
                    for (unsigned u = 0; u < QN_ECT_SYMS; u++) {
                        const int l = 2 * ((int)u - QN_ECT_ZERO) + (int)(tab & 1), m = abs(l) / (kind ? 1 : 2);
                        const int o = m == 0 ? 0 : off[tab / 2][m > QN_ECT_OFFSETS ? QN_ECT_OFFSETS - 1 : m - 1];
                        b->point[tab][u] = (float)l + (float)(l < 0 ? -o : o) / 64;
                    }
                memset(sum, 0, sizeof sum);
                memset(count, 0, sizeof count);
                int start = 0;
                for (int g = 0; g < 60 * 4; g++) {
                    const double scale = 0.4 * exp2(g / 24.0 / 2);
                    for (int i = 0; i < ROWS_T; i++)
                        x[i] = (float)((double)base[i] * scale);
                    double least = 1e300;
                    int best = start;
                    for (int c = start > 1 ? start - 2 : 0; c <= start + 2 && c <= (int)b->top; c++) {
                        double cost = 0;
                        memset(class, c, sizeof class);
                        qn_ect_search(&k, b, x, class, ROWS_T / 4, level, room);
                        for (int i = 0; i < ROWS_T / 4; i++) {
                            const double e = (double)(x[i] - qn_ect_point_of(b, (unsigned)c, level[i]));
                            cost += e * e + (double)(b->lambda * qn_ect_bits_of(b, (unsigned)c, level[i]));
                        }
                        if (cost < least) {
                            least = cost;
                            best = c;
                        }
                    }
                    start = best;
                    memset(class, best, sizeof class);
                    qn_ect_search(&k, b, x, class, ROWS_T, level, room);
                    for (int i = 0; i < ROWS_T; i++) {
                        const int m = abs(level[i]) / (kind ? 1 : 2);
                        if (m == 0)
                            continue;
                        const int o = m > QN_ECT_OFFSETS ? QN_ECT_OFFSETS - 1 : m - 1;
                        sum[best][o] += (double)(level[i] < 0 ? -x[i] : x[i]) - abs(level[i]);
                        count[best][o] += 1;
                    }
                }
                for (unsigned c = 0; c < QN_ECT_CLASSES; c++)
                    for (unsigned o = 0; o < QN_ECT_OFFSETS; o++)
                        off[c][o] = count[c][o] > 100 ? (int)rint(64 * sum[c][o] / count[c][o]) : 0;
            }
            (void)printf("        {\n");
            for (unsigned c = 0; c < QN_ECT_CLASSES; c++)
                (void)printf("%s{%d, %d, %d},%s", c % 6 ? " " : "            ", off[c][0], off[c][1], off[c][2], c % 6 == 5 ? "\n" : "");
            (void)printf("        },\n");
            (void)fflush(stdout);
        }
        (void)printf("    },\n");
    }
    (void)printf("};\n");
    free(room);
    free(b);
}

/* H = S Q diag((i + 5)^-1.2) Qᵀ S with log-normal S (σ 0.7), its mean diagonal brought to 1, and 0.01 of that added. */
static void made_moment(double *h, uint32_t n)
{
    double *q = malloc((size_t)n * n * sizeof *q), *s = malloc(n * sizeof *s), trace = 0;
    for (uint32_t i = 0; i < n; i++) {
        s[i] = exp(0.7 * normal());
        double *row = q + (size_t)i * n;
        for (uint32_t j = 0; j < n; j++)
            row[j] = normal();
        for (uint32_t turn = 0; turn < 2; turn++) /* Gram and Schmidt, twice for the sake of rounding */
            for (uint32_t k = 0; k < i; k++) {
                double dot = 0;
                for (uint32_t j = 0; j < n; j++)
                    dot += row[j] * q[(size_t)k * n + j];
                for (uint32_t j = 0; j < n; j++)
                    row[j] -= dot * q[(size_t)k * n + j];
            }
        double norm = 0;
        for (uint32_t j = 0; j < n; j++)
            norm += row[j] * row[j];
        for (uint32_t j = 0; j < n; j++)
            row[j] /= sqrt(norm);
    }
    memset(h, 0, (size_t)n * n * sizeof *h);
    for (uint32_t k = 0; k < n; k++)
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t j = 0; j < n; j++)
                h[(size_t)i * n + j] += pow(k + 5, -1.2) * q[(size_t)k * n + i] * q[(size_t)k * n + j] * s[i] * s[j];
    for (uint32_t i = 0; i < n; i++)
        trace += h[(size_t)i * n + i] / n;
    for (size_t i = 0; i < (size_t)n * n; i++)
        h[i] = h[i] / trace + (i % (n + 1) == 0 ? 0.01 : 0);
    free(q);
    free(s);
}

/* Bits that a normal layer needs at least for this relative error: reverse water-filling on the eigenvalues of H. */
static double water_rate(const double *eigen, uint32_t n, double error)
{
    double sum = 0, lo = 0, hi = 0, rate = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += eigen[i];
        hi = fmax(hi, eigen[i]);
    }
    for (int turn = 0; turn < 200; turn++) {
        const double mid = (lo + hi) / 2;
        double d = 0;
        for (uint32_t i = 0; i < n; i++)
            d += fmin(mid, eigen[i]) / sum;
        if (d < error)
            lo = mid;
        else
            hi = mid;
    }
    for (uint32_t i = 0; i < n; i++)
        rate += fmax(0, 0.5 * log2(eigen[i] / lo)) / n;
    return rate;
}

static void layer(void)
{
    enum { IN = 512, OUT = 4096 };
    static const uint32_t states[] = {1, 8, 32, 256};
    static const double bits[] = {1, 1.5, 2, 3, 4};
    double *h = malloc(IN * IN * sizeof *h), *eigen = malloc(IN * sizeof *eigen), *copy = malloc(IN * IN * sizeof *copy);
    float *w = malloc(IN * OUT * sizeof *w);
    made_moment(h, IN);
    memcpy(copy, h, IN * IN * sizeof *h);
    if (LAPACKE_dsyevd(LAPACK_ROW_MAJOR, 'N', 'U', IN, copy, IN, eigen) != 0)
        exit(1);
    for (size_t i = 0; i < (size_t)IN * OUT; i++)
        w[i] = (float)normal();
    (void)printf("%d × %d, condition %.0f\nstates   asked   R (all bytes)   relative error   above the bound\n", OUT, IN,
                 eigen[IN - 1] / eigen[0]);
    for (size_t t = 0; t < sizeof states / sizeof *states; t++)
        for (size_t r = 0; r < sizeof bits / sizeof *bits; r++) {
            const outcome o = run(w, OUT, IN, h, bits[r], states[t]);
            (void)printf("%6u   %5.2f   %8.4f        %.6f         %+.4f\n", states[t], bits[r], o.bits, o.loss / o.energy,
                         o.bits - water_rate(eigen, IN, o.loss / o.energy));
            (void)fflush(stdout);
        }
    free(h);
    free(copy);
    free(eigen);
    free(w);
}

int main(int argc, char **argv)
{
    qn_err e = {0};
    if (qn_cpu_from_env(&cpu, &e) != QN_OK)
        die(&e);
    if (argc > 1 && strcmp(argv[1], "--train") == 0)
        train();
    else if (argc > 1 && strcmp(argv[1], "--layer") == 0)
        layer();
    else
        table();
    return 0;
}
