/* added.c: see added.h. A trie whose edges are one table keyed by (node, byte). */
#include "analysis/tokenize/added.h"
#include "analysis/tokenize/utf8.h"

struct edge {
    uint32_t from, to; /* to 0: free; the root is node 0 and nothing leads there */
    uint8_t byte;
};

struct qn_tok_index {
    uint32_t root[256]; /* node after one byte; 0: no token begins so */
    struct edge *edges;
    uint64_t n_edges, mask, cap_edges;
    uint32_t *token; /* by node: index into t->added + 1; 0: none ends here */
    uint64_t n_nodes, cap_nodes;
};

static uint64_t edge_at(const qn_tok_index *x, uint32_t from, uint8_t byte)
{
    uint64_t h = ((uint64_t)from << 8 | byte) * 0x9e3779b97f4a7c15u;
    uint64_t i = h >> 32 & x->mask;
    for (; x->edges[i].to && (x->edges[i].from != from || x->edges[i].byte != byte); i = (i + 1) & x->mask)
        ;
    return i;
}

static qn_code more_edges(qn_tok_index *x, const qn_alloc *a, qn_err *err)
{
    const uint64_t n_old = x->cap_edges, n = n_old ? 2 * n_old : 256;
    struct edge *old = x->edges, *p = qn_mem_zeros(a, n, sizeof *p, err);
    if (!p)
        return QN_E_MEMORY;
    x->edges = p;
    x->cap_edges = n;
    x->mask = n - 1;
    for (uint64_t i = 0; i < n_old; i++)
        if (old[i].to)
            x->edges[edge_at(x, old[i].from, old[i].byte)] = old[i];
    qn_mem_put(a, old);
    return QN_OK;
}

static qn_code new_node(qn_tok_index *x, const qn_alloc *a, uint32_t *node, qn_err *err)
{
    uint32_t *p = x->token;
    if (x->n_nodes == UINT32_MAX)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "tokenizer: too many added tokens");
    if (x->n_nodes == x->cap_nodes) {
        p = qn_mem_grow(a, x->token, x->n_nodes, &x->cap_nodes, x->n_nodes + 1, sizeof *p, err);
        if (!p)
            return QN_E_MEMORY;
        x->token = p;
    }
    *node = (uint32_t)x->n_nodes;
    x->token[x->n_nodes++] = 0;
    return QN_OK;
}

static qn_code add(qn_tok_index *x, const qn_alloc *a, const char *s, uint64_t n, uint32_t token, qn_err *err)
{
    uint32_t node = 0;
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t b = (uint8_t)s[i];
        uint32_t to;
        if (2 * (x->n_edges + 1) > x->cap_edges)
            QN_TRY(more_edges(x, a, err));
        const uint64_t at = edge_at(x, node, b);
        to = i == 0 ? x->root[b] : x->edges[at].to;
        if (to == 0) {
            QN_TRY(new_node(x, a, &to, err));
            if (i == 0) {
                x->root[b] = to;
            } else {
                x->edges[at] = (struct edge){.from = node, .to = to, .byte = b};
                x->n_edges++;
            }
        }
        node = to;
    }
    x->token[node] = token + 1;
    return QN_OK;
}

/* The token's text, or what normalizing makes of it. */
static qn_code add_added(const qn_tokenizer *t, qn_tok_index *x, uint32_t i, qn_tok_list *io, qn_tok_list *tmp, qn_err *err)
{
    const qn_tok_added *a = &t->added[i];
    if (!a->normalized || t->normalizers.n == 0)
        return add(x, t->alloc, a->s, a->n, i, err);
    qn_tok_list_clear(io);
    QN_TRY(qn_tok_list_put(io, a->s, a->n, true, err));
    QN_TRY(qn_tok_run_steps(&t->normalizers, io, tmp, err));
    return io->span[0].n ? add(x, t->alloc, io->text.p + io->span[0].off, io->span[0].n, i, err) : QN_OK;
}

static qn_code fill(const qn_tokenizer *t, bool normalized, qn_tok_index *x, qn_err *err)
{
    qn_tok_list io, tmp;
    uint32_t root;
    qn_code rc = new_node(x, t->alloc, &root, err);
    qn_tok_list_init(&io, t->alloc);
    qn_tok_list_init(&tmp, t->alloc);
    for (uint32_t i = 0; i < t->n_added && rc == QN_OK; i++)
        if (t->added[i].normalized == normalized && t->added[i].n > 0)
            rc = add_added(t, x, i, &io, &tmp, err);
    qn_tok_list_release(&io);
    qn_tok_list_release(&tmp);
    return rc;
}

qn_code qn_tok_index_open(const qn_tokenizer *t, bool normalized, qn_tok_index **out, qn_err *err)
{
    bool any = false;
    *out = NULL;
    for (uint64_t i = 0; i < t->n_added; i++)
        any |= t->added[i].normalized == normalized && t->added[i].n > 0;
    if (!any)
        return QN_OK;
    qn_tok_index *x = qn_mem_zeros(t->alloc, 1, sizeof *x, err);
    if (!x)
        return QN_E_MEMORY;
    const qn_code rc = fill(t, normalized, x, err);
    if (rc != QN_OK)
        qn_tok_index_close(x, t->alloc);
    else
        *out = x;
    return rc;
}

void qn_tok_index_close(qn_tok_index *x, const qn_alloc *a)
{
    if (!x)
        return;
    qn_mem_put(a, x->edges);
    qn_mem_put(a, x->token);
    qn_mem_put(a, x);
}

/* The longest token that begins at p; its bytes in *len. */
static uint32_t longest(const qn_tok_index *x, const char *p, uint64_t n, uint64_t *len)
{
    uint32_t node = x->root[(uint8_t)p[0]], best = 0;
    for (uint64_t i = 1; node; i++) {
        if (x->token[node]) {
            best = x->token[node];
            *len = i;
        }
        if (i == n || !x->n_edges)
            break;
        node = x->edges[edge_at(x, node, (uint8_t)p[i])].to;
    }
    return best - 1; /* 0 − 1 is QN_TOK_NONE */
}

static bool stands_alone(const char *s, uint64_t n, uint64_t begin, uint64_t end)
{
    unsigned len;
    if (begin > 0 && qn_uni_is_word(qn_utf8_get(s + qn_utf8_back(s, begin), &len)))
        return false;
    return end == n || !qn_uni_is_word(qn_utf8_get(s + end, &len));
}

uint32_t qn_tok_walk_next(qn_tok_walk *w, const qn_tokenizer *t, uint64_t *gap, uint64_t *gap_end)
{
    unsigned len;
    while (w->x && w->at < w->n) {
        uint64_t n = 0, begin = w->at;
        const uint32_t i = w->x->root[(uint8_t)w->s[begin]] ? longest(w->x, w->s + begin, w->n - begin, &n) : QN_TOK_NONE;
        if (i == QN_TOK_NONE) {
            w->at++;
            continue;
        }
        const qn_tok_added *a = &t->added[i];
        uint64_t end = begin + n;
        w->at = end;
        if ((w->plain && a->special) || (a->single_word && !stands_alone(w->s, w->n, begin, end)))
            continue;
        while (a->lstrip && begin > w->done) {
            const uint64_t last = qn_utf8_back(w->s, begin);
            if (!qn_uni_is_space(qn_utf8_get(w->s + last, &len)))
                break;
            begin = last;
        }
        while (a->rstrip && end < w->n && qn_uni_is_space(qn_utf8_get(w->s + end, &len)))
            end += len;
        *gap = w->done;
        *gap_end = qn_max_u64(begin, w->done); /* the token before may have swallowed its spaces */
        w->done = end;
        return i;
    }
    *gap = qn_min_u64(w->done, w->n);
    *gap_end = w->n;
    w->done = w->n;
    return QN_TOK_NONE;
}
