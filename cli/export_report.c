/* export_report.c: see export_report.h. Tensors that got the same are one line of the text; the JSON has them all. */
#include "cli/export_report.h"
#include "base/err.h"
#include "cli/json_write.h"
#include "cli/table.h"
#include "cli/units.h"
#include <stdlib.h>
#include <string.h>

/* Rows that got the same, for the same reason. */
struct kind {
    const char *asked, *given, *why;
    bool again;
    uint64_t n, n_weights, n_bytes;
    const char *first;
};

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static uint64_t collect(const qn_export_job *j, struct kind *kinds)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < j->n_rows; i++) {
        const qn_export_row *r = &j->rows[i];
        uint64_t k = 0;
        while (k < n && !(same_text(kinds[k].asked, r->asked) && same_text(kinds[k].given, r->given) && same_text(kinds[k].why, r->why) &&
                          kinds[k].again == r->rounded_again))
            k++;
        if (k == n)
            kinds[n++] = (struct kind){.asked = r->asked, .given = r->given, .why = r->why, .again = r->rounded_again, .first = r->name};
        kinds[k].n++;
        kinds[k].n_weights += r->n_weights;
        kinds[k].n_bytes += r->n_bytes;
    }
    return n;
}

static int by_weights(const void *pa, const void *pb)
{
    const struct kind *a = pa, *b = pb;
    return a->n_weights < b->n_weights ? 1 : a->n_weights > b->n_weights ? -1 : strcmp(a->first, b->first);
}

static qn_code print_rows(qn_cli *cli, const qn_export_job *j, qn_err *err)
{
    static const qn_column columns[] = {{.title = "given"}, {"tensors", .right = true}, {"weights", .right = true}, {"size", .right = true},
                                        {"bits/weight", .right = true}, {"instead of"}, {"because", .shrink = true}};
    struct kind *kinds = qn_arena_get(&cli->arena, (j->n_rows + 1) * sizeof *kinds, 8, err);
    if (!kinds)
        return QN_E_MEMORY;
    const uint64_t n = collect(j, kinds);
    qsort(kinds, n, sizeof *kinds, by_weights);
    bool any = false;
    for (uint64_t i = 0; i < n; i++)
        any = any || kinds[i].why || kinds[i].again;
    qn_table t;
    qn_table_init(&t, &cli->out, &cli->arena, columns, any ? 7 : 5, 2);
    qn_code rc = QN_OK;
    for (uint64_t i = 0; i < n && rc == QN_OK; i++) {
        char weights[32], size[32];
        qn_human_count(weights, sizeof weights, kinds[i].n_weights);
        qn_human_bytes(size, sizeof size, kinds[i].n_bytes);
        rc = qn_table_cell(&t, err, "%s", kinds[i].given ? kinds[i].given : "");
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%llu", (unsigned long long)kinds[i].n);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%s", weights);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%s", size);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%.3f", kinds[i].n_weights ? 8 * (double)kinds[i].n_bytes / (double)kinds[i].n_weights : 0.0);
        if (rc == QN_OK && any)
            rc = qn_table_cell(&t, err, "%s", kinds[i].why && kinds[i].asked ? kinds[i].asked : "");
        if (rc == QN_OK && any)
            rc = qn_table_cell(&t, err, "%s%s%s", kinds[i].why ? kinds[i].why : "", kinds[i].why && kinds[i].again ? "; " : "",
                               kinds[i].again ? "rounded again" : "");
    }
    if (rc == QN_OK)
        qn_table_print(&t);
    qn_table_release(&t);
    return rc;
}

static qn_code print_job(qn_cli *cli, const qn_export_run *x, uint32_t i, qn_err *err)
{
    const qn_export_job *j = &x->jobs[i];
    char size[32];
    qn_human_bytes(size, sizeof size, j->n_bytes);
    fprintf(cli->out.f, "%s%s%s: %s%s%s", qn_term_bold(&cli->out), j->path, qn_term_plain(&cli->out), x->targets[i]->name, *j->variant ? ":" : "", j->variant);
    if (x->o->dry_run)
        fprintf(cli->out.f, ", nothing written\n");
    else
        fprintf(cli->out.f, ", %s\n", size);
    QN_TRY(print_rows(cli, j, err));
    if (x->o->dry_run && x->solve_of[i]) {
        fprintf(cli->out.f, "  ");
        qn_text_wrap(cli->out.f, x->solves[x->solve_of[i] - 1].recipe, 2, 2, cli->out.width ? cli->out.width : 100);
        fputc('\n', cli->out.f);
    }
    for (unsigned k = 0; k < j->n_notes; k++)
        qn_cli_note(cli, "note: %s", j->notes[k]);
    return QN_OK;
}

qn_code qn_export_text(qn_cli *cli, const qn_export_run *x, double seconds, qn_err *err)
{
    char took[32];
    for (uint32_t i = 0; i < x->n; i++)
        QN_TRY(print_job(cli, x, i, err));
    qn_human_seconds(took, sizeof took, seconds);
    if (!x->o->dry_run)
        fprintf(cli->out.f, "%s\n", took);
    return QN_OK;
}

static void write_row(qn_json_writer *w, const qn_export_row *r)
{
    qn_jw_begin(w, NULL, '{');
    qn_jw_text(w, "tensor", r->name);
    qn_jw_text(w, "asked", r->asked);
    qn_jw_text(w, "given", r->given);
    qn_jw_text(w, "why", r->why);
    qn_jw_u64(w, "weights", r->n_weights);
    qn_jw_u64(w, "bytes", r->n_bytes);
    qn_jw_bool(w, "rounded_again", r->rounded_again);
    qn_jw_end(w, '}');
}

void qn_export_json(qn_cli *cli, const qn_export_run *x, double seconds)
{
    qn_json_writer w;
    qn_jw_open(&w, cli->out.f, "export");
    qn_jw_text(&w, "input", qn_source_given(x->input));
    qn_jw_bool(&w, "dry_run", x->o->dry_run);
    qn_jw_begin(&w, "outputs", '[');
    for (uint32_t i = 0; i < x->n; i++) {
        const qn_export_job *j = &x->jobs[i];
        qn_jw_begin(&w, NULL, '{');
        qn_jw_text(&w, "path", j->path);
        qn_jw_text(&w, "format", x->targets[i]->name);
        qn_jw_text(&w, "variant", j->variant);
        qn_jw_u64(&w, "bytes", j->n_bytes);
        qn_jw_text(&w, "recipe", x->solve_of[i] ? x->solves[x->solve_of[i] - 1].recipe : NULL);
        qn_jw_begin(&w, "tensors", '[');
        for (uint64_t k = 0; k < j->n_rows; k++)
            write_row(&w, &j->rows[k]);
        qn_jw_end(&w, ']');
        qn_jw_begin(&w, "notes", '[');
        for (unsigned k = 0; k < j->n_notes; k++)
            qn_jw_text(&w, NULL, j->notes[k]);
        qn_jw_end(&w, ']');
        qn_jw_end(&w, '}');
    }
    qn_jw_end(&w, ']');
    qn_jw_real(&w, "seconds", seconds);
    qn_jw_close(&w);
}
