/* quant_run.c: one matrix through engine, quantizer and decoder, in the segments that compress would cut. */
#include "base/err.h"
#include "base/num.h"
#include "bench/quant.h"
#include "bench/timing.h"
#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLE_ROWS = 64 }; /* as compress/lossy_layer.c takes */

static void die(const char *what, const qn_err *e)
{
    char line[512];
    qn_err_line(e, line, sizeof line);
    (void)fprintf(stderr, "quant: %s: %s\n", what, line);
    exit(1);
}

void quant_ldl(const quant_variant *v, double bits, uint32_t cols, const double *moment, qn_ldl *ldl)
{
    qn_err e = {0};
    qn_arena a;
    qn_quant_settings set;
    const qn_quantizer *q;
    *ldl = QN_LDL_EMPTY;
    qn_arena_init(&a, NULL);
    if (quant_set(v, bits, &set) && qn_quantizer_open(v->codec, &set, 0, &a, &q, &e) == QN_OK) {
        double *h = moment ? malloc((size_t)cols * cols * sizeof *h) : NULL;
        if (h)
            memcpy(h, moment, (size_t)cols * cols * sizeof *h);
        const uint32_t group = q->group_cols && q->group_cols < cols ? q->group_cols : cols;
        if (qn_ldl_make(ldl, NULL, cols, h, NULL, group, q->order_free ? QN_ORDER_NATURAL : QN_ORDER_ACT, 0, &e) != QN_OK)
            die("factor", &e);
        free(h);
    }
    qn_arena_release(&a);
}

bool quant_encode(const quant_job *j, quant_coded *c)
{
    qn_err e = {0};
    qn_quant_settings set;
    const void *plan;
    qn_arena scratch;
    *c = (quant_coded){0};
    qn_arena_init(&c->arena, NULL);
    if (!quant_set(j->v, j->bits, &set) || qn_quantizer_open(j->v->codec, &set, j->cpu, &c->arena, &c->q, &e) != QN_OK) {
        quant_free(c);
        return false;
    }
    const uint32_t n_sample = j->rows < SAMPLE_ROWS ? j->rows : SAMPLE_ROWS;
    const uint64_t dims[2] = {j->rows, j->cols};
    c->cols = j->cols;
    c->segment_rows = qn_quantizer_segment_rows(c->q, QN_F32, dims);
    c->n_segments = (uint32_t)qn_ceil_div(j->rows, c->segment_rows);
    c->payload = calloc(c->n_segments, sizeof *c->payload);
    c->n_bytes = calloc(c->n_segments, sizeof *c->n_bytes);
    c->recon = malloc((size_t)j->rows * j->cols * sizeof *c->recon);
    float *sample = malloc((size_t)n_sample * j->cols * sizeof *sample);
    for (uint32_t i = 0; i < n_sample; i++)
        memcpy(sample + (size_t)i * j->cols, j->w + (size_t)((uint64_t)i * j->rows / n_sample) * j->cols, j->cols * sizeof *sample);
    const qn_quant_layer layer = {.name = "w", .rows = j->rows, .cols = j->cols, .dtype = QN_F32, .weight = j->ldl->weight,
                                  .sample = sample, .n_sample = n_sample, .ldl = j->ldl, .segment_rows = c->segment_rows};
    const double t0 = bench_cpu_now();
    qn_code rc = c->q->ops->begin(c->q, &layer, &c->arena, &plan, &e);
    const double begun = bench_cpu_now();
    const size_t cap = (size_t)c->segment_rows * j->cols * 4;
    uint8_t *room = malloc(cap);
    uint64_t total = 0;
    bool refused = rc == QN_E_USAGE;
    qn_arena_init(&scratch, NULL);
    double work = 0;
    for (uint32_t s = 0; rc == QN_OK && !refused && s < c->n_segments && (j->seconds <= 0 || work < j->seconds); s++) {
        const uint32_t row0 = s * c->segment_rows, rows = j->rows - row0 < c->segment_rows ? j->rows - row0 : c->segment_rows;
        const qn_feedback_job job = {.q = c->q, .layer = &layer, .plan = plan, .ldl = j->ldl, .row0 = row0, .rows = rows,
                                     .w = j->w + (size_t)row0 * j->cols, .compare = j->as_compress && !c->q->costly,
                                     .want_energy = j->as_compress};
        qn_feedback_loss loss;
        const double from = bench_cpu_now();
        rc = qn_feedback_segment(&job, c->recon + (size_t)row0 * j->cols, room, cap, &c->n_bytes[s], &loss, &scratch, &e);
        work += bench_cpu_now() - from;
        qn_arena_reset(&scratch);
        if (rc != QN_OK)
            break;
        refused = c->n_bytes[s] == 0;
        c->payload[s] = malloc(c->n_bytes[s] + 1);
        memcpy(c->payload[s], room, c->n_bytes[s]);
        total += c->n_bytes[s];
        c->rows_done += rows;
        c->n_done++;
    }
    if (rc != QN_OK && !refused)
        die(quant_label(j->v), &e);
    qn_arena_release(&scratch);
    free(room);
    free(sample);
    if (refused) {
        quant_free(c);
        return false;
    }
    c->bits = 8.0 * (double)total / ((double)c->rows_done * j->cols);
    c->encode = begun - t0 + work * j->rows / c->rows_done;
    return true;
}

void quant_decode(const quant_coded *c, const qn_kern *kern, float *dst)
{
    qn_err e = {0};
    qn_arena scratch;
    qn_arena_init(&scratch, NULL);
    const qn_dec_ctx cx = {.kern = kern, .scratch = &scratch};
    const uint32_t cols = c->cols;
    for (uint32_t s = 0, row = 0; s < c->n_done; s++) {
        const uint32_t rows = c->rows_done - row < c->segment_rows ? c->rows_done - row : c->segment_rows;
        const qn_block b = {QN_F32, rows * cols, cols};
        if (qn_codec_decode(&cx, c->q->codec, &b, c->payload[s], c->n_bytes[s], (uint8_t *)(dst + (size_t)row * cols), &e) != QN_OK)
            die("decoder", &e);
        qn_arena_reset(&scratch);
        row += rows;
    }
    qn_arena_release(&scratch);
}

void quant_check(const quant_coded *c, unsigned cpu)
{
    const size_t n = (size_t)c->rows_done * c->cols;
    float *back = malloc(n * sizeof *back);
    qn_kern kern;
    qn_kern_init(&kern, cpu);
    quant_decode(c, &kern, back);
    if (memcmp(back, c->recon, n * sizeof *back) != 0) {
        (void)fprintf(stderr, "quant: the decoder gives something else than the quantizer said\n");
        exit(1);
    }
    free(back);
}

void quant_free(quant_coded *c)
{
    for (uint32_t s = 0; c->payload && s < c->n_segments; s++)
        free(c->payload[s]);
    free(c->payload);
    free(c->n_bytes);
    free(c->recon);
    qn_arena_release(&c->arena);
    *c = (quant_coded){0};
}

double quant_mse(const float *w, const float *recon, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)w[i] - (double)recon[i]) * ((double)w[i] - (double)recon[i]);
    return sum / (double)n;
}

/* tr(A H Aᵀ) */
static double energy(const double *a, uint32_t rows, uint32_t cols, const double *h, double *room)
{
    double sum = 0;
    cblas_dsymm(CblasRowMajor, CblasRight, CblasUpper, (blasint)rows, (blasint)cols, 1, h, (blasint)cols, a, (blasint)cols, 0, room,
                (blasint)cols);
    for (size_t i = 0; i < (size_t)rows * cols; i++)
        sum += a[i] * room[i];
    return sum;
}

double quant_relative_loss(const float *w, const float *recon, uint32_t rows, uint32_t cols, const double *moment)
{
    const size_t n = (size_t)rows * cols;
    double *a = calloc(n, sizeof *a), *room = calloc(n, sizeof *room);
    for (size_t i = 0; i < n; i++)
        a[i] = (double)w[i];
    const double all = energy(a, rows, cols, moment, room);
    for (size_t i = 0; i < n; i++)
        a[i] = (double)w[i] - (double)recon[i];
    const double lost = energy(a, rows, cols, moment, room);
    free(a);
    free(room);
    return lost / all;
}
