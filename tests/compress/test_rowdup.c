/* test_rowdup.c: repeated rows. */
#include "tests/compress/see.h"

static void fill_rows(qt_rng *r, const qn_block *b, uint32_t n_unique, uint8_t *src)
{
    const size_t unit = qn_unit_bytes(b->dtype), row = b->cols * unit, total = b->n * unit;
    uint8_t *rows = malloc(n_unique * row);
    for (size_t i = 0; i < n_unique * row; i++)
        rows[i] = (uint8_t)qt_next(r);
    for (size_t at = 0, k = 0; at < total; at += row, k++)
        memcpy(src + at, rows + (k < n_unique ? k : qt_below(r, n_unique)) * row, total - at < row ? total - at : row);
    free(rows);
}

Test(rowdup, shapes)
{
    const qn_dtype types[] = {QN_U8, QN_BF16, QN_F32, QN_C64, QN_F64};
    static uint8_t src[8 * 64 * 200];
    qt_rng r = qt_seed(1);
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++)
        for (uint32_t rows = 2; rows < 200; rows += 1 + rows / 3)
            for (uint32_t tail = 0; tail < 64; tail += 31) {
                const qn_block b = {types[t], rows * 64 + tail, 64};
                if (b.n * qn_unit_bytes(b.dtype) > sizeof src)
                    continue;
                fill_rows(&r, &b, (rows + 1) / 2, src);
                const size_t m = see_check(QN_CODEC_ROWDUP, qn_enc_rowdup, &b, src, NULL, rows == 5 ? 200 : 0);
                cr_assert(m > 0);
                cr_assert(rows < 20 || m < b.n * qn_unit_bytes(b.dtype) * 6 / 10);
            }
}

Test(rowdup, more_unique_rows_than_16_bits)
{
    enum { ROWS = 140000, COLS = 16 };
    uint8_t *src = malloc((size_t)ROWS * COLS);
    qt_rng r = qt_seed(4);
    const qn_block b = {QN_U8, ROWS * COLS, COLS};
    fill_rows(&r, &b, 70000, src);
    memcpy(src + 70000 * COLS, src, 70000 * COLS); /* and a copied half costs nothing */
    const size_t m = see_check(QN_CODEC_ROWDUP, qn_enc_rowdup, &b, src, NULL, 0);
    cr_assert(m > 0 && m < 70000 * COLS + 2000, "%zu", m);
    free(src);
}

Test(rowdup, damage)
{
    static uint8_t src[2 * 96 * 64];
    qt_rng r = qt_seed(5);
    const qn_block b = {QN_BF16, 96 * 64 - 13, 64};
    fill_rows(&r, &b, 40, src);
    cr_assert_gt(see_check(QN_CODEC_ROWDUP, qn_enc_rowdup, &b, src, NULL, 2000), 0);
}
