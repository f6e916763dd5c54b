/* fast_stream.h: a *symbol stream*: how n symbols with a skewed distribution are stored by the fast
 * codec.
 *
 * The block's exponents are one; the exponents too rare for its table (escapes) are another, nested
 * in it. Layout: docs/codecs/fast.md. */
#ifndef QN_RUNTIME_FAST_STREAM_H
#define QN_RUNTIME_FAST_STREAM_H

#include "base/alloc.h"
#include "runtime/kern_fast.h"

/* Low four bits of the head byte: log2 of the number of streams, or one of these two. */
#define QN_FAST_CONST  14   /* one byte follows: every symbol is this                         */
#define QN_FAST_STORED 15   /* n bytes follow; only where a stream is nested                  */
#define QN_FAST_ORDER  0x10 /* head flag: slot order is stated, otherwise ascending, escape last */
#define QN_FAST_ESC    0x20 /* head flag: there is an escape symbol and a nested stream        */
/* Escapes of escapes of …: a valid stream ends by STORED at this depth. */
#define QN_FAST_DEPTH 4

typedef struct qn_fast_stream {
    unsigned mode; /* QN_FAST_CONST, QN_FAST_STORED, or 0: coded */
    uint8_t constant;
    const uint8_t *stored;
    qn_fast_tab tab;
    qn_fast_state
        st; /* ready for the first weight; st.end may be moved up to the end of what is readable */
    const uint8_t *code_end; /* st.p must be here at the end                                    */
} qn_fast_stream;

/* Raw bytes that ride in the encoder's first states: 12 bits a stream. */
static inline unsigned qn_fast_carry_bytes(unsigned n_streams)
{
    return n_streams + n_streams / 2;
}

/* Parses a stream of n symbols < n_values at p[0 … n_bytes), its code being what is left of n_bytes
 * − n_behind. */
qn_code qn_fast_stream_open(const qn_kern_fast *kern, qn_fast_stream *s, size_t n,
                            unsigned n_values, const uint8_t *p, size_t n_bytes, size_t n_behind,
                            unsigned depth, qn_arena *scratch, qn_err *err) QN_MUST_CHECK;

/* All n symbols of a stream that carries nothing, one byte each, in *sym (scratch or the payload
 * itself). */
qn_code qn_fast_stream_all(const qn_kern_fast *kern, size_t n, unsigned n_values, const uint8_t *p,
                           size_t n_bytes, size_t n_behind, unsigned depth, qn_arena *scratch,
                           const uint8_t **sym, qn_err *err) QN_MUST_CHECK;

/* After the last symbol: code and escapes used up exactly, and every state one that an encoder
 * starts from. carry (qn_fast_carry_bytes) receives what rode in the states. */
qn_code qn_fast_stream_close(const qn_fast_stream *s, uint8_t *carry, qn_err *err) QN_MUST_CHECK;

#endif
