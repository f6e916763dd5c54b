/* gguf.c: the target "gguf": what is planned, and how the file is written. */
#include "base/err.h"
#include "base/num.h"
#include "compress/export/gguf_impl.h"
#include <stdio.h>
#include <string.h>

/* --- writing ---------------------------------------------------------------------------------------------------------------------- */

static qn_code put_key(qn_gguf_writer *w, const struct qn_ggx_key *k, qn_err *err)
{
    switch (k->type) {
    case QN_GGUF_U32:
        return qn_gguf_put_u32(w, k->name, k->u, err);
    case QN_GGUF_F32:
        return qn_gguf_put_f32(w, k->name, k->f, err);
    case QN_GGUF_BOOL:
        return qn_gguf_put_bool(w, k->name, k->u, err);
    case QN_GGUF_STR:
        return qn_gguf_put_str(w, k->name, k->s, err);
    default:
        QN_TRY(qn_gguf_put_array(w, k->name, k->elem, k->n, err));
        return qn_gguf_put_array_numbers(w, k->array, k->n, err);
    }
}

static bool any_blocks(const qn_ggx *x)
{
    for (uint32_t i = 0; i < x->n; i++)
        if (qn_dtype_is_block(x->list[i].dtype))
            return true;
    return false;
}

static bool replaced(const char *key)
{
    static const char *const own[] = {"general.file_type", "general.quantization_version", "general.alignment", "split.no", "split.count", "split.tensors.count"};
    if (!strncmp(key, "quantize.imatrix.", 17))
        return true;
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (!strcmp(key, own[i]))
            return true;
    return false;
}

/* As llama-quantize names what its weights came from; of a path the last name. */
static qn_code put_statistics(const qn_ggx *x, qn_gguf_writer *w, qn_err *err)
{
    const qn_stats_file *s = x->job->stats;
    const char *path = x->job->wish->statistics, *slash = strrchr(path, '/');
    QN_TRY(qn_gguf_put_str(w, "quantize.imatrix.file", slash ? slash + 1 : path, err));
    if (s->meta.n_sources) {
        const char *from = s->meta.sources[0].label, *last = from ? strrchr(from, '/') : NULL;
        if (from)
            QN_TRY(qn_gguf_put_str(w, "quantize.imatrix.dataset", last ? last + 1 : from, err));
    }
    QN_TRY(qn_gguf_put_u32(w, "quantize.imatrix.entries_count", s->n_items, err));
    return qn_gguf_put_u32(w, "quantize.imatrix.chunks_count", (uint32_t)qn_min_u64(s->meta.sequences, UINT32_MAX), err);
}

static qn_code put_keys(qn_ggx *x, qn_gguf_writer *w, qn_err *err)
{
    for (uint64_t i = 0; x->is_gguf && i < x->keys.n_keys; i++)
        if (!replaced(x->keys.keys[i].name))
            QN_TRY(qn_gguf_put_copy(w, &x->keys, &x->keys.keys[i], err));
    for (uint32_t i = 0; i < x->n_keys; i++) {
        bool loads = true;
        if (!strcmp(x->key[i].name, "general.name"))
            QN_TRY(qn_ggx_name_loads(x, x->key[i].s, &loads, err));
        if (loads)
            QN_TRY(put_key(w, &x->key[i], err));
    }
    if (!x->is_gguf) {
        char key[96];
        snprintf(key, sizeof key, "%s.vocab_size", x->arch);
        QN_TRY(qn_gguf_put_u32(w, key, (uint32_t)qn_min_u64(x->vocab, UINT32_MAX), err));
        QN_TRY(qn_ggx_vocab(x, w, err));
    }
    QN_TRY(qn_gguf_put_u32(w, "general.file_type", x->file_type, err));
    if (!any_blocks(x))
        return QN_OK;
    QN_TRY(qn_gguf_put_u32(w, "general.quantization_version", 2, err));
    return x->job->stats && x->job->wish->statistics ? put_statistics(x, w, err) : QN_OK;
}

qn_code qn_ggx_put_head(qn_ggx *x, qn_gguf_writer *w, qn_err *err)
{
    QN_TRY(put_keys(x, w, err));
    for (uint32_t i = 0; i < x->n; i++)
        QN_TRY(qn_gguf_put_tensor(w, x->list[i].name, x->list[i].dtype, x->list[i].dims, x->list[i].rank, err));
    return QN_OK;
}

static qn_code put_one(qn_ggx *x, const qn_ggx_tensor *t, qn_gguf_writer *w, qn_err *err)
{
    qn_ggx_rows r = {.x = NULL};
    const uint64_t row_bytes = qn_bytes_of_elems(t->dtype, t->cols);
    uint8_t *buf = NULL;
    qn_code rc = qn_ggx_rows_open(&r, x, t, err);
    const uint64_t band = rc == QN_OK ? qn_ggx_rows_band(&r) : 1;
    if (rc == QN_OK) {
        buf = qn_mem_get(x->job->env->alloc, qn_min_u64(band, t->rows) * row_bytes + 1, err);
        rc = buf ? QN_OK : QN_E_MEMORY;
    }
    for (uint64_t at = 0; rc == QN_OK && at < t->rows; at += band) {
        const uint64_t n = qn_min_u64(band, t->rows - at);
        rc = qn_ggx_rows_bytes(&r, at, n, buf, err);
        if (rc == QN_OK)
            rc = qn_gguf_put_data(w, buf, n * row_bytes, err);
        if (rc == QN_OK)
            rc = qn_env_check(x->job->env, err);
    }
    qn_mem_put(x->job->env->alloc, buf);
    qn_ggx_rows_close(&r);
    return rc;
}

static qn_code note(qn_ggx *x, const qn_ggx_tensor *t, qn_err *err)
{
    uint64_t n_elems, n_bytes;
    if (!qn_shape_bytes(t->dtype, t->dims, t->rank, &n_elems, &n_bytes))
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "its shape does not suit %s", qn_dtype_name(t->dtype)), t->name);
    const char *given = qn_dtype_name(t->dtype);
    const qn_export_row row = {.name = t->name, .asked = t->wanted == QN_BYTES ? given : qn_dtype_name(t->wanted), .given = given, .why = t->why,
                               .n_weights = n_elems, .n_bytes = n_bytes, .rounded_again = t->again};
    return qn_export_note(x->job, &row, err);
}

/* Our own reader and builder take it: what they refuse nobody should get. */
static qn_code proof(qn_ggx *x, const char *path, qn_err *err)
{
    qn_source *s = NULL;
    qn_graph *g = NULL;
    qn_err why = {0};
    QN_TRY(qn_source_open(x->job->env, path, &s, err));
    qn_code rc = qn_graph_open(x->job->env, s, &g, &why);
    if (rc == QN_E_UNSUPPORTED)
        rc = QN_OK; /* llama.cpp knows more kinds than we do */
    else if (rc != QN_OK)
        rc = QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "what was written does not open: %.240s", why.text);
    if (rc == QN_OK && g && x->job->graph && x->job->graph->n_vocab && g->n_vocab != x->job->graph->n_vocab)
        rc = QN_FAIL(err, QN_E_VERIFY, QN_NO_OFFSET, "what was written has %u tokens, the model has %u", g->n_vocab, x->job->graph->n_vocab);
    qn_graph_close(g);
    qn_source_close(s);
    if (rc == QN_OK && !x->is_gguf)
        rc = qn_ggx_vocab_check(x, path, err);
    return rc;
}

static qn_code write_file(qn_ggx *x, qn_gguf_writer *w, qn_err *err)
{
    qn_export_job *j = x->job;
    QN_TRY(qn_gguf_writer_open(w, j->env, j->path, 0, j->overwrite, err));
    QN_TRY(qn_ggx_put_head(x, w, err));
    for (uint32_t i = 0; i < x->n; i++) {
        QN_TRY(qn_err_in_tensor(err, put_one(x, &x->list[i], w, err), x->list[i].name));
        QN_TRY(note(x, &x->list[i], err));
    }
    QN_TRY(qn_gguf_writer_seal(w, err));
    QN_TRY(proof(x, w->out.tmp, err));
    j->n_bytes = w->out.at;
    return qn_outfile_publish(&w->out, err);
}

static qn_code write_gguf(qn_export_job *j, qn_err *err)
{
    qn_ggx x;
    qn_gguf_writer w = {.out = QN_OUTFILE_CLOSED};
    qn_code rc = qn_ggx_open(&x, j, err);
    if (rc == QN_OK)
        rc = qn_ggx_types(&x, j->variant, err);
    if (rc == QN_OK)
        rc = qn_ggx_settle(&x, err);
    if (rc == QN_OK)
        rc = write_file(&x, &w, err);
    qn_gguf_writer_close(&w);
    qn_ggx_release(&x);
    return rc;
}

/* --- planning ------------------------------------------------------------------------------------------------------------------------ */

static qn_code plan_gguf(qn_export_job *j, qn_recipe *r, qn_err *err)
{
    qn_ggx x;
    qn_code rc = qn_ggx_open(&x, j, err);
    if (rc == QN_OK)
        rc = qn_ggx_types(&x, j->variant, err);
    if (rc == QN_OK)
        rc = qn_ggx_recipe(&x, r, err);
    for (uint32_t i = 0; rc == QN_OK && i < x.n; i++)
        rc = note(&x, &x.list[i], err);
    qn_ggx_release(&x);
    return rc;
}

static qn_code holds_gguf(qn_export_job *j, bool *yes, qn_err *err)
{
    qn_ggx x;
    *yes = false;
    qn_code rc = qn_ggx_open(&x, j, err);
    if (rc == QN_OK)
        rc = qn_ggx_types(&x, j->variant, err);
    if (rc == QN_OK)
        rc = qn_ggx_holds(&x, yes, err);
    qn_ggx_release(&x);
    return rc;
}

const qn_export_target qn_export_gguf = {
    .name = "gguf", .summary = "llama.cpp and what is built on it", .variants = "f32, f16, bf16, a type (q4_k), a mix (Q4_K_M); or none, with --bits or --size",
    .suffix = ".gguf", .plan = plan_gguf, .holds = holds_gguf, .write = write_gguf,
};
