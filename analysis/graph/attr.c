/* attr.c: the attributes of a node, with defaults. */
#include "analysis/graph/graph.h"
#include <string.h>

const qn_attr *qn_node_attr(const qn_node *n, const char *name)
{
    for (unsigned i = 0; i < n->n_attrs; i++)
        if (!strcmp(n->attrs[i].name, name))
            return &n->attrs[i];
    return NULL;
}

int64_t qn_node_int(const qn_node *n, const char *name, int64_t otherwise)
{
    const qn_attr *a = qn_node_attr(n, name);
    return a && a->type == QN_ATTR_INT ? a->v.i : otherwise;
}

double qn_node_float(const qn_node *n, const char *name, double otherwise)
{
    const qn_attr *a = qn_node_attr(n, name);
    return a && a->type == QN_ATTR_FLOAT ? a->v.f : otherwise;
}

const char *qn_node_string(const qn_node *n, const char *name, const char *otherwise)
{
    const qn_attr *a = qn_node_attr(n, name);
    return a && a->type == QN_ATTR_STRING ? a->v.s : otherwise;
}

const int64_t *qn_node_ints(const qn_node *n, const char *name, unsigned *count)
{
    const qn_attr *a = qn_node_attr(n, name);
    const bool there = a && a->type == QN_ATTR_INTS;
    *count = there ? a->n : 0;
    return there ? a->v.ints : NULL;
}
