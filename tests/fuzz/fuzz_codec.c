/* fuzz_codec.c: one decoder of the table (FUZZ_CODEC), under every CPU variant: the same code from each, and the same bytes.
 * A product with the payload says the same of it as its decoder.
 *   input: dtype │ u16 units − 1 │ u16 columns − 1 │ payload
 * Built once per codec; a codec that has no decoder yet does nothing. */
#include "base/cpu.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/encode.h"
#include "compress/feedback.h"
#include "compress/nest.h"
#include "runtime/product.h"
#include "tests/fuzz/fuzz.h"
#include <string.h>

enum { HEAD = 5, UNITS_MAX = 8192 };

static unsigned variants(unsigned out[3])
{
    const unsigned have = qn_cpu_detect();
    unsigned n = 0;
    out[n++] = 0;
    if (have & QN_CPU_AVX2)
        out[n++] = QN_CPU_AVX2;
    if (have & QN_CPU_AVX512)
        out[n++] = QN_CPU_AVX2 | QN_CPU_AVX512;
    return n;
}

static qn_code decode(unsigned cpu, const qn_block *b, const uint8_t *base, const uint8_t *p, size_t n, uint8_t *dst,
                      qn_err *err)
{
    qn_kern k;
    qn_arena scratch;
    qn_err_clear(err);
    qn_kern_init(&k, cpu);
    qn_arena_init(&scratch, NULL);
    const qn_dec_ctx cx = {.kern = &k, .scratch = &scratch, .base = base};
    const qn_code rc = qn_codec_decode(&cx, FUZZ_CODEC, b, p, n, dst, err);
    qn_arena_release(&scratch);
    return rc;
}

static qn_code product(unsigned cpu, const qn_block *b, const uint8_t *base, const uint8_t *p, size_t n)
{
    const uint32_t rows = (b->n - 1) / b->cols + 1;
    qn_kern k;
    qn_arena scratch;
    qn_err err;
    qn_err_clear(&err);
    qn_kern_init(&k, cpu);
    qn_arena_init(&scratch, NULL);
    const qn_dec_ctx cx = {.kern = &k, .scratch = &scratch, .base = base};
    float *x = malloc(b->cols * sizeof *x), *y = malloc(rows * sizeof *y);
    if (!x || !y)
        abort();
    for (uint32_t j = 0; j < b->cols; j++)
        x[j] = (float)(j % 7) - 3;
    const qn_code rc = qn_product_once(&cx, FUZZ_CODEC, b, p, n, x, y, &err);
    free(x);
    free(y);
    qn_arena_release(&scratch);
    return rc;
}

static void fill_base(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(i * 7 ^ i >> 5);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < HEAD || !qn_codec_tab[FUZZ_CODEC].decode)
        return 0;
    qn_block b = {.dtype = (qn_dtype)(p[0] % QN_DTYPE_COUNT), .n = qn_load16(p + 1) % UNITS_MAX + 1u};
    b.dtype = qn_dtype_name(b.dtype) ? b.dtype : QN_BYTES;
    b.cols = qn_load16(p + 3) % b.n + 1u;
    const size_t n_out = (size_t)b.n * qn_unit_bytes(b.dtype);
    unsigned cpu[3];
    const unsigned n_cpu = variants(cpu);
    uint8_t *first = malloc(n_out), *other = malloc(n_out), *base = malloc(n_out), *payload = malloc(n - HEAD + 1);
    qn_code want = QN_OK;
    if (!first || !other || !base || !payload)
        abort();
    memcpy(payload + 1, p + HEAD, n - HEAD); /* at an odd address, and exactly as long as it is */
    fill_base(base, n_out);
    for (unsigned i = 0; i < n_cpu; i++) {
        qn_err err;
        const qn_code rc = decode(cpu[i], &b, base, payload + 1, n - HEAD, i ? other : first, &err);
        QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED || rc == QN_E_USAGE);
        QF_CHECK(rc == QN_OK || (err.code == rc && err.text[0]));
        want = i ? want : rc;
        QF_CHECK(rc == want);
        QF_CHECK(i == 0 || rc != QN_OK || memcmp(first, other, n_out) == 0);
        QF_CHECK((b.dtype != QN_F32 && b.dtype != QN_BF16 && b.dtype != QN_F16) ||
                 product(cpu[i], &b, base, payload + 1, n - HEAD) == rc);
    }
    free(first);
    free(other);
    free(base);
    free(payload);
    return 0;
}

/* ---- seeds: what our encoders write for data of several kinds, and blind ones ---- */

#define ENCODER(name) extern __typeof__(qn_enc_##name) qn_enc_##name __attribute__((weak))
ENCODER(fill);
ENCODER(zstd);
ENCODER(shuffle);
ENCODER(fast);
ENCODER(dense);
ENCODER(order0);
ENCODER(narrow);
ENCODER(dequant);
ENCODER(palette);
ENCODER(rowdup);
ENCODER(delta);
ENCODER(max);
ENCODER(sparse);

/* Seeds of codecs that approximate: quantized without statistics, with settings that follow from the block. */
static qn_code enc_lossy(const char *codec, const qn_quant_settings *set, const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src,
                         uint8_t *dst, size_t cap, size_t *n_out, qn_err *err)
{
    const qn_quantizer *q;
    const void *plan;
    const uint32_t rows = b->n / b->cols;
    qn_feedback_loss loss;
    qn_ldl l;
    float w[768], recon[768];
    double wide[768];
    *n_out = 0;
    if ((b->dtype != QN_F32 && b->dtype != QN_F16 && b->dtype != QN_BF16) || b->n > 768)
        return QN_OK;
    QN_TRY(qn_widen(b->dtype, src, b->n, wide, err));
    for (uint32_t i = 0; i < b->n; i++)
        w[i] = (float)wide[i];
    const qn_quant_layer layer = {.name = "", .rows = rows, .cols = b->cols, .dtype = b->dtype, .sample = w, .n_sample = rows};
    QN_TRY(qn_quantizer_open(codec, set, 0, cx->scratch, &q, err));
    QN_TRY(q->ops->begin(q, &layer, cx->scratch, &plan, err));
    QN_TRY(qn_ldl_make(&l, NULL, b->cols, NULL, NULL, q->group_cols && q->group_cols < b->cols ? q->group_cols : b->cols,
                       QN_ORDER_NATURAL, 0, err));
    const qn_feedback_job j = {.q = q, .layer = &layer, .plan = plan, .ldl = &l, .rows = rows, .w = w};
    const qn_code rc = qn_feedback_segment(&j, recon, dst, cap, n_out, &loss, cx->scratch, err);
    qn_ldl_release(&l);
    return rc;
}

static qn_code enc_grid(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap, size_t *n_out,
                        qn_err *err)
{
    const qn_quant_settings set = {.bits = 2 + b->n / b->cols % 7, .group = 16, .asymmetric = src[0] & 1};
    return enc_lossy("grid", &set, cx, b, src, dst, cap, n_out, err);
}

static qn_code enc_fp8(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap, size_t *n_out, qn_err *err)
{
    return enc_lossy("fp8", &(qn_quant_settings){.group = src[0] & 1 ? 16 : 0}, cx, b, src, dst, cap, n_out, err);
}

static qn_code enc_ect(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap, size_t *n_out,
                       qn_err *err)
{
    const qn_quant_settings set = {.bits = 1 + b->n % 8, .states = b->cols % 3 ? 8u : b->n % 2 ? 1u : 256u};
    return enc_lossy("ect", &set, cx, b, src, dst, cap, n_out, err);
}

/* Types of ggml whose blocks divide the rows. */
static qn_code enc_blocks(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap, size_t *n_out,
                          qn_err *err)
{
    static const char *const types[] = {"q4_0", "q5_1", "iq4_nl", "mxfp4", "q8_0", "q4_1"};
    const qn_quant_settings set = {0};
    return enc_lossy(types[(src[0] ^ src[2]) % 6], &set, cx, b, src, dst, cap, n_out, err);
}

/* Constant books, stored ones (there are no constant ones for six rows), and residuals. */
static qn_code enc_vq(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap, size_t *n_out,
                      qn_err *err)
{
    static const qn_quant_settings set[] = {{.bits = 2}, {.bits = 7, .vector = 2}, {.bits = 8, .vector = 6}, {.bits = 4, .vector = 8}};
    return enc_lossy("vq", &set[src[0] & 3], cx, b, src, dst, cap, n_out, err);
}

/* Any payload in rows of another length, or of the transpose. */
static qn_code enc_turn(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap, size_t *n_out,
                        qn_err *err)
{
    const unsigned unit = qn_unit_bytes(b->dtype);
    const uint32_t cols = b->cols / (1 + src[0] % 3), rows = b->n / cols;
    uint8_t *m = qn_arena_get(cx->scratch, (uint64_t)b->n * unit, 8, err);
    qn_sink s = qn_sink_over(dst, cap);
    if (!m || b->n % cols)
        return QN_OK;
    for (uint32_t i = 0; i < b->n; i++)
        memcpy(m + (size_t)i * unit, src + (src[0] & 4 ? (i % cols) * rows + i / cols : i) * (size_t)unit, unit);
    qn_sink_u8(&s, src[0] >> 2 & 1);
    qn_sink_varint(&s, cols);
    QN_TRY(qn_nest_encode(cx, &s, &(qn_block){b->dtype, b->n, cols}, m, true, err));
    *n_out = s.full ? 0 : s.n;
    return QN_OK;
}

static qn_encode_fn encoder(void)
{
    const qn_encode_fn tab[QN_CODEC_COUNT] = {
        [QN_CODEC_FILL] = qn_enc_fill,       [QN_CODEC_ZSTD] = qn_enc_zstd,       [QN_CODEC_SHUFFLE] = qn_enc_shuffle,
        [QN_CODEC_FAST] = qn_enc_fast,       [QN_CODEC_DENSE] = qn_enc_dense,     [QN_CODEC_ORDER0] = qn_enc_order0,
        [QN_CODEC_NARROW] = qn_enc_narrow,   [QN_CODEC_DEQUANT] = qn_enc_dequant, [QN_CODEC_PALETTE] = qn_enc_palette,
        [QN_CODEC_ROWDUP] = qn_enc_rowdup,   [QN_CODEC_DELTA] = qn_enc_delta,     [QN_CODEC_MAX] = qn_enc_max,
        [QN_CODEC_SPARSE] = qn_enc_sparse,   [QN_CODEC_GRID] = enc_grid,
        [QN_CODEC_FP8] = enc_fp8,            [QN_CODEC_ECT] = enc_ect,            [QN_CODEC_VQ] = enc_vq,           [QN_CODEC_TURN] = enc_turn,
        [QN_CODEC_BLOCKS] = enc_blocks,
    };
    /* named so that the linker takes what it tries: weak names alone would bring nothing in */
    static qn_code (*volatile keep)(const qn_enc_ctx *, const qn_block *, const uint8_t *, uint8_t *, size_t, unsigned *,
                                    size_t *, qn_err *) = qn_encode_best;
    (void)keep;
    return tab[FUZZ_CODEC];
}

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* A bell-shaped number of standard deviation 0.02, or what `kind` makes of it. */
static float value(uint32_t *state, unsigned kind, unsigned i, unsigned cols)
{
    float v = 0;
    for (int k = 0; k < 6; k++)
        v += (float)next(state) / 0x1p24f - 0.5f;
    v *= 0.028f;
    switch (kind) {
    case 0:
        return v;
    case 1: /* mostly zero */
        return i % 5 ? 0 : v;
    case 2: /* few values */
        return (float)(next(state) % 6) * 0.25f;
    case 3: /* equal rows */
        return (float)((i % cols) * (i / cols % 2 + 1)) / 64;
    case 4: /* a scale for every 32, times a small integer */
        return (float)((int)(next(state) % 15) - 7) * (0.001f * (float)(1 + i / 32));
    default: /* all alike */
        return 0.5f;
    }
}

static void put(qn_dtype t, float v, uint8_t *dst)
{
    uint64_t u = 0;
    const double d = (double)v;
    switch (t) {
    case QN_F16:
        u = qn_f32_to_f16(v);
        break;
    case QN_BF16:
        u = qn_f32_to_bf16(v);
        break;
    case QN_F32:
    case QN_C64:
        u = qn_f32_bits(v);
        break;
    case QN_F64:
        memcpy(&u, &d, 8);
        break;
    case QN_F8_E4M3:
        u = qn_f32_to_e4m3(v * 100);
        break;
    case QN_F8_E5M2:
        u = qn_f32_to_e5m2(v * 100);
        break;
    default:
        u = (uint64_t)(int64_t)(v * 500);
    }
    uint8_t b[8];
    qn_store64(b, u);
    memcpy(dst, b, qn_unit_bytes(t));
}

static void emit_encoded(void (*emit)(void *, const uint8_t *, size_t), void *ctx, qn_dtype t, unsigned kind)
{
    enum { N = 768, COLS = 96, CAP = 16384 };
    const qn_encode_fn encode = encoder();
    const qn_block b = {t, N, COLS};
    const size_t n_src = (size_t)N * qn_unit_bytes(t);
    uint8_t *src = calloc(1, n_src), *base = calloc(1, n_src), *out = calloc(1, HEAD + CAP);
    uint32_t state = kind * 97 + (uint32_t)t;
    size_t n = 0;
    if (!src || !base || !out)
        abort();
    fill_base(base, n_src);
    for (unsigned i = 0; i < N; i++)
        put(t, value(&state, kind, i, COLS), src + (size_t)i * qn_unit_bytes(t));
    for (size_t i = 0; FUZZ_CODEC == QN_CODEC_DELTA && i < n_src; i++)
        src[i] = base[i] ^ (uint8_t)(next(&state) % 9 == 0);
    out[0] = (uint8_t)t;
    qn_store16(out + 1, N - 1);
    qn_store16(out + 3, COLS - 1);
    qn_ekern ek;
    qn_kern k;
    qn_arena scratch;
    qn_ekern_init(&ek, 0);
    qn_kern_init(&k, 0);
    qn_arena_init(&scratch, NULL);
    const qn_enc_ctx cx = {.ekern = &ek, .kern = &k, .scratch = &scratch, .base = base, .level = QN_LEVEL_DENSE};
    if (encode && encode(&cx, &b, src, out + HEAD, CAP, &n, NULL) == QN_OK && n)
        emit(ctx, out, HEAD + n);
    qn_arena_release(&scratch);
    free(src);
    free(base);
    free(out);
}

/* The same by the quantizer of this codec's name, when there is one: more rows than columns, each column for itself, as it is. */
static void emit_quantized(void (*emit)(void *, const uint8_t *, size_t), void *ctx, qn_dtype t, double bits, unsigned kind)
{
    enum { ROWS = 40, COLS = 16, CAP = 3000 };
    const qn_quant_settings set = {.bits = bits, .shells = FUZZ_CODEC == QN_CODEC_PVQ && kind >= 3};
    float w[ROWS * COLS], col[ROWS], recon[ROWS];
    double weight[COLS];
    uint8_t out[HEAD + CAP];
    uint32_t state = kind * 97 + (uint32_t)t;
    qn_arena arena;
    const qn_quantizer *q;
    const void *plan;
    void *seg_state;
    size_t n = 0;
    qn_arena_init(&arena, NULL);
    for (unsigned i = 0; i < ROWS * COLS; i++)
        w[i] = value(&state, kind, i, COLS);
    for (unsigned j = 0; j < COLS; j++)
        weight[j] = 1 + (double)(next(&state) % 64);
    const qn_quant_layer layer = {.name = "w", .rows = ROWS, .cols = COLS, .dtype = t, .weight = kind % 2 ? weight : NULL,
                                  .sample = w, .n_sample = ROWS};
    const qn_quant_segment s = {.rows = ROWS, .w = w, .scratch = &arena};
    uint32_t all[COLS];
    for (uint32_t j = 0; j < COLS; j++)
        all[j] = j;
    if (qn_codec_tab[FUZZ_CODEC].name && qn_quantizer_open(qn_codec_tab[FUZZ_CODEC].name, &set, 0, &arena, &q, NULL) == QN_OK &&
        q->ops->begin(q, &layer, &arena, &plan, NULL) == QN_OK &&
        q->ops->segment(q, &layer, plan, &s, &seg_state, NULL) == QN_OK) {
        bool ok = true;
        const uint32_t group = q->group_cols && q->group_cols < COLS ? q->group_cols : COLS;
        float by_col[ROWS * COLS];
        for (unsigned i = 0; i < ROWS * COLS; i++)
            by_col[i % COLS * ROWS + i / COLS] = w[i];
        for (uint32_t j = 0; j < COLS; j++) {
            if (q->ops->group && j % group == 0)
                ok = ok && q->ops->group(seg_state, all + j, COLS - j < group ? COLS - j : group, by_col + j * ROWS, ROWS, NULL) == QN_OK;
            memcpy(col, by_col + j * ROWS, sizeof col);
            ok = ok && q->ops->column(seg_state, j, col, recon, NULL) == QN_OK;
        }
        out[0] = (uint8_t)t;
        qn_store16(out + 1, ROWS * COLS - 1);
        qn_store16(out + 3, COLS - 1);
        if (ok && q->ops->finish(seg_state, out + HEAD, CAP, &n, NULL) == QN_OK && n)
            emit(ctx, out, HEAD + n);
    }
    qn_arena_release(&arena);
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const qn_dtype types[] = {QN_BF16, QN_F32, QN_F16, QN_U8, QN_F8_E4M3, QN_F64, QN_I16, QN_I32};
    for (size_t i = 0; i < 8 * 6; i++)
        emit_encoded(emit, ctx, types[i / 6], (unsigned)(i % 6));
    for (size_t i = 0; FUZZ_CODEC > QN_CODEC_GRID && i < 3 * 6; i++)
        emit_quantized(emit, ctx, types[i / 6], (double)(2 + i % 3), (unsigned)(i % 6));
    static const struct {
        qn_dtype t;
        unsigned n, cols, n_payload;
    } g[] = {{QN_BF16, 256, 64, 64}, {QN_F32, 100, 100, 200}, {QN_U8, 64, 8, 64}, {QN_F8_E4M3, 512, 128, 300},
             {QN_F16, 33, 33, 66},   {QN_F64, 17, 17, 136},   {QN_U8, 1, 1, 1},   {QN_C64, 20, 10, 80}};
    for (size_t i = 0; i < 3 * (sizeof g / sizeof g[0]); i++) {
        uint8_t b[HEAD + 512] = {0};
        const size_t k = i / 3;
        b[0] = (uint8_t)g[k].t;
        qn_store16(b + 1, (uint16_t)(g[k].n - 1));
        qn_store16(b + 3, (uint16_t)(g[k].cols - 1));
        for (unsigned j = 0; j < g[k].n_payload; j++)
            b[HEAD + j] = (uint8_t)(i % 3 == 0 ? 0 : i % 3 == 1 ? j : 0xff);
        emit(ctx, b, HEAD + g[k].n_payload);
    }
}
