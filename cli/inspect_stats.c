/* inspect_stats.c: the tables of inspect --stats; see inspect_report.h. */
#include "base/err.h"
#include "cli/inspect_report.h"
#include "cli/table.h"
#include "cli/units.h"
#include <math.h>
#include <string.h>

static double per_value(uint64_t n_bytes, uint64_t n_values)
{
    return n_values ? (double)n_bytes * 8 / (double)n_values : 0;
}

static qn_code level_cell(qn_table *t, const qn_survey_row *r, unsigned level, qn_err *err)
{
    return qn_table_cell(t, err, "%s%.2f", r->level_exact[level] || r->stats.n_values == 0 ? "" : "~",
                         per_value(r->level_bytes[level], r->stats.n_values));
}

/* How small: bits per weight. */
static qn_code print_sizes(qn_cli *cli, const qn_inspection *x, qn_err *err)
{
    static const qn_column columns[] = {{.title = "tensor", .shrink = true}, {.title = "dtype"}, {"exp", .right = true},
                                        {"bound", .right = true}, {"fast", .right = true}, {"dense", .right = true},
                                        {"max", .right = true}};
    qn_table t;
    qn_table_init(&t, &cli->out, &cli->arena, columns, 7, 2);
    qn_code rc = QN_OK;
    for (uint64_t i = 0; i < x->n_tensors && rc == QN_OK; i++) {
        const qn_source_tensor *o = &x->source->tensors[x->order[i]];
        const qn_survey_row *r = qn_inspection_row(x, x->order[i]);
        rc = qn_table_cell(&t, err, "%s", o->name);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%s", qn_dtype_name((qn_dtype)o->dtype));
        if (rc == QN_OK)
            rc = r->stats.has_exponent ? qn_table_cell(&t, err, "%.2f", r->stats.exponent_bits)
                                       : qn_table_cell(&t, err, "%s", "-");
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%.2f", r->stats.bound_bits);
        for (unsigned l = QN_LEVEL_FAST; l < QN_LEVELS && rc == QN_OK; l++)
            rc = level_cell(&t, r, l, err);
    }
    if (rc == QN_OK)
        qn_table_print(&t);
    qn_table_release(&t);
    return rc;
}

static qn_code number_cell(qn_table *t, bool known, double v, qn_err *err)
{
    return known ? qn_table_cell(t, err, "%.3g", v) : qn_table_cell(t, err, "%s", "-");
}

/* What values. */
static qn_code print_values(qn_cli *cli, const qn_inspection *x, qn_err *err)
{
    static const qn_column columns[] = {{.title = "tensor", .shrink = true}, {"min", .right = true}, {"max", .right = true},
                                        {"mean", .right = true}, {"std", .right = true}, {"zeros", .right = true}};
    qn_table t;
    qn_table_init(&t, &cli->out, &cli->arena, columns, 6, 2);
    qn_code rc = QN_OK;
    for (uint64_t i = 0; i < x->n_tensors && rc == QN_OK; i++) {
        const qn_tensor_stats *s = &qn_inspection_row(x, x->order[i])->stats;
        const bool some = s->numeric && s->n_finite;
        rc = qn_table_cell(&t, err, "%s", x->source->tensors[x->order[i]].name);
        if (rc == QN_OK)
            rc = number_cell(&t, some, s->min, err);
        if (rc == QN_OK)
            rc = number_cell(&t, some, s->max, err);
        if (rc == QN_OK)
            rc = number_cell(&t, some, s->mean, err);
        if (rc == QN_OK)
            rc = number_cell(&t, some, s->std, err);
        if (rc == QN_OK)
            rc = s->n_zero ? qn_table_cell(&t, err, "%.3g %%", (double)s->n_zero * 100 / (double)s->n_values)
                           : qn_table_cell(&t, err, "%s", some ? "0" : "-");
    }
    if (rc == QN_OK)
        qn_table_print(&t);
    qn_table_release(&t);
    return rc;
}

/* Remarks: a sentence, and the tensors it holds for. */
typedef bool (*remark_fn)(const qn_inspection *x, const qn_survey_row *r, char *detail, size_t n);

static bool is_hidden(const qn_inspection *x, const qn_survey_row *r, char *detail, size_t n)
{
    const qn_tensor_stats *s = &r->stats;
    if (s->hidden == QN_BYTES)
        return false;
    const char *wide = qn_dtype_name((qn_dtype)x->source->tensors[r->tensor].dtype);
    if (s->n_hidden_exceptions)
        snprintf(detail, n, "%s in %s, but for %llu values", qn_dtype_name(s->hidden), wide,
                 (unsigned long long)s->n_hidden_exceptions);
    else
        snprintf(detail, n, "%s in %s", qn_dtype_name(s->hidden), wide);
    return true;
}

static bool has_few_bits(const qn_inspection *x, const qn_survey_row *r, char *detail, size_t n)
{
    (void)x;
    if (r->stats.hidden != QN_BYTES || !r->stats.has_exponent || r->stats.trailing_zeros == 0 || r->stats.n_distinct == 1)
        return false;
    snprintf(detail, n, "lowest %u bits", r->stats.trailing_zeros);
    return true;
}

static bool is_duplicate(const qn_inspection *x, const qn_survey_row *r, char *detail, size_t n)
{
    if (r->duplicate_of == UINT64_MAX || r->stats.n_distinct == 1)
        return false;
    snprintf(detail, n, "= %s", x->source->tensors[x->survey.rows[r->duplicate_of].tensor].name);
    return true;
}

static bool is_constant(const qn_inspection *x, const qn_survey_row *r, char *detail, size_t n)
{
    (void)x;
    if (r->stats.n_distinct != 1 || r->stats.n_values < 2)
        return false;
    if (r->stats.n_finite)
        snprintf(detail, n, "%.6g", r->stats.mean);
    else
        detail[0] = '\0';
    return true;
}

static bool has_few_values(const qn_inspection *x, const qn_survey_row *r, char *detail, size_t n)
{
    (void)x;
    if (r->stats.n_distinct < 2 || r->stats.n_values < 4096)
        return false;
    snprintf(detail, n, "%u", r->stats.n_distinct);
    return qn_dtype_bits((qn_dtype)x->source->tensors[r->tensor].dtype) > 8 || r->stats.n_distinct <= 64;
}

static bool is_not_finite(const qn_inspection *x, const qn_survey_row *r, char *detail, size_t n)
{
    (void)x;
    if (r->stats.n_nan == 0 && r->stats.n_inf == 0)
        return false;
    snprintf(detail, n, "%llu NaN, %llu Inf", (unsigned long long)r->stats.n_nan, (unsigned long long)r->stats.n_inf);
    return true;
}

static bool has_subnormals(const qn_inspection *x, const qn_survey_row *r, char *detail, size_t n)
{
    (void)x;
    if (r->stats.n_subnormal == 0)
        return false;
    snprintf(detail, n, "%.3g %%", (double)r->stats.n_subnormal * 100 / (double)r->stats.n_values);
    return true;
}

static const struct {
    const char *one, *many;
    remark_fn holds;
} remarks[] = {
    {"has values that are not finite", "have values that are not finite", is_not_finite},
    {"would fit a narrower type", "would fit a narrower type", is_hidden},
    {"has zeros in its lowest bits", "have zeros in their lowest bits", has_few_bits},
    {"is equal to another", "are equal to others", is_duplicate},
    {"holds one value, repeated", "hold one value, repeated", is_constant},
    {"has few distinct values", "have few distinct values", has_few_values},
    {"has subnormal numbers", "have subnormal numbers", has_subnormals},
};

static void print_remarks(const qn_cli *cli, const qn_inspection *x)
{
    enum { SHOWN = 4 };
    for (size_t k = 0; k < sizeof remarks / sizeof remarks[0]; k++) {
        char detail[300], name[160], shown[300];
        uint64_t n = 0;
        for (uint64_t i = 0; i < x->n_tensors; i++)
            n += remarks[k].holds(x, qn_inspection_row(x, x->order[i]), detail, sizeof detail);
        if (n == 0)
            continue;
        printf("\n  %llu tensor%s %s:\n", (unsigned long long)n, n == 1 ? "" : "s", n == 1 ? remarks[k].one : remarks[k].many);
        uint64_t left = SHOWN;
        for (uint64_t i = 0; i < x->n_tensors && left; i++) {
            if (!remarks[k].holds(x, qn_inspection_row(x, x->order[i]), detail, sizeof detail))
                continue;
            const char *raw = x->source->tensors[x->order[i]].name;
            qn_printable(name, sizeof name, raw, strlen(raw));
            qn_printable(shown, sizeof shown, detail, strlen(detail));
            printf("    %s%s%s\n", name, *shown ? "  " : "", shown);
            left--;
        }
        if (n > SHOWN)
            printf("    %s and %llu more\n", cli->out.utf8 ? "…" : "...", (unsigned long long)(n - SHOWN));
    }
}

static void print_sums(const qn_cli *cli, const qn_inspection *x)
{
    static const char *const names[QN_LEVELS] = {"", "fast", "dense", "max"};
    const qn_survey *v = &x->survey;
    const double total = (double)v->tensor_bytes;
    char size[32];
    if (v->tensor_bytes == 0)
        return;
    qn_human_bytes(size, sizeof size, v->tensor_bytes);
    printf("\n  %-16s %10s\n", x->filtered ? "these tensors" : "all tensors", size);
    if (v->n_duplicates) {
        qn_human_bytes(size, sizeof size, v->duplicate_bytes);
        printf("  %-16s %10s  %5.1f %%  stored once\n", "duplicates", size, (double)v->duplicate_bytes * 100 / total);
    }
    qn_human_bytes(size, sizeof size, (uint64_t)v->bound_bytes);
    printf("  %-16s %10s  %5.1f %%  what coding each tensor's exponents alone cannot beat\n", "order-0 bound", size,
           v->bound_bytes * 100 / total);
    for (unsigned l = QN_LEVEL_FAST; l < QN_LEVELS; l++) {
        qn_human_bytes(size, sizeof size, v->level_bytes[l]);
        printf("  --lossless=%-5s %10s  %s%5.1f %%%s  %s\n", names[l], size, qn_term_green(&cli->out),
               (double)v->level_bytes[l] * 100 / total, qn_term_plain(&cli->out),
               v->level_exact[l] ? "all encoded" : "estimated from a sample (~)");
    }
}

qn_code qn_inspect_stats_text(qn_cli *cli, const qn_inspection *x, qn_err *err)
{
    if (x->n_tensors == 0)
        return QN_OK;
    printf("  bits per weight:\n");
    QN_TRY(print_sizes(cli, x, err));
    printf("\n  values:\n");
    QN_TRY(print_values(cli, x, err));
    print_remarks(cli, x);
    print_sums(cli, x);
    return QN_OK;
}
