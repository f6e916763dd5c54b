/* tok_build.c: see tok_build.h. */
#include "tests/support/tok_build.h"
#include "tests/support/hostile.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static qt_files files;
static qn_env env;

qn_code qt_tok_try(const char *json, const char *config, qn_tokenizer **out, qn_err *err)
{
    qt_files_init(&files);
    qt_files_add(&files, "model/tokenizer.json", json, strlen(json));
    if (config)
        qt_files_add(&files, "model/tokenizer_config.json", config, strlen(config));
    env = qt_env(&files, NULL);
    qn_err_clear(err);
    const qn_code rc = qn_tokenizer_open(&env, "model", out, err);
    cr_assert_eq(files.n_open, 0u);
    return rc;
}

qn_tokenizer *qt_tok_open(const char *json, const char *config)
{
    qn_tokenizer *t = NULL;
    qn_err err;
    char line[1024] = "";
    const qn_code rc = qt_tok_try(json, config, &t, &err);
    if (rc != QN_OK)
        qn_err_line(&err, line, sizeof line);
    cr_assert_eq(rc, QN_OK, "%s", line);
    return t;
}

const char *qt_tok_ids(const qn_tokenizer *t, const char *text, size_t n, unsigned flags)
{
    static char out[4096];
    qn_tokens ids = {.n = 0};
    size_t at = 0;
    cr_assert_eq(qn_tokenizer_encode(t, text, n, flags, &ids, NULL), QN_OK);
    out[0] = '\0';
    for (uint64_t i = 0; i < ids.n && at < sizeof out - 16; i++)
        at += (size_t)snprintf(out + at, sizeof out - at, i ? " %u" : "%u", ids.ids[i]);
    qn_tokens_release(&ids, NULL);
    return out;
}

const char *qt_tok_text(const qn_tokenizer *t, const char *ids, bool skip_special)
{
    static char out[4096];
    uint32_t v[256];
    uint64_t n = 0, n_text = 0, cap = 0;
    char *text = NULL;
    for (char *end; *ids && n < 256; ids = end)
        v[n++] = (uint32_t)strtoul(ids, &end, 10);
    cr_assert_eq(qn_tokenizer_decode(t, v, n, skip_special, &text, &n_text, &cap, NULL), QN_OK);
    cr_assert_lt(n_text, sizeof out);
    memcpy(out, text, n_text);
    out[n_text] = '\0';
    qn_mem_put(NULL, text);
    return out;
}
