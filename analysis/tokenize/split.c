/* split.c: see split.h. */
#include "analysis/tokenize/split.h"
#include "analysis/tokenize/utf8.h"

const char qn_tok_gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

struct split {
    qn_tok_pattern pattern;
    qn_tok_behavior behavior;
    bool invert;
};

qn_code qn_tok_pattern_read(qn_tokenizer *t, const qn_tok_node *node, qn_tok_pattern *out, qn_err *err)
{
    const char *s = NULL, *regex = NULL;
    uint64_t n = 0, n_regex = 0;
    *out = (qn_tok_pattern){.literal = NULL};
    if (!node)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "tokenizer: a pattern is missing");
    QN_TRY(qn_tok_node_str(node, "Regex", &regex, &n_regex, err));
    QN_TRY(qn_tok_node_str(node, "String", &s, &n, err));
    if (regex)
        return qn_err_in_path(err, qn_tok_regex_open(t->alloc, regex, n_regex, &out->re, err), t->file);
    if (!s || n == 0)
        return QN_FAIL(err, QN_E_INPUT, node->off, "tokenizer: a pattern is neither \"Regex\" nor a \"String\" of a byte or more");
    out->n_literal = n;
    out->literal = qn_arena_str(&t->arena, s, n, err);
    return out->literal ? QN_OK : QN_E_MEMORY;
}

static void find_literal(const qn_tok_pattern *p, const char *s, uint64_t n, uint64_t from, uint64_t *begin, uint64_t *end)
{
    *begin = *end = n;
    while (n - from >= p->n_literal) {
        const char *at = memchr(s + from, p->literal[0], n - from - p->n_literal + 1);
        if (!at)
            return;
        from = (uint64_t)(at - s);
        if (memcmp(at, p->literal, p->n_literal) == 0) {
            *begin = from;
            *end = from + p->n_literal;
            return;
        }
        from++;
    }
}

qn_code qn_tok_pattern_find(const qn_tok_pattern *p, qn_tok_matcher *m, const char *s, uint64_t n, uint64_t from,
                            uint64_t *begin, uint64_t *end, qn_err *err)
{
    if (p->re)
        return qn_tok_matcher_find(m, s, n, from, begin, end, err);
    if (p->literal) {
        find_literal(p, s, n, from, begin, end);
        return QN_OK;
    }
    for (; from < n; from = *end) {
        unsigned len;
        const uint32_t c = qn_utf8_get(s + from, &len);
        *begin = from;
        *end = from + len;
        if (p->is(c, p->arg))
            return QN_OK;
    }
    *begin = *end = n;
    return QN_OK;
}

/* The parts of one string as they come, joined as the behavior says. Offsets within the string. */
struct joiner {
    const struct split *s;
    qn_tok_list *out;
    uint64_t base, begin, end; /* of the part that waits; none when begin == end */
    bool first, kind;          /* kind: the last thing in the waiting part is a match */
};

static qn_code flush(struct joiner *j, qn_err *err)
{
    if (j->begin == j->end)
        return QN_OK;
    QN_TRY(qn_tok_list_span(j->out, j->base + j->begin, j->end - j->begin, j->first && j->begin == 0, err));
    j->begin = j->end;
    return QN_OK;
}

static qn_code part(struct joiner *j, uint64_t begin, uint64_t end, bool match, qn_err *err)
{
    const bool is = match != j->s->invert, waits = j->begin != j->end;
    bool join = false;
    if (begin == end)
        return QN_OK;
    switch (j->s->behavior) {
    case QN_SPLIT_REMOVED:
        if (is)
            return QN_OK;
        break;
    case QN_SPLIT_ISOLATED:
        break;
    case QN_SPLIT_MERGED_WITH_PREVIOUS:
        join = waits && is && !j->kind;
        break;
    case QN_SPLIT_MERGED_WITH_NEXT:
        join = waits && !is && j->kind;
        break;
    case QN_SPLIT_CONTIGUOUS:
        join = waits && is == j->kind;
        break;
    }
    if (!join) {
        QN_TRY(flush(j, err));
        j->begin = begin;
    }
    j->end = end;
    j->kind = is;
    return QN_OK;
}

static qn_code split_one(const struct split *s, qn_tok_matcher *m, const char *p, const qn_tok_span *span, qn_tok_list *out,
                         qn_err *err)
{
    struct joiner j = {.s = s, .out = out, .base = span->off, .first = span->first};
    uint64_t at = 0, begin, end;
    while (at < span->n) {
        QN_TRY(qn_tok_pattern_find(&s->pattern, m, p, span->n, at, &begin, &end, err));
        QN_TRY(part(&j, at, begin, false, err));
        QN_TRY(part(&j, begin, end, true, err));
        at = end;
    }
    return flush(&j, err);
}

static qn_code split_cut(const qn_tok_step *step, const qn_tok_list *in, qn_tok_list *out, qn_err *err)
{
    const struct split *s = step->data;
    qn_tok_matcher m = {.re = NULL};
    qn_code rc = QN_OK;
    if (s->pattern.re)
        QN_TRY(qn_tok_matcher_open(&m, s->pattern.re, err));
    for (uint64_t k = 0; k < in->n && rc == QN_OK; k++)
        rc = split_one(s, &m, in->text.p + in->span[k].off, &in->span[k], out, err);
    qn_tok_matcher_close(&m);
    return rc;
}

static void split_release(qn_tok_step *step)
{
    struct split *s = step->data;
    qn_tok_regex_close(s->pattern.re);
}

static const qn_tok_step_ops split_ops = {.name = "Split", .cut = split_cut, .release = split_release};

qn_code qn_tok_add_split(qn_tokenizer *t, qn_tok_steps *list, const qn_tok_pattern *p, qn_tok_behavior behavior, bool invert,
                         qn_err *err)
{
    struct split *s = qn_arena_get(&t->arena, sizeof *s, 8, err);
    if (!s) {
        qn_tok_regex_close(p->re);
        return QN_E_MEMORY;
    }
    *s = (struct split){.pattern = *p, .behavior = behavior, .invert = invert};
    return qn_tok_add_step(t, list, &split_ops, s, NULL, 0, err);
}
