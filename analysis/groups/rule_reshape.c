/* rule_reshape.c: the same elements in another shape: Reshape, Flatten, Squeeze, Unsqueeze.
 *
 * Both shapes are cut into common *factors*: where [2048, 64] becomes [512, 256], the factors are [512, 4, 64]; each belongs to one axis of x and to
 * one of y. An axis of one factor whose partner has no other either passes as it is. Else an axis has one factor that *carries*: its index says
 * which part of the axis goes, whatever the other factors say; other factors of an axis that is carried keep their size. Which factors carry is
 * decided in pass 1 when all else is known: the first whose axes both are not frozen yet (heads × size: whole heads), with options.inner the last
 * (sizes). An axis that nothing carries is frozen. Shapes without common factors ([6, 4] and [4, 6]) freeze. Sizes 1 never count. */
#include "analysis/groups/impl.h"
#include <string.h>

typedef struct factor {
    uint32_t n;
    uint8_t axis[2];      /* of x, of y                                         */
    uint64_t stride[2];   /* in the axis: product of its factors further in     */
    bool whole;           /* is all of both axes                                */
} factor;

enum { FACTORS_MAX = 2 * QN_ARRAY_RANK_MAX };

/* Innermost first. 0: none in common. */
static unsigned cut(const qn_grouping *s, const uint32_t v[2], factor *f)
{
    int at[2] = {s->t.rank[v[0]], s->t.rank[v[1]]};
    uint64_t left[2] = {1, 1}, stride[2] = {1, 1}; /* what of the axis at hand is still to be cut */
    unsigned n = 0;
    for (;;) {
        for (unsigned k = 0; k < 2; k++)
            while (left[k] == 1 && at[k] > 0) {
                const int64_t d = s->t.dims[qn_axis_number(v[k], (unsigned)--at[k])];
                if (d <= 0 || d > UINT32_MAX)
                    return 0;
                left[k] = (uint64_t)d;
                stride[k] = 1;
            }
        if (left[0] == 1 || left[1] == 1)
            return left[0] == left[1] ? n : 0;
        const uint64_t least = left[0] < left[1] ? left[0] : left[1];
        if (left[0] % least || left[1] % least || n == FACTORS_MAX)
            return 0;
        f[n] = (factor){(uint32_t)least, {(uint8_t)at[0], (uint8_t)at[1]}, {stride[0], stride[1]}, false};
        f[n].whole = left[0] == left[1] && stride[0] == 1 && stride[1] == 1;
        n++;
        for (unsigned k = 0; k < 2; k++) {
            left[k] /= least;
            stride[k] *= least;
        }
    }
}

static bool any_free(qn_grouping *s, qn_axis a)
{
    for (uint32_t i = 0; i < a.n; i++)
        if (qn_is_free(s, a.first + i))
            return true;
    return false;
}

/* Index by index: all indices of both axes with this coordinate hang together; those of y are 0 when all of x are. */
static void carry(qn_grouping *s, const factor *f, const qn_axis a[2])
{
    for (uint32_t c = 0; c < f->n; c++) {
        const uint32_t first = a[0].first + (uint32_t)(c * f->stride[0]);
        bool zero = true;
        for (unsigned k = 0; k < 2; k++) {
            const uint64_t inner = f->stride[k], period = inner * f->n;
            for (uint64_t base = c * inner; base < a[k].n; base += period)
                for (uint64_t i = 0; i < inner; i++) {
                    const uint32_t atom = a[k].first + (uint32_t)(base + i);
                    if (!s->zero_pass)
                        qn_tie(s, first, atom);
                    else if (k == 0)
                        zero = zero && s->zero[atom] == QN_ZERO_YES;
                    else
                        s->zero[atom] = zero ? QN_ZERO_YES : QN_ZERO_NO;
                }
        }
    }
}

/* Picks the factors that carry: bits of *choice. */
static void choose(qn_grouping *s, const uint32_t v[2], const factor *f, unsigned n, uint16_t *choice)
{
    bool taken[2][QN_ARRAY_RANK_MAX] = {{false}};
    const bool inner = s->o && s->o->inner;
    *choice = 0;
    for (unsigned i = 0; i < n; i++) {
        const factor *d = &f[inner ? i : n - 1 - i];
        bool free = !d->whole && d->n > 1;
        for (unsigned k = 0; k < 2 && free; k++)
            free = !taken[k][d->axis[k]] && any_free(s, qn_axis_at(s, v[k], d->axis[k]));
        if (!free)
            continue;
        taken[0][d->axis[0]] = taken[1][d->axis[1]] = true;
        *choice |= (uint16_t)(1u << (d - f));
    }
}

void qn_rule_reshape(qn_grouping *s, const qn_node *n)
{
    const uint32_t v[2] = {qn_in(s, n, 0), qn_out(s, n, 0)};
    factor f[FACTORS_MAX];
    const unsigned count = cut(s, v, f);
    uint16_t *choice = &s->choice[s->node];
    const uint32_t why = s->zero_pass ? 0 : qn_reason(s, "is merged with another axis by node '%s' (%s)", n->name, n->type);
    if (!count && qn_elems(s, v[0]) > 1)
        qn_freeze_node(s, n, qn_reason(s, "shapes of node '%s' (%s)", n->name, n->type));
    if (s->late)
        choose(s, v, f, count, choice);
    bool passes[2][QN_ARRAY_RANK_MAX] = {{false}};
    for (unsigned i = 0; i < count; i++) {
        const qn_axis a[2] = {qn_axis_at(s, v[0], f[i].axis[0]), qn_axis_at(s, v[1], f[i].axis[1])};
        const bool carries = *choice >> i & 1;
        if (f[i].whole && !s->late)
            qn_flow_axes(s, a[0], a[1]);
        if (carries && (s->late || s->zero_pass))
            carry(s, &f[i], a);
        if (f[i].whole || carries)
            passes[0][f[i].axis[0]] = passes[1][f[i].axis[1]] = true;
    }
    for (unsigned k = 0; k < 2 && s->late && count; k++)
        for (int a = 0; a < s->t.rank[v[k]]; a++)
            if (!passes[k][a])
                qn_freeze(s, qn_axis_at(s, v[k], a), why);
    for (unsigned i = 1; i < n->n_in; i++)
        qn_freeze_value(s, n->in[i], qn_reason_dull(s, "says what shape to give"));
}
