/* depth_impl.h: what the files of depth share. */
#ifndef QN_COMPRESS_PRUNE_DEPTH_IMPL_H
#define QN_COMPRESS_PRUNE_DEPTH_IMPL_H

#include "compress/prune/depth.h"
#include "compress/prune/emit_plan.h"

/* Runs the graph over a feed for what the taps see of it. */
qn_code qn_depth_run(const qn_env *env, const qn_graph *g, const qn_calibrate_feed *feed, const qn_exec_options *o, qn_err *err) QN_MUST_CHECK;

#endif
