/* rope.c: see rope.h. */
#include "formats/onnx/rope.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "formats/wire/wire.h"

enum { HEAD_BYTES = 20 };

static qn_code append(qn_onnx_rope *r, qn_onnx_piece p, qn_err *err)
{
    bool ovf = false;
    const uint64_t n = qn_add(r->n, p.n, &ovf);
    qn_onnx_piece *own = qn_arena_get(r->arena, sizeof *own, 8, err);
    if (!own)
        return QN_E_MEMORY;
    if (ovf)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the model would be longer than files can be");
    *own = p;
    if (r->last)
        r->last->next = own;
    else
        r->first = own;
    r->last = own;
    r->n = n;
    return QN_OK;
}

qn_code qn_onnx_rope_copy(qn_onnx_rope *r, uint64_t at, uint64_t n, qn_err *err)
{
    if (r->last && r->last->kind == QN_ONNX_PIECE_COPY && r->last->at + r->last->n == at) {
        r->last->n += n;
        r->n += n;
        return QN_OK;
    }
    return n ? append(r, (qn_onnx_piece){.kind = QN_ONNX_PIECE_COPY, .at = at, .n = n}, err) : QN_OK;
}

qn_code qn_onnx_rope_bytes(qn_onnx_rope *r, const void *p, uint64_t n, qn_err *err)
{
    r->changed = true;
    if (n == 0)
        return QN_OK;
    uint8_t *own = qn_arena_get(r->arena, n, 1, err);
    if (!own)
        return QN_E_MEMORY;
    memcpy(own, p, (size_t)n);
    return append(r, (qn_onnx_piece){.kind = QN_ONNX_PIECE_BYTES, .bytes = own, .n = n}, err);
}

/* Tag, and the length of what follows. */
static qn_code head(qn_onnx_rope *r, uint32_t field, uint64_t n, qn_err *err)
{
    uint8_t b[HEAD_BYTES];
    size_t len = qn_put_varint(b, (uint64_t)field << 3 | QN_WIRE_BYTES);
    len += qn_put_varint(b + len, n);
    return qn_onnx_rope_bytes(r, b, len, err);
}

qn_code qn_onnx_rope_content(qn_onnx_rope *r, uint32_t field, const qn_onnx_content *c, qn_err *err)
{
    QN_TRY(head(r, field, c->n_bytes, err));
    return append(r, (qn_onnx_piece){.kind = QN_ONNX_PIECE_CONTENT, .content = c, .n = c->n_bytes}, err);
}

qn_code qn_onnx_rope_varint(qn_onnx_rope *r, uint32_t field, uint64_t v, qn_err *err)
{
    uint8_t b[HEAD_BYTES];
    size_t len = qn_put_varint(b, (uint64_t)field << 3 | QN_WIRE_VARINT);
    len += qn_put_varint(b + len, v);
    return qn_onnx_rope_bytes(r, b, len, err);
}

qn_code qn_onnx_rope_float(qn_onnx_rope *r, uint32_t field, float v, qn_err *err)
{
    uint8_t b[HEAD_BYTES];
    const size_t len = qn_put_varint(b, (uint64_t)field << 3 | QN_WIRE_FIXED32);
    qn_store32(b + len, qn_f32_bits(v));
    return qn_onnx_rope_bytes(r, b, len + 4, err);
}

qn_code qn_onnx_rope_text(qn_onnx_rope *r, uint32_t field, const char *s, qn_err *err)
{
    const size_t n = strlen(s);
    QN_TRY(head(r, field, n, err));
    return qn_onnx_rope_bytes(r, s, n, err);
}

qn_code qn_onnx_rope_message(qn_onnx_rope *r, uint32_t field, const qn_onnx_rope *sub, qn_err *err)
{
    bool ovf = false;
    QN_TRY(head(r, field, sub->n, err));
    if (!sub->first)
        return QN_OK;
    r->last->next = sub->first; /* there is a last one: the head */
    r->last = sub->last;
    r->n = qn_add(r->n, sub->n, &ovf);
    return ovf ? QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the model would be longer than files can be") : QN_OK;
}
