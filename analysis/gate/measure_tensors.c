/* measure_tensors.c: what the files say: structure, sizes, errors of weights. See measure.h. */
#include "analysis/diff.h"
#include "analysis/gate/measure.h"
#include "analysis/gate/looks.h"
#include "analysis/gate/view.h"
#include "analysis/graph/op.h"
#include "analysis/model_digest.h"
#include "base/err.h"
#include "formats/quern/source.h"
#include "runtime/container.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A side: what was opened, and its tensors by the names to compare by. */
struct side {
    qn_source *given, *view; /* view: NULL, the names are right as they are */
    const qn_index *index;   /* of a .quern                                 */
};

static qn_source *seen(const struct side *s)
{
    return s->view ? s->view : s->given;
}

static uint64_t origin(const struct side *s, uint64_t tensor)
{
    return s->view ? qn_gguf_view_origin(s->view, tensor) : tensor;
}

static const char *copy(qn_report *r, const char *s, qn_err *err)
{
    return s ? qn_arena_str(&r->arena, s, strlen(s), err) : NULL;
}

static uint64_t size_of(const struct side *s)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < s->given->n_files; i++)
        n += s->given->files[i].n_bytes;
    return s->index ? s->index->file_bytes : n;
}

/* The number behind "layers.", "blk.", "h.": the first part of the name, but for its beginning, that is all digits. */
uint32_t qn_report_layer_of(const char *name)
{
    for (const char *p = name; *p;) {
        const size_t n = strcspn(p, "./");
        if (n > 0 && n < 7 && strspn(p, "0123456789") == n && p != name) {
            uint32_t v = 0;
            for (size_t i = 0; i < n; i++)
                v = v * 10 + (uint32_t)(p[i] - '0');
            return v;
        }
        p += n;
        p += *p != '\0';
    }
    return QN_REPORT_NO_LAYER;
}

/* How a tensor of a .quern is stored: by its first approximated chunk. */
static const char *codec_in(const qn_index *ix, uint64_t object)
{
    for (uint64_t c = ix->objects[object].first_chunk; c < ix->objects[object + 1].first_chunk; c++) {
        const qn_index_chunk *k = &ix->chunks[c];
        const unsigned id = k->codec == QN_CODEC_SHARED ? ix->chunks[k->off].codec : k->codec;
        if (qn_codec_is_lossy(id))
            return qn_codec_tab[id].name ? qn_codec_tab[id].name : "approximated";
    }
    return "lossless";
}

static qn_code describe(qn_report *r, const struct side *s, uint64_t tensor, qn_report_tensor *x, qn_err *err)
{
    const qn_source_tensor *t = &seen(s)->tensors[tensor];
    const qn_source_tensor *stored = &s->given->tensors[origin(s, tensor)];
    const char *codec = NULL;
    char lower[24];
    uint64_t n_bytes;
    if (!qn_shape_bytes((qn_dtype)t->dtype, t->dims, t->rank, &x->n_weights, &n_bytes))
        return QN_BUG(err, "tensor '%s' has no size", t->name);
    x->name = copy(r, t->name, err);
    x->dtype = qn_dtype_name((qn_dtype)t->dtype);
    x->n_bytes = t->n_bytes;
    x->layer = qn_report_layer_of(t->name);
    if (s->index && stored->object != QN_NO_OBJECT) {
        codec = codec_in(s->index, stored->object);
        x->n_bytes = qn_index_stored_bytes(s->index, stored->object) * (t->n_bytes ? t->n_bytes : 1) / (stored->n_bytes ? stored->n_bytes : 1);
    } else if (qn_dtype_is_block((qn_dtype)t->dtype)) {
        (void)snprintf(lower, sizeof lower, "%s", x->dtype);
        for (char *p = lower; *p; p++)
            *p = (char)(*p >= 'A' && *p <= 'Z' ? *p - 'A' + 'a' : *p);
        codec = lower;
    }
    x->codec = copy(r, codec, err);
    return x->name && (x->codec || !codec) ? QN_OK : QN_E_MEMORY;
}

static void shape_text(char *buf, size_t n, const qn_source_tensor *t)
{
    size_t at = 0;
    (void)snprintf(buf, n, "of one value");
    for (unsigned i = 0; i < t->rank && at < n; i++)
        at += (size_t)snprintf(buf + at, n - at, "%s%" PRIu64, i ? "×" : "", t->dims[i]);
}

/* gpt2: the same dimensions the other way round, in a file of the other kind. */
static bool turned(const struct side *a, const struct side *b, const qn_source_tensor *x, const qn_source_tensor *y)
{
    return (a->view || b->view) && x->rank == 2 && y->rank == 2 && x->dims[0] == y->dims[1] && x->dims[1] == y->dims[0];
}

/* A tensor that no bytes of its own stand for (a short list in an ONNX file): in a .quern it is part of what lies around the tensors, and not listed. */
static bool unlisted(const struct side *has, const struct side *lacks, const qn_source_tensor *t)
{
    return !has->view && t->object == QN_NO_OBJECT && lacks->index;
}

static qn_code judge(qn_report *r, const struct side *ref, const struct side *cand, const qn_diff_row *d, qn_report_tensor *x, qn_err *err)
{
    char text[256] = "", one[96], other[96];
    const qn_source_tensor *a = d->a == UINT64_MAX ? NULL : &seen(ref)->tensors[d->a];
    const qn_source_tensor *b = d->b == UINT64_MAX ? NULL : &seen(cand)->tensors[d->b];
    x->rel = x->max_abs = 0;
    x->cosine = 1;
    x->n_differing = d->n_differing;
    if (d->status == QN_DIFF_EQUAL)
        return QN_OK;
    if (d->measured) {
        x->rel = qn_errsum_rel_rms(&d->e);
        x->max_abs = d->e.max_abs;
        x->cosine = qn_errsum_cosine(&d->e);
    } else {
        x->rel = x->max_abs = x->cosine = (double)NAN;
    }
    if ((d->status == QN_DIFF_ONLY_A && unlisted(ref, cand, a)) || (d->status == QN_DIFF_ONLY_B && unlisted(cand, ref, b)))
        return QN_OK;
    if (d->status == QN_DIFF_ONLY_A) {
        (void)snprintf(text, sizeof text, "only in the reference");
    } else if (d->status == QN_DIFF_ONLY_B) {
        (void)snprintf(text, sizeof text, "not in the reference");
    } else if (d->status == QN_DIFF_SHAPE && !turned(ref, cand, a, b)) {
        shape_text(one, sizeof one, b);
        shape_text(other, sizeof other, a);
        (void)snprintf(text, sizeof text, "shape %s; %s in the reference", one, other);
    } else if (d->status == QN_DIFF_DTYPE && !d->measured) {
        (void)snprintf(text, sizeof text, "%s; %s in the reference", qn_dtype_name((qn_dtype)b->dtype), qn_dtype_name((qn_dtype)a->dtype));
    } else if (d->status == QN_DIFF_VALUES && !d->measured) {
        (void)snprintf(text, sizeof text, "%" PRIu64 " values differ that are no numbers to measure", d->n_differing);
    } else if (d->e.n_nan_mismatch || d->e.n_inf_mismatch) {
        (void)snprintf(text, sizeof text, "%" PRIu64 " value%s NaN or infinite on one side only", d->e.n_nan_mismatch + d->e.n_inf_mismatch,
                       d->e.n_nan_mismatch + d->e.n_inf_mismatch == 1 ? " is" : "s are");
    }
    x->trouble = *text ? copy(r, text, err) : NULL;
    return *text && !x->trouble ? QN_E_MEMORY : QN_OK;
}

static int rising(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The error of the tensor in the middle, of those that have one. */
static qn_code middle_error(const qn_report *r, double *middle, qn_err *err)
{
    double *v = qn_mem_get(r->arena.alloc, (r->n_tensors + 1) * sizeof *v, err);
    uint64_t n = 0;
    if (!v)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < r->n_tensors; i++)
        if (r->tensors[i].rel > 0)
            v[n++] = r->tensors[i].rel;
    qsort(v, (size_t)n, sizeof *v, rising);
    *middle = n ? v[n / 2] : 0;
    qn_mem_put(r->arena.alloc, v);
    return QN_OK;
}

/* Looks at what stands out: a model of few bits has an error everywhere. */
static qn_code look(qn_report *r, const struct side *ref, const struct side *cand, const qn_diff *d, qn_err *err)
{
    double middle;
    QN_TRY(middle_error(r, &middle, err));
    for (uint64_t i = 0; i < r->n_tensors; i++) {
        qn_report_tensor *x = &r->tensors[i];
        if (!x->trouble && x->rel >= QN_LOOKS_FROM && (x->rel > 0.5 || x->rel > 1.3 * middle || d->n_rows < 4))
            QN_TRY(qn_looks(seen(ref)->env, seen(ref), d->rows[i].a, seen(cand), d->rows[i].b, &r->arena, &x->looks, err));
    }
    return QN_OK;
}

static qn_code take_rows(qn_report *r, const struct side *ref, const struct side *cand, const qn_diff *d, qn_err *err)
{
    r->tensors = qn_arena_get(&r->arena, (d->n_rows + 1) * sizeof *r->tensors, 16, err);
    if (!r->tensors)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < d->n_rows; i++) {
        const qn_diff_row *row = &d->rows[i];
        qn_report_tensor *x = &r->tensors[r->n_tensors++];
        *x = (qn_report_tensor){0};
        QN_TRY(row->b == UINT64_MAX ? describe(r, ref, row->a, x, err) : describe(r, cand, row->b, x, err));
        if (row->a != UINT64_MAX)
            r->n_weights += x->n_weights;
        if (row->a != UINT64_MAX && row->b != UINT64_MAX && seen(ref)->tensors[row->a].dtype != seen(cand)->tensors[row->b].dtype)
            x->ref_dtype = qn_dtype_name((qn_dtype)seen(ref)->tensors[row->a].dtype);
        QN_TRY(judge(r, ref, cand, row, x, err));
    }
    return look(r, ref, cand, d, err);
}

static qn_code bindings(const qn_env *env, qn_report *r, const struct side *ref, const struct side *cand, qn_err *err)
{
    qn_report_binding *b = &r->b;
    b->candidate_path = copy(r, qn_source_given(cand->given), err);
    b->reference_path = copy(r, qn_source_given(ref->given), err);
    b->version = copy(r, qn_version(), err);
    b->cpu = copy(r, qn_cpu_name(env->cpu), err);
    if (!b->candidate_path || !b->reference_path || !b->version || !b->cpu)
        return QN_E_MEMORY;
    for (uint64_t i = 0; cand->index && i < cand->index->n_props; i++)
        if (strcmp(cand->index->props[2 * i], "lossy") == 0 && !(b->recipe = copy(r, cand->index->props[2 * i + 1], err)))
            return QN_E_MEMORY;
    QN_TRY(qn_model_digest(env, ref->given, &b->reference, err));
    return qn_model_digest(env, cand->given, &b->candidate, err);
}

static struct side side_of(qn_source *s)
{
    qn_reader *reader = qn_quern_source_reader(s);
    return (struct side){.given = s, .index = reader ? qn_reader_index(reader) : NULL};
}

qn_code qn_measure_tensors(const qn_env *env, qn_source *candidate, qn_source *reference, qn_report *r, qn_err *err)
{
    struct side cand = side_of(candidate), ref = side_of(reference);
    const bool cg = qn_is_gguf(candidate), rg = qn_is_gguf(reference);
    const qn_diff_options o = {.tensors_only = true};
    qn_diff d = {0};
    qn_code rc = bindings(env, r, &ref, &cand, err);
    if (rc == QN_OK && cg && !rg)
        rc = qn_gguf_view_open(env, candidate, reference, &cand.view, err);
    if (rc == QN_OK && rg && !cg)
        rc = qn_gguf_view_open(env, reference, candidate, &ref.view, err);
    r->size_bytes = size_of(&cand);
    r->reference_bytes = size_of(&ref);
    if (rc == QN_OK)
        rc = qn_diff_run(env, seen(&ref), seen(&cand), &o, &d, err);
    if (rc == QN_OK)
        rc = take_rows(r, &ref, &cand, &d, err);
    qn_diff_release(env, &d);
    qn_source_close(cand.view);
    qn_source_close(ref.view);
    return rc;
}

void qn_measure_forgive_names(const qn_graph *g, qn_report *r)
{
    static const char *const types[] = {"MatMulNBits", "DequantizeLinear", "QLinearMatMul", "QLinearConv", "MatMulInteger", "ConvInteger"};
    bool quantized = false;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        for (size_t k = 0; k < sizeof types / sizeof types[0]; k++)
            quantized = quantized || strcmp(g->nodes[i].type, types[k]) == 0;
    for (uint64_t i = 0; quantized && i < r->n_tensors; i++)
        if (isnan(r->tensors[i].rel))
            r->tensors[i].trouble = NULL;
}
