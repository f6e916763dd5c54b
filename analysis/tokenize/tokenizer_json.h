/* tokenizer_json.h: the parts of a tokenizer.json, as the builders of models and steps get them.
 *
 * Small parts (normalizer, pre_tokenizer, decoder, post_processor, the model's options) become trees of bounded size;
 * vocabulary and merges, which are large, become flat tables. A model or step kind is one row of a table in json_kinds_tab.c
 * and one build function. */
#ifndef QN_ANALYSIS_TOKENIZE_TOKENIZER_JSON_H
#define QN_ANALYSIS_TOKENIZE_TOKENIZER_JSON_H

#include "analysis/tokenize/tokenizer_impl.h"

enum {
    QN_TOK_NODES_MAX = 1 << 20,         /* nodes of all small parts together                            */
    QN_TOK_TEXT_MAX = 16 << 20          /* bytes of one string (a charsmap is some hundred KB of base64) */
};

typedef enum qn_tok_node_kind {
    QN_NODE_NULL, QN_NODE_BOOL, QN_NODE_NUMBER, QN_NODE_STRING, QN_NODE_ARRAY, QN_NODE_OBJECT
} qn_tok_node_kind;

typedef struct qn_tok_node qn_tok_node;
struct qn_tok_node {
    qn_tok_node_kind kind;
    bool truth;            /* BOOL                                                     */
    bool is_uint;          /* NUMBER: a plain integer in `number`                      */
    uint32_t n_children;   /* ARRAY, OBJECT                                            */
    const char *key;       /* in an object: its key, NUL-terminated                    */
    const char *s;         /* STRING: NUL-terminated, n bytes                          */
    uint64_t n;
    uint64_t number;
    double real;
    uint64_t off;          /* where it begins in the file, for messages                */
    const qn_tok_node *first, *next; /* children; next sibling                         */
};

/* The member of an object, or NULL when it is absent, null, or `o` is no object (or NULL). */
const qn_tok_node *qn_tok_node_get(const qn_tok_node *o, const char *key);
/* Members of a given kind; *out keeps its value (the default) when absent or null; another kind is QN_E_INPUT. */
qn_code qn_tok_node_bool(const qn_tok_node *o, const char *key, bool *out, qn_err *err) QN_MUST_CHECK;
qn_code qn_tok_node_str(const qn_tok_node *o, const char *key, const char **s, uint64_t *n, qn_err *err) QN_MUST_CHECK;
qn_code qn_tok_node_uint(const qn_tok_node *o, const char *key, uint64_t *out, qn_err *err) QN_MUST_CHECK;

/* One row of `vocab`: the id is given ({"token": id}) or the place in the list ([["piece", score], …], score filled). */
typedef struct qn_tok_vocab_row {
    const char *s; /* NUL-terminated; lives in the tokenizer's arena */
    uint32_t n, id;
    double score;
} qn_tok_vocab_row;

typedef struct qn_tok_merge {
    const char *left, *right;
    uint32_t n_left, n_right;
} qn_tok_merge;

typedef struct qn_tok_model_json {
    const char *type;           /* "BPE", …; "" when the file does not say                                */
    const qn_tok_node *options; /* OBJECT: every other member of `model`                                  */
    const qn_tok_vocab_row *vocab; /* file order; has been put into t->vocab already                      */
    uint64_t n_vocab;
    bool vocab_is_list;         /* pieces with scores                                                     */
    const qn_tok_merge *merges;
    uint64_t n_merges;          /* by rank                                                                */
    uint64_t off;               /* where the model begins, for messages                                   */
} qn_tok_model_json;

/* vocab, merges and their strings: the rows are freed after build, the strings of vocab stay. */
typedef struct qn_tok_model_kind {
    const char *type;
    qn_code (*build)(qn_tokenizer *t, const qn_tok_model_json *m, qn_err *err); /* sets t->model, model_data, kind, unk */
} qn_tok_model_kind;
extern const qn_tok_model_kind qn_tok_model_kinds[]; /* ends with a NULL type */

/* Appends one step (or more, or none) to `list`; `node` is the object with the "type". */
typedef struct qn_tok_step_kind {
    const char *type;
    qn_code (*build)(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err);
} qn_tok_step_kind;
extern const qn_tok_step_kind qn_tok_normalizer_kinds[], qn_tok_pre_tokenizer_kinds[], qn_tok_decoder_kinds[];

/* tokenizer_config.json beside the file, if there is one: BOS and EOS, and, unless the tokenizer itself `says` what surrounds a
 * text, add_bos_token and add_eos_token. place may be NULL. */
qn_code qn_tok_use_config(qn_tokenizer *t, qn_tok_place *place, bool says, qn_err *err) QN_MUST_CHECK;
qn_code qn_tok_load_json(qn_tokenizer *t, const qn_tok_file *f, qn_tok_place *place, qn_err *err) QN_MUST_CHECK;

#endif
