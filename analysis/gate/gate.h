/* gate.h: verdicts on a report: thresholds, and what a stored baseline allows.
 *
 * The rungs, cheapest first: binding, structure, lossless bits, error of tensors, error of layers, divergence, size. A check has three verdicts: it passes
 * when the whole interval of what was measured keeps the limit, fails when none of it does, and else is inconclusive. What has no interval either
 * passes or fails. Rungs behind the first that fails are not judged unless all are asked for.
 *
 * Against a baseline the chunks are paired: the interval is that of the mean difference between candidate and baseline over the same chunks (ratio
 * estimator and Student's t, score.h), and the baseline's own mean, plus what it may grow by, plus the noise of measuring, is the limit. */
#ifndef QN_ANALYSIS_GATE_GATE_H
#define QN_ANALYSIS_GATE_GATE_H

#include "analysis/gate/report.h"
#include "analysis/gate/thresholds.h"

typedef enum qn_verdict { QN_PASS, QN_FAIL_GATE, QN_INCONCLUSIVE, QN_SKIPPED } qn_verdict;
typedef enum qn_rung { QN_RUNG_BINDING, QN_RUNG_STRUCTURE, QN_RUNG_LOSSLESS, QN_RUNG_TENSORS, QN_RUNG_LAYERS, QN_RUNG_DIVERGENCE, QN_RUNG_SIZE, QN_N_RUNGS } qn_rung;

extern const char *const qn_verdict_names[4];       /* "pass", "fail", "inconclusive", "skipped" */
extern const char *const qn_rung_names[QN_N_RUNGS]; /* "binding", "structure", …               */

typedef struct qn_check {
    qn_rung rung;
    const char *id;        /* stable: "kld_mean", "tensor_rel_err", "structure"; "vs_baseline.kld_mean"          */
    const char *subject;   /* tensor or layer that is worst, NULL: the whole model                             */
    qn_verdict verdict;
    double found, low, high, limit; /* NaN where there is none                                                  */
    bool at_least;         /* the limit is a least value                                                      */
    uint64_t n_needed;     /* inconclusive: chunks that would settle it, as far as can be told; 0             */
    const char *text;      /* one line: what was found, what is allowed                                         */
    const char *file;      /* thresholds file and line that asked for it; NULL: a default                     */
    unsigned line;
} qn_check;

enum { QN_GATE_WARNINGS_MAX = 2 * QN_N_METRICS };

typedef struct qn_gate {
    qn_arena arena;
    qn_check *checks;      /* by rung; in a rung failures first, the worst before the others */
    uint64_t n_checks, cap_checks;
    uint64_t by_verdict[4];
    qn_verdict verdict;    /* fail if one fails, else inconclusive if one is, else pass */
    const char *warnings[QN_GATE_WARNINGS_MAX]; /* limits that are looser than when the baseline was written */
    uint32_t n_warnings;
} qn_gate;

typedef struct qn_gate_options {
    bool all;              /* also what lies behind a rung that fails            */
    qn_rung last;          /* judge no further than this: while measuring goes on */
} qn_gate_options;

/* baseline NULL: none. Of what is found wrong with single tensors or layers the worst 50 are listed. Released by the caller only when QN_OK. */
qn_code qn_gate_judge(const qn_report *r, const qn_report *baseline, const qn_thresholds *t, const qn_gate_options *o, const qn_alloc *alloc,
                      qn_gate *out, qn_err *err) QN_MUST_CHECK;
void qn_gate_release(qn_gate *g);

/* QN_E_INPUT, naming which digest differs and both, when figures of the two must not be compared. What the report does not have yet (no data, while
 * measuring goes on) is not compared. */
qn_code qn_gate_check_binding(const qn_report *r, const qn_report *baseline, qn_err *err) QN_MUST_CHECK;

/* Notes the limits in a report that will be a baseline, so that loosening them later is seen. */
qn_code qn_gate_record_limits(qn_report *r, const qn_thresholds *t, qn_err *err) QN_MUST_CHECK;

/* --- for the files gate*.c alone --------------------------------------------------------------------------------------------- */

struct qn_judge {
    const qn_report *r, *b; /* b: NULL without a baseline */
    const qn_thresholds *t;
    qn_gate *g;
};

qn_code qn_gate_add(struct qn_judge *j, const qn_check *c, qn_err *err) QN_MUST_CHECK;
/* A text of the gate's arena; NULL when there is no memory. */
const char *qn_gate_text(struct qn_judge *j, qn_err *err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
qn_code qn_gate_tensors(struct qn_judge *j, qn_err *err) QN_MUST_CHECK;    /* structure is gate.c's */
qn_code qn_gate_lossless(struct qn_judge *j, qn_err *err) QN_MUST_CHECK;
qn_code qn_gate_layers(struct qn_judge *j, qn_err *err) QN_MUST_CHECK;
qn_code qn_gate_divergence(struct qn_judge *j, qn_err *err) QN_MUST_CHECK;
qn_code qn_gate_size(struct qn_judge *j, qn_err *err) QN_MUST_CHECK;

#endif
