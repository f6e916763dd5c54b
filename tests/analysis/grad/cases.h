/* cases.h: a case and more for every row of ONNX's operators in backward_tab.c; each table ends with a NULL type. */
#ifndef QN_TESTS_GRAD_CASES_H
#define QN_TESTS_GRAD_CASES_H

#include "tests/support/grad_check.h"

/* Contents of constants. */
#define QT_LIST(...)   QT_CONST, 1, {sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)}, (const int64_t[]){__VA_ARGS__}, QN_I64
#define QT_SCALAR(x)   QT_CONST, 0, {0}, (const float[]){x}, QN_F32
#define QT_NUMBERS(...) QT_CONST, 1, {sizeof((const float[]){__VA_ARGS__}) / sizeof(float)}, (const float[]){__VA_ARGS__}, QN_F32

extern const qt_grad_op qt_cases_matmul[], qt_cases_conv[], qt_cases_pool[], qt_cases_norm[], qt_cases_binary[], qt_cases_unary[], qt_cases_move[], qt_cases_reduce[];

#endif
