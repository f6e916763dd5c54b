/* op.c: finding an operator's row. */
#include "analysis/graph/op.h"
#include <string.h>

static const qn_op *find(const qn_op *row, const char *domain, const char *name)
{
    for (; row->name; row++)
        if (!strcmp(row->name, name) && !strcmp(row->domain, domain))
            return row;
    return NULL;
}

const qn_op *qn_op_find(const char *domain, const char *name)
{
    if (!strcmp(domain, "ai.onnx"))
        domain = "";
    const qn_op *op = find(qn_ops_lm, domain, name);
    return op ? op : find(qn_ops_onnx, domain, name);
}
