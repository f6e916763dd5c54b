/* gguf_rope.h: rotary positions of a folder, as keys and tensors of a GGUF file. */
#ifndef QN_COMPRESS_EXPORT_GGUF_ROPE_H
#define QN_COMPRESS_EXPORT_GGUF_ROPE_H

#include "compress/export/gguf_impl.h"

typedef struct qn_ggx_rope_of {
    double theta, partial;  /* what the class has where the file says nothing            */
    const char *theta_key;
    const char *layer_type; /* of rope_parameters by layer type; NULL: any                */
    bool local;             /* of sliding layers (gemma 3): no scaling, a key of its own    */
    uint64_t max_positions;
} qn_ggx_rope_of;

/* Keys rope.*, and tensors rope_freqs (llama 3) or rope_factors_long and rope_factors_short (longrope). QN_E_UNSUPPORTED: a kind of scaling that llama.cpp does not
 * have, or not in this form. */
qn_code qn_ggx_rope(qn_ggx *x, const qn_ggx_rope_of *r, qn_err *err) QN_MUST_CHECK;

#endif
