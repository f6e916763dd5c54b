/* list.c (dfloat11): the groups of a source, checked, and the list of tensors with their weights in it. */
#include "base/err.h"
#include "base/num.h"
#include "formats/dfloat11/dfloat11.h"
#include <stdio.h>
#include <string.h>

#define CODES ".encoded_exponent"

enum { MATCHES_MAX = 1 << 22, NAME_MAX_BYTES = 4096 };

enum field { F_CODES, F_REST, F_POSITIONS, F_GAPS, F_LUTS, F_SPLITS, FIELDS };
static const char *const field_name[FIELDS] = {"encoded_exponent", "sign_mantissa", "output_positions", "gaps", "luts", "split_positions"};

struct listing {
    qn_source *s;
    qn_df11_config config;
    struct qn_df11 *d;
    uint8_t *gone;          /* by tensor: part of a group         */
    qn_source_tensor *made; /* d->n_weights of them               */
    uint64_t cap_weights, cap_made;
};

static qn_code fail(const struct listing *x, qn_err *err, const char *module, const char *what)
{
    (void)x;
    return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "DFloat11: %s", what), module);
}

/* The group's tensors: all of U8 but the last, which may be missing. */
static qn_code find_fields(struct listing *x, const char *module, const qn_source_tensor *field[FIELDS], qn_err *err)
{
    for (unsigned f = 0; f < FIELDS; f++) {
        char name[NAME_MAX_BYTES + 32];
        snprintf(name, sizeof name, "%s.%s", module, field_name[f]);
        const uint64_t i = qn_source_tensor_find(x->s, name);
        field[f] = i == UINT64_MAX ? NULL : &x->s->tensors[i];
        if (!field[f] && f != F_SPLITS)
            return fail(x, err, name, "the tensor is missing");
        if (!field[f])
            continue;
        if (field[f]->dtype != (f == F_SPLITS ? QN_I64 : QN_U8) || field[f]->rank != (f == F_LUTS ? 2 : 1))
            return fail(x, err, name, "another type or rank than it must have");
        x->gone[i] = 1;
    }
    return QN_OK;
}

static qn_code read_positions(struct listing *x, qn_df11_coded *g, const qn_source_tensor *t, qn_err *err)
{
    uint32_t *p = qn_arena_get(&x->s->arena, (g->n_blocks + 1) * sizeof *p, 8, err);
    if (!p)
        return QN_E_MEMORY;
    QN_TRY(qn_source_read(x->s, t->object, 0, t->n_bytes, p, err));
    for (uint64_t i = 0; i < t->n_bytes / 4; i++)
        p[i] = qn_load32((const uint8_t *)p + 4 * i);
    if (t->n_bytes / 4 == g->n_blocks) /* codes that end right behind a block's beginning: some writers leave that one out */
        p[g->n_blocks] = p[g->n_blocks - 1];
    for (uint64_t i = 0; i < g->n_blocks; i++)
        if (p[i] > p[i + 1])
            return fail(x, err, t->name, "positions fall");
    if (p[0] != 0 || p[g->n_blocks] != g->n)
        return fail(x, err, t->name, "positions do not go from 0 to the number of weights");
    g->position = p;
    return QN_OK;
}

static qn_code read_luts(struct listing *x, qn_df11_coded *g, const qn_source_tensor *t, qn_err *err)
{
    if (t->dims[1] != 256 || t->dims[0] < 2 || t->dims[0] > QN_DF11_ROWS_MAX + 1)
        return fail(x, err, t->name, "tables of 2 to 18 rows of 256 are allowed");
    uint8_t *luts = qn_arena_get(&x->s->arena, t->n_bytes, 8, err);
    if (!luts)
        return QN_E_MEMORY;
    QN_TRY(qn_source_read(x->s, t->object, 0, t->n_bytes, luts, err));
    g->n_rows = (uint32_t)t->dims[0];
    for (unsigned e = 0; e < 256; e++)
        if (luts[(g->n_rows - 1) * 256 + e] > QN_DF11_BITS_MAX)
            return fail(x, err, t->name, "a code longer than 32 bits");
    g->luts = luts;
    return QN_OK;
}

static qn_code check_sizes(struct listing *x, qn_df11_coded *g, const qn_source_tensor *const field[FIELDS], qn_err *err)
{
    const uint64_t block = (uint64_t)x->d->threads * x->d->slice;
    g->n = field[F_REST]->n_bytes;
    g->n_bytes = field[F_CODES]->n_bytes;
    g->n_blocks = qn_ceil_div(g->n_bytes, block);
    if (g->n == 0 || g->n > UINT32_MAX || g->n_blocks == 0)
        return fail(x, err, field[F_REST]->name, "1 to 2^32 − 1 weights are allowed");
    if (field[F_POSITIONS]->n_bytes != (g->n_blocks + 1) * 4 && (g->n_blocks == 1 || field[F_POSITIONS]->n_bytes != g->n_blocks * 4))
        return fail(x, err, field[F_POSITIONS]->name, "another number of positions than blocks of codes have");
    if (field[F_GAPS]->n_bytes < qn_ceil_div(g->n_blocks * x->d->threads * 5, 8))
        return fail(x, err, field[F_GAPS]->name, "fewer gaps than slices of codes");
    if (g->n > g->n_bytes * 8)
        return fail(x, err, field[F_CODES]->name, "fewer bits than weights");
    g->codes = field[F_CODES]->object;
    g->rest = field[F_REST]->object;
    g->gaps = field[F_GAPS]->object;
    return QN_OK;
}

/* ---- weights ---- */

static qn_code add_weight(struct listing *x, const qn_df11_pattern *p, const char *module, uint32_t i, uint64_t first, uint64_t n, uint32_t file,
                          qn_err *err)
{
    const qn_alloc *a = x->s->env->alloc;
    const uint32_t k = x->d->n_weights;
    char name[2 * NAME_MAX_BYTES + 16];
    snprintf(name, sizeof name, "%s%s%s.weight", module, p->n_inner ? "." : "", p->n_inner ? p->inner[i] : "");
    qn_source_tensor *made = qn_mem_grow(a, x->made, k, &x->cap_made, k + UINT64_C(1), sizeof *made, err);
    x->made = made ? made : x->made;
    qn_df11_weight *w = made ? qn_mem_grow(a, x->d->weights, k, &x->cap_weights, k + UINT64_C(1), sizeof *w, err) : NULL;
    x->d->weights = w ? w : x->d->weights;
    uint64_t *dims = w ? qn_arena_get(&x->s->arena, 2 * sizeof *dims, 8, err) : NULL;
    const char *kept = dims ? qn_arena_str(&x->s->arena, name, strlen(name), err) : NULL;
    if (!kept)
        return QN_E_MEMORY;
    made[k] = (qn_source_tensor){.name = kept, .dims = dims, .n_bytes = n * 2, .object = QN_NO_OBJECT, .file = file, .dtype = QN_BF16, .rank = 2};
    if (!qn_df11_config_shape(&x->config, p, module, i, n, dims)) {
        if (p->shapes)
            return fail(x, err, kept, "has another number of weights than its shape");
        dims[0] = n;
        made[k].rank = 1;
        qn_source_warn(x->s, "%.200s is listed as one row of weights: nothing tells its shape", kept);
    }
    w[k] = (qn_df11_weight){.group = x->d->n_groups, .first = first};
    x->d->n_weights++;
    return QN_OK;
}

static qn_code add_weights(struct listing *x, const qn_df11_coded *g, const qn_source_tensor *splits, uint32_t file, qn_err *err)
{
    const qn_df11_pattern *p;
    QN_TRY(qn_err_in_tensor(err, qn_df11_config_match(&x->config, g->module, &p, err), g->module));
    const uint32_t n = p->n_inner ? p->n_inner : 1;
    if ((splits ? splits->n_bytes / 8 : 0) != n - 1u)
        return fail(x, err, g->module, "another number of split positions than pattern_dict has weights");
    uint64_t first = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t eight[8];
        uint64_t end = g->n;
        if (i + 1 < n) {
            QN_TRY(qn_source_read(x->s, splits->object, 8 * (uint64_t)i, 8, eight, err));
            end = qn_load64(eight);
        }
        if (end <= first || end > g->n)
            return fail(x, err, g->module, "split positions do not rise");
        QN_TRY(add_weight(x, p, g->module, i, first, end - first, file, err));
        first = end;
    }
    return QN_OK;
}

static qn_code add_group(struct listing *x, const qn_source_tensor *codes, qn_err *err)
{
    const qn_source_tensor *field[FIELDS];
    const uint32_t file = codes->file;
    qn_df11_coded *g = &x->d->groups[x->d->n_groups];
    const size_t n = strlen(codes->name) - strlen(CODES);
    if (n == 0 || n > NAME_MAX_BYTES)
        return fail(x, err, "", "a module without a name, or with a longer one than 4096 bytes");
    *g = (qn_df11_coded){.module = qn_arena_str(&x->s->arena, codes->name, n, err)};
    if (!g->module)
        return QN_E_MEMORY;
    QN_TRY(find_fields(x, g->module, field, err));
    QN_TRY(check_sizes(x, g, field, err));
    QN_TRY(read_positions(x, g, field[F_POSITIONS], err));
    QN_TRY(read_luts(x, g, field[F_LUTS], err));
    QN_TRY(add_weights(x, g, field[F_SPLITS], file, err));
    x->d->n_groups++;
    return QN_OK;
}

/* ---- all together ---- */

static qn_code list_groups(struct listing *x, uint64_t n_groups, qn_err *err)
{
    qn_source *s = x->s;
    x->d = qn_arena_get(&s->arena, sizeof *x->d, 8, err);
    if (!x->d)
        return QN_E_MEMORY;
    *x->d = (struct qn_df11){.threads = x->config.threads, .slice = x->config.slice};
    x->d->groups = qn_arena_get(&s->arena, n_groups * sizeof *x->d->groups, 8, err);
    x->gone = qn_mem_zeros(s->env->alloc, s->n_tensors, 1, err);
    if (!x->d->groups || !x->gone)
        return QN_E_MEMORY;
    if (n_groups * (x->config.n_patterns + 1) > MATCHES_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "dfloat11_config: %llu modules and %u expressions are more than are matched",
                       (unsigned long long)n_groups, x->config.n_patterns);
    for (uint64_t i = 0; i < s->n_tensors; i++)
        if (qn_text_ends(s->tensors[i].name, CODES) && !x->gone[i])
            QN_TRY(add_group(x, &s->tensors[i], err));
    return QN_OK;
}

static qn_code list_anew(struct listing *x, qn_err *err)
{
    qn_source *s = x->s;
    uint64_t n = 0;
    qn_source_tensor *t = qn_mem_zeros(s->env->alloc, s->n_tensors + x->d->n_weights, sizeof *t, err);
    qn_df11_weight *w = qn_arena_get(&s->arena, x->d->n_weights * sizeof *w, 8, err);
    if (!t || !w) {
        qn_mem_put(s->env->alloc, t);
        return QN_E_MEMORY;
    }
    for (uint64_t i = 0; i < s->n_tensors; i++)
        if (!x->gone[i])
            t[n++] = s->tensors[i];
    x->d->first = n;
    for (uint32_t i = 0; i < x->d->n_weights; i++)
        t[n++] = x->made[i];
    memcpy(w, x->d->weights, x->d->n_weights * sizeof *w);
    qn_mem_put(s->env->alloc, x->d->weights);
    x->d->weights = w;
    s->df11 = x->d;
    x->d = NULL;
    return qn_source_relist(s, t, n, err);
}

qn_code qn_df11_list(qn_source *s, qn_err *err)
{
    struct listing x = {.s = s};
    uint64_t n_groups = 0, n_made = 0;
    bool there = false;
    for (uint64_t i = 0; i < s->n_tensors; i++) {
        n_groups += qn_text_ends(s->tensors[i].name, CODES);
        n_made += s->tensors[i].object == QN_NO_OBJECT;
    }
    if (n_groups == 0)
        return QN_OK;
    qn_code rc = qn_df11_config_open(&x.config, s, &there, err);
    if (rc == QN_OK && there && n_made)
        qn_source_warn(s, "the DFloat11 weights are not decoded: files of another kind lie beside them");
    if (rc == QN_OK && there && !n_made)
        rc = list_groups(&x, n_groups, err);
    if (rc == QN_OK && there && !n_made)
        rc = list_anew(&x, err);
    qn_df11_config_close(&x.config);
    if (x.d)
        qn_mem_put(s->env->alloc, x.d->weights);
    qn_mem_put(s->env->alloc, x.made);
    qn_mem_put(s->env->alloc, x.gone);
    return qn_err_in_path(err, rc, s->path);
}
