/* cut_model.c: a language model with groups cut at random, for other programs to look at: the same number of every class of families, what one loader
 * can say. Nothing is chosen well and nothing is repaired: what is looked at is emission.
 *
 * usage: cut-model MODEL OUT ZEROED SHARE SEED [LAYERS [wide]]      SHARE of the groups goes, at least one of each family; LAYERS: "0,3" or "";
 * wide: of the stream's width alone
 *
 * OUT: the model without them; ZEROED: the model in its old shape, their weights 0 (of layers: what they add). Prints "families N, of them cut C", and for
 * each class "class NUMBER: KEPT of ALL". */
#include "analysis/groups/groups.h"
#include "base/err.h"
#include "compress/prune/depth.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAMILIES_MAX = 4096, LAYERS_MAX = 256 };

static const qn_emit_options options = {.overwrite = true, .any_loader = true};

/* Which of n go: a draw without repetition. */
static void choose(qn_cut *c, uint32_t f, uint32_t n, uint32_t n_gone, uint64_t *state)
{
    while (n_gone) {
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        const uint32_t i = (uint32_t)((*state >> 33) % n);
        if (!c->gone[f][i]) {
            qn_cut_set(c, f, i, true);
            n_gone--;
        }
    }
}

static qn_code zero(qn_cut *c, qn_overlay *w, qn_err *err)
{
    for (uint32_t v = 0; v < w->graph->n_values; v++) {
        float *p;
        if (w->graph->values[v].kind != QN_VALUE_WEIGHT || !qn_cut_touches(c, v))
            continue;
        QN_TRY(qn_overlay_edit(w, v, &p, err));
        QN_TRY(qn_cut_zero(c, v, p, err));
    }
    return QN_OK;
}

static qn_code cut(const qn_env *env, const qn_graph *g, char **argv, const qn_depth *d, bool wide, qn_err *err)
{
    static uint32_t class_of[FAMILIES_MAX];
    static uint8_t allowed[FAMILIES_MAX], said[64];
    const double share = strtod(argv[4], NULL);
    uint64_t state = strtoull(argv[5], NULL, 10);
    uint32_t n_cut = 0;
    qn_groups *s;
    qn_cut *c;
    qn_overlay *w;
    QN_TRY(qn_groups_find(env, g, &(qn_groups_options){.inexact = wide}, &s, err));
    if (s->n_families > FAMILIES_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "too many families");
    QN_TRY(qn_emit_constraints(g, s, &options, class_of, allowed, err));
    QN_TRY(qn_cut_new(env, s, &c, err));
    QN_TRY(qn_overlay_new(env, g, &w, err));
    for (uint32_t f = 0; f < s->n_families; f++) {
        const uint32_t n = s->families[f].n_groups, gone = (uint32_t)(share * n + 0.5) ? (uint32_t)(share * n + 0.5) : 1;
        if (!allowed[f] || gone >= n || share <= 0 || wide == !s->families[f].reason)
            continue;
        choose(c, f, n, gone, &state);
        n_cut++;
        if (!said[class_of[f] % 64]++)
            printf("class %u: %u of %u\n", (unsigned)class_of[f], (unsigned)(n - gone), (unsigned)n);
    }
    printf("families %u, of them cut %u\n", (unsigned)s->n_families, (unsigned)n_cut);
    QN_TRY(zero(c, w, err));
    QN_TRY(qn_emit(env, g, c, d, w, argv[2], &options, err));
    if (d->layers)
        QN_TRY(qn_depth_bypass(g, d->layers, d->n_layers, w, err));
    QN_TRY(qn_emit(env, g, NULL, NULL, w, argv[3], &options, err));
    qn_overlay_free(w);
    qn_cut_free(c);
    qn_groups_free(s);
    return QN_OK;
}

int main(int argc, char **argv)
{
    static uint8_t layers[LAYERS_MAX];
    qn_env env;
    qn_err err = {.off = QN_NO_OFFSET};
    qn_source *s = NULL;
    qn_graph *g = NULL;
    qn_depth d = {0};
    uint32_t n_experts;
    if (argc < 6)
        return 2;
    qn_code rc = qn_env_init(&env, &err);
    if (rc == QN_OK)
        rc = qn_source_open(&env, argv[1], &s, &err);
    if (rc == QN_OK)
        rc = qn_graph_open(&env, s, &g, &err);
    if (rc == QN_OK && argc > 6 && *argv[6]) {
        qn_depth_size(g, &d.n_layers, &n_experts);
        d.layers = layers;
        for (char *p = argv[6]; *p; p += *p == ',') {
            const unsigned long i = strtoul(p, &p, 10);
            if (i < LAYERS_MAX)
                layers[i] = 1;
        }
    }
    if (rc == QN_OK)
        rc = cut(&env, g, argv, &d, argc > 7, &err);
    if (rc != QN_OK) {
        char line[1024];
        qn_err_line(&err, line, sizeof line);
        fprintf(stderr, "%s\n", line);
    }
    qn_graph_close(g);
    qn_source_close(s);
    return (int)rc;
}
