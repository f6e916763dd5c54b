/* coded.h: what tests of quantizers share: made matrices, one segment through a quantizer, and the check that its payload decodes to what
 * was promised, by the library under every CPU variant and by a second decoder that the test brings. */
#ifndef QN_TESTS_CODED_H
#define QN_TESTS_CODED_H

#include "base/num.h"
#include "compress/feedback.h"
#include "tests/support/testkit.h"

typedef struct qt_coded {
    unsigned codec;
    uint8_t *payload;
    size_t n_bytes, cap;
    float *recon; /* (rows, cols): what the quantizer promised */
    bool rounded; /* … already rounded to t                    */
    uint32_t rows, cols;
    qn_dtype t;
    qn_feedback_loss loss; /* where the engine made it */
} qt_coded;

/* Room for rows × cols weights, nothing in it yet. */
qt_coded qt_coded_room(unsigned codec, qn_dtype t, uint32_t rows, uint32_t cols);
void qt_coded_free(qt_coded *c);

/* w (rows, cols) through the quantizer of the codec's name, column by column from the last, nothing fed back; weight by column or NULL. */
qt_coded qt_coded_columns(unsigned codec, const qn_quant_settings *set, qn_dtype t, uint32_t rows, uint32_t cols, const float *w,
                          const double *weight, unsigned cpu);

/* Normal weights of 0.02, by kind: 0 plain; 1 rows of uneven size, every fifth column `low` of the others, outliers; 2 zero columns and rows;
 * 3 all zero. Freed by the caller. */
float *qt_coded_weights(qt_rng *r, uint32_t rows, uint32_t cols, unsigned kind, double low);

qn_code qt_decode(unsigned codec, unsigned cpu, const qn_block *b, const uint8_t *p, size_t n, uint8_t *dst, qn_err *err);
/* The nested payload at the cursor. */
void qt_decode_nested(qn_cur *c, qn_dtype t, uint32_t n, uint8_t *dst);

/* `slow` fills (rows, cols) in f32, not rounded to t. A payload that is a byte shorter must be refused. */
void qt_coded_check(const qt_coded *c, void (*slow)(const qt_coded *c, float *dst));
/* Refused, with these words in the message. */
void qt_coded_refused(unsigned codec, const uint8_t *p, size_t n, const qn_block *b, const char *what);

#endif
