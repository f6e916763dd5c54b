/* stats.h: statistics in the making. Whoever runs a model shows every batch of inputs of every linear layer, convolution and
 * expert; this keeps the sums.
 *
 * An *entry* is one input that was watched: n columns, how many rows were seen, and their sums. It has one name or several:
 * the tensors that are multiplied with it (q, k and v share one, gate and up another). Experts of a mixture that are stored
 * as one tensor have an entry each, of that name and the expert's number.
 *
 * Kinds: QN_STATS_H keeps the second moment H = Σ x xᵀ (n × n), QN_STATS_DIAG its diagonal alone. Both keep Σ x, Σ |x|, Σ x²,
 * the least and the largest value of each column. All sums are f64. Equal batches in equal order give equal bits, for any
 * number of threads. */
#ifndef QN_ANALYSIS_STATS_STATS_H
#define QN_ANALYSIS_STATS_STATS_H

#include "analysis/stats/write.h"

typedef enum qn_stats_kind {
    QN_STATS_H = 0,
    QN_STATS_DIAG = 1
} qn_stats_kind;

typedef struct qn_stats qn_stats;
typedef struct qn_stats_entry qn_stats_entry;

typedef struct qn_stats_options {
    uint32_t h_max_columns; /* wider entries are DIAG whatever is asked; 0: the format's limit */
} qn_stats_options;

/* env is borrowed. */
qn_code qn_stats_new(const qn_env *env, const qn_stats_options *opt, qn_stats **out, qn_err *err) QN_MUST_CHECK;
void qn_stats_free(qn_stats *s); /* NULL is fine */

/* A new entry; `name` is copied. expert: a number, or QN_STATS_NO_EXPERT. QN_E_USAGE when (name, expert) is there already.
 * The entry lives until qn_stats_flush or qn_stats_free. Memory: 4 n² + O(128 n) bytes for H, 32 n else. */
qn_code qn_stats_open(qn_stats *s, const char *name, uint32_t expert, uint32_t n, qn_stats_kind kind, qn_stats_entry **out,
                      qn_err *err) QN_MUST_CHECK;
/* One more tensor that has the same input. */
qn_code qn_stats_alias(qn_stats *s, qn_stats_entry *e, const char *name, qn_err *err) QN_MUST_CHECK;
/* The entry of that name, or NULL. */
qn_stats_entry *qn_stats_get(const qn_stats *s, const char *name, uint32_t expert);

/* x: f32 (rows, n), rows ld ≥ n apart. A value that is not finite: QN_E_INPUT naming tensor, row and column, and nothing is
 * added. One call at a time; it uses env's threads. */
qn_code qn_stats_add(qn_stats *s, qn_stats_entry *e, const float *x, uint64_t rows, uint64_t ld, qn_err *err) QN_MUST_CHECK;
/* What the tensor put out for the same rows, before any bias: Σ y² of each output. y: f32 (rows, m), rows ld ≥ m apart; m is the
 * same in every call. */
qn_code qn_stats_add_outputs(qn_stats *s, qn_stats_entry *e, const char *name, const float *y, uint64_t rows, uint32_t m,
                             uint64_t ld, qn_err *err) QN_MUST_CHECK;

/* Rows seen; H_ij so far (QN_STATS_H, any i and j); kind after the limit of columns. */
uint64_t qn_stats_count(const qn_stats_entry *e);
double qn_stats_h(const qn_stats_entry *e, uint32_t i, uint32_t j);
qn_stats_kind qn_stats_entry_kind(const qn_stats_entry *e);

/* Hands all entries, in the order in which they were opened, to the writer, and forgets them: so a model is measured block
 * by block with the memory of one. After a failure the entries are still there. QN_E_UNSUPPORTED when a sum is too large for
 * the f32 of the file. */
qn_code qn_stats_flush(qn_stats *s, qn_stats_writer *w, qn_err *err) QN_MUST_CHECK;

#endif
