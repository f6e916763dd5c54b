/* diff_report.c: see diff_report.h. */
#include "cli/diff_report.h"
#include "base/err.h"
#include "base/num.h"
#include "cli/inspect_report.h"
#include "cli/json_write.h"
#include "cli/table.h"
#include "cli/units.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_SHOWN = 40 };

static const char *const words[QN_DIFF_STATUS_COUNT] = {"equal", "values", "dtype", "shape", "only in A", "only in B", "header"};

/* What the JSON says; a part of the schema. */
static const char *const keywords[QN_DIFF_STATUS_COUNT] = {"equal", "values", "dtype", "shape", "only_a", "only_b", "header"};

static qn_code real_cell(qn_table *t, bool known, const char *fmt_known, double v, qn_err *err)
{
    char text[64];
    if (!known)
        return qn_table_cell(t, err, "%s", "");
    if (isinf(v))
        return qn_table_cell(t, err, "%s", v > 0 ? "inf" : "-inf");
    if (strcmp(fmt_known, "dB") == 0)
        snprintf(text, sizeof text, "%.1f", v);
    else if (strcmp(fmt_known, "cos") == 0)
        snprintf(text, sizeof text, "%.6f", v);
    else
        snprintf(text, sizeof text, "%.3g", v);
    return qn_table_cell(t, err, "%s", text);
}

static void what_text(char *buf, size_t n, const qn_diff_facts *f, const qn_diff_row *r)
{
    if (r->status == QN_DIFF_DTYPE) {
        snprintf(buf, n, "%s / %s", qn_dtype_name((qn_dtype)f->a->tensors[r->a].dtype),
                 qn_dtype_name((qn_dtype)f->b->tensors[r->b].dtype));
    } else if (r->status == QN_DIFF_SHAPE) {
        char x[120], y[120];
        qn_shape_text(x, sizeof x, &f->a->tensors[r->a]);
        qn_shape_text(y, sizeof y, &f->b->tensors[r->b]);
        snprintf(buf, n, "%s / %s", x, y);
    } else {
        snprintf(buf, n, "%s", words[r->status]);
    }
}

/* The cosine says little that the relative error does not: on a narrow terminal the names need its room. */
static bool has_room(const qn_term *term)
{
    return term->width == 0 || term->width >= 110;
}

static qn_code tensor_row(qn_table *t, const qn_diff_facts *f, const qn_diff_row *r, qn_err *err)
{
    char what[260], count[32];
    const bool m = r->measured;
    what_text(what, sizeof what, f, r);
    if (has_room(t->term))
        qn_grouped(count, sizeof count, r->n_differing);
    else
        qn_human_count(count, sizeof count, r->n_differing);
    QN_TRY(qn_table_cell(t, err, "%s", r->name));
    QN_TRY(qn_table_cell(t, err, "%s", what));
    QN_TRY(qn_table_cell(t, err, "%s", m || r->status == QN_DIFF_VALUES ? count : ""));
    QN_TRY(real_cell(t, m, "g", r->e.max_abs, err));
    QN_TRY(real_cell(t, m, "g", qn_errsum_rel_rms(&r->e), err));
    QN_TRY(real_cell(t, m, "dB", qn_errsum_sqnr_db(&r->e), err));
    if (has_room(t->term))
        QN_TRY(real_cell(t, m, "cos", qn_errsum_cosine(&r->e), err));
    return f->tolerant ? qn_table_cell(t, err, "%s", r->within ? "within" : "outside") : QN_OK;
}

/* Worst first: what cannot be measured, then by relative error. */
static int by_badness(const void *a, const void *b)
{
    const qn_diff_row *x = *(const qn_diff_row *const *)a, *y = *(const qn_diff_row *const *)b;
    if (x->within != y->within)
        return x->within ? 1 : -1;
    if (x->measured != y->measured)
        return x->measured ? 1 : -1;
    const double ex = qn_errsum_rel_rms(&x->e), ey = qn_errsum_rel_rms(&y->e);
    if (x->measured && (ex > ey || ex < ey))
        return ex < ey ? 1 : -1;
    return x < y ? -1 : x > y;
}

static qn_code print_tensors(qn_cli *cli, const qn_diff_facts *f, qn_err *err)
{
    qn_column columns[8] = {{.title = "tensor", .shrink = true}, {.title = "A / B"}, {"differing", .right = true},
                            {"max abs", .right = true}, {"rel RMS", .right = true}, {"SQNR dB", .right = true}};
    unsigned n_columns = 6;
    if (has_room(&cli->out))
        columns[n_columns++] = (qn_column){"cosine", .right = true};
    if (f->tolerant)
        columns[n_columns++] = (qn_column){.title = "tolerance"};
    const qn_diff *d = f->diff;
    uint64_t n = 0;
    const qn_diff_row **rows = qn_mem_get(cli->env.alloc, d->n_rows * sizeof *rows, err);
    if (!rows)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < d->n_rows; i++)
        if (f->all || d->rows[i].status != QN_DIFF_EQUAL)
            rows[n++] = &d->rows[i];
    const uint64_t shown = f->all ? n : qn_min_u64(n, ROWS_SHOWN);
    if (shown < n)
        qsort(rows, (size_t)n, sizeof *rows, by_badness);
    qn_table t;
    qn_table_init(&t, &cli->out, &cli->arena, columns, n_columns, 2);
    qn_code rc = QN_OK;
    for (uint64_t i = 0; i < shown && rc == QN_OK; i++)
        rc = tensor_row(&t, f, rows[i], err);
    if (rc == QN_OK && shown) {
        qn_table_print(&t);
        if (shown < n)
            printf("  the %llu that differ most, of %llu; --all lists every tensor\n", (unsigned long long)shown,
                   (unsigned long long)n);
        putchar('\n');
    }
    qn_table_release(&t);
    qn_mem_put(cli->env.alloc, rows);
    return rc;
}

/* NaNs and infinities on one side only, and the first differing element, where there is one to point at. */
static void print_details(const qn_diff_facts *f)
{
    enum { SHOWN = 6 };
    unsigned left = SHOWN;
    for (uint64_t i = 0; i < f->diff->n_rows && left; i++) {
        const qn_diff_row *r = &f->diff->rows[i];
        char name[160];
        if (!r->measured || (r->e.n_nan_mismatch == 0 && r->e.n_inf_mismatch == 0))
            continue;
        qn_printable(name, sizeof name, r->name, strlen(r->name));
        printf("  %s: %llu values are NaN on one side only, %llu are Inf on one side only\n", name,
               (unsigned long long)r->e.n_nan_mismatch, (unsigned long long)r->e.n_inf_mismatch);
        left--;
    }
    if (left < SHOWN)
        putchar('\n');
}

static qn_code print_files(qn_cli *cli, const qn_diff_facts *f, qn_err *err)
{
    static const qn_column columns[] = {{.title = "file", .shrink = true}, {.title = "A / B"}, {"size in A", .right = true},
                                        {"size in B", .right = true}};
    static const char *const file_words[QN_DIFF_STATUS_COUNT] = {
        [QN_DIFF_EQUAL] = "equal",         [QN_DIFF_VALUES] = "bytes differ", [QN_DIFF_ONLY_A] = "only in A",
        [QN_DIFF_ONLY_B] = "only in B", [QN_DIFF_HEADER] = "same tensors, header differs"};
    qn_table t;
    uint64_t n = 0;
    qn_table_init(&t, &cli->out, &cli->arena, columns, 4, 2);
    qn_code rc = QN_OK;
    for (uint64_t i = 0; i < f->diff->n_files && rc == QN_OK; i++) {
        const qn_diff_file *x = &f->diff->files[i];
        char a[32] = "", b[32] = "";
        if ((!f->all && x->status == QN_DIFF_EQUAL) || (!f->all && n >= ROWS_SHOWN))
            continue;
        n++;
        if (x->status != QN_DIFF_ONLY_B)
            qn_human_bytes(a, sizeof a, x->a_bytes);
        if (x->status != QN_DIFF_ONLY_A)
            qn_human_bytes(b, sizeof b, x->b_bytes);
        rc = qn_table_cell(&t, err, "%s", x->path);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%s", file_words[x->status]);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%s", a);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%s", b);
    }
    if (rc == QN_OK && n) {
        qn_table_print(&t);
        putchar('\n');
    }
    qn_table_release(&t);
    return rc;
}

static void print_side(const qn_cli *cli, char letter, const qn_source *s)
{
    char name[200], size[32];
    uint64_t n_bytes = 0;
    for (uint64_t i = 0; i < s->n_files; i++)
        n_bytes += s->files[i].n_bytes;
    qn_human_bytes(size, sizeof size, n_bytes);
    qn_printable(name, sizeof name, qn_source_given(s), strlen(qn_source_given(s)));
    printf("%c  %s%s%s  %s, %llu tensor%s, %s\n", letter, qn_term_bold(&cli->out), name, qn_term_plain(&cli->out),
           s->ops->format, (unsigned long long)s->n_tensors, s->n_tensors == 1 ? "" : "s", size);
}

static void print_verdict(const qn_cli *cli, const qn_diff_facts *f)
{
    static const char *const phrases[QN_DIFF_HEADER] = {"equal",      "with other values", "with another dtype", "of another shape",
                                                        "only in A", "only in B"};
    const qn_diff *d = f->diff;
    const char *separator = "";
    const bool alike = d->n_by_status[QN_DIFF_EQUAL] == d->n_rows;
    printf("%s%s%s: ", d->different ? qn_term_red(&cli->out) : qn_term_green(&cli->out),
           d->different    ? "different"
           : d->n_within ? "within the tolerance"
                         : "equal",
           qn_term_plain(&cli->out));
    if (d->n_rows == 0)
        printf("no tensors");
    for (unsigned s = 0; s < QN_DIFF_HEADER; s++)
        if (d->n_by_status[s]) {
            printf("%s%llu tensor%s", separator, (unsigned long long)d->n_by_status[s], d->n_by_status[s] == 1 ? "" : "s");
            if (!alike || d->different)
                printf(" %s", phrases[s]);
            separator = ", ";
        }
    if (d->different && d->n_within)
        printf(" (%llu within the tolerance)", (unsigned long long)d->n_within);
    if (d->n_files_differing)
        printf(", %llu file%s", (unsigned long long)d->n_files_differing,
               d->n_files_differing == 1 ? " differs" : "s differ");
    else if (d->n_files && alike)
        printf(", and every byte around %s", d->n_rows == 1 ? "it" : "them");
    putchar('\n');
    if (d->total.n)
        printf("over the tensors that differ: relative RMS %.3g, SQNR %.1f dB, max abs %.3g\n", qn_errsum_rel_rms(&d->total),
               qn_errsum_sqnr_db(&d->total), d->total.max_abs);
}

qn_code qn_diff_report_text(qn_cli *cli, const qn_diff_facts *f, qn_err *err)
{
    print_side(cli, 'A', f->a);
    print_side(cli, 'B', f->b);
    putchar('\n');
    QN_TRY(print_tensors(cli, f, err));
    print_details(f);
    QN_TRY(print_files(cli, f, err));
    print_verdict(cli, f);
    return QN_OK;
}

static void write_side(qn_json_writer *j, const char *key, const qn_source *s)
{
    qn_jw_begin(j, key, '{');
    qn_jw_text(j, "path", qn_source_given(s));
    qn_jw_text(j, "format", s->ops->format);
    qn_jw_u64(j, "tensors", s->n_tensors);
    qn_jw_u64(j, "files", s->n_files);
    qn_jw_end(j, '}');
}

static void write_tensor(qn_json_writer *j, const char *key, const qn_source *s, uint64_t tensor)
{
    if (tensor == UINT64_MAX)
        return;
    const qn_source_tensor *o = &s->tensors[tensor];
    qn_jw_begin(j, key, '{');
    qn_jw_text(j, "dtype", qn_dtype_name((qn_dtype)o->dtype));
    qn_jw_begin(j, "shape", '[');
    for (unsigned i = 0; i < o->rank; i++)
        qn_jw_u64(j, NULL, o->dims[i]);
    qn_jw_end(j, ']');
    qn_jw_end(j, '}');
}

static void write_errors(qn_json_writer *j, const char *key, const qn_errsum *e, bool single)
{
    qn_jw_begin(j, key, '{');
    qn_jw_u64(j, "values", e->n);
    qn_jw_u64(j, "finite_pairs", e->n_finite);
    qn_jw_u64(j, "nan_mismatches", e->n_nan_mismatch);
    qn_jw_u64(j, "inf_mismatches", e->n_inf_mismatch);
    qn_jw_real(j, "max_abs", e->max_abs);
    if (single)
        qn_jw_u64(j, "max_abs_at", e->max_abs_at);
    qn_jw_real(j, "max_rel", e->max_rel);
    qn_jw_real(j, "mean_abs", qn_errsum_mean_abs(e));
    qn_jw_real(j, "rms", qn_errsum_rms(e));
    qn_jw_real(j, "rel_rms", qn_errsum_rel_rms(e));
    qn_jw_real(j, "cosine", qn_errsum_cosine(e));
    qn_jw_real(j, "sqnr_db", qn_errsum_sqnr_db(e));
    qn_jw_end(j, '}');
}

static void write_row(qn_json_writer *j, const qn_diff_facts *f, const qn_diff_row *r)
{
    qn_jw_begin(j, NULL, '{');
    qn_jw_text(j, "name", r->name);
    qn_jw_text(j, "status", keywords[r->status]);
    qn_jw_bool(j, "within", r->within);
    write_tensor(j, "a", f->a, r->a);
    write_tensor(j, "b", f->b, r->b);
    if (r->measured || r->status == QN_DIFF_VALUES) {
        qn_jw_u64(j, "differing", r->n_differing);
        if (r->first_differing != UINT64_MAX)
            qn_jw_u64(j, "first_differing", r->first_differing);
    }
    if (r->measured)
        write_errors(j, "error", &r->e, true);
    qn_jw_end(j, '}');
}

qn_code qn_diff_report_json(qn_cli *cli, const qn_diff_facts *f, qn_err *err)
{
    const qn_diff *d = f->diff;
    qn_json_writer j;
    (void)cli;
    (void)err;
    qn_jw_open(&j, stdout, "diff");
    write_side(&j, "a", f->a);
    write_side(&j, "b", f->b);
    qn_jw_bool(&j, "different", d->different);
    qn_jw_begin(&j, "tensors_by_status", '{');
    for (unsigned s = 0; s < QN_DIFF_HEADER; s++)
        qn_jw_u64(&j, keywords[s], d->n_by_status[s]);
    qn_jw_end(&j, '}');
    qn_jw_u64(&j, "tensors_within", d->n_within);
    qn_jw_u64(&j, "files_differing", d->n_files_differing);
    if (d->total.n)
        write_errors(&j, "error", &d->total, false);
    qn_jw_begin(&j, "tensors", '[');
    for (uint64_t i = 0; i < d->n_rows; i++)
        if (f->all || d->rows[i].status != QN_DIFF_EQUAL)
            write_row(&j, f, &d->rows[i]);
    qn_jw_end(&j, ']');
    qn_jw_begin(&j, "files", '[');
    for (uint64_t i = 0; i < d->n_files; i++) {
        const qn_diff_file *x = &d->files[i];
        if (!f->all && x->status == QN_DIFF_EQUAL)
            continue;
        qn_jw_begin(&j, NULL, '{');
        qn_jw_text(&j, "path", x->path);
        qn_jw_text(&j, "status", x->status == QN_DIFF_VALUES ? "bytes" : keywords[x->status]);
        qn_jw_end(&j, '}');
    }
    qn_jw_end(&j, ']');
    qn_jw_real(&j, "seconds", f->seconds);
    qn_jw_close(&j);
    return QN_OK;
}
