/* bisect.h: which tensors carry the damage.
 *
 * Hybrids are measured: the reference, with the candidate's content in a set S of its tensors. D(S) is the hybrid's distance from the reference (mean KL divergence of
 * tokens, or the relative error of the worst output), D(all) the candidate's. S *explains* the damage when D(S) ≥ share · D(all). What is looked for is a set from which
 * nothing can be left out:
 *   1. every group by itself, and the groups in that order;
 *   2. the shortest beginning of that order which explains, by halving;
 *   3. each member of it left out, the weakest first, for good where the rest still explains.
 * First with the blocks of the model as groups, then with the tensors of the blocks that were found. D need not grow with S; then the set is one that
 * explains, if not the smallest. */
#ifndef QN_ANALYSIS_GATE_BISECT_H
#define QN_ANALYSIS_GATE_BISECT_H

#include "analysis/eval/corpus.h"
#include "analysis/eval/io_feed.h"

/* D of a hybrid: taken[i] says whether item i comes from the candidate. */
typedef qn_code (*qn_distance_fn)(void *ctx, const uint8_t *taken, double *d, qn_err *err);

typedef struct qn_culprit {
    uint32_t item;
    double alone; /* D of it alone */
} qn_culprit;

/* The search by itself. group_of: of n items, numbered 0 … n_groups − 1, each with an item; the groups are skipped when there is one only. found: room for n; the strongest first. all: D(all) > 0.
 * *explained: D of what was found. `spread`: more than half of the groups are needed, so single tensors were not looked at: found holds all items of these groups, with the group's D. */
qn_code qn_bisect_search(const qn_alloc *alloc, uint32_t n, const uint32_t *group_of, uint32_t n_groups, double share, double all, qn_distance_fn measure,
                         void *ctx, qn_culprit *found, uint32_t *n_found, double *explained, bool *spread, qn_err *err) QN_MUST_CHECK;

typedef struct qn_bisect_row {
    const char *name, *block; /* the tensor's; borrowed from the reference's graph */
    double alone;
    uint64_t n_weights;
} qn_bisect_row;

typedef struct qn_bisect {
    qn_arena arena;
    double all, explained;  /* D(all), D(found)                                       */
    double restored;        /* D when what was found is the reference's again          */
    qn_bisect_row *rows;
    uint32_t n_rows, n_differing, n_tensors;
    bool spread, tokens;    /* tokens: D is the KL divergence                           */
    uint64_t n_runs;
} qn_bisect;

typedef struct qn_bisect_options {
    double share;           /* 0 … 1 */
    uint64_t memory_bytes, batch_tokens;
} qn_bisect_options;

/* The candidate's tensors must have the reference's names (a GGUF file's are translated) and shapes: QN_E_INPUT. Either c or feed, of the reference's graph; the other
 * NULL. When no tensor differs n_differing is 0 and nothing is measured. Released by the caller only when QN_OK. */
qn_code qn_bisect_run(const qn_env *env, qn_source *candidate, const qn_graph *ref, const qn_corpus *c, qn_io_feed *feed, const qn_bisect_options *o,
                      qn_bisect *out, qn_err *err) QN_MUST_CHECK;
void qn_bisect_release(qn_bisect *b);

#endif
