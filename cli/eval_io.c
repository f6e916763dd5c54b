/* eval_io.c: see eval_io.h. */
#include "cli/eval_io.h"
#include "analysis/eval/evaluate_io.h"
#include "analysis/eval/ints.h"
#include "base/err.h"
#include "cli/eval_report.h"
#include "cli/json_write.h"
#include "cli/table.h"
#include "cli/units.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

qn_code qn_labels_read(qn_cli *cli, const char *path, int64_t **labels, uint64_t *n, qn_err *err)
{
    qn_source *s;
    QN_TRY(qn_cli_open(cli, path, &s, err));
    const qn_code rc = s->n_tensors == 1 && qn_dtype_is_integer((qn_dtype)s->tensors[0].dtype)
                           ? qn_ints_read(&cli->env, s, 0, labels, n, err)
                           : QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "labels must be one array of integers");
    qn_source_close(s);
    return qn_err_in_path(err, rc, path);
}

static void share(const char *what, const qn_estimate *e)
{
    if (isnan(e->value))
        return;
    printf("  %-28s %.3f %%", what, 100 * e->value);
    if (!isnan(e->low))
        printf("  (95 %%: %.3f %% to %.3f %%)", 100 * e->low, 100 * e->high);
    putchar('\n');
}

static qn_code output_rows(qn_table *t, const qn_io_eval *e, qn_err *err)
{
    for (uint32_t i = 0; i < e->n_outputs; i++) {
        const qn_io_output *o = &e->outputs[i];
        QN_TRY(qn_table_cell(t, err, "%s", o->name));
        QN_TRY(qn_table_cell(t, err, "%" PRIu64, o->n_values));
        QN_TRY(qn_table_cell(t, err, "%.3e", qn_io_rel_rms(o)));
        QN_TRY(qn_table_cell(t, err, "%.3e", o->max_abs));
        QN_TRY(qn_table_cell(t, err, "%.3e", qn_io_max_rel(o)));
        QN_TRY(qn_table_cell(t, err, "%.7f", qn_io_cosine(o)));
        if (isnan(o->same_top.value))
            QN_TRY(qn_table_cell(t, err, "%s", ""));
        else
            QN_TRY(qn_table_cell(t, err, "%.3f %%", 100 * o->same_top.value));
    }
    return QN_OK;
}

static qn_code print_text(qn_cli *cli, const qn_eval_io_args *a, const qn_graph *g, const qn_io_eval *e, double seconds, qn_err *err)
{
    static const qn_column columns[] = {{.title = "output", .shrink = true}, {"values", .right = true}, {"rel RMS", .right = true}, {"max abs", .right = true},
                                        {"max rel", .right = true}, {"cosine", .right = true}, {"same first", .right = true}};
    char name[200], other[200], time[32];
    qn_printable(name, sizeof name, a->model, strlen(a->model));
    printf("%s: %s, %" PRIu64 " samples in %" PRIu64 " runs\n", name, g->family, e->n_samples, e->n_runs);
    qn_code rc = QN_OK;
    if (a->against) {
        qn_printable(other, sizeof other, a->against, strlen(a->against));
        printf("against %s\n\n", other);
        qn_table t;
        qn_table_init(&t, &cli->out, &cli->arena, columns, 7, 2);
        rc = output_rows(&t, e, err);
        if (rc == QN_OK)
            qn_table_print(&t);
        qn_table_release(&t);
    }
    if (e->n_outputs) {
        putchar('\n');
        share("same class first", &e->outputs[0].same_top);
        share("right class first", &e->outputs[0].right);
        share("right class, the reference", &e->outputs[0].right_ref);
    }
    qn_human_seconds(time, sizeof time, seconds);
    printf("\n  %s\n", time);
    return rc;
}

/* What was not asked for is left out. */
static void known(qn_json_writer *j, const char *key, const qn_estimate *e)
{
    if (!isnan(e->value))
        qn_estimate_json(j, key, e);
}

static void print_json(const qn_eval_io_args *a, const qn_graph *g, const qn_io_eval *e, const qn_io_feed *f, double seconds)
{
    qn_json_writer j;
    char hex[33];
    qn_jw_open(&j, stdout, "eval");
    qn_jw_text(&j, "model", a->model);
    qn_jw_text(&j, "family", g->family);
    qn_jw_text(&j, "against", a->against);
    qn_jw_text(&j, "inputs", a->inputs);
    qn_digest_hex(&f->digest, hex);
    qn_jw_text(&j, "inputs_digest", hex);
    qn_jw_u64(&j, "samples", e->n_samples);
    qn_jw_u64(&j, "runs", e->n_runs);
    qn_jw_u64(&j, "labels", e->n_labels);
    qn_jw_begin(&j, "outputs", '[');
    for (uint32_t i = 0; i < e->n_outputs; i++) {
        const qn_io_output *o = &e->outputs[i];
        qn_jw_begin(&j, NULL, '{');
        qn_jw_text(&j, "name", o->name);
        if (a->against) {
            qn_jw_u64(&j, "values", o->n_values);
            qn_jw_real(&j, "rel_rms", qn_io_rel_rms(o));
            qn_jw_real(&j, "max_abs", o->max_abs);
            qn_jw_real(&j, "max_rel", qn_io_max_rel(o));
            qn_jw_real(&j, "cosine", qn_io_cosine(o));
        }
        known(&j, "same_top1", &o->same_top);
        known(&j, "accuracy", &o->right);
        known(&j, "accuracy_reference", &o->right_ref);
        qn_jw_end(&j, '}');
    }
    qn_jw_end(&j, ']');
    qn_jw_u64(&j, "peak_tensor_bytes", e->peak_bytes);
    qn_jw_real(&j, "seconds", seconds);
    qn_jw_close(&j);
}

qn_code qn_eval_io(qn_cli *cli, const qn_eval_io_args *a, const qn_graph *g, const qn_graph *ref, qn_err *err)
{
    int64_t *labels = NULL;
    uint64_t n_labels = 0;
    qn_io_feed feed;
    qn_io_eval e;
    const double began = qn_cli_now();
    if (a->labels)
        QN_TRY(qn_labels_read(cli, a->labels, &labels, &n_labels, err));
    qn_code rc = qn_io_feed_open(&feed, &cli->env, g, a->inputs, a->batch, a->limit, err);
    if (rc != QN_OK) {
        qn_mem_put(cli->env.alloc, labels);
        return rc;
    }
    rc = qn_err_in_path(err, qn_evaluate_io(&cli->env, g, ref, &feed, labels, n_labels, cli->env.memory_bytes, &e, err), a->model);
    qn_progress_clear(&cli->progress);
    if (rc == QN_OK) {
        if (cli->common->json)
            print_json(a, g, &e, &feed, qn_cli_now() - began);
        else if (!cli->common->quiet)
            rc = print_text(cli, a, g, &e, qn_cli_now() - began, err);
        qn_io_eval_release(&e);
    }
    qn_io_feed_close(&feed);
    qn_mem_put(cli->env.alloc, labels);
    return rc;
}
