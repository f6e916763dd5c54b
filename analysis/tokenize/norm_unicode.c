/* norm_unicode.c: NFC, NFD, NFKC, NFKD by utf8proc.
 *
 * ASCII is its own form and never changes what stands before it, so a text is worked on in runs: a run begins with the last
 * ASCII character before other text (a mark may compose with it) and ends before the next ASCII character. */
#include "analysis/tokenize/norm_unicode.h"
#include "analysis/tokenize/normalizers.h"
#include "analysis/tokenize/utf8.h"
#include <utf8proc.h>

enum { QN_DECOMPOSED_MAX = 32 }; /* code points that one becomes; the longest of Unicode (U+FDFA) is 18 */

struct room {
    utf8proc_int32_t *u, *spare; /* cap each */
    uint64_t cap, cap_spare;
};

static qn_code more(struct room *room, uint64_t n, const qn_alloc *a, qn_err *err)
{
    utf8proc_int32_t *u = qn_mem_grow(a, room->u, n, &room->cap, n + QN_DECOMPOSED_MAX, sizeof *u, err);
    if (!u)
        return QN_E_MEMORY;
    room->u = u;
    return QN_OK;
}

static unsigned class_of(utf8proc_int32_t c)
{
    return (unsigned)utf8proc_get_property(c)->combining_class & 255;
}

/* n marks in a row, stably by combining class: counted, so that a text of nothing but marks takes no longer than another. */
static qn_code sort_marks(utf8proc_int32_t *u, uint64_t n, struct room *room, const qn_alloc *a, qn_err *err)
{
    uint64_t at[257] = {0};
    bool sorted = true;
    for (uint64_t i = 0; i < n; i++) {
        at[class_of(u[i]) + 1]++;
        sorted &= i == 0 || class_of(u[i - 1]) <= class_of(u[i]);
    }
    if (sorted)
        return QN_OK;
    if (n > room->cap_spare) {
        utf8proc_int32_t *p = qn_mem_grow(a, room->spare, 0, &room->cap_spare, n, sizeof *p, err);
        if (!p)
            return QN_E_MEMORY;
        room->spare = p;
    }
    for (unsigned c = 0; c < 256; c++)
        at[c + 1] += at[c];
    for (uint64_t i = 0; i < n; i++)
        room->spare[at[class_of(u[i])]++] = u[i];
    memcpy(u, room->spare, n * sizeof *u);
    return QN_OK;
}

static qn_code reorder(uint64_t n, struct room *room, const qn_alloc *a, qn_err *err)
{
    for (uint64_t i = 0; i < n;) {
        uint64_t end = i;
        while (end < n && class_of(room->u[end]) != 0)
            end++;
        if (end - i > 1)
            QN_TRY(sort_marks(room->u + i, end - i, room, a, err));
        i = end + 1;
    }
    return QN_OK;
}

static qn_code run_form(utf8proc_option_t options, const char *s, uint64_t n_bytes, struct room *room, qn_tok_buf *out,
                        qn_err *err)
{
    uint64_t n = 0;
    int boundary = 0;
    for (uint64_t i = 0; i < n_bytes;) {
        unsigned len;
        const uint32_t c = qn_utf8_get(s + i, &len);
        if (n + QN_DECOMPOSED_MAX > room->cap)
            QN_TRY(more(room, n, out->alloc, err));
        const utf8proc_ssize_t got =
            utf8proc_decompose_char((utf8proc_int32_t)c, room->u + n, QN_DECOMPOSED_MAX, options, &boundary);
        if (got < 0 || got > QN_DECOMPOSED_MAX)
            return QN_BUG(err, "utf8proc: U+%04X decomposes into %lld", c, (long long)got);
        n += (uint64_t)got;
        i += len;
    }
    QN_TRY(reorder(n, room, out->alloc, err));
    const utf8proc_ssize_t got = utf8proc_normalize_utf32(room->u, (utf8proc_ssize_t)n, options);
    if (got < 0)
        return QN_BUG(err, "utf8proc: %s", utf8proc_errmsg(got));
    bool ovf = false;
    QN_TRY(qn_tok_buf_room(out, qn_mul(4, (uint64_t)got, &ovf), err));
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
    qn_mem_put(out->alloc, room.spare);
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
