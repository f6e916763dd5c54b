/* pickle_ops.c: one function for each kind of opcode, and the table of all of them. */
#include "formats/torch/pickle_ops.h"
#include "base/num.h"
#include "base/path.h"
#include "formats/torch/pickle_impl.h"
#include "formats/torch/pickle_input.h"
#include <string.h>

/* ---- operands ---- */

/* Little-endian, n ≤ 8 bytes. */
static qn_code take_uint(qn_pickle *p, unsigned n, uint64_t *v, qn_err *err)
{
    uint8_t b[8] = {0};
    QN_TRY(qn_pk_take(p, b, n, err));
    *v = qn_load64(b);
    return QN_OK;
}

/* Up to and without a line feed; at most n − 1 bytes, NUL-terminated. */
static qn_code take_line(qn_pickle *p, char *dst, size_t n, qn_err *err)
{
    for (size_t i = 0; i < n; i++) {
        QN_TRY(qn_pk_take(p, &dst[i], 1, err));
        if (dst[i] == '\n') {
            dst[i] = '\0';
            return QN_OK;
        }
    }
    return QN_PK_FAIL(p, err, QN_E_INPUT, "name of a global is longer than %zu bytes", n - 1);
}

/* ---- plain values ---- */

static qn_code push_none(qn_pickle *p, qn_err *err)
{
    return qn_pk_push(p, qn_pk_new(p, QN_PK_NONE, err), err);
}

static qn_code push_int(qn_pickle *p, unsigned tag, int64_t i, qn_err *err)
{
    qn_pk *v = qn_pk_new(p, tag, err);
    if (v)
        v->u.i = i;
    return qn_pk_push(p, v, err);
}

static qn_code op_bool(qn_pickle *p, qn_err *err)
{
    return push_int(p, QN_PK_BOOL, p->op == 0x88, err);
}

static qn_code op_int(qn_pickle *p, qn_err *err)
{
    uint64_t v;
    QN_TRY(take_uint(p, p->op == 'J' ? 4 : p->op == 'M' ? 2 : 1, &v, err));
    return push_int(p, QN_PK_INT, p->op == 'J' ? (int32_t)(uint32_t)v : (int64_t)v, err);
}

/* LONG1, LONG4: two's complement of any length. */
static qn_code op_long(qn_pickle *p, qn_err *err)
{
    uint64_t n;
    uint8_t b[255];
    QN_TRY(take_uint(p, p->op == 0x8a ? 1 : 4, &n, err));
    if (n > sizeof b)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "integer of %llu bytes: up to %zu are read", (unsigned long long)n, sizeof b);
    QN_TRY(qn_pk_take(p, b, n, err));
    if (n <= 8) {
        uint8_t wide[8];
        memset(wide, n > 0 && b[n - 1] & 0x80 ? 0xff : 0, sizeof wide);
        memcpy(wide, b, n);
        return push_int(p, QN_PK_INT, (int64_t)qn_load64(wide), err);
    }
    qn_pk *v = qn_pk_new(p, QN_PK_LONG, err);
    if (v) {
        v->n = (uint32_t)n;
        v->u.text = qn_arena_str(&p->arena, (const char *)b, n, err);
        if (!v->u.text)
            return QN_E_MEMORY;
    }
    return qn_pk_push(p, v, err);
}

static qn_code op_float(qn_pickle *p, qn_err *err)
{
    uint8_t b[8], r[8];
    QN_TRY(qn_pk_take(p, b, 8, err));
    qn_pk *v = qn_pk_new(p, QN_PK_FLOAT, err);
    for (int i = 0; i < 8; i++)
        r[i] = b[7 - i];
    const uint64_t bits = qn_load64(r);
    if (v)
        memcpy(&v->u.f, &bits, sizeof bits);
    return qn_pk_push(p, v, err);
}

/* Texts are kept when they are short and UTF-8: then they may be names. Strings of Python 2 are bytes that mostly are texts. */
static qn_code push_text(qn_pickle *p, unsigned n_length, bool text, qn_err *err)
{
    uint64_t n;
    char b[QN_PK_TEXT_KEPT];
    QN_TRY(take_uint(p, n_length, &n, err));
    if (n > qn_pk_left(p))
        return QN_PK_FAIL(p, err, QN_E_INPUT, "%s of %llu bytes: %llu are left", qn_pk_op_name(p->op), (unsigned long long)n,
                          (unsigned long long)qn_pk_left(p));
    const bool keep = text && n <= sizeof b;
    QN_TRY(qn_pk_take(p, keep ? b : NULL, n, err));
    const bool valid = keep && qn_utf8_is_valid(b, (size_t)n);
    qn_pk *v = qn_pk_new(p, text && (valid || !keep) ? QN_PK_STR : QN_PK_BYTES, err);
    if (v) {
        v->cut = !valid;
        v->n = valid ? (uint32_t)n : 0;
        v->u.text = valid ? qn_arena_str(&p->arena, b, (size_t)n, err) : "";
        if (!v->u.text)
            return QN_E_MEMORY;
    }
    return qn_pk_push(p, v, err);
}

static qn_code op_text1(qn_pickle *p, qn_err *err)
{
    return push_text(p, 1, true, err);
}

static qn_code op_text4(qn_pickle *p, qn_err *err)
{
    return push_text(p, 4, true, err);
}

static qn_code op_text8(qn_pickle *p, qn_err *err)
{
    return push_text(p, 8, true, err);
}

static qn_code op_bytes1(qn_pickle *p, qn_err *err)
{
    return push_text(p, 1, false, err);
}

static qn_code op_bytes4(qn_pickle *p, qn_err *err)
{
    return push_text(p, 4, false, err);
}

static qn_code op_bytes8(qn_pickle *p, qn_err *err)
{
    return push_text(p, 8, false, err);
}

/* ---- containers ---- */

static unsigned container_tag(uint8_t op)
{
    switch (op) {
    case ']':
    case 'l':
        return QN_PK_LIST;
    case '}':
    case 'd':
        return QN_PK_DICT;
    case 0x8f:
    case 0x91:
        return QN_PK_SET;
    default:
        return QN_PK_TUPLE;
    }
}

static qn_code push_container(qn_pickle *p, qn_pk *const *items, uint32_t n, qn_err *err)
{
    qn_pk *v = qn_pk_new(p, container_tag(p->op), err);
    for (uint32_t i = 0; v && i < n; i++)
        QN_TRY(qn_pk_append(p, v, items[i], err));
    return qn_pk_push(p, v, err);
}

static qn_code op_empty(qn_pickle *p, qn_err *err)
{
    return push_container(p, NULL, 0, err);
}

/* LIST, DICT, TUPLE, FROZENSET: from the mark on. */
static qn_code op_marked(qn_pickle *p, qn_err *err)
{
    qn_pk **items;
    uint32_t n;
    QN_TRY(qn_pk_pop_mark(p, &items, &n, err));
    if (p->op == 'd' && n % 2 != 0)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "DICT of %u keys and values", n);
    return push_container(p, items, n, err);
}

static qn_code op_tuple_n(qn_pickle *p, qn_err *err)
{
    const unsigned n = p->op - 0x84u;
    qn_pk *v[3] = {NULL};
    for (unsigned i = n; i-- > 0;)
        QN_TRY(qn_pk_pop(p, &v[i], err));
    return push_container(p, v, n, err);
}

/* What an opcode adds to lies below: it must be of the right kind. */
static qn_code add_to(qn_pickle *p, unsigned tag, qn_pk *const *items, uint32_t n, qn_err *err)
{
    qn_pk *c;
    QN_TRY(qn_pk_peek(p, &c, err));
    if (c->tag != tag)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "%s on a %s", qn_pk_op_name(p->op), qn_pk_tag_name(c->tag));
    if (tag == QN_PK_DICT && n % 2 != 0)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "%s of %u keys and values", qn_pk_op_name(p->op), n);
    for (uint32_t i = 0; i < n; i++)
        QN_TRY(qn_pk_append(p, c, items[i], err));
    return QN_OK;
}

static qn_code op_append(qn_pickle *p, qn_err *err)
{
    qn_pk *v;
    QN_TRY(qn_pk_pop(p, &v, err));
    return add_to(p, QN_PK_LIST, &v, 1, err);
}

static qn_code op_setitem(qn_pickle *p, qn_err *err)
{
    qn_pk *kv[2];
    QN_TRY(qn_pk_pop(p, &kv[1], err));
    QN_TRY(qn_pk_pop(p, &kv[0], err));
    return add_to(p, QN_PK_DICT, kv, 2, err);
}

/* APPENDS, SETITEMS, ADDITEMS */
static qn_code op_add_marked(qn_pickle *p, qn_err *err)
{
    qn_pk **items;
    uint32_t n;
    QN_TRY(qn_pk_pop_mark(p, &items, &n, err));
    return add_to(p, p->op == 'e' ? QN_PK_LIST : p->op == 'u' ? QN_PK_DICT : QN_PK_SET, items, n, err);
}

/* ---- stack and memo ---- */

static qn_code op_mark(qn_pickle *p, qn_err *err)
{
    return qn_pk_push_mark(p, err);
}

static qn_code op_pop(qn_pickle *p, qn_err *err)
{
    qn_pk *v;
    return qn_pk_pop(p, &v, err);
}

static qn_code op_pop_mark(qn_pickle *p, qn_err *err)
{
    qn_pk **items;
    uint32_t n;
    return qn_pk_pop_mark(p, &items, &n, err);
}

static qn_code op_put(qn_pickle *p, qn_err *err)
{
    uint64_t i;
    QN_TRY(take_uint(p, p->op == 'q' ? 1 : 4, &i, err));
    return qn_pk_memo_put(p, i, err);
}

static qn_code op_memoize(qn_pickle *p, qn_err *err)
{
    return qn_pk_memo_put(p, p->n_memo, err);
}

static qn_code op_get(qn_pickle *p, qn_err *err)
{
    uint64_t i;
    QN_TRY(take_uint(p, p->op == 'h' ? 1 : 4, &i, err));
    return qn_pk_memo_get(p, i, err);
}

/* ---- frames of the file ---- */

static qn_code op_proto(qn_pickle *p, qn_err *err)
{
    uint64_t v;
    QN_TRY(take_uint(p, 1, &v, err));
    return v >= 2 && v <= 5 ? QN_OK : QN_PK_FAIL(p, err, QN_E_UNSUPPORTED, "pickle protocol %u: 2 to 5 are read", (unsigned)v);
}

static qn_code op_frame(qn_pickle *p, qn_err *err)
{
    uint64_t n;
    QN_TRY(take_uint(p, 8, &n, err));
    if (n > qn_pk_left(p))
        return QN_PK_FAIL(p, err, QN_E_INPUT, "FRAME of %llu bytes: %llu are left", (unsigned long long)n,
                          (unsigned long long)qn_pk_left(p));
    return QN_OK;
}

/* ---- globals and what is made with them ---- */

static unsigned find_global(const char *name)
{
    unsigned lo = 0, hi = qn_pk_n_globals;
    while (lo < hi) {
        const unsigned mid = (lo + hi) / 2;
        if (strcmp(qn_pk_globals[mid].name, name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < qn_pk_n_globals && strcmp(qn_pk_globals[lo].name, name) == 0 ? lo : UINT32_MAX;
}

static qn_code push_global(qn_pickle *p, const char *module, const char *name, qn_err *err)
{
    char full[520];
    size_t n = strlen(module), m = strlen(name);
    if (n + m + 2 > sizeof full)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "name of a global is longer than %zu bytes", sizeof full - 2);
    memcpy(full, module, n);
    full[n] = '.';
    memcpy(full + n + 1, name, m + 1);
    /* 'a.b' + 'c' and 'a' + 'b.c' are spelled alike: the module is what has all points but the last */
    const unsigned i = strchr(name, '.') ? UINT32_MAX : find_global(full);
    char shown[160];
    qn_printable(shown, sizeof shown, full, n + 1 + m);
    if (i == UINT32_MAX)
        return QN_PK_FAIL(p, err, QN_E_UNSUPPORTED, "global '%s' is not allowed", shown);
    if (qn_pk_globals[i].kind == QN_PK_K_REFUSED)
        return QN_PK_FAIL(p, err, QN_E_UNSUPPORTED, "%s cannot be read (global '%s')", qn_pk_refusals[qn_pk_globals[i].detail],
                          shown);
    qn_pk *v = qn_pk_new(p, QN_PK_GLOBAL, err);
    if (v)
        v->u.global = i;
    return qn_pk_push(p, v, err);
}

static qn_code op_global(qn_pickle *p, qn_err *err)
{
    char module[260], name[260];
    QN_TRY(take_line(p, module, sizeof module, err));
    QN_TRY(take_line(p, name, sizeof name, err));
    return push_global(p, module, name, err);
}

static qn_code op_stack_global(qn_pickle *p, qn_err *err)
{
    qn_pk *name, *module;
    QN_TRY(qn_pk_pop(p, &name, err));
    QN_TRY(qn_pk_pop(p, &module, err));
    if (name->tag != QN_PK_STR || module->tag != QN_PK_STR || name->cut || module->cut || strlen(name->u.text) != name->n ||
        strlen(module->u.text) != module->n)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "STACK_GLOBAL of a %s and a %s: two short texts are expected",
                          qn_pk_tag_name(module->tag), qn_pk_tag_name(name->tag));
    return push_global(p, module->u.text, name->u.text, err);
}

/* REDUCE and NEWOBJ: below the arguments lies what they go to. */
static qn_code op_apply(qn_pickle *p, qn_err *err)
{
    qn_pk *args, *callable, *v;
    QN_TRY(qn_pk_pop(p, &args, err));
    QN_TRY(qn_pk_pop(p, &callable, err));
    QN_TRY(qn_pk_apply(p, callable, args, &v, err));
    return qn_pk_push(p, v, err);
}

static qn_code op_build(qn_pickle *p, qn_err *err)
{
    qn_pk *state, *value;
    QN_TRY(qn_pk_pop(p, &state, err));
    QN_TRY(qn_pk_peek(p, &value, err));
    return qn_pk_build(p, value, state, err);
}

static qn_code op_persid(qn_pickle *p, qn_err *err)
{
    qn_pk *id, *v;
    QN_TRY(qn_pk_pop(p, &id, err));
    QN_TRY(qn_pk_persistent(p, id, &v, err));
    return qn_pk_push(p, v, err);
}

/* Opcodes with a name but no function are known and never carried out. */
static const struct {
    const char *name;
    qn_code (*run)(qn_pickle *p, qn_err *err);
} ops[256] = {
    ['('] = {"MARK", op_mark},
    ['.'] = {"STOP", NULL}, /* seen by the caller */
    ['0'] = {"POP", op_pop},
    ['1'] = {"POP_MARK", op_pop_mark},
    ['2'] = {"DUP", NULL},
    ['F'] = {"FLOAT", NULL},
    ['I'] = {"INT", NULL},
    ['J'] = {"BININT", op_int},
    ['K'] = {"BININT1", op_int},
    ['L'] = {"LONG", NULL},
    ['M'] = {"BININT2", op_int},
    ['N'] = {"NONE", push_none},
    ['P'] = {"PERSID", NULL},
    ['Q'] = {"BINPERSID", op_persid},
    ['R'] = {"REDUCE", op_apply},
    ['S'] = {"STRING", NULL},
    ['T'] = {"BINSTRING", op_text4},
    ['U'] = {"SHORT_BINSTRING", op_text1},
    ['V'] = {"UNICODE", NULL},
    ['X'] = {"BINUNICODE", op_text4},
    ['a'] = {"APPEND", op_append},
    ['b'] = {"BUILD", op_build},
    ['c'] = {"GLOBAL", op_global},
    ['d'] = {"DICT", op_marked},
    ['}'] = {"EMPTY_DICT", op_empty},
    ['e'] = {"APPENDS", op_add_marked},
    ['g'] = {"GET", NULL},
    ['h'] = {"BINGET", op_get},
    ['i'] = {"INST", NULL},
    ['j'] = {"LONG_BINGET", op_get},
    ['l'] = {"LIST", op_marked},
    [']'] = {"EMPTY_LIST", op_empty},
    ['o'] = {"OBJ", NULL},
    ['p'] = {"PUT", NULL},
    ['q'] = {"BINPUT", op_put},
    ['r'] = {"LONG_BINPUT", op_put},
    ['s'] = {"SETITEM", op_setitem},
    ['t'] = {"TUPLE", op_marked},
    [')'] = {"EMPTY_TUPLE", op_empty},
    ['u'] = {"SETITEMS", op_add_marked},
    ['G'] = {"BINFLOAT", op_float},
    ['B'] = {"BINBYTES", op_bytes4},
    ['C'] = {"SHORT_BINBYTES", op_bytes1},
    [0x80] = {"PROTO", op_proto},
    [0x81] = {"NEWOBJ", op_apply},
    [0x82] = {"EXT1", NULL},
    [0x83] = {"EXT2", NULL},
    [0x84] = {"EXT4", NULL},
    [0x85] = {"TUPLE1", op_tuple_n},
    [0x86] = {"TUPLE2", op_tuple_n},
    [0x87] = {"TUPLE3", op_tuple_n},
    [0x88] = {"NEWTRUE", op_bool},
    [0x89] = {"NEWFALSE", op_bool},
    [0x8a] = {"LONG1", op_long},
    [0x8b] = {"LONG4", op_long},
    [0x8c] = {"SHORT_BINUNICODE", op_text1},
    [0x8d] = {"BINUNICODE8", op_text8},
    [0x8e] = {"BINBYTES8", op_bytes8},
    [0x8f] = {"EMPTY_SET", op_empty},
    [0x90] = {"ADDITEMS", op_add_marked},
    [0x91] = {"FROZENSET", op_marked},
    [0x92] = {"NEWOBJ_EX", NULL},
    [0x93] = {"STACK_GLOBAL", op_stack_global},
    [0x94] = {"MEMOIZE", op_memoize},
    [0x95] = {"FRAME", op_frame},
    [0x96] = {"BYTEARRAY8", op_bytes8},
    [0x97] = {"NEXT_BUFFER", NULL},
    [0x98] = {"READONLY_BUFFER", NULL},
};

const char *qn_pk_op_name(uint8_t op)
{
    return ops[op].name ? ops[op].name : "opcode";
}

qn_code qn_pk_step(qn_pickle *p, qn_err *err)
{
    if (ops[p->op].run)
        return ops[p->op].run(p, err);
    if (ops[p->op].name)
        return QN_PK_FAIL(p, err, QN_E_UNSUPPORTED, "opcode %s (0x%02x) is not allowed", ops[p->op].name, p->op);
    return QN_PK_FAIL(p, err, QN_E_INPUT, "0x%02x is no opcode", p->op);
}
