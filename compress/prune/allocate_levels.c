/* allocate_levels.c: the sensitivity table: what the whole model loses when one unit is cut to one level, repaired, and all others are whole. For evolution the
 * changed weights are kept too, so that a choice of levels is put together without repairing anew. */
#include "base/err.h"
#include "base/num.h"
#include "compress/prune/allocate_impl.h"
#include <math.h>
#include <string.h>

#define DEEPEST   2.5         /* levels reach so far beyond the share that one for all would need */
#define LEAST_TOP 0.5
#define UNLIMITED_KEEPS (2ull << 30) /* bytes of pieces in memory when no limit is given */

static void choose_levels(qn_table *t, uint32_t unit, double top)
{
    const qn_alloc_unit *u = &t->a->units[unit];
    qn_cut_level *l = &t->levels[(uint64_t)unit * QN_LEVELS_MAX];
    uint32_t n = 1;
    for (uint32_t i = 1; i < QN_LEVELS_MAX; i++) {
        const double share = top * i / (QN_LEVELS_MAX - 1);
        const uint32_t step = qn_alloc_unit_step(u, floor(u->n * (1 - share) + 0.5));
        if (step > l[n - 1].step)
            l[n++].step = step;
    }
    t->n_levels[unit] = n;
}

/* Takes the overlay's changed weights over. */
static qn_code keep_pieces(qn_table *t, qn_overlay *w, qn_cut_level *l, qn_err *err)
{
    qn_allocator *a = t->a;
    const uint64_t limit = a->o->repair.memory_bytes ? a->o->repair.memory_bytes / 4 : UNLIMITED_KEEPS;
    uint32_t n = 0;
    for (uint32_t v = 0; v < a->graph->n_values; v++)
        n += w->data[v] != NULL;
    l->pieces = qn_arena_get(&a->arena, (n + 1ull) * sizeof *l->pieces, 8, err);
    if (!l->pieces)
        return QN_E_MEMORY;
    for (uint32_t v = 0; v < a->graph->n_values; v++) {
        const uint64_t n_bytes = qn_value_elems(&a->graph->values[v]) * sizeof(float);
        if (!w->data[v])
            continue;
        qn_piece *p = &l->pieces[l->n_pieces];
        *p = (qn_piece){.value = v};
        if (t->held_bytes + n_bytes > limit) {
            if (t->file.fd < 0)
                QN_TRY(qn_file_open_unnamed(&t->file, a->env->fs, a->env->alloc, a->env->tmp_dir, err));
            QN_TRY(qn_file_write(&t->file, w->data[v], n_bytes, t->end_off, err));
            p->off = t->end_off;
            t->end_off += n_bytes;
        } else {
            p->w = qn_mem_get(a->env->alloc, n_bytes, err);
            if (!p->w)
                return QN_E_MEMORY;
            memcpy(p->w, w->data[v], n_bytes);
            t->held_bytes += n_bytes;
        }
        l->n_pieces++;
    }
    return QN_OK;
}

qn_code qn_piece_read(const qn_table *t, const qn_piece *p, float *dst, qn_err *err)
{
    const uint64_t n_bytes = qn_value_elems(&t->a->graph->values[p->value]) * sizeof(float);
    if (!p->w)
        return qn_file_read(&t->file, dst, n_bytes, p->off, err);
    memcpy(dst, p->w, n_bytes);
    return QN_OK;
}

qn_code qn_allocator_try(qn_allocator *a, const uint32_t *steps, qn_cut *cut, qn_overlay *w, double *loss, qn_err *err)
{
    const uint64_t n = a->groups->n_families + 1ull;
    qn_distance d;
    uint32_t *keep = qn_mem_get(a->env->alloc, n * sizeof *keep, err);
    qn_repair_family *report = keep ? qn_mem_zeros(a->env->alloc, n, sizeof *report, err) : NULL;
    qn_code rc = report ? QN_OK : QN_E_MEMORY;
    for (uint32_t u = 0; u < a->n_units && rc == QN_OK; u++)
        for (uint32_t i = 0; i < a->units[u].n_families; i++)
            keep[a->units[u].families[i]] = a->units[u].keep[steps[u]];
    if (rc == QN_OK)
        rc = qn_repair(a->env, a->graph, a->feed, keep, &a->o->repair, cut, w, report, err);
    if (rc == QN_OK)
        rc = qn_measure_run(a->measure, w, 0, qn_measure_batches(a->measure), &d, err);
    if (rc == QN_OK)
        *loss = d.loss;
    qn_mem_put(a->env->alloc, report);
    qn_mem_put(a->env->alloc, keep);
    return rc;
}

static qn_code fill(qn_table *t, uint32_t unit, qn_cut_level *l, uint32_t *steps, qn_err *err)
{
    qn_allocator *a = t->a;
    qn_overlay *w = NULL;
    QN_TRY(qn_cut_new(a->env, a->groups, &l->cut, err));
    qn_code rc = qn_overlay_new(a->env, a->graph, &w, err);
    steps[unit] = l->step;
    if (rc == QN_OK)
        rc = qn_allocator_try(a, steps, l->cut, w, &l->loss, err);
    steps[unit] = 0;
    if (rc == QN_OK && t->keeps_pieces)
        rc = keep_pieces(t, w, l, err);
    qn_overlay_free(w);
    return rc;
}

qn_code qn_levels_make(qn_table *t, qn_allocator *a, double share, bool keeps_pieces, qn_err *err)
{
    const uint64_t n = (a->n_units + 1ull) * QN_LEVELS_MAX;
    uint64_t n_all = 0, n_done = 0;
    *t = (qn_table){.a = a, .keeps_pieces = keeps_pieces, .file = QN_FILE_CLOSED};
    t->n_levels = qn_arena_get(&a->arena, (a->n_units + 1ull) * sizeof *t->n_levels, 4, err);
    t->levels = t->n_levels ? qn_arena_get(&a->arena, n * sizeof *t->levels, 8, err) : NULL;
    uint32_t *steps = t->levels ? qn_arena_get(&a->arena, (a->n_units + 1ull) * sizeof *steps, 4, err) : NULL;
    if (!steps)
        return QN_E_MEMORY;
    memset(t->levels, 0, n * sizeof *t->levels);
    memset(steps, 0, a->n_units * sizeof *steps);
    for (uint32_t u = 0; u < a->n_units; u++) {
        choose_levels(t, u, fmin(1, fmax(LEAST_TOP, DEEPEST * share)));
        n_all += t->n_levels[u] - 1;
    }
    for (uint32_t u = 0; u < a->n_units; u++)
        for (uint32_t i = 1; i < t->n_levels[u]; i++) {
            QN_TRY(fill(t, u, &t->levels[(uint64_t)u * QN_LEVELS_MAX + i], steps, err));
            n_done++;
            if (a->env->progress)
                a->env->progress(a->env->progress_ctx, "sensitivity of cuts", n_done, n_all);
        }
    return QN_OK;
}

void qn_levels_release(qn_table *t)
{
    for (uint64_t i = 0; t->levels && i < (uint64_t)t->a->n_units * QN_LEVELS_MAX; i++) {
        for (uint32_t k = 0; k < t->levels[i].n_pieces; k++)
            qn_mem_put(t->a->env->alloc, t->levels[i].pieces[k].w);
        qn_cut_free(t->levels[i].cut);
    }
    if (t->a && t->file.fd >= 0)
        qn_file_drop(&t->file);
}

qn_code qn_levels_cost(const qn_table *t, const uint8_t *levels, uint32_t *steps, double *cost, qn_err *err)
{
    for (uint32_t u = 0; u < t->a->n_units; u++)
        steps[u] = t->levels[(uint64_t)u * QN_LEVELS_MAX + levels[u]].step;
    return qn_allocator_cost(t->a, steps, cost, err);
}
