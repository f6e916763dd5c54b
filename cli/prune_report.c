/* prune_report.c: see prune_report.h. */
#include "cli/prune_report.h"
#include "base/err.h"
#include "cli/json_write.h"
#include "cli/table.h"
#include "cli/units.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

static uint32_t kept(const qn_prune *p, uint32_t f)
{
    return p->options->dry_run ? p->plan.keep[f] : p->groups->families[f].n_groups - p->cut->n_gone[f];
}

static qn_code family(qn_table *t, const qn_prune *p, uint32_t f, qn_err *err)
{
    const qn_family *a = &p->groups->families[f];
    const qn_repair_family *r = p->families ? &p->families[f] : NULL;
    const uint32_t k = kept(p, f);
    QN_TRY(qn_table_cell(t, err, "%s", a->name));
    QN_TRY(qn_table_cell(t, err, "%s", a->kind ? a->kind : ""));
    QN_TRY(qn_table_cell(t, err, "%" PRIu32 " of %" PRIu32, k, a->n_groups));
    if (!r || k == a->n_groups || !p->has_data) {
        QN_TRY(qn_table_cell(t, err, "%s", "-"));
        QN_TRY(qn_table_cell(t, err, "%s", "-"));
    } else {
        QN_TRY(qn_table_cell(t, err, "%.2e", r->before));
        QN_TRY(qn_table_cell(t, err, "%.2e", r->after));
    }
    const char *note = a->reason ? a->reason : r && r->note ? r->note : "";
    return qn_table_cell(t, err, "%s", note);
}

static qn_code print_families(qn_cli *cli, const qn_prune *p, qn_err *err)
{
    static const qn_column columns[] = {{.title = "family", .shrink = true}, {.title = "of"}, {"kept", .right = true}, {"error cut", .right = true},
                                        {"refitted", .right = true}, {.title = ""}};
    qn_table t;
    qn_code rc = QN_OK;
    qn_table_init(&t, &cli->out, &cli->arena, columns, 6, 2);
    for (uint32_t f = 0; f < p->groups->n_families && rc == QN_OK; f++)
        rc = family(&t, p, f, err);
    if (rc == QN_OK)
        qn_table_print(&t);
    qn_table_release(&t);
    return rc;
}

/* Reasons, each once, with how many channels it holds. */
static void print_frozen(const qn_prune *p)
{
    const qn_groups *s = p->groups;
    for (uint32_t i = 0; i < s->n_frozen; i++) {
        uint64_t n = 0;
        uint32_t n_weights = 0;
        bool told = false;
        for (uint32_t k = 0; k < s->n_frozen; k++) {
            if (strcmp(s->frozen[k].reason, s->frozen[i].reason) != 0)
                continue;
            told = told || k < i;
            n += s->frozen[k].n;
            n_weights++;
        }
        if (!told)
            printf("  frozen    %" PRIu64 " channels of %" PRIu32 " weight%s (%.80s%s): %s\n", n, n_weights, n_weights == 1 ? "" : "s",
                   s->frozen[i].value == QN_NO_VALUE ? s->graph->nodes[s->frozen[i].node].name : s->graph->values[s->frozen[i].value].name, n_weights == 1 ? "" : ", …", s->frozen[i].reason);
    }
}

static double percent(double after, double before)
{
    return before > 0 ? 100 * (1 - after / before) : 0;
}

static void print_cost(const qn_prune *p)
{
    const qn_cost *b = &p->cost_before, *a = p->options->dry_run ? &p->plan.cost : &p->cost_after;
    char x[32], y[32];
    qn_human_count(x, sizeof x, b->params);
    qn_human_count(y, sizeof y, a->params);
    printf("\n  parameters  %s -> %s, %.1f %% less\n", x, y, percent((double)a->params, (double)b->params));
    qn_human_count(x, sizeof x, (uint64_t)b->macs);
    qn_human_count(y, sizeof y, (uint64_t)a->macs);
    printf("  products    %s -> %s in a run, %.1f %% less\n", x, y, percent(a->macs, b->macs));
    if (p->options->dry_run)
        return;
    qn_human_bytes(x, sizeof x, p->bytes_before);
    qn_human_bytes(y, sizeof y, p->bytes_after);
    printf("  files       %s -> %s, %.1f %% less\n", x, y, percent((double)p->bytes_after, (double)p->bytes_before));
}

static void print_distance(const char *what, const qn_distance *d)
{
    printf("  %-11s output off by %.2f %%", what, 100 * d->rel);
    if (!isnan(d->same_top))
        printf(", largest value in the same place %.2f %%", 100 * d->same_top);
    printf(", loss %.4g\n", d->loss);
}

/* Layers and experts that went, by number. */
static void print_depth(const qn_prune *p)
{
    for (uint32_t i = 0, n = 0; p->layers_gone && i < p->n_layers; i++)
        if (p->layers_gone[i])
            printf("%s%" PRIu32, n++ ? ", " : "  layers gone ", i);
    if (p->layers_gone)
        printf("\n");
    for (uint32_t i = 0; p->experts_gone && i < p->n_layers; i++) {
        uint32_t n = 0;
        for (uint32_t e = 0; e < p->n_experts; e++)
            if (p->experts_gone[(uint64_t)i * p->n_experts + e]) {
                if (!n++)
                    printf("  experts gone of layer %" PRIu32 ": %" PRIu32, i, e);
                else
                    printf(", %" PRIu32, e);
            }
        if (n)
            printf("\n");
    }
}

qn_code qn_prune_text(qn_cli *cli, const qn_prune_facts *f, qn_err *err)
{
    const qn_prune *p = f->prune;
    char time[32], name[200];
    qn_printable(name, sizeof name, p->options->dry_run ? p->input : p->output, strlen(p->options->dry_run ? p->input : p->output));
    qn_human_seconds(time, sizeof time, f->seconds);
    printf("%s: %" PRIu32 " families, %" PRIu64 " of %" PRIu64 " channels could be cut\n\n", name, p->groups->n_families, p->groups->n_free,
           p->groups->n_channels - p->groups->n_outputs);
    QN_TRY(print_families(cli, p, err));
    print_frozen(p);
    print_cost(p);
    if (p->n_folded_norms)
        printf("  prepared    %" PRIu32 " batch norm%s folded into the products before them\n", p->n_folded_norms, p->n_folded_norms == 1 ? "" : "s");
    if (p->options->dry_run) {
        printf("  nothing written: a dry run, %s\n", time);
        return QN_OK;
    }
    if (p->measured && p->zeroed.n_rows)
        print_distance("cut", &p->zeroed);
    if (p->measured && p->repaired.n_rows && p->options->allocate.repair.refit)
        print_distance("refitted", &p->repaired);
    if (p->options->recover) {
        print_distance("recovered", &p->recovered);
        printf("  training    %" PRIu32 " steps, loss %.3g -> %.3g; on data held out %.3g -> %.3g%s\n", p->recovery.steps, p->recovery.first_loss,
               p->recovery.last_loss, p->recovery.held_out_before, p->recovery.held_out_after, p->recovery.resumed ? " (resumed)" : "");
    }
    print_depth(p);
    if (p->options->sparsity) {
        printf("  sparse      %.1f %% of %" PRIu64 " weights are 0\n", 100 * p->sparsity.ratio, p->sparsity.n);
        if (p->measured)
            print_distance("with zeros", &p->sparsity.distance);
    }
    printf("  proof       %.2g apart from the zeroed model over %" PRIu64 " run%s%s\n", p->proof, p->proof_runs, p->proof_runs == 1 ? "" : "s",
           p->exact ? "" : " (norms over cut widths: not exact)");
    if (p->rounding > 0)
        printf("              the last bit of the weights alone moves this model by %.2g\n", p->rounding);
    printf("  time        %s\n", time);
    return QN_OK;
}

static void json_cost(qn_json_writer *j, const char *key, const qn_cost *c, uint64_t bytes)
{
    qn_jw_begin(j, key, '{');
    qn_jw_u64(j, "params", c->params);
    qn_jw_real(j, "macs", c->macs);
    qn_jw_u64(j, "weight_bytes", c->bytes);
    if (bytes)
        qn_jw_u64(j, "bytes", bytes);
    qn_jw_end(j, '}');
}

static void json_distance(qn_json_writer *j, const char *key, const qn_distance *d)
{
    if (!d->n_rows)
        return;
    qn_jw_begin(j, key, '{');
    qn_jw_real(j, "loss", d->loss);
    qn_jw_real(j, "rel_rms", d->rel);
    qn_jw_real(j, "same_top", d->same_top);
    qn_jw_u64(j, "rows", d->n_rows);
    qn_jw_end(j, '}');
}

static void json_families(qn_json_writer *j, const qn_prune *p)
{
    qn_jw_begin(j, "families", '[');
    for (uint32_t f = 0; f < p->groups->n_families; f++) {
        const qn_family *a = &p->groups->families[f];
        qn_jw_begin(j, NULL, '{');
        qn_jw_text(j, "name", a->name);
        qn_jw_text(j, "kind", a->kind);
        qn_jw_u64(j, "groups", a->n_groups);
        qn_jw_u64(j, "kept", kept(p, f));
        qn_jw_bool(j, "exact", a->reason == NULL);
        qn_jw_text(j, "reason", a->reason);
        if (p->families && p->has_data) {
            qn_jw_real(j, "error_cut", p->families[f].before);
            qn_jw_real(j, "error_refitted", p->families[f].after);
            qn_jw_bool(j, "refitted", p->families[f].refitted);
            qn_jw_text(j, "note", p->families[f].note);
        }
        qn_jw_end(j, '}');
    }
    qn_jw_end(j, ']');
    qn_jw_begin(j, "frozen", '[');
    for (uint32_t i = 0; i < p->groups->n_frozen; i++) {
        const qn_frozen *z = &p->groups->frozen[i];
        qn_jw_begin(j, NULL, '{');
        qn_jw_text(j, "weight", z->value == QN_NO_VALUE ? p->graph->nodes[z->node].name : p->graph->values[z->value].name);
        qn_jw_u64(j, "axis", z->axis);
        qn_jw_u64(j, "channels", z->n);
        qn_jw_u64(j, "of", z->of);
        qn_jw_text(j, "reason", z->reason);
        qn_jw_end(j, '}');
    }
    qn_jw_end(j, ']');
}

static void json_depth(qn_json_writer *j, const qn_prune *p)
{
    if (p->layers_gone) {
        qn_jw_begin(j, "layers_gone", '[');
        for (uint32_t i = 0; i < p->n_layers; i++)
            if (p->layers_gone[i])
                qn_jw_u64(j, NULL, i);
        qn_jw_end(j, ']');
    }
    if (p->experts_gone) {
        qn_jw_begin(j, "experts_gone", '[');
        for (uint32_t i = 0; i < p->n_layers; i++) {
            qn_jw_begin(j, NULL, '[');
            for (uint32_t e = 0; e < p->n_experts; e++)
                if (p->experts_gone[(uint64_t)i * p->n_experts + e])
                    qn_jw_u64(j, NULL, e);
            qn_jw_end(j, ']');
        }
        qn_jw_end(j, ']');
    }
}

void qn_prune_json(const qn_prune_facts *f)
{
    const qn_prune *p = f->prune;
    const bool dry = p->options->dry_run;
    qn_json_writer j;
    qn_jw_open(&j, stdout, "prune");
    qn_jw_text(&j, "model", p->input);
    qn_jw_text(&j, "output", p->output);
    qn_jw_text(&j, "data", f->data);
    qn_jw_bool(&j, "dry_run", dry);
    qn_jw_real(&j, "ratio", p->options->allocate.share);
    qn_jw_text(&j, "by", f->by);
    qn_jw_real(&j, "share", p->plan.share);
    qn_jw_bool(&j, "reached", p->plan.reached);
    qn_jw_u64(&j, "channels", p->groups->n_channels - p->groups->n_outputs);
    qn_jw_u64(&j, "channels_free", p->groups->n_free);
    qn_jw_u64(&j, "norms_folded", p->n_folded_norms);
    json_cost(&j, "before", &p->cost_before, p->bytes_before);
    json_cost(&j, "after", dry ? &p->plan.cost : &p->cost_after, p->bytes_after);
    json_families(&j, p);
    json_distance(&j, "cut", &p->zeroed);
    json_distance(&j, "refitted", &p->repaired);
    json_distance(&j, "recovered", &p->recovered);
    if (p->options->recover && !dry) {
        qn_jw_begin(&j, "training", '{');
        qn_jw_u64(&j, "steps", p->recovery.steps);
        qn_jw_u64(&j, "steps_resumed", p->recovery.resumed);
        qn_jw_real(&j, "first_loss", p->recovery.first_loss);
        qn_jw_real(&j, "last_loss", p->recovery.last_loss);
        qn_jw_real(&j, "held_out_before", p->recovery.held_out_before);
        qn_jw_real(&j, "held_out_after", p->recovery.held_out_after);
        qn_jw_end(&j, '}');
    }
    json_depth(&j, p);
    if (p->options->sparsity && !dry) {
        qn_jw_begin(&j, "sparsity", '{');
        qn_jw_real(&j, "ratio", p->sparsity.ratio);
        qn_jw_u64(&j, "weights", p->sparsity.n);
        qn_jw_u64(&j, "zeros", p->sparsity.n_zero);
        json_distance(&j, "distance", &p->sparsity.distance);
        qn_jw_end(&j, '}');
    }
    if (!dry) {
        qn_jw_begin(&j, "proof", '{');
        qn_jw_real(&j, "largest", p->proof);
        qn_jw_real(&j, "change", p->proof_change);
        qn_jw_u64(&j, "runs", p->proof_runs);
        if (p->rounding > 0)
            qn_jw_real(&j, "rounding", p->rounding);
        qn_jw_bool(&j, "exact", p->exact);
        qn_jw_end(&j, '}');
    }
    qn_jw_real(&j, "seconds", f->seconds);
    qn_jw_close(&j);
}
