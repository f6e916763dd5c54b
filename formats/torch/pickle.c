/* pickle.c: the stack machine: opcodes that move values. Python's pickletools is the description of the language; what opcodes
 * may make of callables is in construct.c. */
#include "formats/torch/pickle.h"
#include "base/num.h"
#include "base/path.h"
#include "formats/torch/pickle_impl.h"
#include "formats/torch/pickle_input.h"
#include "formats/torch/pickle_ops.h"
#include <string.h>

const char *qn_pk_tag_name(unsigned tag)
{
    static const char *const names[] = {"None", "bool", "integer", "long integer", "float", "text", "bytes", "tuple", "list",
                                        "dict", "set", "global", "storage", "tensor", "object"};
    return tag < QN_PK_TAGS ? names[tag] : "value";
}

const qn_pk *qn_pk_get(const qn_pk *v, const char *key)
{
    if (!v || v->tag != QN_PK_DICT)
        return NULL;
    for (uint32_t i = 0; i + 1 < v->n; i += 2) {
        const qn_pk *k = v->u.items[i];
        if (k->tag == QN_PK_STR && !k->cut && strcmp(k->u.text, key) == 0)
            return v->u.items[i + 1];
    }
    return NULL;
}

qn_pk *qn_pk_new(qn_pickle *p, unsigned tag, qn_err *err)
{
    if (p->n_values == QN_PK_VALUES_MAX) {
        QN_IGNORE(QN_PK_FAIL(p, err, QN_E_UNSUPPORTED, "more than %d values", QN_PK_VALUES_MAX));
        return NULL;
    }
    qn_pk *v = qn_arena_get(&p->arena, sizeof *v, 8, err);
    if (v) {
        p->n_values++;
        *v = (qn_pk){.tag = (uint8_t)tag};
    }
    return v;
}

/* Room doubles within the arena: at most as much again is left behind. */
qn_code qn_pk_append(qn_pickle *p, qn_pk *c, qn_pk *item, qn_err *err)
{
    if (p->n_items == 2 * QN_PK_VALUES_MAX)
        return QN_PK_FAIL(p, err, QN_E_UNSUPPORTED, "more than %d items", 2 * QN_PK_VALUES_MAX);
    if (c->n == c->cap) {
        const uint32_t cap = c->cap ? c->cap * 2 : 4;
        qn_pk **items = qn_arena_get(&p->arena, cap * sizeof *items, 8, err);
        if (!items)
            return QN_E_MEMORY;
        if (c->n)
            memcpy(items, c->u.items, c->n * sizeof *items);
        c->u.items = items;
        c->cap = cap;
    }
    c->u.items[c->n++] = item;
    p->n_items++;
    return QN_OK;
}

/* ---- stack ---- */

static uint64_t floor_of(const qn_pickle *p)
{
    return p->n_marks ? p->marks[p->n_marks - 1] : 0;
}

qn_code qn_pk_push(qn_pickle *p, qn_pk *v, qn_err *err)
{
    if (!v)
        return p->n_values == QN_PK_VALUES_MAX ? QN_E_UNSUPPORTED : QN_E_MEMORY; /* told by qn_pk_new */
    if (p->n_stack == QN_PK_STACK_MAX)
        return QN_PK_FAIL(p, err, QN_E_UNSUPPORTED, "more than %d values on the stack", QN_PK_STACK_MAX);
    qn_pk **s = qn_mem_grow(p->alloc, p->stack, p->n_stack, &p->cap_stack, p->n_stack + 1, sizeof *s, err);
    if (!s)
        return QN_E_MEMORY;
    p->stack = s;
    s[p->n_stack++] = v;
    return QN_OK;
}

qn_code qn_pk_peek(qn_pickle *p, qn_pk **v, qn_err *err)
{
    if (p->n_stack <= floor_of(p))
        return QN_PK_FAIL(p, err, QN_E_INPUT, "%s on an empty stack", qn_pk_op_name(p->op));
    *v = p->stack[p->n_stack - 1];
    return QN_OK;
}

qn_code qn_pk_pop(qn_pickle *p, qn_pk **v, qn_err *err)
{
    QN_TRY(qn_pk_peek(p, v, err));
    p->n_stack--;
    return QN_OK;
}

qn_code qn_pk_push_mark(qn_pickle *p, qn_err *err)
{
    if (p->n_marks == QN_PK_STACK_MAX)
        return QN_PK_FAIL(p, err, QN_E_UNSUPPORTED, "more than %d marks on the stack", QN_PK_STACK_MAX);
    uint32_t *m = qn_mem_grow(p->alloc, p->marks, p->n_marks, &p->cap_marks, p->n_marks + 1, sizeof *m, err);
    if (!m)
        return QN_E_MEMORY;
    p->marks = m;
    m[p->n_marks++] = (uint32_t)p->n_stack;
    return QN_OK;
}

/* What was pushed since the last mark; it stays in p->stack until the next push. */
qn_code qn_pk_pop_mark(qn_pickle *p, qn_pk ***items, uint32_t *n, qn_err *err)
{
    if (p->n_marks == 0)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "%s without a mark on the stack", qn_pk_op_name(p->op));
    const uint32_t at = p->marks[--p->n_marks];
    *items = p->stack ? p->stack + at : NULL;
    *n = (uint32_t)p->n_stack - at;
    p->n_stack = at;
    return QN_OK;
}

/* ---- memo ---- */

qn_code qn_pk_memo_put(qn_pickle *p, uint64_t i, qn_err *err)
{
    enum { AHEAD_MAX = 16 }; /* picklers number what they remember from 0 or 1 on */
    qn_pk *v = NULL;
    QN_TRY(qn_pk_peek(p, &v, err));
    if (i >= QN_PK_MEMO_MAX || i > p->n_puts + AHEAD_MAX)
        return QN_PK_FAIL(p, err, i >= QN_PK_MEMO_MAX ? QN_E_UNSUPPORTED : QN_E_INPUT, "memo slot %llu after %llu were used",
                          (unsigned long long)i, (unsigned long long)p->n_puts);
    qn_pk **m = qn_mem_grow(p->alloc, p->memo, p->n_memo, &p->cap_memo, i + 1, sizeof *m, err);
    if (!m)
        return QN_E_MEMORY;
    p->memo = m;
    for (; p->n_memo <= i; p->n_memo++)
        m[p->n_memo] = NULL;
    m[i] = v;
    p->n_puts++;
    return QN_OK;
}

qn_code qn_pk_memo_get(qn_pickle *p, uint64_t i, qn_err *err)
{
    if (i >= p->n_memo || !p->memo[i])
        return QN_PK_FAIL(p, err, QN_E_INPUT, "memo slot %llu is empty", (unsigned long long)i);
    return qn_pk_push(p, p->memo[i], err);
}

/* ---- a run ---- */

static qn_code run(qn_pickle *p, qn_pk **root, qn_err *err)
{
    for (;;) {
        p->op_off = qn_pk_at(p);
        QN_TRY(qn_pk_take(p, &p->op, 1, err));
        if (p->op == '.')
            break;
        QN_TRY(qn_pk_step(p, err));
    }
    qn_pk *v = NULL;
    QN_TRY(qn_pk_pop(p, &v, err));
    if (p->n_stack || p->n_marks)
        return QN_PK_FAIL(p, err, QN_E_INPUT, "STOP with %llu values left on the stack",
                          (unsigned long long)(p->n_stack + p->n_marks));
    *root = v;
    return QN_OK;
}

void qn_pickle_init(qn_pickle *p, const qn_alloc *alloc, qn_pk_read_fn read, void *ctx)
{
    *p = (qn_pickle){.alloc = alloc, .read = read, .ctx = ctx};
    qn_arena_init(&p->arena, alloc);
}

qn_code qn_pickle_load(qn_pickle *p, uint64_t off, uint64_t end, qn_pk **root, uint64_t *after, qn_err *err)
{
    p->n_stack = p->n_marks = p->n_memo = p->n_puts = 0;
    if (!p->in)
        p->in = qn_mem_get(p->alloc, sizeof *p->in, err);
    if (!p->in)
        return QN_E_MEMORY;
    p->in->next = off;
    p->in->end = off + qn_min_u64(end - off, QN_PK_BYTES_MAX);
    p->in->n = p->in->at = 0;
    QN_TRY(run(p, root, err));
    *after = qn_pk_at(p);
    return QN_OK;
}

void qn_pickle_release(qn_pickle *p)
{
    qn_mem_put(p->alloc, p->stack);
    qn_mem_put(p->alloc, p->marks);
    qn_mem_put(p->alloc, p->memo);
    qn_mem_put(p->alloc, p->storages);
    qn_mem_put(p->alloc, p->in);
    qn_arena_release(&p->arena);
    *p = (qn_pickle){.alloc = p->alloc};
}
