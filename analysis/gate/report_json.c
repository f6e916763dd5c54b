/* report_json.c: a report as JSON; see report.h. report_read.c reads what this writes: a key that is added here is added there. */
#include "analysis/gate/report.h"
#include "formats/json/write.h"
#include <math.h>

static void digest(qn_json_out *j, const char *key, const qn_digest *d)
{
    char hex[33];
    qn_digest_hex(d, hex);
    qn_json_out_text(j, key, qn_digest_equal(d, &(qn_digest){{0}}) ? NULL : hex);
}

static void estimate(qn_json_out *j, const char *key, const qn_estimate *e)
{
    if (isnan(e->value))
        return;
    qn_json_out_begin(j, key, '{');
    qn_json_out_real(j, "value", e->value);
    qn_json_out_real(j, "se", e->se);
    qn_json_out_real(j, "low", e->low);
    qn_json_out_real(j, "high", e->high);
    qn_json_out_end(j, '}');
}

static void text(qn_json_out *j, const char *key, const char *v)
{
    if (v)
        qn_json_out_text(j, key, v);
}

static void binding(qn_json_out *j, const qn_report_binding *b)
{
    qn_json_out_begin(j, "binding", '{');
    digest(j, "reference", &b->reference);
    digest(j, "candidate", &b->candidate);
    digest(j, "tokenizer", &b->tokenizer);
    digest(j, "data", &b->data);
    qn_json_out_text(j, "reference_path", b->reference_path);
    qn_json_out_text(j, "candidate_path", b->candidate_path);
    qn_json_out_text(j, "data_path", b->data_path);
    qn_json_out_text(j, "version", b->version);
    qn_json_out_text(j, "cpu", b->cpu);
    qn_json_out_text(j, "recipe", b->recipe);
    qn_json_out_u64(j, "chunks", b->n_chunks);
    qn_json_out_u64(j, "context", b->context);
    qn_json_out_u64(j, "scored", b->n_scored);
    qn_json_out_end(j, '}');
}

static void limits(qn_json_out *j, const qn_report *r)
{
    qn_json_out_begin(j, "limits", '[');
    for (uint64_t i = 0; i < r->n_limits; i++) {
        qn_json_out_begin(j, NULL, '{');
        j->flat = true;
        qn_json_out_text(j, "name", r->limits[i].name);
        qn_json_out_real(j, "value", r->limits[i].value);
        if (r->limits[i].times)
            qn_json_out_bool(j, "times_baseline", true);
        qn_json_out_end(j, '}');
        j->flat = false;
    }
    qn_json_out_end(j, ']');
}

static void tokens(qn_json_out *j, const qn_report *r)
{
    qn_json_out_begin(j, "tokens", '{');
    estimate(j, "kl", &r->kl);
    estimate(j, "kl_p99", &r->kl_p99);
    estimate(j, "perplexity", &r->ppl);
    estimate(j, "perplexity_reference", &r->ppl_ref);
    estimate(j, "perplexity_ratio", &r->ppl_ratio);
    estimate(j, "same_top1", &r->same_top);
    estimate(j, "excess", &r->excess);
    qn_json_out_real(j, "max_probability_change", r->max_dp);
    qn_json_out_begin(j, "kl_quantiles", '[');
    j->flat = true;
    for (unsigned i = 0; i < 7; i++)
        qn_json_out_real(j, NULL, r->kl_quantiles[i]);
    qn_json_out_end(j, ']');
    j->flat = false;
    qn_json_out_begin(j, "kl_histogram", '[');
    j->flat = true;
    for (unsigned i = 0; i < QN_REPORT_BINS; i++)
        qn_json_out_u64(j, NULL, r->kl_histogram[i]);
    qn_json_out_end(j, ']');
    j->flat = false;
    qn_json_out_end(j, '}');
}

static void arrays(qn_json_out *j, const qn_report *r)
{
    qn_json_out_begin(j, "arrays", '{');
    estimate(j, "same_top1", &r->io_same_top);
    estimate(j, "accuracy", &r->io_right);
    estimate(j, "accuracy_reference", &r->io_right_ref);
    qn_json_out_begin(j, "outputs", '[');
    for (uint64_t i = 0; i < r->n_outputs; i++) {
        const qn_report_output *o = &r->outputs[i];
        qn_json_out_begin(j, NULL, '{');
        qn_json_out_text(j, "name", o->name);
        qn_json_out_u64(j, "values", o->n_values);
        qn_json_out_real(j, "rel_rms", o->rel_rms);
        qn_json_out_real(j, "max_rel", o->max_rel);
        qn_json_out_real(j, "max_abs", o->max_abs);
        qn_json_out_real(j, "cosine", o->cosine);
        qn_json_out_end(j, '}');
    }
    qn_json_out_end(j, ']');
    qn_json_out_end(j, '}');
}

static void tensors(qn_json_out *j, const qn_report *r)
{
    qn_json_out_begin(j, "tensors", '[');
    for (uint64_t i = 0; i < r->n_tensors; i++) {
        const qn_report_tensor *t = &r->tensors[i];
        qn_json_out_begin(j, NULL, '{');
        j->flat = true;
        qn_json_out_text(j, "name", t->name);
        qn_json_out_text(j, "dtype", t->dtype);
        text(j, "ref_dtype", t->ref_dtype);
        text(j, "codec", t->codec);
        qn_json_out_u64(j, "weights", t->n_weights);
        qn_json_out_u64(j, "bytes", t->n_bytes);
        qn_json_out_real(j, "rel", t->rel);
        qn_json_out_real(j, "max_abs", t->max_abs);
        qn_json_out_real(j, "cosine", t->cosine);
        qn_json_out_u64(j, "differing", t->n_differing);
        text(j, "trouble", t->trouble);
        text(j, "looks", t->looks);
        if (t->layer != QN_REPORT_NO_LAYER)
            qn_json_out_u64(j, "layer", t->layer);
        qn_json_out_end(j, '}');
        j->flat = false;
    }
    qn_json_out_end(j, ']');
}

static void layers(qn_json_out *j, const qn_report *r)
{
    qn_json_out_begin(j, "layers", '[');
    for (uint64_t i = 0; i < r->n_layers; i++) {
        const qn_report_layer *y = &r->layers[i];
        qn_json_out_begin(j, NULL, '{');
        j->flat = true;
        qn_json_out_text(j, "name", y->name);
        qn_json_out_real(j, "rel_rms", y->rel_rms);
        qn_json_out_real(j, "max_abs", y->max_abs);
        qn_json_out_real(j, "own_rel", y->own_rel);
        qn_json_out_real(j, "bits", y->bits);
        qn_json_out_end(j, '}');
        j->flat = false;
    }
    qn_json_out_end(j, ']');
}

/* A row of numbers each: n, nll, nll_reference, kl, dp, dp², top, same_top. */
static void chunks(qn_json_out *j, const qn_report *r)
{
    qn_json_out_begin(j, "chunks", '[');
    for (uint64_t i = 0; i < r->n_chunks; i++) {
        const qn_chunk_score *c = &r->chunks[i];
        qn_json_out_begin(j, NULL, '[');
        j->flat = true;
        qn_json_out_u64(j, NULL, c->n);
        const double reals[] = {c->nll, c->nll_ref, c->kl, c->dp, c->dp2};
        for (unsigned k = 0; k < 5; k++)
            qn_json_out_real(j, NULL, reals[k]);
        qn_json_out_u64(j, NULL, c->n_top);
        qn_json_out_u64(j, NULL, c->n_same_top);
        qn_json_out_end(j, ']');
        j->flat = false;
    }
    qn_json_out_end(j, ']');
}

void qn_report_json(qn_textbuf *t, const qn_report *r)
{
    qn_json_out j = qn_json_out_of(t);
    qn_json_out_begin(&j, NULL, '{');
    qn_json_out_text(&j, "schema", QN_REPORT_SCHEMA);
    text(&j, "reason", r->reason);
    binding(&j, &r->b);
    if (r->n_limits)
        limits(&j, r);
    qn_json_out_u64(&j, "size_bytes", r->size_bytes);
    qn_json_out_u64(&j, "reference_bytes", r->reference_bytes);
    qn_json_out_u64(&j, "weights", r->n_weights);
    text(&j, "tokenizer_trouble", r->tokenizer_trouble);
    text(&j, "cannot_run", r->cannot_run);
    if (r->is_lm)
        tokens(&j, r);
    if (r->is_io)
        arrays(&j, r);
    if (!isnan(r->noise_kl)) {
        qn_json_out_begin(&j, "noise", '{');
        qn_json_out_real(&j, "kl", r->noise_kl);
        qn_json_out_real(&j, "nll", r->noise_nll);
        qn_json_out_end(&j, '}');
    }
    qn_json_out_real(&j, "seconds", r->seconds);
    layers(&j, r);
    tensors(&j, r);
    chunks(&j, r);
    qn_json_out_end(&j, '}');
}
