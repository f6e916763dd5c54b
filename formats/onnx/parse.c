/* parse.c: see parse.h. */
#include "formats/onnx/parse.h"
#include "base/err.h"
#include "base/num.h"
#include "base/path.h"

qn_code qn_onnx_take(qn_onnx_parse *p, uint64_t n, uint64_t size, void *pointer, qn_err *err)
{
    bool ovf = false;
    const uint64_t bytes = qn_mul(n, size, &ovf), used = p->arena->used_bytes;
    if (ovf || used > p->memory_max || bytes > p->memory_max - used)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "its structure takes more than %llu bytes of memory",
                       (unsigned long long)p->memory_max);
    void *q = qn_arena_get(p->arena, bytes, 8, err);
    if (!q)
        return QN_E_MEMORY;
    memset(q, 0, (size_t)bytes);
    memcpy(pointer, &q, sizeof q);
    return QN_OK;
}

qn_code qn_onnx_count(qn_onnx_parse *p, qn_wire_msg m, uint32_t n[QN_ONNX_FIELDS], qn_err *err)
{
    qn_wire_field f;
    bool more;
    memset(n, 0, QN_ONNX_FIELDS * sizeof *n);
    for (;;) {
        QN_TRY(qn_wire_next(&p->wire, &m, &f, &more, err));
        if (!more)
            return QN_OK;
        if (f.number >= QN_ONNX_FIELDS)
            continue;
        if (n[f.number] == UINT32_MAX)
            return QN_FAIL(err, QN_E_UNSUPPORTED, f.off, "more than 2^32 of one field");
        n[f.number]++;
    }
}

qn_code qn_onnx_expect(const qn_wire_field *f, qn_wire_type type, qn_err *err)
{
    if (f->type == type)
        return QN_OK;
    return QN_FAIL(err, QN_E_INPUT, f->off, "field %u: wire type %u found, %d expected", f->number, f->type, type);
}

qn_code qn_onnx_twice(const qn_wire_field *f, qn_err *err)
{
    return QN_FAIL(err, QN_E_INPUT, f->off, "field %u stands twice", f->number);
}

qn_code qn_onnx_changed(uint64_t off, qn_err *err)
{
    return QN_FAIL(err, QN_E_INPUT, off, "has changed while it was read");
}

qn_code qn_onnx_next_of(qn_onnx_parse *p, qn_wire_msg *m, uint32_t number, qn_wire_field *f, qn_err *err)
{
    bool more;
    do {
        QN_TRY(qn_wire_next(&p->wire, m, f, &more, err));
        if (!more)
            return qn_onnx_changed(m->at, err);
    } while (f->number != number);
    return QN_OK;
}

/* ---- names ---- */

static const char *string_of(const void *ctx, uint32_t item)
{
    return ((const qn_onnx_parse *)ctx)->strings[item];
}

static qn_code room_for_string(qn_onnx_parse *p, qn_err *err)
{
    const char **s = qn_mem_grow(p->alloc, p->strings, p->n_strings, &p->cap_strings, p->n_strings + 1, sizeof *s, err);
    if (!s)
        return QN_E_MEMORY;
    p->strings = s;
    if (p->n_strings + 1 < p->cap_slots)
        return QN_OK;
    if (p->n_strings >= UINT32_MAX / 4)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "more than 2^30 names");
    const uint64_t room = (p->n_strings + 64) * 2, n_slots = qn_names_slots(room);
    qn_name_slot *slots = qn_mem_zeros(p->alloc, n_slots, sizeof *slots, err);
    if (!slots)
        return QN_E_MEMORY;
    qn_mem_put(p->alloc, p->names.slots);
    qn_names_init(&p->names, slots, n_slots);
    p->cap_slots = room;
    for (uint64_t i = 0; i < p->n_strings; i++)
        (void)qn_names_add(&p->names, p->strings[i], (uint32_t)i, string_of, p);
    return QN_OK;
}

qn_code qn_onnx_intern(qn_onnx_parse *p, const char *s, const char **out, qn_err *err)
{
    const uint32_t at = qn_names_find(&p->names, s, string_of, p);
    char *own = NULL;
    if (at != QN_NAMES_NONE) {
        *out = p->strings[at];
        return QN_OK;
    }
    const size_t n = strlen(s);
    QN_TRY(room_for_string(p, err));
    QN_TRY(qn_onnx_take(p, n + 1, 1, &own, err));
    memcpy(own, s, n);
    p->strings[p->n_strings] = own;
    (void)qn_names_add(&p->names, own, (uint32_t)p->n_strings++, string_of, p);
    *out = own;
    return QN_OK;
}

qn_code qn_onnx_name(qn_onnx_parse *p, const qn_wire_field *f, const char **out, qn_err *err)
{
    QN_TRY(qn_onnx_expect(f, QN_WIRE_BYTES, err));
    if (f->n > QN_ONNX_NAME_BYTES_MAX)
        return QN_FAIL(err, QN_E_INPUT, f->off, "field %u: a name of %llu bytes, at most %d are allowed", f->number,
                       (unsigned long long)f->n, QN_ONNX_NAME_BYTES_MAX);
    QN_TRY(qn_wire_bytes(&p->wire, f->at, f->n, p->text, err));
    p->text[f->n] = '\0';
    if (memchr(p->text, 0, (size_t)f->n) || !qn_utf8_is_valid(p->text, (size_t)f->n))
        return QN_FAIL(err, QN_E_INPUT, f->off, "field %u: a name that is not UTF-8 or has a NUL inside", f->number);
    return qn_onnx_intern(p, p->text, out, err);
}

qn_code qn_onnx_name_list(qn_onnx_parse *p, qn_wire_msg m, uint32_t number, uint32_t n, const char *const **out, qn_err *err)
{
    const char **list = NULL;
    qn_wire_field f;
    QN_TRY(qn_onnx_take(p, n, sizeof *list, &list, err));
    *out = list;
    for (uint32_t i = 0; i < n; i++) {
        QN_TRY(qn_onnx_next_of(p, &m, number, &f, err));
        QN_TRY(qn_onnx_name(p, &f, &list[i], err));
    }
    return QN_OK;
}

/* ---- lists of numbers ---- */

/* Where a list goes: nowhere while it is counted, then into room for what was counted. */
struct numbers {
    int64_t *ints;
    float *floats;
    uint64_t n, room;
};

static qn_code put_number(struct numbers *l, uint64_t value, uint64_t off, qn_err *err)
{
    const uint64_t i = l->n++;
    if (!l->ints && !l->floats)
        return QN_OK;
    if (i >= l->room)
        return qn_onnx_changed(off, err);
    if (l->ints)
        l->ints[i] = (int64_t)value;
    else
        memcpy(&l->floats[i], &(uint32_t){(uint32_t)value}, 4);
    return QN_OK;
}

static qn_code put_packed(qn_onnx_parse *p, const qn_wire_field *f, qn_wire_type type, struct numbers *l, qn_err *err)
{
    uint64_t at = f->at, v;
    if (type == QN_WIRE_FIXED32 && f->n % 4)
        return QN_FAIL(err, QN_E_INPUT, f->off, "field %u: %llu bytes are no whole number of values", f->number,
                       (unsigned long long)f->n);
    while (at < f->at + f->n) {
        uint8_t b[4];
        if (type == QN_WIRE_VARINT) {
            QN_TRY(qn_wire_varint(&p->wire, &at, f->at + f->n, &v, err));
        } else {
            QN_TRY(qn_wire_bytes(&p->wire, at, 4, b, err));
            v = qn_load32(b);
            at += 4;
        }
        QN_TRY(put_number(l, v, f->off, err));
    }
    return QN_OK;
}

static qn_code number_list(qn_onnx_parse *p, qn_wire_msg m, uint32_t number, qn_wire_type type, struct numbers *l, qn_err *err)
{
    qn_wire_field f;
    bool more;
    for (l->n = 0;;) {
        QN_TRY(qn_wire_next(&p->wire, &m, &f, &more, err));
        if (!more)
            return l->n < l->room ? qn_onnx_changed(m.at, err) : QN_OK;
        if (f.number != number)
            continue;
        if (f.type == QN_WIRE_BYTES) {
            QN_TRY(put_packed(p, &f, type, l, err));
        } else {
            QN_TRY(qn_onnx_expect(&f, type, err));
            QN_TRY(put_number(l, f.value, f.off, err));
        }
    }
}

qn_code qn_onnx_ints(qn_onnx_parse *p, qn_wire_msg m, uint32_t number, const int64_t **out, uint64_t *n, qn_err *err)
{
    struct numbers l = {0};
    QN_TRY(number_list(p, m, number, QN_WIRE_VARINT, &l, err));
    QN_TRY(qn_onnx_take(p, l.n, sizeof *l.ints, &l.ints, err));
    *out = l.ints;
    *n = l.room = l.n;
    return number_list(p, m, number, QN_WIRE_VARINT, &l, err);
}

qn_code qn_onnx_floats(qn_onnx_parse *p, qn_wire_msg m, uint32_t number, const float **out, uint64_t *n, qn_err *err)
{
    struct numbers l = {0};
    QN_TRY(number_list(p, m, number, QN_WIRE_FIXED32, &l, err));
    QN_TRY(qn_onnx_take(p, l.n, sizeof *l.floats, &l.floats, err));
    *out = l.floats;
    *n = l.room = l.n;
    return number_list(p, m, number, QN_WIRE_FIXED32, &l, err);
}
