/* allocate.h: how many groups of each family stay, for a budget. */
#ifndef QN_COMPRESS_PRUNE_ALLOCATE_H
#define QN_COMPRESS_PRUNE_ALLOCATE_H

#include "compress/prune/measure.h"
#include "compress/prune/repair.h"

typedef enum qn_budget_unit {
    QN_BUDGET_GROUPS,  /* the same share of every family: `share` of its groups go         */
    QN_BUDGET_PARAMS, QN_BUDGET_MACS, QN_BUDGET_BYTES, /* share of the model's that goes    */
    QN_BUDGET_LATENCY  /* of the time of a run on this machine, by a table measured per family and level */
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
    uint32_t generations, offspring; /* of EVOLVE; 0: 30 and 16                                  */
    uint64_t seed;
    qn_repair_options repair;
} qn_allocate_options;

typedef struct qn_allocated {
    uint32_t *keep;           /* per family; from env's allocator, qn_mem_put                    */
    qn_cost cost;             /* as the cut will have it                                        */
    double share;             /* of the unit that goes                                          */
    bool reached;             /* share asked for; else the caps did not allow it                 */
    double loss;              /* estimated (TABLE, EVOLVE) or NaN                                */
} qn_allocated;

qn_code qn_allocate(const qn_env *env, const qn_graph *g, const qn_groups *s, const qn_calibrate_feed *feed, qn_measure *m,
                    const qn_allocate_options *o, qn_allocated *out, qn_err *err) QN_MUST_CHECK;

#endif
