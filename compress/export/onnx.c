/* onnx.c: the target `onnx`: an ONNX model again, from its own file or a .quern that holds it, with its weights dense, as f16, or as integers.
 *
 *     onnx               as it was, weights decoded
 *     onnx:f16           f32 weights as f16 behind a Cast
 *     onnx:matmulnbits   com.microsoft.MatMulNBits, 2, 4 or 8 bits
 *     onnx:qdq           int8, a scale for each output, behind DequantizeLinear
 *     onnx:qdq4          int4 in blocks, the same
 */
#include "base/err.h"
#include "base/num.h"
#include "base/path.h"
#include "compress/export/onnx_impl.h"
#include "compress/export/onnx_opset.h"
#include "compress/lossy.h"
#include "compress/tmptree.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GROUP = 32, BLOCK_LEAST = 16, OPSET_BLOCKS = 21, SCALE_BITS = 11, ROW_ELEMS_MIN = 256 };

/* ---- variants ---- */

static qn_code no_wish(const qn_export_wish *w, qn_err *err)
{
    if (w->bits > 0 || w->group || w->asymmetric)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "onnx: bits, group and asymmetric go with onnx:matmulnbits, onnx:qdq and onnx:qdq4 only");
    return QN_OK;
}

static qn_code bits_of(const qn_export_wish *w, const char *variant, const char *allowed, const unsigned *list, unsigned n, unsigned *bits, qn_err *err)
{
    for (unsigned i = 0; i < n; i++)
        if (w->bits == (double)list[i] || !(w->bits > 0)) {
            *bits = w->bits > 0 ? list[i] : list[0];
            return QN_OK;
        }
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "onnx:%s: %g bits found, allowed are %s", variant, w->bits, allowed);
}

static qn_code group_of(const qn_export_wish *w, const char *variant, uint32_t *group, qn_err *err)
{
    *group = w->group ? w->group : GROUP;
    if (*group != UINT32_MAX && (*group < BLOCK_LEAST || (*group & (*group - 1))))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "onnx:%s: groups of %u columns found, allowed are powers of two from 16 on, and row", variant, *group);
    return QN_OK;
}

static qn_code text_of(const qn_export_job *j, qn_to_onnx_wanted *o, qn_err *err)
{
    char text[64];
    if (o->group == UINT32_MAX)
        snprintf(text, sizeof text, "int%u row", o->bits);
    else
        snprintf(text, sizeof text, "int%u group %u", o->bits, o->group);
    o->text = qn_arena_str(j->arena, text, strlen(text), err);
    return o->text ? QN_OK : QN_E_MEMORY;
}

static qn_code wanted(const qn_export_job *j, qn_to_onnx_wanted *o, qn_err *err)
{
    static const unsigned nbits[] = {4, 2, 8}, eight[] = {8}, four[] = {4};
    const qn_export_wish *w = j->wish;
    const char *v = j->variant;
    *o = (qn_to_onnx_wanted){.form = QN_TO_ONNX_FORM_DENSE, .text = "as it was"};
    if (w->size_bytes)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "onnx: a size cannot be asked for: give bits");
    if (!*v)
        return no_wish(w, err);
    if (!strcmp(v, "f16")) {
        o->form = QN_TO_ONNX_FORM_HALF;
        o->text = "f16";
        return no_wish(w, err);
    }
    if (!strcmp(v, "matmulnbits")) {
        o->form = QN_TO_ONNX_FORM_NBITS;
        QN_TRY(bits_of(w, v, "2, 4 and 8", nbits, 3, &o->bits, err));
        QN_TRY(group_of(w, v, &o->group, err));
        o->asymmetric = w->asymmetric > 0 || (w->asymmetric == 0 && o->bits < 8);
        return text_of(j, o, err);
    }
    o->form = QN_TO_ONNX_FORM_QDQ;
    o->asymmetric = w->asymmetric > 0;
    if (!strcmp(v, "qdq")) {
        QN_TRY(bits_of(w, v, "8 (qdq4 has 4)", eight, 1, &o->bits, err));
        if (w->group && w->group != UINT32_MAX)
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "onnx:qdq: groups of %u columns found: each output has one scale (row)", w->group);
        o->group = UINT32_MAX;
        return text_of(j, o, err);
    }
    if (!strcmp(v, "qdq4")) {
        QN_TRY(bits_of(w, v, "4", four, 1, &o->bits, err));
        QN_TRY(group_of(w, v, &o->group, err));
        if (o->group == UINT32_MAX)
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "onnx:qdq4: blocks are powers of two from 16 on");
        return text_of(j, o, err);
    }
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "onnx: no variant called '%.40s': there are f16, matmulnbits, qdq, qdq4, and none for dense weights", v);
}

/* ---- the recipe ---- */

/* Names are meant as they are: what a pattern would take for its own is escaped. */
static qn_code literal(const char *name, qn_arena *arena, const char **match, qn_err *err)
{
    const bool plain = !strpbrk(name, "*?[\\") && strncmp(name, "re:", 3) != 0;
    char *text = qn_arena_get(arena, 2 * strlen(name) + 6, 1, err);
    if (!text)
        return QN_E_MEMORY;
    char *q = text;
    q = memcpy(q, plain ? "" : "re:^", plain ? 0 : 4);
    q += plain ? 0 : 4;
    for (const char *p = name; *p; p++) {
        if (!plain && strchr(".[]{}()\\*+?|^$", *p))
            *q++ = '\\';
        *q++ = *p;
    }
    if (!plain)
        *q++ = '$';
    *q = '\0';
    *match = text;
    return QN_OK;
}

/* All that can be approximated and was not chosen keeps every bit. */
static qn_code add_exceptions(const qn_to_onnx_export *x, qn_recipe *r, qn_err *err)
{
    qn_source *s = x->g->source;
    const qn_recipe_part keep = {.codec = QN_RECIPE_LOSSLESS};
    qn_lossy_pick *seen = qn_mem_zeros(x->env->alloc, s->n_objects + 1, sizeof *seen, err);
    bool *chosen = seen ? qn_mem_zeros(x->env->alloc, s->n_objects + 1, sizeof *chosen, err) : NULL;
    qn_code rc = chosen ? QN_OK : QN_E_MEMORY;
    if (rc == QN_OK)
        qn_lossy_pick_all(s, x->g, seen);
    for (uint32_t i = 0; i < x->n_picks && rc == QN_OK; i++)
        if (x->picks[i].chosen)
            chosen[s->tensors[x->picks[i].tensor].object] = true;
    for (uint64_t o = 0; o < s->n_objects && rc == QN_OK; o++) {
        const char *match;
        if (seen[o].role == QN_ROLE_NONE || seen[o].kept || chosen[o])
            continue;
        rc = literal(s->objects[o].name, x->job->arena, &match, err);
        if (rc == QN_OK)
            rc = qn_recipe_add(r, match, &keep, x->job->arena, err);
    }
    qn_mem_put(x->env->alloc, seen);
    qn_mem_put(x->env->alloc, chosen);
    return rc;
}

static qn_code recipe_for(const qn_to_onnx_export *x, qn_recipe *r, qn_err *err)
{
    r->all.codec = "grid";
    r->all.set.bits = x->want.bits;
    r->all.set.group = x->want.group;
    r->all.set.asymmetric = x->want.asymmetric;
    r->all.set.scalebits = SCALE_BITS; /* they are stored whole */
    r->all.set.keepzero = !x->want.asymmetric;
    for (uint32_t i = 0; i < x->n_picks; i++) /* scales of f16 models must be f16 themselves */
        r->all.set.keepzero = r->all.set.keepzero || (x->picks[i].chosen && x->picks[i].file->data_type == QN_ONNX_FLOAT16);
    r->role[QN_ROLE_HEAD].set.bits = r->role[QN_ROLE_EMBEDDING].set.bits = x->want.bits;
    return add_exceptions(x, r, err);
}

static bool any_chosen(const qn_to_onnx_export *x)
{
    bool any = false;
    for (uint32_t i = 0; i < x->n_picks; i++)
        any = any || x->picks[i].chosen;
    return any;
}

/* ---- the report ---- */

static const char *type_name(const qn_onnx_tensor *t)
{
    const qn_onnx_dtype_info *info = qn_onnx_dtype_get(t->data_type);
    return info ? qn_dtype_name(info->dtype) : "?";
}

static qn_code given_text(const qn_to_onnx_export *x, const qn_to_onnx_pick *p, const char **text, qn_err *err)
{
    char t[96];
    if (x->want.form == QN_TO_ONNX_FORM_HALF) {
        *text = "F16";
        return QN_OK;
    }
    if (p->block >= p->cols)
        snprintf(t, sizeof t, "int%u row%s", p->bits, p->zeros ? ", zero points" : "");
    else
        snprintf(t, sizeof t, "int%u group %u%s", p->bits, p->block, p->zeros ? ", zero points" : "");
    *text = qn_arena_str(x->job->arena, t, strlen(t), err);
    return *text ? QN_OK : QN_E_MEMORY;
}

static int by_place(const void *pa, const void *pb)
{
    const uint64_t a = *(const uint64_t *)pa, b = *(const uint64_t *)pb;
    return (a > b) - (a < b);
}

/* Weights that no node of the main graph reads: they stay as they are, and large ones are told of. */
static qn_code note_others(const qn_to_onnx_export *x, qn_err *err)
{
    const qn_onnx_model *m = x->edit.model;
    uint64_t *places = qn_mem_get(x->env->alloc, (x->n_picks + 1ull) * sizeof *places, err);
    qn_code rc = places ? QN_OK : QN_E_MEMORY;
    for (uint32_t i = 0; i < x->n_picks && rc == QN_OK; i++)
        places[i] = x->picks[i].file->off;
    if (rc == QN_OK && x->n_picks)
        qsort(places, x->n_picks, sizeof *places, by_place);
    for (uint64_t i = 0; i < m->n_weights && rc == QN_OK; i++) {
        const qn_onnx_weight *w = &m->weights[i];
        const bool inner = w->scope != m->weights[0].scope || !qn_onnx_edit_tensor_of(&x->edit, w->tensor->name);
        if (w->tensor->n_elems < ROW_ELEMS_MIN || (x->n_picks && bsearch(&w->tensor->off, places, x->n_picks, sizeof *places, by_place)))
            continue;
        qn_export_row row = {.n_weights = w->tensor->n_elems, .n_bytes = w->tensor->n_bytes, .given = type_name(w->tensor)};
        row.asked = x->want.form == QN_TO_ONNX_FORM_DENSE || !inner || w->tensor->rank < 2 ? row.given : x->want.text;
        row.why = row.asked == row.given ? NULL : "in a graph of its own (If, Loop) or a function";
        row.name = qn_arena_str(x->job->arena, w->name, strlen(w->name), err);
        rc = row.name ? qn_export_note(x->job, &row, err) : QN_E_MEMORY;
    }
    qn_mem_put(x->env->alloc, places);
    return rc;
}

static qn_code note_rows(const qn_to_onnx_export *x, bool planned, qn_err *err)
{
    const bool dense = x->want.form == QN_TO_ONNX_FORM_DENSE;
    for (uint32_t i = 0; i < x->n_picks; i++) {
        const qn_to_onnx_pick *p = &x->picks[i];
        qn_export_row row = {.n_weights = p->file->n_elems, .n_bytes = p->file->n_bytes, .given = type_name(p->file)};
        if (!p->chosen && !p->matrix && p->file->n_elems < ROW_ELEMS_MIN)
            continue;
        row.name = qn_arena_str(x->job->arena, p->name, strlen(p->name), err);
        if (!row.name)
            return QN_E_MEMORY;
        row.asked = dense || (!p->chosen && !p->matrix) ? row.given : x->want.text;
        if (!p->chosen && p->matrix && !dense)
            row.why = p->why;
        if (p->chosen && planned) {
            row.given = x->want.text;
            row.n_bytes = qn_ceil_div(p->file->n_elems * (x->want.bits ? x->want.bits : 16), 8);
        } else if (p->chosen) {
            QN_TRY(given_text(x, p, &row.given, err));
            row.n_bytes = qn_to_onnx_content_bytes(x, p);
        }
        QN_TRY(qn_export_note(x->job, &row, err));
    }
    return note_others(x, err);
}

/* ---- planning ---- */

static qn_code open_picks(qn_to_onnx_export *x, qn_export_job *j, qn_err *err)
{
    qn_to_onnx_wanted o;
    QN_TRY(wanted(j, &o, err));
    return qn_to_onnx_pick_all(x, j, &o, err);
}

static qn_code plan_in(qn_to_onnx_export *x, qn_export_job *j, qn_recipe *r, qn_err *err)
{
    QN_TRY(open_picks(x, j, err));
    if (x->want.form != QN_TO_ONNX_FORM_DENSE && !j->graph)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "onnx:%s: the model's graph cannot be read", j->variant);
    const int64_t version = qn_onnx_opset(x->edit.model, "");
    if (x->want.form == QN_TO_ONNX_FORM_QDQ && x->want.bits == 4 && version < OPSET_BLOCKS &&
        !qn_onnx_opset_is_safe(x->edit.model, x->g, version, OPSET_BLOCKS))
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "onnx:qdq4 needs operators of version %d, and some of this model's (of version %lld) mean something "
                       "else there: onnx:matmulnbits does not", OPSET_BLOCKS, (long long)version);
    if (x->want.bits && any_chosen(x))
        QN_TRY(recipe_for(x, r, err));
    return note_rows(x, true, err);
}

static qn_code plan(qn_export_job *j, qn_recipe *r, qn_err *err)
{
    qn_to_onnx_export x = {0};
    const qn_code rc = plan_in(&x, j, r, err);
    qn_to_onnx_export_close(&x);
    return rc;
}

/* Everything that was chosen has codes that the form takes, of the bits and groups that were asked for, if any were. */
static qn_code holds_in(qn_to_onnx_export *x, qn_export_job *j, bool *yes, qn_err *err)
{
    QN_TRY(open_picks(x, j, err));
    *yes = true;
    for (uint32_t i = 0; i < x->n_picks && *yes; i++) {
        qn_to_onnx_pick *p = &x->picks[i];
        if (!p->chosen)
            continue;
        QN_TRY(qn_to_onnx_take(x, p, err));
        *yes = p->chosen && !(j->wish->bits > 0 && p->codes.bits != x->want.bits) && (x->want.form != QN_TO_ONNX_FORM_QDQ || p->bits == x->want.bits) &&
               !(j->wish->group && j->wish->group != p->codes.group && !(j->wish->group >= p->cols && p->codes.group >= p->cols)) &&
               !(j->wish->asymmetric < 0 && p->zeros);
    }
    return QN_OK;
}

static qn_code holds(qn_export_job *j, bool *yes, qn_err *err)
{
    qn_to_onnx_export x = {0};
    const qn_code rc = holds_in(&x, j, yes, err);
    qn_to_onnx_export_close(&x);
    return rc;
}

/* ---- writing ---- */

static qn_code take_all(qn_to_onnx_export *x, qn_err *err)
{
    for (uint32_t i = 0; i < x->n_picks; i++)
        if (x->picks[i].chosen && x->want.bits)
            QN_TRY(qn_to_onnx_take(x, &x->picks[i], err));
    return QN_OK;
}

static qn_code size_of(qn_export_job *j, const char *path, qn_err *err)
{
    qn_stat st;
    bool there;
    char *data = qn_path_cat(j->env->alloc, path, ".data", err);
    qn_code rc = data ? qn_fs_stat(j->env->fs, path, &st, err) : QN_E_MEMORY;
    j->n_bytes = rc == QN_OK ? st.n_bytes : 0;
    if (rc == QN_OK)
        rc = qn_fs_find(j->env->fs, data, &st, &there, err);
    if (rc == QN_OK && there)
        j->n_bytes += st.n_bytes;
    qn_mem_put(j->env->alloc, data);
    return rc;
}

/* The data file, when there is one, then the model. */
static qn_code publish(const qn_export_job *j, const char *from, qn_err *err)
{
    const qn_env *env = j->env;
    char *data = qn_path_cat(env->alloc, from, ".data", err), *to = data ? qn_path_cat(env->alloc, j->path, ".data", err) : NULL;
    qn_code rc = to ? QN_OK : QN_E_MEMORY;
    if (rc == QN_OK && qn_fs_exists(env->fs, data))
        rc = qn_fs_publish(env->fs, env->alloc, data, to, err);
    if (rc == QN_OK)
        rc = qn_fs_publish(env->fs, env->alloc, from, j->path, err);
    qn_mem_put(env->alloc, data);
    qn_mem_put(env->alloc, to);
    return rc;
}

static qn_code check_data_path(const qn_export_job *j, qn_err *err)
{
    char *data = qn_path_cat(j->env->alloc, j->path, ".data", err);
    const qn_code rc = data ? qn_fs_check_target(j->env->fs, data, j->overwrite, err) : QN_E_MEMORY;
    qn_mem_put(j->env->alloc, data);
    return rc;
}

static void say_all(const qn_to_onnx_export *x, bool ran, double apart, const char *why)
{
    qn_export_job *j = x->job;
    if (ran)
        qn_export_say(j, "run beside the decoded model on made-up inputs: outputs differ by %.2g of the largest", apart);
    else if (why)
        qn_export_say(j, "not run to compare with the decoded model: %s", why);
    if (x->edit.n_opsets && x->want.form == QN_TO_ONNX_FORM_QDQ)
        qn_export_say(j, "operators of ONNX version %lld in place of %lld, which mean the same here", (long long)x->edit.opsets[0].version,
                      (long long)qn_onnx_opset(x->edit.model, ""));
}

static qn_code write_in(qn_to_onnx_export *x, qn_export_job *j, qn_tmptree *tmp, qn_err *err)
{
    bool ran;
    double apart;
    const char *why;
    QN_TRY(open_picks(x, j, err));
    QN_TRY(take_all(x, err));
    QN_TRY(qn_to_onnx_put(x, err));
    QN_TRY(qn_fs_check_target(j->env->fs, j->path, j->overwrite, err));
    QN_TRY(qn_tmptree_open(tmp, j->env, j->path, ".quern-onnx", err));
    const int made = j->env->fs->mkdir(j->env->fs->ctx, tmp->data);
    if (made != 0)
        return qn_err_in_path(err, QN_FAIL_SYS(err, -made, "folder cannot be created"), tmp->data);
    const char *slash = strrchr(j->path, '/');
    char *path = qn_path_join(j->env->alloc, tmp->data, slash ? slash + 1 : j->path, err);
    if (!path)
        return QN_E_MEMORY;
    x->edit.make = qn_to_onnx_content_make;
    x->edit.make_ctx = x;
    x->edit.external_bytes = j->wish->shard_bytes;
    qn_code rc = qn_onnx_edit_write(&x->edit, path, false, false, NULL, 0, err);
    if (rc == QN_OK)
        rc = qn_to_onnx_proof(x, path, &ran, &apart, &why, err);
    if (rc == QN_OK)
        rc = size_of(j, path, err);
    if (rc == QN_OK && x->edit.external_bytes && j->n_bytes > 0)
        rc = check_data_path(j, err);
    if (rc == QN_OK)
        rc = publish(j, path, err);
    if (rc == QN_OK)
        say_all(x, ran, apart, why);
    qn_mem_put(j->env->alloc, path);
    return rc == QN_OK ? note_rows(x, false, err) : rc;
}

static qn_code write(qn_export_job *j, qn_err *err)
{
    qn_to_onnx_export x = {0};
    qn_tmptree tmp = {0};
    const qn_code rc = write_in(&x, j, &tmp, err);
    qn_tmptree_close(&tmp);
    qn_to_onnx_export_close(&x);
    return rc;
}

const qn_export_target qn_export_onnx = {
    .name = "onnx",
    .summary = "onnxruntime and what else reads ONNX, from ONNX",
    .variants = "none (dense), f16, matmulnbits (2, 4 or 8 bits), qdq (int8), qdq4",
    .suffix = ".onnx",
    .plan = plan,
    .holds = holds,
    .write = write,
};
