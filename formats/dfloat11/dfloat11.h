/* dfloat11.h: weights that lie in a source as DFloat11 groups, listed and read as the BF16 tensors that they are.
 *
 * Objects stay what they are, bytes of files: packing restores the very files. Only the list of tensors is another: in place of a group's six tensors
 * stand its weights, which are decoded on demand, from the start of the block of codes in which a range begins.
 *
 * The files do not hold the shapes of the weights. They come from "shapes" in dfloat11_config where that is (quern writes it), else from the sizes in
 * config.json and the names that the common families give their layers; what neither tells is listed as one row, with a warning. */
#ifndef QN_FORMATS_DFLOAT11_DFLOAT11_H
#define QN_FORMATS_DFLOAT11_DFLOAT11_H

#include "formats/dfloat11/layout.h"
#include "formats/source.h"

enum {
    QN_DF11_PATTERNS_MAX = 1024,
    QN_DF11_INNER_MAX = 1 << 16, /* weights of one module */
    QN_DF11_THREADS_MAX = 1024,
    QN_DF11_SLICE_MAX = 64
};

/* A group. All from the source's arena. */
typedef struct qn_df11_coded {
    const char *module;
    uint64_t codes, rest, gaps; /* objects                                        */
    uint64_t n, n_bytes;        /* weights; bytes of codes                        */
    uint64_t n_blocks;
    const uint32_t *position;   /* n_blocks + 1, from 0 to n, never falling       */
    const uint8_t *luts;        /* (n_rows, 256), the last one the lengths        */
    uint32_t n_rows;
} qn_df11_coded;

typedef struct qn_df11_weight {
    uint32_t group;
    uint64_t first; /* weight of the group */
} qn_df11_weight;

struct qn_df11 {
    uint64_t first; /* tensor of the source: those before it are objects, the others are weights[0], … */
    qn_df11_weight *weights;
    qn_df11_coded *groups;
    uint32_t n_weights, n_groups, threads, slice;
};

/* Of a sealed source: when config.json has a dfloat11_config of a version that we know, sets s->df11 and lists the tensors anew. Anything wrong with a
 * group is QN_E_INPUT; another version, or none of the six tensors, leaves everything as it is (the former with a warning). */
qn_code qn_df11_list(qn_source *s, qn_err *err) QN_MUST_CHECK;
/* n ≥ 1 bytes of a tensor that is a weight, from byte off. Thread-safe. QN_E_INPUT when the codes are none. */
qn_code qn_df11_read_weight(qn_source *s, uint64_t tensor, uint64_t off, uint64_t n, uint8_t *dst, qn_err *err) QN_MUST_CHECK;

/* --- what config.json says (config.c) ---------------------------------------------------------------------------- */

struct json_t;
typedef struct qn_df11_pattern {
    void *regex;            /* pcre2_code */
    const char *const *inner;
    const uint64_t *shapes; /* (n, 2) with n = max(n_inner, 1); NULL: not told */
    uint32_t n_inner;
} qn_df11_pattern;

typedef struct qn_df11_config {
    uint32_t threads, slice, n_patterns;
    qn_df11_pattern *patterns;
    uint64_t hidden, vocabulary; /* 0: not told */
    void *general, *context;     /* pcre2_general_context, pcre2_match_context */
} qn_df11_config;

/* *there = false: none, or of another version (a warning says so). Strings go into the source's arena. */
qn_code qn_df11_config_open(qn_df11_config *c, qn_source *s, bool *there, qn_err *err) QN_MUST_CHECK;
void qn_df11_config_close(qn_df11_config *c);
/* The pattern that matches the module; QN_E_INPUT when none does, or two do. */
qn_code qn_df11_config_match(const qn_df11_config *c, const char *module, const qn_df11_pattern **p, qn_err *err) QN_MUST_CHECK;
/* Rows and columns of weight i of the module, by what is told or the name. False: not known. */
bool qn_df11_config_shape(const qn_df11_config *c, const qn_df11_pattern *p, const char *module, uint32_t i, uint64_t n, uint64_t dims[2]);

#endif
