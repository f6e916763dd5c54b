/* grad.c: what a training step of an ONNX model costs beside its forward pass: derivatives of all float weights for a batch of random inputs.
 *
 * Prints medians over the rounds: forward pass, step (forward, backward), their ratio, images a second of a step; the largest memory of tensors; means of the
 * CPU time, which tells more on a busy machine. A dimension that the model leaves open, and the first one of every input, is BATCH.
 *
 * usage: grad MODEL.onnx BATCH ROUNDS [THREADS] */
#include "analysis/grad/grad.h"
#include "analysis/graph/build.h"
#include "base/err.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS_MAX = 1001, INPUTS_MAX = 16 };

static double seconds(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    return v[n / 2];
}

/* Σ y² / 2 of the first output. */
static qn_code loss(void *ctx, qn_pool *pool, const qn_array *outs, double *value, qn_array *d_outs, qn_err *err)
{
    (void)ctx;
    *value = 0;
    QN_TRY(qn_array_new(pool, &d_outs[0], QN_F32, outs[0].dims, outs[0].rank, err));
    memcpy(d_outs[0].data, outs[0].data, qn_array_bytes(&outs[0]));
    return QN_OK;
}

static qn_code fill(const qn_graph *g, int64_t batch, qn_array *feeds, qn_err *err)
{
    uint32_t state = 1;
    for (uint32_t i = 0; i < g->n_inputs && i < INPUTS_MAX; i++) {
        const qn_value *v = &g->values[g->inputs[i]];
        int64_t dims[QN_ARRAY_RANK_MAX], n = 1;
        if (v->dtype != QN_F32 || v->rank == QN_RANK_UNKNOWN)
            return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "input '%s' is not of floats", v->name);
        for (unsigned k = 0; k < v->rank; k++)
            n *= dims[k] = !k || v->dims[k] < 0 ? batch : v->dims[k];
        float *p = malloc((size_t)n * sizeof *p);
        if (!p)
            return QN_E_MEMORY;
        for (int64_t k = 0; k < n; k++)
            p[k] = (float)((state = state * 1664525u + 1013904223u) >> 8) * 0x1p-24f - 0.5f;
        QN_TRY(qn_array_wrap(&feeds[i], QN_F32, dims, v->rank, p, err));
    }
    return QN_OK;
}

static qn_code measure(const qn_env *env, const qn_graph *g, int64_t batch, int rounds, qn_err *err)
{
    static double forward[ROUNDS_MAX], step[ROUNDS_MAX];
    static qn_array feeds[INPUTS_MAX], outs[INPUTS_MAX];
    uint32_t *weights = malloc((g->n_values + 1) * sizeof *weights), n = 0;
    qn_exec *x = NULL;
    qn_grad *t = NULL;
    double value, cpu = 0, cpu_forward = 0;
    if (!weights || g->n_inputs > INPUTS_MAX || g->n_outputs > INPUTS_MAX)
        return QN_E_UNSUPPORTED;
    for (uint32_t v = 0; v < g->n_values; v++)
        if (g->values[v].kind == QN_VALUE_WEIGHT && g->values[v].dtype == QN_F32)
            weights[n++] = v;
    QN_TRY(fill(g, batch, feeds, err));
    QN_TRY(qn_exec_open(env, g, NULL, &x, err));
    QN_TRY(qn_grad_open(env, g, &(qn_grad_options){.weights = weights, .n_weights = n}, &t, err));
    for (int r = -1; r < rounds; r++) { /* −1: weights are loaded */
        double began = seconds(CLOCK_MONOTONIC), used = seconds(CLOCK_PROCESS_CPUTIME_ID);
        QN_TRY(qn_exec_run(x, feeds, outs, err));
        forward[r < 0 ? 0 : r] = seconds(CLOCK_MONOTONIC) - began;
        cpu_forward += r < 0 ? 0 : seconds(CLOCK_PROCESS_CPUTIME_ID) - used;
        for (uint32_t i = 0; i < g->n_outputs; i++)
            qn_array_release(&outs[i]);
        qn_array given[INPUTS_MAX];
        memcpy(given, feeds, sizeof given);
        qn_grad_clear(t);
        used = seconds(CLOCK_PROCESS_CPUTIME_ID);
        began = seconds(CLOCK_MONOTONIC);
        QN_TRY(qn_grad_run(t, given, loss, NULL, &value, err));
        step[r < 0 ? 0 : r] = seconds(CLOCK_MONOTONIC) - began;
        cpu += r < 0 ? 0 : seconds(CLOCK_PROCESS_CPUTIME_ID) - used;
    }
    const double f = median(forward, rounds), s = median(step, rounds);
    printf("forward %.3f ms, step %.3f ms, ratio %.2f, %.0f images/s, %.1f MB; CPU: forward %.2f ms, step %.2f ms, ratio %.2f\n", f * 1e3, s * 1e3, s / f,
           (double)batch / s, (double)qn_exec_peak_bytes(qn_grad_exec(t)) / 1e6, cpu_forward / rounds * 1e3, cpu / rounds * 1e3, cpu / cpu_forward);
    qn_exec_close(x);
    qn_grad_close(t);
    free(weights);
    return QN_OK;
}

int main(int argc, char **argv)
{
    qn_env env;
    qn_err err = {0};
    qn_source *s = NULL;
    qn_graph *g = NULL;
    if (argc < 4 || argc > 5) {
        fprintf(stderr, "usage: grad MODEL.onnx BATCH ROUNDS [THREADS]\n");
        return 2;
    }
    const int rounds = atoi(argv[3]);
    qn_code rc = qn_env_init(&env, &err);
    if (argc == 5)
        env.n_threads = (unsigned)atoi(argv[4]);
    if (rc == QN_OK)
        rc = qn_source_open(&env, argv[1], &s, &err);
    if (rc == QN_OK)
        rc = qn_graph_of_onnx(&env, s, &g, &err);
    if (rc == QN_OK)
        rc = measure(&env, g, atoll(argv[2]), rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds, &err);
    if (rc != QN_OK)
        fprintf(stderr, "%s\n", err.text);
    qn_graph_close(g);
    qn_source_close(s);
    return (int)rc;
}
