/* norm_unicode.c: NFC, NFD, NFKC, NFKD by utf8proc.
 *
 * ASCII is its own form and never changes what stands before it, so a text is worked on in runs: a run begins with the last
 * ASCII character before other text (a mark may compose with it) and ends before the next ASCII character. */
#include "analysis/tokenize/norm_unicode.h"
#include "analysis/tokenize/normalizers.h"
#include <utf8proc.h>

struct room {
    utf8proc_int32_t *u;
    uint64_t cap;
};

static qn_code run_form(utf8proc_option_t options, const char *s, uint64_t n, struct room *room, qn_tok_buf *out, qn_err *err)
{
    utf8proc_ssize_t need = 0;
    if (n > PTRDIFF_MAX / 32)
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "a text of %llu bytes is too long to normalize", (unsigned long long)n);
    for (;;) {
        need = utf8proc_decompose((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, room->u, (utf8proc_ssize_t)room->cap, options);
        if (need < 0)
            return QN_BUG(err, "utf8proc: %s", utf8proc_errmsg(need));
        if ((uint64_t)need <= room->cap)
            break;
        utf8proc_int32_t *u = qn_mem_grow(out->alloc, room->u, 0, &room->cap, (uint64_t)need, sizeof *u, err);
        if (!u)
            return QN_E_MEMORY;
        room->u = u;
    }
    const utf8proc_ssize_t got = utf8proc_normalize_utf32(room->u, need, options);
    if (got < 0)
        return QN_BUG(err, "utf8proc: %s", utf8proc_errmsg(got));
    QN_TRY(qn_tok_buf_room(out, 4 * (uint64_t)got, err));
    for (utf8proc_ssize_t i = 0; i < got; i++)
        out->n += (uint64_t)utf8proc_encode_char(room->u[i], (utf8proc_uint8_t *)out->p + out->n);
    return QN_OK;
}

static qn_code all_runs(utf8proc_option_t options, const char *s, uint64_t n, struct room *room, qn_tok_buf *out, qn_err *err)
{
    uint64_t plain = 0; /* where the ASCII begins that is not copied yet */
    for (uint64_t i = 0; i < n;) {
        if (!((uint8_t)s[i] & 0x80)) {
            i += n - i >= 8 && !(qn_load64(s + i) & 0x8080808080808080u) ? 8 : 1;
            continue;
        }
        const uint64_t begin = i > plain ? i - 1 : i;
        while (i < n && ((uint8_t)s[i] & 0x80))
            i++;
        QN_TRY(qn_tok_buf_put(out, s + plain, begin - plain, err));
        QN_TRY(run_form(options, s + begin, i - begin, room, out, err));
        plain = i;
    }
    return qn_tok_buf_put(out, s + plain, n - plain, err);
}

qn_code qn_tok_unicode_form(qn_unicode_form form, const char *s, uint64_t n, qn_tok_buf *out, qn_err *err)
{
    static const int options[] = {
        [QN_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
        [QN_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
        [QN_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
        [QN_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
    };
    struct room room = {.cap = 0};
    const qn_code rc = all_runs((utf8proc_option_t)options[form], s, n, &room, out, err);
    qn_mem_put(out->alloc, room.u);
    return rc;
}

static qn_code form_apply(const qn_tok_step *step, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    const qn_unicode_form *form = step->data;
    for (uint64_t k = 0; k < in->n; k++) {
        const uint64_t off = out->text.n;
        QN_TRY(qn_tok_unicode_form(*form, in->text.p + in->span[k].off, in->span[k].n, &out->text, err));
        QN_TRY(qn_tok_list_span(out, off, out->text.n - off, in->span[k].first, err));
    }
    return QN_OK;
}

static qn_code build(qn_tokenizer *t, qn_tok_steps *list, qn_unicode_form form, const qn_tok_step_ops *ops, qn_err *err)
{
    qn_unicode_form *data = qn_arena_get(&t->arena, sizeof *data, 8, err);
    if (!data)
        return QN_E_MEMORY;
    *data = form;
    return qn_tok_add_step(t, list, ops, data, NULL, 0, err);
}

#define FORM(build_name, type, form)                                                                       \
    qn_code build_name(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)         \
    {                                                                                                      \
        static const qn_tok_step_ops ops = {.name = type, .apply = form_apply};                            \
        (void)node;                                                                                        \
        return build(t, list, form, &ops, err);                                                            \
    }
FORM(qn_tok_build_nfc, "NFC", QN_NFC)
FORM(qn_tok_build_nfd, "NFD", QN_NFD)
FORM(qn_tok_build_nfkc, "NFKC", QN_NFKC)
FORM(qn_tok_build_nfkd, "NFKD", QN_NFKD)
