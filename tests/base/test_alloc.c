/* test_alloc.c: the allocator seam and arenas: alignment, growth, overflow, failure. */
#include "base/alloc.h"
#include "tests/support/hostile.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <string.h>

Test(alloc, heap)
{
    for (uint64_t n = 0; n < 200; n++) {
        qn_err err = {0};
        uint8_t *p = qn_mem_get(NULL, n, &err);
        cr_assert(p && (uintptr_t)p % 64 == 0);
        memset(p, 1, n ? n : 1);
        qn_mem_put(NULL, p);
    }
    qn_mem_put(NULL, NULL);
    static const uint64_t too_many[] = {UINT64_MAX, UINT64_MAX - 63, UINT64_MAX - 64, UINT64_C(1) << 63};
    for (size_t i = 0; i < sizeof too_many / sizeof too_many[0]; i++) {
        qn_err err;
        qn_err_clear(&err);
        cr_assert_null(qn_mem_get(NULL, too_many[i], &err));
        cr_assert_eq(err.code, QN_E_MEMORY);
    }
    qn_err err;
    qn_err_clear(&err);
    cr_assert_null(qn_mem_zeros(NULL, UINT64_C(1) << 32, UINT64_C(1) << 32, &err));
    cr_assert_str_eq(err.text, "out of memory: 4294967296 items of 4294967296 bytes wanted");
    uint8_t *z = qn_mem_zeros(NULL, 100, 10, &err);
    for (int i = 0; i < 1000; i++)
        cr_assert_eq(z[i], 0);
    qn_mem_put(NULL, z);
}

Test(alloc, growing)
{
    qt_counter c;
    qt_counter_init(&c);
    uint64_t *p = NULL, cap = 0;
    for (uint64_t n = 0; n < 10000; n++) {
        uint64_t *q = qn_mem_grow(&c.alloc, p, n, &cap, n + 1, sizeof *p, NULL);
        cr_assert(q && cap > n);
        p = q;
        p[n] = n * n;
    }
    for (uint64_t n = 0; n < 10000; n++)
        cr_assert_eq(p[n], n * n);
    cr_assert_lt(c.n_gets, 30u, "growth is geometric");
    /* a failure leaves the old block with its owner */
    qn_err err;
    qn_err_clear(&err);
    const uint64_t before = cap;
    cr_assert_null(qn_mem_grow(&c.alloc, p, 10000, &cap, UINT64_MAX / 4, sizeof *p, &err));
    cr_assert(err.code == QN_E_MEMORY && cap == before && p[9999] == UINT64_C(9999) * 9999);
    qn_mem_put(&c.alloc, p);
    /* nothing wanted of nothing is still a block: NULL always means that there is no memory */
    cap = 0;
    p = qn_mem_grow(&c.alloc, NULL, 0, &cap, 0, sizeof *p, NULL);
    cr_assert_not_null(p);
    qn_mem_put(&c.alloc, p);
    cr_assert_eq(c.n_live, 0);
}

Test(alloc, arena)
{
    qt_counter c;
    qn_arena ar;
    qt_counter_init(&c);
    qn_arena_init(&ar, &c.alloc);
    qt_rng r = qt_seed(9);
    enum { N = 3000 };
    static uint8_t *p[N];
    static uint32_t len[N];
    for (int round = 0; round < 3; round++) {
        uint64_t total = 0;
        for (unsigned i = 0; i < N; i++) {
            const unsigned align = 1u << qt_below(&r, 7);
            len[i] = (uint32_t)(qt_below(&r, 50) ? qt_below(&r, 100) : qt_below(&r, 100000));
            p[i] = qn_arena_get(&ar, len[i], align, NULL);
            cr_assert(p[i] && (uintptr_t)p[i] % align == 0);
            memset(p[i], (int)(i & 0xff), len[i]);
            total += len[i];
        }
        for (unsigned i = 0; i < N; i++) /* nothing overlaps */
            for (uint32_t k = 0; k < len[i]; k++)
                cr_assert_eq(p[i][k], (uint8_t)i);
        cr_assert_eq(ar.used_bytes, total);
        cr_assert_lt(c.live, total + total / 2 + (64 << 10), "%llu bytes held for %llu", (unsigned long long)c.live,
                     (unsigned long long)total);
        qn_arena_reset(&ar);
        cr_assert(ar.used_bytes == 0 && c.n_live <= 1);
    }
    cr_assert_str_eq(qn_arena_str(&ar, "abcdef", 3, NULL), "abc");
    cr_assert_str_eq(qn_arena_str(&ar, NULL, 0, NULL) ? "" : "x", "");
    qn_err err;
    qn_err_clear(&err);
    cr_assert_null(qn_arena_get(&ar, UINT64_MAX, 64, &err));
    cr_assert_null(qn_arena_get(&ar, UINT64_MAX - 64, 1, &err));
    cr_assert_eq(err.code, QN_E_MEMORY);
    cr_assert_not_null(qn_arena_get(&ar, 8, 8, NULL), "a refusal spoils nothing");
    qn_arena_release(&ar);
    qn_arena_release(&ar);
    cr_assert_eq(c.n_live, 0);
}

/* Every allocation fails once: the arena stays usable and loses nothing. */
Test(alloc, arena_without_memory)
{
    for (uint64_t k = 1; k < 12; k++) {
        qt_counter c;
        qn_arena ar;
        qt_counter_init(&c);
        c.fail_at = k;
        qn_arena_init(&ar, &c.alloc);
        for (unsigned i = 0; i < 200; i++) {
            uint8_t *p = qn_arena_get(&ar, 1000, 64, NULL);
            if (p)
                memset(p, 7, 1000);
            if (i % 60 == 59)
                qn_arena_reset(&ar);
        }
        qn_arena_release(&ar);
        cr_assert_eq(c.n_live, 0);
    }
}
