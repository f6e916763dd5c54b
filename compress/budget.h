/* budget.h: the bits at which the whole output is as large as was asked for.
 *
 * The size of the output as a function of the bits for all is measured by dry runs: everything is encoded, tables, index and what stays
 * lossless included, and nothing is written. It rises by one bit a weight for each bit, nearly, so that two or three runs
 * are enough; the largest bits found whose output fits are taken. Grids have whole bits, and so come less close. */
#ifndef QN_COMPRESS_BUDGET_H
#define QN_COMPRESS_BUDGET_H

#include "compress/lossy.h"
#include "compress/pack.h"

typedef struct qn_budget {
    qn_source *src;
    const qn_graph *graph;
    const qn_stats_file *stats;
    qn_arena *arena;             /* for more_bits */
    const qn_pack_options *pack; /* without lossy */
    uint64_t n_bytes;            /* of the output, at most */
    void (*tried)(void *ctx, double bits, uint64_t n_bytes); /* after each run; NULL: nobody asks */
    void *ctx;
} qn_budget;

/* Bytes that the recipe asks for: its size, or its bits per weight times the weights of the source's tensors; 0: neither. */
uint64_t qn_budget_bytes(const qn_recipe *r, const qn_source *src);

/* Sets r->all.set.bits. QN_E_USAGE: even the fewest bits need more, with the least size that was seen. *model receives the source's
 * digest, *more_bits what a recipe with `spread` adds (NULL without), both for qn_lossy_options. Without a size only the latter is found, by one run. */
qn_code qn_budget_find(const qn_budget *b, const qn_env *env, qn_recipe *r, qn_digest *model, const double **more_bits, qn_err *err) QN_MUST_CHECK;

#endif
