/* atoms.c: the union-find over atoms, and the words that rules are written in (impl.h).
 *
 * Memory is the sum of all dimensions, not their product. Classes are joined by size, their reasons by number, so that the result does
 * not depend on anything but the graph. */
#include "analysis/groups/impl.h"
#include "base/err.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

qn_code qn_atoms_init(qn_grouping *s, qn_err *err)
{
    const qn_alloc *a = s->env->alloc;
    const uint64_t n_axes = (uint64_t)s->g->n_values * QN_ARRAY_RANK_MAX;
    uint64_t n = 0;
    s->first = qn_mem_zeros(a, n_axes + 1, sizeof *s->first, err);
    s->role = qn_mem_zeros(a, n_axes + 1, sizeof *s->role, err);
    if (!s->first || !s->role)
        return QN_E_MEMORY;
    for (uint32_t v = 0; v < s->g->n_values; v++)
        for (unsigned k = 0; s->t.rank[v] != QN_RANK_UNKNOWN && k < s->t.rank[v]; k++) {
            const int64_t d = s->t.dims[qn_axis_number(v, k)];
            s->first[qn_axis_number(v, k)] = (uint32_t)n;
            n += d > 0 ? (uint64_t)d : 0;
            if (n > UINT32_MAX / 2)
                return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the sizes of all values sum up to more than %u: that is too much to analyse",
                               UINT32_MAX / 2);
        }
    s->n_atoms = (uint32_t)n;
    s->parent = qn_mem_get(a, (n + 1) * sizeof *s->parent, err);
    s->size = qn_mem_get(a, (n + 1) * sizeof *s->size, err);
    s->frozen = qn_mem_zeros(a, n + 1, sizeof *s->frozen, err);
    s->inexact = qn_mem_zeros(a, n + 1, sizeof *s->inexact, err);
    s->mark = qn_mem_zeros(a, n + 1, 1, err);
    s->zero = qn_mem_zeros(a, n + 1, 1, err);
    if (!s->parent || !s->size || !s->frozen || !s->inexact || !s->mark || !s->zero)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < s->n_atoms; i++) {
        s->parent[i] = i;
        s->size[i] = 1;
    }
    return QN_OK;
}

void qn_atoms_release(qn_grouping *s)
{
    const qn_alloc *a = s->env->alloc;
    void *const all[] = {s->first, s->role, s->parent, s->size, s->frozen, s->inexact, s->mark, s->zero, s->whys, s->products};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        qn_mem_put(a, all[i]);
}

uint32_t qn_atom_root(qn_grouping *s, uint32_t i)
{
    while (s->parent[i] != i) {
        s->parent[i] = s->parent[s->parent[i]];
        i = s->parent[i];
    }
    return i;
}

qn_axis qn_axis_at(const qn_grouping *s, uint32_t value, int axis)
{
    if (value == QN_NO_VALUE || s->t.rank[value] == QN_RANK_UNKNOWN)
        return (qn_axis){0, 0};
    const int rank = s->t.rank[value];
    if (axis < 0)
        axis += rank;
    if (axis < 0 || axis >= rank)
        return (qn_axis){0, 0};
    const uint32_t at = qn_axis_number(value, (unsigned)axis);
    return (qn_axis){s->first[at], s->t.dims[at] > 0 ? (uint32_t)s->t.dims[at] : 0};
}

static uint32_t known(const qn_grouping *s, uint32_t v)
{
    return v != QN_NO_VALUE && s->t.rank[v] != QN_RANK_UNKNOWN ? v : QN_NO_VALUE;
}

uint32_t qn_in(const qn_grouping *s, const qn_node *n, unsigned i)
{
    return i < n->n_in ? known(s, n->in[i]) : QN_NO_VALUE;
}

uint32_t qn_out(const qn_grouping *s, const qn_node *n, unsigned i)
{
    return i < n->n_out ? known(s, n->out[i]) : QN_NO_VALUE;
}

const int64_t *qn_in_ints(qn_grouping *s, const qn_node *n, unsigned i, unsigned *count)
{
    *count = 0;
    if (i >= n->n_in || n->in[i] == QN_NO_VALUE)
        return NULL;
    const qn_array *a = &s->t.content[n->in[i]];
    if ((a->dtype != QN_I64 && a->dtype != QN_I32) || a->n > UINT32_MAX)
        return NULL;
    *count = (unsigned)a->n;
    if (a->dtype == QN_I32) {
        int64_t *wide = qn_arena_get(&s->scratch, (a->n + 1) * sizeof *wide, 8, s->err);
        for (uint64_t k = 0; wide && k < a->n; k++)
            wide[k] = ((const int32_t *)a->data)[k];
        s->rc = wide ? s->rc : QN_E_MEMORY;
        return wide;
    }
    for (uint64_t k = 0; k < a->n; k++)
        if (((const int64_t *)a->data)[k] == QN_INT_UNKNOWN)
            return NULL;
    return a->data;
}

const int64_t *qn_list(qn_grouping *s, const qn_node *n, const char *attr, unsigned input, unsigned *count, bool *known_)
{
    *known_ = true;
    const int64_t *list = attr ? qn_node_ints(n, attr, count) : NULL;
    if (list)
        return list;
    *count = 0;
    if (input >= n->n_in || n->in[input] == QN_NO_VALUE)
        return NULL;
    list = qn_in_ints(s, n, input, count);
    *known_ = list != NULL;
    return list;
}

/* ---- reasons ---- */

static uint32_t add_why(qn_grouping *s, const char *text, bool dull)
{
    if (s->n_whys && s->whys[s->n_whys - 1].node == s->node && !strcmp(s->whys[s->n_whys - 1].text, text))
        return (uint32_t)s->n_whys;
    if (s->n_whys == s->cap_whys) {
        qn_why *p = qn_mem_grow(s->env->alloc, s->whys, s->n_whys, &s->cap_whys, s->n_whys + 1, sizeof *p, s->err);
        if (!p) {
            s->rc = QN_E_MEMORY;
            return 0;
        }
        s->whys = p;
    }
    const char *copy = qn_arena_str(s->arena, text, strlen(text), s->err);
    if (!copy) {
        s->rc = QN_E_MEMORY;
        return 0;
    }
    s->whys[s->n_whys++] = (qn_why){copy, s->node, dull};
    return (uint32_t)s->n_whys;
}

uint32_t qn_reason(qn_grouping *s, const char *fmt, ...)
{
    if (s->rc != QN_OK || s->zero_pass)
        return 0;
    char text[300];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return add_why(s, text, false);
}

uint32_t qn_reason_dull(qn_grouping *s, const char *text)
{
    return s->rc != QN_OK || s->zero_pass ? 0 : add_why(s, text, true);
}

/* The one to keep: one that tells something, then the older one. */
static uint32_t better(const qn_grouping *s, uint32_t a, uint32_t b)
{
    if (!a || !b)
        return a ? a : b;
    if (s->whys[a - 1].dull != s->whys[b - 1].dull)
        return s->whys[a - 1].dull ? b : a;
    return a < b ? a : b;
}

/* ---- pass 1 ---- */

void qn_tie(qn_grouping *s, uint32_t a, uint32_t b)
{
    if (s->zero_pass || s->rc != QN_OK)
        return;
    a = qn_atom_root(s, a);
    b = qn_atom_root(s, b);
    if (a == b)
        return;
    if (s->size[a] < s->size[b]) {
        const uint32_t t = a;
        a = b;
        b = t;
    }
    s->parent[b] = a;
    s->size[a] += s->size[b];
    s->frozen[a] = better(s, s->frozen[a], s->frozen[b]);
    s->inexact[a] = better(s, s->inexact[a], s->inexact[b]);
    s->mark[a] |= s->mark[b];
}

void qn_freeze(qn_grouping *s, qn_axis a, uint32_t why)
{
    if (s->zero_pass || s->rc != QN_OK || !why)
        return;
    for (uint32_t i = 0; i < a.n; i++) {
        const uint32_t r = qn_atom_root(s, a.first + i);
        s->frozen[r] = better(s, s->frozen[r], why);
    }
}

/* Sizes that differ: shapes that were inferred wrongly, or a rule that is. Nothing there may be cut then. */
static bool fit(qn_grouping *s, qn_axis a, qn_axis b)
{
    if (a.n == b.n)
        return true;
    if (!s->zero_pass && a.n && b.n) {
        const uint32_t why = qn_reason(s, "sizes of axes do not fit at node '%s'", s->g->nodes[s->node].name);
        qn_freeze(s, a, why);
        qn_freeze(s, b, why);
    }
    return false;
}

void qn_tie_axes(qn_grouping *s, qn_axis a, qn_axis b)
{
    if (s->zero_pass || !fit(s, a, b))
        return;
    for (uint32_t i = 0; i < a.n; i++)
        qn_tie(s, a.first + i, b.first + i);
}

void qn_freeze_value(qn_grouping *s, uint32_t value, uint32_t why)
{
    if (value == QN_NO_VALUE || s->t.rank[value] == QN_RANK_UNKNOWN)
        return;
    for (int k = 0; k < s->t.rank[value]; k++)
        qn_freeze(s, qn_axis_at(s, value, k), why);
}

void qn_freeze_node(qn_grouping *s, const qn_node *n, uint32_t why)
{
    for (unsigned i = 0; i < n->n_in; i++)
        qn_freeze_value(s, n->in[i], why);
    for (unsigned i = 0; i < n->n_out; i++)
        qn_freeze_value(s, n->out[i], why);
}

void qn_inexact(qn_grouping *s, qn_axis a, uint32_t why)
{
    if (s->rc != QN_OK || !why)
        return;
    for (uint32_t i = 0; i < a.n; i++) {
        const uint32_t r = qn_atom_root(s, a.first + i);
        s->inexact[r] = better(s, s->inexact[r], why);
    }
}

void qn_mark(qn_grouping *s, qn_axis a, unsigned mark)
{
    for (uint32_t i = 0; i < a.n && !s->zero_pass; i++)
        s->mark[qn_atom_root(s, a.first + i)] |= (uint8_t)mark;
}

bool qn_is_free(qn_grouping *s, uint32_t atom)
{
    return !s->frozen[qn_atom_root(s, atom)];
}

/* ---- both passes ---- */

void qn_flow(qn_grouping *s, uint32_t in, uint32_t out)
{
    qn_tie(s, in, out);
    if (s->zero_pass && (s->zero[out] == QN_ZERO_UNSET || s->zero[in] != QN_ZERO_YES))
        s->zero[out] = s->zero[in] == QN_ZERO_YES ? QN_ZERO_YES : QN_ZERO_NO;
}

void qn_factor(qn_grouping *s, uint32_t in, uint32_t out)
{
    qn_tie(s, in, out);
    if (s->zero_pass && s->zero[out] != QN_ZERO_YES)
        s->zero[out] = s->zero[in] == QN_ZERO_YES ? QN_ZERO_YES : QN_ZERO_NO;
}

void qn_flow_axes(qn_grouping *s, qn_axis in, qn_axis out)
{
    if (!fit(s, in, out))
        return;
    for (uint32_t i = 0; i < in.n; i++)
        qn_flow(s, in.first + i, out.first + i);
}

void qn_factor_axes(qn_grouping *s, qn_axis in, qn_axis out)
{
    if (!fit(s, in, out))
        return;
    for (uint32_t i = 0; i < in.n; i++)
        qn_factor(s, in.first + i, out.first + i);
}

void qn_fill(qn_grouping *s, qn_axis out)
{
    for (uint32_t i = 0; i < out.n && s->zero_pass; i++)
        s->zero[out.first + i] = QN_ZERO_NO;
}

/* Pass 2 finds reasons too. */
static uint32_t reason_late(qn_grouping *s, const char *text)
{
    return s->rc == QN_OK ? add_why(s, text, false) : 0;
}

static void not_zero(qn_grouping *s, uint32_t atom, const char *text)
{
    const uint32_t r = qn_atom_root(s, atom);
    if (s->frozen[r])
        return;
    const uint32_t why = reason_late(s, text);
    if (why)
        s->inexact[r] = better(s, s->inexact[r], why);
}

static const char *loses(const qn_grouping *s, char text[300])
{
    const qn_node *n = &s->g->nodes[s->node];
    snprintf(text, 300, "%.40s of node '%.120s' sums over values that are not 0 where their weights are", n->type, n->name);
    return text;
}

void qn_contract(qn_grouping *s, uint32_t a, uint32_t b)
{
    char text[300];
    qn_tie(s, a, b);
    if (s->zero_pass && s->zero[a] != QN_ZERO_YES && s->zero[b] != QN_ZERO_YES)
        not_zero(s, a, loses(s, text));
}

void qn_contract_axes(qn_grouping *s, qn_axis a, qn_axis b)
{
    if (!fit(s, a, b))
        return;
    for (uint32_t i = 0; i < a.n; i++)
        qn_contract(s, a.first + i, b.first + i);
}

void qn_sum(qn_grouping *s, qn_axis a)
{
    char text[300];
    for (uint32_t i = 0; i < a.n && s->zero_pass; i++)
        if (s->zero[a.first + i] != QN_ZERO_YES)
            not_zero(s, a.first + i, loses(s, text));
}

void qn_refuse_zero(qn_grouping *s, qn_axis a, const char *what)
{
    for (uint32_t i = 0; i < a.n && s->zero_pass; i++) {
        const uint32_t r = qn_atom_root(s, a.first + i);
        if (s->zero[a.first + i] != QN_ZERO_YES || s->frozen[r])
            continue;
        char text[300];
        const qn_node *n = &s->g->nodes[s->node];
        snprintf(text, sizeof text, "%.40s of node '%.120s': %s", n->type, n->name, what);
        s->frozen[r] = reason_late(s, text);
    }
}
