/* io_fault.h: a qn_fs around another that counts calls and makes the Nth one go wrong, for tests.
 * Not part of the libraries; thread-safe. */
#ifndef QN_BASE_IO_FAULT_H
#define QN_BASE_IO_FAULT_H

#include "base/io.h"
#include <stdatomic.h>

typedef enum qn_fault_op {
    QN_OP_OPEN,
    QN_OP_OPEN_BENEATH,
    QN_OP_CLOSE,
    QN_OP_PREAD,
    QN_OP_PWRITE,
    QN_OP_RESERVE,
    QN_OP_TRUNCATE,
    QN_OP_SYNC,
    QN_OP_LOCK,
    QN_OP_FSTAT,
    QN_OP_STAT,
    QN_OP_RENAME,
    QN_OP_UNLINK,
    QN_OP_MKDIR,
    QN_OP_RMDIR,
    QN_OP_SYNC_DIR,
    QN_OP_LIST,
    QN_OP_ADVISE_DONE,
    QN_OP_COUNT
} qn_fault_op;

#define QN_OPS_ALL ((1u << QN_OP_COUNT) - 1)

typedef enum qn_fault_how {
    QN_FAULT_ERROR, /* −sys, nothing done; a close closes all the same, as Linux does   */
    QN_FAULT_SHORT, /* reads and writes move about half; other calls are left alone     */
    QN_FAULT_DEAD,  /* as if the process had ended: from the Nth on no call does anything */
    QN_FAULT_HOOK   /* hook() is called first, then the call is made                    */
} qn_fault_how;

/* Fill in `inner` and what should happen, call qn_fault_init, hand out &f->fs. */
typedef struct qn_fault {
    const qn_fs *inner;
    unsigned ops;     /* 1u << qn_fault_op: these calls count towards nth; 0: none does */
    uint64_t nth;     /* 1: the first of them; 0: never                               */
    bool on;          /* and all after it                                             */
    qn_fault_how how;
    int sys;          /* errno for QN_FAULT_ERROR                                     */
    void (*hook)(void *hook_ctx);
    void *hook_ctx;

    qn_fs fs;
    atomic_uint_fast64_t n_counted, n_hit;      /* calls of `ops`; those that went wrong */
    atomic_uint_fast64_t n_calls[QN_OP_COUNT];  /* all calls, by kind                    */
} qn_fault;

void qn_fault_init(qn_fault *f);
const char *qn_fault_op_name(qn_fault_op op);

#endif
