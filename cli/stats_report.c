/* stats_report.c: see stats_report.h. Everything comes from the vectors; H itself is not read. */
#include "cli/stats_report.h"
#include "base/err.h"
#include "cli/table.h"
#include "cli/units.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* One entry in a few numbers. NaN: not known. */
struct figures {
    double mean_abs, rms, max_abs;
    double outlier; /* largest RMS of a column / RMS of all                         */
    double mean_share; /* part of Σ x² that the columns' means make                  */
    uint64_t n_dead; /* columns that were always 0                                    */
    bool low_rank; /* fewer rows than columns: H cannot have full rank                */
};

static void measure(const qn_stats_input *in, const qn_stats_vectors *v, struct figures *g)
{
    const double rows = (double)in->count, all = rows * in->n;
    double sq = 0, sum_abs = 0, of_means = 0, most_sq = 0;
    *g = (struct figures){.mean_abs = (double)NAN, .rms = (double)NAN, .max_abs = (double)NAN, .outlier = (double)NAN,
                          .mean_share = (double)NAN, .low_rank = in->count < in->n};
    for (uint32_t i = 0; i < in->n; i++) {
        sq += v->sum_sq[i];
        most_sq = v->sum_sq[i] > most_sq ? v->sum_sq[i] : most_sq;
        g->n_dead += v->sum_sq[i] <= 0;
        sum_abs += v->sum ? v->sum_abs[i] : 0;
        of_means += v->sum ? v->sum[i] * (v->sum[i] / rows) : 0;
    }
    if (in->count == 0)
        return;
    g->rms = sqrt(sq / all);
    if (sq > 0)
        g->outlier = sqrt(most_sq / rows) / g->rms;
    if (v->sum) {
        g->mean_abs = sum_abs / all;
        if (sq > 0)
            g->mean_share = of_means / sq;
    }
    if (v->min) {
        g->max_abs = 0;
        for (uint32_t i = 0; i < in->n; i++)
            g->max_abs = fmax(g->max_abs, fmax(-(double)v->min[i], (double)v->max[i]));
    }
}

static qn_code number(qn_table *t, double v, const char *fmt, qn_err *err) __attribute__((format(printf, 3, 0)));
static qn_code number(qn_table *t, double v, const char *fmt, qn_err *err)
{
    char text[40] = "";
    if (!isnan(v))
        (void)snprintf(text, sizeof text, fmt, v);
    return qn_table_cell(t, err, "%s", text);
}

/* What should make one look twice, in a word each. */
static void notes(char *buf, size_t n, const qn_stats_view *view, const qn_stats_item *it, const struct figures *g)
{
    size_t at = 0;
    buf[0] = '\0';
    if (qn_stats_is_starved(view->f, it, view->starved))
        at += (size_t)snprintf(buf + at, n - at, "starved");
    else if (g->low_rank)
        at += (size_t)snprintf(buf + at, n - at, "rank < n");
    if (g->n_dead && at < n)
        at += (size_t)snprintf(buf + at, n - at, "%s%llu dead", at ? ", " : "", (unsigned long long)g->n_dead);
    if (g->outlier > 8 && at < n)
        at += (size_t)snprintf(buf + at, n - at, "%soutliers", at ? ", " : "");
    if (g->mean_share > 0.5 && at < n)
        (void)snprintf(buf + at, n - at, "%smean dominates", at ? ", " : "");
}

static qn_code add_row(qn_table *t, const qn_stats_view *view, const qn_stats_item *it, qn_err *err)
{
    const qn_stats_input *in = &view->f->inputs[it->input];
    struct figures g;
    qn_stats_vectors v;
    char note[120], expert[24] = "";
    QN_TRY(qn_stats_vectors_read(view->f, it->input, &v, err));
    measure(in, &v, &g);
    qn_stats_vectors_release(view->f, &v);
    notes(note, sizeof note, view, it, &g);
    if (it->expert != QN_STATS_NO_EXPERT)
        (void)snprintf(expert, sizeof expert, "[%lu]", (unsigned long)it->expert);
    QN_TRY(qn_table_cell(t, err, "%s%s", it->name, expert));
    QN_TRY(qn_table_cell(t, err, "%s", in->parts & QN_STATS_HAS_H ? "H" : "diagonal"));
    QN_TRY(qn_table_cell(t, err, "%lu", (unsigned long)in->n));
    QN_TRY(qn_table_cell(t, err, "%llu", (unsigned long long)in->count));
    QN_TRY(number(t, g.mean_abs, "%.3g", err));
    QN_TRY(number(t, g.rms, "%.3g", err));
    QN_TRY(number(t, g.max_abs, "%.3g", err));
    QN_TRY(number(t, g.outlier, "%.1f", err));
    if (view->f->n_costs) {
        double a = (double)NAN;
        (void)qn_stats_sensitivity(view->f, it, &a);
        QN_TRY(number(t, a, "%.3g", err));
    }
    return qn_table_cell(t, err, "%s", note);
}

static qn_code print_entries(qn_cli *cli, const qn_stats_view *view, uint64_t *n_starved, qn_err *err)
{
    static const qn_column without[] = {{.title = "tensor", .shrink = true}, {.title = "kind"}, {"n", .right = true},
                                        {"rows", .right = true}, {"mean |x|", .right = true}, {"rms", .right = true},
                                        {"max |x|", .right = true}, {"worst/rms", .right = true}, {.title = "notes"}};
    static const qn_column with[] = {{.title = "tensor", .shrink = true}, {.title = "kind"}, {"n", .right = true},
                                     {"rows", .right = true}, {"mean |x|", .right = true}, {"rms", .right = true},
                                     {"max |x|", .right = true}, {"worst/rms", .right = true}, {"sensitivity", .right = true},
                                     {.title = "notes"}};
    qn_table t;
    uint64_t n = 0;
    const bool costs = view->f->n_costs > 0;
    qn_table_init(&t, &cli->out, &cli->arena, costs ? with : without,
                  costs ? sizeof with / sizeof with[0] : sizeof without / sizeof without[0], 2);
    qn_code rc = QN_OK;
    *n_starved = 0;
    for (uint32_t i = 0; i < view->f->n_items && rc == QN_OK; i++) {
        const qn_stats_item *it = &view->f->items[i];
        if (!qn_patterns_want(view->patterns, it->name))
            continue;
        rc = add_row(&t, view, it, err);
        *n_starved += qn_stats_is_starved(view->f, it, view->starved);
        n++;
    }
    if (rc == QN_OK && n)
        qn_table_print(&t);
    qn_table_release(&t);
    return rc;
}

static bool is_known(const qn_digest *d)
{
    static const qn_digest none;
    return !qn_digest_equal(d, &none);
}

qn_code qn_stats_text(qn_cli *cli, const qn_stats_view *view, qn_err *err)
{
    const qn_stats_file *f = view->f;
    char name[200], size[32], tokens[32], sequences[32];
    uint64_t n_starved;
    qn_printable(name, sizeof name, f->file.path, strlen(f->file.path));
    qn_human_bytes(size, sizeof size, f->end);
    printf("%s%s%s: statistics of %lu inputs of %lu tensors, %s%s\n", qn_term_bold(&cli->out), name, qn_term_plain(&cli->out),
           (unsigned long)f->n_inputs, (unsigned long)f->n_items, size, f->complete ? "" : ", of a run that has not ended");
    qn_grouped(tokens, sizeof tokens, f->meta.tokens);
    qn_grouped(sequences, sizeof sequences, f->meta.sequences);
    if (f->meta.tokens)
        printf("  %s tokens in %s sequences", tokens, sequences);
    else if (f->meta.sequences)
        printf("  %s sequences", sequences);
    if (f->meta.context && (f->meta.tokens || f->meta.sequences))
        printf(" of up to %lu", (unsigned long)f->meta.context);
    if (f->meta.tokens || f->meta.sequences)
        putchar('\n');
    for (uint32_t i = 0; i < f->meta.n_sources; i++) {
        qn_printable(name, sizeof name, f->meta.sources[i].label, strlen(f->meta.sources[i].label));
        printf("  data: %s\n", name);
    }
    for (uint32_t i = 0; i < f->meta.n_props; i++) {
        char value[200];
        qn_printable(name, sizeof name, f->meta.props[i].key, strlen(f->meta.props[i].key));
        qn_printable(value, sizeof value, f->meta.props[i].value, strlen(f->meta.props[i].value));
        printf("  %s: %s\n", name, value);
    }
    putchar('\n');
    QN_TRY(print_entries(cli, view, &n_starved, err));
    if (n_starved)
        printf("%llu starved: experts with fewer than %llu rows say little about their inputs\n", (unsigned long long)n_starved,
               (unsigned long long)view->starved);
    return QN_OK;
}

static void digest(qn_json_writer *j, const char *key, const qn_digest *d)
{
    char hex[33];
    qn_digest_hex(d, hex);
    qn_jw_text(j, key, is_known(d) ? hex : NULL);
}

static qn_code json_entry(qn_json_writer *j, const qn_stats_view *view, const qn_stats_item *it, qn_err *err)
{
    const qn_stats_input *in = &view->f->inputs[it->input];
    struct figures g;
    qn_stats_vectors v;
    QN_TRY(qn_stats_vectors_read(view->f, it->input, &v, err));
    measure(in, &v, &g);
    qn_jw_begin(j, NULL, '{');
    qn_jw_text(j, "name", it->name);
    if (it->expert != QN_STATS_NO_EXPERT)
        qn_jw_u64(j, "expert", it->expert);
    qn_jw_u64(j, "input", it->input);
    qn_jw_text(j, "kind", in->parts & QN_STATS_HAS_H ? "h" : "diagonal");
    qn_jw_u64(j, "n", in->n);
    qn_jw_u64(j, "rows", in->count);
    qn_jw_real(j, "mean_abs", g.mean_abs);
    qn_jw_real(j, "rms", g.rms);
    qn_jw_real(j, "max_abs", g.max_abs);
    qn_jw_real(j, "worst_over_rms", g.outlier);
    qn_jw_real(j, "mean_share", g.mean_share);
    qn_jw_u64(j, "dead_columns", g.n_dead);
    double a;
    if (qn_stats_sensitivity(view->f, it, &a)) {
        qn_jw_real(j, "sensitivity", a);
        qn_jw_real(j, "sensitivity_kl", it->cost->kl);
        qn_jw_real(j, "sensitivity_noise", it->cost->noise);
        qn_jw_u64(j, "sensitivity_tokens", it->cost->tokens);
    }
    qn_jw_bool(j, "low_rank", g.low_rank);
    qn_jw_bool(j, "starved", qn_stats_is_starved(view->f, it, view->starved));
    qn_jw_u64(j, "outputs", in->names[it->at].n_outputs);
    qn_jw_end(j, '}');
    qn_stats_vectors_release(view->f, &v);
    return QN_OK;
}

qn_code qn_stats_json(qn_json_writer *j, const qn_stats_view *view, qn_err *err)
{
    const qn_stats_file *f = view->f;
    qn_jw_begin(j, NULL, '{');
    qn_jw_text(j, "input", f->file.path);
    qn_jw_u64(j, "bytes", f->end);
    qn_jw_bool(j, "complete", f->complete);
    digest(j, "model", &f->meta.model);
    digest(j, "tokenizer", &f->meta.tokenizer);
    digest(j, "settings", &f->meta.settings);
    qn_jw_u64(j, "tokens", f->meta.tokens);
    qn_jw_u64(j, "sequences", f->meta.sequences);
    qn_jw_u64(j, "context", f->meta.context);
    qn_jw_begin(j, "data", '[');
    for (uint32_t i = 0; i < f->meta.n_sources; i++) {
        qn_jw_begin(j, NULL, '{');
        qn_jw_text(j, "label", f->meta.sources[i].label);
        digest(j, "digest", &f->meta.sources[i].digest);
        qn_jw_u64(j, "tokens", f->meta.sources[i].tokens);
        qn_jw_end(j, '}');
    }
    qn_jw_end(j, ']');
    qn_jw_begin(j, "provenance", '{');
    for (uint32_t i = 0; i < f->meta.n_props; i++)
        qn_jw_text(j, f->meta.props[i].key, f->meta.props[i].value);
    qn_jw_end(j, '}');
    qn_jw_begin(j, "entries", '[');
    for (uint32_t i = 0; i < f->n_items; i++)
        if (qn_patterns_want(view->patterns, f->items[i].name))
            QN_TRY(json_entry(j, view, &f->items[i], err));
    qn_jw_end(j, ']');
    qn_jw_end(j, '}');
    return QN_OK;
}
