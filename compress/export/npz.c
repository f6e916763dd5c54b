/* npz.c: the target npz: every tensor, decoded, as an array of one numpy archive. */
#include "base/err.h"
#include "base/num.h"
#include "compress/export/export.h"
#include "formats/npz/npy_write.h"
#include "formats/zip/write.h"
#include <stdio.h>
#include <string.h>

struct form {
    qn_npy_options npy;
    bool deflate;
};

/* "f16+deflate": words in any order. */
static qn_code read_variant(const qn_export_job *j, struct form *f, qn_err *err)
{
    const char *p = j->variant;
    bool chosen = false;
    *f = (struct form){.npy = {.widen = true}};
    while (*p) {
        const size_t n = strcspn(p, "+");
        const bool half = n == 3 && !strncmp(p, "f16", n), single = n == 3 && !strncmp(p, "f32", n), bits = n == 4 && !strncmp(p, "bits", n);
        const bool deflate = n == 7 && !strncmp(p, "deflate", n);
        if (!(half || single || bits || deflate) || (chosen && !deflate) || (deflate && f->deflate))
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "npz: the variant is '%.40s': f32 (the default), f16 or bits are allowed, and deflate "
                           "behind a plus", j->variant);
        chosen = chosen || !deflate;
        f->deflate = f->deflate || deflate;
        f->npy.halve = f->npy.halve || half;
        f->npy.widen = f->npy.widen && !bits;
        p += n + (p[n] == '+');
    }
    const qn_export_wish *w = j->wish;
    if (w->bits > 0 || w->size_bytes || w->group || w->asymmetric > 0)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "npz holds arrays of numbers: a size, bits or groups cannot be chosen");
    return QN_OK;
}

static qn_code note(qn_export_job *j, uint64_t i, const qn_npy_written *w, uint64_t n_bytes, qn_err *err)
{
    const qn_source_tensor *t = &j->src->tensors[i];
    uint64_t n, bytes;
    if (!qn_shape_bytes((qn_dtype)t->dtype, t->dims, t->rank, &n, &bytes))
        n = 0;
    return qn_export_note(j, &(qn_export_row){.name = t->name, .asked = w->numpy_name, .given = w->numpy_name, .n_weights = n, .n_bytes = n_bytes,
                                              .why = w->as_bits ? "the bits of a type that numpy does not have" : NULL}, err);
}

static qn_code plan(qn_export_job *j, qn_recipe *r, qn_err *err)
{
    struct form f;
    (void)r;
    QN_TRY(read_variant(j, &f, err));
    for (uint64_t i = 0; i < j->src->n_tensors; i++) {
        qn_npy_written w;
        QN_TRY(qn_npy_emit(j->src, i, &f.npy, NULL, NULL, &w, err));
        QN_TRY(note(j, i, &w, w.n_bytes, err));
    }
    return QN_OK;
}

/* A name in an archive is a path to others, who must not be led astray by it. */
static qn_code member_name(qn_export_job *j, const char *tensor, char **out, qn_err *err)
{
    const size_t n = strlen(tensor);
    if (!qn_path_is_safe(tensor, n) || n > 60000)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "cannot be the name of a member of an archive"), tensor);
    *out = qn_path_cat(j->env->alloc, tensor, ".npy", err);
    return *out ? QN_OK : QN_E_MEMORY;
}

static qn_code put(void *ctx, const void *p, uint64_t n, qn_err *err)
{
    return qn_zip_out_add(ctx, p, n, err);
}

static qn_code add(qn_export_job *j, const struct form *f, qn_zip_out *z, uint64_t i, qn_err *err)
{
    qn_npy_written w;
    char *name = NULL;
    const uint64_t before = z->at + z->n_buf;
    QN_TRY(member_name(j, j->src->tensors[i].name, &name, err));
    qn_code rc = qn_npy_emit(j->src, i, &f->npy, NULL, NULL, &w, err);
    if (rc == QN_OK)
        rc = qn_zip_out_begin(z, name, w.n_bytes, f->deflate, err);
    if (rc == QN_OK)
        rc = qn_npy_emit(j->src, i, &f->npy, put, z, NULL, err);
    if (rc == QN_OK)
        rc = qn_zip_out_end(z, err);
    qn_mem_put(j->env->alloc, name);
    QN_TRY(rc);
    return note(j, i, &w, z->at + z->n_buf - before, err);
}

static qn_code write_it(qn_export_job *j, qn_err *err)
{
    struct form f;
    qn_zip_out z = QN_ZIP_OUT_CLOSED;
    QN_TRY(read_variant(j, &f, err));
    qn_code rc = qn_zip_out_open(&z, j->env, j->path, j->overwrite, err);
    for (uint64_t i = 0; i < j->src->n_tensors && rc == QN_OK; i++) {
        rc = add(j, &f, &z, i, err);
        if (j->env->progress)
            j->env->progress(j->env->progress_ctx, "write", i + 1, j->src->n_tensors);
    }
    if (rc == QN_OK)
        rc = qn_zip_out_finish(&z, &j->n_bytes, err);
    qn_zip_out_close(&z);
    if (rc == QN_OK)
        qn_export_say(j, "loads: numpy.load, and what reads its archives");
    return rc;
}

const qn_export_target qn_export_npz = {
    .name = "npz", .summary = "one numpy archive, all tensors decoded", .variants = "f32 (the default), f16, bits (bfloat16 as uint16); +deflate",
    .suffix = ".npz", .plan = plan, .write = write_it,
};
