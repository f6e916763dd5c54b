/* header.c (gguf): magic, counts and keys; see gguf.h. */
#include "base/err.h"
#include "base/num.h"
#include "formats/gguf/gguf.h"
#include <string.h>

enum {
    KEY_BYTES_MAX = 65535,
    KEYS_MAX = 1 << 20,
    DEPTH_MAX = 4,               /* of arrays in arrays                               */
    KEY_BYTES_MIN = 8 + 1 + 4 + 1, /* a key record: one letter, one byte of value        */
    INFO_BYTES_MIN = 8 + 1 + 4 + 4 + 8, /* a tensor info: one letter, no dimension      */
    ALIGNMENT_DEFAULT = 32,
    ALIGNMENT_MAX = 1 << 20
};

static const struct {
    const char *name;
    uint8_t n_bytes; /* 0: as the value says */
} types[QN_GGUF_TYPES] = {
    [QN_GGUF_U8] = {"u8", 1},   [QN_GGUF_I8] = {"i8", 1},   [QN_GGUF_U16] = {"u16", 2},     [QN_GGUF_I16] = {"i16", 2},
    [QN_GGUF_U32] = {"u32", 4}, [QN_GGUF_I32] = {"i32", 4}, [QN_GGUF_F32] = {"f32", 4},     [QN_GGUF_BOOL] = {"bool", 1},
    [QN_GGUF_U64] = {"u64", 8}, [QN_GGUF_I64] = {"i64", 8}, [QN_GGUF_F64] = {"f64", 8},     [QN_GGUF_STR] = {"string", 0},
    [QN_GGUF_ARRAY] = {"array", 0},
};

const char *qn_gguf_type_name(unsigned type)
{
    return type < QN_GGUF_TYPES ? types[type].name : NULL;
}

static const char *key_name(const void *ctx, uint32_t item)
{
    return ((const qn_gguf *)ctx)->keys[item].name;
}

const qn_gguf_key *qn_gguf_find(const qn_gguf *g, const char *name)
{
    const uint32_t i = qn_names_find(&g->names, name, key_name, g);
    return i == QN_NAMES_NONE ? NULL : &g->keys[i];
}

static qn_code take_type(qn_gguf_in *in, uint8_t *type, const char *what, qn_err *err)
{
    const uint64_t at = in->at;
    uint32_t v;
    QN_TRY(qn_gguf_in_u32(in, &v, what, err));
    if (v >= QN_GGUF_TYPES)
        return QN_FAIL(err, QN_E_INPUT, at, "%s %lu: 0 to %d are allowed", what, (unsigned long)v, QN_GGUF_TYPES - 1);
    *type = (uint8_t)v;
    return QN_OK;
}

/* Past n strings. */
static qn_code skip_strings(qn_gguf_in *in, uint64_t n, qn_err *err)
{
    for (; n > 0; n--) {
        uint64_t len;
        QN_TRY(qn_gguf_in_u64(in, &len, "length of a string", err));
        QN_TRY(qn_gguf_in_take(in, NULL, len, "string", err));
    }
    return QN_OK;
}

/* Element type, count, elements; each element takes bytes of the file, so time is linear in it. */
static qn_code skip_array(qn_gguf_in *in, qn_gguf_key *key, unsigned depth, qn_err *err)
{
    const uint64_t at = in->at;
    if (depth > DEPTH_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, at, "arrays in arrays deeper than %d", DEPTH_MAX);
    QN_TRY(take_type(in, &key->elem, "array type", err));
    QN_TRY(qn_gguf_in_u64(in, &key->n, "array length", err));
    const unsigned least = key->elem == QN_GGUF_STR ? 8 : key->elem == QN_GGUF_ARRAY ? 12 : types[key->elem].n_bytes;
    if (key->n > qn_gguf_in_left(in) / least)
        return QN_FAIL(err, QN_E_INPUT, at + 4, "array of %llu elements: %llu bytes are left for them",
                       (unsigned long long)key->n, (unsigned long long)qn_gguf_in_left(in));
    key->off = in->at;
    if (key->elem == QN_GGUF_STR)
        return skip_strings(in, key->n, err);
    if (key->elem != QN_GGUF_ARRAY)
        return qn_gguf_in_take(in, NULL, key->n * least, "array", err);
    for (uint64_t i = 0; i < key->n; i++) {
        qn_gguf_key inner;
        QN_TRY(skip_array(in, &inner, depth + 1, err));
    }
    return QN_OK;
}

static qn_code take_value(qn_gguf_in *in, qn_gguf_key *key, qn_err *err)
{
    QN_TRY(take_type(in, &key->type, "value type", err));
    key->n = 1;
    key->off = in->at;
    if (key->type == QN_GGUF_ARRAY)
        return skip_array(in, key, 1, err);
    if (key->type == QN_GGUF_STR) {
        QN_TRY(qn_gguf_in_u64(in, &key->n, "length of a string", err));
        key->off = in->at;
        return qn_gguf_in_take(in, NULL, key->n, "string", err);
    }
    if (key->type != QN_GGUF_BOOL)
        return qn_gguf_in_take(in, NULL, types[key->type].n_bytes, "value", err);
    uint8_t b;
    QN_TRY(qn_gguf_in_take(in, &b, 1, "value", err));
    return b <= 1 ? QN_OK : QN_FAIL(err, QN_E_INPUT, key->off, "bool of value %u: 0 and 1 are allowed", b);
}

static qn_code take_key(qn_gguf *g, qn_gguf_in *in, qn_arena *arena, qn_err *err)
{
    qn_gguf_key *key = &g->keys[g->n_keys];
    const uint64_t at = in->at;
    QN_TRY(qn_gguf_in_name(in, arena, KEY_BYTES_MAX, "key", &key->name, err));
    const uint32_t twin = qn_names_add(&g->names, key->name, (uint32_t)g->n_keys, key_name, g);
    if (twin != QN_NAMES_NONE) {
        char shown[64];
        qn_printable(shown, sizeof shown, key->name, strlen(key->name));
        return QN_FAIL(err, QN_E_INPUT, at, "key '%s' stands twice", shown);
    }
    g->n_keys++;
    return take_value(in, key, err);
}

static qn_code take_alignment(qn_gguf *g, qn_err *err)
{
    const qn_gguf_key *key = qn_gguf_find(g, "general.alignment");
    g->alignment = ALIGNMENT_DEFAULT;
    if (!key)
        return QN_OK;
    if (key->type != QN_GGUF_U32)
        return QN_FAIL(err, QN_E_INPUT, key->off, "general.alignment is %s: u32 is allowed", types[key->type].name);
    QN_TRY(qn_gguf_get_u64(g, key->name, &g->alignment, err));
    if (g->alignment == 0 || (g->alignment & (g->alignment - 1)) != 0 || g->alignment > ALIGNMENT_MAX)
        return QN_FAIL(err, QN_E_INPUT, key->off, "general.alignment is %llu: a power of two up to 2^20 is allowed",
                       (unsigned long long)g->alignment);
    return QN_OK;
}

static qn_code take_keys(qn_gguf *g, qn_gguf_in *in, qn_arena *arena, uint64_t n, qn_err *err)
{
    const uint64_t n_slots = qn_names_slots(n);
    g->keys = qn_arena_get(arena, n * sizeof *g->keys, 8, err);
    qn_name_slot *slots = qn_arena_get(arena, n_slots * sizeof *slots, 8, err);
    if (!g->keys || !slots)
        return QN_E_MEMORY;
    memset(slots, 0, (size_t)n_slots * sizeof *slots);
    qn_names_init(&g->names, slots, n_slots);
    while (g->n_keys < n)
        QN_TRY(take_key(g, in, arena, err));
    return QN_OK;
}

static qn_code take_version(qn_gguf *g, qn_gguf_in *in, qn_err *err)
{
    uint8_t magic[4];
    QN_TRY(qn_gguf_in_take(in, magic, sizeof magic, "magic", err));
    if (memcmp(magic, "GGUF", 4) != 0)
        return QN_FAIL(err, QN_E_INPUT, 0, "not a GGUF file: begins with %02x %02x %02x %02x", magic[0], magic[1], magic[2],
                       magic[3]);
    QN_TRY(qn_gguf_in_u32(in, &g->version, "version", err));
    if (g->version != 0 && (g->version & 0xffff) == 0)
        return QN_FAIL(err, QN_E_UNSUPPORTED, 4, "big-endian GGUF: only little-endian files are read");
    if (g->version == 2 || g->version == 3)
        return QN_OK;
    return QN_FAIL(err, g->version == 0 ? QN_E_INPUT : QN_E_UNSUPPORTED, 4, "GGUF version %lu: 2 and 3 are read",
                   (unsigned long)g->version);
}

qn_code qn_gguf_parse(qn_gguf *g, qn_arena *arena, qn_gguf_read read, void *ctx, uint64_t n_bytes, qn_err *err)
{
    qn_gguf_in in;
    uint64_t n_keys;
    *g = (qn_gguf){.read = read, .ctx = ctx, .n_bytes = n_bytes};
    qn_gguf_in_begin(&in, g, 0);
    QN_TRY(take_version(g, &in, err));
    QN_TRY(qn_gguf_in_u64(&in, &g->n_tensors, "tensor count", err));
    QN_TRY(qn_gguf_in_u64(&in, &n_keys, "key count", err));
    const uint64_t left = qn_gguf_in_left(&in);
    if (g->n_tensors > left / INFO_BYTES_MIN)
        return QN_FAIL(err, QN_E_INPUT, 8, "%llu tensors announced: the file has room for %llu",
                       (unsigned long long)g->n_tensors, (unsigned long long)left / INFO_BYTES_MIN);
    if (n_keys > left / KEY_BYTES_MIN)
        return QN_FAIL(err, QN_E_INPUT, 16, "%llu keys announced: the file has room for %llu", (unsigned long long)n_keys,
                       (unsigned long long)left / KEY_BYTES_MIN);
    if (n_keys > KEYS_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, 16, "%llu keys: at most 2^20 are read", (unsigned long long)n_keys);
    QN_TRY(take_keys(g, &in, arena, n_keys, err));
    g->infos_off = in.at;
    return take_alignment(g, err);
}
