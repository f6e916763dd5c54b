/* vocab.c: tokens by id and ids by token. Open addressing, linear probing, keyed hash. */
#include "analysis/tokenize/tokenizer_impl.h"
#include "base/hash.h"

enum { SLOTS_MIN = 1024 };

static uint32_t *slot_of(const qn_tok_vocab *v, const void *s, uint64_t n)
{
    uint64_t i = qn_hash64_keyed(s, n, v->key) & (v->n_slots - 1);
    for (; v->slots[i]; i = (i + 1) & (v->n_slots - 1)) {
        const qn_tok_entry *e = &v->entry[v->slots[i] - 1];
        if (e->n == n && memcmp(e->s, s, n) == 0)
            break;
    }
    return &v->slots[i];
}

uint32_t qn_tok_vocab_find(const qn_tok_vocab *v, const void *s, uint64_t n)
{
    return v->n_slots ? *slot_of(v, s, n) - 1 : QN_TOK_NONE; /* 0 − 1 is QN_TOK_NONE */
}

static qn_code more_slots(qn_tok_vocab *v, const qn_alloc *a, qn_err *err)
{
    const uint64_t n = v->n_slots ? 2 * v->n_slots : SLOTS_MIN;
    uint32_t *slots = qn_mem_zeros(a, n, sizeof *slots, err), *old = v->slots;
    if (!slots)
        return QN_E_MEMORY;
    const uint64_t n_old = v->n_slots;
    v->slots = slots;
    v->n_slots = n;
    for (uint64_t i = 0; i < n_old; i++)
        if (old[i])
            *slot_of(v, v->entry[old[i] - 1].s, v->entry[old[i] - 1].n) = old[i];
    qn_mem_put(a, old);
    return QN_OK;
}

static qn_code reach(qn_tok_vocab *v, const qn_alloc *a, uint32_t id, qn_err *err)
{
    if (id >= v->cap) {
        qn_tok_entry *p = qn_mem_grow(a, v->entry, v->n, &v->cap, (uint64_t)id + 1, sizeof *p, err);
        if (!p)
            return QN_E_MEMORY;
        v->entry = p;
    }
    for (; v->n <= id; v->n++)
        v->entry[v->n] = (qn_tok_entry){.s = NULL};
    return QN_OK;
}

qn_code qn_tok_vocab_add(qn_tokenizer *t, uint32_t id, const void *s, uint64_t n, uint32_t *was, qn_err *err)
{
    qn_tok_vocab *v = &t->vocab;
    if (id >= QN_TOK_VOCAB_MAX)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "tokenizer: token id %u, at most %d is allowed", id,
                       QN_TOK_VOCAB_MAX - 1);
    if (n > QN_TOK_STRING_MAX)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "tokenizer: token %u has %llu bytes, at most %d are allowed", id,
                       (unsigned long long)n, QN_TOK_STRING_MAX);
    if (id < v->n && v->entry[id].s) {
        char one[48], two[48];
        qn_printable(one, sizeof one, v->entry[id].s, v->entry[id].n);
        qn_printable(two, sizeof two, s, n);
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "tokenizer: id %u belongs to '%s' and to '%s'", id, one, two);
    }
    QN_TRY(reach(v, t->alloc, id, err));
    if (3 * (v->n_used + 1) > 2 * v->n_slots)
        QN_TRY(more_slots(v, t->alloc, err));
    char *copy = qn_arena_str(&t->arena, n ? s : "", n, err);
    if (!copy)
        return QN_E_MEMORY;
    v->entry[id] = (qn_tok_entry){.s = copy, .n = (uint32_t)n};
    uint32_t *slot = slot_of(v, copy, n);
    *was = *slot - 1;
    if (*was == QN_TOK_NONE) {
        *slot = id + 1;
        v->n_used++;
    }
    return QN_OK;
}
