/* feedback_impl.h: a segment while the engine works on it: what feedback.c (the pass) and polish.c (what comes after it) share. */
#ifndef QN_COMPRESS_FEEDBACK_IMPL_H
#define QN_COMPRESS_FEEDBACK_IMPL_H

#include "compress/feedback.h"

enum { QN_FEEDBACK_BLOCK = 128 };

typedef enum qn_feedback_way {
    QN_FEEDBACK_FED,     /* targets with feedback           */
    QN_FEEDBACK_NEAREST, /* every weight for itself         */
    QN_FEEDBACK_ZERO,    /* ŵ = 0: the layer's energy       */
    QN_FEEDBACK_GIVEN    /* ŵ is what r holds: its loss     */
} qn_feedback_way;

typedef struct qn_feedback_walk {
    const qn_feedback_job *j;
    qn_feedback_way way;
    uint32_t n, rows;
    float *w, *t; /* (n, rows): weights and targets by visit */
    float *e;     /* (block, rows): errors of the block      */
    float *r;     /* (n, rows): reconstruction               */
    qn_quant_layer plain; /* as the quantizer sees the layer when nothing is fed back: columns weigh what H says */
    void *state;
} qn_feedback_walk;

/* All columns once, the way that k->way says. *loss is exact for what k->r holds afterwards. */
qn_code qn_feedback_run(qn_feedback_walk *k, double *loss, qn_err *err) QN_MUST_CHECK;

/* polish.c: up to j->sweeps sweeps over a segment that was walked with feedback and finished: payload, *n_out and *loss are
 * what finish and the walk gave, and stay or become those of a better one, k->r with them. */
qn_code qn_feedback_polish(qn_feedback_walk *k, uint8_t *payload, size_t cap, size_t *n_out, double *loss, qn_arena *scratch,
                           qn_err *err) QN_MUST_CHECK;

#endif
