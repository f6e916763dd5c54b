/* coded.c: see coded.h. */
#include "tests/support/coded.h"
#include "base/err.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

qt_coded qt_coded_room(unsigned codec, qn_dtype t, uint32_t rows, uint32_t cols)
{
    qt_coded c = {.codec = codec, .cap = 4096 + (size_t)rows * cols * 8, .rows = rows, .cols = cols, .t = t};
    c.payload = malloc(c.cap);
    c.recon = malloc((size_t)rows * cols * sizeof *c.recon);
    cr_assert(c.payload && c.recon);
    return c;
}

void qt_coded_free(qt_coded *c)
{
    free(c->payload);
    free(c->recon);
}

qt_coded qt_coded_columns(unsigned codec, const qn_quant_settings *set, qn_dtype t, uint32_t rows, uint32_t cols, const float *w,
                          const double *weight, unsigned cpu)
{
    qt_coded c = qt_coded_room(codec, t, rows, cols);
    qn_ldl ldl = QN_LDL_EMPTY;
    const qn_quant_layer layer = {.name = "w", .rows = rows, .cols = cols, .dtype = t, .weight = weight, .sample = w, .n_sample = rows, .ldl = &ldl};
    const qn_quantizer *q;
    const void *plan;
    void *state;
    qn_arena arena;
    qn_err err = {0};
    qn_arena_init(&arena, NULL);
    cr_assert_eq(qn_ldl_make(&ldl, NULL, cols, NULL, NULL, 1, QN_ORDER_NATURAL, 0, &err), QN_OK);
    cr_assert_eq(qn_quantizer_open(qn_codec_tab[codec].name, set, cpu, &arena, &q, &err), QN_OK, "%s", err.text);
    cr_assert_eq(q->ops->begin(q, &layer, &arena, &plan, &err), QN_OK);
    const qn_quant_segment s = {.rows = rows, .w = w, .scratch = &arena};
    cr_assert_eq(q->ops->segment(q, &layer, plan, &s, &state, &err), QN_OK);
    float *col = malloc(rows * sizeof *col), *out = malloc(rows * sizeof *out);
    for (uint32_t j = cols; j-- > 0;) {
        for (uint32_t i = 0; i < rows; i++)
            col[i] = w[(size_t)i * cols + j];
        cr_assert_eq(q->ops->column(state, j, col, out, &err), QN_OK);
        for (uint32_t i = 0; i < rows; i++)
            c.recon[(size_t)i * cols + j] = out[i];
    }
    cr_assert_eq(q->ops->finish(state, c.payload, c.cap, &c.n_bytes, &err), QN_OK);
    free(col);
    free(out);
    qn_ldl_release(&ldl);
    qn_arena_release(&arena);
    return c;
}

float *qt_coded_weights(qt_rng *r, uint32_t rows, uint32_t cols, unsigned kind, double low)
{
    float *w = malloc((size_t)rows * cols * sizeof *w);
    for (uint32_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < cols; j++) {
            double v = 0.02 * qt_normal(r);
            if (kind == 1)
                v *= exp(0.7 * sin(0.1 * i)) * (j % 5 ? 1 : low) * (qt_below(r, 200) ? 1 : 8);
            if (kind == 2)
                v = j % 4 == 1 || i / 16 == 1 ? 0 : v;
            if (kind == 3)
                v = 0;
            w[(size_t)i * cols + j] = (float)v;
        }
    return w;
}

static qn_code decode_at(unsigned codec, unsigned cpu, unsigned depth, const qn_block *b, const uint8_t *p, size_t n, uint8_t *dst, qn_err *err)
{
    qn_kern k;
    qn_arena scratch;
    qn_err_clear(err);
    qn_kern_init(&k, cpu);
    qn_arena_init(&scratch, NULL);
    const qn_dec_ctx cx = {.kern = &k, .scratch = &scratch, .depth = depth};
    const qn_code rc = qn_codec_decode(&cx, codec, b, p, n, dst, err);
    qn_arena_release(&scratch);
    return rc;
}

qn_code qt_decode(unsigned codec, unsigned cpu, const qn_block *b, const uint8_t *p, size_t n, uint8_t *dst, qn_err *err)
{
    return decode_at(codec, cpu, 0, b, p, n, dst, err);
}

void qt_decode_nested(qn_cur *c, qn_dtype t, uint32_t n, uint8_t *dst)
{
    const unsigned codec = qn_cur_u8(c);
    const uint64_t n_bytes = qn_cur_varint(c);
    const qn_block b = {t, n, n};
    qn_err err;
    cr_assert_eq(decode_at(codec, 0, 1, &b, qn_cur_take(c, n_bytes), n_bytes, dst, &err), QN_OK, "%s", err.text);
}

void qt_coded_check(const qt_coded *c, void (*slow)(const qt_coded *c, float *dst))
{
    const qn_block b = {c->t, c->rows * c->cols, c->cols};
    const size_t unit = qn_unit_bytes(c->t), n = b.n * unit;
    uint8_t *want = malloc(n), *dst = malloc(n);
    float *second = malloc(b.n * sizeof *second);
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    slow(c, second);
    for (uint32_t i = 0; i < b.n; i++)
        qt_put(c->t, (double)second[i], want + i * unit);
    if (c->rounded)
        qn_feedback_round(c->t, second, b.n);
    for (uint32_t i = 0; i < b.n; i++)
        cr_assert(second[i] == c->recon[i], "weight %u: %g, by the second decoder %g", i, (double)c->recon[i], (double)second[i]);
    for (unsigned v = 0; v < n_cpu; v++) {
        qn_err err;
        qt_guarded p = qt_guard_tail(c->n_bytes);
        memcpy(p.p, c->payload, c->n_bytes);
        memset(dst, 0x55, n);
        cr_assert_eq(qt_decode(c->codec, cpu[v], &b, p.p, p.n, dst, &err), QN_OK, "%s", err.text);
        cr_assert(memcmp(dst, want, n) == 0, "variant %x", cpu[v]);
        cr_assert_eq(qt_decode(c->codec, cpu[v], &b, p.p, p.n - 1, dst, &err), QN_E_INPUT);
        qt_guard_free(&p);
    }
    free(want);
    free(dst);
    free(second);
}

void qt_coded_refused(unsigned codec, const uint8_t *p, size_t n, const qn_block *b, const char *what)
{
    uint8_t dst[4096];
    qn_err err;
    cr_assert_eq(qt_decode(codec, 0, b, p, n, dst, &err), QN_E_INPUT, "%s: taken", what);
    cr_assert(strstr(err.text, what), "'%s' does not say '%s'", err.text, what);
}
