/* onnx_nodes.c: the ONNX project's own test data: models of a node each (and some larger ones) with inputs and the outputs that they
 * must give. Every model is built, run and compared. Counts passed, unsupported (by operator) and failed ones.
 *
 *   onnx-nodes [-v] FOLDER [SUBSTRING]   FOLDER/<group>/<test>/model.onnx, test_data_set_<n>/{input,output}_<n>.pb
 *
 * Exit: 0, 1 when one failed, 77 when the folder is not there. */
#include "analysis/exec/exec.h"
#include "analysis/graph/build.h"
#include "base/half.h"
#include "base/num.h"
#include "tests/support/hostile.h"
#include "tests/support/proto.h"
#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TENSORS_MAX = 64, TALLY_MAX = 200 };

static bool verbose;
static unsigned n_passed, n_unsupported, n_failed;
static struct {
    char why[96];
    unsigned n;
} tally[TALLY_MAX];
static unsigned n_tally;

static void count_unsupported(const char *why)
{
    unsigned i = 0;
    /* "node 'y' (Op): reason" → "(Op): reason" */
    if (!strncmp(why, "node '", 6) && strstr(why, "' ("))
        why = strstr(why, "' (") + 2;
    n_unsupported++;
    while (i < n_tally && strcmp(tally[i].why, why) != 0)
        i++;
    if (i == n_tally && n_tally < TALLY_MAX) {
        snprintf(tally[i].why, sizeof tally[i].why, "%s", why);
        n_tally++;
    }
    if (i < n_tally)
        tally[i].n++;
}

static bool read_file(const char *path, qt_buf *b)
{
    static char chunk[65536];
    size_t n;
    FILE *f = fopen(path, "rb");
    if (!f)
        return false;
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
        qt_add(b, chunk, n);
    fclose(f);
    return true;
}

static void add_varint(qt_buf *b, uint64_t v)
{
    uint8_t p[10];
    qt_add(b, p, qn_put_varint(p, v));
}

static void add_field(qt_buf *b, unsigned number, const qt_buf *content)
{
    add_varint(b, number << 3 | 2);
    add_varint(b, content->n);
    qt_add(b, content->p, content->n);
}

/* A TensorProto as a model whose one output is that tensor: so it is read by what reads models. */
static qn_code read_tensor(const char *path, qn_array *out, qn_err *err)
{
    qt_buf tensor = {0}, attr = {0}, node = {0}, graph = {0}, model = {0};
    qn_source *s = NULL;
    qn_graph *g = NULL;
    qn_exec *x = NULL;
    qt_files files;
    if (!read_file(path, &tensor))
        return QN_FAIL(err, QN_E_IO, QN_NO_OFFSET, "cannot be read");
    qt_add_proto(&attr, "@1{'value'} #20=4", NULL);
    add_field(&attr, 5, &tensor);
    qt_add_proto(&node, "@2{'t'} @4{'Constant'}", NULL);
    add_field(&node, 5, &attr);
    add_field(&graph, 1, &node);
    qt_add_proto(&graph, "@12{@1{'t'}}", NULL);
    qt_add_proto(&model, "#1=8 @8{#2=13}", NULL);
    add_field(&model, 7, &graph);
    qt_files_init(&files);
    qt_files_add(&files, "t.onnx", model.p, model.n);
    const qn_env env = qt_env(&files, NULL);
    qn_code rc = qn_source_open(&env, "t.onnx", &s, err);
    if (rc == QN_OK)
        rc = qn_graph_of_onnx(&env, s, &g, err);
    if (rc == QN_OK)
        rc = qn_exec_open(&env, g, NULL, &x, err);
    qn_array a = {0};
    if (rc == QN_OK)
        rc = qn_exec_run(x, NULL, &a, err);
    if (rc == QN_OK) { /* outlives the executor */
        *out = a;
        out->buffer = NULL;
        out->data = malloc((size_t)qn_array_bytes(&a) + 1);
        memcpy(out->data, a.data, (size_t)qn_array_bytes(&a));
    }
    qn_array_release(&a);
    qn_exec_close(x);
    qn_graph_close(g);
    qn_source_close(s);
    qt_buf_free(&tensor);
    qt_buf_free(&attr);
    qt_buf_free(&node);
    qt_buf_free(&graph);
    qt_buf_free(&model);
    return rc;
}

static double number(const qn_array *a, uint64_t i)
{
    switch (a->dtype) {
    case QN_F32: return (double)((const float *)a->data)[i];
    case QN_F64: return ((const double *)a->data)[i];
    default: return 0;
    }
}

/* Integers must be equal. */
static bool same(const qn_array *got, const qn_array *want, double rtol, char *why, size_t n_why)
{
    char a[128], b[128];
    if (got->dtype != want->dtype || got->rank != want->rank || memcmp(got->dims, want->dims, got->rank * sizeof got->dims[0]) != 0) {
        snprintf(why, n_why, "%s instead of %s", qn_array_text(got, a), qn_array_text(want, b));
        return false;
    }
    const size_t w = (size_t)(got->n ? qn_array_bytes(got) / got->n : 0);
    for (uint64_t i = 0; i < got->n; i++) {
        if (got->dtype != QN_F32 && got->dtype != QN_F64) {
            if (memcmp((const uint8_t *)got->data + i * w, (const uint8_t *)want->data + i * w, w) == 0)
                continue;
            uint64_t x = 0, y = 0;
            memcpy(&x, (const uint8_t *)got->data + i * w, w);
            memcpy(&y, (const uint8_t *)want->data + i * w, w);
            snprintf(why, n_why, "element %" PRIu64 " of %s: 0x%" PRIx64 " instead of 0x%" PRIx64, i, qn_array_text(got, a), x, y);
            return false;
        }
        const double x = number(got, i), y = number(want, i);
        if (x == y || (isnan(x) && isnan(y)) || fabs(x - y) <= 1e-7 + rtol * fabs(y))
            continue;
        snprintf(why, n_why, "element %" PRIu64 " of %s: %.9g instead of %.9g", i, qn_array_text(got, a), x, y);
        return false;
    }
    return true;
}

/* The test data have bfloat16 as the UINT16 of its bits; a running model has it widened. */
static bool widen_bfloat16(qn_array *a, unsigned dtype)
{
    if (a->dtype != QN_U16 || dtype != QN_F32)
        return false;
    float *wide = malloc((size_t)a->n * sizeof *wide + 1);
    for (uint64_t i = 0; i < a->n; i++)
        wide[i] = qn_bf16_to_f32(((const uint16_t *)a->data)[i]);
    free(a->data);
    a->data = wide;
    a->dtype = QN_F32;
    return true;
}

/* Why the graph cannot be run here: an operator without a row, a type without an array. */
static bool unsupported(const qn_graph *g, char *why, size_t n_why)
{
    const uint32_t i = qn_graph_first_opaque(g);
    if (i != QN_NO_NODE) {
        const qn_graph *at = g;
        const qn_node *n = &g->nodes[i];
        for (unsigned k = 0; n->op && n->op->forward && k < n->n_attrs; k++)
            if (n->attrs[k].type == QN_ATTR_GRAPH && qn_graph_first_opaque(n->attrs[k].v.graph) != QN_NO_NODE) {
                at = n->attrs[k].v.graph;
                n = &at->nodes[qn_graph_first_opaque(at)];
            }
        snprintf(why, n_why, "%s%s%s", n->domain, *n->domain ? "." : "", n->type);
        return true;
    }
    for (uint32_t k = 0; k < g->n_inputs; k++)
        if (g->values[g->inputs[k]].dtype == QN_BYTES) {
            snprintf(why, n_why, "inputs that are no tensors of numbers");
            return true;
        }
    return false;
}

/* 0: passed; 1: failed; 2: not supported. */
static int run_set(const qn_env *env, const qn_graph *g, const char *dir, char *why, size_t n_why)
{
    static qn_array in[TENSORS_MAX], out[TENSORS_MAX];
    qn_array want = {0};
    char path[4200];
    qn_err err = {0};
    qn_exec *x = NULL;
    int result = 1;
    qn_code rc = g->n_inputs <= TENSORS_MAX && g->n_outputs <= TENSORS_MAX ? QN_OK : QN_E_UNSUPPORTED;
    for (uint32_t i = 0; i < g->n_inputs && rc == QN_OK; i++) {
        snprintf(path, sizeof path, "%.4100s/input_%" PRIu32 ".pb", dir, i);
        rc = read_tensor(path, &in[i], &err);
        widen_bfloat16(&in[i], g->values[g->inputs[i]].dtype);
    }
    if (rc == QN_OK)
        rc = qn_exec_open(env, g, NULL, &x, &err);
    if (rc == QN_OK)
        rc = qn_exec_run(x, in, out, &err);
    if (rc == QN_E_UNSUPPORTED)
        result = 2;
    if (rc != QN_OK)
        snprintf(why, n_why, "%s", err.text);
    for (uint32_t i = 0; i < g->n_outputs && rc == QN_OK; i++) {
        snprintf(path, sizeof path, "%.4100s/output_%" PRIu32 ".pb", dir, i);
        rc = read_tensor(path, &want, &err);
        /* 1e-3 is what the ONNX project's own runner allows. Theirs were cut to bfloat16, not rounded: a unit of 2^-7. */
        const double rtol = widen_bfloat16(&want, out[i].dtype) ? 0x1p-7 : 1e-3;
        if (rc != QN_OK)
            snprintf(why, n_why, "output_%" PRIu32 ".pb: %s", i, err.text);
        else if (!same(&out[i], &want, rtol, why, n_why))
            rc = QN_E_INPUT;
        free(want.data);
        want.data = NULL;
    }
    if (rc == QN_OK)
        result = 0;
    for (uint32_t i = 0; i < TENSORS_MAX; i++) {
        free(in[i].data);
        in[i].data = NULL;
        qn_array_release(&out[i]);
    }
    qn_exec_close(x);
    return result;
}

/* Where the data contradict the text of the specification, by which we and ONNX Runtime go: the corners of a size that is not whole
 * (docs/onnx-models.md). */
static bool contradicts(const char *name)
{
    return !strcmp(name, "test_resize_downsample_scales_cubic_align_corners") ||
           !strcmp(name, "test_resize_downsample_scales_linear_align_corners");
}

static void run_test(const qn_env *env, const char *dir, const char *name)
{
    char path[4150], why[512] = "";
    qn_source *s = NULL;
    qn_graph *g = NULL;
    qn_err err = {0};
    snprintf(path, sizeof path, "%s/model.onnx", dir);
    if (access(path, R_OK) != 0)
        return;
    if (contradicts(name)) {
        count_unsupported("data that contradict the specification's text");
        return;
    }
    qn_code rc = qn_source_open(env, path, &s, &err);
    if (rc == QN_OK)
        rc = qn_graph_of_onnx(env, s, &g, &err);
    if (rc == QN_OK && unsupported(g, why, sizeof why)) {
        count_unsupported(why);
        if (verbose)
            printf("unsupported %s: %s\n", name, why);
    } else if (rc != QN_OK) {
        n_failed++;
        printf("failed %s: %s\n", name, err.text);
    } else {
        int result = 0;
        unsigned n_sets = 0;
        for (;; n_sets++) {
            snprintf(path, sizeof path, "%s/test_data_set_%u", dir, n_sets);
            if (access(path, R_OK) != 0 || (result = run_set(env, g, path, why, sizeof why)) != 0)
                break;
        }
        if (result == 2)
            count_unsupported(why);
        else if (result)
            n_failed++;
        else
            n_passed += n_sets > 0;
        if (result == 1 || verbose)
            printf("%s %s: %s\n", result == 0 ? "passed" : result == 2 ? "unsupported" : "failed", name, why);
    }
    qn_graph_close(g);
    qn_source_close(s);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void each(const char *dir, void (*fn)(const char *path, const char *name, void *ctx), void *ctx)
{
    DIR *d = opendir(dir);
    char **names = NULL, path[4096];
    size_t n = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.') {
            names = realloc(names, (n + 1) * sizeof *names);
            names[n++] = strdup(e->d_name);
        }
    if (d)
        closedir(d);
    if (n)
        qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        fn(path, names[i], ctx);
        free(names[i]);
    }
    free(names);
}

struct run {
    qn_env env;
    const char *only;
};

static void on_test(const char *path, const char *name, void *ctx)
{
    const struct run *r = ctx;
    if (!r->only || strstr(name, r->only))
        run_test(&r->env, path, name);
}

static void on_group(const char *path, const char *name, void *ctx)
{
    (void)name;
    each(path, on_test, ctx);
}

int main(int argc, char **argv)
{
    struct run r = {.only = NULL};
    qn_err err = {0};
    if (argc > 1 && !strcmp(argv[1], "-v")) {
        verbose = true;
        argv++;
        argc--;
    }
    if (argc < 2 || access(argv[1], R_OK) != 0) {
        printf("skipped: the test data of ONNX (libonnx-testdata) are not there\n");
        return 77;
    }
    if (qn_env_init(&r.env, &err) != QN_OK)
        return 1;
    if (argc > 2)
        r.only = argv[2];
    each(argv[1], on_group, &r);
    for (unsigned i = 0; i < n_tally; i++)
        printf("unsupported: %3u  %s\n", tally[i].n, tally[i].why);
    printf("passed %u, unsupported %u, failed %u\n", n_passed, n_unsupported, n_failed);
    return n_failed != 0;
}
