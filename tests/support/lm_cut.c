/* lm_cut.c: see lm_cut.h. */
#include "tests/support/lm_cut.h"
#include "base/err.h"
#include "tests/support/made.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

qt_lm_model qt_lm_open(const char *path)
{
    qt_lm_model m = {.s = qt_made_open(qt_made_env(1), path)};
    qn_err err = {0};
    cr_assert_eq(qn_graph_open(qt_made_env(1), m.s, &m.g, &err), QN_OK, "%s: %s %s", path, err.tensor, err.text);
    return m;
}

void qt_lm_close(qt_lm_model *m)
{
    qn_graph_close(m->g);
    qn_source_close(m->s);
}

qn_groups *qt_groups_new(const qn_graph *g)
{
    enum { FAMILIES = 64 };
    qn_groups *s = qt_made_keep(calloc(1, sizeof *s));
    int64_t *dims = qt_made_keep(calloc(g->n_values, QN_ARRAY_RANK_MAX * sizeof *dims));
    uint8_t *rank = qt_made_keep(calloc(g->n_values, 1));
    s->graph = g;
    s->families = qt_made_keep(calloc(FAMILIES, sizeof *s->families));
    for (uint32_t v = 0; v < g->n_values; v++) {
        rank[v] = g->values[v].rank;
        for (unsigned k = 0; rank[v] != QN_RANK_UNKNOWN && k < rank[v]; k++)
            dims[v * QN_ARRAY_RANK_MAX + k] = g->values[v].dims[k];
    }
    s->dims = dims;
    s->rank = rank;
    s->varies = qt_made_keep(calloc(g->n_values, QN_ARRAY_RANK_MAX));
    return s;
}

static void add_member(qn_groups *s, qn_family *f, char *text, unsigned layer)
{
    char name[200], *runs = strchr(text, '+'), *slash = strrchr(text, '/');
    const char *star = strchr(text, '*');
    cr_assert_not_null(slash, "%s", text);
    *slash = '\0';
    if (star)
        snprintf(name, sizeof name, "%.*s%u%s", (int)(star - text), text, layer, star + 1);
    else
        snprintf(name, sizeof name, "%s", text);
    const uint32_t v = qn_graph_find(s->graph, name);
    cr_assert_neq(v, QN_NO_VALUE, "there is no '%s'", name);
    const unsigned axis = (unsigned)atoi(slash + 1);
    unsigned off[4] = {0}, each[4] = {(unsigned)(s->dims[v * QN_ARRAY_RANK_MAX + axis] / f->n_groups)}, n = 0;
    for (; runs; runs = strchr(runs + 1, '+'), n++)
        cr_assert_eq(sscanf(runs, "+%u,%u", &off[n], &each[n]), 2);
    n = n ? n : 1;
    unsigned per = 0;
    for (unsigned r = 0; r < n; r++)
        per += each[r];
    uint32_t *start = qt_made_keep(calloc(f->n_groups + 1, sizeof *start)), *index = qt_made_keep(calloc((uint64_t)f->n_groups * per + 1, sizeof *index));
    for (uint32_t i = 0, at = 0; i < f->n_groups; i++, start[i] = at)
        for (unsigned r = 0; r < n; r++)
            for (unsigned k = 0; k < each[r]; k++)
                index[at++] = off[r] + i * each[r] + k;
    qn_member *m = qt_made_keep(calloc(f->n_members + 1, sizeof *m));
    if (f->n_members)
        memcpy(m, f->members, f->n_members * sizeof *m);
    m[f->n_members++] = (qn_member){.value = v, .axis = (uint8_t)axis, .role = QN_MEMBER_PARAMETER, .start = start, .index = index};
    f->members = m;
    if (!f->name)
        f->name = s->graph->values[v].name;
}

void qt_groups_add(qn_groups *s, const char *kind, uint32_t n, const char *members, unsigned layer)
{
    qn_family *f = &s->families[s->n_families++];
    char *text = qt_made_keep(strdup(members));
    f->kind = kind;
    f->n_groups = n;
    for (char *one = text; one;) {
        char *next = strchr(one, ';');
        if (next)
            *next++ = '\0';
        add_member(s, f, one + strspn(one, " "), layer);
        one = next;
    }
}

qn_overlay *qt_lm_zeroed(const qn_graph *g, const qn_cut *c)
{
    qn_overlay *w;
    qn_err err = {0};
    cr_assert_eq(qn_overlay_new(qt_made_env(1), g, &w, &err), QN_OK);
    for (uint32_t v = 0; v < g->n_values; v++) {
        float *p;
        if (g->values[v].kind != QN_VALUE_WEIGHT || !qn_cut_touches(c, v))
            continue;
        cr_assert_eq(qn_overlay_edit(w, v, &p, &err), QN_OK, "%s", err.text);
        cr_assert_eq(qn_cut_zero(c, v, p, &err), QN_OK, "%s", err.text);
    }
    return w;
}

float *qt_lm_run(const qn_graph *g, qn_overlay *w, const int64_t *tokens, int64_t n_tokens, uint64_t *n)
{
    qn_err err = {0};
    qn_exec *x = NULL;
    qn_array feeds[2], out;
    int64_t starts[2] = {0, n_tokens};
    const int64_t two = 2;
    union {
        const int64_t *in;
        void *out;
    } u = {.in = tokens};
    const qn_exec_options o = {.read = w ? qn_overlay_read : NULL, .read_ctx = w};
    cr_assert_eq(qn_exec_open(qt_made_env(1), g, &o, &x, &err), QN_OK, "%s", err.text);
    cr_assert_eq(qn_array_wrap(&feeds[0], QN_I64, &n_tokens, 1, u.out, &err), QN_OK);
    cr_assert_eq(qn_array_wrap(&feeds[1], QN_I64, &two, 1, starts, &err), QN_OK);
    cr_assert_eq(qn_exec_run(x, feeds, &out, &err), QN_OK, "%s", err.text);
    float *y = qt_made_keep(malloc(qn_array_bytes(&out) + 1));
    memcpy(y, out.data, qn_array_bytes(&out));
    *n = out.n;
    qn_array_release(&out);
    qn_exec_close(x);
    return y;
}

double qt_lm_apart(const float *a, const float *b, uint64_t n)
{
    double apart = 0, most = 0;
    for (uint64_t i = 0; i < n; i++) {
        apart = fmax(apart, fabs((double)a[i] - (double)b[i]));
        most = fmax(most, fabs((double)b[i]));
        if (!isfinite(a[i]) || !isfinite(b[i]))
            return INFINITY;
    }
    return apart / most;
}

const char *qt_text_of(const char *dir, const char *name)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    char *text = qt_made_keep(calloc(1, 1 << 20));
    cr_assert_lt(fread(text, 1, (1 << 20) - 1, f), (size_t)(1 << 20) - 1);
    fclose(f);
    return text;
}
