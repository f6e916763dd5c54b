/* pickle_input.h: the bytes of a pickle, in order, through a small buffer: how long it is shows only at its end. */
#ifndef QN_FORMATS_TORCH_PICKLE_INPUT_H
#define QN_FORMATS_TORCH_PICKLE_INPUT_H

#include "base/err.h"
#include "base/num.h"
#include "formats/torch/pickle.h"

typedef struct qn_pk_input {
    uint64_t next, end; /* in the file: what is not in the buffer yet   */
    size_t n, at;       /* bytes in the buffer, and how many were taken */
    uint8_t buf[32 << 10];
} qn_pk_input;

static inline uint64_t qn_pk_at(const qn_pickle *p)
{
    return p->in->next - (p->in->n - p->in->at);
}

static inline uint64_t qn_pk_left(const qn_pickle *p)
{
    return p->in->end - qn_pk_at(p);
}

/* Exactly n bytes to dst; NULL: they are skipped. */
static inline qn_code qn_pk_take(qn_pickle *p, void *dst, uint64_t n, qn_err *err)
{
    qn_pk_input *in = p->in;
    uint8_t *d = dst;
    if (n > qn_pk_left(p))
        return QN_FAIL(err, QN_E_INPUT, qn_pk_at(p), "pickle ends early: %llu bytes wanted, %llu left", (unsigned long long)n,
                       (unsigned long long)qn_pk_left(p));
    for (;;) {
        const size_t have = (size_t)qn_min_u64(n, in->n - in->at);
        if (d && have) {
            memcpy(d, in->buf + in->at, have);
            d += have;
        }
        in->at += have;
        n -= have;
        if (n == 0)
            return QN_OK;
        in->n = in->at = 0;
        if (!d && n > sizeof in->buf) { /* no need to see what is skipped */
            in->next += n;
            return QN_OK;
        }
        const size_t more = (size_t)qn_min_u64(sizeof in->buf, in->end - in->next);
        QN_TRY(p->read(p->ctx, in->buf, more, in->next, err));
        in->next += more;
        in->n = more;
    }
}

#endif
