/* wire.c: see wire.h. */
#include "formats/wire/wire.h"
#include "base/err.h"
#include "base/num.h"

enum { VARINT_BYTES_MAX = 10, FIELD_BITS = 29 };

void qn_wire_init(qn_wire *w, qn_wire_read_fn read, void *ctx, uint64_t n_bytes, uint8_t *window, uint64_t window_bytes)
{
    *w = (qn_wire){.read = read, .ctx = ctx, .n_bytes = n_bytes, .window = window, .window_bytes = window_bytes};
}

qn_wire_msg qn_wire_whole(const qn_wire *w)
{
    return (qn_wire_msg){.at = 0, .end = w->n_bytes};
}

/* Pointer to n ≤ QN_WIRE_WINDOW_MIN bytes at off, which lie inside the file; valid until the next call. */
static qn_code look(qn_wire *w, uint64_t off, uint64_t n, const uint8_t **p, qn_err *err)
{
    if (off < w->from || off - w->from > w->n_held || n > w->n_held - (off - w->from)) {
        const uint64_t take = qn_min_u64(w->window_bytes, w->n_bytes - off);
        w->n_held = 0;
        QN_TRY(w->read(w->ctx, w->window, take, off, err));
        w->from = off;
        w->n_held = take;
    }
    *p = w->window + (off - w->from);
    return QN_OK;
}

qn_code qn_wire_varint(qn_wire *w, uint64_t *at, uint64_t end, uint64_t *v, qn_err *err)
{
    const uint64_t left = qn_min_u64(VARINT_BYTES_MAX, end - *at);
    const uint8_t *p;
    uint64_t r = 0;
    if (left == 0)
        return QN_FAIL(err, QN_E_INPUT, *at, "a varint is missing where the message ends");
    QN_TRY(look(w, *at, left, &p, err));
    for (uint64_t i = 0; i < left; i++) {
        if (i == VARINT_BYTES_MAX - 1 && p[i] > 1)
            return QN_FAIL(err, QN_E_INPUT, *at, "a varint of more than %d bytes or 64 bits", VARINT_BYTES_MAX);
        r |= (uint64_t)(p[i] & 0x7f) << 7 * i;
        if (!(p[i] & 0x80)) {
            *at += i + 1;
            *v = r;
            return QN_OK;
        }
    }
    return QN_FAIL(err, QN_E_INPUT, *at, "a varint is cut by the end of its message");
}

/* Payload of a fixed field: type 1 or 5. */
static qn_code fixed(qn_wire *w, const qn_wire_msg *m, qn_wire_field *f, qn_err *err)
{
    const uint8_t *p;
    f->n = f->type == QN_WIRE_FIXED64 ? 8 : 4;
    if (f->n > m->end - f->at)
        return QN_FAIL(err, QN_E_INPUT, f->off, "field %u: %llu bytes long, %llu are left in its message", f->number,
                       (unsigned long long)f->n, (unsigned long long)(m->end - f->at));
    QN_TRY(look(w, f->at, f->n, &p, err));
    f->value = f->n == 8 ? qn_load64(p) : qn_load32(p);
    return QN_OK;
}

qn_code qn_wire_next(qn_wire *w, qn_wire_msg *m, qn_wire_field *f, bool *more, qn_err *err)
{
    uint64_t tag;
    *more = m->at < m->end;
    if (!*more)
        return QN_OK;
    *f = (qn_wire_field){.off = m->at, .at = m->at};
    QN_TRY(qn_wire_varint(w, &f->at, m->end, &tag, err));
    if (tag >> 3 == 0 || tag >> 3 >> FIELD_BITS)
        return QN_FAIL(err, QN_E_INPUT, f->off, "field number %llu: 1 to 2^29 - 1 are allowed", (unsigned long long)(tag >> 3));
    f->number = (uint32_t)(tag >> 3);
    f->type = tag & 7;
    switch (f->type) {
    case QN_WIRE_VARINT: {
        uint64_t at = f->at;
        QN_TRY(qn_wire_varint(w, &at, m->end, &f->value, err));
        f->n = at - f->at;
        break;
    }
    case QN_WIRE_FIXED64:
    case QN_WIRE_FIXED32:
        QN_TRY(fixed(w, m, f, err));
        break;
    case QN_WIRE_BYTES:
        QN_TRY(qn_wire_varint(w, &f->at, m->end, &f->n, err));
        if (f->n > m->end - f->at)
            return QN_FAIL(err, QN_E_INPUT, f->off, "field %u: %llu bytes long, %llu are left in its message", f->number,
                           (unsigned long long)f->n, (unsigned long long)(m->end - f->at));
        break;
    default:
        return QN_FAIL(err, QN_E_INPUT, f->off, "field %u: wire type %u, a %s", f->number, f->type,
                       f->type < 5 ? "group, which no model needs" : "type that does not exist");
    }
    m->at = f->at + f->n;
    return QN_OK;
}

qn_code qn_wire_enter(const qn_wire_msg *m, const qn_wire_field *f, qn_wire_msg *sub, qn_err *err)
{
    if (f->type != QN_WIRE_BYTES)
        return QN_FAIL(err, QN_E_INPUT, f->off, "field %u: wire type %u where a message is expected", f->number, f->type);
    if (m->depth == QN_WIRE_DEPTH_MAX)
        return QN_FAIL(err, QN_E_INPUT, f->off, "messages nested deeper than %d", QN_WIRE_DEPTH_MAX);
    *sub = (qn_wire_msg){.at = f->at, .end = f->at + f->n, .depth = m->depth + 1};
    return QN_OK;
}

qn_code qn_wire_bytes(qn_wire *w, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    const uint8_t *p;
    if (n > w->window_bytes / 2)
        return w->read(w->ctx, dst, n, off, err);
    if (n == 0)
        return QN_OK;
    QN_TRY(look(w, off, n, &p, err));
    memcpy(dst, p, (size_t)n);
    return QN_OK;
}
