/* dfloat11.c: the target dfloat11: bf16 weights without loss at about 68 % of their size, as the dfloat11 package loads them
 * (formats/dfloat11/layout.h). What is not BF16, and what has no code, stays as it is. */
#include "base/err.h"
#include "base/num.h"
#include "compress/export/df11_pick.h"
#include "compress/export/export.h"
#include "compress/export/folder.h"
#include <string.h>

#define DENSE_ID (UINT64_C(1) << 63)

struct out {
    qn_export_job *j;
    qn_df11_pick pick;
};

static qn_code check(const qn_export_job *j, qn_err *err)
{
    const qn_export_wish *w = j->wish;
    if (*j->variant)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "dfloat11 has no variants: '%s' was asked for", j->variant);
    if (w->bits > 0 || w->size_bytes || w->group || w->asymmetric > 0)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "dfloat11 keeps every bit: a size, bits or groups cannot be chosen");
    if (j->graph && !strcmp(j->graph->family, "onnx"))
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "dfloat11 holds models of PyTorch modules: this is an ONNX model");
    return QN_OK;
}

static qn_code pick(qn_export_job *j, qn_df11_pick *p, qn_err *err)
{
    QN_TRY(qn_df11_pick_make(p, j->src, j->graph, j->arena, err));
    if (p->n == 0)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "no BF16 weight of a linear layer or an embedding under the names that Hugging Face gives them: "
                       "dfloat11 holds nothing else");
    return QN_OK;
}

static qn_code plan(qn_export_job *j, qn_recipe *r, qn_err *err)
{
    qn_df11_pick p;
    (void)r;
    QN_TRY(check(j, err));
    QN_TRY(pick(j, &p, err));
    for (uint32_t i = 0; i < p.n; i++) {
        const qn_df11_group *g = &p.modules[i].group;
        uint64_t n = 0;
        for (uint32_t k = 0; k < g->n_parts; k++)
            n += g->parts[k].n;
        QN_TRY(qn_export_note(j, &(qn_export_row){.name = g->module, .asked = "DFloat11", .given = "DFloat11", .n_weights = n}, err));
    }
    return QN_OK;
}

/* ---- surveying ---- */

static qn_code survey_module(struct out *x, uint32_t m, qn_err *err)
{
    qn_export_job *j = x->j;
    qn_df11_group *g = &x->pick.modules[m].group;
    uint32_t misfit = UINT32_MAX;
    while (g->n_parts) {
        QN_TRY(qn_df11_survey(j->env, j->src, g, &misfit, err));
        if (misfit == UINT32_MAX)
            break;
        qn_df11_release(j->env, g);
        qn_df11_pick_drop(&x->pick, m, misfit, "holds 2^113 or more, infinity or no number: these have no code");
    }
    if (g->n_parts && qn_df11_bytes(g) >= 2 * g->n) {
        qn_df11_release(j->env, g);
        qn_df11_pick_drop(&x->pick, m, UINT32_MAX, "would not get smaller");
    }
    return QN_OK;
}

static qn_code survey(struct out *x, qn_err *err)
{
    uint64_t done = 0, total = 0;
    for (uint32_t m = 0; m < x->pick.n; m++)
        for (uint32_t k = 0; k < x->pick.modules[m].group.n_parts; k++)
            total += x->pick.modules[m].group.parts[k].n * 2;
    for (uint32_t m = 0; m < x->pick.n; m++) {
        QN_TRY(survey_module(x, m, err));
        done += x->pick.modules[m].group.n * 2;
        if (x->j->env->progress)
            x->j->env->progress(x->j->env->progress_ctx, "count", done, total);
        QN_TRY(qn_env_check(x->j->env, err));
    }
    return QN_OK;
}

/* ---- tensors ---- */

static qn_code add_field(struct out *x, uint32_t m, unsigned field, qn_out_tensor *t, qn_err *err)
{
    const qn_df11_group *g = &x->pick.modules[m].group;
    const size_t n = strlen(g->module), k = strlen(qn_df11_field[field]);
    char *name = qn_arena_get(x->j->arena, n + k + 2, 1, err);
    uint64_t *dims = qn_arena_get(x->j->arena, 2 * sizeof *dims, 8, err);
    if (!name || !dims)
        return QN_E_MEMORY;
    memcpy(name, g->module, n);
    name[n] = '.';
    memcpy(name + n + 1, qn_df11_field[field], k + 1);
    const uint64_t bytes = qn_df11_field_bytes(g, field);
    *t = (qn_out_tensor){.name = name, .dims = dims, .n_bytes = bytes, .id = (uint64_t)m * QN_DF11_FIELDS + field, .dtype = QN_U8, .rank = 1};
    dims[0] = bytes;
    if (field == QN_DF11_LUTS) {
        t->rank = 2;
        dims[0] = g->code.n_rows;
        dims[1] = 256;
    } else if (field == QN_DF11_SPLITS) {
        t->dtype = QN_I64;
        dims[0] = bytes / 8;
    }
    return QN_OK;
}

static qn_code list_tensors(struct out *x, qn_out_tensor *t, uint64_t *n, qn_err *err)
{
    const qn_source *s = x->j->src;
    for (uint32_t m = 0; m < x->pick.n; m++) {
        const qn_df11_group *g = &x->pick.modules[m].group;
        if (!g->n_parts)
            continue;
        for (unsigned f = 0; f < QN_DF11_FIELDS; f++)
            QN_TRY(add_field(x, m, f, &t[(*n)++], err));
        QN_TRY(qn_export_note(x->j, &(qn_export_row){.name = g->module, .asked = "DFloat11", .given = "DFloat11", .n_weights = g->n, .n_bytes = qn_df11_bytes(g)},
                              err));
    }
    for (uint64_t i = 0; i < s->n_tensors; i++) {
        const qn_source_tensor *from = &s->tensors[i];
        if (x->pick.module_of[i] != UINT32_MAX)
            continue;
        t[(*n)++] = (qn_out_tensor){.name = from->name, .dims = from->dims, .n_bytes = from->n_bytes, .id = DENSE_ID | i, .dtype = from->dtype,
                                    .rank = from->rank};
        const uint64_t bits = qn_dtype_bits((qn_dtype)from->dtype);
        QN_TRY(qn_export_note(x->j, &(qn_export_row){.name = from->name, .asked = x->pick.why[i] ? "DFloat11" : qn_dtype_name((qn_dtype)from->dtype),
                                                     .given = qn_dtype_name((qn_dtype)from->dtype), .why = x->pick.why[i],
                                                     .n_weights = bits ? from->n_bytes * 8 / bits : 0, .n_bytes = from->n_bytes}, err));
    }
    return QN_OK;
}

static qn_code read_out(void *ctx, uint64_t id, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    struct out *x = ctx;
    if (id & DENSE_ID)
        return qn_source_tensor_read(x->j->src, id & ~DENSE_ID, off, n, dst, err);
    return qn_df11_read(x->j->env, x->j->src, &x->pick.modules[id / QN_DF11_FIELDS].group, (unsigned)(id % QN_DF11_FIELDS), off, n, dst, err);
}

static qn_code write_folder(struct out *x, qn_err *err)
{
    const qn_env *env = x->j->env;
    uint64_t n = 0;
    qn_textbuf config = {.alloc = env->alloc};
    qn_out_tensor *t = qn_mem_zeros(env->alloc, (uint64_t)x->pick.n * QN_DF11_FIELDS + x->j->src->n_tensors + 1, sizeof *t, err);
    qn_code rc = t ? list_tensors(x, t, &n, err) : QN_E_MEMORY;
    qn_df11_pick_config(&x->pick, x->j->src, &config);
    if (rc == QN_OK && qn_textbuf_failed(&config))
        rc = QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory: a configuration wanted");
    const qn_config_change change = {"dfloat11_config", config.text};
    const qn_export_folder f = {.tensors = t, .n = n, .read = read_out, .ctx = x, .changes = &change, .n_changes = 1};
    if (rc == QN_OK)
        rc = qn_export_folder_write(x->j, &f, err);
    qn_mem_put(env->alloc, config.text);
    qn_mem_put(env->alloc, t);
    return rc;
}

static qn_code write_it(qn_export_job *j, qn_err *err)
{
    struct out x = {.j = j};
    qn_code rc = pick(j, &x.pick, err);
    if (rc == QN_OK)
        rc = survey(&x, err);
    if (rc == QN_OK)
        rc = write_folder(&x, err);
    for (uint32_t m = 0; m < x.pick.n; m++)
        qn_df11_release(j->env, &x.pick.modules[m].group);
    if (rc == QN_OK && !j->graph)
        qn_export_say(j, "the model is not known: linear layers were told by their names alone, within numbered blocks");
    if (rc == QN_OK)
        qn_export_say(j, "loads: the dfloat11 package (CUDA), and quern itself");
    return rc;
}

const qn_export_target qn_export_dfloat11 = {
    .name = "dfloat11", .summary = "bf16 models without loss at about 68 %, for the dfloat11 package", .variants = "", .suffix = "", .folder = true,
    .plan = plan, .write = write_it,
};
