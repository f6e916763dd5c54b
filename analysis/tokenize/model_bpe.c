/* model_bpe.c: the model "BPE" of tokenizer.json: merges by rank. */
#include "analysis/tokenize/bpe.h"
#include "analysis/tokenize/models.h"
#include "analysis/tokenize/utf8.h"
#include "base/names.h"

static void bpe_release(qn_tokenizer *t)
{
    qn_bpe *b = t->model_data;
    if (!b)
        return;
    qn_mem_put(t->alloc, b->slots);
    qn_mem_put(t->alloc, b->bridges);
}

static void bpe_digest(const qn_tokenizer *t, qn_hasher *h)
{
    const qn_bpe *b = t->model_data;
    const uint8_t flags[3] = {b->byte_fallback, b->fuse_unk, b->ignore_merges};
    qn_hasher_add(h, flags, sizeof flags);
    qn_hasher_add(h, b->prefix, b->n_prefix + 1);
    qn_hasher_add(h, b->suffix, b->n_suffix + 1);
    qn_hasher_add(h, b->merges.b, sizeof b->merges.b);
}

/* Some merge works on tokens that no character stands behind: then what characters meet does not tell where merges cross. */
static bool merges_bytes(const qn_tokenizer *t, const qn_bpe *b)
{
    for (uint64_t i = 0; i <= b->mask; i++) {
        if (b->slots[i].pair == UINT64_MAX)
            continue;
        const uint32_t side[2] = {(uint32_t)(b->slots[i].pair >> 32), (uint32_t)b->slots[i].pair};
        for (int k = 0; k < 2; k++)
            if (side[k] == t->unk || (t->vocab.entry[side[k]].flags & QN_TOK_IS_BYTE))
                return true;
    }
    return false;
}

/* Now that added tokens are known: the ids of the characters that one table answers for. */
static qn_code bpe_finish(qn_tokenizer *t, qn_err *err)
{
    qn_bpe *b = t->model_data;
    (void)err;
    if (b->bridges && merges_bytes(t, b)) {
        qn_mem_put(t->alloc, b->bridges);
        b->bridges = NULL;
    }
    for (uint32_t c = 0; c < QN_BPE_SINGLE; c++) {
        char s[4];
        b->single[c] = qn_tok_vocab_find(&t->vocab, s, qn_utf8_put(s, c));
    }
    return QN_OK;
}

const qn_tok_model_ops qn_tok_bpe_ops = {
    .encode = qn_bpe_encode, .finish = bpe_finish, .digest = bpe_digest, .release = bpe_release};

static qn_code new_slots(qn_bpe *b, const qn_alloc *a, uint64_t n_merges, qn_err *err)
{
    const uint64_t n = qn_names_slots(n_merges);
    bool ovf = false;
    b->slots = qn_mem_get(a, qn_mul(n, sizeof *b->slots, &ovf), err);
    if (!b->slots || ovf)
        return QN_E_MEMORY;
    b->mask = n - 1;
    for (uint64_t i = 0; i < n; i++)
        b->slots[i].pair = UINT64_MAX;
    return QN_OK;
}

/* A pair that is listed twice has the rank of its last place, as in the table of a reader that overwrites. */
static void set_merge(qn_bpe *b, uint32_t left, uint32_t right, uint32_t rank, uint32_t id)
{
    const uint64_t pair = (uint64_t)left << 32 | right;
    uint64_t i = qn_bpe_hash(pair, b->key) & b->mask;
    while (b->slots[i].pair != UINT64_MAX && b->slots[i].pair != pair)
        i = (i + 1) & b->mask;
    b->slots[i] = (qn_bpe_slot){.pair = pair, .rank = rank, .id = id};
}

static void set_bridge(qn_bpe *b, const qn_tok_merge *m)
{
    unsigned len;
    if (!b->bridges || m->n_left == 0 || m->n_right == 0)
        return;
    const uint32_t last = qn_utf8_get(m->left + qn_utf8_back(m->left, m->n_left), &len);
    const uint32_t bit = qn_bpe_bridge(last, qn_utf8_get(m->right, &len));
    b->bridges[bit >> 6] |= (uint64_t)1 << (bit & 63);
}

static qn_code find(const qn_tokenizer *t, const char *s, uint64_t n, uint64_t rank, uint64_t off, uint32_t *id, qn_err *err)
{
    char shown[64];
    *id = qn_tok_vocab_find(&t->vocab, s, n);
    if (*id != QN_TOK_NONE)
        return QN_OK;
    qn_printable(shown, sizeof shown, s, n);
    return QN_FAIL(err, QN_E_INPUT, off, "tokenizer: merge %llu needs the token '%s', which the vocabulary does not have",
                   (unsigned long long)rank, shown);
}

static qn_code add_merges(qn_tokenizer *t, qn_bpe *b, const qn_tok_model_json *m, qn_hasher *h, qn_tok_buf *joined, qn_err *err)
{
    QN_TRY(new_slots(b, t->alloc, m->n_merges, err));
    for (uint64_t r = 0; r < m->n_merges; r++) {
        const qn_tok_merge *g = &m->merges[r];
        uint32_t left, right, id;
        QN_TRY(find(t, g->left, g->n_left, r, m->off, &left, err));
        QN_TRY(find(t, g->right, g->n_right, r, m->off, &right, err));
        const uint64_t skip = b->n_prefix <= g->n_right ? b->n_prefix : 0;
        joined->n = 0;
        QN_TRY(qn_tok_buf_put(joined, g->left, g->n_left, err));
        QN_TRY(qn_tok_buf_put(joined, g->right + skip, g->n_right - skip, err));
        QN_TRY(find(t, joined->p, joined->n, r, m->off, &id, err));
        set_merge(b, left, right, (uint32_t)r, id);
        set_bridge(b, g);
        uint8_t row[8];
        qn_store32(row, left);
        qn_store32(row + 4, right);
        qn_hasher_add(h, row, sizeof row);
    }
    return QN_OK;
}

static qn_code affix(qn_tokenizer *t, const qn_tok_node *o, const char *key, const char **out, uint64_t *n, qn_err *err)
{
    *out = "";
    QN_TRY(qn_tok_node_str(o, key, out, n, err));
    if (*n > QN_BPE_AFFIX_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, o->off, "tokenizer: %s of %llu bytes, at most %d are supported", key,
                       (unsigned long long)*n, QN_BPE_AFFIX_MAX);
    *out = qn_arena_str(&t->arena, *out, *n, err);
    return *out ? QN_OK : QN_E_MEMORY;
}

static qn_code read_options(qn_tokenizer *t, qn_bpe *b, const qn_tok_model_json *m, qn_err *err)
{
    const qn_tok_node *o = m->options, *dropout = qn_tok_node_get(o, "dropout");
    const char *unk = NULL;
    uint64_t n = 0;
    QN_TRY(qn_tok_node_bool(o, "byte_fallback", &b->byte_fallback, err));
    QN_TRY(qn_tok_node_bool(o, "fuse_unk", &b->fuse_unk, err));
    QN_TRY(qn_tok_node_bool(o, "ignore_merges", &b->ignore_merges, err));
    QN_TRY(affix(t, o, "continuing_subword_prefix", &b->prefix, &b->n_prefix, err));
    QN_TRY(affix(t, o, "end_of_word_suffix", &b->suffix, &b->n_suffix, err));
    QN_TRY(qn_tok_node_str(o, "unk_token", &unk, &n, err));
    if (dropout && (dropout->kind != QN_NODE_NUMBER || dropout->real > 0 || dropout->real < 0))
        return QN_FAIL(err, QN_E_UNSUPPORTED, dropout->off, "tokenizer: BPE with dropout is not supported: its ids are random");
    if (unk && n > 0)
        QN_TRY(qn_tok_find_unk(t, unk, n, m->off, err));
    return QN_OK;
}

qn_code qn_tok_build_bpe(qn_tokenizer *t, const qn_tok_model_json *m, qn_err *err)
{
    qn_bpe *b = qn_arena_get(&t->arena, sizeof *b, 8, err);
    qn_names keyed;
    qn_hasher h;
    qn_tok_buf joined = {.alloc = t->alloc};
    if (!b)
        return QN_E_MEMORY;
    memset(b, 0, sizeof *b);
    t->model = &qn_tok_bpe_ops;
    t->model_data = b;
    t->kind = "BPE";
    qn_names_init(&keyed, (qn_name_slot *)(void *)b, 1); /* for its random key: what a file says cannot prepare collisions */
    b->key = keyed.key;
    QN_TRY(read_options(t, b, m, err));
    if (b->n_prefix + b->n_suffix == 0) {
        b->bridges = qn_mem_zeros(t->alloc, (1 << QN_BPE_BRIDGE_BITS) / 64, sizeof *b->bridges, err);
        if (!b->bridges)
            return QN_E_MEMORY;
    }
    QN_TRY(qn_hasher_open(&h, err));
    const qn_code rc = add_merges(t, b, m, &h, &joined, err);
    b->merges = qn_hasher_digest(&h);
    qn_hasher_close(&h);
    qn_mem_put(t->alloc, joined.p);
    return rc;
}
