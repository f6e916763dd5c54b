/* list.c: byte strings, lists of them, and the steps that turn one list into another. */
#include "analysis/tokenize/tokenizer_impl.h"

qn_code qn_tok_buf_room(qn_tok_buf *b, uint64_t n, qn_err *err)
{
    bool ovf = false;
    const uint64_t want = qn_add(b->n, n, &ovf);
    if (ovf)
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "a text grows past 2^64 bytes");
    if (want <= b->cap)
        return QN_OK;
    char *p = qn_mem_grow(b->alloc, b->p, b->n, &b->cap, want, 1, err);
    if (!p)
        return QN_E_MEMORY;
    b->p = p;
    return QN_OK;
}

qn_code qn_tok_buf_put(qn_tok_buf *b, const void *s, uint64_t n, qn_err *err)
{
    if (n == 0)
        return QN_OK;
    QN_TRY(qn_tok_buf_room(b, n, err));
    memcpy(b->p + b->n, s, n);
    b->n += n;
    return QN_OK;
}

void qn_tok_list_init(qn_tok_list *l, const qn_alloc *a)
{
    *l = (qn_tok_list){.text.alloc = a};
}

void qn_tok_list_release(qn_tok_list *l)
{
    qn_mem_put(l->text.alloc, l->text.p);
    qn_mem_put(l->text.alloc, l->span);
    qn_tok_list_init(l, l->text.alloc);
}

void qn_tok_list_clear(qn_tok_list *l)
{
    l->text.n = 0;
    l->n = 0;
}

qn_code qn_tok_list_span(qn_tok_list *l, uint64_t off, uint64_t n, bool first, qn_err *err)
{
    if (l->n == l->cap) {
        qn_tok_span *p = qn_mem_grow(l->text.alloc, l->span, l->n, &l->cap, l->n + 1, sizeof *p, err);
        if (!p)
            return QN_E_MEMORY;
        l->span = p;
    }
    l->span[l->n++] = (qn_tok_span){.off = off, .n = n, .first = first};
    return QN_OK;
}

qn_code qn_tok_list_put(qn_tok_list *l, const void *s, uint64_t n, bool first, qn_err *err)
{
    const uint64_t off = l->text.n;
    QN_TRY(qn_tok_buf_put(&l->text, s, n, err));
    return qn_tok_list_span(l, off, n, first, err);
}

qn_code qn_tok_add_step(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_step_ops *ops, void *data, const void *digest,
                        uint64_t n_digest, qn_err *err)
{
    qn_tok_step s = {.ops = ops, .data = data, .n_digest = n_digest};
    qn_code rc = QN_OK;
    char *copy = n_digest ? qn_arena_str(&t->arena, digest, n_digest, err) : NULL;
    if (n_digest && !copy) {
        rc = QN_E_MEMORY;
    } else if (list->n == QN_TOK_STEPS_MAX) {
        rc = QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "tokenizer: more than %d steps in a sequence", QN_TOK_STEPS_MAX);
    } else if (list->n == list->cap) {
        qn_tok_step *p = qn_mem_grow(t->alloc, list->v, list->n, &list->cap, list->n + 1, sizeof *p, err);
        rc = p ? QN_OK : QN_E_MEMORY;
        list->v = p ? p : list->v;
    }
    s.digest = copy;
    if (rc == QN_OK)
        list->v[list->n++] = s;
    else if (ops->release)
        ops->release(&s);
    return rc;
}

qn_code qn_tok_run_steps(const qn_tok_steps *list, qn_tok_list *io, qn_tok_list *tmp, qn_err *err)
{
    for (uint64_t i = 0; i < list->n; i++) {
        const qn_tok_step *s = &list->v[i];
        qn_tok_list_clear(tmp);
        if (s->ops->cut) {
            QN_TRY(s->ops->cut(s, io, tmp, err));
            const qn_tok_buf spans_of = io->text; /* the text stays where it is, the spans change */
            io->text = tmp->text;
            tmp->text = spans_of;
        } else {
            QN_TRY(s->ops->apply(s, io, tmp, err));
        }
        const qn_tok_list swap = *io;
        *io = *tmp;
        *tmp = swap;
    }
    return QN_OK;
}
