/* repair_impl.h: what the parts of choosing and refitting share.
 *
 * A *unit* is what is refitted by itself: the weight of one product, or one of its parts (a group of a convolution, a matrix of a stack). A *stage* is a run of
 * units, one behind the other, that read the same value: their inputs are known together, and they are refitted together. The graph is cut anew so
 * that every stage ends a block. */
#ifndef QN_COMPRESS_PRUNE_REPAIR_IMPL_H
#define QN_COMPRESS_PRUNE_REPAIR_IMPL_H

#include "compress/prune/obs.h"
#include "compress/prune/repair.h"
#include "compress/prune/ridge.h"

/* Rows picked from those that one side shows in a batch. */
typedef struct qn_unit_rows {
    float *x;           /* n × d                                                        */
    uint64_t n, cap;
    uint64_t seen;      /* rows shown so far, over all batches                          */
} qn_unit_rows;

typedef struct qn_unit {
    uint32_t weight, part, node, stage;
    uint32_t d, m;      /* columns and outputs                                          */
    uint64_t first, row_step, col_step; /* W[r][c] is element first + r · row_step + c · col_step of the weight */
    uint32_t bias;      /* value with an element for each output, that nothing else reads, or QN_NO_VALUE */
    uint64_t bias_first;
    double bias_gain;   /* the bias changes by so much for a change of 1 in W x         */
    bool routed;        /* which rows come may differ between models                    */
    const char *no_refit; /* why it cannot be refitted; NULL: it can                     */
    double rate;        /* share of the rows that is picked                             */
    uint64_t batch_rows; /* shown in the first batch                                     */
    uint64_t n_picked;  /* of batches that are done                                     */
    qn_unit_rows side[2]; /* dense, pruned                                               */
    qn_moments fit, hold; /* rows that make a refit, rows that judge it                  */
    float *w[2];        /* m × d: dense, and as the overlay has it                       */
    uint32_t waiting;   /* families that still need its moments                          */
} qn_unit;

/* Family f reads unit u with consumer `consumer`. */
typedef struct qn_unit_link {
    uint32_t family, consumer, unit;
} qn_unit_link;

typedef struct qn_repair_plan {
    qn_arena arena;
    const qn_graph *graph;
    qn_graph blocked;     /* a shallow copy with other blocks                              */
    qn_unit *units;       /* by stage                                                      */
    qn_unit_link *links;  /* by family                                                     */
    uint32_t *first_link; /* n_families + 1                                                 */
    uint32_t *unit_of;    /* per value: its first unit (parts follow), or UINT32_MAX         */
    uint32_t n_units, n_links, n_stages;
} qn_repair_plan;

/* wanted[f]: consumers of this family are units. plan.c */
qn_code qn_repair_plan_make(qn_repair_plan *p, const qn_env *env, const qn_graph *g, const qn_groups *s, const uint8_t *wanted,
                            qn_err *err) QN_MUST_CHECK;
void qn_repair_plan_release(qn_repair_plan *p);
bool qn_family_has_units(const qn_repair_plan *p, uint32_t family);
/* Last stage of a family's units. */
uint32_t qn_family_stage(const qn_repair_plan *p, uint32_t family, bool *several);

/* The columns of a unit that each group of a family has: start (n_groups + 1) and cols, from scratch. plan.c */
qn_code qn_unit_columns(const qn_groups *s, const qn_unit *u, const qn_unit_link *l, qn_arena *scratch, uint32_t **start, uint32_t **cols,
                        qn_err *err) QN_MUST_CHECK;

/* The models side by side, stage by stage. stages.c */
typedef struct qn_stages {
    const qn_env *env;
    qn_repair_plan *plan;
    const qn_calibrate_feed *feed;
    const qn_repair_options *o;
    const qn_overlay *overlay;  /* of the pruned model; NULL: the dense one alone, and no targets */
    qn_exec *exec[2];
    qn_streamer *stream[2];
    qn_team *team;
    uint32_t stage;
    uint64_t batch;
    unsigned side;              /* that runs */
    bool counting;
    bool keeps_all;             /* moments of all stages are kept until the end              */
    uint64_t beside_bytes;      /* of the limit, that others take: the overlay               */
} qn_stages;

/* env, plan, feed, o, overlay, keeps_all and beside_bytes are set. To be closed whatever comes back. QN_E_MEMORY says what the limit would have to be. */
qn_code qn_stages_open(qn_stages *t, qn_err *err) QN_MUST_CHECK;
/* Collects the moments of the stage's units over all batches. */
qn_code qn_stages_collect(qn_stages *t, qn_err *err) QN_MUST_CHECK;
/* Weights have changed: both go on to the next stage. */
qn_code qn_stages_next(qn_stages *t, qn_err *err) QN_MUST_CHECK;
void qn_stages_forget(qn_stages *t, uint32_t weight);
void qn_stages_close(qn_stages *t);
void qn_unit_forget(qn_unit *u, const qn_alloc *a);

/* The order in which n_remove groups of a family go and what that costs, by the options' saliency, from the moments of its units (none: magnitude). order and
 * error: n_remove each. choose.c */
qn_code qn_choose(const qn_env *env, const qn_groups *s, qn_repair_plan *p, const qn_repair_options *o, const qn_overlay *w, uint32_t family,
                  const uint8_t *gone, uint32_t n_remove, bool costs, uint32_t *order, double *error, qn_err *err) QN_MUST_CHECK;

/* Scores without an inverse, one per group: higher stays. score.c */
qn_code qn_saliency_score(const qn_env *env, const qn_groups *s, qn_repair_plan *p, const qn_repair_options *o, const qn_overlay *w,
                          uint32_t family, double *score, qn_err *err) QN_MUST_CHECK;

/* Is a bias there to take the mean? */
static inline bool qn_unit_centred(const qn_unit *u)
{
    return u->bias != QN_NO_VALUE;
}
double qn_unit_delta(const qn_repair_options *o, uint64_t rows);

#endif
