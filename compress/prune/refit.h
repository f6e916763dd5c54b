/* refit.h: one unit's weights after groups went: refitted on most rows, judged on the others, made of all. */
#ifndef QN_COMPRESS_PRUNE_REFIT_H
#define QN_COMPRESS_PRUNE_REFIT_H

#include "compress/prune/repair_impl.h"

typedef struct qn_refitted {
    double before, after; /* on the rows held out, relative to the outputs; equal when nothing was changed */
    bool better;
} qn_refitted;

/* gone: per column. The weights in w change only when the rows held out say so. With o->refit false errors are measured and nothing changes. */
qn_code qn_refit_unit(const qn_unit *u, const qn_repair_options *o, const uint8_t *gone, qn_overlay *w, qn_refitted *out, qn_err *err) QN_MUST_CHECK;

#endif
