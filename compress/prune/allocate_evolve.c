/* allocate_evolve.c: levels improved by mutation and selection (EvoPress, Sieberling et al. 2024): errors of layers do not add up, so whole models are compared. A child
 * has some units one level deeper and others one level up again, so that the budget stays met. Children are thinned out on growing parts of the data; their
 * parent is among those that are judged on all of them, so nothing gets worse. Weights are put together from the table's pieces. */
#include "base/err.h"
#include "base/random.h"
#include "base/hash.h"
#include "base/num.h"
#include "compress/prune/allocate_impl.h"
#include <math.h>
#include <string.h>

enum { GENERATIONS = 30, OFFSPRING = 16, SWITCHES = 3, TRIES = 8 };

struct child {
    uint8_t *levels;
    double loss;
};

struct evolution {
    const qn_table *t;
    qn_overlay *w, *dense;  /* the model being put together; weights of the dense one that several units change */
    qn_cut *cut;
    float *piece;           /* room for the largest */
    uint64_t *made_of;      /* per value: what its weight in w was put together from; 0: nothing */
    uint32_t *steps;
    uint64_t state;         /* of the generator */
    struct child *children;
    uint8_t *parent;
    double loss;            /* of the parent, on all batches */
    uint32_t n_children;
    uint64_t *seen;         /* hashes of all that were bred: none is bred twice */
    uint64_t n_seen;
};

static uint64_t draw(struct evolution *e, uint64_t n)
{
    return qn_random(&e->state) % n;
}

/* --- a model from pieces -------------------------------------------------------------------------------------------- */

static const qn_cut_level *level_of(const struct evolution *e, const uint8_t *levels, uint32_t unit)
{
    return &e->t->levels[(uint64_t)unit * QN_LEVELS_MAX + levels[unit]];
}

static const qn_piece *piece_of(const qn_cut_level *l, uint32_t value)
{
    uint32_t lo = 0, hi = l->n_pieces; /* by value, rising */
    while (lo < hi) {
        const uint32_t mid = (lo + hi) / 2;
        if (l->pieces[mid].value < value)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < l->n_pieces && l->pieces[lo].value == value ? &l->pieces[lo] : NULL;
}

/* W = W₀ + Σ (W_u − W₀) over the units that change it: what one refits another may have cut, which is put right afterwards. */
static qn_code put_together(struct evolution *e, const uint8_t *levels, uint32_t value, qn_err *err)
{
    const qn_allocator *a = e->t->a;
    const uint64_t n = qn_value_elems(&a->graph->values[value]);
    uint32_t n_found = 0;
    float *w, *w0;
    uint64_t from = 0;
    for (uint32_t u = 0; u < a->n_units; u++)
        if (levels[u] && piece_of(level_of(e, levels, u), value))
            from = (from ^ ((uint64_t)u * QN_LEVELS_MAX + levels[u])) * 0x100000001b3u + 1;
    if (from == e->made_of[value])
        return QN_OK;
    e->made_of[value] = from;
    if (!from) {
        qn_overlay_drop(e->w, value);
        return QN_OK;
    }
    QN_TRY(qn_overlay_edit(e->w, value, &w, err));
    for (uint32_t u = 0; u < a->n_units; u++) {
        const qn_piece *p = levels[u] ? piece_of(level_of(e, levels, u), value) : NULL;
        if (!p)
            continue;
        if (n_found++ == 0) {
            QN_TRY(qn_piece_read(e->t, p, w, err));
            continue;
        }
        QN_TRY(qn_overlay_edit(e->dense, value, &w0, err));
        QN_TRY(qn_piece_read(e->t, p, e->piece, err));
        for (uint64_t i = 0; i < n; i++)
            w[i] += e->piece[i] - w0[i];
    }
    return qn_cut_zero(e->cut, value, w, err);
}

static qn_code judge(struct evolution *e, struct child *c, uint64_t first, uint64_t n, qn_err *err)
{
    const qn_allocator *a = e->t->a;
    qn_distance d;
    for (uint32_t u = 0; u < a->n_units; u++)
        for (uint32_t i = 0; i < a->units[u].n_families; i++) {
            const uint32_t f = a->units[u].families[i];
            const qn_cut *cut = level_of(e, c->levels, u)->cut;
            for (uint32_t k = 0; k < a->groups->families[f].n_groups; k++)
                qn_cut_set(e->cut, f, k, cut && cut->gone[f][k]);
        }
    for (uint32_t v = 0; v < a->graph->n_values; v++)
        if (a->graph->values[v].kind == QN_VALUE_WEIGHT)
            QN_TRY(put_together(e, c->levels, v, err));
    QN_TRY(qn_measure_run(a->measure, e->w, first, n, &d, err));
    c->loss = d.loss;
    return QN_OK;
}

/* --- mutation -------------------------------------------------------------------------------------------------------- */

static qn_code meets(struct evolution *e, const uint8_t *levels, bool *yes, qn_err *err)
{
    double cost;
    QN_TRY(qn_levels_cost(e->t, levels, e->steps, &cost, err));
    *yes = cost <= e->t->a->limit;
    return QN_OK;
}

/* One to three units go a level deeper; then, in random order, all that can come up by one level do, unless they have just gone down. */
static qn_code mutate(struct evolution *e, uint8_t *levels, qn_err *err)
{
    const uint32_t n = e->t->a->n_units;
    const uint64_t a = 1 + draw(e, SWITCHES), b = 1 + draw(e, SWITCHES);
    uint32_t moved[SWITCHES], n_moved = 0;
    for (uint64_t i = 0; i < (a < b ? a : b); i++) {
        const uint32_t u = (uint32_t)draw(e, n);
        if (levels[u] + 1u < e->t->n_levels[u]) {
            levels[u]++;
            moved[n_moved++] = u;
        }
    }
    const uint32_t from = (uint32_t)draw(e, n);
    const bool falling = draw(e, 2);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t u = falling ? (from + n - i) % n : (from + i) % n;
        bool just = false, fits;
        for (uint32_t k = 0; k < n_moved; k++)
            just |= moved[k] == u;
        if (just || !levels[u])
            continue;
        levels[u]--;
        QN_TRY(meets(e, levels, &fits, err));
        levels[u] += !fits;
    }
    return QN_OK;
}

static bool is_new(struct evolution *e, const uint8_t *levels)
{
    const uint64_t h = qn_hash64(levels, e->t->a->n_units);
    for (uint64_t i = 0; i < e->n_seen; i++)
        if (e->seen[i] == h)
            return false;
    e->seen[e->n_seen++] = h;
    return true;
}

static qn_code breed(struct evolution *e, uint32_t n_wanted, qn_err *err)
{
    const uint32_t n = e->t->a->n_units;
    e->n_children = 0;
    for (uint32_t i = 0; i < n_wanted * TRIES && e->n_children < n_wanted; i++) {
        uint8_t *levels = e->children[e->n_children].levels;
        bool fits;
        memcpy(levels, e->parent, n);
        QN_TRY(mutate(e, levels, err));
        QN_TRY(meets(e, levels, &fits, err));
        e->n_children += fits && is_new(e, levels);
    }
    return QN_OK;
}

/* --- selection ------------------------------------------------------------------------------------------------------- */

/* The best n of the children are those in front, in order; of equals the earlier. */
static qn_code select_best(struct evolution *e, uint64_t first, uint64_t n_batches, uint32_t n, qn_err *err)
{
    for (uint32_t i = 0; i < e->n_children; i++)
        QN_TRY(judge(e, &e->children[i], first, n_batches, err));
    for (uint32_t i = 0; i < n && i < e->n_children; i++)
        for (uint32_t k = e->n_children - 1; k > i; k--)
            if (e->children[k].loss < e->children[k - 1].loss) {
                const struct child swap = e->children[k];
                e->children[k] = e->children[k - 1];
                e->children[k - 1] = swap;
            }
    e->n_children = n < e->n_children ? n : e->n_children;
    return QN_OK;
}

static qn_code generation(struct evolution *e, uint32_t at, uint32_t n_offspring, qn_err *err)
{
    const uint64_t n = qn_measure_batches(e->t->a->measure), few = qn_max_u64(1, n / 8), half = qn_max_u64(1, n / 2);
    QN_TRY(breed(e, n_offspring, err));
    /* A window that moves on from generation to generation, so that no part of the data decides alone. */
    if (few < n)
        QN_TRY(select_best(e, at * few % (n - few + 1), few, (n_offspring + 3) / 4, err));
    if (half < n && half > few)
        QN_TRY(select_best(e, at * half % (n - half + 1), half, (n_offspring + 7) / 8, err));
    QN_TRY(select_best(e, 0, n, 1, err));
    if (e->n_children && e->children[0].loss < e->loss) {
        memcpy(e->parent, e->children[0].levels, e->t->a->n_units);
        e->loss = e->children[0].loss;
    }
    return QN_OK;
}

static qn_code evolve(struct evolution *e, double fitness[2], qn_err *err)
{
    const qn_allocator *a = e->t->a;
    const uint32_t n_generations = a->o->generations ? a->o->generations : GENERATIONS, n_offspring = a->o->offspring ? a->o->offspring : OFFSPRING;
    struct child first = {.levels = e->parent};
    QN_TRY(judge(e, &first, 0, qn_measure_batches(a->measure), err));
    e->loss = fitness[0] = first.loss;
    (void)is_new(e, e->parent);
    for (uint32_t i = 0; i < n_generations; i++) {
        QN_TRY(qn_env_check(a->env, err));
        QN_TRY(generation(e, i, n_offspring, err));
        if (a->env->progress)
            a->env->progress(a->env->progress_ctx, "evolving the cut", i + 1ull, n_generations);
    }
    fitness[1] = e->loss;
    return QN_OK;
}

static qn_code make_room(struct evolution *e, uint32_t n_offspring, uint32_t n_generations, qn_err *err)
{
    qn_allocator *a = e->t->a;
    uint64_t most = 1;
    for (uint64_t i = 0; i < (uint64_t)a->n_units * QN_LEVELS_MAX; i++)
        for (uint32_t k = 0; k < e->t->levels[i].n_pieces; k++)
            most = qn_max_u64(most, qn_value_elems(&a->graph->values[e->t->levels[i].pieces[k].value]));
    e->children = qn_arena_get(&a->arena, n_offspring * sizeof *e->children, 8, err);
    uint8_t *levels = e->children ? qn_arena_get(&a->arena, (n_offspring + 1ull) * (a->n_units + 1ull), 1, err) : NULL;
    e->steps = levels ? qn_arena_get(&a->arena, (a->n_units + 1ull) * sizeof *e->steps, 4, err) : NULL;
    e->seen = e->steps ? qn_arena_get(&a->arena, ((uint64_t)n_offspring * n_generations + 1) * sizeof *e->seen, 8, err) : NULL;
    e->made_of = e->seen ? qn_arena_get(&a->arena, (a->graph->n_values + 1ull) * sizeof *e->made_of, 8, err) : NULL;
    if (!e->made_of)
        return QN_E_MEMORY;
    memset(e->made_of, 0, a->graph->n_values * sizeof *e->made_of);
    for (uint32_t i = 0; i < n_offspring; i++)
        e->children[i] = (struct child){.levels = levels + (uint64_t)i * (a->n_units + 1ull)};
    e->piece = qn_mem_get(a->env->alloc, most * sizeof *e->piece, err);
    if (!e->piece)
        return QN_E_MEMORY;
    QN_TRY(qn_cut_new(a->env, a->groups, &e->cut, err));
    QN_TRY(qn_overlay_new(a->env, a->graph, &e->w, err));
    return qn_overlay_new(a->env, a->graph, &e->dense, err);
}

qn_code qn_allocate_evolve(const qn_table *t, uint8_t *levels, double fitness[2], qn_err *err)
{
    const qn_allocator *a = t->a;
    struct evolution e = {.t = t, .parent = levels, .state = a->o->seed};
    fitness[0] = fitness[1] = 0;
    if (!a->n_units)
        return QN_OK;
    qn_code rc = make_room(&e, a->o->offspring ? a->o->offspring : OFFSPRING, a->o->generations ? a->o->generations : GENERATIONS, err);
    if (rc == QN_OK)
        rc = evolve(&e, fitness, err);
    qn_overlay_free(e.dense);
    qn_overlay_free(e.w);
    qn_cut_free(e.cut);
    qn_mem_put(a->env->alloc, e.piece);
    return rc;
}
