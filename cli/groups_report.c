/* groups_report.c: see groups_report.h. */
#include "cli/groups_report.h"
#include "base/err.h"
#include "cli/table.h"
#include "cli/units.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static double share(double part, double all)
{
    return all > 0 ? 100 * part / all : 0;
}

static qn_code family_row(qn_table *t, const qn_groups *s, const qn_family *f, qn_err *err)
{
    char params[32], macs[32];
    qn_human_count(params, sizeof params, f->params_each);
    qn_human_count(macs, sizeof macs, (uint64_t)(f->macs_each + 0.5));
    QN_TRY(qn_table_cell(t, err, "%s", f->name));
    QN_TRY(qn_table_cell(t, err, "%s", f->kind));
    QN_TRY(qn_table_cell(t, err, "%" PRIu32, f->n_groups));
    QN_TRY(qn_table_cell(t, err, "%s", params));
    QN_TRY(qn_table_cell(t, err, "%s", macs));
    QN_TRY(qn_table_cell(t, err, "%.1f%%", share((double)f->params_each * f->n_groups, (double)s->params)));
    QN_TRY(qn_table_cell(t, err, "%.1f%%", share(f->macs_each * f->n_groups, s->macs)));
    return qn_table_cell(t, err, "%s", f->reason ? f->reason : "exact");
}

/* Frozen channels of the same reason are one line: how many, of which weights. */
static qn_code frozen_rows(qn_table *t, qn_arena *arena, const qn_groups *s, qn_err *err)
{
    bool *told = qn_arena_get(arena, (uint64_t)s->n_frozen + 1, 1, err);
    if (!told)
        return QN_E_MEMORY;
    memset(told, 0, (size_t)s->n_frozen + 1);
    for (uint32_t i = 0; i < s->n_frozen; i++) {
        if (told[i])
            continue;
        uint64_t n = 0;
        uint32_t n_weights = 0;
        for (uint32_t k = i; k < s->n_frozen; k++)
            if (!told[k] && s->frozen[k].node == s->frozen[i].node && !strcmp(s->frozen[k].reason, s->frozen[i].reason)) {
                told[k] = true;
                n += s->frozen[k].n;
                n_weights++;
            }
        const char *name = s->frozen[i].value == QN_NO_VALUE ? "" : s->graph->values[s->frozen[i].value].name;
        QN_TRY(qn_table_cell(t, err, "%" PRIu64, n));
        if (n_weights > 1)
            QN_TRY(qn_table_cell(t, err, "%s and %" PRIu32 " more", name, n_weights - 1));
        else
            QN_TRY(qn_table_cell(t, err, "%s", name));
        QN_TRY(qn_table_cell(t, err, "%s", s->frozen[i].reason));
    }
    return QN_OK;
}

qn_code qn_groups_text(qn_cli *cli, const qn_groups *s, qn_err *err)
{
    static const qn_column columns[] = {{.title = "family", .shrink = true}, {.title = "kind"}, {.title = "groups", .right = true},
                                        {.title = "params", .right = true}, {.title = "MACs", .right = true},
                                        {.title = "of params", .right = true}, {.title = "of MACs", .right = true}, {.title = "cut"}};
    static const qn_column frozen[] = {{.title = "channels", .right = true}, {.title = "weight"}, {.title = "cannot be cut: it", .shrink = true}};
    const uint64_t open = s->n_channels - s->n_outputs;
    qn_table t;
    qn_table_init(&t, &cli->out, &cli->arena, columns, sizeof columns / sizeof columns[0], 2);
    qn_code rc = QN_OK;
    for (uint32_t i = 0; i < s->n_families && rc == QN_OK; i++)
        rc = family_row(&t, s, &s->families[i], err);
    if (rc == QN_OK && s->n_families)
        qn_table_print(&t);
    qn_table_release(&t);
    QN_TRY(rc);
    if (s->n_frozen) {
        qn_table_init(&t, &cli->out, &cli->arena, frozen, 3, 2);
        rc = frozen_rows(&t, &cli->arena, s, err);
        if (rc == QN_OK) {
            putchar('\n');
            qn_table_print(&t);
        }
        qn_table_release(&t);
        QN_TRY(rc);
    }
    char params[32], free_params[32], macs[32];
    qn_human_count(params, sizeof params, s->params);
    qn_human_count(free_params, sizeof free_params, s->free_params);
    qn_human_count(macs, sizeof macs, (uint64_t)(s->macs + 0.5));
    printf("\n%" PRIu64 " of %" PRIu64 " channels can be cut (%.1f%%)", s->n_free, open, share((double)s->n_free, (double)open));
    if (s->n_outputs)
        printf("; %" PRIu64 " more are the model's outputs", s->n_outputs);
    printf(".\n%s of %s parameters (%.1f%%) are in a group; a run multiplies %s times.\n", free_params, params,
           share((double)s->free_params, (double)s->params), macs);
    return QN_OK;
}

static void json_family(qn_json_writer *j, const qn_groups *s, const qn_family *f)
{
    static const char *const roles[] = {"producer", "consumer", "parameter", "value"};
    qn_jw_begin(j, NULL, '{');
    qn_jw_text(j, "name", f->name);
    qn_jw_text(j, "kind", f->kind);
    qn_jw_u64(j, "groups", f->n_groups);
    qn_jw_u64(j, "params_each", f->params_each);
    qn_jw_real(j, "macs_each", f->macs_each);
    qn_jw_bool(j, "exact", !f->reason);
    qn_jw_text(j, "reason", f->reason);
    qn_jw_begin(j, "weights", '[');
    for (uint32_t i = 0; i < f->n_members; i++) {
        const qn_member *m = &f->members[i];
        if (m->role == QN_MEMBER_VALUE)
            continue;
        qn_jw_begin(j, NULL, '{');
        qn_jw_text(j, "name", s->graph->values[m->value].name);
        qn_jw_u64(j, "axis", m->axis);
        qn_jw_text(j, "role", roles[m->role]);
        qn_jw_u64(j, "indices_each", m->start[1] - m->start[0]);
        qn_jw_end(j, '}');
    }
    qn_jw_end(j, ']');
    qn_jw_end(j, '}');
}

void qn_groups_json(qn_json_writer *j, const qn_groups *s)
{
    qn_jw_begin(j, "groups", '{');
    qn_jw_u64(j, "channels", s->n_channels);
    qn_jw_u64(j, "free_channels", s->n_free);
    qn_jw_u64(j, "output_channels", s->n_outputs);
    qn_jw_u64(j, "params", s->params);
    qn_jw_u64(j, "free_params", s->free_params);
    qn_jw_real(j, "macs", s->macs);
    qn_jw_begin(j, "families", '[');
    for (uint32_t i = 0; i < s->n_families; i++)
        json_family(j, s, &s->families[i]);
    qn_jw_end(j, ']');
    qn_jw_begin(j, "frozen", '[');
    for (uint32_t i = 0; i < s->n_frozen; i++) {
        const qn_frozen *f = &s->frozen[i];
        qn_jw_begin(j, NULL, '{');
        qn_jw_text(j, "weight", f->value == QN_NO_VALUE ? NULL : s->graph->values[f->value].name);
        qn_jw_u64(j, "axis", f->axis);
        qn_jw_u64(j, "channels", f->n);
        qn_jw_u64(j, "of", f->of);
        qn_jw_text(j, "reason", f->reason);
        qn_jw_text(j, "node", f->node == QN_NO_NODE ? NULL : s->graph->nodes[f->node].name);
        qn_jw_end(j, '}');
    }
    qn_jw_end(j, ']');
    qn_jw_end(j, '}');
}

/* Light colours far apart: hues by the golden angle, so that neighbours in the list differ. */
static const char *color(qn_arena *arena, uint32_t family, qn_err *err)
{
    char text[32];
    const int n = snprintf(text, sizeof text, "hsl(%.0f,62%%,78%%)", (double)(family * 137u % 360u));
    return qn_arena_str(arena, text, (size_t)n, err);
}

qn_code qn_groups_colors(qn_cli *cli, const qn_groups *s, const char *const **colors, qn_err *err)
{
    const char **list = qn_arena_get(&cli->arena, ((uint64_t)s->graph->n_nodes + 1) * sizeof *list, 8, err);
    if (!list)
        return QN_E_MEMORY;
    memset(list, 0, ((size_t)s->graph->n_nodes + 1) * sizeof *list);
    for (uint32_t f = 0; f < s->n_families; f++) {
        const char *c = color(&cli->arena, f, err);
        if (!c)
            return QN_E_MEMORY;
        for (uint32_t m = 0; m < s->families[f].n_members; m++) {
            const qn_value *v = &s->graph->values[s->families[f].members[m].value];
            if (v->kind == QN_VALUE_NODE)
                list[v->node] = c;
        }
    }
    *colors = list;
    return QN_OK;
}
