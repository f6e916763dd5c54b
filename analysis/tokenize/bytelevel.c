/* bytelevel.c: the normalizer, pre-tokenizer and decoder "ByteLevel". */
#include "analysis/tokenize/bytelevel.h"
#include "analysis/tokenize/split.h"
#include "analysis/tokenize/utf8.h"

struct bytelevel {
    qn_bytelevel map;
    qn_tok_regex *re; /* NULL: no cutting */
    bool add_prefix_space;
};

void qn_bytelevel_init(qn_bytelevel *b)
{
    uint32_t next = 0x100;
    memset(b, 0, sizeof *b);
    memset(b->to_byte, 0xff, sizeof b->to_byte);
    for (unsigned i = 0; i < 256; i++) {
        const bool itself = (i >= 0x21 && i <= 0x7e) || (i >= 0xa1 && i != 0xad);
        const uint32_t c = itself ? i : next++;
        b->of_byte[i].n = (uint8_t)qn_utf8_put(b->of_byte[i].s, c);
        b->to_byte[c] = (int16_t)i;
    }
}

qn_code qn_bytelevel_put(const qn_bytelevel *b, const char *s, uint64_t n, qn_tok_buf *out, qn_err *err)
{
    bool ovf = false;
    const uint64_t want = qn_add(qn_mul(n, 2, &ovf), 1, &ovf); /* two bytes are stored at a time */
    if (ovf)
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "a text grows past 2^64 bytes");
    QN_TRY(qn_tok_buf_room(out, want, err));
    char *p = out->p + out->n;
    for (uint64_t i = 0; i < n; i++) {
        const qn_bytelevel_char *c = &b->of_byte[(uint8_t)s[i]];
        p[0] = c->s[0];
        p[1] = c->s[1];
        p += c->n;
    }
    out->n = (uint64_t)(p - out->p);
    return QN_OK;
}

qn_code qn_bytelevel_bytes(const qn_bytelevel *b, const char *s, uint64_t n, qn_tok_buf *out, bool *all, qn_err *err)
{
    const uint64_t before = out->n;
    QN_TRY(qn_tok_buf_room(out, n, err));
    *all = true;
    for (uint64_t i = 0; i < n;) {
        unsigned len;
        const uint32_t c = qn_utf8_get(s + i, &len);
        if (c >= QN_BYTELEVEL_CHARS || b->to_byte[c] < 0) {
            *all = false;
            out->n = before;
            return QN_OK;
        }
        out->p[out->n++] = (char)b->to_byte[c];
        i += len;
    }
    return QN_OK;
}

/* ---- pre-tokenizer ---- */

/* One string without its surroundings: cut, and each part mapped. `s` may not lie in out->text. */
static qn_code pre_one(const struct bytelevel *b, qn_tok_matcher *m, const char *s, uint64_t n, bool first, qn_tok_list *out,
                       qn_err *err)
{
    uint64_t at = 0, begin = 0, end = n;
    while (at < n) {
        if (b->re)
            QN_TRY(qn_tok_matcher_find(m, s, n, at, &begin, &end, err));
        /* what the pattern leaves out, though GPT-2's leaves nothing, is a part too */
        const uint64_t cuts[3] = {at, begin, end};
        for (int i = 0; i < 2; i++) {
            const uint64_t off = out->text.n;
            if (cuts[i] == cuts[i + 1])
                continue;
            QN_TRY(qn_bytelevel_put(&b->map, s + cuts[i], cuts[i + 1] - cuts[i], &out->text, err));
            QN_TRY(qn_tok_list_span(out, off, out->text.n - off, first && cuts[i] == 0, err));
        }
        at = end;
    }
    return QN_OK;
}

static qn_code pre_all(const struct bytelevel *b, qn_tok_matcher *m, const qn_tok_list *in, qn_tok_buf *room,
                       qn_tok_list *out, qn_err *err)
{
    for (uint64_t k = 0; k < in->n; k++) {
        const qn_tok_span *sp = &in->span[k];
        const char *s = in->text.p + sp->off;
        uint64_t n = sp->n;
        if (b->add_prefix_space && n > 0 && s[0] != ' ') {
            room->n = 0;
            QN_TRY(qn_tok_buf_put(room, " ", 1, err));
            QN_TRY(qn_tok_buf_put(room, s, n, err));
            s = room->p;
            n++;
        }
        QN_TRY(pre_one(b, m, s, n, sp->first, out, err));
    }
    return QN_OK;
}

static qn_code pre_apply(const qn_tok_step *step, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    const struct bytelevel *b = step->data;
    qn_tok_matcher m = {.re = NULL};
    qn_tok_buf room = {.alloc = in->text.alloc};
    if (b->re)
        QN_TRY(qn_tok_matcher_open(&m, b->re, err));
    const qn_code rc = pre_all(b, &m, in, &room, out, err);
    qn_tok_matcher_close(&m);
    qn_mem_put(room.alloc, room.p);
    return rc;
}

static void release(qn_tok_step *step)
{
    struct bytelevel *b = step->data;
    qn_tok_regex_close(b->re);
}

static struct bytelevel *new_bytelevel(qn_tokenizer *t, qn_err *err)
{
    struct bytelevel *b = qn_arena_get(&t->arena, sizeof *b, 8, err);
    if (b) {
        *b = (struct bytelevel){.re = NULL};
        qn_bytelevel_init(&b->map);
    }
    return b;
}

qn_code qn_tok_build_bytelevel_pre(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    static const qn_tok_step_ops ops = {.name = "ByteLevel", .apply = pre_apply, .release = release};
    bool use_regex = true;
    struct bytelevel *b = new_bytelevel(t, err);
    if (!b)
        return QN_E_MEMORY;
    QN_TRY(qn_tok_node_bool(node, "add_prefix_space", &b->add_prefix_space, err));
    QN_TRY(qn_tok_node_bool(node, "use_regex", &use_regex, err));
    if (use_regex)
        QN_TRY(qn_tok_regex_open(t->alloc, qn_tok_gpt2_pattern, strlen(qn_tok_gpt2_pattern), &b->re, err));
    return qn_tok_add_step(t, list, &ops, b, NULL, 0, err);
}

/* ---- normalizer ---- */

static qn_code norm_apply(const qn_tok_step *step, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    const struct bytelevel *b = step->data;
    for (uint64_t k = 0; k < in->n; k++) {
        const uint64_t off = out->text.n;
        QN_TRY(qn_bytelevel_put(&b->map, in->text.p + in->span[k].off, in->span[k].n, &out->text, err));
        QN_TRY(qn_tok_list_span(out, off, out->text.n - off, in->span[k].first, err));
    }
    return QN_OK;
}

qn_code qn_tok_build_bytelevel_norm(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    static const qn_tok_step_ops ops = {.name = "ByteLevel", .apply = norm_apply};
    (void)node;
    struct bytelevel *b = new_bytelevel(t, err);
    return b ? qn_tok_add_step(t, list, &ops, b, NULL, 0, err) : QN_E_MEMORY;
}

/* ---- decoder: all tokens become one string; a token with a character outside the map (an added one) is taken as it is ---- */

static qn_code dec_apply(const qn_tok_step *step, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    const struct bytelevel *b = step->data;
    qn_tok_buf raw = {.alloc = in->text.alloc};
    qn_code rc = QN_OK;
    for (uint64_t k = 0; k < in->n && rc == QN_OK; k++) {
        bool all;
        const char *s = in->text.p + in->span[k].off;
        rc = qn_bytelevel_bytes(&b->map, s, in->span[k].n, &raw, &all, err);
        if (rc == QN_OK && !all)
            rc = qn_tok_buf_put(&raw, s, in->span[k].n, err);
    }
    if (rc == QN_OK)
        rc = qn_utf8_repair(raw.p, raw.n, &out->text, err);
    if (rc == QN_OK)
        rc = qn_tok_list_span(out, 0, out->text.n, true, err);
    qn_mem_put(raw.alloc, raw.p);
    return rc;
}

qn_code qn_tok_build_bytelevel_dec(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_node *node, qn_err *err)
{
    static const qn_tok_step_ops ops = {.name = "ByteLevel", .apply = dec_apply};
    (void)node;
    struct bytelevel *b = new_bytelevel(t, err);
    return b ? qn_tok_add_step(t, list, &ops, b, NULL, 0, err) : QN_E_MEMORY;
}
