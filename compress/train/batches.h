/* batches.h: batches of the feed through the model and back. Internal to compress/train/.
 *
 * Many graphs are made for one sample at a time. Where their operators do not mind, several of them run as one: samples one behind the other along the first
 * axis. Whether they mind is tried out: two batches together must give what each gives alone. */
#ifndef QN_COMPRESS_TRAIN_BATCHES_H
#define QN_COMPRESS_TRAIN_BATCHES_H

#include "analysis/grad/grad.h"
#include "compress/train/distill.h"

typedef enum qn_batches_mode {
    QN_BATCHES_TRAIN, /* derivatives of the loss are added up                                */
    QN_BATCHES_JUDGE, /* only the loss, at temperature 1                                     */
    QN_BATCHES_DRAW   /* derivatives for the curvature (qn_distill_draw); the loss is 0      */
} qn_batches_mode;

typedef struct qn_batches {
    const qn_env *env;
    const qn_graph *graph;
    const qn_calibrate_feed *feed;
    qn_teacher *teacher;
    qn_grad *grad;
    const int64_t *labels;     /* of all rows of the feed, or NULL     */
    uint64_t *first_row;       /* with labels: rows before each batch  */
    double temperature;
    uint64_t seed;             /* of the next draw                     */
    bool together;             /* several may run as one               */
} qn_batches;

/* Counts rows when there are labels (QN_E_INPUT when there are not as many), and tries whether batches run together. */
qn_code qn_batches_open(qn_batches *b, uint64_t n_labels, qn_err *err) QN_MUST_CHECK;
void qn_batches_close(qn_batches *b); /* zeroed is fine */
/* Batches list[0 … n), as one run where that is possible. *loss and *rows are added to. */
qn_code qn_batches_run(qn_batches *b, const uint64_t *list, uint32_t n, qn_batches_mode mode, double *loss, uint64_t *rows, qn_err *err) QN_MUST_CHECK;

#endif
