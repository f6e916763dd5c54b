/* sp_build.c: see sp_build.h. */
#include "tests/support/sp_build.h"
#include "base/num.h"
#include <criterion/criterion.h>
#include <string.h>

void qt_sp_piece(qt_buf *b, const char *piece, float score, int type)
{
    const size_t n = strlen(piece);
    const uint8_t head[] = {0x0a, (uint8_t)(n + 9), 0x0a, (uint8_t)n};
    uint8_t tail[7] = {0x15, 0, 0, 0, 0, 0x18, (uint8_t)type};
    cr_assert_lt(n, 100);
    memcpy(tail + 1, &score, 4);
    qt_add(b, head, sizeof head);
    qt_add(b, piece, n);
    qt_add(b, tail, sizeof tail);
}

void qt_sp_bytes(qt_buf *b)
{
    for (unsigned i = 0; i < 256; i++) {
        char s[8];
        snprintf(s, sizeof s, "<0x%02X>", i);
        qt_sp_piece(b, s, 0, QT_BYTE);
    }
}

static qn_code open_bytes(const char *name, const qt_buf *b, qn_tokenizer **t, qn_err *err)
{
    static qt_files files;
    static qn_env env; /* the tokenizer borrows it */
    qt_files_init(&files);
    qt_files_add(&files, name, b->p, b->n);
    env = qt_env(&files, NULL);
    return qn_tokenizer_open(&env, name, t, err);
}

qn_tokenizer *qt_sp_open(const char *name, const qt_buf *b)
{
    qn_tokenizer *t = NULL;
    qn_err err = {0};
    cr_assert_eq(open_bytes(name, b, &t, &err), QN_OK, "%s", err.text);
    return t;
}

qn_code qt_sp_try(const char *name, const qt_buf *b, qn_err *err)
{
    qn_tokenizer *t = NULL;
    const qn_code rc = open_bytes(name, b, &t, err);
    if (rc == QN_OK)
        qn_tokenizer_close(t);
    return rc;
}

void qt_sp_expect(const qn_tokenizer *t, unsigned flags, const char *text, const char *ids, const char *back)
{
    qn_tokens got = {0};
    qt_buf list = {0};
    qn_err err = {0};
    char *out = NULL;
    uint64_t n_out = 0, cap = 0;
    cr_assert_eq(qn_tokenizer_encode(t, text, strlen(text), flags, &got, &err), QN_OK, "'%s': %s", text, err.text);
    for (uint64_t i = 0; i < got.n; i++)
        qt_addf(&list, i ? " %u" : "%u", got.ids[i]);
    qt_add(&list, "", 1);
    cr_expect_str_eq((const char *)list.p, ids, "'%s': %s, expected %s", text, (const char *)list.p, ids);
    cr_assert_eq(qn_tokenizer_decode(t, got.ids, got.n, false, &out, &n_out, &cap, &err), QN_OK, "'%s': %s", text, err.text);
    if (back)
        cr_expect(n_out == strlen(back) && (n_out == 0 || memcmp(out, back, (size_t)n_out) == 0), "'%s' comes back as '%.*s'", text,
                  (int)n_out, out ? out : "");
    qn_mem_put(NULL, out);
    qn_tokens_release(&got, NULL);
    qt_buf_free(&list);
}
