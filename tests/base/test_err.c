/* test_err.c: the first cause wins, and hostile names cannot reach the terminal. */
#include "base/err.h"
#include <criterion/criterion.h>
#include <string.h>

Test(err, first_cause_wins)
{
    qn_err e;
    qn_err_clear(&e);
    cr_assert_eq(QN_FAIL(&e, QN_E_INPUT, 0x40, "bad %d", 7), QN_E_INPUT);
    cr_assert_eq(QN_FAIL(&e, QN_E_IO, 1, "later"), QN_E_IO);
    cr_assert_eq(qn_err_in_path(&e, QN_E_INPUT, "a\nb"), QN_E_INPUT);
    cr_assert_eq(qn_err_in_path(&e, QN_E_INPUT, "outer"), QN_E_INPUT);
    cr_assert_eq(qn_err_in_tensor(&e, QN_E_INPUT, "w"), QN_E_INPUT);
    char line[512];
    qn_err_line(&e, line, sizeof line);
    cr_assert_str_eq(line, "a\\x0ab: tensor 'w' at byte 0x40: bad 7");
}

Test(err, null_is_allowed)
{
    cr_assert_eq(QN_FAIL(NULL, QN_E_MEMORY, QN_NO_OFFSET, "x"), QN_E_MEMORY);
    cr_assert_eq(qn_err_in_path(NULL, QN_E_MEMORY, "p"), QN_E_MEMORY);
}
