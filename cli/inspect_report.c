/* inspect_report.c: the tables of a checkpoint's content; see inspect_report.h. */
#include "cli/inspect_report.h"
#include "base/err.h"
#include "cli/table.h"
#include "cli/units.h"
#include "formats/quern/source.h"
#include <string.h>

uint64_t qn_tensor_elems(const qn_source_tensor *o)
{
    uint64_t n = 0, bytes;
    (void)qn_shape_bytes((qn_dtype)o->dtype, o->dims, o->rank, &n, &bytes); /* held when the source was opened */
    return n;
}

void qn_shape_text(char *buf, size_t n, const qn_source_tensor *o)
{
    size_t at = (size_t)snprintf(buf, n, "[");
    for (unsigned i = 0; i < o->rank && at + 1 < n; i++)
        at += (size_t)snprintf(buf + at, n - at, i ? ", %llu" : "%llu", (unsigned long long)o->dims[i]);
    if (at + 1 < n)
        snprintf(buf + at, n - at, "]");
}

const qn_survey_row *qn_inspection_row(const qn_inspection *x, uint64_t tensor)
{
    uint64_t lo = 0, hi = x->survey.n_rows;
    while (lo < hi) {
        const uint64_t mid = lo + (hi - lo) / 2;
        if (x->survey.rows[mid].tensor < tensor)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < x->survey.n_rows && x->survey.rows[lo].tensor == tensor ? &x->survey.rows[lo] : NULL;
}

bool qn_inspection_is_stored(const qn_inspection *x, uint64_t tensor)
{
    return x->index && x->source->tensors[tensor].object != QN_NO_OBJECT;
}

static uint64_t stored_bytes(const qn_inspection *x, uint64_t tensor)
{
    return qn_inspection_is_stored(x, tensor) ? qn_index_stored_bytes(x->index, x->source->tensors[tensor].object) : 0;
}

/* Codecs of a tensor's chunks, the most used first: "dense", "dense+fill". */
static void codec_text(char *buf, size_t n, const qn_index *ix, uint64_t object)
{
    uint64_t count[QN_CODEC_COUNT + 1] = {0}; /* the last: shared */
    size_t at = 0;
    buf[0] = '\0';
    for (uint64_t c = ix->objects[object].first_chunk; c < ix->objects[object + 1].first_chunk; c++)
        count[ix->chunks[c].codec < QN_CODEC_COUNT ? ix->chunks[c].codec : QN_CODEC_COUNT]++;
    for (;;) {
        unsigned best = 0;
        for (unsigned k = 0; k <= QN_CODEC_COUNT; k++)
            best = count[k] > count[best] ? k : best;
        if (count[best] == 0 || at + 1 >= n)
            return;
        const char *name = best == QN_CODEC_COUNT ? "shared" : qn_codec_tab[best].name ? qn_codec_tab[best].name : "unknown";
        at += (size_t)snprintf(buf + at, n - at, "%s%s", at ? "+" : "", name ? name : "?");
        count[best] = 0;
    }
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? (double)part * 100 / (double)whole : 100;
}

static qn_code print_tensors(qn_cli *cli, const qn_inspection *x, qn_err *err)
{
    static const qn_column columns[] = {{.title = "tensor", .shrink = true}, {.title = "dtype"}, {.title = "shape"},
                                        {"size", .right = true}, {"stored", .right = true}, {"", .right = true},
                                        {.title = "codec"}, {"chunks", .right = true}};
    qn_table t;
    qn_table_init(&t, &cli->out, &cli->arena, columns, x->index ? 8 : 4, 2);
    qn_code rc = QN_OK;
    for (uint64_t i = 0; i < x->n_tensors && rc == QN_OK; i++) {
        const qn_source_tensor *o = &x->source->tensors[x->order[i]];
        char shape[200], size[32], codec[80];
        qn_shape_text(shape, sizeof shape, o);
        qn_human_bytes(size, sizeof size, o->n_bytes);
        rc = qn_table_cell(&t, err, "%s", o->name);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%s", qn_dtype_name((qn_dtype)o->dtype));
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%s", shape);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%s", size);
        if (!x->index)
            continue;
        if (!qn_inspection_is_stored(x, x->order[i])) {
            for (unsigned k = 0; k < 4 && rc == QN_OK; k++)
                rc = qn_table_cell(&t, err, "%s", "");
            continue;
        }
        const uint64_t stored = stored_bytes(x, x->order[i]);
        qn_human_bytes(size, sizeof size, stored);
        codec_text(codec, sizeof codec, x->index, o->object);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%s", size);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%.1f %%", percent(stored, o->n_bytes));
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%s", codec);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%llu", (unsigned long long)qn_index_n_chunks(x->index, o->object));
    }
    if (rc == QN_OK && x->n_tensors)
        qn_table_print(&t);
    qn_table_release(&t);
    return rc;
}

struct group {
    uint64_t n_tensors, n_elems, n_bytes, stored;
};

static void add_up(const qn_inspection *x, struct group by_dtype[QN_DTYPE_COUNT], struct group *all)
{
    for (uint64_t i = 0; i < x->n_tensors; i++) {
        const qn_source_tensor *o = &x->source->tensors[x->order[i]];
        struct group *const both[2] = {&by_dtype[o->dtype], all};
        for (unsigned k = 0; k < 2; k++) {
            both[k]->n_tensors++;
            both[k]->n_elems += qn_tensor_elems(o);
            both[k]->n_bytes += o->n_bytes;
            both[k]->stored += stored_bytes(x, x->order[i]);
        }
    }
}

static qn_code total_row(qn_table *t, const qn_inspection *x, const char *label, const struct group *g, qn_err *err)
{
    char weights[32], size[32];
    qn_human_count(weights, sizeof weights, g->n_elems);
    qn_human_bytes(size, sizeof size, g->n_bytes);
    QN_TRY(qn_table_cell(t, err, "%s", label));
    QN_TRY(qn_table_cell(t, err, "%llu", (unsigned long long)g->n_tensors));
    QN_TRY(qn_table_cell(t, err, "%s", weights));
    QN_TRY(qn_table_cell(t, err, "%s", size));
    if (!x->index)
        return QN_OK;
    qn_human_bytes(size, sizeof size, g->stored);
    QN_TRY(qn_table_cell(t, err, "%s", size));
    QN_TRY(qn_table_cell(t, err, "%.1f %%", percent(g->stored, g->n_bytes)));
    return qn_table_cell(t, err, "%.2f", g->n_elems ? (double)g->stored * 8 / (double)g->n_elems : 0);
}

static qn_code print_totals(qn_cli *cli, const qn_inspection *x, qn_err *err)
{
    static const qn_column columns[] = {{.title = "dtype"}, {"tensors", .right = true}, {"weights", .right = true},
                                        {"size", .right = true}, {"stored", .right = true}, {"", .right = true},
                                        {"bits/weight", .right = true}};
    struct group by_dtype[QN_DTYPE_COUNT] = {{0}}, all = {0};
    unsigned n = 0;
    qn_table t;
    add_up(x, by_dtype, &all);
    qn_table_init(&t, &cli->out, &cli->arena, columns, x->index ? 7 : 4, 2);
    qn_code rc = QN_OK;
    for (unsigned d = 0; d < QN_DTYPE_COUNT && rc == QN_OK; d++)
        if (by_dtype[d].n_tensors) {
            rc = total_row(&t, x, qn_dtype_name((qn_dtype)d), &by_dtype[d], err);
            n++;
        }
    if (rc == QN_OK && n > 1)
        rc = total_row(&t, x, "all", &all, err);
    if (rc == QN_OK && n)
        qn_table_print(&t);
    qn_table_release(&t);
    return rc;
}

/* Tensors by the file they lie in; the caller puts it back. */
static uint64_t *count_by_file(const qn_cli *cli, const qn_source *s, qn_err *err)
{
    uint64_t *n = qn_mem_zeros(cli->env.alloc, s->n_files, sizeof *n, err);
    for (uint64_t i = 0; n && i < s->n_tensors; i++)
        n[s->tensors[i].file]++;
    return n;
}

static qn_code print_files(qn_cli *cli, const qn_inspection *x, qn_err *err)
{
    static const qn_column columns[] = {{.title = "file", .shrink = true}, {"size", .right = true}, {"tensors", .right = true}};
    const qn_source *s = x->source;
    qn_table t;
    uint64_t *n_tensors = count_by_file(cli, s, err);
    if (!n_tensors)
        return QN_E_MEMORY;
    qn_table_init(&t, &cli->out, &cli->arena, columns, 3, 2);
    qn_code rc = QN_OK;
    for (uint64_t f = 0; f < s->n_files && rc == QN_OK; f++) {
        char size[32];
        const uint64_t n = n_tensors[f];
        qn_human_bytes(size, sizeof size, s->files[f].n_bytes);
        rc = qn_table_cell(&t, err, "%s", s->files[f].path);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%s", size);
        if (rc == QN_OK)
            rc = n ? qn_table_cell(&t, err, "%llu", (unsigned long long)n) : qn_table_cell(&t, err, "%s", "");
    }
    if (rc == QN_OK) {
        qn_table_print(&t);
        putchar('\n');
    }
    qn_table_release(&t);
    qn_mem_put(cli->env.alloc, n_tensors);
    return rc;
}

static void print_provenance(const qn_inspection *x)
{
    if (!x->index || x->index->n_props == 0)
        return;
    putchar('\n');
    for (uint64_t i = 0; i < x->index->n_props; i++) {
        char key[80], value[400];
        qn_printable(key, sizeof key, x->index->props[2 * i], strlen(x->index->props[2 * i]));
        qn_printable(value, sizeof value, x->index->props[2 * i + 1], strlen(x->index->props[2 * i + 1]));
        printf("  %-10s %s\n", key, value);
    }
}

static void print_head(const qn_cli *cli, const qn_inspection *x)
{
    const qn_source *s = x->source;
    char name[200], size[32], weights[32];
    uint64_t n_bytes = 0, n_elems = 0;
    for (uint64_t f = 0; f < s->n_files; f++)
        n_bytes += s->files[f].n_bytes;
    for (uint64_t i = 0; i < s->n_tensors; i++)
        n_elems += qn_tensor_elems(&s->tensors[i]);
    qn_human_bytes(size, sizeof size, n_bytes);
    qn_human_count(weights, sizeof weights, n_elems);
    qn_printable(name, sizeof name, qn_source_given(s), strlen(qn_source_given(s)));
    printf("%s%s%s: %s, %llu tensor%s, %s weights, %s", qn_term_bold(&cli->out), name, qn_term_plain(&cli->out),
           s->ops->format, (unsigned long long)s->n_tensors, s->n_tensors == 1 ? "" : "s", weights, size);
    if (s->is_dir)
        printf(" in %llu file%s", (unsigned long long)s->n_files, s->n_files == 1 ? "" : "s");
    if (x->index) {
        qn_human_bytes(size, sizeof size, x->index->file_bytes);
        printf(" packed into %s%s%s (%.1f %%)", qn_term_green(&cli->out), size, qn_term_plain(&cli->out),
               percent(x->index->file_bytes, n_bytes));
    }
    putchar('\n');
    if (x->filtered)
        printf("%llu of the tensors match\n", (unsigned long long)x->n_tensors);
    putchar('\n');
}

qn_code qn_inspect_text(qn_cli *cli, const qn_inspection *x, qn_err *err)
{
    print_head(cli, x);
    if (x->source->is_dir && !x->filtered)
        QN_TRY(print_files(cli, x, err));
    if (x->has_stats) {
        QN_TRY(qn_inspect_stats_text(cli, x, err));
    } else {
        QN_TRY(print_tensors(cli, x, err));
        if (x->n_tensors) {
            putchar('\n');
            QN_TRY(print_totals(cli, x, err));
        }
    }
    print_provenance(x);
    return QN_OK;
}
