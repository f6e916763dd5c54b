/* allocate_curves.c: allocation from the error curves of the families, without running the model: the Lagrangian rule that at the optimum the last groups of
 * every family raise the error equally for what they save. Costs are not additive (a weight between two families shrinks with both), so savings
 * are those of the cut as it stands. */
#include "base/err.h"
#include "compress/prune/allocate_impl.h"

qn_code qn_allocate_curves(qn_allocator *a, uint32_t *at, qn_err *err)
{
    double **loss;
    QN_TRY(qn_repair_curves(a->env, a->graph, a->feed, a->groups, &a->o->repair, &a->curves, err));
    QN_TRY(qn_allocator_losses(a, &loss, err));
    for (uint32_t u = 0; u < a->n_units; u++)
        for (uint32_t i = 0; i < a->units[u].n_steps; i++)
            for (uint32_t k = 0; k < a->units[u].n_families; k++)
                loss[u][i] += a->curves.error[a->units[u].families[k]][a->units[u].n - a->units[u].keep[i]];
    return qn_allocator_descend(a, loss, at, err);
}
