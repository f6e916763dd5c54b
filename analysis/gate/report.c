/* report.c: see report.h. */
#include "analysis/gate/report.h"
#include <math.h>

static const qn_estimate unknown = {.value = (double)NAN, .se = (double)NAN, .low = (double)NAN, .high = (double)NAN};

void qn_report_init(qn_report *r, const qn_alloc *alloc)
{
    *r = (qn_report){.kl = unknown, .ppl = unknown, .ppl_ref = unknown, .ppl_ratio = unknown, .same_top = unknown, .excess = unknown,
                     .kl_p99 = unknown, .io_same_top = unknown, .io_right = unknown, .io_right_ref = unknown,
                     .max_dp = (double)NAN, .noise_kl = (double)NAN, .noise_nll = (double)NAN};
    for (unsigned i = 0; i < 7; i++)
        r->kl_quantiles[i] = (double)NAN;
    qn_arena_init(&r->arena, alloc);
}

void qn_report_release(qn_report *r)
{
    qn_arena_release(&r->arena);
}

double qn_report_bpw(const qn_report *r)
{
    return r->n_weights ? 8 * (double)r->size_bytes / (double)r->n_weights : (double)NAN;
}

const qn_report_output *qn_report_worst_output(const qn_report *r)
{
    const qn_report_output *worst = NULL;
    for (uint64_t i = 0; i < r->n_outputs; i++)
        if (!worst || r->outputs[i].rel_rms > worst->rel_rms)
            worst = &r->outputs[i];
    return worst;
}

const qn_report_layer *qn_report_jump(const qn_report *r, double times)
{
    for (uint64_t i = 0; i < r->n_layers; i++) {
        const qn_report_layer *y = &r->layers[i];
        uint64_t below = 0;
        for (uint64_t k = 0; k < r->n_layers; k++)
            below += times * r->layers[k].own_rel < y->own_rel;
        if (y->rel_rms > 0.02 && 2 * below > r->n_layers - 1)
            return y;
    }
    return NULL;
}
