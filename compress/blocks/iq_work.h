/* iq_work.h: what iq_tmpl.h works on. */
#ifndef QN_COMPRESS_BLOCKS_IQ_WORK_H
#define QN_COMPRESS_BLOCKS_IQ_WORK_H

#include "compress/blocks/iq.h"

enum { TABLE = 96, QN_IQ_NONE = 255 };
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
    bool again;            /* scale codes start from what they are      */
    unsigned wide;
    float floor;           /* weight of a column that has none        */
    float d;               /* of f.d                                 */
    qn_iq_fields f;
    float r[QN_IQ_COLS], c[QN_IQ_COLS]; /* r = scale · c              */
    float g[QN_IQ_COLS], mt[QN_IQ_COLS]; /* M (t − r), M t             */
} work;

void qn_iq_encode_c(const qn_iq_kind *k, const qn_span_metric *m, const float *t, uint8_t *block, float *r, void *scratch);
#if defined(__x86_64__) && defined(__GNUC__)
void qn_iq_encode_avx2(const qn_iq_kind *k, const qn_span_metric *m, const float *t, uint8_t *block, float *r, void *scratch);
void qn_iq_encode_avx512(const qn_iq_kind *k, const qn_span_metric *m, const float *t, uint8_t *block, float *r, void *scratch);
#endif

#endif
