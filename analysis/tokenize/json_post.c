/* json_post.c: `post_processor` of a tokenizer.json: which ids stand before and after a text. Templates for pairs of texts are
 * passed over: there is one text. */
#include "analysis/tokenize/json_read.h"

struct ends {
    uint32_t *before, *after; /* arena */
    uint64_t n_before, n_after;
};

static qn_code put(qn_tokenizer *t, uint32_t **list, uint64_t *n, uint64_t id, uint64_t off, qn_err *err)
{
    if (id >= t->vocab.n || !t->vocab.entry[id].s)
        return QN_FAIL(err, QN_E_INPUT, off, "tokenizer: the post-processor puts id %llu, which no token has",
                       (unsigned long long)id);
    uint32_t *p = qn_arena_get(&t->arena, (*n + 1) * sizeof *p, 8, err);
    if (!p)
        return QN_E_MEMORY;
    if (*n)
        memcpy(p, *list, *n * sizeof *p);
    p[(*n)++] = (uint32_t)id;
    *list = p;
    return QN_OK;
}

static const char *text_of(const qn_tok_node *n)
{
    return n && n->kind == QN_NODE_STRING ? n->s : NULL;
}

/* The ids that a name in a template stands for. */
static qn_code special(qn_tokenizer *t, const qn_tok_node *node, const qn_tok_node *item, uint32_t **list, uint64_t *n, qn_err *err)
{
    const char *name = text_of(qn_tok_node_get(item, "id"));
    const qn_tok_node *ids =
        name ? qn_tok_node_get(qn_tok_node_get(qn_tok_node_get(node, "special_tokens"), name), "ids") : NULL;
    if (!ids || ids->kind != QN_NODE_ARRAY || ids->n_children > 64)
        return QN_FAIL(err, QN_E_INPUT, item->off, "tokenizer: a special token of a template has no list of ids");
    for (const qn_tok_node *id = ids->first; id; id = id->next) {
        if (id->kind != QN_NODE_NUMBER || !id->is_uint)
            return QN_FAIL(err, QN_E_INPUT, id->off, "tokenizer: an id in a template is not a non-negative integer");
        QN_TRY(put(t, list, n, id->number, id->off, err));
    }
    return QN_OK;
}

static qn_code template(qn_tokenizer *t, const qn_tok_node *node, struct ends *e, qn_err *err)
{
    const qn_tok_node *single = qn_tok_node_get(node, "single");
    bool seen = false;
    if (!single || single->kind != QN_NODE_ARRAY || single->n_children > 64)
        return QN_FAIL(err, QN_E_INPUT, node->off, "tokenizer: a template without a list \"single\" of at most 64 parts");
    for (const qn_tok_node *part = single->first; part; part = part->next) {
        const qn_tok_node *item = qn_tok_node_get(part, "SpecialToken");
        const char *which = text_of(qn_tok_node_get(qn_tok_node_get(part, "Sequence"), "id"));
        if (item)
            QN_TRY(special(t, node, item, seen ? &e->after : &e->before, seen ? &e->n_after : &e->n_before, err));
        else if (which && strcmp(which, "A") == 0 && !seen)
            seen = true;
        else
            return QN_FAIL(err, QN_E_UNSUPPORTED, part->off, "tokenizer: a template that is not special tokens around one text");
    }
    return seen ? QN_OK
                : QN_FAIL(err, QN_E_UNSUPPORTED, node->off, "tokenizer: a template without the text itself");
}

/* ["token", id] */
static qn_code pair(qn_tokenizer *t, const qn_tok_node *node, const char *key, uint32_t **list, uint64_t *n, qn_err *err)
{
    const qn_tok_node *p = qn_tok_node_get(node, key);
    const qn_tok_node *id = p && p->kind == QN_NODE_ARRAY && p->n_children == 2 ? p->first->next : NULL;
    if (!id || id->kind != QN_NODE_NUMBER || !id->is_uint)
        return QN_FAIL(err, QN_E_INPUT, node->off, "tokenizer: \"%s\" of a post-processor is not a pair of token and id", key);
    return put(t, list, n, id->number, id->off, err);
}

/* What the next processor puts goes around what is there. */
static qn_code wrap(qn_tokenizer *t, const struct ends *e, qn_err *err)
{
    uint32_t *prefix = NULL, *suffix = NULL;
    uint64_t n_prefix = 0, n_suffix = 0;
    for (uint64_t i = 0; i < e->n_before; i++)
        QN_TRY(put(t, &prefix, &n_prefix, e->before[i], 0, err));
    for (uint64_t i = 0; i < t->n_prefix; i++)
        QN_TRY(put(t, &prefix, &n_prefix, t->prefix[i], 0, err));
    for (uint64_t i = 0; i < t->n_suffix; i++)
        QN_TRY(put(t, &suffix, &n_suffix, t->suffix[i], 0, err));
    for (uint64_t i = 0; i < e->n_after; i++)
        QN_TRY(put(t, &suffix, &n_suffix, e->after[i], 0, err));
    t->prefix = prefix;
    t->n_prefix = n_prefix;
    t->suffix = suffix;
    t->n_suffix = n_suffix;
    return QN_OK;
}

qn_code qn_tok_read_post(qn_tokenizer *t, const qn_tok_node *node, bool *says, qn_err *err)
{
    struct ends e = {.n_before = 0};
    const char *type = text_of(qn_tok_node_get(node, "type"));
    char shown[48];
    if (!type)
        return QN_FAIL(err, QN_E_INPUT, node->off, "tokenizer: a post-processor without a type");
    if (strcmp(type, "ByteLevel") == 0)
        return QN_OK; /* moves offsets, which nobody asks for here */
    if (strcmp(type, "Sequence") == 0) {
        const qn_tok_node *list = qn_tok_node_get(node, "processors");
        if (!list || list->kind != QN_NODE_ARRAY || list->n_children > 64)
            return QN_FAIL(err, QN_E_INPUT, node->off, "tokenizer: a sequence without a list of at most 64 processors");
        for (const qn_tok_node *p = list->first; p; p = p->next)
            QN_TRY(qn_tok_read_post(t, p, says, err)); /* the JSON reader bounds the depth */
        return QN_OK;
    }
    *says = true;
    if (strcmp(type, "TemplateProcessing") == 0) {
        QN_TRY(template(t, node, &e, err));
    } else if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0) {
        QN_TRY(pair(t, node, "cls", &e.before, &e.n_before, err));
        QN_TRY(pair(t, node, "sep", &e.after, &e.n_after, err));
    } else {
        qn_printable(shown, sizeof shown, type, strlen(type));
        return QN_FAIL(err, QN_E_UNSUPPORTED, node->off, "tokenizer: the post-processor '%s' is not supported", shown);
    }
    return wrap(t, &e, err);
}
