/* get.c (gguf): values of keys; see gguf.h. Nothing is handed out that the file alone vouches for: types, signs and lengths are
 * compared with what is asked. */
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "formats/gguf/gguf.h"
#include <string.h>

static qn_code other(const qn_gguf_key *key, const char *want, qn_err *err)
{
    char shown[64];
    qn_printable(shown, sizeof shown, key->name, strlen(key->name));
    const bool array = key->type == QN_GGUF_ARRAY;
    return QN_FAIL(err, QN_E_INPUT, key->off, "key '%s' is %s%s: %s is expected", shown, array ? "an array of " : "",
                   qn_gguf_type_name(array ? key->elem : key->type), want);
}

static qn_code find(const qn_gguf *g, const char *name, const qn_gguf_key **key, qn_err *err)
{
    *key = qn_gguf_find(g, name);
    return *key ? QN_OK : QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "key '%s' is missing", name);
}

/* An integer's bits, extended to 64 by its sign; *negative: it is below zero. False: no integer. */
static bool integer(unsigned type, const uint8_t b[8], uint64_t *v, bool *negative)
{
    const uint64_t raw = qn_load64(b);
    int64_t s = 0;
    *v = raw;
    switch (type) {
    case QN_GGUF_U8:
        *v = raw & 0xff;
        break;
    case QN_GGUF_U16:
        *v = raw & 0xffff;
        break;
    case QN_GGUF_U32:
        *v = raw & 0xffffffff;
        break;
    case QN_GGUF_U64:
        break;
    case QN_GGUF_I8:
        s = (int8_t)(uint8_t)raw, *v = (uint64_t)s;
        break;
    case QN_GGUF_I16:
        s = (int16_t)(uint16_t)raw, *v = (uint64_t)s;
        break;
    case QN_GGUF_I32:
        s = (int32_t)(uint32_t)raw, *v = (uint64_t)s;
        break;
    case QN_GGUF_I64:
        s = (int64_t)raw;
        break;
    default:
        return false;
    }
    *negative = s < 0;
    return true;
}

static unsigned width(unsigned type)
{
    static const uint8_t n[QN_GGUF_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return n[type];
}

static qn_code scalar(const qn_gguf *g, const qn_gguf_key *key, uint8_t b[8], qn_err *err)
{
    memset(b, 0, 8);
    return g->read(g->ctx, b, width(key->type), key->off, err);
}

static qn_code get_integer(const qn_gguf *g, const char *name, const char *want, bool is_signed, uint64_t *v, qn_err *err)
{
    const qn_gguf_key *key;
    uint8_t b[8];
    bool negative = false;
    QN_TRY(find(g, name, &key, err));
    if (key->type == QN_GGUF_STR || key->type == QN_GGUF_ARRAY)
        return other(key, want, err);
    QN_TRY(scalar(g, key, b, err));
    if (!integer(key->type, b, v, &negative))
        return other(key, want, err);
    if (is_signed ? !negative && *v > INT64_MAX : negative)
        return QN_FAIL(err, QN_E_INPUT, key->off, "key '%s' is out of range: %s is expected", name, want);
    return QN_OK;
}

qn_code qn_gguf_get_u64(const qn_gguf *g, const char *name, uint64_t *out, qn_err *err)
{
    return get_integer(g, name, "an integer from 0", false, out, err);
}

qn_code qn_gguf_get_i64(const qn_gguf *g, const char *name, int64_t *out, qn_err *err)
{
    uint64_t v = 0;
    QN_TRY(get_integer(g, name, "an integer below 2^63", true, &v, err));
    *out = (int64_t)v;
    return QN_OK;
}

qn_code qn_gguf_get_f64(const qn_gguf *g, const char *name, double *out, qn_err *err)
{
    const qn_gguf_key *key;
    uint8_t b[8];
    QN_TRY(find(g, name, &key, err));
    if (key->type != QN_GGUF_F32 && key->type != QN_GGUF_F64)
        return other(key, "a float", err);
    QN_TRY(scalar(g, key, b, err));
    return qn_widen(key->type == QN_GGUF_F32 ? QN_F32 : QN_F64, b, 1, out, err);
}

qn_code qn_gguf_get_bool(const qn_gguf *g, const char *name, bool *out, qn_err *err)
{
    const qn_gguf_key *key;
    uint8_t b[8];
    QN_TRY(find(g, name, &key, err));
    if (key->type != QN_GGUF_BOOL)
        return other(key, "bool", err);
    QN_TRY(scalar(g, key, b, err));
    *out = b[0] != 0;
    return QN_OK;
}

qn_code qn_gguf_get_str(const qn_gguf *g, const char *name, char *buf, size_t cap, qn_err *err)
{
    const qn_gguf_key *key;
    QN_TRY(find(g, name, &key, err));
    if (key->type != QN_GGUF_STR)
        return other(key, "string", err);
    if (key->n >= cap)
        return QN_FAIL(err, QN_E_INPUT, key->off, "key '%s' is a string of %llu bytes: fewer than %zu are expected", name,
                       (unsigned long long)key->n, cap);
    QN_TRY(g->read(g->ctx, buf, key->n, key->off, err));
    buf[key->n] = '\0';
    if (strlen(buf) != key->n)
        return QN_FAIL(err, QN_E_INPUT, key->off, "key '%s' is a string with a NUL inside", name);
    return QN_OK;
}

static qn_code find_array(const qn_gguf *g, const char *name, qn_gguf_type elem, const qn_gguf_key **key, qn_err *err)
{
    char want[32] = "an array of ";
    QN_TRY(find(g, name, key, err));
    if ((*key)->type == QN_GGUF_ARRAY && (*key)->elem == elem)
        return QN_OK;
    memcpy(want + 12, qn_gguf_type_name(elem), strlen(qn_gguf_type_name(elem)) + 1);
    return other(*key, want, err);
}

qn_code qn_gguf_get_array(const qn_gguf *g, const char *name, qn_gguf_type elem, uint64_t *n, qn_err *err)
{
    const qn_gguf_key *key;
    QN_TRY(find_array(g, name, elem, &key, err));
    *n = key->n;
    return QN_OK;
}

qn_code qn_gguf_get_elems(const qn_gguf *g, const char *name, qn_gguf_type elem, uint64_t first, uint64_t n, void *dst,
                          qn_err *err)
{
    const qn_gguf_key *key;
    QN_TRY(find_array(g, name, elem, &key, err));
    if (width(elem) == 0 || first > key->n || n > key->n - first)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "elements %llu + %llu of key '%s' wanted, it has %llu",
                       (unsigned long long)first, (unsigned long long)n, name, (unsigned long long)key->n);
    return n ? g->read(g->ctx, dst, n * width(elem), key->off + first * width(elem), err) : QN_OK;
}

qn_code qn_gguf_strings_begin(qn_gguf_strings *it, const qn_gguf *g, const char *name, uint64_t *n, qn_err *err)
{
    const qn_gguf_key *key;
    QN_TRY(find_array(g, name, QN_GGUF_STR, &key, err));
    qn_gguf_in_begin(&it->in, g, key->off);
    it->name = key->name;
    it->n_left = *n = key->n;
    return QN_OK;
}

qn_code qn_gguf_strings_next(qn_gguf_strings *it, char *buf, size_t cap, size_t *n, qn_err *err)
{
    const uint64_t at = it->in.at;
    uint64_t len;
    if (it->n_left == 0)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "key '%s' has no more strings", it->name);
    QN_TRY(qn_gguf_in_u64(&it->in, &len, "length of a string", err));
    if (len >= cap)
        return QN_FAIL(err, QN_E_INPUT, at, "key '%s': a string of %llu bytes, fewer than %zu are expected", it->name,
                       (unsigned long long)len, cap);
    QN_TRY(qn_gguf_in_take(&it->in, buf, len, "string", err));
    buf[len] = '\0';
    *n = (size_t)len;
    it->n_left--;
    return QN_OK;
}
