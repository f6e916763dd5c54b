/* grad_run.c: derivatives of a loss by weights of an ONNX model, for grad_torch.py.
 *
 *   grad-run MODEL FOLDER THREADS
 *
 * FOLDER/inputs, in0, …: see onnx_feeds.h. FOLDER/r0, r1, …: f32 factors, as many as output i has elements; the loss is Σ r · y. FOLDER/weights: names, a line
 * each. Writes FOLDER/d0, d1, …: f32, and "loss VALUE" to standard output. Exit: 0; 4 when the model has what we do not support; 1 otherwise, with a line
 * "error TEXT". */
#include "analysis/grad/grad.h"
#include "analysis/graph/build.h"
#include "base/err.h"
#include "tests/interop/onnx_feeds.h"
#include "tests/support/hostile.h"
#include <stdlib.h>
#include <string.h>

enum { WEIGHTS_MAX = 256 };

struct loss {
    const char *dir;
    uint32_t n_outs;
};

static qn_code loss(void *ctx, qn_pool *pool, const qn_array *outs, double *value, qn_array *d_outs, qn_err *err)
{
    const struct loss *l = ctx;
    *value = 0;
    for (uint32_t o = 0; o < l->n_outs; o++) {
        char path[4096];
        size_t n;
        snprintf(path, sizeof path, "%s/r%u", l->dir, o);
        float *r = qt_read_whole(path, &n);
        if (!r || n != outs[o].n * sizeof *r || outs[o].dtype != QN_F32) {
            free(r);
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "output %u has %llu elements, %s another number of bytes", o, (unsigned long long)outs[o].n, path);
        }
        const qn_code rc = qn_array_new(pool, &d_outs[o], QN_F32, outs[o].dims, outs[o].rank, err);
        for (uint64_t i = 0; i < outs[o].n && rc == QN_OK; i++)
            *value += (double)r[i] * (double)((const float *)outs[o].data)[i];
        if (rc == QN_OK)
            memcpy(d_outs[o].data, r, n);
        free(r);
        QN_TRY(rc);
    }
    return QN_OK;
}

static qn_code read_weights(const qn_graph *g, const char *dir, uint32_t *weights, uint32_t *count, qn_err *err)
{
    char path[4096], line[1024];
    snprintf(path, sizeof path, "%s/weights", dir);
    FILE *f = fopen(path, "r");
    *count = 0;
    qn_code rc = f ? QN_OK : QN_FAIL(err, QN_E_IO, QN_NO_OFFSET, "no %s", path);
    while (rc == QN_OK && *count < WEIGHTS_MAX && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        weights[*count] = qn_graph_find(g, line);
        if (weights[(*count)++] == QN_NO_VALUE)
            rc = QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "no weight '%s'", line);
    }
    if (f)
        fclose(f);
    return rc;
}

static qn_code run(const qn_env *env, const char *model, const char *dir, qn_err *err)
{
    static qn_array feeds[QT_TENSORS_MAX];
    static uint32_t weights[WEIGHTS_MAX];
    qn_source *s = NULL;
    qn_graph *g = NULL;
    qn_grad *t = NULL;
    uint32_t n = 0;
    double value = 0;
    qn_code rc = qn_source_open(env, model, &s, err);
    if (rc == QN_OK)
        rc = qn_graph_of_onnx(env, s, &g, err);
    if (rc == QN_OK)
        rc = qt_read_inputs(g, dir, feeds, err);
    void *held[QT_TENSORS_MAX]; /* the feeds are given away, their data are ours */
    for (unsigned i = 0; i < QT_TENSORS_MAX; i++)
        held[i] = feeds[i].data;
    if (rc == QN_OK)
        rc = read_weights(g, dir, weights, &n, err);
    if (rc == QN_OK)
        rc = qn_grad_open(env, g, &(qn_grad_options){.weights = weights, .n_weights = n}, &t, err);
    struct loss l = {.dir = dir, .n_outs = g ? g->n_outputs : 0};
    if (rc == QN_OK)
        rc = qn_grad_run(t, feeds, loss, &l, &value, err);
    for (uint32_t i = 0; i < n && rc == QN_OK; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/d%u", dir, i);
        FILE *f = fopen(path, "wb");
        const uint64_t elems = qn_value_elems(&g->values[weights[i]]);
        if (!f || fwrite(qn_grad_of(t, i), sizeof(float), elems, f) != elems)
            rc = QN_FAIL(err, QN_E_IO, QN_NO_OFFSET, "%s cannot be written", path);
        if (f)
            fclose(f);
    }
    if (rc == QN_OK)
        printf("loss %.9g\n", value);
    for (unsigned i = 0; i < QT_TENSORS_MAX; i++)
        free(held[i]);
    qn_grad_close(t);
    qn_graph_close(g);
    qn_source_close(s);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    qn_env env = qt_env(NULL, NULL);
    qn_err err = {0};
    if (qn_env_init(&env, &err) != QN_OK)
        return 1;
    env.n_threads = (unsigned)atoi(argv[3]);
    const qn_code rc = run(&env, argv[1], argv[2], &err);
    if (rc == QN_OK)
        return 0;
    printf("error\t%s\n", err.text);
    return rc == QN_E_UNSUPPORTED ? 4 : 1;
}
