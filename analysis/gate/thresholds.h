/* thresholds.h: what is allowed: limits from a YAML file, and those that hold when it says nothing.
 *
 *     kld_mean: {max: 0.04}
 *     top1: {min: 0.93}
 *     size_bytes: {max: 40MB}
 *     vs_baseline: {kld_mean: +10%, top1: -1%}
 *     layers: {rel_err: {max: 1.1x baseline}}
 *     tensors: {rel_err: {max: 0.2}}
 *     lossless: ["*norm*"]
 *
 * Sections that the file does not have (vs_baseline, layers, tensors) keep their defaults; `none` in their place turns them off. */
#ifndef QN_ANALYSIS_GATE_THRESHOLDS_H
#define QN_ANALYSIS_GATE_THRESHOLDS_H

#include "base/env.h"
#include "base/pattern.h"

typedef enum qn_metric {
    QN_M_KLD_MEAN,
    QN_M_KLD_P99,
    QN_M_TOP1,           /* most probable token, or largest value of the first output, is the reference's */
    QN_M_PPL_RATIO,
    QN_M_PROB_CHANGE,    /* largest change of the probability of a token that came                      */
    QN_M_OUTPUT_REL,     /* of the worst output                                                          */
    QN_M_OUTPUT_MAX_REL,
    QN_M_ACCURACY,
    QN_M_SIZE,
    QN_M_BPW,
    QN_M_LAYER_REL,      /* of a block alone                                                             */
    QN_M_LAYER_OUTPUT,   /* of a block's output, with the errors before it                                */
    QN_M_TENSOR_REL,
    QN_M_TENSOR_MAX,     /* largest error of a weight                                                    */
    QN_N_METRICS
} qn_metric;

typedef struct qn_metric_row {
    const char *key;     /* in the file, within its section                     */
    const char *id;      /* of the check: stable                               */
    bool at_least;       /* larger is better                                   */
    bool points;         /* vs_baseline speaks of points of a share, not of a part of the value */
    char section;        /* 0: the top, 'l': layers, 't': tensors              */
} qn_metric_row;
extern const qn_metric_row qn_metric_tab[QN_N_METRICS];

typedef struct qn_limit {
    bool given;
    double value;        /* a bound; times: a factor on the baseline's value; in `versus`: the allowed growth, 0.1 for +10 % */
    bool times;
    unsigned line;       /* 0: a default */
} qn_limit;

typedef struct qn_thresholds {
    const char *file;    /* NULL: none was given */
    qn_limit bound[QN_N_METRICS], versus[QN_N_METRICS];
    qn_pattern *lossless; /* tensors that must be equal bit for bit; from the arena */
    uint32_t n_lossless;
    unsigned lossless_line;
} qn_thresholds;

/* Defaults: a tensor or layer is wrong by less than 0.75 of its own size; against a baseline, nothing is worse than noise allows (docs/gate.md). */
void qn_thresholds_init(qn_thresholds *t, bool baseline);
/* Over the defaults. QN_E_USAGE with line and what is allowed. Released whatever it returns. */
qn_code qn_thresholds_read(qn_thresholds *t, const qn_env *env, const char *path, qn_arena *arena, qn_err *err) QN_MUST_CHECK;
qn_code qn_thresholds_parse(qn_thresholds *t, const char *text, size_t n_bytes, const char *name, qn_arena *arena, qn_err *err) QN_MUST_CHECK;
void qn_thresholds_release(qn_thresholds *t);

#endif
