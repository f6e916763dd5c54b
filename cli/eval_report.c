/* eval_report.c: see eval_report.h. */
#include "cli/eval_report.h"
#include "base/err.h"
#include "cli/json_write.h"
#include "cli/table.h"
#include "cli/units.h"
#include <math.h>
#include <string.h>

static const char *number(char buf[32], const char *fmt_of, double v)
{
    if (!isfinite(v))
        snprintf(buf, 32, "%s", isnan(v) ? "?" : v > 0 ? "inf" : "-inf");
    else if (!strcmp(fmt_of, "%"))
        snprintf(buf, 32, "%.3f %%", 100 * v);
    else if (fabs(v) >= 1000 || (v != 0 && fabs(v) < 1e-4))
        snprintf(buf, 32, "%.4g", v);
    else
        snprintf(buf, 32, "%.*f", fabs(v) >= 100 ? 2 : fabs(v) >= 10 ? 3 : fabs(v) >= 1 ? 4 : 6, v);
    return buf;
}

/* "perplexity   3.3520   95 %: 3.2811 … 3.4243" */
static qn_code row(qn_table *t, const char *name, const char *fmt, const qn_estimate *e, qn_err *err)
{
    char v[32], lo[32], hi[32];
    QN_TRY(qn_table_cell(t, err, "%s", name));
    QN_TRY(qn_table_cell(t, err, "%s", number(v, fmt, e->value)));
    if (isnan(e->low))
        return qn_table_cell(t, err, "%s", "one chunk has no interval");
    return qn_table_cell(t, err, "%s to %s", number(lo, fmt, e->low), number(hi, fmt, e->high));
}

static void print_head(const qn_eval_facts *f)
{
    char scored[32], fed[32], name[200];
    const qn_corpus *c = f->corpus;
    qn_grouped(scored, sizeof scored, c->n_scored);
    qn_grouped(fed, sizeof fed, f->eval->n_tokens);
    qn_printable(name, sizeof name, f->model, strlen(f->model));
    printf("%s: %s, vocabulary of %u\n", name, f->graph->family, f->graph->n_vocab);
    if (f->against) {
        qn_printable(name, sizeof name, f->against, strlen(f->against));
        printf("against %s\n", name);
    }
    qn_printable(name, sizeof name, f->data, strlen(f->data));
    printf("%s: %llu %s of %s%llu tokens, %s scored%s\n\n", name, (unsigned long long)c->n_chunks,
           c->documents ? c->n_chunks == 1 ? "document" : "documents" : c->n_chunks == 1 ? "chunk" : "chunks",
           c->documents ? "at most " : "", (unsigned long long)c->context, scored,
           c->documents || f->score_all ? "" : " (second half of each)");
}

static qn_code print_layers(qn_cli *cli, const qn_eval_facts *f, qn_err *err)
{
    static const qn_column columns[] = {{.title = "behind", .shrink = true}, {"rel RMS", .right = true}, {"max abs", .right = true}};
    qn_table t;
    qn_table_init(&t, &cli->out, &cli->arena, columns, 3, 2);
    qn_code rc = QN_OK;
    for (uint32_t i = 0; i < f->eval->n_layers && rc == QN_OK; i++) {
        const qn_eval_layer *l = &f->eval->layers[i];
        rc = qn_table_cell(&t, err, "%s", l->name);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%.3e", l->rel_rms);
        if (rc == QN_OK)
            rc = qn_table_cell(&t, err, "%.3e", l->max_abs);
    }
    if (rc == QN_OK) {
        printf("\noutput error of each block\n");
        qn_table_print(&t);
    }
    qn_table_release(&t);
    return rc;
}

static qn_code rows(qn_table *t, const qn_eval *e, qn_err *err)
{
    QN_TRY(row(t, "perplexity", "g", &e->ppl, err));
    QN_TRY(row(t, "nats per token", "g", &e->nll, err));
    QN_TRY(row(t, "right token first", "%", &e->top, err));
    if (!e->has_ref)
        return QN_OK;
    QN_TRY(row(t, "perplexity of the reference", "g", &e->ppl_ref, err));
    QN_TRY(row(t, "perplexity ratio", "g", &e->ppl_ratio, err));
    QN_TRY(row(t, "mean KL divergence, nats", "g", &e->kl, err));
    QN_TRY(row(t, "same token first", "%", &e->same_top, err));
    return row(t, "mean change of probability", "%", &e->dp, err);
}

qn_code qn_eval_text(qn_cli *cli, const qn_eval_facts *f, qn_err *err)
{
    static const qn_column columns[] = {{.title = ""}, {"", .right = true}, {.title = "95 % interval"}};
    const qn_eval *e = f->eval;
    qn_table t;
    char a[32], b[32], c[32], d[32];
    print_head(f);
    qn_table_init(&t, &cli->out, &cli->arena, columns, 3, 2);
    const qn_code rc = rows(&t, e, err);
    if (rc == QN_OK)
        qn_table_print(&t);
    qn_table_release(&t);
    if (rc == QN_OK && e->has_ref) {
        printf("\n  KL divergence of single tokens: median %s, 95 %% %s, 99 %% %s, largest %s\n", number(a, "g", e->kl_quantiles[2]),
               number(b, "g", e->kl_quantiles[3]), number(c, "g", e->kl_quantiles[4]), number(d, "g", e->kl_quantiles[6]));
        printf("  RMS change of the right token's probability: %s\n", number(a, "%", e->dp_rms));
    }
    if (rc == QN_OK && e->n_layers)
        QN_TRY(print_layers(cli, f, err));
    if (rc == QN_OK) {
        char time[32], rate[32];
        qn_human_seconds(time, sizeof time, f->seconds);
        qn_human_count(rate, sizeof rate, f->seconds > 0 ? (uint64_t)((double)e->n_tokens / f->seconds) : 0);
        printf("\n  %s, %s tokens/s\n", time, rate);
    }
    return rc;
}

void qn_estimate_json(qn_json_writer *j, const char *key, const qn_estimate *e)
{
    qn_jw_begin(j, key, '{');
    qn_jw_real(j, "value", e->value);
    qn_jw_real(j, "se", e->se);
    qn_jw_real(j, "low", e->low);
    qn_jw_real(j, "high", e->high);
    qn_jw_end(j, '}');
}

static void quantiles(qn_json_writer *j, const char *key, const double v[7])
{
    static const char *const names[7] = {"min", "p5", "p50", "p95", "p99", "p99.9", "max"};
    qn_jw_begin(j, key, '{');
    for (unsigned i = 0; i < 7; i++)
        qn_jw_real(j, names[i], v[i]);
    qn_jw_end(j, '}');
}

static void chunks(qn_json_writer *j, const qn_eval *e)
{
    qn_jw_begin(j, "chunks", '[');
    for (uint64_t i = 0; i < e->n_chunks; i++) {
        const qn_chunk_score *c = &e->chunks[i];
        qn_jw_begin(j, NULL, '{');
        qn_jw_u64(j, "scored", c->n);
        qn_jw_real(j, "nll", c->nll / (double)c->n);
        qn_jw_u64(j, "top", c->n_top);
        if (e->has_ref) {
            qn_jw_real(j, "nll_reference", c->nll_ref / (double)c->n);
            qn_jw_real(j, "kl", c->kl / (double)c->n);
            qn_jw_u64(j, "same_top", c->n_same_top);
        }
        qn_jw_end(j, '}');
    }
    qn_jw_end(j, ']');
}

void qn_eval_json(const qn_eval_facts *f)
{
    const qn_eval *e = f->eval;
    qn_json_writer j;
    char hex[33];
    qn_jw_open(&j, stdout, "eval");
    qn_jw_text(&j, "model", f->model);
    qn_jw_text(&j, "family", f->graph->family);
    qn_jw_u64(&j, "vocabulary", f->graph->n_vocab);
    qn_jw_text(&j, "against", f->against);
    qn_jw_text(&j, "data", f->data);
    qn_jw_text(&j, "tokenizer", f->tokenizer);
    qn_digest_hex(&f->corpus->digest, hex);
    qn_jw_text(&j, "tokens_digest", hex);
    qn_jw_text(&j, "unit", f->corpus->documents ? "document" : "chunk");
    qn_jw_u64(&j, "context", f->corpus->context);
    qn_jw_u64(&j, "n_chunks", e->n_chunks);
    qn_jw_u64(&j, "tokens_fed", e->n_tokens);
    qn_jw_u64(&j, "tokens_scored", e->n_scored);
    qn_jw_u64(&j, "tokens_left_out", f->corpus->n_left_out);
    qn_estimate_json(&j, "perplexity", &e->ppl);
    qn_estimate_json(&j, "nll", &e->nll);
    qn_estimate_json(&j, "top1", &e->top);
    if (e->has_ref) {
        qn_jw_begin(&j, "reference", '{');
        qn_estimate_json(&j, "perplexity", &e->ppl_ref);
        qn_estimate_json(&j, "perplexity_ratio", &e->ppl_ratio);
        qn_estimate_json(&j, "kl", &e->kl);
        quantiles(&j, "kl_quantiles", e->kl_quantiles);
        qn_estimate_json(&j, "same_top1", &e->same_top);
        qn_estimate_json(&j, "probability_change", &e->dp);
        qn_jw_real(&j, "probability_change_rms", e->dp_rms);
        quantiles(&j, "probability_change_quantiles", e->dp_quantiles);
        qn_jw_end(&j, '}');
    }
    if (e->n_layers) {
        qn_jw_begin(&j, "layers", '[');
        for (uint32_t i = 0; i < e->n_layers; i++) {
            qn_jw_begin(&j, NULL, '{');
            qn_jw_text(&j, "name", e->layers[i].name);
            qn_jw_real(&j, "rel_rms", e->layers[i].rel_rms);
            qn_jw_real(&j, "max_abs", e->layers[i].max_abs);
            qn_jw_end(&j, '}');
        }
        qn_jw_end(&j, ']');
    }
    chunks(&j, e);
    qn_jw_u64(&j, "peak_tensor_bytes", e->peak_bytes);
    qn_jw_real(&j, "seconds", f->seconds);
    qn_jw_close(&j);
}
