/* test_gate.c: verdicts against values worked out by hand; what a thresholds file may say. */
#include "analysis/gate/gate.h"
#include "base/err.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static qn_arena arena;
static qn_err err;

static void set_up(void)
{
    qn_arena_init(&arena, NULL);
    qn_err_clear(&err);
}

static void tear_down(void)
{
    qn_arena_release(&arena);
}

TestSuite(gate, .init = set_up, .fini = tear_down);
TestSuite(thresholds, .init = set_up, .fini = tear_down);

enum { CHUNKS = 3, TENSORS = 4 };

/* A report of three chunks of 10 tokens with these sums of KL, and four tensors. */
struct made {
    qn_report r;
    qn_chunk_score chunks[CHUNKS];
    qn_report_tensor tensors[TENSORS];
    qn_report_layer layers[2];
};

static void make(struct made *m, double k0, double k1, double k2)
{
    static const char *const names[TENSORS] = {"embed.weight", "layers.0.a.weight", "layers.0.norm.weight", "layers.1.a.weight"};
    const double kl[CHUNKS] = {k0, k1, k2};
    memset(m, 0, sizeof *m);
    qn_report_init(&m->r, NULL);
    for (unsigned i = 0; i < CHUNKS; i++)
        m->chunks[i] = (qn_chunk_score){.n = 10, .nll = 20, .nll_ref = 20 - kl[i] / 2, .kl = kl[i], .n_top = 5, .n_same_top = 9};
    for (unsigned i = 0; i < TENSORS; i++)
        m->tensors[i] = (qn_report_tensor){.name = names[i], .dtype = "BF16", .codec = "grid", .n_weights = 1000, .n_bytes = 500, .rel = 0.1, .max_abs = 0.5,
                                           .cosine = 0.995, .n_differing = 900, .layer = qn_report_layer_of(names[i])};
    m->tensors[2] = (qn_report_tensor){.name = names[2], .dtype = "BF16", .codec = "lossless", .n_weights = 10, .n_bytes = 20, .cosine = 1, .layer = 0};
    m->layers[0] = (qn_report_layer){.name = "layers.0", .rel_rms = 0.1, .own_rel = 0.1, .bits = 4};
    m->layers[1] = (qn_report_layer){.name = "layers.1", .rel_rms = 0.15, .own_rel = 0.1, .bits = 4};
    qn_report *r = &m->r;
    r->is_lm = true;
    r->tensors = m->tensors;
    r->n_tensors = TENSORS;
    r->layers = m->layers;
    r->n_layers = 2;
    r->chunks = m->chunks;
    r->n_chunks = r->b.n_chunks = CHUNKS;
    r->kl = qn_mean_of(m->chunks, CHUNKS, offsetof(qn_chunk_score, kl));
    r->excess = qn_mean_excess(m->chunks, CHUNKS);
    r->ppl_ratio = qn_exp_estimate(r->excess);
    r->same_top = qn_share_of(m->chunks, CHUNKS, true);
    r->kl_p99 = (qn_estimate){.value = 1, .se = (double)NAN, .low = 0.8, .high = 1.3};
    r->size_bytes = 2000;
    r->n_weights = 3010;
}

static const qn_check *check_of(const qn_gate *g, const char *id)
{
    for (uint64_t i = 0; i < g->n_checks; i++)
        if (strcmp(g->checks[i].id, id) == 0)
            return &g->checks[i];
    return NULL;
}

static qn_gate judge(const struct made *m, const struct made *base, const char *yaml, bool all)
{
    qn_thresholds t;
    qn_gate g;
    const qn_gate_options o = {.all = all, .last = QN_RUNG_SIZE};
    qn_thresholds_init(&t, base != NULL);
    if (yaml)
        cr_assert_eq(qn_thresholds_parse(&t, yaml, strlen(yaml), "t.yaml", &arena, &err), QN_OK, "%s", err.text);
    cr_assert_eq(qn_gate_judge(&m->r, base ? &base->r : NULL, &t, &o, NULL, &g, &err), QN_OK, "%s", err.text);
    qn_thresholds_release(&t);
    return g;
}

/* Means 0.1, 0.2, 0.3 per token: mean 0.2, standard deviation 0.1, SE 0.1/√3, t(2) = 4.30265: 0.2 ± 0.248414. */
Test(gate, three_verdicts_of_an_interval)
{
    struct made m;
    make(&m, 1, 2, 3);
    static const struct {
        const char *yaml;
        qn_verdict verdict;
    } rows[] = {{"kld_mean: {max: 0.449}", QN_PASS}, {"kld_mean: {max: 0.448}", QN_INCONCLUSIVE}, {"kld_mean: {max: 0}", QN_INCONCLUSIVE},
                {"top1: {min: 0.5}", QN_PASS}, {"top1: {min: 89%}", QN_INCONCLUSIVE}, {"top1: {min: 0.99}", QN_FAIL_GATE},
                {"kld_p99: {max: 1.2}", QN_INCONCLUSIVE}, {"kld_p99: {max: 0.7}", QN_FAIL_GATE}, {"kld_p99: {max: 1.3}", QN_PASS},
                {"size_bytes: {max: 2000}", QN_PASS}, {"size_bytes: {max: 1999}", QN_FAIL_GATE}, {"size_bytes: {max: 1K}", QN_FAIL_GATE},
                {"bpw: {max: 5.32}", QN_PASS}, {"bpw: {max: 5.31}", QN_FAIL_GATE}, {"accuracy: {min: 0.5}", QN_INCONCLUSIVE}};
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        qn_gate g = judge(&m, NULL, rows[i].yaml, false);
        cr_expect_eq(g.verdict, rows[i].verdict, "%s: %s", rows[i].yaml, qn_verdict_names[g.verdict]);
        qn_gate_release(&g);
    }
    qn_gate g = judge(&m, NULL, "kld_mean: {max: 0.3}\n", false);
    const qn_check *c = check_of(&g, "kld_mean");
    cr_assert(c);
    cr_expect_float_eq(c->found, 0.2, 1e-12);
    cr_expect_float_eq(c->low, 0.2 - 0.2484138, 1e-6);
    cr_expect_float_eq(c->high, 0.2 + 0.2484138, 1e-6);
    cr_expect_eq(c->n_needed, 19); /* ⌈3 · (0.248414 / 0.1)²⌉ */
    cr_expect_str_eq(c->file, "t.yaml");
    cr_expect_eq(c->line, 1);
    qn_gate_release(&g);
}

/* Differences 0.02, 0.01, 0.03 per token: mean 0.02, SE 0.01/√3: 0.02 ± 0.0248414, beside the baseline's 0.2. The baseline may grow by 0.02. */
Test(gate, pairs_with_the_baseline)
{
    struct made base, m;
    make(&base, 1, 2, 3);
    make(&m, 1.2, 2.1, 3.3);
    qn_gate g = judge(&m, &base, "vs_baseline: {kld_mean: +10%}", false);
    const qn_check *c = check_of(&g, "vs_baseline.kld_mean");
    cr_assert(c);
    cr_expect_float_eq(c->found, 0.22, 1e-12);
    cr_expect_float_eq(c->low, 0.22 - 0.02484138, 1e-7);
    cr_expect_float_eq(c->high, 0.22 + 0.02484138, 1e-7);
    cr_expect_float_eq(c->limit, 0.22, 1e-8);
    cr_expect_eq(c->verdict, QN_INCONCLUSIVE);
    qn_gate_release(&g);
    g = judge(&m, &base, "vs_baseline: {kld_mean: +23%}", false);
    cr_expect_eq(g.verdict, QN_PASS);
    qn_gate_release(&g);
    make(&m, 2, 3, 4.1); /* differences 0.1, 0.1, 0.11: certainly more than 10 % of 0.2 */
    g = judge(&m, &base, "vs_baseline: {kld_mean: +10%}", false);
    cr_expect_eq(g.verdict, QN_FAIL_GATE);
    qn_gate_release(&g);
    /* ln of the ratio grows by half of the difference: here by 0.05, 0.05, 0.055 */
    g = judge(&m, &base, "vs_baseline: {ppl_ratio: +1%}", false);
    c = check_of(&g, "vs_baseline.ppl_ratio");
    cr_assert(c);
    cr_expect_float_eq(c->found / base.r.ppl_ratio.value, exp(0.155 / 3), 1e-9);
    cr_expect_eq(c->verdict, QN_FAIL_GATE);
    qn_gate_release(&g);
}

Test(gate, an_equal_rerun_passes_whatever_the_chunks)
{
    struct made base, m;
    make(&base, 1, 20, 300);
    make(&m, 1, 20, 300);
    qn_gate g = judge(&m, &base, NULL, false);
    cr_expect_eq(g.verdict, QN_PASS);
    cr_expect_eq(g.by_verdict[QN_INCONCLUSIVE], 0);
    qn_gate_release(&g);
    base.r.n_chunks = base.r.b.n_chunks = m.r.n_chunks = m.r.b.n_chunks = 1;
    g = judge(&m, &base, NULL, false);
    cr_expect_eq(g.verdict, QN_PASS, "one chunk, equal: that is certain");
    qn_gate_release(&g);
    m.chunks[0].kl = 1.01;
    g = judge(&m, &base, NULL, false);
    cr_expect_eq(g.verdict, QN_INCONCLUSIVE, "one chunk, another: nothing is known of its spread");
    qn_gate_release(&g);
}

Test(gate, names_the_tensor_and_stops_there)
{
    struct made base, m;
    make(&base, 1, 2, 3);
    make(&m, 1, 2, 3);
    m.tensors[1].rel = 0.106;
    m.tensors[1].looks = "looks transposed";
    m.tensors[3].rel = 0.104; /* within 1.05 × 0.1 */
    qn_gate g = judge(&m, &base, NULL, false);
    const qn_check *c = check_of(&g, "tensor_rel_err");
    cr_assert(c);
    cr_expect_eq(g.verdict, QN_FAIL_GATE);
    cr_expect_eq(g.by_verdict[QN_FAIL_GATE], 1);
    cr_expect_str_eq(c->subject, "layers.0.a.weight");
    cr_expect(strstr(c->text, "0.106") && strstr(c->text, "looks transposed"), "%s", c->text);
    cr_expect_not(check_of(&g, "vs_baseline.kld_mean"));
    cr_expect_eq(g.by_verdict[QN_SKIPPED], 3);
    qn_gate_release(&g);
    g = judge(&m, &base, NULL, true);
    cr_expect(check_of(&g, "vs_baseline.kld_mean"), "--all goes on");
    cr_expect_eq(g.by_verdict[QN_SKIPPED], 0);
    qn_gate_release(&g);
    m.tensors[1].rel = 0.1;
    m.tensors[1].max_abs = 1.1; /* more than 2 × 0.5 */
    g = judge(&m, &base, NULL, false);
    cr_expect(check_of(&g, "tensor_max_abs"));
    qn_gate_release(&g);
    g = judge(&m, &base, "tensors: none", false);
    cr_expect_eq(g.verdict, QN_PASS);
    qn_gate_release(&g);
}

Test(gate, structure_bits_tokenizer_and_what_does_not_run)
{
    struct made base, m;
    make(&base, 1, 2, 3);
    make(&m, 1, 2, 3);
    m.tensors[2].n_differing = 1;
    m.tensors[2].rel = 1e-4;
    qn_gate g = judge(&m, NULL, NULL, false);
    cr_expect_str_eq(check_of(&g, "lossless")->subject, "layers.0.norm.weight");
    cr_expect_eq(g.verdict, QN_FAIL_GATE);
    qn_gate_release(&g);
    m.tensors[2].codec = NULL; /* a dense file: only the baseline knows that it was equal */
    g = judge(&m, NULL, NULL, false);
    cr_expect_eq(g.verdict, QN_PASS);
    qn_gate_release(&g);
    g = judge(&m, &base, NULL, false);
    cr_expect_eq(g.verdict, QN_FAIL_GATE);
    qn_gate_release(&g);
    g = judge(&m, NULL, "lossless: '*.norm.*'", false);
    cr_expect_eq(check_of(&g, "lossless")->line, 1);
    cr_expect_eq(g.verdict, QN_FAIL_GATE);
    qn_gate_release(&g);
    make(&m, 1, 2, 3);
    m.tensors[0].trouble = "shape 2×3; 3×2 in the reference";
    g = judge(&m, NULL, NULL, false);
    cr_expect_str_eq(check_of(&g, "structure")->subject, "embed.weight");
    qn_gate_release(&g);
    make(&m, 1, 2, 3);
    m.r.tokenizer_trouble = "another tokenizer";
    g = judge(&m, NULL, NULL, false);
    cr_expect_eq(g.checks[0].rung, QN_RUNG_BINDING);
    cr_expect_eq(g.verdict, QN_FAIL_GATE);
    qn_gate_release(&g);
    make(&m, 1, 2, 3);
    m.r.is_lm = false;
    m.r.cannot_run = "logits are not finite";
    g = judge(&m, NULL, NULL, false);
    cr_expect(strstr(check_of(&g, "runs")->text, "not finite"));
    qn_gate_release(&g);
}

Test(gate, a_whole_layer)
{
    struct made m;
    qn_report_tensor more[6];
    make(&m, 1, 2, 3);
    for (unsigned i = 0; i < 6; i++) {
        static const char *const names[6] = {"layers.1.a", "layers.1.b", "layers.1.c", "layers.0.a", "layers.0.b", "layers.0.c"};
        more[i] = m.tensors[1];
        more[i].name = names[i];
        more[i].layer = i < 3 ? 1 : 0;
        more[i].rel = i < 3 ? 1.4 : 0.1;
        more[i].looks = i < 3 ? "looks like the reference's 'layers.4.a'" : NULL;
    }
    m.r.tensors = more;
    m.r.n_tensors = 6;
    qn_gate g = judge(&m, NULL, NULL, false);
    const qn_check *c = check_of(&g, "tensor_layer");
    cr_assert(c);
    cr_expect_str_eq(c->subject, "layer 1");
    cr_expect_str_eq(c->text, "3 of its 3 tensors are wrong: it looks like layer 4 of the reference");
    qn_gate_release(&g);
}

Test(gate, layers_and_where_it_jumps)
{
    struct made base, m;
    make(&base, 1, 2, 3);
    make(&m, 1, 2, 3);
    m.layers[1].own_rel = 0.5;
    m.layers[1].rel_rms = 0.6;
    qn_gate g = judge(&m, &base, NULL, false);
    const qn_check *c = check_of(&g, "layer_rel_err");
    cr_assert(c);
    cr_expect_eq(c->verdict, QN_FAIL_GATE);
    cr_expect_str_eq(c->subject, "layers.1");
    cr_expect(strstr(c->text, "first jumps at layers.1"), "%s", c->text);
    qn_gate_release(&g);
    g = judge(&m, &base, "layers: {rel_err: {max: 5.1x baseline}}", false);
    cr_expect_eq(g.verdict, QN_PASS);
    qn_gate_release(&g);
}

Test(gate, bindings_must_agree)
{
    struct made base, m;
    make(&base, 1, 2, 3);
    make(&m, 1, 2, 3);
    cr_expect_eq(qn_gate_check_binding(&m.r, &base.r, &err), QN_OK);
    m.r.b.data.b[3] = 0xab;
    m.r.b.n_chunks = 7;
    cr_expect_eq(qn_gate_check_binding(&m.r, &base.r, &err), QN_E_INPUT);
    cr_expect(strstr(err.text, "another text or cut"), "%s", err.text);
    cr_expect(strstr(err.text, "000000ab"), "%s", err.text);
    qn_err_clear(&err);
    m.r.b.tokenizer.b[0] = 1;
    cr_expect_eq(qn_gate_check_binding(&m.r, &base.r, &err), QN_E_INPUT);
    cr_expect(strstr(err.text, "another tokenizer: 01"), "%s", err.text);
    qn_err_clear(&err);
    m.r.b.reference.b[0] = 1;
    cr_expect_eq(qn_gate_check_binding(&m.r, &base.r, &err), QN_E_INPUT);
    cr_expect(strstr(err.text, "another reference"), "%s", err.text);
}

Test(gate, loosening_is_seen)
{
    struct made base, m;
    qn_thresholds t;
    make(&base, 1, 2, 3);
    make(&m, 1, 2, 3);
    static const char strict[] = "kld_mean: {max: 0.5}\ntop1: {min: 0.6}\nbpw: {max: 9}";
    qn_thresholds_init(&t, true);
    cr_assert_eq(qn_thresholds_parse(&t, strict, strlen(strict), "t.yaml", &arena, &err), QN_OK);
    cr_assert_eq(qn_gate_record_limits(&base.r, &t, &err), QN_OK);
    qn_gate g = judge(&m, &base, strict, false);
    cr_expect_eq(g.n_warnings, 0);
    qn_gate_release(&g);
    g = judge(&m, &base, "kld_mean: {max: 0.6}\ntop1: {min: 0.5}\nlayers: {rel_err: {max: 0.1}}\ntensors: none", false);
    cr_expect_eq(g.n_warnings, 6); /* two looser, bpw gone, layers in another way, two of tensors gone */
    cr_expect(strstr(g.warnings[0], "kld_mean is looser"), "%s", g.warnings[0]);
    qn_gate_release(&g);
    qn_report_release(&base.r);
}

/* --- the file ---------------------------------------------------------------------------------------------------------------- */

Test(thresholds, reads_every_form)
{
    static const char text[] = "kld_mean: {max: 0.04}\ntop1: {min: 93%}\nsize_bytes: {max: 40MB}\nvs_baseline: {kld_mean: +10%, top1: -0.5%}\n"
                               "layers:\n  rel_err: {max: 1.2x baseline}\n  output_err: {max: 0.5}\ntensors: {max_abs: {max: 3x baseline}}\nlossless: ['*norm*', head]\n";
    qn_thresholds t;
    qn_thresholds_init(&t, true);
    cr_assert_eq(qn_thresholds_parse(&t, text, strlen(text), "t.yaml", &arena, &err), QN_OK, "%s", err.text);
    cr_expect_float_eq(t.bound[QN_M_KLD_MEAN].value, 0.04, 1e-15);
    cr_expect_float_eq(t.bound[QN_M_TOP1].value, 0.93, 1e-15);
    cr_expect_float_eq(t.bound[QN_M_SIZE].value, 40e6, 0);
    cr_expect_float_eq(t.versus[QN_M_TOP1].value, 0.005, 1e-15);
    cr_expect_not(t.versus[QN_M_PPL_RATIO].given, "a section that is given replaces its defaults");
    cr_expect(t.bound[QN_M_LAYER_REL].times && t.bound[QN_M_LAYER_REL].line == 6);
    cr_expect_not(t.bound[QN_M_LAYER_OUTPUT].times);
    cr_expect_not(t.bound[QN_M_TENSOR_REL].given);
    cr_expect_eq(t.n_lossless, 2);
    qn_thresholds_release(&t);
}

Test(thresholds, says_what_is_wrong_and_where)
{
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"top1: {min: 0.9}\nkld_meen: {max: 1}", "line 2: 'kld_meen' is not known; allowed are kld_mean, kld_p99"},
        {"kld_mean: 0.04", "line 1: kld_mean: {max: …} is expected"},
        {"kld_mean: {}", "line 1: kld_mean: {max: …} is expected"},
        {"kld_mean: {min: 1}", "line 1: 'min' is not known for kld_mean; allowed is max"},
        {"top1: {max: 1}", "line 1: 'max' is not known for top1; allowed is min"},
        {"kld_mean: {max: x}", "line 1: max: 'x' found; a number is expected"},
        {"kld_mean: {max: nan}", "line 1: max: 'nan' found"},
        {"kld_mean: {max: -1}", "line 1: max: '-1' found"},
        {"kld_mean: {max: 1.2x baseline}", "line 1: max: '1.2x baseline' found; a number is expected"},
        {"kld_mean: {max: 1, max: 2}", "line 1: 'max' is given twice"},
        {"size_bytes: {max: 4XB}", "line 1: max: '4XB' found; a number of bytes is expected"},
        {"vs_baseline: {kld_mean: 10}", "line 1: kld_mean: '10' found; '+10%' is expected: by how much it may grow"},
        {"vs_baseline: {top1: +1%}", "line 1: top1: '+1%' found; '-1%' is expected: by how much it may fall"},
        {"vs_baseline: {rel_err: +1%}", "line 1: 'rel_err' is not known; allowed are"},
        {"vs_baseline: 3", "line 1: vs_baseline: limits, or 'none', are expected"},
        {"layers: {rel: {max: 1}}", "line 1: 'rel' is not known; allowed are rel_err, output_err"},
        {"tensors:\n  rel_err: {max: 2x}", "line 2: max: '2x' found; a number, or '1.2x baseline', is expected"},
        {"lossless: {a: b}", "line 1: lossless: found no single value"},
        {"lossless: ['re:(']", "line 1: "},
        {"", "holds nothing"},
        {"[1", "not YAML"},
        {"a: b\n---\nc: d", "line 1: 'a' is not known"},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        qn_thresholds t;
        qn_err_clear(&err);
        qn_thresholds_init(&t, false);
        cr_expect_eq(qn_thresholds_parse(&t, rows[i].text, strlen(rows[i].text), "t.yaml", &arena, &err), QN_E_USAGE, "%s", rows[i].text);
        cr_expect(strstr(err.text, rows[i].message), "%s: %s", rows[i].text, err.text);
        cr_expect_str_eq(err.path, "t.yaml");
        qn_thresholds_release(&t);
    }
}
