/* enc_pvq.h: what the two quantizers of the pvq codec share: of classes, in enc_pvq.c, and of shells, in enc_pvq_shells.c. */
#ifndef QN_COMPRESS_ENC_PVQ_H
#define QN_COMPRESS_ENC_PVQ_H

#include "compress/quantizer.h"

typedef struct qn_pvq_settings {
    double bits;
} qn_pvq_settings;

extern const qn_quant_ops qn_pvq_shells_ops;

#endif
