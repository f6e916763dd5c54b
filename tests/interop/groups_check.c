/* groups_check.c: t-groups-check MODEL… : for each ONNX file or folder, cuts a part of the groups that are found and compares the model without them
 * with the model with zeros in their place, on random inputs. One line each; ends with 1 when one of them differs. What inspect --groups claims of
 * models that other people made is checked with it (groups.sh). */
#include "base/err.h"
#include "tests/support/net_made.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Bodies of If, Loop and Scan are not taken apart by the reference. */
static bool has_bodies(const qn_graph *g)
{
    for (uint32_t i = 0; i < g->n_nodes; i++)
        for (unsigned k = 0; k < g->nodes[i].n_attrs; k++)
            if (g->nodes[i].attrs[k].type == QN_ATTR_GRAPH)
                return true;
    return false;
}

/* Inputs get the traced sizes, so that the graph knows what its computed shapes hold. */
static qn_code settle(qn_graph *g, const qn_groups *s, qn_err *err)
{
    for (uint32_t i = 0; i < g->n_inputs; i++) {
        qn_value *v = &g->values[g->inputs[i]];
        if (s->rank[g->inputs[i]] == QN_RANK_UNKNOWN)
            continue;
        v->dims = s->dims + (uint64_t)g->inputs[i] * QN_ARRAY_RANK_MAX;
        v->rank = s->rank[g->inputs[i]];
    }
    return qn_graph_seal(g, err);
}

static bool check(const char *path, bool inner)
{
    const qn_env *env = qt_made_env(2);
    qn_err err = {0};
    qn_source *src;
    qn_graph *g;
    qn_groups *s;
    qn_cut *c;
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (qn_source_open(env, path, &src, &err) != QN_OK || qn_graph_open(env, src, &g, &err) != QN_OK) {
        printf("%-44s not opened: %s\n", name, err.text);
        return true;
    }
    const qn_groups_options o = {.inner = inner};
    const double t0 = now();
    if (qn_groups_find(env, g, &o, &s, &err) != QN_OK) {
        printf("%-44s refused: %s\n", name, err.text);
        return true;
    }
    const double t1 = now();
    if (has_bodies(g) || settle(g, s, &err) != QN_OK) {
        printf("%-44s %3u families, not compared: %s\n", name, s->n_families, has_bodies(g) ? "has bodies of If, Loop or Scan" : err.text);
        return true;
    }
    qt_rng r = qt_seed(7);
    bool good = true;
    double worst = 0, moved = 0;
    uint64_t n_cut = 0;
    for (unsigned k = 1; k < 3 && s->n_families; k++) {
        if (qn_cut_new(env, s, &c, &err) != QN_OK)
            return false;
        qt_net_cut(c, &r, 0.25 * k, false);
        const qt_net_result x = qt_net_compare(g, c, &r);
        worst = x.worst > worst ? x.worst : worst;
        moved = x.moved > moved ? x.moved : moved;
        n_cut += x.n_cut;
        good = good && x.worst <= 1e-5;
        qn_cut_free(c);
    }
    printf("%-44s %3u families %6.1f%% of %6lu channels, %6.1f%% of params; %6lu groups gone: %8.2g (moved %.2g) %s  %.2f s\n", name, s->n_families,
           s->n_channels > s->n_outputs ? 100.0 * (double)s->n_free / (double)(s->n_channels - s->n_outputs) : 0.0,
           (unsigned long)(s->n_channels - s->n_outputs), s->params ? 100.0 * (double)s->free_params / (double)s->params : 0.0, (unsigned long)n_cut, worst, moved,
           good ? "same" : "DIFFERENT", t1 - t0);
    fflush(stdout);
    qn_groups_free(s);
    qn_graph_close(g);
    qn_source_close(src);
    return good;
}

int main(int argc, char **argv)
{
    bool good = true, inner = false;
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--inner"))
            inner = true;
        else
            good = check(argv[i], inner) && good;
    return good ? 0 : 1;
}
