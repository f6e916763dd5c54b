/* pretokenizers.c: the pre-tokenizers of tokenizer.json that only cut, and Metaspace. */
#include "analysis/tokenize/bytelevel.h"
#include "analysis/tokenize/pretokenizers.h"
#include "analysis/tokenize/split.h"
#include "analysis/tokenize/utf8.h"
#include <stdio.h>

static qn_code behavior_read(const qn_tok_node *node, qn_tok_behavior *out, qn_err *err)
{
    static const char *const names[] = {[QN_SPLIT_REMOVED] = "Removed",
                                        [QN_SPLIT_ISOLATED] = "Isolated",
                                        [QN_SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
                                        [QN_SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
                                        [QN_SPLIT_CONTIGUOUS] = "Contiguous"};
    const char *s = NULL;
    uint64_t n = 0;
    QN_TRY(qn_tok_node_str(node, "behavior", &s, &n, err));
    if (!s)
        return QN_OK;
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(s, names[i]) == 0) {
            *out = (qn_tok_behavior)i;
            return QN_OK;
        }
    char shown[48];
    qn_printable(shown, sizeof shown, s, n);
    return QN_FAIL(err, QN_E_UNSUPPORTED, node->off, "tokenizer: splitting behavior '%s' is not supported", shown);
}

qn_code qn_tok_build_split(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    qn_tok_behavior behavior = QN_SPLIT_ISOLATED;
    bool invert = false;
    qn_tok_pattern p;
    QN_TRY(behavior_read(node, &behavior, err));
    QN_TRY(qn_tok_node_bool(node, "invert", &invert, err));
    QN_TRY(qn_tok_pattern_read(t, qn_tok_node_get(node, "pattern"), &p, err));
    return qn_tok_add_split(t, list, &p, behavior, invert, err);
}

static bool is_space(uint32_t c, uint32_t arg)
{
    (void)arg;
    return qn_uni_is_space(c);
}

static bool is_number(uint32_t c, uint32_t arg)
{
    (void)arg;
    return qn_uni_is_number(c);
}

static bool is_punctuation(uint32_t c, uint32_t arg)
{
    (void)arg;
    return qn_uni_is_punctuation(c);
}

static bool is_char(uint32_t c, uint32_t arg)
{
    return c == arg;
}

qn_code qn_tok_build_digits(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    bool individual = false;
    QN_TRY(qn_tok_node_bool(node, "individual_digits", &individual, err));
    return qn_tok_add_split(t, list, &(qn_tok_pattern){.is = is_number}, individual ? QN_SPLIT_ISOLATED : QN_SPLIT_CONTIGUOUS,
                            false, err);
}

qn_code qn_tok_build_punctuation(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    qn_tok_behavior behavior = QN_SPLIT_ISOLATED;
    QN_TRY(behavior_read(node, &behavior, err));
    return qn_tok_add_split(t, list, &(qn_tok_pattern){.is = is_punctuation}, behavior, false, err);
}

qn_code qn_tok_build_whitespace(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    static const char pattern[] = "\\w+|[^\\w\\s]+";
    qn_tok_pattern p = {.literal = NULL};
    (void)node;
    QN_TRY(qn_tok_regex_open(t->alloc, pattern, strlen(pattern), &p.re, err));
    return qn_tok_add_split(t, list, &p, QN_SPLIT_REMOVED, true, err);
}

qn_code qn_tok_build_whitespace_split(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    (void)node;
    return qn_tok_add_split(t, list, &(qn_tok_pattern){.is = is_space}, QN_SPLIT_REMOVED, false, err);
}

qn_code qn_tok_build_bert_pre(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    QN_TRY(qn_tok_build_whitespace_split(t, list, node, err));
    return qn_tok_add_split(t, list, &(qn_tok_pattern){.is = is_punctuation}, QN_SPLIT_ISOLATED, false, err);
}

qn_code qn_tok_build_char_delimiter(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    const char *s = NULL;
    uint64_t n = 0;
    unsigned len;
    QN_TRY(qn_tok_node_str(node, "delimiter", &s, &n, err));
    if (n == 0 || qn_utf8_len(s) != n)
        return QN_FAIL(err, QN_E_INPUT, node->off, "tokenizer: CharDelimiterSplit needs a delimiter of one character");
    return qn_tok_add_split(t, list, &(qn_tok_pattern){.is = is_char, .arg = qn_utf8_get(s, &len)}, QN_SPLIT_REMOVED, false,
                            err);
}

/* ---- UnicodeScripts: runs of one script. Kana count as Han; spaces and characters of no script belong to what is before
 * them, and at the beginning of the text to nothing. ---- */

static qn_code scripts_pattern(qn_tok_buf *b, qn_err *err)
{
    static const char kana[] = "[\\p{Han}\\p{Hiragana}\\p{Katakana}\\x{30FC}][\\p{Han}\\p{Hiragana}\\p{Katakana}\\x{30FC}\\p{Unknown} ]*";
    QN_TRY(qn_tok_buf_put(b, kana, sizeof kana - 1, err));
    for (size_t i = 0; qn_tok_scripts[i][0]; i++) {
        char one[128];
        const char *name = qn_tok_scripts[i][0];
        if (strcmp(name, "han") == 0 || strcmp(name, "hiragana") == 0 || strcmp(name, "katakana") == 0 ||
            strcmp(name, "unknown") == 0)
            continue;
        /* the space itself is Common and begins nothing; neither does Common take in the kana's mark of length */
        const int n = snprintf(one, sizeof one, "|(?![ \\x{30FC}])\\p{%s}(?:(?!\\x{30FC})[\\p{%s}\\p{Unknown} ])*", name, name);
        QN_TRY(qn_tok_buf_put(b, one, (uint64_t)n, err));
    }
    return QN_OK;
}

qn_code qn_tok_build_scripts(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    qn_tok_buf b = {.alloc = t->alloc};
    qn_tok_pattern p = {.literal = NULL};
    (void)node;
    qn_code rc = scripts_pattern(&b, err);
    if (rc == QN_OK)
        rc = qn_tok_regex_open(t->alloc, b.p, b.n, &p.re, err);
    qn_mem_put(b.alloc, b.p);
    return rc == QN_OK ? qn_tok_add_split(t, list, &p, QN_SPLIT_REMOVED, true, err) : rc;
}

/* ---- FixedLength: so many characters each ---- */

static qn_code fixed_cut(const qn_tok_step *step, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    const uint64_t *length = step->data;
    for (uint64_t k = 0; k < in->n; k++) {
        const char *s = in->text.p + in->span[k].off;
        for (uint64_t at = 0; at < in->span[k].n;) {
            uint64_t end = at;
            for (uint64_t i = 0; i < *length && end < in->span[k].n; i++)
                end += qn_utf8_len(s + end);
            QN_TRY(qn_tok_list_span(out, in->span[k].off + at, end - at, in->span[k].first && at == 0, err));
            at = end;
        }
    }
    return QN_OK;
}

qn_code qn_tok_build_fixed_length(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    static const qn_tok_step_ops ops = {.name = "FixedLength", .cut = fixed_cut};
    uint64_t *length = qn_arena_get(&t->arena, sizeof *length, 8, err);
    if (!length)
        return QN_E_MEMORY;
    *length = 5; /* as when the file does not say */
    QN_TRY(qn_tok_node_uint(node, "length", length, err));
    if (*length == 0)
        return QN_FAIL(err, QN_E_INPUT, node->off, "tokenizer: FixedLength of 0 characters");
    return qn_tok_add_step(t, list, &ops, length, NULL, 0, err);
}

/* ---- Metaspace: spaces become a visible character, which is put before the text too, and begins each word ---- */

struct metaspace {
    const char *mark; /* UTF-8 of one character */
    uint64_t n_mark;
    enum { NEVER, FIRST, ALWAYS } prepend;
};

static qn_code metaspace_apply(const qn_tok_step *step, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    const struct metaspace *m = step->data;
    for (uint64_t k = 0; k < in->n; k++) {
        const qn_tok_span *sp = &in->span[k];
        const char *s = in->text.p + sp->off, *end = s + sp->n;
        const uint64_t off = out->text.n;
        const bool marked = sp->n > 0 && (*s == ' ' || (sp->n >= m->n_mark && memcmp(s, m->mark, m->n_mark) == 0));
        if (!marked && sp->n > 0 && (m->prepend == ALWAYS || (m->prepend == FIRST && sp->first)))
            QN_TRY(qn_tok_buf_put(&out->text, m->mark, m->n_mark, err));
        while (s < end) {
            const char *space = memchr(s, ' ', (size_t)(end - s));
            QN_TRY(qn_tok_buf_put(&out->text, s, (uint64_t)((space ? space : end) - s), err));
            if (space)
                QN_TRY(qn_tok_buf_put(&out->text, m->mark, m->n_mark, err));
            s = space ? space + 1 : end;
        }
        QN_TRY(qn_tok_list_span(out, off, out->text.n - off, sp->first, err));
    }
    return QN_OK;
}

qn_code qn_tok_metaspace_read(const qn_tok_node *node, const char **mark, uint64_t *n, int *prepend, qn_err *err)
{
    const char *s = NULL;
    bool legacy = true;
    uint64_t n_s;
    *mark = "\xe2\x96\x81";
    *n = 3;
    QN_TRY(qn_tok_node_str(node, "replacement", mark, n, err));
    QN_TRY(qn_tok_node_str(node, "prepend_scheme", &s, &n_s, err));
    QN_TRY(qn_tok_node_bool(node, "add_prefix_space", &legacy, err));
    if (*n == 0 || qn_utf8_len(*mark) != *n)
        return QN_FAIL(err, QN_E_INPUT, node->off, "tokenizer: Metaspace needs a replacement of one character");
    *prepend = legacy ? ALWAYS : NEVER;
    if (s)
        *prepend = strcmp(s, "always") == 0 ? ALWAYS : strcmp(s, "first") == 0 ? FIRST : strcmp(s, "never") == 0 ? NEVER : -1;
    if (*prepend < 0)
        return QN_FAIL(err, QN_E_UNSUPPORTED, node->off, "tokenizer: Metaspace with an unknown prepend_scheme");
    return QN_OK;
}

qn_code qn_tok_build_metaspace_pre(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    static const qn_tok_step_ops ops = {.name = "Metaspace", .apply = metaspace_apply};
    struct metaspace *m = qn_arena_get(&t->arena, sizeof *m, 8, err);
    bool split = true;
    int prepend;
    unsigned len;
    if (!m)
        return QN_E_MEMORY;
    QN_TRY(qn_tok_metaspace_read(node, &m->mark, &m->n_mark, &prepend, err));
    QN_TRY(qn_tok_node_bool(node, "split", &split, err));
    m->prepend = prepend == ALWAYS ? ALWAYS : prepend == FIRST ? FIRST : NEVER;
    m->mark = qn_arena_str(&t->arena, m->mark, m->n_mark, err);
    if (!m->mark)
        return QN_E_MEMORY;
    QN_TRY(qn_tok_add_step(t, list, &ops, m, NULL, 0, err));
    if (!split)
        return QN_OK;
    return qn_tok_add_split(t, list, &(qn_tok_pattern){.is = is_char, .arg = qn_utf8_get(m->mark, &len)},
                            QN_SPLIT_MERGED_WITH_NEXT, false, err);
}
