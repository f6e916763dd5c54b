/* emit_config.h: config.json after a cut. */
#ifndef QN_COMPRESS_PRUNE_EMIT_CONFIG_H
#define QN_COMPRESS_PRUNE_EMIT_CONFIG_H

#include "compress/prune/emit_plan.h"

/* The source's config.json with the plan's numbers; everything else stays as it stands there. out: empty, with its allocator. */
qn_code qn_emit_config(qn_emit_plan *p, qn_textbuf *out, qn_err *err) QN_MUST_CHECK;

#endif
