/* pack_report.c: see pack_report.h. Bits per weight count the payloads of a tensor against its elements; what is stored
 * once for several tensors is counted once, so tied tensors lower it. */
#include "cli/pack_report.h"
#include "base/err.h"
#include "cli/json_write.h"
#include "cli/lossy_report.h"
#include "cli/table.h"
#include "cli/units.h"
#include <math.h>
#include <string.h>

struct totals {
    uint64_t n_tensors, n_elems, tensor_bytes, stored_bytes;
    struct {
        uint64_t n_tensors, n_elems, raw, stored;
    } dtype[QN_DTYPE_COUNT];
    struct {
        uint64_t raw, stored;
    } codec[QN_CODEC_COUNT];
    uint64_t n_tied, tied_bytes, other_bytes, other_stored;
};

/* All of this tensor is stored with another one. Constant tensors (zero biases, unit norms) are equal too, but nobody
 * tied them. */
static bool is_tied(const qn_pack_facts *f, const qn_pack_row *r)
{
    if (r->n_chunks == 0 || r->n_shared != r->n_chunks || r->same_as == UINT64_MAX)
        return false;
    const qn_pack_row *owner = &f->report->rows[r->same_as];
    return owner->raw_by_codec[QN_CODEC_FILL] == 0 && f->source->objects[r->same_as].kind == QN_OBJECT_TENSOR;
}

static struct totals add_up(const qn_pack_facts *f)
{
    struct totals t = {0};
    for (uint64_t i = 0; i < f->report->n_rows; i++) {
        const qn_pack_row *r = &f->report->rows[i];
        const qn_object *o = &f->source->objects[r->object];
        for (unsigned c = 0; c < QN_CODEC_COUNT; c++) {
            t.codec[c].raw += r->raw_by_codec[c];
            t.codec[c].stored += r->stored_by_codec[c];
        }
        if (o->kind != QN_OBJECT_TENSOR) {
            t.other_bytes += o->n_bytes;
            t.other_stored += r->stored_bytes;
            continue;
        }
        uint64_t n_elems = 0, n_bytes = 0;
        (void)qn_shape_bytes((qn_dtype)o->dtype, o->dims, o->rank, &n_elems, &n_bytes); /* the source has checked it */
        t.n_tensors++;
        t.n_elems += n_elems;
        t.tensor_bytes += o->n_bytes;
        t.stored_bytes += r->stored_bytes;
        t.dtype[o->dtype].n_tensors++;
        t.dtype[o->dtype].n_elems += n_elems;
        t.dtype[o->dtype].raw += o->n_bytes;
        t.dtype[o->dtype].stored += r->stored_bytes;
        if (is_tied(f, r)) {
            t.n_tied++;
            t.tied_bytes += o->n_bytes;
        }
    }
    return t;
}

static double bits_per_weight(uint64_t stored, uint64_t n_elems)
{
    return n_elems ? (double)stored * 8 / (double)n_elems : 0;
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? (double)part * 100 / (double)whole : 100;
}

static qn_code print_dtypes(qn_cli *cli, const struct totals *t, bool sampled, qn_err *err)
{
    static const qn_column columns[] = {{.title = "dtype"}, {"tensors", .right = true}, {"weights", .right = true},
                                        {"before", .right = true}, {"after", .right = true}, {"", .right = true},
                                        {"bits/weight", .right = true}};
    qn_table table;
    qn_table_init(&table, &cli->out, &cli->arena, columns, sampled ? 4 : 7, 2);
    qn_code rc = QN_OK;
    for (unsigned d = 0; d < QN_DTYPE_COUNT && rc == QN_OK; d++) {
        char weights[32], before[32], after[32];
        if (t->dtype[d].n_tensors == 0)
            continue;
        qn_human_count(weights, sizeof weights, t->dtype[d].n_elems);
        qn_human_bytes(before, sizeof before, t->dtype[d].raw);
        qn_human_bytes(after, sizeof after, t->dtype[d].stored);
        rc = qn_table_cell(&table, err, "%s", qn_dtype_name((qn_dtype)d));
        if (rc == QN_OK)
            rc = qn_table_cell(&table, err, "%llu", (unsigned long long)t->dtype[d].n_tensors);
        if (rc == QN_OK)
            rc = qn_table_cell(&table, err, "%s", weights);
        if (rc == QN_OK)
            rc = qn_table_cell(&table, err, "%s", before);
        if (sampled)
            continue; /* a sample says nothing about a single dtype */
        if (rc == QN_OK)
            rc = qn_table_cell(&table, err, "%s", after);
        if (rc == QN_OK)
            rc = qn_table_cell(&table, err, "%.1f %%", percent(t->dtype[d].stored, t->dtype[d].raw));
        if (rc == QN_OK)
            rc = qn_table_cell(&table, err, "%.4g %s %.2f",
                               8.0 * qn_dtype_block_bytes((qn_dtype)d) / qn_dtype_block_elems((qn_dtype)d),
                               cli->out.utf8 ? "→" : "->",
                               bits_per_weight(t->dtype[d].stored, t->dtype[d].n_elems));
    }
    if (rc == QN_OK)
        qn_table_print(&table);
    qn_table_release(&table);
    return rc;
}

static qn_code print_codecs(qn_cli *cli, const struct totals *t, bool sampled, qn_err *err)
{
    const qn_column columns[] = {{.title = "codec"}, {sampled ? "sample" : "took", .right = true}, {"made", .right = true},
                                        {"", .right = true}, {.title = "which is", .shrink = true}};
    qn_table table;
    qn_table_init(&table, &cli->out, &cli->arena, columns, 5, 2);
    qn_code rc = QN_OK;
    for (unsigned c = 0; c < QN_CODEC_COUNT && rc == QN_OK; c++) {
        char took[32], made[32];
        if (t->codec[c].raw == 0)
            continue;
        qn_human_bytes(took, sizeof took, t->codec[c].raw);
        qn_human_bytes(made, sizeof made, t->codec[c].stored);
        rc = qn_table_cell(&table, err, "%s", qn_codec_tab[c].name);
        if (rc == QN_OK)
            rc = qn_table_cell(&table, err, "%s", took);
        if (rc == QN_OK)
            rc = qn_table_cell(&table, err, "%s", made);
        if (rc == QN_OK)
            rc = qn_table_cell(&table, err, "%.1f %%", percent(t->codec[c].stored, t->codec[c].raw));
        if (rc == QN_OK)
            rc = qn_table_cell(&table, err, "%s", qn_codec_tab[c].summary);
    }
    if (rc == QN_OK)
        qn_table_print(&table);
    qn_table_release(&table);
    return rc;
}

static void print_tied(const qn_cli *cli, const qn_pack_facts *f, const struct totals *t)
{
    enum { SHOWN = 4 };
    char saved[32];
    unsigned n = 0;
    if (t->n_tied == 0)
        return;
    qn_human_bytes(saved, sizeof saved, t->tied_bytes);
    printf("\n  %llu tensor%s equal to another, %s stored once:\n", (unsigned long long)t->n_tied,
           t->n_tied == 1 ? " is" : "s are", saved);
    for (uint64_t i = 0; i < f->report->n_rows && n < SHOWN; i++) {
        const qn_pack_row *r = &f->report->rows[i];
        char a[160], b[160];
        if (f->source->objects[r->object].kind != QN_OBJECT_TENSOR || !is_tied(f, r))
            continue;
        const char *x = f->source->objects[r->object].name, *y = f->source->objects[r->same_as].name;
        qn_printable(a, sizeof a, x, strlen(x));
        qn_printable(b, sizeof b, y, strlen(y));
        printf("    %s = %s\n", a, b);
        n++;
    }
    if (t->n_tied > n)
        printf("    %s\n", cli->out.utf8 ? "…" : "...");
}

static void print_head(const qn_cli *cli, const qn_pack_facts *f)
{
    const qn_pack_report *r = f->report;
    char before[32], after[32], name[200];
    qn_human_bytes(before, sizeof before, r->source_bytes);
    qn_human_bytes(after, sizeof after, r->packed_bytes);
    qn_printable(name, sizeof name, f->out_path, strlen(f->out_path));
    printf("%s%s%s%s: %s%s %s %s%s%s, %.1f %% of the original (%.3g times smaller)\n\n", f->dry_run ? "would write " : "",
           qn_term_bold(&cli->out), name, qn_term_plain(&cli->out), r->sampled ? "about " : "", before,
           cli->out.utf8 ? "→" : "->", qn_term_green(&cli->out), after, qn_term_plain(&cli->out),
           percent(r->packed_bytes, r->source_bytes),
           r->packed_bytes ? (double)r->source_bytes / (double)r->packed_bytes : 1.0);
}

static void print_tail(const qn_cli *cli, const qn_pack_facts *f, const struct totals *t)
{
    const qn_pack_report *r = f->report;
    char a[32], b[32];
    putchar('\n');
    if (t->other_bytes) {
        qn_human_bytes(a, sizeof a, t->other_bytes);
        printf("  carried   %s of headers and other files, byte for byte\n", a);
    }
    if (f->base_path) {
        char shown[200];
        qn_printable(shown, sizeof shown, f->base_path, strlen(f->base_path));
        printf("  base      %s is needed again to decompress\n", shown);
    }
    if (r->n_resumed)
        printf("  resumed   %llu of %llu chunks were done by an earlier run\n", (unsigned long long)r->n_resumed,
               (unsigned long long)r->n_chunks);
    qn_human_seconds(a, sizeof a, f->seconds);
    qn_human_rate(b, sizeof b, r->source_bytes, f->seconds);
    printf("  time      %s%s%s with %u thread%s\n", a, *b && !r->sampled ? ", " : "", r->sampled ? "" : b, r->n_threads,
           r->n_threads == 1 ? "" : "s");
    qn_human_bytes(a, sizeof a, f->memory_bytes);
    if (f->dry_run) {
        printf("  memory    at most %s\n", a);
        printf("  nothing was written%s\n",
               r->sampled ? "; sizes are estimated from a sample of the chunks" : "");
    } else {
        printf("  %sverified%s  every chunk decoded and compared, the finished file read back\n",
               qn_term_green(&cli->out), qn_term_plain(&cli->out));
    }
}

qn_code qn_pack_report_text(qn_cli *cli, const qn_pack_facts *f, qn_err *err)
{
    const struct totals t = add_up(f);
    print_head(cli, f);
    if (t.n_tensors) {
        QN_TRY(print_dtypes(cli, &t, f->report->sampled, err));
        putchar('\n');
    }
    QN_TRY(print_codecs(cli, &t, f->report->sampled, err));
    print_tied(cli, f, &t);
    if (f->lossy && !f->report->sampled) {
        putchar('\n');
        QN_TRY(qn_lossy_report_text(cli, f->lossy, f->report, err));
    }
    print_tail(cli, f, &t);
    return QN_OK;
}

static void json_tied(qn_json_writer *j, const qn_pack_facts *f)
{
    qn_jw_begin(j, "tied", '[');
    for (uint64_t i = 0; i < f->report->n_rows; i++) {
        const qn_pack_row *r = &f->report->rows[i];
        if (f->source->objects[r->object].kind != QN_OBJECT_TENSOR || !is_tied(f, r))
            continue;
        qn_jw_begin(j, NULL, '{');
        qn_jw_text(j, "tensor", f->source->objects[r->object].name);
        qn_jw_text(j, "same_as", f->source->objects[r->same_as].name);
        qn_jw_u64(j, "bytes", f->source->objects[r->object].n_bytes);
        qn_jw_end(j, '}');
    }
    qn_jw_end(j, ']');
}

static void json_groups(qn_json_writer *j, const struct totals *t)
{
    qn_jw_begin(j, "dtypes", '[');
    for (unsigned d = 0; d < QN_DTYPE_COUNT; d++) {
        if (t->dtype[d].n_tensors == 0)
            continue;
        qn_jw_begin(j, NULL, '{');
        qn_jw_text(j, "dtype", qn_dtype_name((qn_dtype)d));
        qn_jw_u64(j, "tensors", t->dtype[d].n_tensors);
        qn_jw_u64(j, "weights", t->dtype[d].n_elems);
        qn_jw_u64(j, "source_bytes", t->dtype[d].raw);
        qn_jw_u64(j, "stored_bytes", t->dtype[d].stored);
        qn_jw_end(j, '}');
    }
    qn_jw_end(j, ']');
    qn_jw_begin(j, "codecs", '[');
    for (unsigned c = 0; c < QN_CODEC_COUNT; c++) {
        if (t->codec[c].raw == 0)
            continue;
        qn_jw_begin(j, NULL, '{');
        qn_jw_text(j, "codec", qn_codec_tab[c].name);
        qn_jw_u64(j, "source_bytes", t->codec[c].raw);
        qn_jw_u64(j, "stored_bytes", t->codec[c].stored);
        qn_jw_end(j, '}');
    }
    qn_jw_end(j, ']');
}

qn_code qn_pack_report_json(qn_cli *cli, const qn_pack_facts *f, qn_err *err)
{
    const struct totals t = add_up(f);
    const qn_pack_report *r = f->report;
    qn_json_writer j;
    (void)cli;
    (void)err;
    qn_jw_open(&j, stdout, "compress");
    qn_jw_text(&j, "input", qn_source_given(f->source));
    qn_jw_text(&j, "output", f->out_path);
    qn_jw_text(&j, "base", f->base_path);
    qn_jw_text(&j, "level", f->level);
    qn_jw_bool(&j, "dry_run", f->dry_run);
    qn_jw_bool(&j, "estimated", r->sampled);
    qn_jw_u64(&j, "source_bytes", r->source_bytes);
    qn_jw_u64(&j, "packed_bytes", r->packed_bytes);
    qn_jw_real(&j, "ratio", r->packed_bytes ? (double)r->source_bytes / (double)r->packed_bytes : 1);
    qn_jw_u64(&j, "tensors", t.n_tensors);
    qn_jw_u64(&j, "weights", t.n_elems);
    qn_jw_real(&j, "bits_per_weight", r->sampled || !t.n_elems ? (double)NAN : bits_per_weight(t.stored_bytes, t.n_elems));
    json_groups(&j, &t);
    json_tied(&j, f);
    if (f->lossy)
        qn_lossy_report_json(&j, f->lossy, r);
    qn_jw_u64(&j, "chunks", r->n_chunks);
    qn_jw_u64(&j, "chunks_shared", r->n_shared);
    qn_jw_u64(&j, "chunks_resumed", r->n_resumed);
    qn_jw_u64(&j, "threads", r->n_threads);
    qn_jw_u64(&j, "memory_bytes", f->memory_bytes);
    qn_jw_real(&j, "seconds", f->seconds);
    qn_jw_bool(&j, "verified", !f->dry_run);
    qn_jw_close(&j);
    return QN_OK;
}
