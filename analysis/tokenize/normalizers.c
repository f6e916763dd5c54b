/* normalizers.c: the normalizers that go character by character, and Replace, Prepend, Strip. Composition: norm_unicode.c. */
#include "analysis/tokenize/normalizers.h"
#include "analysis/tokenize/split.h"
#include "analysis/tokenize/utf8.h"
#include "analysis/tokenize/norm_unicode.h"
#include <utf8proc.h>

/* ---- character by character: each(c, out) writes at most 12 bytes and returns how many ---- */

typedef unsigned (*each_fn)(uint32_t c, char *out, unsigned flags);

static qn_code map_text(each_fn each, unsigned flags, const char *s, uint64_t n, qn_tok_buf *out, qn_err *err)
{
    for (uint64_t i = 0; i < n;) {
        unsigned len;
        const uint32_t c = qn_utf8_get(s + i, &len);
        QN_TRY(qn_tok_buf_room(out, 12, err));
        out->n += each(c, out->p + out->n, flags);
        i += len;
    }
    return QN_OK;
}

static qn_code map_list(each_fn each, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    for (uint64_t k = 0; k < in->n; k++) {
        const uint64_t off = out->text.n;
        QN_TRY(map_text(each, 0, in->text.p + in->span[k].off, in->span[k].n, &out->text, err));
        QN_TRY(qn_tok_list_span(out, off, out->text.n - off, in->span[k].first, err));
    }
    return QN_OK;
}

/* Full lower-case mapping without context: that of one character is two (U+0130). */
static unsigned lower(uint32_t c, char *out, unsigned flags)
{
    (void)flags;
    if (c == 0x130) {
        memcpy(out, "i\xcc\x87", 3);
        return 3;
    }
    return qn_utf8_put(out, c < 0x80 ? (c >= 'A' && c <= 'Z' ? c | 0x20 : c) : (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
}

static unsigned no_marks(uint32_t c, char *out, unsigned flags)
{
    (void)flags;
    return c >= 0x300 && qn_uni_is_mark(c) ? 0 : qn_utf8_put(out, c);
}

static unsigned no_nonspacing(uint32_t c, char *out, unsigned flags)
{
    (void)flags;
    return c >= 0x300 && qn_uni_is_nonspacing(c) ? 0 : qn_utf8_put(out, c);
}

/* What the translation models' preprocessing did: drop control characters, make spaces of odd ones. */
static unsigned nmt(uint32_t c, char *out, unsigned flags)
{
    (void)flags;
    if ((c >= 1 && c <= 8) || c == 0x0b || (c >= 0x0e && c <= 0x1f) || c == 0x7f || c == 0x8f || c == 0x9f)
        return 0;
    if (c == 9 || c == 0x0a || c == 0x0c || c == 0x0d || c == 0x1680 || (c >= 0x200b && c <= 0x200f) || c == 0x2028 ||
        c == 0x2029 || c == 0x2581 || c == 0xfeff || c == 0xfffd)
        c = ' ';
    return qn_utf8_put(out, c);
}

#define CHARACTERWISE(build, type, each)                                                                                \
    static qn_code each##_apply(const qn_tok_step *step, const qn_tok_list *in, qn_tok_list *out, qn_err *err)          \
    {                                                                                                                   \
        (void)step;                                                                                                     \
        return map_list(each, in, out, err);                                                                            \
    }                                                                                                                   \
    qn_code build(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)                            \
    {                                                                                                                   \
        static const qn_tok_step_ops ops = {.name = type, .apply = each##_apply};                                       \
        (void)node;                                                                                                     \
        return qn_tok_add_step(t, list, &ops, NULL, NULL, 0, err);                                                      \
    }
CHARACTERWISE(qn_tok_build_lowercase, "Lowercase", lower)
CHARACTERWISE(qn_tok_build_strip_accents, "StripAccents", no_marks)
CHARACTERWISE(qn_tok_build_nmt, "Nmt", nmt)

/* ---- BertNormalizer ---- */

enum { CLEAN = 1, CHINESE = 2, LOWER = 4, STRIP = 8 };

/* The last but two of the ranges begins where the Rust library has it, 256 characters after CJK extension E does. */
static bool is_chinese(uint32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) ||
           (c >= 0x2a700 && c <= 0x2b73f) || (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
           (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

static unsigned bert_clean(uint32_t c, char *out, unsigned flags)
{
    unsigned n = 0;
    if (flags & CLEAN) {
        const utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
        if (qn_uni_is_space(c) && (c == 9 || c == 10 || c == 13 || k != UTF8PROC_CATEGORY_CC))
            c = ' ';
        else if (c == 0 || c == 0xfffd || (k >= UTF8PROC_CATEGORY_CC && k <= UTF8PROC_CATEGORY_CO))
            return 0;
    }
    const bool apart = (flags & CHINESE) && is_chinese(c);
    if (apart)
        out[n++] = ' ';
    n += qn_utf8_put(out + n, c);
    if (apart)
        out[n++] = ' ';
    return n;
}

/* One string through the stages: clean and set apart, strip accents, lower. */
static qn_code bert_one(unsigned flags, const char *s, uint64_t n, qn_tok_buf *a, qn_tok_buf *b, qn_tok_buf *out, qn_err *err)
{
    a->n = b->n = 0;
    QN_TRY(map_text(bert_clean, flags, s, n, a, err));
    if (flags & STRIP) {
        QN_TRY(qn_tok_unicode_form(QN_NFD, a->p, a->n, b, err));
        a->n = 0;
        QN_TRY(map_text(no_nonspacing, 0, b->p, b->n, a, err));
    }
    if (flags & LOWER)
        return map_text(lower, 0, a->p, a->n, out, err);
    return qn_tok_buf_put(out, a->p, a->n, err);
}

static qn_code bert_apply(const qn_tok_step *step, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    const unsigned *flags = step->data;
    qn_tok_buf a = {.alloc = in->text.alloc}, b = {.alloc = in->text.alloc};
    qn_code rc = QN_OK;
    for (uint64_t k = 0; k < in->n && rc == QN_OK; k++) {
        const uint64_t off = out->text.n;
        rc = bert_one(*flags, in->text.p + in->span[k].off, in->span[k].n, &a, &b, &out->text, err);
        if (rc == QN_OK)
            rc = qn_tok_list_span(out, off, out->text.n - off, in->span[k].first, err);
    }
    qn_mem_put(a.alloc, a.p);
    qn_mem_put(b.alloc, b.p);
    return rc;
}

qn_code qn_tok_build_bert_normalizer(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    static const qn_tok_step_ops ops = {.name = "BertNormalizer", .apply = bert_apply};
    bool clean = true, chinese = true, low = true;
    QN_TRY(qn_tok_node_bool(node, "clean_text", &clean, err));
    QN_TRY(qn_tok_node_bool(node, "handle_chinese_chars", &chinese, err));
    QN_TRY(qn_tok_node_bool(node, "lowercase", &low, err));
    bool strip = low; /* null: with lower case */
    QN_TRY(qn_tok_node_bool(node, "strip_accents", &strip, err));
    unsigned *flags = qn_arena_get(&t->arena, sizeof *flags, 8, err);
    if (!flags)
        return QN_E_MEMORY;
    *flags = (clean ? CLEAN : 0u) | (chinese ? CHINESE : 0u) | (low ? LOWER : 0u) | (strip ? STRIP : 0u);
    return qn_tok_add_step(t, list, &ops, flags, NULL, 0, err);
}

/* ---- Replace ---- */

struct replace {
    qn_tok_pattern pattern;
    const char *content;
    uint64_t n_content;
};

static qn_code replace_one(const struct replace *r, qn_tok_matcher *m, const char *s, uint64_t n, qn_tok_buf *out, qn_err *err)
{
    for (uint64_t at = 0, begin, end; at < n; at = end) {
        QN_TRY(qn_tok_pattern_find(&r->pattern, m, s, n, at, &begin, &end, err));
        QN_TRY(qn_tok_buf_put(out, s + at, begin - at, err));
        if (begin < end)
            QN_TRY(qn_tok_buf_put(out, r->content, r->n_content, err));
    }
    return QN_OK;
}

static qn_code replace_apply(const qn_tok_step *step, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    const struct replace *r = step->data;
    qn_tok_matcher m = {.re = NULL};
    qn_code rc = QN_OK;
    if (r->pattern.re)
        QN_TRY(qn_tok_matcher_open(&m, r->pattern.re, err));
    for (uint64_t k = 0; k < in->n && rc == QN_OK; k++) {
        const uint64_t off = out->text.n;
        rc = replace_one(r, &m, in->text.p + in->span[k].off, in->span[k].n, &out->text, err);
        if (rc == QN_OK)
            rc = qn_tok_list_span(out, off, out->text.n - off, in->span[k].first, err);
    }
    qn_tok_matcher_close(&m);
    return rc;
}

static void replace_release(qn_tok_step *step)
{
    struct replace *r = step->data;
    qn_tok_regex_close(r->pattern.re);
}

qn_code qn_tok_build_replace(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    static const qn_tok_step_ops ops = {.name = "Replace", .apply = replace_apply, .release = replace_release};
    const char *content = "";
    struct replace *r = qn_arena_get(&t->arena, sizeof *r, 8, err);
    if (!r)
        return QN_E_MEMORY;
    *r = (struct replace){.n_content = 0};
    QN_TRY(qn_tok_node_str(node, "content", &content, &r->n_content, err));
    r->content = qn_arena_str(&t->arena, content, r->n_content, err);
    if (!r->content)
        return QN_E_MEMORY;
    QN_TRY(qn_tok_pattern_read(t, qn_tok_node_get(node, "pattern"), &r->pattern, err));
    return qn_tok_add_step(t, list, &ops, r, NULL, 0, err);
}

/* ---- Prepend, Strip ---- */

static qn_code prepend_apply(const qn_tok_step *step, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    const char *what = step->data;
    for (uint64_t k = 0; k < in->n; k++) {
        const uint64_t off = out->text.n;
        if (in->span[k].n > 0)
            QN_TRY(qn_tok_buf_put(&out->text, what, strlen(what), err));
        QN_TRY(qn_tok_buf_put(&out->text, in->text.p + in->span[k].off, in->span[k].n, err));
        QN_TRY(qn_tok_list_span(out, off, out->text.n - off, in->span[k].first, err));
    }
    return QN_OK;
}

qn_code qn_tok_build_prepend(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    static const qn_tok_step_ops ops = {.name = "Prepend", .apply = prepend_apply};
    const char *what = "";
    uint64_t n = 0;
    QN_TRY(qn_tok_node_str(node, "prepend", &what, &n, err));
    char *copy = qn_arena_str(&t->arena, what, n, err);
    return copy ? qn_tok_add_step(t, list, &ops, copy, NULL, 0, err) : QN_E_MEMORY;
}

static qn_code strip_cut(const qn_tok_step *step, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    const bool *side = step->data; /* left, right */
    unsigned len;
    for (uint64_t k = 0; k < in->n; k++) {
        const char *s = in->text.p + in->span[k].off;
        uint64_t begin = 0, end = in->span[k].n;
        while (side[0] && begin < end && qn_uni_is_space(qn_utf8_get(s + begin, &len)))
            begin += len;
        while (side[1] && begin < end) {
            const uint64_t last = qn_utf8_back(s, end);
            if (!qn_uni_is_space(qn_utf8_get(s + last, &len)))
                break;
            end = last;
        }
        QN_TRY(qn_tok_list_span(out, in->span[k].off + begin, end - begin, in->span[k].first, err));
    }
    return QN_OK;
}

qn_code qn_tok_build_strip(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    static const qn_tok_step_ops ops = {.name = "Strip", .cut = strip_cut};
    bool *side = qn_arena_get(&t->arena, 2 * sizeof *side, 8, err);
    if (!side)
        return QN_E_MEMORY;
    side[0] = side[1] = true;
    QN_TRY(qn_tok_node_bool(node, "strip_left", &side[0], err));
    QN_TRY(qn_tok_node_bool(node, "strip_right", &side[1], err));
    return qn_tok_add_step(t, list, &ops, side, NULL, 0, err);
}
