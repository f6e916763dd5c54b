/* quern/base.h: what every public header shares: result codes, the error record, dtypes, seams.
 *
 * Every fallible function returns qn_code (QN_OK = 0), must not be ignored, and takes `qn_err *err`
 * last (NULL is allowed). On success *err is untouched; on failure the first cause stays in it.
 */
#ifndef QUERN_BASE_H
#define QUERN_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define QN_API        __attribute__((visibility("default")))
#define QN_MUST_CHECK __attribute__((warn_unused_result))
#else
#define QN_API
#define QN_MUST_CHECK
#endif

/* One code per class of failure; the value is the exit code of the command line (design §5). */
typedef enum qn_code {
    QN_OK = 0,
    QN_E_DIFFERENT = 1,     /* compared and found different                              */
    QN_E_USAGE = 2,         /* an argument or option the caller can correct              */
    QN_E_INPUT = 3,         /* a file is malformed, truncated or corrupt                 */
    QN_E_UNSUPPORTED = 4,   /* well formed, but this version cannot handle it            */
    QN_E_IO = 5,            /* the operating system refused: see qn_err.sys              */
    QN_E_MEMORY = 6,        /* out of memory, or over a stated limit                     */
    QN_E_VERIFY = 7,        /* what was written does not read back as it should          */
    QN_E_INCONCLUSIVE = 8,  /* measured, but too little to say                           */
    QN_E_BUG = 70,          /* our own mistake                                           */
    QN_E_CANCELLED = 71     /* the caller's cancel flag was seen; the CLI maps it to 128+n */
} qn_code;

#define QN_NO_OFFSET UINT64_MAX

/* Fixed size, no allocation: it must work when memory is gone. Strings are NUL-terminated UTF-8,
 * cut at the end if too long. `text` says what was wrong: what was found, what was allowed. */
typedef struct qn_err {
    qn_code code;     /* QN_OK: nothing recorded                       */
    int sys;          /* errno of the failing call, 0 if none          */
    uint64_t off;     /* byte position in `path`, QN_NO_OFFSET if none */
    char path[256];   /* file, "" if none                              */
    char tensor[160]; /* tensor, "" if none                            */
    char text[320];
    const char *src_file; /* where in our source: static storage */
    int src_line;
} qn_err;

/* All element types of the safetensors format, BYTES for what is not a tensor, and the block-quantized types of GGUF.
 * The numbers are part of the container format (docs/format.md): never reuse one. */
typedef enum qn_dtype {
    QN_BYTES = 0,
    QN_BOOL = 1,
    QN_F4 = 2,      /* e2m1, two per byte, low nibble first      */
    QN_F6_E2M3 = 3, /* four in three bytes                       */
    QN_F6_E3M2 = 4,
    QN_U8 = 5,
    QN_I8 = 6,
    QN_F8_E5M2 = 7,
    QN_F8_E4M3 = 8, /* "fn": no infinity, 0x7f/0xff are NaN      */
    QN_F8_E8M0 = 9, /* a power of two                            */
    QN_F8_E4M3FNUZ = 10,
    QN_F8_E5M2FNUZ = 11,
    QN_I16 = 12,
    QN_U16 = 13,
    QN_F16 = 14,
    QN_BF16 = 15,
    QN_I32 = 16,
    QN_U32 = 17,
    QN_F32 = 18,
    QN_C64 = 19, /* two F32 */
    QN_F64 = 20,
    QN_I64 = 21,
    QN_U64 = 22,
    QN_DTYPE_PLAIN = 23, /* above: elements one by one. Below: ggml's blocks, 64 + ggml's number. No other value is a dtype. */
    QN_Q4_0 = 66,
    QN_Q4_1 = 67,
    QN_Q5_0 = 70,
    QN_Q5_1 = 71,
    QN_Q8_0 = 72,
    QN_Q2_K = 74,
    QN_Q3_K = 75,
    QN_Q4_K = 76,
    QN_Q5_K = 77,
    QN_Q6_K = 78,
    QN_IQ2_XXS = 80,
    QN_IQ2_XS = 81,
    QN_IQ3_XXS = 82,
    QN_IQ1_S = 83,
    QN_IQ4_NL = 84,
    QN_IQ3_S = 85,
    QN_IQ2_S = 86,
    QN_IQ4_XS = 87,
    QN_IQ1_M = 93,
    QN_TQ1_0 = 98,
    QN_TQ2_0 = 99,
    QN_MXFP4 = 103,
    QN_NVFP4 = 104,
    QN_Q1_0 = 105,
    QN_Q2_0 = 106,
    QN_DTYPE_COUNT = 107
} qn_dtype;

/* "F32", "BF16", …: the names of the safetensors format; "Q4_K", …: ggml's; "BYTES" for 0, NULL for no such dtype. */
QN_API const char *qn_dtype_name(qn_dtype t);
/* Width of one element in bits (4, 6, 8, …, 64); 0 where an element has none of its own (block types), and for no such dtype. */
QN_API unsigned qn_dtype_bits(qn_dtype t);
/* A *block*: the fewest elements that fill whole bytes, and those bytes. F32: 1 in 4; F4: 2 in 1; Q4_0: 32 in 18. 0 for no
 * such dtype. A block of a block type lies along the innermost dimension. */
QN_API unsigned qn_dtype_block_elems(qn_dtype t);
QN_API unsigned qn_dtype_block_bytes(qn_dtype t);
/* "quern 0.1.0"-style version of the library that runs. */
QN_API const char *qn_version(void);

/* Memory seam. `get` returns 64-byte aligned storage or NULL; `put` takes what `get` gave (never NULL).
 * Both may be called from any thread. NULL in place of the struct means the C library's heap. */
typedef struct qn_alloc {
    void *(*get)(void *ctx, size_t n_bytes);
    void (*put)(void *ctx, void *p);
    void *ctx;
} qn_alloc;

#ifdef __cplusplus
}
#endif
#endif
