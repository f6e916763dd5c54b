/* format.h: the .qstats file in memory; docs/statistics.md is its specification.
 *
 *   header (64) │ segment │ segment │ …          segment: payloads … │ index │ padding │ footer (64)
 *
 * A file grows by whole segments, one for each block of a model that was measured, and is valid after each: a run that was
 * killed is resumed behind the last footer that is good. Only the last segment of a finished file says "complete". Payloads
 * lie in the order of the index, each padded to 64 bytes, so the index needs no positions, and every byte of the file
 * belongs to something that is checked. */
#ifndef QN_ANALYSIS_STATS_FORMAT_H
#define QN_ANALYSIS_STATS_FORMAT_H

#include "base/alloc.h"
#include "base/hash.h"

#define QN_STATS_MAGIC  "\x8bQSTAT\r\n" /* 8 bytes */
#define QN_STATS_FOOTER "QSTATEND"      /* 8 bytes */

#define QN_STATS_NO_EXPERT UINT32_MAX

enum {
    QN_STATS_MAJOR = 1,
    QN_STATS_MINOR = 0,
    QN_STATS_HEADER_BYTES = 64,
    QN_STATS_FOOTER_BYTES = 64,
    QN_STATS_ALIGN = 64,
    QN_STATS_COLUMNS_MAX = 1 << 24,
    QN_STATS_NAME_MAX = 4096,   /* bytes of a name, a label, a key or a value */
    QN_STATS_INDEX_MAX = 1 << 30,
    QN_STATS_EXPERT_MAX = (1 << 24) - 1
};

/* Parts of an input that are there; Σ x² always is. */
enum {
    QN_STATS_HAS_H = 1,        /* upper triangle of H, f32 */
    QN_STATS_HAS_SUMS = 2,     /* Σ x, Σ |x|               */
    QN_STATS_HAS_EXTREMES = 4  /* min, max                 */
};

/* A text or other data that was run through the model. */
typedef struct qn_stats_source {
    qn_digest digest; /* zeros: not known */
    uint64_t tokens;
    const char *label; /* for people; may be "" */
} qn_stats_source;

typedef struct qn_stats_prop {
    const char *key, *value;
} qn_stats_prop;

/* What was run on what. Digests of zeros: not known. */
typedef struct qn_stats_meta {
    qn_digest model, tokenizer;
    qn_digest settings; /* of all that decides the numbers: a run may only be resumed by one with the same */
    uint64_t tokens, sequences;
    uint32_t context;   /* tokens in a sequence, at most; 0: not known */
    uint32_t n_sources, n_props;
    const qn_stats_source *sources;
    const qn_stats_prop *props; /* keys ascending, none twice */
} qn_stats_meta;

typedef struct qn_stats_name {
    const char *name;
    uint32_t n_outputs; /* 0: outputs were not watched */
} qn_stats_name;

/* One input that was watched. */
typedef struct qn_stats_input {
    uint32_t n;      /* columns                     */
    uint32_t expert; /* or QN_STATS_NO_EXPERT       */
    uint32_t n_names, parts;
    uint64_t count;  /* rows                        */
    const qn_stats_name *names;
    qn_digest vectors_digest, h_digest; /* of the payloads, padding included; zeros where there is none */
    uint64_t off;    /* of the vectors in the file; H follows them. Not stored. */
} qn_stats_input;

/* Bytes of the payloads of an input, padding included; false when they cannot be. */
bool qn_stats_vectors_bytes(const qn_stats_input *in, uint64_t *n_bytes);
bool qn_stats_h_bytes(const qn_stats_input *in, uint64_t *n_bytes);

/* What an error in one weight costs: a model whose weight (of that name, of that expert) had been replaced by W + E,
 * tr(E H Eᵀ) = noise · tr(W H Wᵀ), diverged by `kl` nats a token from the model without, over `tokens` tokens. */
typedef struct qn_stats_cost {
    const char *name;
    uint32_t expert; /* or QN_STATS_NO_EXPERT */
    uint64_t tokens; /* at least 1            */
    double noise;    /* finite, above 0       */
    double kl;       /* finite                */
} qn_stats_cost;

/* A segment's index. */
typedef struct qn_stats_index {
    qn_stats_meta meta;
    bool complete;
    uint32_t n_inputs, n_costs;
    qn_stats_input *inputs;
    qn_stats_cost *costs;
} qn_stats_index;

/* The bytes of an index; owned by the caller (qn_mem_put). */
qn_code qn_stats_index_write(const qn_stats_index *ix, const qn_alloc *alloc, uint8_t **out, uint64_t *n_bytes,
                             qn_err *err) QN_MUST_CHECK;
/* The reverse; strings and tables from the arena. Everything is checked that can be without the payloads; names within
 * one segment may still be double. `off` is where p lies in the file, for messages. */
qn_code qn_stats_index_parse(qn_stats_index *ix, qn_arena *arena, const uint8_t *p, uint64_t n_bytes, uint64_t off,
                             qn_err *err) QN_MUST_CHECK;

/* A footer's numbers. */
typedef struct qn_stats_footer {
    uint64_t index_off, index_bytes, prev_end, end;
    qn_digest digest; /* of the index and the padding behind it */
} qn_stats_footer;

void qn_stats_header_put(uint8_t b[QN_STATS_HEADER_BYTES]);
/* QN_E_INPUT, or QN_E_UNSUPPORTED for a later major version. */
qn_code qn_stats_header_check(const uint8_t b[QN_STATS_HEADER_BYTES], qn_err *err) QN_MUST_CHECK;
void qn_stats_footer_put(uint8_t b[QN_STATS_FOOTER_BYTES], const qn_stats_footer *f);
/* False when these bytes are no footer that ends at `end`. */
bool qn_stats_footer_get(const uint8_t b[QN_STATS_FOOTER_BYTES], uint64_t end, qn_stats_footer *f);

/* (name, expert) as one string, for tables of names: the arena's; NULL and *err when there is no memory. */
char *qn_stats_key(qn_arena *arena, const char *name, uint32_t expert, qn_err *err) QN_MUST_CHECK;

#endif
