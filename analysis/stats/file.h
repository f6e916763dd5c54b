/* file.h: reading a .qstats file. Opening reads header, indices and footers; vectors and H are read, and checked against their
 * digests, when they are asked for. */
#ifndef QN_ANALYSIS_STATS_FILE_H
#define QN_ANALYSIS_STATS_FILE_H

#include "analysis/stats/format.h"
#include "base/env.h"
#include "base/names.h"

/* A name of an input; sorted by name, then expert (one without an expert first). */
typedef struct qn_stats_item {
    const char *name, *key;
    uint32_t expert;
    uint32_t input; /* index in inputs[]     */
    uint32_t at;    /* index in its names[]  */
    const qn_stats_cost *cost; /* NULL: its sensitivity was not measured */
} qn_stats_item;

typedef struct qn_stats_file {
    const qn_env *env;
    qn_file file;
    qn_arena arena;
    qn_stats_meta meta;     /* of the last segment */
    bool complete;          /* false: a run that has not ended */
    uint32_t n_segments, n_inputs, n_items, n_costs;
    qn_stats_input *inputs; /* in file order */
    qn_stats_item *items;
    qn_names names;
    uint64_t end;           /* length of the file */
} qn_stats_file;

#define QN_STATS_FILE_CLOSED ((qn_stats_file){.file = {.fd = -1}})

/* A file that ends with a good segment. */
qn_code qn_stats_file_open(qn_stats_file *f, const qn_env *env, const char *path, qn_err *err) QN_MUST_CHECK;
/* The same over the first `end` bytes of an open file, which becomes f's, also after a failure. */
qn_code qn_stats_file_open_at(qn_stats_file *f, const qn_env *env, qn_file *file, uint64_t end, qn_err *err) QN_MUST_CHECK;
void qn_stats_file_close(qn_stats_file *f);

/* NULL when there is no such tensor. */
const qn_stats_item *qn_stats_find(const qn_stats_file *f, const char *name, uint32_t expert);

/* *a: divergence per token (nats) for each unit of relative error in the layer's output, |E X|² / |W X|²; false when it was not
 * measured. A divergence below zero counts as zero. */
bool qn_stats_sensitivity(const qn_stats_file *f, const qn_stats_item *item, double *a);

/* What an input's vectors are read into; owned arrays, released together. Parts that are not in the file are NULL. */
typedef struct qn_stats_vectors {
    double *sum_sq, *sum, *sum_abs; /* n */
    float *min, *max;               /* n */
    double **outputs;               /* one for each name: Σ y² of n_outputs, or NULL */
    void *mem;
} qn_stats_vectors;

/* QN_E_INPUT when digests do not fit, or a value is not finite or cannot be (a negative sum of squares). Thread-safe. */
qn_code qn_stats_vectors_read(const qn_stats_file *f, uint32_t input, qn_stats_vectors *v, qn_err *err) QN_MUST_CHECK;
void qn_stats_vectors_release(const qn_stats_file *f, qn_stats_vectors *v);

/* H, the whole symmetric n × n matrix, row-major, rows ld ≥ n apart. QN_E_UNSUPPORTED when only the diagonal was kept.
 * Sums, not means: divide by count. After a failure the content of h is undefined. Thread-safe. */
qn_code qn_stats_h_read_f64(const qn_stats_file *f, uint32_t input, double *h, uint64_t ld, qn_err *err) QN_MUST_CHECK;
qn_code qn_stats_h_read_f32(const qn_stats_file *f, uint32_t input, float *h, uint64_t ld, qn_err *err) QN_MUST_CHECK;

/* H row by row, checked at the end: rows (n − i values) → each(ctx, i, row). What `each` was given only counts when this
 * returns QN_OK. */
qn_code qn_stats_h_walk(const qn_stats_file *f, uint32_t input,
                        qn_code (*each)(void *ctx, uint32_t i, const float *row, qn_err *err), void *ctx,
                        qn_err *err) QN_MUST_CHECK;

/* Reads everything and compares it with its digests. */
qn_code qn_stats_check(const qn_stats_file *f, qn_err *err) QN_MUST_CHECK;

/* An expert that saw fewer rows than this. Experts are known by their number, or by ".experts.N." in the name. */
bool qn_stats_is_starved(const qn_stats_file *f, const qn_stats_item *item, uint64_t rows);

#endif
