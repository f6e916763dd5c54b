/* lossy_report.c: see lossy_report.h. */
#include "cli/lossy_report.h"
#include "base/err.h"
#include "cli/table.h"
#include "cli/units.h"
#include <math.h>
#include <string.h>

static const char *const roles[] = {"", "linear", "head", "embedding"};
static const char *const kinds[] = {"none", "full", "diagonal", "refused"};

static bool is_kept(const qn_lossy_row *r)
{
    return r->kept != NULL;
}

/* A factor of the layers that read it, which is no calibration's. */
static bool is_by_readers(const qn_lossy_row *r)
{
    return r->by_readers && r->kind == QN_LDL_FULL;
}

static double bits_stored(const qn_lossy_row *r, const qn_pack_report *p)
{
    return (double)p->rows[r->object].stored_bytes * 8 / ((double)r->rows * r->cols);
}

static double relative(const qn_lossy_row *r)
{
    return r->sum.square > 0 ? r->sum.error / r->sum.square : 0;
}

static double share(double loss, const qn_lossy_row *r)
{
    return r->sum.energy > 0 ? loss / r->sum.energy : 0;
}

static qn_code loss_cell(qn_table *t, const qn_lossy_row *r, double loss, qn_err *err)
{
    return isnan(loss) || r->n_done == 0 ? qn_table_cell(t, err, "-") : qn_table_cell(t, err, "%.3e", share(loss, r));
}

static qn_code row_cells(qn_table *t, const qn_lossy_row *r, const qn_pack_report *p, qn_err *err)
{
    char seen[32];
    qn_human_count(seen, sizeof seen, r->seen);
    QN_TRY(qn_table_cell(t, err, "%s", r->name));
    QN_TRY(qn_table_cell(t, err, "%s", roles[r->role]));
    QN_TRY(qn_table_cell(t, err, "%u x %u", r->rows, r->cols));
    QN_TRY(qn_table_cell(t, err, "%.2f", bits_stored(r, p)));
    QN_TRY(r->n_done ? qn_table_cell(t, err, "%.3e", relative(r)) : qn_table_cell(t, err, "-"));
    QN_TRY(loss_cell(t, r, r->sum.nearest, err));
    QN_TRY(loss_cell(t, r, r->sum.loss, err));
    QN_TRY(r->kind == QN_LDL_FULL ? qn_table_cell(t, err, "%g", r->damping) : qn_table_cell(t, err, "-"));
    return r->seen ? qn_table_cell(t, err, "%s", seen) : qn_table_cell(t, err, is_by_readers(r) ? "readers" : "-");
}

/* What a user should know and would not look for. */
static void remarks(qn_cli *cli, const qn_lossy *l)
{
    uint64_t n_starved = 0, n_experts = 0, least = UINT64_MAX;
    for (uint64_t i = 0; i < qn_lossy_count(l); i++) {
        const qn_lossy_row r = qn_lossy_report(l, i);
        if (is_kept(&r))
            continue;
        if (r.kind == QN_LDL_REFUSED && r.n_done && !r.by_readers)
            qn_cli_note(cli, "warning: %s: its statistics are not finite or all zero and were not used", r.name);
        if (r.kind == QN_LDL_DIAGONAL && r.n_done)
            qn_cli_note(cli, "note: %s: only the diagonal of its statistics could be used, nothing was fed back", r.name);
        if (r.leans) {
            n_starved += r.n_starved;
            n_experts += r.n_parts;
            least = r.n_starved && r.seen < least ? r.seen : least;
        } else if (r.seen && r.seen < 2 * (uint64_t)r.cols)
            qn_cli_note(cli, "warning: %s: calibration saw %llu rows of %u columns, fewer than twice as many", r.name,
                        (unsigned long long)r.seen, r.cols);
        if (r.n_lossless)
            qn_cli_note(cli, "note: %s: %llu of %llu chunks are stored without loss, they hold Inf, NaN or what the codec cannot",
                        r.name, (unsigned long long)r.n_lossless, (unsigned long long)r.n_segments);
    }
    if (n_starved)
        qn_cli_note(cli, "warning: %llu of %llu weights of experts were calibrated on fewer rows than twice their columns (the least: %llu); what "
                    "other experts of the layer saw stands in", (unsigned long long)n_starved, (unsigned long long)n_experts,
                    (unsigned long long)least);
}

qn_code qn_lossy_report_text(qn_cli *cli, const qn_lossy *l, const qn_pack_report *packed, qn_err *err)
{
    static const qn_column columns[] = {{.title = "approximated", .shrink = true}, {.title = "as"}, {"shape", .right = true},
                                        {"bits", .right = true}, {"error", .right = true}, {"loss rounded", .right = true},
                                        {"loss now", .right = true}, {"damping", .right = true}, {"rows", .right = true}};
    qn_table table;
    qn_table_init(&table, &cli->out, &cli->arena, columns, 9, 2);
    qn_code rc = QN_OK;
    enum { SHOWN = 8 };
    uint64_t n_kept = 0, n_shown = 0;
    for (uint64_t i = 0; i < qn_lossy_count(l) && rc == QN_OK; i++) {
        const qn_lossy_row r = qn_lossy_report(l, i);
        n_kept += is_kept(&r);
        if (!is_kept(&r))
            rc = row_cells(&table, &r, packed, err);
    }
    if (rc == QN_OK && n_kept == qn_lossy_count(l))
        qn_cli_note(cli, "note: there is nothing that could be approximated: all of it is stored without loss");
    if (rc == QN_OK) {
        if (n_kept < qn_lossy_count(l))
            qn_table_print(&table);
        if (n_kept < qn_lossy_count(l))
            printf("\n  error: |W - W'|^2 / |W|^2; loss: the same of the layer's output as calibration saw it, with every weight\n"
               "  rounded for itself, and as it was written\n");
        for (uint64_t i = 0; i < qn_lossy_count(l) && n_shown < SHOWN; i++) {
            const qn_lossy_row r = qn_lossy_report(l, i);
            if (!is_kept(&r))
                continue;
            printf("  kept      %s: %s\n", r.name, r.kept);
            n_shown++;
        }
        if (n_kept > n_shown)
            printf("  kept      %llu more\n", (unsigned long long)(n_kept - n_shown));
        remarks(cli, l);
    }
    qn_table_release(&table);
    return rc;
}

void qn_lossy_report_json(qn_json_writer *j, const qn_lossy *l, const qn_pack_report *packed)
{
    qn_jw_text(j, "lossy", qn_lossy_recipe(l));
    qn_jw_begin(j, "approximated", '[');
    for (uint64_t i = 0; i < qn_lossy_count(l); i++) {
        const qn_lossy_row r = qn_lossy_report(l, i);
        qn_jw_begin(j, NULL, '{');
        qn_jw_text(j, "tensor", r.name);
        qn_jw_text(j, "role", roles[r.role]);
        qn_jw_text(j, "kept", r.kept);
        if (!is_kept(&r)) {
            char settings[256];
            (void)qn_settings_write(&r.set, settings, sizeof settings);
            qn_jw_text(j, "codec", r.codec);
            qn_jw_text(j, "settings", *settings ? settings + 1 : settings);
            qn_jw_u64(j, "rows", r.rows);
            qn_jw_u64(j, "cols", r.cols);
            qn_jw_real(j, "bits", bits_stored(&r, packed));
            qn_jw_real(j, "error", r.n_done ? relative(&r) : (double)NAN);
            qn_jw_real(j, "loss_rounded", r.n_done ? share(r.sum.nearest, &r) : (double)NAN);
            qn_jw_real(j, "loss", r.n_done ? share(r.sum.loss, &r) : (double)NAN);
            qn_jw_text(j, "statistics", is_by_readers(&r) ? "readers" : kinds[r.kind]);
            qn_jw_real(j, "damping", r.damping);
            qn_jw_real(j, "spread", r.spread);
            qn_jw_real(j, "unevenness_bits", r.unevenness);
            qn_jw_u64(j, "dead_columns", r.n_dead);
            qn_jw_u64(j, "rows_seen", r.seen);
            qn_jw_u64(j, "matrices", r.n_parts);
            qn_jw_u64(j, "matrices_starved", r.n_starved);
            qn_jw_u64(j, "segments", r.n_segments);
            qn_jw_u64(j, "segments_without_feedback", r.n_fell_back);
            qn_jw_u64(j, "segments_lossless", r.n_lossless);
        }
        qn_jw_end(j, '}');
    }
    qn_jw_end(j, ']');
}
