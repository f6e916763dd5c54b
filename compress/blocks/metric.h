/* metric.h: from a layer's factor to what errors cost in each of its spans. */
#ifndef QN_COMPRESS_BLOCKS_METRIC_H
#define QN_COMPRESS_BLOCKS_METRIC_H

#include "compress/blocks/block.h"
#include "compress/ldl.h"

/* Spans of `span` columns, the last one may be shorter; n_spans = ⌈cols / span⌉. */
typedef struct qn_span_metrics {
    uint32_t span, n_spans;
    uint32_t *v0;        /* (n_spans), its first visit; NULL where nothing is fed back */
    qn_span_metric *at;  /* (n_spans), by place in the tensor */
} qn_span_metrics;

/* With M, for groups of `span` columns as in the ldl, which has a full factor. From `arena`. QN_E_MEMORY, QN_E_BUG. */
qn_code qn_span_metrics_fed(qn_span_metrics *out, const qn_ldl *l, uint32_t span, const qn_span_kern *kern, qn_arena *arena, qn_err *err) QN_MUST_CHECK;
/* Without: weight: (cols), NULL: all 1. Nothing is fed back. */
qn_code qn_span_metrics_plain(qn_span_metrics *out, const double *weight, uint32_t cols, uint32_t span, const qn_span_kern *kern, qn_arena *arena,
                              qn_err *err) QN_MUST_CHECK;

#endif
