/* dump_onnx.c: for each file on standard input (a path a line), what our reader finds: a line "file", a line for each tensor (name, dtype,
 * dims, bytes in hex), a line "structure" with counts of the main graph, or a line "error". For onnx_check.py. */
#include "formats/onnx/onnx.h"
#include "tests/support/hostile.h"
#include <stdlib.h>
#include <string.h>

static int dump_tensor(qn_source *s, uint64_t i)
{
    const qn_source_tensor *t = &s->tensors[i];
    qn_err err = {0};
    uint8_t *p = malloc((size_t)t->n_bytes + 1);
    if (!p || qn_source_tensor_read(s, i, 0, t->n_bytes, p, &err) != QN_OK) {
        printf("error\t%s\n", err.text);
        free(p);
        return 1;
    }
    printf("tensor\t%s\t%s\t", t->name, qn_dtype_name((qn_dtype)t->dtype));
    for (unsigned k = 0; k < t->rank; k++)
        printf("%s%llu", k ? "," : "", (unsigned long long)t->dims[k]);
    printf("\t");
    for (uint64_t k = 0; k < t->n_bytes; k++)
        printf("%02x", p[k]);
    printf("\n");
    free(p);
    return 0;
}

int main(void)
{
    char path[4096];
    const qn_env env = qt_env(NULL, NULL);
    int failed = 0;
    while (fgets(path, sizeof path, stdin)) {
        qn_source *s;
        qn_err err = {0};
        path[strcspn(path, "\n")] = '\0';
        printf("file\t%s\n", path);
        if (qn_source_open(&env, path, &s, &err) != QN_OK) {
            char line[1024];
            qn_err_line(&err, line, sizeof line);
            printf("error\t%s\n", line);
            failed = 1;
            continue;
        }
        const qn_onnx_model *m = qn_onnx_source_model(s);
        const qn_onnx_graph *g = m->graph;
        printf("structure\t%lld\t%lld\t%u\t%u\t%u\t%u\t%u\n", (long long)m->ir_version, (long long)qn_onnx_opset(m, ""), g->n_nodes,
               g->n_initializers, g->n_inputs, g->n_outputs, g->n_values);
        for (uint32_t i = 0; i < g->n_nodes; i++) {
            printf("node\t%s\t%s\t%u", g->nodes[i].op_type, g->nodes[i].name, g->nodes[i].n_attrs);
            for (uint32_t k = 0; k < g->nodes[i].n_inputs; k++)
                printf("\t%s", g->nodes[i].inputs[k]);
            for (uint32_t k = 0; k < g->nodes[i].n_outputs; k++)
                printf("\t%s", g->nodes[i].outputs[k]);
            printf("\n");
        }
        for (uint64_t i = 0; i < s->n_tensors; i++)
            failed |= dump_tensor(s, i);
        qn_source_close(s);
    }
    return failed;
}
