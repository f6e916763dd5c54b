/* diff.c: see diff.h.
 *
 * First the structure is laid side by side; what can be compared becomes a list of items. Then passes over the items (see
 * diff_pass.c) find which are equal and measure the tensors that are not. */
#include "analysis/diff.h"
#include "analysis/diff_impl.h"
#include "base/err.h"
#include "base/num.h"
#include "runtime/container.h"
#include <string.h>

static bool wanted(const struct diff *d, const qn_source_tensor *t)
{
    return !d->opt->want || d->opt->want(d->opt->want_ctx, t->name);
}

static bool same_shape(const qn_source_tensor *a, const qn_source_tensor *b)
{
    return a->rank == b->rank && memcmp(a->dims, b->dims, a->rank * sizeof *a->dims) == 0;
}

static void add_item(struct diff *d, const struct item *item)
{
    d->items[d->n_items++] = *item;
}

static void add_tensor_pair(struct diff *d, uint64_t row)
{
    qn_diff_row *r = &d->out->rows[row];
    const qn_source_tensor *a = &d->a->tensors[r->a], *b = &d->b->tensors[r->b];
    if (!same_shape(a, b)) {
        r->status = QN_DIFF_SHAPE;
        return;
    }
    if (a->dtype != b->dtype) {
        r->status = QN_DIFF_DTYPE;
        r->measured = qn_value_bits((qn_dtype)a->dtype) && qn_value_bits((qn_dtype)b->dtype) &&
                      qn_values_per_element((qn_dtype)a->dtype) == qn_values_per_element((qn_dtype)b->dtype);
        if (!r->measured)
            return;
    }
    uint64_t units = qn_chunk_units((qn_dtype)a->dtype, a->dims, a->rank, a->n_bytes);
    if (a->dtype != b->dtype)
        units = (units + 7) / 8 * 8; /* B's pieces must begin on bytes also when its elements are smaller than one */
    add_item(d, &(struct item){.is_tensor = true, .row = row, .a = r->a, .b = r->b, .n_bytes = a->n_bytes,
                               .piece_bytes = units * qn_unit_bytes((qn_dtype)a->dtype)});
}

static qn_code list_tensors(struct diff *d, qn_err *err)
{
    const uint64_t most = d->a->n_tensors + d->b->n_tensors;
    d->out->rows = qn_mem_zeros(d->env->alloc, most, sizeof *d->out->rows, err);
    if (!d->out->rows)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < d->a->n_tensors; i++) {
        const qn_source_tensor *t = &d->a->tensors[i];
        if (!wanted(d, t))
            continue;
        const uint64_t row = d->out->n_rows++, twin = qn_source_tensor_find(d->b, t->name);
        d->out->rows[row] = (qn_diff_row){.name = t->name, .a = i, .b = twin, .first_differing = UINT64_MAX};
        if (twin == UINT64_MAX)
            d->out->rows[row].status = QN_DIFF_ONLY_A;
        else
            add_tensor_pair(d, row);
    }
    for (uint64_t i = 0; i < d->b->n_tensors; i++) {
        const qn_source_tensor *t = &d->b->tensors[i];
        if (wanted(d, t) && qn_source_tensor_find(d->a, t->name) == UINT64_MAX)
            d->out->rows[d->out->n_rows++] = (qn_diff_row){.name = t->name, .a = UINT64_MAX, .b = i,
                                                           .status = QN_DIFF_ONLY_B, .first_differing = UINT64_MAX};
    }
    return QN_OK;
}

/* What lies in which file, and in which file of the other side it has its twins. */
static qn_code count_in_files(struct diff *d, qn_err *err)
{
    d->in_a = qn_mem_zeros(d->env->alloc, d->a->n_files, sizeof *d->in_a, err);
    d->in_b = qn_mem_zeros(d->env->alloc, d->b->n_files, sizeof *d->in_b, err);
    if (!d->in_a || !d->in_b)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < d->b->n_tensors; i++)
        d->in_b[d->b->tensors[i].file].n_tensors++;
    for (uint64_t i = 0; i < d->a->n_tensors; i++) {
        const qn_source_tensor *t = &d->a->tensors[i];
        struct in_file *f = &d->in_a[t->file];
        const uint64_t twin = qn_source_tensor_find(d->b, t->name);
        const qn_source_tensor *u = twin == UINT64_MAX ? NULL : &d->b->tensors[twin];
        if (f->n_tensors++ == 0 && u)
            f->twins_in = u->file;
        f->n_alike += u && u->file == f->twins_in && u->dtype == t->dtype && same_shape(u, t);
    }
    return QN_OK;
}

static void add_file(struct diff *d, uint64_t fa, uint64_t fb, qn_diff_status status)
{
    const qn_source_file *a = fa == UINT64_MAX ? NULL : &d->a->files[fa], *b = fb == UINT64_MAX ? NULL : &d->b->files[fb];
    d->out->files[d->out->n_files++] = (qn_diff_file){.path = a ? a->path : b->path,
                                                      .status = status,
                                                      .a_bytes = a ? a->n_bytes : 0,
                                                      .b_bytes = b ? b->n_bytes : 0};
}

/* Do two files hold the same tensors, so that the bytes between them can be compared one by one? */
static bool same_layout(const struct diff *d, const qn_source_file *a, const qn_source_file *b)
{
    for (uint64_t i = 0; i < a->n_objects && i < b->n_objects; i++) {
        const qn_object *x = &d->a->objects[a->first_object + i], *y = &d->b->objects[b->first_object + i];
        if (x->kind != y->kind || x->n_bytes != y->n_bytes || strcmp(x->name, y->name) != 0)
            return false;
    }
    return a->n_objects == b->n_objects;
}

/* Do two files list the same tensors of equal dtype and shape, in whatever order? */
static bool same_tensors(const struct diff *d, uint64_t fa, uint64_t fb)
{
    const struct in_file *a = &d->in_a[fa];
    return a->n_alike == a->n_tensors && a->twins_in == fb && a->n_tensors == d->in_b[fb].n_tensors;
}

static void add_header_pair(struct diff *d, uint64_t fa, uint64_t fb)
{
    const qn_source_file *a = &d->a->files[fa], *b = &d->b->files[fb];
    if (!same_tensors(d, fa, fb))
        return;
    const uint64_t file = d->out->n_files;
    if (!same_layout(d, a, b)) {
        add_file(d, fa, fb, QN_DIFF_HEADER);
        return;
    }
    add_file(d, fa, fb, QN_DIFF_EQUAL);
    for (uint64_t i = 0; i < a->n_objects; i++) {
        const qn_object *x = &d->a->objects[a->first_object + i], *y = &d->b->objects[b->first_object + i];
        if (x->kind == QN_OBJECT_BLOB)
            add_item(d, &(struct item){.row = file, .a = fa, .b = fb, .a_off = x->off, .b_off = y->off,
                                       .n_bytes = x->n_bytes, .if_differs = QN_DIFF_HEADER, .piece_bytes = BYTES_PIECE});
    }
}

static void add_file_pair(struct diff *d, uint64_t fa, uint64_t fb)
{
    const bool ta = d->in_a[fa].n_tensors, tb = d->in_b[fb].n_tensors;
    if (ta && tb)
        add_header_pair(d, fa, fb);
    else if (ta || tb || d->a->files[fa].n_bytes != d->b->files[fb].n_bytes)
        add_file(d, fa, fb, QN_DIFF_VALUES);
    else {
        add_item(d, &(struct item){.row = d->out->n_files, .a = fa, .b = fb, .n_bytes = d->a->files[fa].n_bytes,
                                   .if_differs = QN_DIFF_VALUES, .piece_bytes = BYTES_PIECE});
        add_file(d, fa, fb, QN_DIFF_EQUAL);
    }
}

static bool same_extension(const char *a, const char *b)
{
    const char *x = strrchr(a, '.'), *y = strrchr(b, '.');
    return x && y && strcmp(x, y) == 0;
}

/* Files are sorted by path on both sides. A file of tensors that has no twin is not missing: its tensors are compared. */
static qn_code list_files(struct diff *d, qn_err *err)
{
    d->out->files = qn_mem_zeros(d->env->alloc, d->a->n_files + d->b->n_files, sizeof *d->out->files, err);
    if (!d->out->files)
        return QN_E_MEMORY;
    if (d->opt->tensors_only)
        return QN_OK;
    QN_TRY(count_in_files(d, err));
    if (!d->a->is_dir && !d->b->is_dir) { /* whatever their names are */
        if (same_extension(d->a->files[0].path, d->b->files[0].path))
            add_file_pair(d, 0, 0);
        return QN_OK;
    }
    const bool both = d->a->is_dir && d->b->is_dir;
    for (uint64_t fa = 0, fb = 0; fa < d->a->n_files || fb < d->b->n_files;) {
        const int order = fa == d->a->n_files   ? 1
                          : fb == d->b->n_files ? -1
                                                : strcmp(d->a->files[fa].path, d->b->files[fb].path);
        if (order == 0)
            add_file_pair(d, fa++, fb++);
        else if (order < 0) {
            if (both && d->in_a[fa].n_tensors == 0)
                add_file(d, fa, UINT64_MAX, QN_DIFF_ONLY_A);
            fa++;
        } else {
            if (both && d->in_b[fb].n_tensors == 0)
                add_file(d, UINT64_MAX, fb, QN_DIFF_ONLY_B);
            fb++;
        }
    }
    return QN_OK;
}

static bool tolerated(const qn_diff_row *r, const qn_tolerance *t)
{
    if (r->status == QN_DIFF_EQUAL)
        return true;
    if (!t || !r->measured || r->e.n_nan_mismatch || r->e.n_inf_mismatch)
        return false;
    /* written so that a NaN in a measure fails */
    return r->e.max_abs <= t->max_abs && qn_errsum_rel_rms(&r->e) <= t->max_rel_rms &&
           qn_errsum_cosine(&r->e) >= t->min_cosine && qn_errsum_sqnr_db(&r->e) >= t->min_sqnr_db;
}

static void judge(struct diff *d)
{
    qn_diff *out = d->out;
    for (uint64_t i = 0; i < out->n_rows; i++) {
        qn_diff_row *r = &out->rows[i];
        if (r->measured)
            qn_errsum_merge(&out->total, &r->e);
        r->within = tolerated(r, d->opt->tolerance);
        out->n_within += r->within && r->status != QN_DIFF_EQUAL;
        out->n_by_status[r->status]++;
        out->different = out->different || !r->within;
    }
    for (uint64_t i = 0; i < out->n_files; i++)
        out->n_files_differing += out->files[i].status != QN_DIFF_EQUAL;
    out->different = out->different || out->n_files_differing;
}

static qn_code run(struct diff *d, qn_err *err)
{
    /* every tensor, every object and every file of A gives at most one item */
    d->items = qn_mem_zeros(d->env->alloc, d->a->n_tensors + d->a->n_objects + d->a->n_files + 1, sizeof *d->items, err);
    if (!d->items)
        return QN_E_MEMORY;
    QN_TRY(list_tensors(d, err));
    QN_TRY(list_files(d, err));
    QN_TRY(qn_diff_passes(d, err));
    judge(d);
    return QN_OK;
}

qn_code qn_diff_run(const qn_env *env, qn_source *a, qn_source *b, const qn_diff_options *opt, qn_diff *out, qn_err *err)
{
    static const qn_diff_options none;
    struct diff d = {.env = env, .a = a, .b = b, .opt = opt ? opt : &none, .out = out};
    *out = (qn_diff){0};
    const qn_code rc = run(&d, err);
    qn_mem_put(env->alloc, d.items);
    qn_mem_put(env->alloc, d.in_a);
    qn_mem_put(env->alloc, d.in_b);
    if (rc != QN_OK)
        qn_diff_release(env, out);
    return rc;
}

void qn_diff_release(const qn_env *env, qn_diff *d)
{
    qn_mem_put(env->alloc, d->rows);
    qn_mem_put(env->alloc, d->files);
    *d = (qn_diff){0};
}
