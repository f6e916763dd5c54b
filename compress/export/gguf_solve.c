/* gguf_solve.c: the list of a GGUF file and the solve: what is asked for, and what came of it. */
#include "base/err.h"
#include "base/num.h"
#include "compress/blocks/block.h"
#include "compress/export/gguf_impl.h"
#include "compress/lossy.h"
#include "formats/quern/source.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Would the solve approximate it? Then a tensor that is to stay dense needs a rule. */
static bool solvable(const qn_ggx *x, const qn_lossy_pick *picks, const qn_ggx_tensor *t)
{
    const uint64_t o = t->parts ? x->job->src->tensors[t->parts[0]].object : QN_NO_OBJECT;
    const qn_dtype type = t->parts ? (qn_dtype)x->job->src->tensors[t->parts[0]].dtype : QN_F32;
    return o != QN_NO_OBJECT && picks[o].role != QN_ROLE_NONE && !picks[o].kept && (type == QN_F32 || type == QN_F16 || type == QN_BF16);
}

/* Blocks of a GGUF source are taken as they are. */
static bool is_solved(const qn_ggx *x, const qn_ggx_tensor *t)
{
    return qn_dtype_is_block(t->dtype) && (qn_dtype)x->job->src->tensors[t->parts[0]].dtype != t->dtype;
}

/* The type of most weights that are solved; QN_BYTES: of none. */
static qn_dtype most_of(const qn_ggx *x)
{
    qn_dtype found = QN_BYTES;
    uint64_t most = 0;
    for (unsigned k = 0; k < qn_block_coder_count; k++) {
        uint64_t n = 0;
        for (uint32_t i = 0; i < x->n; i++)
            if (x->list[i].parts && is_solved(x, &x->list[i]) && x->list[i].dtype == qn_block_coders[k]->dtype)
                n += x->list[i].rows * x->list[i].cols;
        if (n > most) {
            most = n;
            found = qn_block_coders[k]->dtype;
        }
    }
    return found;
}

/* One name for all experts of a layer: ….experts.*.up_proj.weight. */
static const char *pattern_of(const qn_ggx *x, const qn_ggx_tensor *t, qn_err *err)
{
    const char *name = x->job->src->tensors[t->parts[0]].name, *at = t->n_parts > 1 ? strstr(name, "experts.") : NULL;
    if (!at)
        return name;
    at += strlen("experts.");
    const size_t digits = strspn(at, "0123456789");
    char *p = qn_arena_get(x->arena, strlen(name) + 2, 1, err);
    if (!p)
        return NULL;
    memcpy(p, name, (size_t)(at - name));
    p[at - name] = '*';
    strcpy(p + (at - name) + 1, at + digits);
    return p;
}

qn_code qn_ggx_recipe(qn_ggx *x, qn_recipe *r, qn_err *err)
{
    const qn_dtype most = most_of(x);
    const qn_source *s = x->job->src;
    if (most == QN_BYTES)
        return QN_OK;
    qn_lossy_pick *picks = qn_arena_get(x->arena, (s->n_objects + 1) * sizeof *picks, 8, err);
    uint8_t *ruled = picks ? qn_arena_get(x->arena, s->n_tensors + 1, 1, err) : NULL;
    if (!ruled)
        return QN_E_MEMORY;
    memset(picks, 0, (s->n_objects + 1) * sizeof *picks);
    memset(ruled, 0, s->n_tensors + 1);
    qn_lossy_pick_all(x->job->src, x->job->graph, picks);
    r->all.codec = qn_block_coder_of(most)->name;
    for (uint32_t i = 0; i < x->n; i++) {
        const qn_ggx_tensor *t = &x->list[i];
        if (!t->parts || !solvable(x, picks, t) || t->dtype == most || ruled[t->parts[0]]++)
            continue; /* halves of one tensor of the folder are of one type: the first's */
        const qn_recipe_part part = {.codec = is_solved(x, t) ? qn_block_coder_of(t->dtype)->name : QN_RECIPE_LOSSLESS};
        const char *pattern = pattern_of(x, t, err);
        if (!pattern)
            return QN_E_MEMORY;
        QN_TRY(qn_recipe_add(r, pattern, &part, x->arena, err));
    }
    return QN_OK;
}

/* --- what is there ---------------------------------------------------------------------------------------------------------------- */

/* The block type that all parts are stored in; QN_BYTES: none. *approximated: some part is an approximation of any kind. */
static qn_code found_in(const qn_ggx *x, const qn_ggx_tensor *t, qn_dtype *type, bool *approximated, qn_err *err)
{
    qn_arena scratch;
    qn_code rc = QN_OK;
    *type = QN_BYTES;
    *approximated = false;
    qn_arena_init(&scratch, x->job->env->alloc);
    for (uint32_t p = 0; p < t->n_parts && rc == QN_OK; p++) {
        qn_codes c;
        rc = qn_codes_open(&c, x->job->src, t->parts[p], &scratch, err);
        if (rc != QN_OK)
            break;
        const qn_dtype has = c.kind == QN_CODES_BLOCKS ? c.block : QN_BYTES;
        *approximated = *approximated || c.codec != NULL;
        *type = p == 0 || *type == has ? has : QN_BYTES;
        qn_arena_reset(&scratch);
    }
    qn_arena_release(&scratch);
    return rc;
}

qn_code qn_ggx_holds(qn_ggx *x, bool *yes, qn_err *err)
{
    *yes = true;
    for (uint32_t i = 0; i < x->n && *yes; i++) {
        const qn_ggx_tensor *t = &x->list[i];
        qn_dtype has;
        bool approximated;
        if (!t->parts || !is_solved(x, t))
            continue;
        QN_TRY(found_in(x, t, &has, &approximated, err));
        *yes = has == t->dtype;
    }
    return QN_OK;
}

/* Does F16 hold all of it? */
static qn_code fits_half(const qn_ggx *x, const qn_ggx_tensor *t, bool *fits, qn_err *err)
{
    qn_ggx_rows r = {.x = NULL};
    float *w = NULL;
    qn_code rc = qn_ggx_rows_open(&r, x, t, err);
    const uint64_t band = rc == QN_OK ? qn_min_u64(qn_ggx_rows_band(&r), t->rows) : 1;
    *fits = true;
    if (rc == QN_OK) {
        w = qn_mem_get(x->job->env->alloc, band * t->cols * sizeof *w, err);
        rc = w ? QN_OK : QN_E_MEMORY;
    }
    for (uint64_t at = 0; at < t->rows && rc == QN_OK && *fits; at += band) {
        const uint64_t n = qn_min_u64(band, t->rows - at);
        rc = qn_ggx_rows_f32(&r, at, n, w, err);
        for (uint64_t i = 0; i < n * t->cols && rc == QN_OK; i++)
            *fits = *fits && !(isfinite(w[i]) && fabsf(w[i]) >= 65520.0f); /* what rounds to infinity */
    }
    qn_mem_put(x->job->env->alloc, w);
    qn_ggx_rows_close(&r);
    return rc;
}

static qn_code settle_one(qn_ggx *x, qn_ggx_tensor *t, bool quern, qn_err *err)
{
    const qn_dtype from = (qn_dtype)x->job->src->tensors[t->parts[0]].dtype;
    bool fits = true, approximated = false;
    qn_dtype has = QN_BYTES;
    if (t->wanted == QN_BYTES)
        return QN_OK;
    if (quern)
        QN_TRY(found_in(x, t, &has, &approximated, err));
    if (is_solved(x, t) || (has != QN_BYTES && !t->why && qn_dtype_is_block(t->wanted))) {
        if (has != t->dtype)
            t->why = "so says a rule of the recipe, or the solve could not do it";
        t->dtype = has != QN_BYTES ? has : QN_F16;
    }
    t->again = t->again || (approximated && !qn_dtype_is_block(t->dtype) && t->dtype != QN_F32 && t->dtype != from);
    if (t->dtype == QN_F16 && from != QN_F16)
        QN_TRY(fits_half(x, t, &fits, err));
    if (!fits) {
        t->dtype = QN_F32;
        t->why = "holds numbers that F16 cannot";
    }
    return QN_OK;
}

qn_code qn_ggx_settle(qn_ggx *x, qn_err *err)
{
    const bool quern = qn_quern_source_reader(x->job->src) != NULL;
    for (uint32_t i = 0; i < x->n; i++)
        if (x->list[i].parts)
            QN_TRY(settle_one(x, &x->list[i], quern, err));
    return QN_OK;
}
