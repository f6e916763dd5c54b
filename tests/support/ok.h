/* ok.h: a call that must succeed, for test files with a qn_err of the name err. */
#ifndef QN_TESTS_OK_H
#define QN_TESTS_OK_H

#include "base/err.h"
#include <criterion/criterion.h>

#define OK(expr)                                             \
    do {                                                     \
        qn_err_clear(&err);                                  \
        const qn_code rc_ = (expr);                          \
        cr_assert_eq(rc_, QN_OK, "%s: %s", #expr, err.text); \
    } while (0)

#endif
