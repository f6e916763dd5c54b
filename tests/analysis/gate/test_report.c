/* test_report.c: a report goes to JSON and back without losing a bit; what is no report is refused. */
#include "analysis/gate/report.h"
#include "base/err.h"
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

/* Numbers that decimal digits like to lose. */
static const double hard[] = {0.1, 1.0 / 3, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, -0.0, 123456789012345680.0, 0.30000000000000004};

static qn_estimate estimate(unsigned i)
{
    return (qn_estimate){.value = hard[i % 8], .se = (double)NAN, .low = -hard[(i + 1) % 8], .high = i % 2 ? (double)INFINITY : hard[(i + 2) % 8]};
}

static qn_chunk_score chunks[2] = {{.n = 7, .nll = 0.1, .nll_ref = 1e-300, .kl = 1.0 / 7, .dp = -1e-17, .dp2 = 3e-34, .n_top = 3, .n_same_top = 7}, {.n = 1}};
static qn_report_tensor tensors[2] = {
    {.name = "a \"b\" \\ \n é", .dtype = "BF16", .ref_dtype = "F32", .codec = "ect", .n_weights = UINT64_C(1) << 60, .n_bytes = 3, .rel = 1.0 / 3, .max_abs = (double)INFINITY,
     .cosine = (double)NAN, .n_differing = 5, .looks = "looks transposed", .layer = 31},
    {.name = "t", .dtype = "Q4_K", .trouble = "only in the reference", .rel = (double)NAN, .max_abs = (double)NAN, .cosine = (double)NAN, .layer = QN_REPORT_NO_LAYER}};
static qn_report_layer layers[1] = {{.name = "layers.0", .rel_rms = 0.1, .max_abs = 1.0 / 3, .own_rel = (double)NAN, .bits = 4.1}};
static qn_report_output outputs[1] = {{.name = "y", .n_values = 10, .rel_rms = 0.1, .max_rel = 0.2, .max_abs = 0.7, .cosine = 0.99}};
static qn_report_limit limits[2] = {{.name = "kld_mean", .value = 0.04}, {.name = "layers.rel_err", .value = 1.2, .times = true}};

static void fill(qn_report *r)
{
    qn_report_init(r, NULL);
    for (unsigned i = 0; i < 16; i++)
        r->b.reference.b[i] = (uint8_t)(17 * i);
    r->b.data.b[15] = 9;
    r->b.reference_path = "model/";
    r->b.version = "0.1";
    r->b.n_chunks = r->n_chunks = 2;
    r->b.context = 128;
    r->b.n_scored = 8;
    r->reason = "why";
    r->size_bytes = 1 << 30;
    r->n_weights = 77;
    r->is_lm = r->is_io = true;
    qn_estimate *const e[] = {&r->kl, &r->kl_p99, &r->ppl, &r->ppl_ref, &r->ppl_ratio, &r->same_top, &r->excess, &r->io_same_top, &r->io_right};
    for (unsigned i = 0; i < 9; i++)
        *e[i] = estimate(i);
    for (unsigned i = 0; i < 7; i++)
        r->kl_quantiles[i] = hard[i];
    for (unsigned i = 0; i < QN_REPORT_BINS; i++)
        r->kl_histogram[i] = i * 67108864u;
    r->max_dp = 0.999;
    r->noise_kl = 1e-17;
    r->noise_nll = 0;
    r->seconds = 1.5;
    r->chunks = chunks;
    r->tensors = tensors;
    r->layers = layers;
    r->outputs = outputs;
    r->limits = limits;
    r->n_tensors = 2;
    r->n_layers = r->n_outputs = 1;
    r->n_limits = 2;
}

static bool same(double a, double b)
{
    return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0;
}

static void expect_same_estimate(const qn_estimate *a, const qn_estimate *b)
{
    cr_expect(same(a->value, b->value) && same(a->se, b->se) && same(a->low, b->low) && same(a->high, b->high));
}

Test(report, every_bit_comes_back)
{
    qn_report r, x;
    qn_textbuf t, again;
    qn_err err;
    qn_err_clear(&err);
    fill(&r);
    qn_textbuf_init(&t, NULL);
    qn_textbuf_init(&again, NULL);
    qn_report_json(&t, &r);
    cr_assert_eq(qn_textbuf_check(&t, &err), QN_OK);
    cr_assert_eq(qn_report_parse(&x, NULL, t.text, t.n, &err), QN_OK, "%s", err.text);
    expect_same_estimate(&x.kl, &r.kl);
    expect_same_estimate(&x.excess, &r.excess);
    expect_same_estimate(&x.io_right, &r.io_right);
    cr_expect(isnan(x.io_right_ref.value));
    cr_expect_eq(memcmp(x.kl_quantiles, r.kl_quantiles, sizeof r.kl_quantiles), 0);
    cr_expect_eq(memcmp(x.kl_histogram, r.kl_histogram, sizeof r.kl_histogram), 0);
    cr_expect_eq(memcmp(x.chunks, r.chunks, sizeof chunks), 0);
    cr_expect(qn_digest_equal(&x.b.reference, &r.b.reference));
    cr_expect(qn_digest_equal(&x.b.tokenizer, &(qn_digest){{0}}));
    cr_expect_str_eq(x.tensors[0].name, tensors[0].name);
    cr_expect_eq(x.tensors[0].n_weights, tensors[0].n_weights);
    cr_expect(isinf(x.tensors[0].max_abs) && isnan(x.tensors[0].cosine));
    cr_expect_eq(x.tensors[1].layer, QN_REPORT_NO_LAYER);
    cr_expect_str_eq(x.tensors[1].trouble, "only in the reference");
    cr_expect_null(x.tensors[1].codec);
    cr_expect(same(x.layers[0].max_abs, 1.0 / 3) && isnan(x.layers[0].own_rel));
    cr_expect(x.limits[1].times && !x.limits[0].times);
    qn_report_json(&again, &x);
    cr_expect_eq(again.n, t.n);
    cr_expect_eq(memcmp(again.text, t.text, t.n), 0, "written again it is the same text");
    qn_report_release(&x);
    qn_textbuf_release(&t);
    qn_textbuf_release(&again);
}

Test(report, refuses_what_is_none)
{
#define HEAD "{\"schema\": \"quern/report/1\""
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"", "end"},
        {"[]", "an object is expected"},
        {"{}", "no \"schema\""},
        {"{\"schema\": \"quern/report/2\"}", "quern/report/1 is expected"},
        {"{\"schema\": 1}", "quern/report/1 is expected"},
        {HEAD ", \"size_bytes\": -1}", "'size_bytes': a whole number"},
        {HEAD ", \"size_bytes\": 18446744073709551615}", "'size_bytes': a whole number"},
        {HEAD ", \"seconds\": \"soon\"}", "'seconds': a number"},
        {HEAD ", \"binding\": []}", "'binding': an object"},
        {HEAD ", \"binding\": {\"data\": \"12\"}}", "'data': a digest"},
        {HEAD ", \"binding\": {\"data\": \"000000000000000000000000000000zz\"}}", "'data': a digest"},
        {HEAD ", \"tensors\": {}}", "'tensors': a list"},
        {HEAD ", \"tensors\": [{}]}", "'tensors': a tensor with 'name' and 'dtype'"},
        {HEAD ", \"tensors\": [3]}", "'tensors': an object"},
        {HEAD ", \"layers\": [{\"rel_rms\": 1}]}", "'layers': a layer with 'name'"},
        {HEAD ", \"chunks\": [[1, 2, 3]]}", "'chunks': a list of 8 numbers"},
        {HEAD ", \"chunks\": [[1, 2, 3, 4, 5, 6, 2, 0]]}", "not above the first"},
        {HEAD ", \"chunks\": [[1, 2, 3, 4, 5, 6, 1, 1, 1]]}", "a list of 8 numbers"},
        {HEAD ", \"tokens\": {\"kl\": 3}}", "'kl': an object"},
        {HEAD ", \"tokens\": {\"kl_quantiles\": [1]}}", "a list of 7 numbers"},
        {HEAD ", \"tokens\": {\"kl_histogram\": [1]}}", "a list of 64 counts"},
        {HEAD ", \"tokens\": {}, \"binding\": {\"chunks\": 3}}", "0 chunks, but the binding says 3"},
        {HEAD "} x", ""},
        {HEAD, ""},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        qn_report r;
        qn_err err;
        qn_err_clear(&err);
        cr_expect_eq(qn_report_parse(&r, NULL, rows[i].text, strlen(rows[i].text), &err), QN_E_INPUT, "%s", rows[i].text);
        cr_expect(strstr(err.text, rows[i].message), "%s: %s", rows[i].text, err.text);
    }
    qn_report r;
    qn_err err;
    static const char strange[] = HEAD ", \"new\": {\"a\": [1, {\"b\": null}]}, \"tensors\": [{\"name\": \"x\", \"dtype\": \"F32\", \"later\": [[]]}]}";
    cr_expect_eq(qn_report_parse(&r, NULL, strange, strlen(strange), &err), QN_OK, "unknown keys are passed over");
    cr_expect_eq(r.n_tensors, 1);
    cr_expect(isnan(r.tensors[0].rel) && isnan(r.kl.value) && isnan(r.noise_kl));
    qn_report_release(&r);
}

Test(report, layers_of_names)
{
    cr_expect_eq(qn_report_layer_of("model.layers.12.mlp.up_proj.weight"), 12);
    cr_expect_eq(qn_report_layer_of("blk.3.attn_q.weight"), 3);
    cr_expect_eq(qn_report_layer_of("layers.7"), 7);
    cr_expect_eq(qn_report_layer_of("7.weight"), QN_REPORT_NO_LAYER);
    cr_expect_eq(qn_report_layer_of("lm_head.weight"), QN_REPORT_NO_LAYER);
    cr_expect_eq(qn_report_layer_of("conv1.weight"), QN_REPORT_NO_LAYER);
    cr_expect_eq(qn_report_layer_of(""), QN_REPORT_NO_LAYER);
}
