/* decoders.c: the decoders of tokenizer.json, but ByteLevel (bytelevel.c) and Replace (normalizers.c). */
#include "analysis/tokenize/decoders.h"
#include "analysis/tokenize/utf8.h"

/* Token k of a list, and its end. */
#define TOKEN(in, k) ((in)->text.p + (in)->span[k].off)

static qn_code fuse_apply(const qn_tok_step *step, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    (void)step;
    for (uint64_t k = 0; k < in->n; k++)
        QN_TRY(qn_tok_buf_put(&out->text, TOKEN(in, k), in->span[k].n, err));
    return qn_tok_list_span(out, 0, out->text.n, true, err);
}

qn_code qn_tok_build_fuse(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    static const qn_tok_step_ops ops = {.name = "Fuse", .apply = fuse_apply};
    (void)node;
    return qn_tok_add_step(t, list, &ops, NULL, NULL, 0, err);
}

/* ---- ByteFallback: runs of "<0xHH>" become the text of those bytes; one U+FFFD each when together they are not UTF-8 ---- */

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int byte_of(const char *s, uint64_t n)
{
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>' || hex(s[3]) < 0 || hex(s[4]) < 0)
        return -1;
    return hex(s[3]) << 4 | hex(s[4]);
}

static qn_code end_run(qn_tok_list *out, uint64_t begin, qn_err *err)
{
    const uint64_t n = out->text.n - begin;
    if (n == 0)
        return QN_OK;
    if (qn_utf8_prefix(out->text.p + begin, n) != n) {
        out->text.n = begin;
        for (uint64_t i = 0; i < n; i++)
            QN_TRY(qn_tok_buf_put(&out->text, "\xef\xbf\xbd", 3, err));
    }
    return qn_tok_list_span(out, begin, out->text.n - begin, true, err);
}

static qn_code byte_fallback_apply(const qn_tok_step *step, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    uint64_t begin = 0; /* of the run of bytes at the end of out->text */
    (void)step;
    for (uint64_t k = 0; k < in->n; k++) {
        const int b = byte_of(TOKEN(in, k), in->span[k].n);
        if (b >= 0) {
            const char c = (char)b;
            QN_TRY(qn_tok_buf_put(&out->text, &c, 1, err));
            continue;
        }
        QN_TRY(end_run(out, begin, err));
        QN_TRY(qn_tok_list_put(out, TOKEN(in, k), in->span[k].n, true, err));
        begin = out->text.n;
    }
    return end_run(out, begin, err);
}

qn_code qn_tok_build_byte_fallback(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    static const qn_tok_step_ops ops = {.name = "ByteFallback", .apply = byte_fallback_apply};
    (void)node;
    return qn_tok_add_step(t, list, &ops, NULL, NULL, 0, err);
}

/* ---- Strip: up to `start` and `stop` times one character off the ends of each string ---- */

struct strip {
    const char *what;
    uint64_t n, start, stop;
};

static qn_code strip_cut(const qn_tok_step *step, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    const struct strip *c = step->data;
    for (uint64_t k = 0; k < in->n; k++) {
        const char *s = TOKEN(in, k);
        uint64_t begin = 0, end = in->span[k].n;
        for (uint64_t i = 0; i < c->start && end - begin >= c->n && memcmp(s + begin, c->what, c->n) == 0; i++)
            begin += c->n;
        for (uint64_t i = 0; i < c->stop && end - begin >= c->n && memcmp(s + end - c->n, c->what, c->n) == 0; i++)
            end -= c->n;
        QN_TRY(qn_tok_list_span(out, in->span[k].off + begin, end - begin, true, err));
    }
    return QN_OK;
}

qn_code qn_tok_build_strip_dec(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    static const qn_tok_step_ops ops = {.name = "Strip", .cut = strip_cut};
    struct strip *c = qn_arena_get(&t->arena, sizeof *c, 8, err);
    if (!c)
        return QN_E_MEMORY;
    *c = (struct strip){.what = ""};
    QN_TRY(qn_tok_node_str(node, "content", &c->what, &c->n, err));
    QN_TRY(qn_tok_node_uint(node, "start", &c->start, err));
    QN_TRY(qn_tok_node_uint(node, "stop", &c->stop, err));
    if (c->n == 0 || qn_utf8_len(c->what) != c->n)
        return QN_FAIL(err, QN_E_INPUT, node->off, "tokenizer: the decoder Strip needs a content of one character");
    c->what = qn_arena_str(&t->arena, c->what, c->n, err);
    return c->what ? qn_tok_add_step(t, list, &ops, c, NULL, 0, err) : QN_E_MEMORY;
}

/* ---- text put in place of text, token by token: Metaspace, WordPiece, BPEDecoder ---- */

struct mark {
    const char *s;
    uint64_t n;
    bool drop_first, cleanup;
};

static bool stands_at(const struct mark *m, const char *s, uint64_t n, uint64_t at)
{
    return m->n > 0 && n - at >= m->n && memcmp(s + at, m->s, m->n) == 0;
}

/* Appends s with every mark replaced by `by`. */
static qn_code put_unmarked(const struct mark *m, const char *s, uint64_t n, const char *by, qn_tok_list *out, qn_err *err)
{
    const uint64_t off = out->text.n;
    for (uint64_t i = 0; i < n;) {
        if (!stands_at(m, s, n, i)) {
            QN_TRY(qn_tok_buf_put(&out->text, s + i++, 1, err));
            continue;
        }
        QN_TRY(qn_tok_buf_put(&out->text, by, strlen(by), err));
        i += m->n;
    }
    return qn_tok_list_span(out, off, out->text.n - off, true, err);
}

/* In the first token every mark is dropped: there may be one only, which was put before the text. */
static qn_code metaspace_apply(const qn_tok_step *step, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    const struct mark *m = step->data;
    for (uint64_t k = 0; k < in->n; k++)
        QN_TRY(put_unmarked(m, TOKEN(in, k), in->span[k].n, k == 0 && m->drop_first ? "" : " ", out, err));
    return QN_OK;
}

static struct mark *new_mark(qn_tokenizer *t, const char *s, uint64_t n, qn_err *err)
{
    struct mark *m = qn_arena_get(&t->arena, sizeof *m, 8, err);
    char *copy = m ? qn_arena_str(&t->arena, s, n, err) : NULL;
    if (!copy)
        return NULL;
    *m = (struct mark){.s = copy, .n = n};
    return m;
}

qn_code qn_tok_build_metaspace_dec(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    static const qn_tok_step_ops ops = {.name = "Metaspace", .apply = metaspace_apply};
    const char *s;
    uint64_t n;
    int prepend;
    QN_TRY(qn_tok_metaspace_read(node, &s, &n, &prepend, err));
    struct mark *m = new_mark(t, s, n, err);
    if (!m)
        return QN_E_MEMORY;
    m->drop_first = prepend != 0;
    return qn_tok_add_step(t, list, &ops, m, NULL, 0, err);
}

/* Spaces that English does not write: "a ." → "a.", "do n't" → "don't". In this order, each over the whole string. */
static qn_code cleanup(qn_tok_list *out, qn_err *err)
{
    static const char *const pairs[][2] = {{" .", "."},     {" ?", "?"},   {" !", "!"},   {" ,", ","},     {" ' ", "'"},
                                           {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    qn_tok_span *sp = &out->span[out->n - 1];
    char *s = out->text.p + sp->off;
    (void)err;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        const uint64_t n_from = strlen(pairs[i][0]), n_to = strlen(pairs[i][1]);
        uint64_t w = 0;
        for (uint64_t r = 0; r < sp->n;) {
            const bool hit = sp->n - r >= n_from && memcmp(s + r, pairs[i][0], n_from) == 0;
            if (hit)
                memcpy(s + w, pairs[i][1], n_to);
            else
                s[w] = s[r];
            w += hit ? n_to : 1;
            r += hit ? n_from : 1;
        }
        sp->n = w;
    }
    return QN_OK;
}

static qn_code wordpiece_apply(const qn_tok_step *step, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    const struct mark *m = step->data;
    for (uint64_t k = 0; k < in->n; k++) {
        const char *s = TOKEN(in, k);
        const uint64_t n = in->span[k].n, off = out->text.n;
        const bool goes_on = k > 0 && stands_at(m, s, n, 0);
        if (k > 0 && !goes_on)
            QN_TRY(qn_tok_buf_put(&out->text, " ", 1, err));
        QN_TRY(qn_tok_buf_put(&out->text, s + (goes_on ? m->n : 0), n - (goes_on ? m->n : 0), err));
        QN_TRY(qn_tok_list_span(out, off, out->text.n - off, true, err));
        if (m->cleanup)
            QN_TRY(cleanup(out, err));
    }
    return QN_OK;
}

qn_code qn_tok_build_wordpiece_dec(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    static const qn_tok_step_ops ops = {.name = "WordPiece", .apply = wordpiece_apply};
    const char *s = "##";
    uint64_t n = 2;
    bool clean = true;
    QN_TRY(qn_tok_node_str(node, "prefix", &s, &n, err));
    QN_TRY(qn_tok_node_bool(node, "cleanup", &clean, err));
    struct mark *m = new_mark(t, s, n, err);
    if (!m)
        return QN_E_MEMORY;
    m->cleanup = clean;
    return qn_tok_add_step(t, list, &ops, m, NULL, 0, err);
}

static qn_code bpe_apply(const qn_tok_step *step, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    const struct mark *m = step->data;
    for (uint64_t k = 0; k < in->n; k++)
        QN_TRY(put_unmarked(m, TOKEN(in, k), in->span[k].n, k + 1 == in->n ? "" : " ", out, err));
    return QN_OK;
}

qn_code qn_tok_build_bpe_dec(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    static const qn_tok_step_ops ops = {.name = "BPEDecoder", .apply = bpe_apply};
    const char *s = "</w>";
    uint64_t n = 4;
    QN_TRY(qn_tok_node_str(node, "suffix", &s, &n, err));
    struct mark *m = new_mark(t, s, n, err);
    return m ? qn_tok_add_step(t, list, &ops, m, NULL, 0, err) : QN_E_MEMORY;
}
