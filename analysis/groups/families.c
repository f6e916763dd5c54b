/* families.c: classes of the union-find become groups, groups with the same members become families. */
#include "analysis/groups/impl.h"
#include "base/err.h"
#include "base/hash.h"
#include <stdlib.h>
#include <string.h>

bool qn_class_can_go(const qn_grouping *s, uint32_t root)
{
    return s->has[root] && !s->frozen[root] && (!s->inexact[root] || (s->o && s->o->inexact));
}

/* Groups, each with its atoms in ascending order, and the axis of each atom. */
struct groups {
    uint32_t n, n_atoms;
    uint32_t *root;  /* per group             */
    uint32_t *start; /* n + 1                 */
    uint32_t *atom, *axis;
    uint32_t *family;
    uint32_t n_families;
};

static void *room(qn_grouping *s, uint64_t n, uint64_t size, qn_err *err)
{
    return qn_arena_get(&s->scratch, (n + 1) * size, 8, err);
}

static qn_code mark_products(qn_grouping *s, qn_err *err)
{
    s->has = room(s, s->n_atoms, 1, err);
    if (!s->has)
        return QN_E_MEMORY;
    memset(s->has, 0, s->n_atoms + 1u);
    for (uint32_t v = 0; v < s->g->n_values; v++)
        for (int k = 0; qn_is_weight(s, v) && s->t.rank[v] != QN_RANK_UNKNOWN && k < s->t.rank[v]; k++) {
            const qn_axis a = qn_axis_at(s, v, k);
            for (uint32_t i = 0; s->role[qn_axis_number(v, (unsigned)k)] && i < a.n; i++)
                s->has[qn_atom_root(s, a.first + i)] = 1;
        }
    return QN_OK;
}

static qn_code collect(qn_grouping *s, struct groups *c, qn_err *err)
{
    uint32_t *of = room(s, s->n_atoms, sizeof *of, err); /* per root: group + 1 */
    c->root = room(s, s->n_atoms, sizeof *c->root, err);
    if (!of || !c->root)
        return QN_E_MEMORY;
    memset(of, 0, ((uint64_t)s->n_atoms + 1) * sizeof *of);
    for (uint32_t i = 0; i < s->n_atoms; i++) {
        const uint32_t r = qn_atom_root(s, i);
        if (!qn_class_can_go(s, r))
            continue;
        c->n_atoms++;
        if (!of[r]) {
            c->root[c->n++] = r;
            of[r] = c->n;
        }
    }
    c->start = room(s, c->n, sizeof *c->start, err);
    c->atom = room(s, c->n_atoms, sizeof *c->atom, err);
    c->axis = room(s, c->n_atoms, sizeof *c->axis, err);
    c->family = room(s, c->n, sizeof *c->family, err);
    uint32_t *at = room(s, c->n, sizeof *at, err);
    if (!c->start || !c->atom || !c->axis || !c->family || !at)
        return QN_E_MEMORY;
    c->start[0] = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        at[i] = c->start[i];
        c->start[i + 1] = c->start[i] + s->size[c->root[i]];
    }
    for (uint32_t v = 0; v < s->g->n_values; v++)
        for (int k = 0; s->t.rank[v] != QN_RANK_UNKNOWN && k < s->t.rank[v]; k++) {
            const qn_axis a = qn_axis_at(s, v, k);
            for (uint32_t i = 0; i < a.n; i++) {
                const uint32_t g = of[qn_atom_root(s, a.first + i)];
                if (!g)
                    continue;
                c->axis[at[g - 1]] = qn_axis_number(v, (unsigned)k);
                c->atom[at[g - 1]++] = a.first + i;
            }
        }
    return QN_OK;
}

static bool alike(const qn_grouping *s, const struct groups *c, uint32_t a, uint32_t b)
{
    const uint32_t n = c->start[a + 1] - c->start[a];
    return n == c->start[b + 1] - c->start[b] && !s->inexact[c->root[a]] == !s->inexact[c->root[b]] &&
           !memcmp(c->axis + c->start[a], c->axis + c->start[b], n * sizeof *c->axis);
}

/* Families are numbered by their first group. */
static qn_code sort_out(qn_grouping *s, struct groups *c, qn_err *err)
{
    uint32_t cap = 16;
    while (cap < 2 * (uint64_t)c->n)
        cap *= 2;
    uint32_t *slot = room(s, cap, sizeof *slot, err); /* first group of a family + 1 */
    if (!slot)
        return QN_E_MEMORY;
    memset(slot, 0, cap * sizeof *slot);
    for (uint32_t i = 0; i < c->n; i++) {
        uint64_t h = 1469598103934665603u; /* FNV-1a, a word at a time */
        for (uint32_t k = c->start[i]; k < c->start[i + 1]; k++)
            h = (h ^ c->axis[k]) * 1099511628211u;
        uint32_t p = (uint32_t)(h ^ h >> 32) & (cap - 1);
        while (slot[p] && !alike(s, c, slot[p] - 1, i))
            p = (p + 1) & (cap - 1);
        if (!slot[p]) {
            slot[p] = i + 1;
            c->family[i] = c->n_families++;
        } else {
            c->family[i] = c->family[slot[p] - 1];
        }
    }
    return QN_OK;
}

/* ---- one family ---- */

static uint8_t role_of(const qn_grouping *s, uint32_t axis)
{
    if (!qn_is_weight(s, axis / QN_ARRAY_RANK_MAX))
        return QN_MEMBER_VALUE;
    return s->role[axis] & 1u << QN_MEMBER_PRODUCER ? QN_MEMBER_PRODUCER
           : s->role[axis] & 1u << QN_MEMBER_CONSUMER ? QN_MEMBER_CONSUMER
                                                      : QN_MEMBER_PARAMETER;
}

/* list: the family's groups. */
static qn_code fill_members(qn_grouping *s, const struct groups *c, const uint32_t *list, qn_family *f, qn_err *err)
{
    const uint32_t *axis = c->axis + c->start[list[0]];
    const uint32_t n = c->start[list[0] + 1] - c->start[list[0]];
    f->n_members = 0;
    for (uint32_t i = 0; i < n; i++)
        f->n_members += !i || axis[i] != axis[i - 1];
    qn_member *m = qn_arena_get(s->arena, f->n_members * sizeof *m, 8, err);
    if (!m)
        return QN_E_MEMORY;
    f->members = m;
    for (uint32_t i = 0, j; i < n; i = j, m++) {
        j = i;
        while (j < n && axis[j] == axis[i])
            j++;
        const uint32_t per = j - i;
        uint32_t *start = qn_arena_get(s->arena, ((uint64_t)f->n_groups + 1) * sizeof *start, 4, err);
        uint32_t *index = qn_arena_get(s->arena, (uint64_t)f->n_groups * per * sizeof *index, 4, err);
        if (!start || !index)
            return QN_E_MEMORY;
        *m = (qn_member){axis[i] / QN_ARRAY_RANK_MAX, (uint8_t)(axis[i] % QN_ARRAY_RANK_MAX), role_of(s, axis[i]), start, index};
        for (uint32_t g = 0; g < f->n_groups; g++) {
            start[g] = g * per;
            for (uint32_t k = 0; k < per; k++)
                index[g * per + k] = c->atom[c->start[list[g]] + i + k] - s->first[axis[i]];
        }
        start[f->n_groups] = f->n_groups * per;
    }
    return QN_OK;
}

/* Per axis: indices of one group of the family at hand; 0 for others. Filled and emptied around each family. */
static void count_axes(const qn_family *f, uint32_t *count, bool in)
{
    for (uint32_t i = 0; i < f->n_members; i++)
        count[qn_axis_number(f->members[i].value, f->members[i].axis)] = in ? f->members[i].start[1] : 0;
}

static double part_of(const qn_grouping *s, const uint32_t *count, uint32_t axis)
{
    return s->t.dims[axis] > 0 ? (double)count[axis] / (double)s->t.dims[axis] : 0;
}

static void costs(const qn_grouping *s, const uint32_t *count, qn_family *f)
{
    double params = 0;
    for (uint32_t i = 0; i < f->n_members; i++) {
        const uint32_t v = f->members[i].value;
        if (f->members[i].role == QN_MEMBER_VALUE || (i && f->members[i - 1].value == v))
            continue;
        double stays = 1;
        for (unsigned k = 0; k < s->t.rank[v]; k++)
            stays *= 1 - part_of(s, count, qn_axis_number(v, k));
        params += qn_elems(s, v) * (1 - stays);
    }
    f->params_each = (uint64_t)(params + 0.5);
    for (uint64_t i = 0; i < s->n_products; i++) {
        const qn_product *p = &s->products[i];
        double stays = 1;
        for (unsigned k = 0; k < p->n_axes; k++)
            stays *= 1 - part_of(s, count, p->axis[k]);
        f->macs_each += p->macs * (1 - stays);
    }
}

static qn_code fill_consumers(qn_grouping *s, const uint32_t *count, qn_family *f, qn_err *err)
{
    qn_consumer *c = NULL;
    for (unsigned pass = 0; pass < 2; pass++) {
        uint32_t n = 0;
        for (uint64_t i = 0; i < s->n_products; i++) {
            const qn_product *p = &s->products[i];
            if (p->weight == QN_NO_VALUE || p->in_axis == UINT8_MAX || !count[qn_axis_number(p->weight, p->in_axis)])
                continue;
            uint32_t member = 0;
            while (f->members[member].value != p->weight || f->members[member].axis != p->in_axis)
                member++;
            if (c)
                c[n] = (qn_consumer){p->node, p->weight, p->bias, member, p->per_index, p->tapped};
            n++;
        }
        f->n_consumers = n;
        if (!pass && !(c = qn_arena_get(s->arena, ((uint64_t)n + 1) * sizeof *c, 8, err)))
            return QN_E_MEMORY;
    }
    f->consumers = c;
    return QN_OK;
}

/* Name: the weight of its first producing product, else of its first consuming one. */
static void name(const qn_grouping *s, const uint32_t *count, const uint32_t *first_reader, const uint32_t *last_reader, qn_family *f)
{
    f->first_node = QN_NO_NODE;
    f->last_node = 0;
    const char *made = NULL, *read = NULL;
    for (uint64_t i = 0; i < s->n_products; i++) {
        const qn_product *p = &s->products[i];
        if (p->weight == QN_NO_VALUE)
            continue;
        const bool out = p->out_axis != UINT8_MAX && count[qn_axis_number(p->weight, p->out_axis)];
        const bool in = p->in_axis != UINT8_MAX && count[qn_axis_number(p->weight, p->in_axis)];
        if (out && !made)
            made = s->g->values[p->weight].name;
        if (in && !read)
            read = s->g->values[p->weight].name;
        if ((in || out) && p->node > f->last_node)
            f->last_node = p->node;
    }
    f->name = made ? made : read;
    for (uint32_t i = 0; i < f->n_members; i++) {
        const uint32_t v = f->members[i].value;
        if (f->members[i].role == QN_MEMBER_VALUE || first_reader[v] == QN_NO_NODE)
            continue;
        if (!f->name)
            f->name = s->g->values[v].name;
        f->first_node = first_reader[v] < f->first_node ? first_reader[v] : f->first_node;
        f->last_node = last_reader[v] > f->last_node ? last_reader[v] : f->last_node;
    }
    if (!f->name)
        f->name = "";
}

static const char *kind_of(const qn_grouping *s, unsigned mark)
{
    if (mark & QN_MARK_HEADS)
        return "heads";
    if (mark & QN_MARK_HEAD_SIZE)
        return "head size";
    if (mark & QN_MARK_WIDTH)
        return "width";
    if (mark & (QN_MARK_EXPERTS | QN_MARK_GATED))
        return "ffn";
    if (mark & QN_MARK_CHANNELS)
        return "channels";
    return s->g->n_vocab ? "ffn" : "units";
}

static int by_place(const void *a, const void *b)
{
    const qn_family *x = a, *y = b;
    if (x->first_node != y->first_node)
        return x->first_node < y->first_node ? -1 : 1;
    const int c = strcmp(x->name, y->name);
    if (c)
        return c;
    return x->members[0].index[0] < y->members[0].index[0] ? -1 : x->members[0].index[0] > y->members[0].index[0];
}

qn_code qn_families_make(qn_grouping *s, qn_groups *r, qn_err *err)
{
    struct groups c = {0};
    QN_TRY(mark_products(s, err));
    QN_TRY(collect(s, &c, err));
    QN_TRY(sort_out(s, &c, err));
    r->n_families = c.n_families;
    r->families = qn_arena_get(s->arena, ((uint64_t)c.n_families + 1) * sizeof *r->families, 8, err);
    uint32_t *count = room(s, (uint64_t)s->g->n_values * QN_ARRAY_RANK_MAX, sizeof *count, err);
    uint32_t *list = room(s, c.n, sizeof *list, err), *begin = room(s, c.n_families, sizeof *begin, err);
    uint32_t *at = room(s, c.n_families, sizeof *at, err);
    uint32_t *first = room(s, s->g->n_values, sizeof *first, err), *last = room(s, s->g->n_values, sizeof *last, err);
    if (!r->families || !count || !list || !begin || !at || !first || !last)
        return QN_E_MEMORY;
    memset(r->families, 0, ((uint64_t)c.n_families + 1) * sizeof *r->families);
    memset(count, 0, ((uint64_t)s->g->n_values * QN_ARRAY_RANK_MAX + 1) * sizeof *count);
    for (uint32_t v = 0; v < s->g->n_values; v++)
        first[v] = last[v] = QN_NO_NODE;
    for (uint32_t i = 0; i < s->g->n_nodes; i++)
        for (unsigned k = 0; k < s->g->nodes[i].n_in; k++) {
            const uint32_t v = s->g->nodes[i].in[k];
            if (v == QN_NO_VALUE)
                continue;
            first[v] = first[v] == QN_NO_NODE ? i : first[v];
            last[v] = i;
        }
    for (uint32_t i = 0; i < c.n; i++)
        r->families[c.family[i]].n_groups++;
    begin[0] = 0;
    for (uint32_t f = 0; f < c.n_families; f++) {
        at[f] = begin[f];
        begin[f + 1] = begin[f] + r->families[f].n_groups;
    }
    for (uint32_t i = 0; i < c.n; i++)
        list[at[c.family[i]]++] = i;
    for (uint32_t f = 0; f < c.n_families; f++) {
        qn_family *d = &r->families[f];
        unsigned mark = 0;
        uint32_t why = 0;
        for (uint32_t i = begin[f]; i < begin[f + 1]; i++) {
            mark |= s->mark[c.root[list[i]]];
            why = why ? why : s->inexact[c.root[list[i]]];
        }
        d->reason = why ? s->whys[why - 1].text : NULL;
        d->kind = kind_of(s, mark);
        QN_TRY(fill_members(s, &c, list + begin[f], d, err));
        count_axes(d, count, true);
        costs(s, count, d);
        name(s, count, first, last, d);
        const qn_code rc = fill_consumers(s, count, d, err);
        count_axes(d, count, false);
        QN_TRY(rc);
    }
    if (r->n_families)
        qsort(r->families, r->n_families, sizeof *r->families, by_place);
    return QN_OK;
}
