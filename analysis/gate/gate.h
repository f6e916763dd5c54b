/* gate.h: verdicts on a report: thresholds, and what a stored baseline allows.
 *
 * The rungs, cheapest first: structure, lossless bits, error of tensors, error of layers, divergence. A check has three verdicts: it passes when the whole interval of what was
 * measured keeps the limit, fails when none of it does, and else is inconclusive. What has no interval either passes or fails. */
#ifndef QN_ANALYSIS_GATE_GATE_H
#define QN_ANALYSIS_GATE_GATE_H

#include "analysis/gate/report.h"
#include "base/env.h"

typedef enum qn_verdict { QN_PASS, QN_FAIL_GATE, QN_INCONCLUSIVE, QN_SKIPPED } qn_verdict;
typedef enum qn_rung { QN_RUNG_BINDING, QN_RUNG_STRUCTURE, QN_RUNG_LOSSLESS, QN_RUNG_TENSORS, QN_RUNG_LAYERS, QN_RUNG_DIVERGENCE, QN_RUNG_SIZE, QN_N_RUNGS } qn_rung;

typedef struct qn_check {
    qn_rung rung;
    const char *id;        /* stable: "kld_mean", "tensor_rel_err", "structure"                                 */
    const char *subject;   /* tensor or layer that is worst, NULL: the whole model                             */
    qn_verdict verdict;
    double found, low, high, limit; /* NaN where there is none                                                  */
    bool at_least;         /* the limit is a least value                                                      */
    uint64_t n_needed;     /* inconclusive: chunks that would settle it, as far as can be told; 0             */
    const char *text;      /* one line: what was found, what is allowed                                         */
    const char *file;      /* thresholds file and line that asked for it; NULL: a default                     */
    unsigned line;
} qn_check;

typedef struct qn_gate {
    qn_arena arena;
    qn_check *checks;
    uint64_t n_checks;
    uint64_t by_verdict[4];
    qn_verdict verdict;    /* fail if one fails, else inconclusive if one is, else pass */
} qn_gate;

#endif
