/* err.h: recording errors. The first cause wins; outer layers only fill fields that are empty. */
#ifndef QN_BASE_ERR_H
#define QN_BASE_ERR_H

#include "quern/base.h"

/* Records a failure and evaluates to `code`, so `return QN_FAIL(err, QN_E_INPUT, off, "…", …)`.
 * `off` is a byte position or QN_NO_OFFSET. */
#define QN_FAIL(err, code, off, ...) qn_err_set((err), (code), 0, (off), __FILE__, __LINE__, __VA_ARGS__)
/* The same for a failed system call; `sys` is its errno. */
#define QN_FAIL_SYS(err, sys, ...) \
    qn_err_set((err), QN_E_IO, (sys), QN_NO_OFFSET, __FILE__, __LINE__, __VA_ARGS__)
/* Our own bug: aborts in a debug build, returns QN_E_BUG in a release build. */
#define QN_BUG(err, ...) qn_err_bug((err), __FILE__, __LINE__, __VA_ARGS__)

#define QN_TRY(expr)                  \
    do {                              \
        const qn_code rc_ = (expr);   \
        if (rc_ != QN_OK)             \
            return rc_;               \
    } while (0)

/* For the rare call whose failure changes nothing (already failing, or only a hint). */
#define QN_IGNORE(expr)               \
    do {                              \
        const qn_code rc_ = (expr);   \
        (void)rc_;                    \
    } while (0)

#define QN_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

void qn_err_clear(qn_err *err);
qn_code qn_err_set(qn_err *err, qn_code code, int sys, uint64_t off, const char *file, int line,
                   const char *fmt, ...) QN_PRINTF(7, 8);
qn_code qn_err_bug(qn_err *err, const char *file, int line, const char *fmt, ...) QN_PRINTF(4, 5);

/* Fill path, tensor or offset where still empty; return `code` unchanged so that they chain:
 * `return qn_err_in_path(err, rc, path)`. A code of QN_OK leaves *err alone. */
qn_code qn_err_in_path(qn_err *err, qn_code code, const char *path);
qn_code qn_err_in_tensor(qn_err *err, qn_code code, const char *tensor);

/* Writes the one line a user sees, without newline: "path: tensor 'x' at byte 0x1a40: text (errno text)".
 * Control characters in names are escaped, so hostile names cannot drive a terminal. */
void qn_err_line(const qn_err *err, char *buf, size_t n_bytes);

/* Copies a name into a fixed buffer; bytes that are not UTF-8, control characters and those that turn the reading direction
 * become \xNN. Cuts between characters. */
void qn_printable(char *dst, size_t dst_bytes, const char *src, size_t src_bytes);

#endif
