/* codes_impl.h: how the readers of codes (codes.h) go through the chunks of a tensor. */
#ifndef QN_COMPRESS_EXPORT_CODES_IMPL_H
#define QN_COMPRESS_EXPORT_CODES_IMPL_H

#include "compress/export/codes.h"
#include "formats/quern/source.h"

/* One chunk: the payload of its rows, and which of them each row is. */
typedef struct qn_codes_view {
    unsigned codec;
    qn_block block;      /* of the innermost payload: cols are those of the matrix */
    const uint8_t *bytes;
    size_t n_bytes;
    const uint32_t *map; /* NULL: rows are as they lie */
    uint32_t rows;       /* of the chunk               */
    bool turned;
    unsigned depth;      /* for its decoder            */
} qn_codes_view;

/* What is needed to look at chunks. */
typedef struct qn_codes_eye {
    qn_reader *reader;
    qn_worker worker;
    qn_kern kern;
    qn_arena *scratch;
    qn_arena_mark mark;
} qn_codes_eye;

static inline qn_dec_ctx qn_codes_context(const qn_codes_eye *e, unsigned depth)
{
    return (qn_dec_ctx){.kern = &e->kern, .scratch = e->scratch, .depth = depth};
}

/* Rows [row0, row0 + n) of the tensor as a chunk has them: its rows from `from`, `n` of them, are the caller's from `to`; its columns begin at col0. */
typedef struct qn_codes_part {
    uint32_t from, to, n, col0;
} qn_codes_part;

typedef qn_code (*qn_codes_take_fn)(void *ctx, const qn_codes_eye *e, const qn_codes_view *v, const qn_codes_part *p, qn_err *err);
/* take() for every chunk that has some of rows [row0, row0 + n), in order. */
qn_code qn_codes_each(const qn_codes *c, uint64_t row0, uint32_t n, qn_codes_take_fn take, void *ctx, qn_arena *scratch, qn_err *err) QN_MUST_CHECK;

#endif
