/* test_turn.c: payloads of a matrix with other rows, or transposed: every unit size, odd shapes, what is refused. */
#include "base/err.h"
#include "compress/nest.h"
#include "tests/compress/see.h"

static uint32_t rows_of; /* rows of the nested matrix that enc writes; and which way */
static unsigned way;

/* By the document's formula, a unit at a time. */
static qn_code enc(const qn_enc_ctx *cx, const qn_block *b, const uint8_t *src, uint8_t *dst, size_t cap, size_t *n_out, qn_err *err)
{
    const unsigned unit = qn_unit_bytes(b->dtype);
    const uint32_t rows = rows_of, cols = b->n / rows;
    uint8_t *m = qn_arena_get(cx->scratch, (uint64_t)b->n * unit, 8, err);
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t c = 0; c < cols; c++)
            memcpy(m + ((size_t)r * cols + c) * unit, src + (way ? (size_t)c * rows + r : (size_t)r * cols + c) * unit, unit);
    qn_sink s = qn_sink_over(dst, cap);
    qn_sink_u8(&s, way);
    qn_sink_varint(&s, cols);
    QN_TRY(qn_nest_encode(cx, &s, &(qn_block){b->dtype, b->n, cols}, m, true, err));
    *n_out = s.full ? 0 : s.n;
    return QN_OK;
}

Test(turn, shapes)
{
    static const qn_dtype types[] = {QN_U8, QN_BF16, QN_F32, QN_C64, QN_F64};
    static const uint32_t shapes[][2] = {{1, 1}, {1, 70}, {70, 1}, {33, 31}, {32, 64}, {97, 65}};
    static uint8_t src[8 * 97 * 65];
    qt_rng r = qt_seed(7);
    for (size_t i = 0; i < sizeof src; i++)
        src[i] = (uint8_t)qt_next(&r);
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++)
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
            for (way = 0; way < 2; way++) {
                rows_of = shapes[s][0];
                const uint32_t n = shapes[s][0] * shapes[s][1];
                const qn_block b = {types[t], n, n > 9 ? 9 : n};
                cr_assert_gt(see_check(QN_CODEC_TURN, enc, &b, src, NULL, s == 4 ? 500 : 0), 0);
            }
}

/* bf16, nested in a codec that looks at rows */
Test(turn, weights)
{
    enum { ROWS = 128, COLS = 96 };
    static uint8_t src[2 * ROWS * COLS];
    float *w = see_weights(ROWS * COLS);
    for (size_t i = 0; i < ROWS * COLS; i++)
        see_put(QN_BF16, w[i], src, i);
    rows_of = COLS;
    way = 1;
    const qn_block b = {QN_BF16, ROWS * COLS, COLS};
    const size_t n = see_check(QN_CODEC_TURN, enc, &b, src, NULL, 1000);
    cr_assert(n > 0 && n < sizeof src, "%zu", n);
    free(w);
}

Test(turn, refused)
{
    static const struct {
        const char *what, *says;
        uint8_t p[24];
        size_t n;
    } cases[] = {
        {"nothing", "cut off", {0}, 0},
        {"no rows", "cut off", {1}, 1},
        {"a third way", "way 2", {2, 4, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 16},
        {"rows of none", "rows of 0 units", {1, 0, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 16},
        {"rows that do not fit", "rows of 5 units", {1, 5, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 16},
        {"rows longer than all", "rows of 24 units", {1, 24, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 16},
        {"a long number of them", "cut off", {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 11},
        {"no payload", "cut off", {1, 4}, 2},
        {"a payload cut off", "cut off", {1, 4, 0, 12, 1, 2, 3}, 7},
        {"a payload that is short", "", {1, 4, 0, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, 15},
        {"a byte too many", "1 bytes too many", {1, 4, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0}, 17},
        {"no such codec", "unknown codec 23", {1, 4, 23, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 16},
        {"itself", "within itself", {1, 4, 20, 16, 1, 4, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 20},
        {"in another's payload", "within another", {1, 4, QN_CODEC_SPARSE}, 0}, /* n = 0: at depth 1 */
        {"a base of its own", "", {1, 4, QN_CODEC_DELTA, 3, 0, 0, 0}, 7},
    };
    const qn_block b = {QN_U8, 12, 6};
    qn_kern k;
    qn_kern_init(&k, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t dst[12];
        qn_arena scratch;
        qn_err err;
        qn_err_clear(&err);
        qn_arena_init(&scratch, NULL);
        const qn_dec_ctx cx = {.kern = &k, .scratch = &scratch, .depth = cases[i].p[0] && !cases[i].n};
        const qn_code rc = qn_codec_decode(&cx, QN_CODEC_TURN, &b, cases[i].p, cases[i].n, dst, &err);
        cr_expect(rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED || rc == QN_E_USAGE, "%s: %d", cases[i].what, rc);
        cr_expect_not_null(strstr(err.text, cases[i].says), "%s: %s", cases[i].what, err.text);
        qn_arena_release(&scratch);
    }
}

/* 2 × 3 worked by hand: the block is (0 1) (2 3) (4 5), its transpose (0 2 4) (1 3 5). */
Test(turn, by_hand)
{
    static const uint8_t p[] = {1, 3, 0, 6, 0, 2, 4, 1, 3, 5};
    static const uint8_t q[] = {0, 3, 0, 6, 0, 1, 2, 3, 4, 5};
    qn_kern k;
    qn_kern_init(&k, 0);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t dst[6];
        qn_arena scratch;
        qn_arena_init(&scratch, NULL);
        const qn_dec_ctx cx = {.kern = &k, .scratch = &scratch};
        cr_assert_eq(qn_codec_decode(&cx, QN_CODEC_TURN, &(qn_block){QN_U8, 6, 2}, i ? q : p, 10, dst, NULL), QN_OK);
        for (uint8_t j = 0; j < 6; j++)
            cr_expect_eq(dst[j], j);
        qn_arena_release(&scratch);
    }
}
