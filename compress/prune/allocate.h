/* allocate.h: how many groups of each family stay, for a budget. */
#ifndef QN_COMPRESS_PRUNE_ALLOCATE_H
#define QN_COMPRESS_PRUNE_ALLOCATE_H

#include "compress/prune/measure.h"
#include "compress/prune/repair.h"

typedef enum qn_budget_unit {
    QN_BUDGET_GROUPS,  /* the same share of every family: `share` of its groups go         */
    QN_BUDGET_PARAMS, QN_BUDGET_MACS, QN_BUDGET_BYTES, /* share of the model's that goes    */
    QN_BUDGET_LATENCY  /* of the time of a run of the first batch on this machine, here: by a table of what nodes take when a family is cut to a level
                        * (allocate_latency.c). Clocks are noisy: medians, and another run may allocate differently */
} qn_budget_unit;

typedef enum qn_allocation {
    QN_ALLOCATE_UNIFORM,  /* one share for all families, as large as the budget needs       */
    QN_ALLOCATE_CURVES,   /* from the error curves of repair.h alone: no run of the model    */
    QN_ALLOCATE_TABLE,    /* each family × level is pruned, refitted and measured end to end; knapsack over the table (SPDY, Frantar and Alistarh 2022) */
    QN_ALLOCATE_EVOLVE    /* the same, then improved by level-switch mutations judged end to end (EvoPress, Sieberling et al. 2024) */
} qn_allocation;

typedef struct qn_allocate_options {
    qn_budget_unit unit;
    double share;             /* of it that goes, (0, 1)                                       */
    qn_allocation method;
    double most;              /* of one family that may go; 0: 0.9                              */
    uint32_t multiple;        /* kept groups are a multiple of it where the family has as many; 0: 1 */
    const uint32_t *least;    /* per family: groups that must stay (n_groups: frozen by --keep); NULL: 1 each */
    const uint32_t *class_of; /* families that must keep equal numbers (emit.h); NULL: none      */
    bool (*allows)(void *ctx, uint32_t family, uint32_t keep); /* may so many stay (all may always)? What loaders can say; NULL: any number */
    void *allows_ctx;
    uint32_t generations, offspring; /* of EVOLVE; 0: 30 and 16                                  */
    uint64_t seed;
    qn_repair_options repair;
} qn_allocate_options;

typedef struct qn_allocated {
    uint32_t *keep;           /* per family; from env's allocator, qn_mem_put                    */
    qn_cost cost;             /* as the cut will have it                                        */
    double share;             /* of the unit that goes; of GROUPS, of the groups of families that may lose some */
    bool reached;             /* share asked for; else the caps did not allow it                 */
    double loss;              /* TABLE, EVOLVE: of the model repaired so, on the measure's data; else NaN */
} qn_allocated;

/* The budget is met by the cut as a whole (qn_cut_cost), and no single step back would still meet it (UNIFORM: at most one step per family is given back). m: needed by
 * TABLE and EVOLVE, which repair and measure every family at up to 8 levels, and in the end the whole, UNIFORM's and CURVES' choices
 * among the candidates: they are never worse than those on the data of m. QN_E_UNSUPPORTED: families of a class with different numbers of groups. */
qn_code qn_allocate(const qn_env *env, const qn_graph *g, const qn_groups *s, const qn_calibrate_feed *feed, qn_measure *m,
                    const qn_allocate_options *o, qn_allocated *out, qn_err *err) QN_MUST_CHECK;

#endif
