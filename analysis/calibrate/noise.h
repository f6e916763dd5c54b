/* noise.h: an error of a given size for one weight, as error feedback would leave it; see sensitivity.h. */
#ifndef QN_ANALYSIS_CALIBRATE_NOISE_H
#define QN_ANALYSIS_CALIBRATE_NOISE_H

#include "analysis/exec/exec.h"
#include "analysis/stats/file.h"

/* H of one input, prepared. */
typedef struct qn_noise {
    const qn_env *env;
    uint32_t input, n; /* of the file: UINT32_MAX: none yet; columns */
    uint32_t n_live;   /* columns that ever were other than zero     */
    double *factor;    /* (n, n), lower: H + damping = L Lᵀ, dead columns cut off; NULL: only the diagonal is used */
    double *root;      /* n: √H_jj, 0 for a dead column              */
} qn_noise;

/* Of input `input` of f; nothing is done when it is that already. QN_E_MEMORY, or what reading gives. */
qn_code qn_noise_prepare(qn_noise *s, const qn_stats_file *f, uint32_t input, qn_err *err) QN_MUST_CHECK;
void qn_noise_release(qn_noise *s);

/* Adds to w an error E with tr(E H' Eᵀ) = share · tr(W H' Wᵀ), the same for equal seeds. w: (rows, cols) as stored, (out, in), or (in, out) when
 * `in_out`; `in` is the prepared number of columns. *added = false, and w as it was: the layer puts out nothing but zeros. */
qn_code qn_noise_add(const qn_noise *s, qn_exec *x, float *w, uint64_t rows, uint64_t cols, bool in_out, uint64_t seed, double share,
                     bool *added, qn_err *err) QN_MUST_CHECK;

#endif
