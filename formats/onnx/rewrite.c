/* rewrite.c: see rewrite.h. First a plan (rewrite_plan.c), from which all lengths are known; then the data file, then the model. */
#include "formats/onnx/rewrite.h"
#include "base/err.h"
#include "base/num.h"
#include "base/path.h"
#include "formats/onnx/rewrite_plan.h"
#include "formats/outfile.h"

/* A container decodes whole chunks, so it is read in pieces as large as those. */
enum { BUF_BYTES = 1 << 20, CONTAINER_BUF_BYTES = 16 << 20 };
#define EXTERNAL_BYTES_DEFAULT (UINT64_C(1) << 30)

struct rewrite {
    const qn_env *env;
    qn_source *s;
    const qn_onnx_edits *edits;
    uint64_t file; /* the model among the source's files */
    uint8_t *buf;
    uint64_t buf_bytes;
    qn_outfile model, data;
};

static qn_code read_model(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    struct rewrite *w = ctx;
    return qn_source_file_read(w->s, w->file, off, n, dst, err);
}

/* ---- contents ---- */

static qn_code read_beside(struct rewrite *w, const qn_onnx_tensor *t, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    for (uint64_t i = 0; i < w->s->n_files; i++)
        if (i != w->file && !strcmp(w->s->files[i].path, t->location))
            return qn_source_file_read(w->s, i, t->span.off + off, n, dst, err);
    return QN_BUG(err, "file '%s' of a tensor is not the source's", t->location);
}

static qn_code read_content(struct rewrite *w, const qn_onnx_content *c, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    const qn_onnx_tensor *t = c->tensor;
    if (!t)
        return w->edits->read(w->edits->read_ctx, c->id, off, n, dst, err);
    switch ((qn_onnx_data)t->data) {
    case QN_ONNX_DATA_PLAIN: return qn_source_file_read(w->s, w->file, t->span.off + off, n, dst, err);
    case QN_ONNX_DATA_CODED: return qn_onnx_decode(t, read_model, w, w->s->files[w->file].n_bytes, off, n, dst, err);
    case QN_ONNX_DATA_EXTERNAL: return read_beside(w, t, off, n, dst, err);
    case QN_ONNX_DATA_NONE:
    case QN_ONNX_DATA_STRINGS: break;
    }
    return QN_BUG(err, "a tensor without bytes is moved");
}

static qn_code add_content(struct rewrite *w, qn_outfile *o, const qn_onnx_content *c, qn_err *err)
{
    for (uint64_t off = 0, n; off < c->n_bytes; off += n) {
        n = qn_min_u64(w->buf_bytes, c->n_bytes - off);
        QN_TRY(qn_err_in_tensor(err, read_content(w, c, off, n, w->buf, err), c->name));
        QN_TRY(qn_outfile_add(o, w->buf, n, err));
    }
    return QN_OK;
}

static qn_code add_copy(struct rewrite *w, uint64_t at, uint64_t n, qn_err *err)
{
    for (uint64_t some; n > 0; at += some, n -= some) {
        some = qn_min_u64(w->buf_bytes, n);
        QN_TRY(read_model(w, w->buf, some, at, err));
        QN_TRY(qn_outfile_add(&w->model, w->buf, some, err));
    }
    return QN_OK;
}

/* ---- files ---- */

static qn_code write_data(struct rewrite *w, const qn_onnx_plan *p, qn_err *err)
{
    static const uint8_t zeros[4096];
    for (const qn_onnx_content *c = p->data; c; c = c->next) {
        for (uint64_t n; w->data.at < c->off;) {
            n = qn_min_u64(sizeof zeros, c->off - w->data.at);
            QN_TRY(qn_outfile_add(&w->data, zeros, n, err));
        }
        QN_TRY(add_content(w, &w->data, c, err));
    }
    return w->data.at == p->n_data_bytes ? qn_outfile_seal(&w->data, err) : QN_BUG(err, "data of another length than planned");
}

static qn_code write_model(struct rewrite *w, const qn_onnx_plan *p, qn_err *err)
{
    for (const qn_onnx_piece *q = p->rope.first; q; q = q->next)
        switch ((qn_onnx_piece_kind)q->kind) {
        case QN_ONNX_PIECE_COPY: QN_TRY(add_copy(w, q->at, q->n, err)); break;
        case QN_ONNX_PIECE_BYTES: QN_TRY(qn_outfile_add(&w->model, q->bytes, q->n, err)); break;
        case QN_ONNX_PIECE_CONTENT: QN_TRY(add_content(w, &w->model, q->content, err)); break;
        }
    return w->model.at == p->rope.n ? qn_outfile_seal(&w->model, err) : QN_BUG(err, "a model of another length than planned");
}

static qn_code read_file(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    return qn_file_read(ctx, dst, n, off, err);
}

/* Our own reader must take it. Not as a source: the data file does not have its name yet. */
static qn_code check_model(const qn_env *env, const char *tmp, uint64_t n_bytes, qn_err *err)
{
    qn_arena arena;
    qn_file f;
    qn_onnx_model m;
    qn_err why = {0};
    QN_TRY(qn_file_open(&f, env->fs, env->alloc, tmp, QN_OPEN_READ, err));
    qn_arena_init(&arena, env->alloc);
    qn_code rc = qn_onnx_read(&m, &arena, env->alloc, read_file, &f, n_bytes, &why);
    qn_arena_release(&arena);
    qn_file_drop(&f);
    if (rc == QN_E_MEMORY || rc == QN_E_IO || rc == QN_E_CANCELLED)
        return QN_FAIL(err, rc, QN_NO_OFFSET, "%s", why.text);
    return rc == QN_OK ? rc : QN_FAIL(err, QN_E_VERIFY, why.off, "what was written is no model: %s%s%s", why.tensor, why.tensor[0] ? ": " : "",
                                      why.text);
}

static qn_code publish(struct rewrite *w, bool beside, qn_err *err)
{
    const bool there = beside && qn_fs_exists(w->env->fs, w->data.path);
    if (beside)
        QN_TRY(qn_outfile_publish(&w->data, err));
    const qn_code rc = qn_outfile_publish(&w->model, err);
    if (rc != QN_OK && beside && !there && w->model.made) /* nobody knows of it yet */
        (void)w->env->fs->unlink(w->env->fs->ctx, w->data.path);
    return rc;
}

static qn_code write_all(struct rewrite *w, const qn_onnx_plan *p, const char *path, bool overwrite, qn_err *err)
{
    w->buf = qn_mem_get(w->env->alloc, w->buf_bytes, err);
    if (!w->buf)
        return QN_E_MEMORY;
    QN_TRY(qn_outfile_open(&w->model, w->env, path, overwrite, err));
    if (p->data) {
        char *data = qn_path_cat(w->env->alloc, path, ".data", err);
        const qn_code rc = data ? qn_outfile_open(&w->data, w->env, data, overwrite, err) : QN_E_MEMORY;
        qn_mem_put(w->env->alloc, data);
        QN_TRY(rc);
        QN_TRY(write_data(w, p, err));
    }
    QN_TRY(write_model(w, p, err));
    QN_TRY(check_model(w->env, w->model.tmp, p->rope.n, err));
    return publish(w, p->data != NULL, err);
}

/* ---- the whole ---- */

static qn_code make_plan(qn_onnx_plan *p, const char *path, uint64_t most, char **location, qn_err *err)
{
    const char *slash = strrchr(path, '/');
    QN_TRY(qn_onnx_plan_make(p, err));
    if (p->rope.n > most) {
        *location = qn_path_cat(p->env->alloc, slash ? slash + 1 : path, ".data", err);
        if (!*location)
            return QN_E_MEMORY;
        if (!qn_path_is_safe(*location, strlen(*location)))
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "a model of %llu bytes needs a data file, and no model may name this one: '%.200s'",
                           (unsigned long long)p->rope.n, *location);
        qn_onnx_plan_release(p);
        p->location = *location;
        QN_TRY(qn_onnx_plan_make(p, err));
    }
    return p->rope.n <= INT32_MAX ? QN_OK : QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the model without its data would have %llu bytes: "
                                                    "protobuf ends at 2 GiB", (unsigned long long)p->rope.n);
}

qn_code qn_onnx_rewrite(const qn_env *env, qn_source *s, const qn_onnx_edits *e, const char *path, const qn_onnx_rewrite_options *o, qn_err *err)
{
    const qn_onnx_model *own = qn_onnx_source_model(s), *m = e->model ? e->model : own;
    if (!m)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "is no ONNX model as a file of its own"), s->path);
    struct rewrite w = {.env = env, .s = s, .edits = e, .file = own ? qn_onnx_source_file(s) : e->file,
                        .buf_bytes = own ? BUF_BYTES : CONTAINER_BUF_BYTES, .model = QN_OUTFILE_CLOSED, .data = QN_OUTFILE_CLOSED};
    qn_onnx_plan p = {.env = env, .model = m, .edits = e, .read = read_model, .read_ctx = &w, .n_file_bytes = s->files[w.file].n_bytes};
    const uint64_t most = o->external_bytes ? qn_min_u64(o->external_bytes, INT32_MAX) : EXTERNAL_BYTES_DEFAULT;
    char *location = NULL;
    qn_code rc = make_plan(&p, path, most, &location, err);
    if (rc == QN_OK)
        rc = write_all(&w, &p, path, o->overwrite, err);
    qn_outfile_close(&w.model);
    qn_outfile_close(&w.data);
    qn_mem_put(env->alloc, w.buf);
    qn_mem_put(env->alloc, location);
    qn_onnx_plan_release(&p);
    return qn_err_in_path(err, rc, path);
}
