/* fuzz_json.c: the tokenizer against jansson: what one accepts the other accepts, but for depth (ours: 32) and for numbers
 * that do not fit (jansson: refused, ours: passed on as "no integer"). */
#include "formats/json/json.h"
#include "base/err.h"
#include "tests/fuzz/fuzz.h"
#include <jansson.h>
#include <string.h>

struct text {
    const uint8_t *p;
    size_t n;
};

static qn_code read_text(void *ctx, void *dst, uint64_t n, uint64_t off, qn_err *err)
{
    const struct text *t = ctx;
    (void)err;
    QF_CHECK(off <= t->n && n <= t->n - off);
    memcpy(dst, t->p + off, (size_t)n);
    return QN_OK;
}

static qn_code walk(const uint8_t *p, size_t n, qn_err *err)
{
    struct text t = {p, n};
    qn_json j;
    qn_json_token tok = QN_JSON_NULL;
    uint64_t at = 0;
    qn_code rc = qn_json_open(&j, NULL, read_text, &t, 0, n, err);
    while (rc == QN_OK && tok != QN_JSON_END) {
        rc = qn_json_next(&j, &tok, err);
        QF_CHECK(j.depth <= QN_JSON_DEPTH_MAX);
        if (rc == QN_OK && (tok == QN_JSON_KEY || tok == QN_JSON_STRING))
            QF_CHECK(j.n_text <= QN_JSON_STRING_MAX && strlen(j.text) == j.n_text);
        if (rc == QN_OK && tok != QN_JSON_END) {
            QF_CHECK(j.token_off >= at && j.token_off < n); /* it moves on, so it ends */
            at = j.token_off;
        }
    }
    qn_json_release(&j);
    return rc;
}

static bool is_ours_alone(const json_error_t *e)
{
    return json_error_code(e) == json_error_numeric_overflow;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    qn_err err;
    json_error_t why;
    qn_err_clear(&err);
    const qn_code rc = walk(p, n, &err);
    QF_CHECK(rc == QN_OK || rc == QN_E_INPUT);
    QF_CHECK(rc == QN_OK || (err.off <= n && err.text[0]));
    if (memchr(p, 0, n)) { /* jansson takes a zero byte for the end */
        QF_CHECK(rc != QN_OK);
        return 0;
    }
    json_t *tree = json_loadb((const char *)p, n, JSON_DECODE_ANY, &why);
    if (rc == QN_OK)
        QF_CHECK(tree || is_ours_alone(&why));
    else if (tree)
        QF_CHECK(strstr(err.text, "nested deeper"));
    json_decref(tree);
    return 0;
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const char *const seeds[] = {
        "{}", "[]", "0", "-1.5e+10", "\"\"", "true", "false", "null", " [ 1 , 2 ] ",
        "{\"a\":[1,-2,3.5,1e9,1E-9,0.0],\"b\":{\"c\":null,\"d\":[true,false]},\"\":\"\"}",
        "[\"\\u0041\\ud83d\\ude00\\\"\\\\\\/\\b\\f\\n\\r\\t\",\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"]",
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
        "[18446744073709551615,18446744073709551616,9223372036854775807,1e308,1e309]",
        "{\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
    };
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++)
        emit(ctx, (const uint8_t *)seeds[i], strlen(seeds[i]));
}
