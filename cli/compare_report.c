/* compare_report.c: see compare_report.h. */
#include "cli/compare_report.h"
#include "base/err.h"
#include "base/num.h"
#include "cli/table.h"
#include "cli/units.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TENSORS_SHOWN = 8 };

/* For qsort, which hands nothing on. */
struct key {
    double badness;
    uint64_t tensor;
};

static int worst_first(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    if (x->badness < y->badness || x->badness > y->badness)
        return x->badness < y->badness ? 1 : -1;
    return x->tensor < y->tensor ? -1 : x->tensor > y->tensor;
}

static double badness(const qn_report_tensor *t)
{
    return t->trouble ? (double)INFINITY : isnan(t->rel) ? -1 : t->rel;
}

void qn_compare_order(const qn_report *r, uint64_t *order)
{
    struct key *keys = qn_mem_get(r->arena.alloc, (r->n_tensors + 1) * sizeof *keys, NULL);
    for (uint64_t i = 0; i < r->n_tensors; i++) {
        order[i] = i;
        if (keys)
            keys[i] = (struct key){badness(&r->tensors[i]), i};
    }
    if (!keys) /* no memory to sort: as they lie */
        return;
    qsort(keys, (size_t)r->n_tensors, sizeof *keys, worst_first);
    for (uint64_t i = 0; i < r->n_tensors; i++)
        order[i] = keys[i].tensor;
    qn_mem_put(r->arena.alloc, keys);
}

void qn_compare_head(const qn_cli *cli, const qn_report *r)
{
    char name[200], size[32], other[32], count[32];
    qn_human_bytes(size, sizeof size, r->size_bytes);
    qn_human_bytes(other, sizeof other, r->reference_bytes);
    qn_human_count(count, sizeof count, r->n_weights);
    const char *path = r->b.candidate_path ? r->b.candidate_path : "?", *ref = r->b.reference_path ? r->b.reference_path : "?";
    qn_printable(name, sizeof name, path, strlen(path));
    printf("%s%s%s: %s, %.3f bits per weight of %s\n", qn_term_bold(&cli->out), name, qn_term_plain(&cli->out), size, qn_report_bpw(r), count);
    qn_printable(name, sizeof name, ref, strlen(ref));
    printf("against %s: %s\n", name, other);
}

static qn_code row(qn_table *t, const char *what, bool share, const qn_estimate *e, qn_err *err)
{
    const double k = share ? 100 : 1;
    const char *unit = share ? " %" : "";
    if (isnan(e->value))
        return QN_OK;
    QN_TRY(qn_table_cell(t, err, "%s", what));
    QN_TRY(qn_table_cell(t, err, share ? "%.3f%s" : "%.6g%s", k * e->value, unit));
    if (isnan(e->low))
        return qn_table_cell(t, err, "%s", "");
    return qn_table_cell(t, err, share ? "%.3f%s to %.3f%s" : "%.6g%s to %.6g%s", k * e->low, unit, k * e->high, unit);
}

static qn_code figures(qn_table *t, const qn_report *r, qn_err *err)
{
    if (r->is_lm) {
        QN_TRY(row(t, "mean KL divergence, nats", false, &r->kl, err));
        QN_TRY(row(t, "… 99 % of tokens below", false, &r->kl_p99, err));
        QN_TRY(row(t, "same token first", true, &r->same_top, err));
        QN_TRY(row(t, "perplexity", false, &r->ppl, err));
        QN_TRY(row(t, "… of the reference", false, &r->ppl_ref, err));
        return row(t, "… ratio", false, &r->ppl_ratio, err);
    }
    QN_TRY(row(t, "same class first", true, &r->io_same_top, err));
    QN_TRY(row(t, "right class first", true, &r->io_right, err));
    return row(t, "… of the reference", true, &r->io_right_ref, err);
}

static qn_code print_figures(qn_cli *cli, const qn_report *r, qn_err *err)
{
    static const qn_column columns[] = {{.title = "measured", .shrink = true}, {"value", .right = true}, {"95 % interval", .right = true}};
    qn_table t;
    if (!r->is_lm && !r->is_io)
        return QN_OK;
    char name[200];
    const char *data = r->b.data_path ? r->b.data_path : "?";
    qn_printable(name, sizeof name, data, strlen(data));
    printf("\n%s: %" PRIu64 " %s, %" PRIu64 " %s\n", name, r->n_chunks, r->is_lm ? "chunks" : "runs", r->b.n_scored, r->is_lm ? "tokens scored" : "samples");
    qn_table_init(&t, &cli->out, &cli->arena, columns, 3, 2);
    const qn_code rc = figures(&t, r, err);
    if (rc == QN_OK)
        qn_table_print(&t);
    qn_table_release(&t);
    for (uint64_t i = 0; i < r->n_outputs && rc == QN_OK; i++) {
        const qn_report_output *o = &r->outputs[i];
        qn_printable(name, sizeof name, o->name, strlen(o->name));
        printf("  output %s: relative error %.3e, largest %.3e of the largest value\n", name, o->rel_rms, o->max_rel);
    }
    return rc;
}

static qn_code tensor_row(qn_table *t, const qn_report_tensor *x, qn_err *err)
{
    QN_TRY(qn_table_cell(t, err, "%s", x->name));
    QN_TRY(qn_table_cell(t, err, "%s", x->codec ? x->codec : x->dtype));
    if (x->n_weights)
        QN_TRY(qn_table_cell(t, err, "%.2f", 8 * (double)x->n_bytes / (double)x->n_weights));
    else
        QN_TRY(qn_table_cell(t, err, "%s", ""));
    if (isnan(x->rel))
        QN_TRY(qn_table_cell(t, err, "%s", ""));
    else
        QN_TRY(qn_table_cell(t, err, "%.4g", x->rel));
    return qn_table_cell(t, err, "%s", x->trouble ? x->trouble : x->looks ? x->looks : "");
}

static qn_code print_tensors(qn_cli *cli, const qn_report *r, qn_err *err)
{
    static const qn_column columns[] = {{.title = "tensor", .shrink = true}, {.title = "as"}, {"bits", .right = true}, {"error", .right = true}, {.title = ""}};
    uint64_t n_equal = 0, shown = 0;
    qn_table t;
    for (uint64_t i = 0; i < r->n_tensors; i++)
        n_equal += !r->tensors[i].trouble && r->tensors[i].n_differing == 0 && !(r->tensors[i].rel > 0) && !isnan(r->tensors[i].rel);
    printf("\n%" PRIu64 " tensors, %" PRIu64 " of them equal bit for bit%s\n", r->n_tensors, n_equal,
           n_equal == r->n_tensors ? "" : "; the worst by relative error");
    if (n_equal == r->n_tensors)
        return QN_OK;
    uint64_t *order = qn_arena_get(&cli->arena, (r->n_tensors + 1) * sizeof *order, 8, err);
    if (!order)
        return QN_E_MEMORY;
    qn_compare_order(r, order);
    qn_table_init(&t, &cli->out, &cli->arena, columns, 5, 2);
    qn_code rc = QN_OK;
    for (uint64_t i = 0; i < r->n_tensors && shown < TENSORS_SHOWN && rc == QN_OK; i++, shown++) {
        const qn_report_tensor *x = &r->tensors[order[i]];
        if (!x->trouble && !(x->rel > 0))
            break;
        rc = tensor_row(&t, x, err);
    }
    if (rc == QN_OK)
        qn_table_print(&t);
    qn_table_release(&t);
    return rc;
}

static qn_code print_layers(qn_cli *cli, const qn_report *r, qn_err *err)
{
    static const qn_column columns[] = {{.title = "behind", .shrink = true}, {"error", .right = true}, {"its own", .right = true}, {"bits", .right = true}};
    qn_table t;
    qn_code rc = QN_OK;
    if (!r->n_layers)
        return rc;
    qn_table_init(&t, &cli->out, &cli->arena, columns, 4, 2);
    for (uint64_t i = 0; i < r->n_layers && rc == QN_OK; i++) {
        const qn_report_layer *y = &r->layers[i];
        rc = qn_table_cell(&t, err, "%s", y->name);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%.3e", y->rel_rms);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%.3e", y->own_rel);
        if (rc == QN_OK)
            rc = isnan(y->bits) ? qn_table_cell(&t, err, "%s", "") : qn_table_cell(&t, err, "%.2f", y->bits);
    }
    if (rc == QN_OK) {
        printf("\nrelative error of each block's output, and of the block alone\n");
        qn_table_print(&t);
        const qn_report_layer *jump = qn_report_jump(r, 3);
        if (jump)
            printf("  it first jumps at %s\n", jump->name);
    }
    qn_table_release(&t);
    return rc;
}

qn_code qn_compare_text(qn_cli *cli, const qn_report *r, qn_err *err)
{
    char time[32];
    qn_compare_head(cli, r);
    if (r->tokenizer_trouble)
        printf("%s%s%s\n", qn_term_red(&cli->out), r->tokenizer_trouble, qn_term_plain(&cli->out));
    if (r->cannot_run)
        printf("%scannot be run: %s%s\n", qn_term_red(&cli->out), r->cannot_run, qn_term_plain(&cli->out));
    QN_TRY(print_figures(cli, r, err));
    QN_TRY(print_tensors(cli, r, err));
    QN_TRY(print_layers(cli, r, err));
    if (!isnan(r->noise_kl))
        printf("\nmeasured again on other threads and batches: the divergence moves by %.1e nats\n", r->noise_kl);
    qn_human_seconds(time, sizeof time, r->seconds);
    printf("\n  %s\n", time);
    return QN_OK;
}
