/* test_num.c: checked arithmetic against 128-bit integers, the cursor, varints, shapes. */
#include "base/num.h"
#include "base/shape.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>

__extension__ typedef unsigned __int128 u128;

static uint64_t edge(qt_rng *r)
{
    const uint64_t base = UINT64_C(1) << qt_below(r, 64), near = qt_below(r, 5);
    switch (qt_below(r, 4)) {
    case 0:
        return base + near;
    case 1:
        return base - near;
    case 2:
        return qt_next(r) >> qt_below(r, 64);
    default:
        return UINT64_MAX - near;
    }
}

Test(num, checked_arithmetic)
{
    qt_rng r = qt_seed(3);
    for (int i = 0; i < 1000000; i++) {
        const uint64_t a = edge(&r), b = edge(&r);
        bool mo = false, ao = false, uo = false;
        const uint64_t m = qn_mul(a, b, &mo), s = qn_add(a, b, &ao);
        const u128 wm = (u128)a * b, ws = (u128)a + b;
        cr_assert(mo == (wm > UINT64_MAX) && m == (mo ? 0 : (uint64_t)wm));
        cr_assert(ao == (ws > UINT64_MAX) && s == (ao ? 0 : (uint64_t)ws));
        const uint64_t align = UINT64_C(1) << qt_below(&r, 40), up = qn_align_up(a, align, &uo);
        const u128 wu = ((u128)a + align - 1) / align * align;
        cr_assert(uo == ((u128)a + align - 1 > UINT64_MAX) && (uo || up == (uint64_t)wu));
        if (b)
            cr_assert_eq(qn_ceil_div(a, b), (uint64_t)(((u128)a + b - 1) / b));
        cr_assert(qn_min_u64(a, b) <= qn_max_u64(a, b) && (qn_min_u64(a, b) ^ qn_max_u64(a, b)) == (a ^ b));
    }
    bool sticky = true;
    (void)qn_add(1, 1, &sticky);
    (void)qn_mul(1, 1, &sticky);
    cr_assert(sticky, "the flag stays set");
}

Test(num, loads_and_stores)
{
    uint8_t b[16];
    qt_rng r = qt_seed(4);
    for (int i = 0; i < 10000; i++) {
        const uint64_t v = qt_next(&r);
        uint8_t *p = b + i % 8;
        qn_store64(p, v);
        for (unsigned k = 0; k < 8; k++)
            cr_assert_eq(p[k], (uint8_t)(v >> 8 * k));
        cr_assert(qn_load64(p) == v && qn_load32(p) == (uint32_t)v && qn_load16(p) == (uint16_t)v);
        qn_store32(p, (uint32_t)(v >> 5));
        qn_store16(p + 4, (uint16_t)(v >> 9));
        cr_assert(qn_load32(p) == (uint32_t)(v >> 5) && qn_load16(p + 4) == (uint16_t)(v >> 9));
    }
}

Test(num, cursor_stays_inside)
{
    uint8_t b[15] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (size_t n = 0; n <= sizeof b; n++) {
        qn_cur c = qn_cur_over(b, n);
        const uint8_t x = qn_cur_u8(&c);
        const uint16_t y = qn_cur_u16(&c);
        const uint32_t z = qn_cur_u32(&c);
        const uint64_t w = qn_cur_u64(&c);
        cr_assert_eq(c.failed, n < 15);
        cr_assert(x == (n >= 1 ? 1 : 0) && y == (n >= 3 ? 0x0302 : 0) && z == (n >= 7 ? 0x07060504u : 0));
        cr_assert_eq(w, n >= 15 ? UINT64_C(0x0f0e0d0c0b0a0908) : 0);
        cr_assert_eq(qn_cur_left(&c), 0);
        cr_assert(!c.failed || qn_cur_u8(&c) == 0, "it stays failed");
    }
    qn_cur c = qn_cur_over(b, 4);
    cr_assert_null(qn_cur_take(&c, SIZE_MAX));
    cr_assert(c.failed && c.at == 0);
    c = qn_cur_over(NULL, 0);
    (void)qn_cur_take(&c, 0);
    cr_assert_not(c.failed);
}

Test(num, varint_has_one_spelling)
{
    qt_rng r = qt_seed(5);
    for (int i = 0; i < 200000; i++) {
        uint8_t p[12] = {0};
        const uint64_t v = edge(&r);
        const size_t n = qn_put_varint(p, v);
        cr_assert(n >= 1 && n <= 10);
        qn_cur c = qn_cur_over(p, n);
        cr_assert(qn_cur_varint(&c) == v && !c.failed && c.at == n);
        c = qn_cur_over(p, n - 1);
        (void)qn_cur_varint(&c);
        cr_assert(c.failed, "cut");
    }
    /* every sequence of up to three bytes: accepted exactly when it is what qn_put_varint writes */
    uint64_t accepted = 0;
    for (uint32_t x = 0; x < 1u << 24; x++) {
        const uint8_t p[3] = {(uint8_t)x, (uint8_t)(x >> 8), (uint8_t)(x >> 16)};
        uint8_t again[10];
        qn_cur c = qn_cur_over(p, 3);
        const uint64_t v = qn_cur_varint(&c);
        if (c.failed)
            continue;
        accepted++;
        cr_assert(qn_put_varint(again, v) == c.at && memcmp(again, p, c.at) == 0);
    }
    cr_assert_eq(accepted, (128u << 16) + (128u * 127u << 8) + 128u * 128u * 127u);
    static const uint8_t too_long[11] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1};
    static const uint8_t too_large[10] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2};
    qn_cur c = qn_cur_over(too_long, sizeof too_long);
    cr_assert(qn_cur_varint(&c) == 0 && c.failed);
    c = qn_cur_over(too_large, sizeof too_large);
    cr_assert(qn_cur_varint(&c) == 0 && c.failed);
}

Test(num, shapes)
{
    qt_rng r = qt_seed(6);
    for (int i = 0; i < 300000; i++) {
        uint64_t dims[QN_RANK_MAX], n, bytes;
        const unsigned rank = (unsigned)qt_below(&r, QN_RANK_MAX + 1);
        const qn_dtype t = (qn_dtype)qt_below(&r, QN_DTYPE_COUNT);
        const unsigned per = qn_dtype_name(t) ? qn_dtype_block_elems(t) : 1, n_block = qn_dtype_block_bytes(t);
        bool zero = false, big = false;
        u128 want = 1;
        for (unsigned k = 0; k < rank; k++) {
            const unsigned shape = (unsigned)qt_below(&r, 8);
            dims[k] = shape < 5 ? 1 + qt_below(&r, 9) : shape < 7 ? qt_next(&r) >> (16 + qt_below(&r, 48)) : edge(&r) >> 15;
            if (k + 1 == rank && qn_dtype_is_block(t) && qt_below(&r, 8))
                dims[k] = dims[k] % (1u << 20) * per;
            zero = zero || dims[k] == 0;
        }
        for (unsigned k = 0; k < rank && !zero && !big; k++) {
            want *= dims[k];
            big = qn_dtype_name(t) && want / per * n_block * 8 > UINT64_MAX;
        }
        if (zero)
            want = 0;
        const bool ok = qn_shape_bytes(t, dims, rank, &n, &bytes);
        const bool rows = !qn_dtype_is_block(t) || (rank > 0 && dims[rank - 1] % per == 0);
        const bool should = qn_dtype_name(t) && rows && (zero || (!big && want % per == 0));
        cr_assert_eq(ok, should, "case %d", i);
        if (!ok)
            continue;
        cr_assert(n == (uint64_t)want && bytes == (uint64_t)(want / per * n_block));
        cr_assert(qn_bytes_of_elems(t, n) == bytes && qn_elems_of_bytes(t, bytes) == n);
        const uint64_t cols = qn_shape_cols(t, dims, rank), units = bytes / qn_unit_bytes(t);
        cr_assert(cols >= 1 && (zero || cols <= qn_max_u64(1, units)), "case %d: %llu columns of %llu", i,
                  (unsigned long long)cols, (unsigned long long)units);
    }
    static const struct {
        qn_dtype t;
        uint64_t d[4];
        unsigned rank;
        uint64_t cols;
    } rows[] = {{QN_F32, {64, 64, 3, 3}, 4, 576}, {QN_BF16, {4096, 4096}, 2, 4096}, {QN_F32, {0}, 0, 1},
                {QN_U8, {7}, 1, 7}, {QN_F4, {8, 128}, 2, 64}, {QN_C64, {4, 16}, 2, 32}, {QN_F32, {4, 0}, 2, 1},
                {QN_Q4_0, {4096, 4096}, 2, 2304}, {QN_Q4_0, {4, 8, 32}, 3, 144}, {QN_Q6_K, {256}, 1, 210}, {QN_Q4_K, {3, 0}, 2, 1}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_expect_eq(qn_shape_cols(rows[i].t, rows[i].d, rows[i].rank), rows[i].cols, "row %zu", i);
}
