/* onnx_made.c: see onnx_made.h. */
#include "tests/support/onnx_made.h"
#include "analysis/graph/build.h"
#include "tests/support/made.h"
#include "tests/support/proto.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void qt_onnx_begin(qt_onnx *m, unsigned opset)
{
    *m = (qt_onnx){.opset = opset, .ir = 8, .seed = 1};
}

/* A field of length kind holding these bytes. */
static void add_field(qt_buf *b, unsigned number, const qt_buf *content)
{
    uint8_t head[20];
    size_t n = 0;
    for (uint64_t v = (uint64_t)number << 3 | 2, k = 0; k < 2; v = content->n, k++) {
        for (; v >= 0x80; v >>= 7)
            head[n++] = (uint8_t)(v | 0x80);
        head[n++] = (uint8_t)v;
    }
    qt_add(b, head, n);
    qt_add(b, content->p, content->n);
}

static void add_text(qt_buf *b, const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    qt_add_proto(b, text, NULL);
}

void qt_onnx_floats(qt_onnx *m, const char *name, double sigma, double mean, unsigned rank, ...)
{
    qt_buf t = {0}, raw = {0};
    qt_rng r = qt_seed(m->seed++);
    uint64_t n = 1;
    va_list ap;
    va_start(ap, rank);
    for (unsigned k = 0; k < rank; k++) {
        const int d = va_arg(ap, int);
        add_text(&t, "#1=%d", d);
        n *= (uint64_t)d;
    }
    va_end(ap);
    add_text(&t, "#2=1 @8{'%s'}", name);
    for (uint64_t i = 0; i < n; i++) {
        const float f = (float)(mean + sigma * qt_normal(&r));
        qt_add(&raw, &f, 4);
    }
    add_field(&t, 9, &raw);
    add_field(&m->graph, 5, &t);
    qt_buf_free(&t);
    qt_buf_free(&raw);
}

void qt_onnx_ints(qt_onnx *m, const char *name, unsigned n, ...)
{
    qt_buf t = {0};
    va_list ap;
    add_text(&t, "#1=%u #2=7 @8{'%s'}", n, name);
    va_start(ap, n);
    for (unsigned i = 0; i < n; i++)
        add_text(&t, "#7=%d", va_arg(ap, int));
    va_end(ap);
    add_field(&m->graph, 5, &t);
    qt_buf_free(&t);
}

static void add_names(qt_buf *b, unsigned field, const char *list)
{
    while (*list) {
        const size_t n = strcspn(list, ",");
        add_text(b, "@%u{'%.*s'}", field, (int)n, list);
        list += n + (list[n] == ',');
    }
}

void qt_onnx_node(qt_onnx *m, const char *type, const char *ins, const char *outs, const char *attrs)
{
    qt_buf d = {0};
    add_names(&d, 1, ins);
    add_names(&d, 2, outs);
    add_text(&d, "@4{'%s'} %s", type, attrs);
    add_field(&m->graph, 1, &d);
    qt_buf_free(&d);
}

static void add_value(qt_onnx *m, unsigned field, const char *name, const char *dims)
{
    char shape[512] = "";
    while (*dims) {
        const size_t n = strcspn(dims, ",");
        const bool symbol = *dims >= 'A';
        snprintf(shape + strlen(shape), sizeof shape - strlen(shape), symbol ? "@1{@2{'%.*s'}}" : "@1{#1=%.*s}", (int)n, dims);
        dims += n + (dims[n] == ',');
    }
    add_text(&m->graph, "@%u{@1{'%s'} @2{@1{#1=1 @2{%s}}}}", field, name, shape);
}

void qt_onnx_input(qt_onnx *m, const char *name, const char *dims)
{
    add_value(m, 11, name, dims);
}

void qt_onnx_output(qt_onnx *m, const char *name, const char *dims)
{
    add_value(m, 12, name, dims);
}

void qt_onnx_text(qt_onnx *m, const char *text)
{
    qt_add_proto(&m->graph, text, NULL);
}

const char *qt_onnx_write(qt_onnx *m, const char *rel)
{
    qt_buf file = {0};
    add_text(&file, "#1=%u @8{#2=%u} @8{@1{'com.microsoft'} #2=1}", m->ir, m->opset);
    add_field(&file, 7, &m->graph);
    const char *path = qt_made_file(rel, file.p, file.n);
    qt_buf_free(&file);
    qt_buf_free(&m->graph);
    return path;
}

qt_onnx_open qt_onnx_load(const char *path)
{
    qt_onnx_open o;
    qn_err err = {0};
    o.s = qt_made_open(qt_made_env(1), path);
    cr_assert_eq(qn_graph_of_onnx(qt_made_env(1), o.s, &o.g, &err), QN_OK, "%s: %s", path, err.text);
    return o;
}

void qt_onnx_close(qt_onnx_open *o)
{
    qn_graph_close(o->g);
    qn_source_close(o->s);
}

static qn_array feed_of(qn_exec *x, const qn_value *v, uint64_t seed, int64_t unknown)
{
    int64_t dims[QN_ARRAY_RANK_MAX];
    qn_array a;
    qn_err err = {0};
    qt_rng r = qt_seed(seed);
    cr_assert(v->dims != NULL);
    for (unsigned k = 0; k < v->rank; k++)
        dims[k] = v->dims[k] < 0 ? unknown : v->dims[k];
    cr_assert_eq(qn_exec_new(x, &a, (qn_dtype)v->dtype, dims, v->rank, &err), QN_OK, "%s", err.text);
    memset(a.data, 0, qn_array_bytes(&a));
    for (uint64_t i = 0; a.dtype == QN_F32 && i < a.n; i++)
        ((float *)a.data)[i] = (float)qt_normal(&r);
    for (uint64_t i = 0; a.dtype == QN_I64 && i < a.n; i++)
        ((int64_t *)a.data)[i] = (int64_t)qt_below(&r, 3);
    return a;
}

qn_array qt_onnx_eval(const qn_graph *g, const qn_overlay *w, uint64_t seed, int64_t unknown, unsigned i)
{
    qn_array in[8] = {{0}}, out[16] = {{0}}, kept = {0};
    qn_exec *x;
    qn_err err = {0};
    union {
        const qn_overlay *in;
        void *out;
    } u = {.in = w};
    const qn_exec_options o = {.read = w ? qn_overlay_read : NULL, .read_ctx = u.out};
    cr_assert(g->n_inputs <= 8 && g->n_outputs <= 16);
    cr_assert_eq(qn_exec_open(g->env, g, &o, &x, &err), QN_OK, "%s", err.text);
    for (uint32_t k = 0; k < g->n_inputs; k++)
        in[k] = feed_of(x, &g->values[g->inputs[k]], seed + k, unknown);
    cr_assert_eq(qn_exec_run(x, in, out, &err), QN_OK, "%s", err.text);
    kept = out[i];
    kept.data = qt_made_keep(malloc(qn_array_bytes(&kept) + 1));
    memcpy(kept.data, out[i].data, qn_array_bytes(&kept));
    kept.buffer = NULL;
    for (unsigned k = 0; k < 8; k++)
        qn_array_release(&in[k]);
    for (unsigned k = 0; k < 16; k++)
        qn_array_release(&out[k]);
    qn_exec_close(x);
    return kept;
}

double qt_onnx_apart(const qn_array *a, const qn_array *b)
{
    double most = 0, size = 0;
    char ta[128], tb[128];
    cr_assert_str_eq(qn_array_text(a, ta), qn_array_text(b, tb));
    cr_assert_eq(a->dtype, QN_F32);
    for (uint64_t i = 0; i < a->n; i++) {
        const double x = (double)((const float *)a->data)[i], y = (double)((const float *)b->data)[i];
        cr_assert(isfinite(x) && isfinite(y));
        most = fmax(most, fabs(x - y));
        size = fmax(size, fabs(y));
    }
    return size > 0 ? most / size : most;
}

unsigned qt_onnx_count(const qn_graph *g, const char *type)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        n += !strcmp(g->nodes[i].type, type);
    return n;
}
