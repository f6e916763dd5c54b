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
