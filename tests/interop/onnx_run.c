/* onnx_run.c: one model over given inputs, for onnx_runtime.js.
 *
 *   onnx-run MODEL FOLDER THREADS [times]
 *
 * FOLDER/inputs: a line for each input: name, dtype, rank, dims, between tabs; its data in FOLDER/in0, in1, … Writes FOLDER/out0, … and
 * to standard output a line "out NAME DTYPE DIM …" for each output, then "nodes N" and "ms T" (CPU time of the forward pass, the least of 2 to 20).
 * With "times": also CPU milliseconds of the process by operator, all runs together.
 * Exit: 0; 4 when the model has what we do not support; 1 otherwise, with a line "error TEXT". */
#include "analysis/exec/exec.h"
#include "analysis/graph/build.h"
#include "tests/interop/onnx_feeds.h"
#include "tests/support/hostile.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double cpu_ms(void)
{
    return (double)clock() * 1e3 / CLOCKS_PER_SEC;
}

/* CPU time between the ends of two nodes counts for the later one's operator. */
static struct {
    char type[40];
    double ms;
} spent[64];
static double last_ms;

static qn_code add_time(void *ctx, const qn_graph *g, uint32_t node, const qn_array *out, qn_err *err)
{
    (void)ctx;
    (void)out;
    (void)err;
    unsigned i = 0;
    while (i < 63 && spent[i].type[0] && strcmp(spent[i].type, g->nodes[node].type) != 0)
        i++;
    snprintf(spent[i].type, sizeof spent[i].type, "%s", g->nodes[node].type);
    const double now = cpu_ms();
    spent[i].ms += now - last_ms;
    last_ms = now;
    return QN_OK;
}

static uint32_t count_nodes(const qn_graph *g)
{
    uint32_t n = g->n_nodes;
    for (uint32_t i = 0; i < g->n_nodes; i++)
        for (unsigned k = 0; k < g->nodes[i].n_attrs; k++)
            if (g->nodes[i].attrs[k].type == QN_ATTR_GRAPH)
                n += count_nodes(g->nodes[i].attrs[k].v.graph);
    return n;
}

static void put_outputs(const qn_graph *g, const char *dir, const qn_array *outs)
{
    char path[4096];
    for (uint32_t i = 0; i < g->n_outputs; i++) {
        printf("out\t%s\t%s", g->values[g->outputs[i]].name, qn_dtype_name((qn_dtype)outs[i].dtype));
        for (unsigned k = 0; k < outs[i].rank; k++)
            printf("\t%" PRId64, outs[i].dims[k]);
        printf("\n");
        snprintf(path, sizeof path, "%s/out%" PRIu32, dir, i);
        FILE *f = fopen(path, "wb");
        if (f) {
            fwrite(outs[i].data, 1, (size_t)qn_array_bytes(&outs[i]), f);
            fclose(f);
        }
    }
}

static qn_code run(const qn_env *env, const char *model, const char *dir, bool times, qn_err *err)
{
    qn_source *s = NULL;
    qn_graph *g = NULL;
    qn_exec *x = NULL;
    static qn_array feeds[QT_TENSORS_MAX], outs[QT_TENSORS_MAX];
    double ms = 0;
    qn_code rc = qn_source_open(env, model, &s, err);
    if (rc == QN_OK)
        rc = qn_graph_of_onnx(env, s, &g, err);
    if (rc == QN_OK)
        rc = qt_read_inputs(g, dir, feeds, err);
    if (rc == QN_OK)
        rc = qn_exec_open(env, g, times ? &(qn_exec_options){.on_output = add_time} : NULL, &x, err);
    last_ms = cpu_ms();
    double all_ms = 0;
    for (unsigned round = 0; round < 20 && (round < 2 || all_ms < 500) && rc == QN_OK; round++) {
        for (uint32_t i = 0; i < g->n_outputs; i++)
            qn_array_release(&outs[i]);
        const double begin = cpu_ms();
        rc = qn_exec_run(x, feeds, outs, err);
        const double took = cpu_ms() - begin;
        ms = round && ms < took ? ms : took;
        all_ms += took;
    }
    if (rc == QN_OK) {
        put_outputs(g, dir, outs);
        printf("nodes\t%" PRIu32 "\nms\t%.3f\n", count_nodes(g), ms);
    }
    for (unsigned i = 0; i < 64 && spent[i].type[0]; i++)
        printf("time\t%s\t%.3f\n", spent[i].type, spent[i].ms);
    for (unsigned i = 0; i < QT_TENSORS_MAX; i++)
        qn_array_release(&outs[i]);
    qn_exec_close(x);
    qn_graph_close(g);
    qn_source_close(s);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc != 4 && argc != 5)
        return 2;
    qn_env env = qt_env(NULL, NULL);
    qn_err err = {0};
    if (qn_env_init(&env, &err) != QN_OK)
        return 1;
    env.n_threads = (unsigned)atoi(argv[3]);
    const qn_code rc = run(&env, argv[1], argv[2], argc == 5, &err);
    if (rc == QN_OK)
        return 0;
    printf("error\t%s\n", err.text);
    return rc == QN_E_UNSUPPORTED ? 4 : 1;
}
