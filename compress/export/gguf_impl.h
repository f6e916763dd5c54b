/* gguf_impl.h: a GGUF file as a list: what it is called, which tensors it has and what they are made of. For gguf*.c in this folder.
 *
 *   source ─ keys (gguf_hf.c, or those of a GGUF file)  ┐
 *          ─ list (gguf_list.c)                         ├─ types (gguf_types.c, gguf_size.c) ─ rows (gguf_rows.c) ─ file (gguf_write.c)
 *          ─ vocabulary (gguf_vocab.c)                  ┘
 *
 * The same list is made when a solve is planned and when the file is written. */
#ifndef QN_COMPRESS_EXPORT_GGUF_IMPL_H
#define QN_COMPRESS_EXPORT_GGUF_IMPL_H

#include "compress/export/codes.h"
#include "compress/export/export.h"
#include "formats/gguf/write.h"
#include "formats/hf/config.h"

/* Where row r of a tensor comes from, in the matrices that it is put together of. */
typedef enum qn_ggx_move {
    QN_GGX_STAY,
    QN_GGX_HEADS,  /* in each head channels (i, i + h/2) come to stand side by side: rotary pairs of llama                        */
    QN_GGX_THIRDS, /* q, k, v of each head → all q, all k, all v (GPT-NeoX)                                                       */
    QN_GGX_TURN    /* stored (in, out): rows are columns (Conv1D of GPT-2)                                                      */
} qn_ggx_move;

typedef enum qn_ggx_value { QN_GGX_SAME, QN_GGX_PLUS_ONE, QN_GGX_MINUS_EXP } qn_ggx_value;

/* One tensor of the output. As a matrix it is rows × cols; a bias is rows × 1, so that its rows move too. Parts lie one above the other:
 * of each part, `stack` matrices of src_rows rows, and of each of those rows [from, from + take). */
typedef struct qn_ggx_tensor {
    const char *name;
    uint64_t dims[4]; /* outermost first */
    unsigned rank;
    uint64_t rows, cols;
    const uint64_t *parts;   /* tensors of the source; NULL: `made` has the numbers */
    uint32_t n_parts;
    uint64_t stack, src_rows, from, take;
    qn_ggx_move move;
    qn_ggx_value value;
    uint32_t heads;          /* of HEADS, THIRDS                                                    */
    const float *made;       /* rows × cols                                                          */
    qn_dtype dtype;          /* in the file                                                            */
    qn_dtype wanted;         /* what the variant says; QN_BYTES: nothing, such tensors stay F32        */
    const char *why;         /* dtype is not wanted                                                  */
    bool again;              /* approximated in the source by what the file cannot hold                */
} qn_ggx_tensor;

typedef struct qn_ggx {
    qn_export_job *job;
    qn_arena *arena;
    const char *arch;        /* general.architecture                                                  */
    bool is_gguf;            /* the source has keys                                                   */
    qn_gguf keys;            /* is_gguf: they                                                          */
    qn_config config;        /* else: of the folder                                                    */
    const char *family;      /* of the graph: which builder                                             */
    uint64_t n_layers, hidden, heads, kv_heads, head_dim, n_experts, vocab; /* heads: of layer 0; vocab: rows of the embedding */
    bool tied;               /* no output.weight                                                          */
    struct qn_ggx_key {      /* made here; of a folder                                                      */
        const char *name;
        qn_gguf_type type;   /* U32, F32, BOOL, STR; ARRAY: of U32 or BOOL                             */
        qn_gguf_type elem;
        uint32_t u;
        float f;
        const char *s;
        const uint64_t *array;
        uint32_t n;
    } *key;
    uint32_t n_keys, cap_keys;
    qn_ggx_tensor *list;
    uint32_t n, cap;
    uint32_t file_type;      /* llama_ftype                                                                   */
} qn_ggx;

/* gguf_open.c: sizes, keys and list of the job's source. *x is to be released whatever it returns. */
qn_code qn_ggx_open(qn_ggx *x, qn_export_job *job, qn_err *err) QN_MUST_CHECK;
void qn_ggx_release(qn_ggx *x);
/* A key "<architecture>.<name>", or a whole one when it has "general." or "tokenizer." in front. */
qn_code qn_ggx_u32(qn_ggx *x, const char *name, uint64_t v, qn_err *err) QN_MUST_CHECK;
qn_code qn_ggx_f32(qn_ggx *x, const char *name, double v, qn_err *err) QN_MUST_CHECK;
qn_code qn_ggx_bool(qn_ggx *x, const char *name, bool v, qn_err *err) QN_MUST_CHECK;
qn_code qn_ggx_str(qn_ggx *x, const char *name, const char *v, qn_err *err) QN_MUST_CHECK;
qn_code qn_ggx_array(qn_ggx *x, const char *name, qn_gguf_type elem, const uint64_t *v, uint32_t n, qn_err *err) QN_MUST_CHECK;
/* A new tensor at the list's end, zeroed. NULL: no memory. */
qn_ggx_tensor *qn_ggx_add(qn_ggx *x, qn_err *err);

/* gguf_hf.c: keys of a folder's config.json, and tensors that have no counterpart there (rope_freqs). QN_E_UNSUPPORTED names what llama.cpp cannot run. */
qn_code qn_ggx_config(qn_ggx *x, qn_err *err) QN_MUST_CHECK;
/* gguf_list.c: the tensors of a folder under GGUF's names. */
qn_code qn_ggx_list(qn_ggx *x, qn_err *err) QN_MUST_CHECK;

/* gguf_types.c: wanted and dtype of every tensor of the list by the variant. QN_E_USAGE for a variant that is none. */
qn_code qn_ggx_types(qn_ggx *x, const char *variant, qn_err *err) QN_MUST_CHECK;
/* May llama-quantize quantize it? */
bool qn_ggx_is_matrix(const qn_ggx_tensor *t);
/* The nearest type that `cols` columns are whole blocks of; the same when they are. */
qn_dtype qn_ggx_fallback(qn_dtype t, uint64_t cols);

/* gguf_rows.c: rows of the output, in parts that fit `cap` bytes. */
typedef struct qn_ggx_rows {
    const qn_ggx *x;
    qn_source *src;
    const qn_ggx_tensor *t;
    qn_codes *codes;  /* of each part, where its blocks are taken over; else NULL */
    float *whole;     /* TURN: the matrix, (rows, cols) of the output */
    uint8_t *band;    /* HEADS: some heads */
    uint8_t *raw;
    uint64_t cap;     /* bytes of raw */
    qn_arena scratch;
} qn_ggx_rows;
qn_code qn_ggx_rows_open(qn_ggx_rows *r, const qn_ggx *x, const qn_ggx_tensor *t, qn_err *err) QN_MUST_CHECK;
/* Rows that are best read at a time. */
uint64_t qn_ggx_rows_band(const qn_ggx_rows *r);
/* n rows from row0 as f32 (n, cols). */
qn_code qn_ggx_rows_f32(qn_ggx_rows *r, uint64_t row0, uint64_t n, float *w, qn_err *err) QN_MUST_CHECK;
/* The same as they stand in the file: t->dtype. */
qn_code qn_ggx_rows_bytes(qn_ggx_rows *r, uint64_t row0, uint64_t n, uint8_t *bytes, qn_err *err) QN_MUST_CHECK;
void qn_ggx_rows_close(qn_ggx_rows *r);

/* gguf.c: keys and the list of tensors; what a writer takes before data. */
qn_code qn_ggx_put_head(qn_ggx *x, qn_gguf_writer *w, qn_err *err) QN_MUST_CHECK;
/* gguf_solve.c: what has to be solved, as a recipe: one rule for each tensor that gets another type than most. */
qn_code qn_ggx_recipe(qn_ggx *x, qn_recipe *r, qn_err *err) QN_MUST_CHECK;
/* Are all blocks that the list wants in the source as codes? */
qn_code qn_ggx_holds(qn_ggx *x, bool *yes, qn_err *err) QN_MUST_CHECK;
/* The types that are there: of a solve whose recipe may have had rules of the user's. What is not there as blocks is written dense. */
qn_code qn_ggx_settle(qn_ggx *x, qn_err *err) QN_MUST_CHECK;

/* gguf_vocab.c: the keys of a folder's tokenizer. */
qn_code qn_ggx_vocab(qn_ggx *x, qn_gguf_writer *w, qn_err *err) QN_MUST_CHECK;
/* May the model be called that? There are names that llama.cpp draws conclusions from. */
qn_code qn_ggx_name_loads(qn_ggx *x, const char *name, bool *yes, qn_err *err) QN_MUST_CHECK;
/* Does the file at `path` tokenize as the folder? It is said in a note where not. */
qn_code qn_ggx_vocab_check(qn_ggx *x, const char *path, qn_err *err) QN_MUST_CHECK;

#endif
