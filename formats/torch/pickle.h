/* pickle.h: a pickle as inert values.
 *
 * A pickle is a program for a small stack machine whose opcodes may call any function of Python. This machine knows some
 * fifty opcodes, and nothing in it can be called: a global is looked up by its exact name in a table and becomes a number
 * (globals_tab.c); applying one builds a value when it is in the table of constructors with arguments of the right kinds
 * (construct.c), and is an error otherwise. Values live in an arena and hold no pointers into the file.
 *
 * Limits: opcodes see one operand at a time and no recursion happens here, so time and memory are linear in the pickle. */
#ifndef QN_FORMATS_TORCH_PICKLE_H
#define QN_FORMATS_TORCH_PICKLE_H

#include "base/alloc.h"
#include "base/shape.h"

enum {
    QN_PK_STACK_MAX = 64 << 10,  /* values, and marks */
    QN_PK_MEMO_MAX = 1 << 20,
    QN_PK_VALUES_MAX = 4 << 20,
    QN_PK_TEXT_KEPT = 4096,      /* longer strings are values without their text */
};
#define QN_PK_BYTES_MAX (UINT64_C(256) << 20)

typedef enum qn_pk_tag {
    QN_PK_NONE,
    QN_PK_BOOL,
    QN_PK_INT,     /* 64 bits                                            */
    QN_PK_LONG,    /* more than 64 bits: text = its little-endian bytes   */
    QN_PK_FLOAT,
    QN_PK_STR,     /* UTF-8, or too long to be kept (cut)                  */
    QN_PK_BYTES,   /* contents are not kept                                */
    QN_PK_TUPLE,
    QN_PK_LIST,
    QN_PK_DICT,    /* keys and values alternate                            */
    QN_PK_SET,
    QN_PK_GLOBAL,
    QN_PK_STORAGE,
    QN_PK_TENSOR,
    QN_PK_OBJECT,  /* made by a constructor, of no meaning for weights     */
    QN_PK_TAGS
} qn_pk_tag;

typedef struct qn_pk qn_pk;

typedef struct qn_pk_storage {
    const char *key;   /* names its bytes, within the file                 */
    uint64_t n;        /* elements of dtype                                */
    uint64_t off;      /* where in the file the pickle speaks of it        */
    uint8_t dtype;     /* qn_dtype; U8 for an untyped one                  */
    bool untyped;
} qn_pk_storage;

typedef struct qn_pk_tensor {
    const qn_pk_storage *storage;
    uint64_t first;    /* element of the storage                           */
    const uint64_t *size, *stride; /* rank of each, in elements, outermost first */
    uint8_t rank, dtype;
    uint64_t off;      /* where in the file it is built                    */
} qn_pk_tensor;

struct qn_pk {
    uint8_t tag;       /* qn_pk_tag                                        */
    bool open;         /* being walked: a container that meets itself      */
    bool cut;          /* STR without its text                             */
    uint32_t n, cap;   /* items; bytes of text                             */
    union {
        int64_t i;
        double f;
        const char *text;
        qn_pk **items;
        unsigned global; /* enum qn_pk_global                              */
        const qn_pk_storage *storage;
        const qn_pk_tensor *tensor;
    } u;
};

/* n bytes at `off` of the file. */
typedef qn_code (*qn_pk_read_fn)(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err);

/* The machine. Values of several pickles of one file live together in `arena`. */
typedef struct qn_pickle {
    const qn_alloc *alloc;
    qn_pk_read_fn read;
    void *ctx;
    qn_arena arena;
    uint64_t n_values, n_items; /* made, and put into containers by opcode */
    qn_pk **stack, **memo;
    uint32_t *marks;
    uint64_t n_stack, cap_stack, n_marks, cap_marks, n_memo, cap_memo, n_puts;
    const qn_pk_storage **storages; /* every one spoken of, in order */
    uint64_t n_storages, cap_storages;
    struct qn_pk_input *in;
    uint64_t op_off;   /* of the opcode at work, for messages              */
    uint8_t op;
} qn_pickle;

void qn_pickle_init(qn_pickle *p, const qn_alloc *alloc, qn_pk_read_fn read, void *ctx);
/* Runs one pickle that begins at `off` and must end before `end`; *root is what it leaves, *after where it ends. */
qn_code qn_pickle_load(qn_pickle *p, uint64_t off, uint64_t end, qn_pk **root, uint64_t *after, qn_err *err) QN_MUST_CHECK;
void qn_pickle_release(qn_pickle *p);

/* The value of a text key of a dict; NULL when `v` is none or has none. */
const qn_pk *qn_pk_get(const qn_pk *v, const char *key);

const char *qn_pk_tag_name(unsigned tag);

#endif
