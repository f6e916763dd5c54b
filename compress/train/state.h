/* state.h: everything that a training run goes on from, and the file that it is kept in. Internal to compress/train/.
 *
 * File, little-endian: magic "QNTRAIN1" │ key 16 │ step u32 │ best step u32 │ n weights u32 │ judged u32 │ best loss f64 │ first judgement f64 │ 40 losses f64 │
 * state bytes u64 │ the hooks' state │ per weight: w, m, v, best, f32 each │ XXH3-128 of all before. Written under another name and then renamed: a cut
 * leaves the last good one. */
#ifndef QN_COMPRESS_TRAIN_STATE_H
#define QN_COMPRESS_TRAIN_STATE_H

#include "base/hash.h"
#include "compress/train/train.h"

enum { QN_TRAIN_RECENT = 20 };

typedef struct qn_train_state {
    const qn_env *env;
    uint32_t n_weights, step, best_step, judged; /* judged: 1 once a state has counted */
    const uint32_t *values;
    uint64_t *elems;
    float **w;               /* the overlay's         */
    float **m, **v, **best;  /* owned                 */
    double best_loss, before;
    double first[QN_TRAIN_RECENT], recent[QN_TRAIN_RECENT]; /* losses of the first steps; of the last ones, by step mod 20 */
} qn_train_state;

qn_code qn_train_state_open(const qn_env *env, const qn_graph *g, qn_overlay *w, const qn_train_options *o, qn_train_state *s, qn_err *err) QN_MUST_CHECK;
void qn_train_state_close(qn_train_state *s); /* zeroed is fine */
/* The weights are now the best that were seen. */
void qn_train_state_keep(qn_train_state *s);
/* And back. */
void qn_train_state_restore(qn_train_state *s);

/* *there false: no file, or one of another run (it will be written over), or a damaged one. */
qn_code qn_train_state_load(qn_train_state *s, const char *path, const qn_digest *key, void *state, uint64_t state_bytes, bool *there,
                            qn_err *err) QN_MUST_CHECK;
qn_code qn_train_state_save(const qn_train_state *s, const char *path, const qn_digest *key, const void *state, uint64_t state_bytes, qn_err *err) QN_MUST_CHECK;

#endif
