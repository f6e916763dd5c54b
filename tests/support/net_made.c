/* net_made.c: see net_made.h; cutting is in net_sliced.c. */
#include "tests/support/net_made.h"
#include "base/err.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

qt_net *qt_net_new(uint64_t seed)
{
    qt_net *n = calloc(1, sizeof *n);
    cr_assert(n);
    n->rng = qt_seed(seed);
    n->weights = calloc(QT_NET_MOST, sizeof *n->weights);
    n->consts = calloc(QT_NET_MOST, sizeof *n->consts);
    n->inputs = calloc(8, sizeof *n->inputs);
    n->nodes = calloc(QT_NET_MOST, sizeof *n->nodes);
    return n;
}

void qt_net_free(qt_net *n)
{
    qn_graph_close(n->graph);
    qn_source_close(n->source);
    for (unsigned i = 0; i < n->n_weights; i++)
        free(n->weights[i].data);
    for (unsigned i = 0; i < n->n_consts; i++)
        free(n->consts[i].data);
    free(n->weights);
    free(n->consts);
    free(n->inputs);
    free(n->nodes);
    free(n);
}

static qt_net_tensor *add(qt_net_tensor *list, unsigned *count, const char *name, qn_dtype t, unsigned rank)
{
    cr_assert_lt(*count, QT_NET_MOST);
    qt_net_tensor *d = &list[(*count)++];
    snprintf(d->name, sizeof d->name, "%s", name);
    d->dtype = t;
    d->rank = rank;
    return d;
}

void qt_net_input(qt_net *n, const char *name, unsigned rank, ...)
{
    qt_net_tensor *t = add(n->inputs, &n->n_inputs, name, QN_F32, rank);
    va_list args;
    va_start(args, rank);
    for (unsigned i = 0; i < rank; i++)
        t->dims[i] = va_arg(args, int);
    va_end(args);
}

void qt_net_weight_dims(qt_net *n, const char *name, unsigned rank, const int64_t *dims)
{
    qt_net_tensor *t = add(n->weights, &n->n_weights, name, QN_F32, rank);
    uint64_t elems = 1, fan = 1;
    for (unsigned i = 0; i < rank; i++) {
        t->dims[i] = dims[i];
        elems *= (uint64_t)dims[i];
        fan *= i ? (uint64_t)dims[i] : 1;
    }
    float *p = malloc((elems + 1) * sizeof *p);
    const double sigma = rank > 1 ? 1.5 / sqrt((double)fan) : 0.3;
    for (uint64_t i = 0; i < elems; i++)
        p[i] = (float)((rank > 1 ? 0 : 1) + sigma * qt_normal(&n->rng));
    if (strstr(name, "var")) /* variances are positive */
        for (uint64_t i = 0; i < elems; i++)
            p[i] = fabsf(p[i]) + 0.1f;
    t->data = p;
}

void qt_net_weight(qt_net *n, const char *name, unsigned rank, ...)
{
    int64_t dims[6];
    va_list args;
    va_start(args, rank);
    for (unsigned i = 0; i < rank; i++)
        dims[i] = va_arg(args, int);
    va_end(args);
    qt_net_weight_dims(n, name, rank, dims);
}

void qt_net_ints(qt_net *n, const char *name, unsigned count, const int64_t *values)
{
    qt_net_tensor *t = add(n->consts, &n->n_consts, name, QN_I64, 1);
    t->dims[0] = count;
    t->data = malloc((count + 1) * sizeof *values);
    memcpy(t->data, values, count * sizeof *values);
}

void qt_net_doubles(qt_net *n, const char *name, unsigned count, const double *values)
{
    qt_net_tensor *t = add(n->consts, &n->n_consts, name, QN_F64, 1);
    t->dims[0] = count;
    t->data = malloc((count + 1) * sizeof *values);
    memcpy(t->data, values, count * sizeof *values);
}

static unsigned words(char list[][48], const char *text)
{
    unsigned n = 0;
    while (*text) {
        const size_t len = strcspn(text, " ");
        cr_assert(len < 48 && n < QT_NET_OPERANDS);
        snprintf(list[n++], 48, "%.*s", (int)len, text);
        text += len;
        text += strspn(text, " ");
    }
    return n;
}

void qt_net_op(qt_net *n, const char *type, const char *in, const char *out, const qn_attr *attrs, unsigned n_attrs)
{
    cr_assert(n->n_nodes < QT_NET_MOST && n_attrs <= 8);
    qt_net_node *d = &n->nodes[n->n_nodes++];
    const char *dot = strchr(type, '.');
    snprintf(d->domain, sizeof d->domain, "%.*s", dot ? (int)(dot - type) : 0, type);
    snprintf(d->type, sizeof d->type, "%s", dot ? dot + 1 : type);
    d->version = dot ? 0 : 17;
    d->n_in = words(d->in, in);
    d->n_out = words(d->out, out);
    snprintf(d->name, sizeof d->name, "%s", d->out[0]);
    d->n_attrs = n_attrs;
    for (unsigned i = 0; i < n_attrs; i++) { /* compound literals of the caller may be gone when the graph is built */
        d->attrs[i] = attrs[i];
        if (attrs[i].type == QN_ATTR_INTS) {
            int64_t *copy = qt_made_keep(malloc((attrs[i].n + 1) * sizeof *copy));
            memcpy(copy, attrs[i].v.ints, attrs[i].n * sizeof *copy);
            d->attrs[i].v.ints = copy;
        }
    }
}

void qt_net_output(qt_net *n, const char *name)
{
    snprintf(n->outputs[n->n_outputs++], 48, "%s", name);
}

static void build_node(qn_graph *g, const qt_net_node *d)
{
    qn_err err = {0};
    uint32_t in[QT_NET_OPERANDS], out[QT_NET_OPERANDS];
    const char *names[QT_NET_OPERANDS];
    for (unsigned k = 0; k < d->n_in; k++) {
        in[k] = strcmp(d->in[k], "-") ? qn_graph_find(g, d->in[k]) : QN_NO_VALUE;
        cr_assert(in[k] != QN_NO_VALUE || !strcmp(d->in[k], "-"), "%s reads '%s', which is not there", d->name, d->in[k]);
    }
    for (unsigned k = 0; k < d->n_out; k++)
        names[k] = d->out[k];
    cr_assert_eq(qn_graph_node(g, d->domain, d->type, d->version, d->name, in, d->n_in, d->attrs, d->n_attrs, names, out, d->n_out, &err), QN_OK,
                 "%s", err.text);
}

qn_graph *qt_net_graph(qt_net *n)
{
    static unsigned count;
    const qn_env *env = qt_made_env(1);
    qn_err err = {0};
    char name[64];
    uint32_t value;
    qt_made_tensor *t = calloc(n->n_weights + 1, sizeof *t);
    for (unsigned i = 0; i < n->n_weights; i++) {
        t[i] = (qt_made_tensor){.name = n->weights[i].name, .dtype = QN_F32, .rank = n->weights[i].rank, .data = n->weights[i].data};
        for (unsigned k = 0; k < t[i].rank && k < 4; k++)
            t[i].dims[k] = (uint64_t)n->weights[i].dims[k];
        cr_assert_leq(t[i].rank, 4);
    }
    snprintf(name, sizeof name, "net%u.safetensors", count++);
    n->source = qt_made_open(env, qt_made_safetensors(name, t, n->n_weights, NULL));
    free(t);
    qn_graph *g;
    cr_assert_eq(qn_graph_new(env, n->source, "test", &g, &err), QN_OK);
    cr_assert_eq(qn_graph_begin_block(g, "all", &err), QN_OK);
    for (unsigned i = 0; i < n->n_inputs; i++) {
        const qt_net_tensor *in = &n->inputs[i];
        const bool ids = !strncmp(in->name, "ids", 3) || !strcmp(in->name, "tokens") || !strcmp(in->name, "starts");
        cr_assert_eq(qn_graph_input(g, in->name, ids ? QN_I64 : QN_F32, in->dims, in->rank, &value, &err), QN_OK, "%s", err.text);
    }
    for (unsigned i = 0; i < n->n_weights; i++)
        cr_assert_eq(qn_graph_weight(g, n->weights[i].name, &value, &err), QN_OK, "%s", err.text);
    for (unsigned i = 0; i < n->n_consts; i++) {
        const qt_net_tensor *c = &n->consts[i];
        cr_assert_eq(qn_graph_const(g, c->name, c->dtype, c->dims, c->rank, c->data, &value, &err), QN_OK, "%s", err.text);
    }
    for (unsigned i = 0; i < n->n_nodes; i++)
        build_node(g, &n->nodes[i]);
    for (unsigned i = 0; i < n->n_outputs; i++)
        cr_assert_eq(qn_graph_output(g, qn_graph_find(g, n->outputs[i]), &err), QN_OK);
    if (qn_graph_find(g, "tokens") != QN_NO_VALUE)
        g->n_vocab = 11;
    cr_assert_eq(qn_graph_seal(g, &err), QN_OK, "%s", err.text);
    n->graph = g;
    return g;
}

const qn_family *qt_net_family(const qn_groups *s, const char *name)
{
    for (uint32_t i = 0; i < s->n_families; i++)
        if (!strcmp(s->families[i].name, name))
            return &s->families[i];
    return NULL;
}

unsigned qt_net_holds(const qn_groups *s, const qn_family *f, const char *value, unsigned axis)
{
    for (uint32_t i = 0; f && i < f->n_members; i++)
        if (f->members[i].axis == axis && !strcmp(s->graph->values[f->members[i].value].name, value))
            return f->members[i].start[1];
    return 0;
}
