/* forward.c: how fast a language model's forward pass is.
 *
 * Prints, as medians of several rounds: tokens per second; the time that OpenBLAS alone, with as many threads of its own, needs for
 * the products with the model's weights, as a share of the forward pass's time (1: nothing but products, at OpenBLAS's
 * rate). bench/forward.py runs PyTorch on the same model beside it.
 *
 * usage: forward CHECKPOINT SEQUENCES LENGTH ROUNDS [THREADS] */
#include "analysis/exec/exec.h"
#include "base/err.h"
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS_MAX = 101 };

#define CHECK(expr)                 \
    do {                            \
        const qn_code rc_ = (expr); \
        if (rc_ != QN_OK)           \
            return (int)rc_;        \
    } while (0)

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
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

/* The model's Linear nodes as bare products, on buffers of the right sizes. */
static double products(const qn_graph *g, uint64_t rows, float *a, float *b, float *c)
{
    const double began = now();
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const qn_node *n = &g->nodes[i];
        if (strcmp(n->type, "Linear") != 0)
            continue;
        const qn_value *w = &g->values[n->in[1]];
        const bool in_out = !strcmp(qn_node_string(n, "layout", "out_in"), "in_out");
        const blasint out = (blasint)w->dims[in_out], in = (blasint)w->dims[!in_out];
        cblas_sgemm(CblasRowMajor, CblasNoTrans, in_out ? CblasNoTrans : CblasTrans, (blasint)rows, out, in, 1, a, in, b,
                    (blasint)w->dims[1], 0, c, out);
    }
    return now() - began;
}

static int measure(const qn_env *env, const qn_graph *g, int64_t n_seq, int64_t len, int rounds, qn_err *err)
{
    static double ours[ROUNDS_MAX], blas[ROUNDS_MAX];
    const int64_t n = n_seq * len, n_starts = n_seq + 1;
    int64_t *tokens = malloc((size_t)n * sizeof *tokens), *starts = malloc((size_t)n_starts * sizeof *starts);
    uint64_t most_in = 1, most_out = 1, most_w = 1;
    double flops = 0;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (!strcmp(g->nodes[i].type, "Linear")) {
            const qn_value *w = &g->values[g->nodes[i].in[1]];
            const uint64_t d0 = (uint64_t)w->dims[0], d1 = (uint64_t)w->dims[1], most = d0 > d1 ? d0 : d1;
            most_in = most > most_in ? most : most_in;
            most_out = most_in;
            most_w = d0 * d1 > most_w ? d0 * d1 : most_w;
            flops += 2.0 * (double)d0 * (double)d1 * (double)n;
        }
    float *a = calloc((size_t)((uint64_t)n * most_in), 4), *b = calloc((size_t)most_w, 4), *c = calloc((size_t)((uint64_t)n * most_out), 4);
    if (!tokens || !starts || !a || !b || !c)
        return 6;
    for (uint64_t i = 0; i < (uint64_t)n * most_in; i++)
        a[i] = (float)(i % 13) * 0.1f;
    for (uint64_t i = 0; i < most_w; i++)
        b[i] = (float)(i % 7) * 0.1f;
    for (int64_t i = 0; i < n; i++)
        tokens[i] = i * 7919 % g->n_vocab;
    for (int64_t i = 0; i <= n_seq; i++)
        starts[i] = i * len;
    qn_exec *x;
    qn_array feeds[2], out;
    CHECK(qn_exec_open(env, g, NULL, &x, err));
    CHECK(qn_array_wrap(&feeds[0], QN_I64, &n, 1, tokens, err));
    CHECK(qn_array_wrap(&feeds[1], QN_I64, &n_starts, 1, starts, err));
    for (int i = -1; i < rounds; i++) { /* the first round warms up */
        openblas_set_num_threads(1);
        const double began = now();
        CHECK(qn_exec_run(x, feeds, &out, err));
        if (i >= 0)
            ours[i] = now() - began;
        qn_array_release(&out);
        openblas_set_num_threads((int)env->n_threads);
        const double t = products(g, (uint64_t)n, a, b, c);
        if (i >= 0)
            blas[i] = t;
    }
    const double t_ours = median(ours, rounds), t_blas = median(blas, rounds);
    printf("{\"tokens\": %lld, \"threads\": %u, \"tokens_per_second\": %.1f, \"seconds\": %.5f, \"sgemm_seconds\": %.5f, \"share_of_sgemm\": %.3f, "
           "\"sgemm_gflops\": %.1f}\n", (long long)n, env->n_threads, (double)n / t_ours, t_ours, t_blas, t_blas / t_ours, flops / t_blas * 1e-9);
    qn_exec_close(x);
    free(tokens);
    free(starts);
    free(a);
    free(b);
    free(c);
    return 0;
}

int main(int argc, char **argv)
{
    qn_env env;
    qn_err err = {.off = QN_NO_OFFSET};
    qn_source *s = NULL;
    qn_graph *g = NULL;
    if (argc < 5 || atoi(argv[4]) < 1 || atoi(argv[4]) > ROUNDS_MAX) {
        fprintf(stderr, "usage: forward CHECKPOINT SEQUENCES LENGTH ROUNDS [THREADS]\n");
        return 2;
    }
    int rc = (int)qn_env_init(&env, &err);
    if (argc > 5)
        env.n_threads = (unsigned)atoi(argv[5]);
    if (rc == QN_OK)
        rc = (int)qn_source_open(&env, argv[1], &s, &err);
    if (rc == QN_OK)
        rc = (int)qn_graph_open(&env, s, &g, &err);
    if (rc == QN_OK)
        rc = measure(&env, g, atoll(argv[2]), atoll(argv[3]), atoi(argv[4]), &err);
    if (rc) {
        char line[1024];
        qn_err_line(&err, line, sizeof line);
        fprintf(stderr, "%s\n", line);
    }
    qn_graph_close(g);
    qn_source_close(s);
    return rc;
}
