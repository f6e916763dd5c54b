/* json_read.h: the reader of tokenizer.json from inside: node.c, load_json.c, json_model.c, json_post.c. */
#ifndef QN_ANALYSIS_TOKENIZE_JSON_READ_H
#define QN_ANALYSIS_TOKENIZE_JSON_READ_H

#include "analysis/tokenize/tokenizer_json.h"
#include "formats/json/json.h"

struct qn_tok_reader {
    qn_json j;
    qn_arena arena; /* trees; gone after loading */
    uint64_t n_nodes;
    qn_tokenizer *t;
};

/* QN_E_INPUT when the reader's text was cut. */
qn_code qn_tok_text(struct qn_tok_reader *r, qn_err *err) QN_MUST_CHECK;
/* The value that begins with `tok`, which has been taken. */
qn_code qn_tok_node_read(struct qn_tok_reader *r, qn_json_token tok, const qn_tok_node **out, qn_err *err) QN_MUST_CHECK;
qn_code qn_tok_node_digest(const qn_tok_node *n, qn_tok_buf *out, qn_err *err) QN_MUST_CHECK;

/* `model`, whose opening brace has been taken: reads it, fills t->vocab, builds the model. In json_model.c. */
qn_code qn_tok_read_model(struct qn_tok_reader *r, qn_err *err) QN_MUST_CHECK;

/* `post_processor`: prefix and suffix; *says: it says what special tokens there are (or that there are none). In json_post.c. */
qn_code qn_tok_read_post(qn_tokenizer *t, const qn_tok_node *node, bool *says, qn_err *err) QN_MUST_CHECK;

#endif
