/* write_impl.h: a writer's inside, shared by write.c (what is appended) and partial.c (where it goes). */
#ifndef QN_ANALYSIS_STATS_WRITE_IMPL_H
#define QN_ANALYSIS_STATS_WRITE_IMPL_H

#include "analysis/stats/write.h"

enum { QN_STATS_BUF_BYTES = 1 << 20 };

struct qn_stats_writer {
    const qn_env *env;
    qn_stats_write_options opt;
    char *path, *partial; /* owned */
    qn_file file;
    bool ours;            /* what has the partial's name may be removed by us */
    bool failed, finished;
    qn_arena arena;       /* meta, names */
    qn_stats_meta meta;
    uint32_t n_done, n_done_before;
    uint64_t prev_end;    /* of the last segment                */
    uint64_t at;          /* where buf goes in the file         */
    uint8_t *buf;
    uint64_t buf_used;
    qn_hasher hash;
    qn_stats_input *inputs; /* of this segment */
    uint64_t n_inputs, cap_inputs;
    qn_stats_cost *costs;   /* the same */
    uint64_t n_costs, cap_costs;
    const char **keys;    /* of all segments, for `names` */
    uint64_t n_keys, cap_keys;
    qn_names names;
    qn_name_slot *slots;
    uint64_t n_slots;
};

/* Finds or makes the partial: afterwards the file is open and locked, and the writer stands behind what it holds. */
qn_code qn_stats_writer_open_partial(qn_stats_writer *w, qn_err *err) QN_MUST_CHECK;
/* QN_E_USAGE when model, tokenizer or settings are not the writer's. */
qn_code qn_stats_writer_same_run(const qn_stats_writer *w, const qn_stats_meta *m, qn_err *err) QN_MUST_CHECK;
/* Remembers a name; QN_E_USAGE when it is there. */
qn_code qn_stats_writer_add_key(qn_stats_writer *w, const char *name, uint32_t expert, qn_err *err) QN_MUST_CHECK;

#endif
