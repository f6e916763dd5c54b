/* backward_tab.c: operators that have a derivative, by domain and in the order of the alphabet; and what each reads of the forward pass. */
#include "analysis/grad/backs.h"
#include <string.h>

const qn_backward qn_backwards[] = {
    /* ---- ONNX ---- */
    {"", "Add", qn_back_add, QN_READS_SHAPES},
    {"", "MatMul", qn_back_matmul, QN_READS_IN},
    {"", "Relu", qn_back_relu, QN_READS_OUT},
    /* ---- language models ---- */
    {.name = NULL},
};

const qn_backward *qn_backward_find(const char *domain, const char *name)
{
    if (!strcmp(domain, "ai.onnx"))
        domain = "";
    for (const qn_backward *row = qn_backwards; row->name; row++)
        if (!strcmp(row->name, name) && !strcmp(row->domain, domain))
            return row;
    return NULL;
}
