/* tokenizer_impl.h: what the loaders fill and the pipeline walks. For analysis/tokenize only.
 *
 * Text on its way to ids:
 *
 *     bytes ─ repair UTF-8 ─ cut out added tokens ─ normalizers ─ cut out added tokens that match normalized text
 *           ─ pre-tokenizers ─ model (one piece at a time) ─ prefix and suffix of the post-processor
 *
 * and back: tokens as strings ─ decoders ─ joined. Normalizers, pre-tokenizers and decoders are all of one shape: a list of
 * byte strings goes in, a list comes out (qn_tok_step). A normalizer is always handed a list of one.
 *
 * A loader: qn_tok_vocab_add…, qn_tok_add_* for steps and added tokens, sets model, prefix, suffix,
 * bos, eos, kind; on return the core calls qn_tok_finish, which builds the indexes and the digest.
 * Everything is allocated from t->arena or t->alloc and never changed after qn_tok_finish. */
#ifndef QN_ANALYSIS_TOKENIZE_TOKENIZER_IMPL_H
#define QN_ANALYSIS_TOKENIZE_TOKENIZER_IMPL_H

#include "analysis/tokenize/tokenizer.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/num.h"

#define QN_TOK_NONE UINT32_MAX

enum {
    QN_TOK_VOCAB_MAX = 1 << 24,     /* ids lie below this: hostile files cannot make us allocate more              */
    QN_TOK_STRING_MAX = 1 << 20,    /* bytes of one token                                                          */
    QN_TOK_STEPS_MAX = 64           /* steps in one of the three lists                                             */
};

/* ---- byte strings and lists of them ---- */

/* A growing byte string. Zero it, set alloc. */
typedef struct qn_tok_buf {
    char *p;
    uint64_t n, cap;
    const qn_alloc *alloc;
} qn_tok_buf;
qn_code qn_tok_buf_put(qn_tok_buf *b, const void *s, uint64_t n, qn_err *err) QN_MUST_CHECK;
/* Room for n more bytes after b->n; the caller writes them and adds to b->n. */
qn_code qn_tok_buf_room(qn_tok_buf *b, uint64_t n, qn_err *err) QN_MUST_CHECK;

/* n bytes of the list's text from byte off. `first`: nothing of the user's text comes before it (Metaspace "first"). */
typedef struct qn_tok_span {
    uint64_t off, n;
    bool first;
} qn_tok_span;

/* Spans into one text; they may leave gaps, and lie in order. */
typedef struct qn_tok_list {
    qn_tok_buf text;
    qn_tok_span *span;
    uint64_t n, cap;
} qn_tok_list;
void qn_tok_list_init(qn_tok_list *l, const qn_alloc *a);
void qn_tok_list_release(qn_tok_list *l);
void qn_tok_list_clear(qn_tok_list *l); /* keeps the storage */
/* Appends a copy of s as a string of its own. */
qn_code qn_tok_list_put(qn_tok_list *l, const void *s, uint64_t n, bool first, qn_err *err) QN_MUST_CHECK;
/* Appends a span of text that stands in l->text already. */
qn_code qn_tok_list_span(qn_tok_list *l, uint64_t off, uint64_t n, bool first, qn_err *err) QN_MUST_CHECK;

/* ---- steps ---- */

typedef struct qn_tok_step qn_tok_step;
typedef struct qn_tok_step_ops {
    const char *name; /* as in the file: "NFC", "ByteLevel" … */
    /* Appends to `out`, which is empty, what `in` becomes. Valid UTF-8 in, valid UTF-8 out (decoders: any bytes).
     * Must be thread-safe: the step is read-only. */
    qn_code (*apply)(const qn_tok_step *s, const qn_tok_list *in, qn_tok_list *out, qn_err *err);
    /* Instead of apply, for a step that changes no text: appends to `out` (qn_tok_list_span) the spans of in->text that the
     * strings fall into. */
    qn_code (*cut)(const qn_tok_step *s, const qn_tok_list *in, qn_tok_list *out, qn_err *err);
    /* What is not in the arena (a compiled regex); NULL when all is. */
    void (*release)(qn_tok_step *s);
} qn_tok_step_ops;

struct qn_tok_step {
    const qn_tok_step_ops *ops;
    void *data;          /* the step's own, mostly in the tokenizer's arena                    */
    const void *digest;  /* bytes that, with the name, decide what it does: go into the digest */
    uint64_t n_digest;
};

typedef struct qn_tok_steps {
    qn_tok_step *v; /* owned, from the allocator */
    uint64_t n, cap;
} qn_tok_steps;

/* ---- vocabulary ---- */

typedef struct qn_tok_entry {
    const char *s; /* in the arena, NUL-terminated; NULL: no token has this id */
    uint32_t n;    /* bytes */
    uint32_t flags;
} qn_tok_entry;

enum { QN_TOK_IS_SPECIAL = 1, QN_TOK_IS_ADDED = 2, QN_TOK_IS_BYTE = 4 };

typedef struct qn_tok_vocab {
    qn_tok_entry *entry;
    uint64_t n, cap;     /* ids lie below n */
    uint32_t *slots;     /* id + 1; 0 free; keyed hash: collisions cannot be prepared */
    uint64_t n_slots, n_used, key;
} qn_tok_vocab;

/* Adds a token; the id may leave holes. *was: QN_TOK_NONE, or the id that these bytes have already (find keeps giving that one;
 * entry[id] is set all the same). An id that is taken already, or one too large, is QN_E_INPUT. */
qn_code qn_tok_vocab_add(qn_tokenizer *t, uint32_t id, const void *s, uint64_t n, uint32_t *was, qn_err *err) QN_MUST_CHECK;
uint32_t qn_tok_vocab_find(const qn_tok_vocab *v, const void *s, uint64_t n);

/* ---- added tokens: cut out of the text before anything else looks at it ---- */

typedef struct qn_tok_added {
    uint32_t id;
    const char *s; /* in the arena */
    uint32_t n;
    bool special, single_word, lstrip, rstrip;
    bool normalized; /* matches normalized text, in its own normalized form */
} qn_tok_added;

/* Copies a->s. A token that the vocabulary does not have is added to it. */
qn_code qn_tok_add_added(qn_tokenizer *t, const qn_tok_added *a, qn_err *err) QN_MUST_CHECK;

/* ---- model ---- */

/* Short pieces seen before, with their ids: a direct-mapped table, so that it costs the same however long the text is. */
enum { QN_TOK_CACHE_BYTES = 30, QN_TOK_CACHE_IDS = 8, QN_TOK_CACHE_ENTRIES = 1 << 14 };
typedef struct qn_tok_cached {
    uint8_t n, n_ids; /* n 0: free */
    char s[QN_TOK_CACHE_BYTES];
    uint32_t ids[QN_TOK_CACHE_IDS];
} qn_tok_cached;

/* Working memory of one encode call; models reuse it from piece to piece. */
typedef struct qn_tok_scratch {
    const qn_alloc *alloc;
    void *room; /* 64-byte aligned */
    uint64_t room_bytes;
    qn_tok_cached *cache; /* NULL for a text too short to gain by it */
} qn_tok_scratch;
/* At least n × size bytes, contents undefined. */
qn_code qn_tok_room(qn_tok_scratch *s, uint64_t n, uint64_t size, void **out, qn_err *err) QN_MUST_CHECK;
/* The entry where a piece of n ≤ QN_TOK_CACHE_BYTES bytes is or would be; NULL without a cache. *hit: it is. Only for models
 * whose pieces give the same ids wherever they stand. */
qn_tok_cached *qn_tok_cache_at(const qn_tok_scratch *s, const char *piece, uint64_t n, bool *hit);
/* Remembers ids that a piece gave, when they fit. */
void qn_tok_cache_set(qn_tok_cached *c, const char *piece, uint64_t n, const uint32_t *ids, uint64_t n_ids);

typedef struct qn_tok_model_ops {
    /* Appends the ids of one piece: valid UTF-8, n > 0. Thread-safe but for *s. A text may be one piece: no O(n²). */
    qn_code (*encode)(const qn_tokenizer *t, qn_tok_scratch *s, const char *piece, uint64_t n, qn_tokens *out, qn_err *err);
    /* Builds tables, checks that they fit the vocabulary; called once by qn_tok_finish; may be NULL. */
    qn_code (*finish)(qn_tokenizer *t, qn_err *err);
    /* Adds all that decides its output, but the vocabulary, to the digest. */
    void (*digest)(const qn_tokenizer *t, qn_hasher *h);
    void (*release)(qn_tokenizer *t); /* may be NULL */
} qn_tok_model_ops;

qn_code qn_tokens_put(qn_tokens *t, const qn_alloc *a, uint32_t id, qn_err *err) QN_MUST_CHECK;

/* ---- the tokenizer ---- */

struct qn_tokenizer {
    const qn_env *env;
    const qn_alloc *alloc;
    qn_arena arena;
    const char *kind; /* static or in the arena */
    const char *file; /* where it was read from, in the arena */

    qn_tok_vocab vocab;
    qn_tok_added *added;
    uint64_t n_added, cap_added;
    qn_tok_steps normalizers, pre_tokenizers, decoders;

    const qn_tok_model_ops *model;
    void *model_data; /* the model's own */

    uint32_t *prefix, *suffix; /* arena: ids that QN_TOKENIZE_SPECIAL puts around the text */
    uint64_t n_prefix, n_suffix;
    uint32_t bos, eos, unk;    /* QN_TOK_NONE when there is none */
    const char *unk_name;      /* in the arena; when set and unk is not, qn_tok_finish looks it up among added tokens */
    uint64_t n_unk_name;
    uint32_t byte_id[256];     /* byte-fallback tokens "<0xHH>"; QN_TOK_NONE where missing. Made by qn_tok_finish. */
    bool has_bytes;            /* all 256 are there */

    struct qn_tok_index *raw_index, *norm_index; /* of added tokens; made by qn_tok_finish */
    bool any_bytes;            /* its steps and model take what is not UTF-8: the text is not repaired */
    qn_digest digest;
};

/* Appends a step; n_digest bytes at `digest` are copied. On failure the step's data has been released. */
qn_code qn_tok_add_step(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_step_ops *ops, void *data, const void *digest,
                        uint64_t n_digest, qn_err *err) QN_MUST_CHECK;
/* Runs all steps of a list: *io is the input and is replaced by the result; tmp is room. */
qn_code qn_tok_run_steps(const qn_tok_steps *list, qn_tok_list *io, qn_tok_list *tmp, qn_err *err) QN_MUST_CHECK;
/* Builds the indexes, byte_id and the digest, calls the model's finish. */
qn_code qn_tok_finish(qn_tokenizer *t, qn_err *err) QN_MUST_CHECK;

/* ---- loaders ---- */

/* A file to read: bytes of a checkpoint's file, of a plain file, or of memory. */
typedef struct qn_tok_file {
    const char *path; /* for messages and qn_tokenizer_file */
    uint64_t n_bytes;
    qn_code (*read)(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err); /* fits qn_json_open */
    void *ctx;
} qn_tok_file;

/* Where it lies: gives the files beside it. *there says whether there is one of that name. */
typedef struct qn_tok_place qn_tok_place;
struct qn_tok_place {
    qn_code (*find)(qn_tok_place *p, const char *name, qn_tok_file *out, bool *there, qn_err *err);
};

/* One row per kind of file, in the order they are looked for. `name`: the file's name in a folder, or "*.gguf". A file given by
 * itself is told by `probe` on its first bytes (up to 4096). place may be NULL. */
typedef struct qn_tok_loader {
    const char *name;
    bool (*probe)(const uint8_t *head, size_t n);
    qn_code (*load)(qn_tokenizer *t, const qn_tok_file *f, qn_tok_place *place, qn_err *err);
} qn_tok_loader;
extern const qn_tok_loader qn_tok_loaders[]; /* loader_tab.c; ends with a NULL name */

#endif
