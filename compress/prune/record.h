/* record.h: what was cut, as JSON: written into the pruned checkpoint, so that adapters can be cut the same way and a cut can be audited. */
#ifndef QN_COMPRESS_PRUNE_RECORD_H
#define QN_COMPRESS_PRUNE_RECORD_H

#include "analysis/groups/cut.h"

/* {"program", "families": [{"name", "kind", "groups", "kept"}], "kept": {WEIGHT: {AXIS: [index, …]}}}: only axes that lose something, runs of indices as
 * [first, last]. Freed with qn_mem_put. */
qn_code qn_prune_record(const qn_env *env, const qn_cut *c, char **out, qn_err *err) QN_MUST_CHECK;

#endif
