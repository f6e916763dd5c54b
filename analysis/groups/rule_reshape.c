/* rule_reshape.c: the same elements in another shape: Reshape, Flatten, Squeeze, Unsqueeze.
 *
 * Both shapes fall into smallest runs of axes with equal products; axes of size 1 never count. In a run,
 *   1 : 1   the axes are one;
 *   n : 1   one of the n *carries*: flat index f belongs to its index ⌊f / stride⌋ mod size; the others keep their widths. Which one: the first
 *           that is not frozen (heads × size: whole heads), with options.inner the last (sizes). Decided when all else is known;
 *   n : m   the first axes of both, when one's stride is a multiple of the other's (channels in groups); else nothing can go. */
#include "analysis/groups/impl.h"
#include <string.h>

struct run {
    unsigned n[2], axis[2][QN_ARRAY_RANK_MAX]; /* of x, of y */
};

/* Returns how many runs; 0: nothing fits (a size of 0). */
static unsigned cut_runs(const qn_grouping *s, const uint32_t v[2], struct run *runs)
{
    unsigned at[2] = {0, 0}, n = 0;
    const unsigned rank[2] = {s->t.rank[v[0]], s->t.rank[v[1]]};
    for (;;) {
        struct run r = {{0, 0}, {{0}, {0}}};
        int64_t product[2] = {1, 1};
        bool ended = false;
        while (!r.n[0] || !r.n[1] || product[0] != product[1]) {
            const unsigned k = !r.n[0] ? 0 : !r.n[1] ? 1 : product[0] < product[1] ? 0 : 1;
            while (at[k] < rank[k] && s->t.dims[qn_axis_number(v[k], at[k])] == 1)
                at[k]++;
            if (at[k] == rank[k]) {
                ended = true;
                break;
            }
            const int64_t d = s->t.dims[qn_axis_number(v[k], at[k])];
            if (d <= 0 || __builtin_mul_overflow(product[k], d, &product[k]))
                return 0;
            r.axis[k][r.n[k]++] = at[k]++;
        }
        if (ended) {
            for (unsigned k = 0; k < 2; k++)
                while (at[k] < rank[k] && s->t.dims[qn_axis_number(v[k], at[k])] == 1)
                    at[k]++;
            return r.n[0] || r.n[1] || at[0] != rank[0] || at[1] != rank[1] ? 0 : n;
        }
        runs[n++] = r;
    }
}

static bool any_free(qn_grouping *s, qn_axis a)
{
    for (uint32_t i = 0; i < a.n; i++)
        if (qn_is_free(s, a.first + i))
            return true;
    return false;
}

/* side: which of x (0), y (1) the atom `many` belongs to. */
static void flow(qn_grouping *s, unsigned side, uint32_t many, uint32_t one)
{
    if (side == 0)
        qn_flow(s, many, one);
    else
        qn_flow(s, one, many);
}

static void freeze_others(qn_grouping *s, const qn_node *n, const uint32_t v[2], const struct run *r, unsigned side, unsigned keep)
{
    const uint32_t why = qn_reason(s, "is merged with another axis by node '%s' (%s)", n->name, n->type);
    for (unsigned k = 0; k < r->n[side]; k++)
        if (k != keep)
            qn_freeze(s, qn_axis_at(s, v[side], (int)r->axis[side][k]), why);
}

static void carry(qn_grouping *s, const qn_node *n, const uint32_t v[2], const struct run *r, uint8_t *choice)
{
    const unsigned side = r->n[0] > 1 ? 0 : 1;
    const qn_axis one = qn_axis_at(s, v[!side], (int)r->axis[!side][0]);
    if (!s->zero_pass) {
        const unsigned count = r->n[side];
        *choice = 0;
        for (unsigned i = 0; i < count && !*choice && any_free(s, one); i++) {
            const unsigned k = s->o && s->o->inner ? count - 1 - i : i;
            if (any_free(s, qn_axis_at(s, v[side], (int)r->axis[side][k])))
                *choice = (uint8_t)(k + 1);
        }
        freeze_others(s, n, v, r, side, *choice ? *choice - 1u : UINT32_MAX);
        if (!*choice)
            freeze_others(s, n, v, r, !side, UINT32_MAX);
    }
    if (!*choice)
        return;
    const unsigned k = *choice - 1u;
    const qn_axis c = qn_axis_at(s, v[side], (int)r->axis[side][k]);
    uint64_t stride = 1;
    for (unsigned i = k + 1; i < r->n[side]; i++)
        stride *= qn_axis_at(s, v[side], (int)r->axis[side][i]).n;
    for (uint32_t f = 0; f < one.n; f++)
        flow(s, side, c.first + (uint32_t)(f / stride % c.n), one.first + f);
}

static void both(qn_grouping *s, const qn_node *n, const uint32_t v[2], const struct run *r, uint8_t *choice)
{
    qn_axis a[2];
    uint64_t stride[2] = {1, 1};
    for (unsigned k = 0; k < 2; k++) {
        a[k] = qn_axis_at(s, v[k], (int)r->axis[k][0]);
        for (unsigned i = 1; i < r->n[k]; i++)
            stride[k] *= qn_axis_at(s, v[k], (int)r->axis[k][i]).n;
    }
    const unsigned wide = stride[0] >= stride[1] ? 0 : 1; /* whose index covers some of the other's */
    if (!s->zero_pass) {
        *choice = stride[wide] % stride[!wide] == 0 && any_free(s, a[0]) && any_free(s, a[1]);
        for (unsigned k = 0; k < 2; k++)
            freeze_others(s, n, v, r, k, *choice ? 0 : UINT32_MAX);
    }
    if (!*choice)
        return;
    const uint64_t per = stride[wide] / stride[!wide];
    for (uint32_t i = 0; i < a[!wide].n; i++)
        flow(s, wide, a[wide].first + (uint32_t)(i / per), a[!wide].first + i);
}

void qn_rule_reshape(qn_grouping *s, const qn_node *n)
{
    const uint32_t v[2] = {qn_in(s, n, 0), qn_out(s, n, 0)};
    struct run runs[QN_ARRAY_RANK_MAX + 1];
    const unsigned n_runs = cut_runs(s, v, runs);
    uint8_t *choice = s->choice + (uint64_t)s->node * QN_ARRAY_RANK_MAX;
    if (!n_runs && qn_elems(s, v[0]) > 1)
        qn_freeze_node(s, n, qn_reason(s, "shapes of node '%s' (%s)", n->name, n->type));
    for (unsigned i = 0; i < n_runs; i++) {
        const struct run *r = &runs[i];
        const bool plain = r->n[0] == 1 && r->n[1] == 1;
        if (!s->zero_pass && plain == s->late)
            continue;
        if (plain)
            qn_flow_axes(s, qn_axis_at(s, v[0], (int)r->axis[0][0]), qn_axis_at(s, v[1], (int)r->axis[1][0]));
        else if (r->n[0] == 1 || r->n[1] == 1)
            carry(s, n, v, r, &choice[i]);
        else
            both(s, n, v, r, &choice[i]);
    }
}
