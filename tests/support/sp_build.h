/* sp_build.h: tokenizer.model files put together by hand, and ids compared. */
#ifndef QN_TESTS_SP_BUILD_H
#define QN_TESTS_SP_BUILD_H

#include "analysis/tokenize/tokenizer.h"
#include "tests/support/hostile.h"

enum { QT_NORMAL = 1, QT_UNKNOWN, QT_CONTROL, QT_USER, QT_UNUSED, QT_BYTE };

void qt_sp_piece(qt_buf *b, const char *piece, float score, int type);
/* <0x00> to <0xFF> */
void qt_sp_bytes(qt_buf *b);
/* Opens the bytes as a file of this name; asserts that they can be opened. */
qn_tokenizer *qt_sp_open(const char *name, const qt_buf *b);
qn_code qt_sp_try(const char *name, const qt_buf *b, qn_err *err);
/* Asserts that the text gives these ids ("3 10 8"), and its text this ("" is not compared when NULL). */
void qt_sp_expect(const qn_tokenizer *t, unsigned flags, const char *text, const char *ids, const char *back);

#endif
