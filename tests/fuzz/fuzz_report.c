/* fuzz_report.c: reports of any bytes: read or refused; what is read is written and reads back the same. And thresholds. */
#include "analysis/gate/gate.h"
#include "base/err.h"
#include "tests/fuzz/fuzz.h"
#include <string.h>

static void judge(const qn_report *r)
{
    static const qn_gate_options o = {.all = true, .last = QN_RUNG_SIZE};
    qn_thresholds t;
    qn_gate g;
    qn_thresholds_init(&t, true);
    QF_CHECK(qn_gate_judge(r, r, &t, &o, NULL, &g, NULL) == QN_OK);
    qn_gate_release(&g);
}

static void report(const uint8_t *p, size_t n)
{
    qn_report r, again;
    qn_err err;
    qn_textbuf t, u;
    qn_err_clear(&err);
    const qn_code rc = qn_report_parse(&r, NULL, (const char *)p, n, &err);
    QF_CHECK(rc == QN_OK || rc == QN_E_INPUT);
    QF_CHECK(rc == QN_OK || err.text[0]);
    if (rc != QN_OK)
        return;
    judge(&r);
    qn_textbuf_init(&t, NULL);
    qn_textbuf_init(&u, NULL);
    qn_report_json(&t, &r);
    QF_CHECK(qn_report_parse(&again, NULL, t.text, t.n, &err) == QN_OK);
    qn_report_json(&u, &again);
    QF_CHECK(t.n == u.n && memcmp(t.text, u.text, t.n) == 0);
    qn_textbuf_release(&t);
    qn_textbuf_release(&u);
    qn_report_release(&r);
    qn_report_release(&again);
}

static void thresholds(const uint8_t *p, size_t n)
{
    qn_thresholds t;
    qn_err err;
    qn_arena arena;
    qn_err_clear(&err);
    qn_arena_init(&arena, NULL);
    qn_thresholds_init(&t, n % 2);
    const qn_code rc = qn_thresholds_parse(&t, (const char *)p, n, "t", &arena, &err);
    QF_CHECK(rc == QN_OK || (rc == QN_E_USAGE && err.text[0]));
    for (unsigned m = 0; m < QN_N_METRICS && rc == QN_OK; m++)
        QF_CHECK(t.bound[m].value >= 0 && t.versus[m].value >= 0);
    qn_thresholds_release(&t);
    qn_arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    report(p, n);
    thresholds(p, n);
    return 0;
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const char *const seeds[] = {
        ("{\"schema\": \"quern/report/1\", \"reason\": \"r\", \"binding\": {\"reference\": \"00112233445566778899aabbccddeeff\", \"chunks\": 1}, "
         "\"size_bytes\": 5, \"weights\": 10, \"tokens\": {\"kl\": {\"value\": 0.1, \"se\": null, \"low\": 0, \"high\": \"inf\"}, "
         "\"kl_quantiles\": [0, 0, 0, 0, 0, 0, 1]}, \"noise\": {\"kl\": 0, \"nll\": 0}, \"limits\": [{\"name\": \"kld_mean\", \"value\": 1}], "
         "\"layers\": [{\"name\": \"layers.0\", \"rel_rms\": 0.5}], \"tensors\": [{\"name\": \"layers.0.a\", \"dtype\": \"F32\", \"rel\": 0.1, "
         "\"layer\": 0}], \"chunks\": [[4, 1, 1, 0.4, 0, 0, 1, 2]]}"),
        ("{\"schema\": \"quern/report/1\", \"arrays\": {\"same_top1\": {\"value\": 1}, \"outputs\": [{\"name\": \"y\", \"rel_rms\": 0.1}]}, "
         "\"chunks\": [[4, 0, 0, 0, 0, 0, 1, 2]], \"binding\": {\"chunks\": 1}}"),
        "kld_mean: {max: 0.04}\ntop1: {min: 93%}\nvs_baseline: {kld_mean: +10%, top1: -1%}\nlayers: {rel_err: {max: 1.2x baseline}}\nlossless: ['*n*']\n",
    };
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++)
        emit(ctx, (const uint8_t *)seeds[i], strlen(seeds[i]));
}
