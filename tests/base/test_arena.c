/* test_arena.c: marks, rewinding, and that a reset remembers the peak. */
#include "base/alloc.h"
#include <criterion/criterion.h>
#include <string.h>

Test(arena, rewinding_gives_the_same_room_again)
{
    qn_arena ar;
    qn_arena_init(&ar, NULL);
    char *a = qn_arena_get(&ar, 100, 64, NULL);
    memset(a, 'a', 100);
    const qn_arena_mark m = qn_arena_tell(&ar);
    char *b = qn_arena_get(&ar, 50, 64, NULL);
    cr_assert(a && b && a != b);
    for (int i = 0; i < 40; i++) /* across several blocks */
        cr_assert(qn_arena_get(&ar, 1 << (i / 2), 8, NULL) != NULL);
    qn_arena_rewind(&ar, m);
    cr_assert_eq(ar.used_bytes, 100);
    cr_assert_eq(qn_arena_get(&ar, 50, 64, NULL), b);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(a[i], 'a');
    qn_arena_release(&ar);
}

Test(arena, a_mark_of_an_empty_arena)
{
    qn_arena ar;
    qn_arena_init(&ar, NULL);
    const qn_arena_mark m = qn_arena_tell(&ar);
    cr_assert(qn_arena_get(&ar, 1000, 64, NULL) != NULL);
    qn_arena_rewind(&ar, m);
    cr_assert_eq(ar.used_bytes, 0);
    cr_assert(qn_arena_get(&ar, 1000, 64, NULL) != NULL);
    qn_arena_release(&ar);
}

Test(arena, after_a_reset_the_peak_fits_in_one_block)
{
    qn_arena ar;
    qn_arena_init(&ar, NULL);
    for (int round = 0; round < 3; round++) {
        const qn_arena_mark m = qn_arena_tell(&ar);
        for (int i = 0; i < 10; i++)
            cr_assert(qn_arena_get(&ar, 100000, 64, NULL) != NULL);
        qn_arena_rewind(&ar, m);
        cr_assert(qn_arena_get(&ar, 10, 64, NULL) != NULL);
        struct qn_arena_block *one = ar.head;
        if (round)
            for (int i = 0; i < 9; i++) {
                cr_assert(qn_arena_get(&ar, 100000, 64, NULL) != NULL);
                cr_assert_eq(ar.head, one);
            }
        qn_arena_reset(&ar);
    }
    qn_arena_release(&ar);
}
