/* iq_work.h: what iq_tmpl.h works on. */
#ifndef QN_COMPRESS_BLOCKS_IQ_WORK_H
#define QN_COMPRESS_BLOCKS_IQ_WORK_H

#include "compress/blocks/iq.h"

enum { TABLE = 88, KEEP = 16 };
#define FAR 3e38f

typedef struct choice { /* of one unit */
    float cost;
    uint16_t index[2];
    uint8_t signs, below;
    float c[8];         /* in units of the scale */
} choice;

typedef struct work {
    const qn_iq_kind *k;
    const qn_iq_index *index;
    const qn_span_metric *m;
    const qn_iq_prepared *p;
    const float *t;
    bool plain;            /* as if nothing were fed back            */
    unsigned keep, rounds;
    float floor;           /* weight of a column that has none        */
    float d;               /* of f.d                                 */
    qn_iq_fields f;
    float r[QN_IQ_COLS], c[QN_IQ_COLS]; /* r = scale · c              */
    float g[QN_IQ_COLS], mt[QN_IQ_COLS]; /* M (t − r), M t             */
} work;

extern float qn_iq_tune[16];
#define QN_IQ_TUNE(i, v) (qn_iq_tune[i] != 0 ? qn_iq_tune[i] - 1 : (v))

void qn_iq_encode_c(const qn_iq_kind *k, const qn_span_metric *m, const float *t, uint8_t *block, float *r, void *scratch);

#endif
