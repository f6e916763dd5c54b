/* gguf_vocab.c: the tokenizer of a folder as keys tokenizer.*. */
#include "analysis/tokenize/to_gguf.h"
#include "base/err.h"
#include "base/num.h"
#include "compress/export/gguf_impl.h"
#include <string.h>

#define K "tokenizer.ggml."

enum { BATCH = 256, SMALL_FILE_MAX = 8 << 20 };

/* A small file of the folder, n bytes and a NUL, from the arena; *text NULL when there is none. */
static qn_code small_file(qn_ggx *x, const char *name, const char **text, uint64_t *n, qn_err *err)
{
    qn_source *s = x->job->src;
    *text = NULL;
    *n = 0;
    for (uint64_t i = 0; i < s->n_files; i++) {
        const qn_source_file *f = &s->files[i];
        if (strcmp(f->path, name))
            continue;
        if (f->n_bytes > SMALL_FILE_MAX)
            return qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%llu bytes: at most %d are expected", (unsigned long long)f->n_bytes,
                                               (int)SMALL_FILE_MAX), f->path);
        char *p = qn_arena_get(x->arena, f->n_bytes + 1, 1, err);
        if (!p)
            return QN_E_MEMORY;
        for (uint64_t o = f->first_object; o < f->first_object + f->n_objects; o++) {
            QN_TRY(qn_source_read(s, o, 0, s->objects[o].n_bytes, p + *n, err));
            *n += s->objects[o].n_bytes;
        }
        p[*n] = '\0';
        *text = p;
        return QN_OK;
    }
    return QN_OK;
}

static bool has_tokenizer(const qn_source *s)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer.model", "sentencepiece.bpe.model", "spiece.model"};
    for (uint64_t i = 0; i < s->n_files; i++)
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++)
            if (!strcmp(s->files[i].path, names[k]))
                return true;
    return false;
}

/* --- arrays --------------------------------------------------------------------------------------------------------------------- */

static qn_code put_u32s(qn_gguf_writer *w, const char *key, qn_gguf_type elem, const void *v, uint64_t n, unsigned width, qn_err *err)
{
    const uint8_t *p = v;
    uint64_t bits[BATCH];
    QN_TRY(qn_gguf_put_array(w, key, elem, n, err));
    for (uint64_t i = 0; i < n; i += BATCH) {
        const uint64_t some = qn_min_u64(BATCH, n - i);
        for (uint64_t k = 0; k < some; k++) {
            uint32_t u = p[(i + k) * width];
            if (width == 4)
                memcpy(&u, p + (i + k) * 4, 4);
            bits[k] = u;
        }
        QN_TRY(qn_gguf_put_array_numbers(w, bits, some, err));
    }
    return QN_OK;
}

static qn_code put_merges(const qn_tok_gguf *g, const qn_tokenizer *t, qn_gguf_writer *w, qn_arena *arena, qn_err *err)
{
    QN_TRY(qn_gguf_put_array(w, K "merges", QN_GGUF_STR, g->n_merges, err));
    for (uint32_t i = 0; i < g->n_merges; i++) {
        size_t a, b;
        const char *left = qn_tokenizer_token(t, g->merges[i].left, &a), *right = qn_tokenizer_token(t, g->merges[i].right, &b);
        const qn_arena_mark mark = qn_arena_tell(arena);
        char *both = qn_arena_get(arena, a + b + 1, 1, err);
        if (!both)
            return QN_E_MEMORY;
        memcpy(both, left, a);
        both[a] = ' ';
        memcpy(both + a + 1, right, b);
        QN_TRY(qn_gguf_put_array_str(w, both, a + b + 1, err));
        qn_arena_rewind(arena, mark);
    }
    return QN_OK;
}

static qn_code put_tokens(const qn_tok_gguf *g, const qn_tokenizer *t, qn_gguf_writer *w, qn_arena *arena, qn_err *err)
{
    QN_TRY(qn_gguf_put_str(w, K "model", g->model, err));
    if (g->pre)
        QN_TRY(qn_gguf_put_str(w, K "pre", g->pre, err));
    QN_TRY(qn_gguf_put_array(w, K "tokens", QN_GGUF_STR, g->n, err));
    for (uint32_t i = 0; i < g->n; i++)
        QN_TRY(qn_gguf_put_array_str(w, g->token[i], g->n_bytes[i], err));
    if (g->score)
        QN_TRY(put_u32s(w, K "scores", QN_GGUF_F32, g->score, g->n, 4, err));
    QN_TRY(put_u32s(w, K "token_type", QN_GGUF_I32, g->type, g->n, 4, err));
    return g->merges ? put_merges(g, t, w, arena, err) : QN_OK;
}

/* --- special tokens ------------------------------------------------------------------------------------------------------------------ */

/* "pad_token": "<pad>", or {"content": "<pad>", …}; else config.json's pad_token_id. UINT32_MAX: there is none. */
static qn_code find_pad(const qn_ggx *x, const qn_config *c, const qn_tokenizer *t, uint32_t *id, qn_err *err)
{
    const char *name = NULL;
    qn_config sub;
    bool there = false;
    uint64_t v = UINT32_MAX;
    *id = UINT32_MAX;
    if (c->root && qn_config_str_or(c, "pad_token", NULL, &name, NULL) != QN_OK) {
        name = NULL;
        if (qn_config_sub(c, "pad_token", &sub, &there, NULL) == QN_OK && there && qn_config_str_or(&sub, "content", NULL, &name, NULL) != QN_OK)
            name = NULL;
    }
    if (name)
        *id = qn_tokenizer_find(t, name, strlen(name));
    if (*id == UINT32_MAX && qn_config_u64_or(&x->config, "pad_token_id", 0, UINT32_MAX - 1, UINT32_MAX, &v, NULL) == QN_OK)
        *id = (uint32_t)v;
    (void)err;
    if (*id >= x->vocab)
        *id = UINT32_MAX;
    return QN_OK;
}

/* A number of config.json that may also be a list. */
static uint32_t config_id(const qn_ggx *x, const char *key)
{
    uint64_t v = UINT32_MAX, n;
    if (qn_config_u64_or(&x->config, key, 0, UINT32_MAX - 1, UINT32_MAX, &v, NULL) != QN_OK &&
        (qn_config_list(&x->config, key, &n, NULL) != QN_OK || !n || qn_config_item_u64(&x->config, key, 0, 0, UINT32_MAX - 1, &v, NULL) != QN_OK))
        return UINT32_MAX;
    return v < x->vocab ? (uint32_t)v : UINT32_MAX;
}

static qn_code put_special(qn_ggx *x, const qn_tok_gguf *g, const qn_config *c, const qn_tokenizer *t, qn_gguf_writer *w, qn_err *err)
{
    uint32_t pad;
    const uint32_t bos = g->bos != UINT32_MAX ? g->bos : config_id(x, "bos_token_id"), eos = g->eos != UINT32_MAX ? g->eos : config_id(x, "eos_token_id");
    QN_TRY(find_pad(x, c, t, &pad, err));
    const struct {
        const char *key;
        uint32_t id;
    } ids[] = {{K "bos_token_id", bos}, {K "eos_token_id", eos}, {K "unknown_token_id", g->unk}, {K "padding_token_id", pad}};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        if (ids[i].id != UINT32_MAX)
            QN_TRY(qn_gguf_put_u32(w, ids[i].key, ids[i].id, err));
    QN_TRY(qn_gguf_put_bool(w, K "add_bos_token", g->add_bos, err));
    QN_TRY(qn_gguf_put_bool(w, K "add_eos_token", g->add_eos, err));
    if (!strcmp(g->model, "gpt2"))
        return QN_OK;
    QN_TRY(qn_gguf_put_bool(w, K "add_space_prefix", g->add_space_prefix, err));
    if (strcmp(g->model, "t5"))
        return QN_OK;
    QN_TRY(qn_gguf_put_bool(w, K "remove_extra_whitespaces", g->remove_extra_whitespaces, err));
    return g->n_charsmap ? put_u32s(w, K "precompiled_charsmap", QN_GGUF_U8, g->charsmap, g->n_charsmap, 1, err) : QN_OK;
}

/* chat_template.jinja, or what tokenizer_config.json says: a text, or a list of them by name. */
static qn_code put_template(qn_ggx *x, const qn_config *c, qn_gguf_writer *w, qn_err *err)
{
    const char *text, *found = NULL;
    uint64_t n;
    QN_TRY(small_file(x, "chat_template.jinja", &text, &n, err));
    if (!text && c->root && qn_config_str_or(c, "chat_template", NULL, &found, NULL) == QN_OK)
        text = found;
    return text && text[0] ? qn_gguf_put_str(w, "tokenizer.chat_template", text, err) : QN_OK;
}

/* --- all ---------------------------------------------------------------------------------------------------------------------------------- */

static qn_code put_all(qn_ggx *x, const qn_config *c, const qn_tokenizer *t, qn_gguf_writer *w, qn_err *err)
{
    qn_tok_gguf g;
    if (x->vocab > UINT32_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the embedding has too many rows");
    QN_TRY(qn_tok_gguf_of(&g, t, (uint32_t)x->vocab, x->arena, err));
    if (qn_tokenizer_size(t) > x->vocab)
        qn_export_say(x->job, "tokens from %llu on have no row in the embedding, and are left out", (unsigned long long)x->vocab);
    if (g.no_bytes)
        qn_export_say(x->job, "the tokenizer has no tokens for single bytes: llama.cpp refuses text with a character that is no token");
    QN_TRY(put_tokens(&g, t, w, x->arena, err));
    QN_TRY(put_special(x, &g, c, t, w, err));
    return put_template(x, c, w, err);
}

qn_code qn_ggx_vocab(qn_ggx *x, qn_gguf_writer *w, qn_err *err)
{
    qn_tokenizer *t = NULL;
    qn_config c = {.root = NULL};
    const char *text;
    uint64_t n;
    if (!has_tokenizer(x->job->src)) {
        qn_export_say(x->job, "the folder holds no tokenizer: the file takes and gives token ids only");
        return qn_gguf_put_str(w, K "model", "none", err);
    }
    QN_TRY(qn_tokenizer_of_source(x->job->env, x->job->src, &t, err));
    qn_code rc = small_file(x, "tokenizer_config.json", &text, &n, err);
    if (rc == QN_OK && text)
        rc = qn_config_parse(&c, text, (size_t)n, "tokenizer_config.json", err);
    if (rc == QN_OK)
        rc = put_all(x, &c, t, w, err);
    if (c.root)
        qn_config_release(&c);
    qn_tokenizer_close(t);
    return rc;
}

/* Of a model that calls itself phi-3 llama.cpp takes four tokens for granted, and does not load it without them. */
qn_code qn_ggx_name_loads(qn_ggx *x, const char *name, bool *yes, qn_err *err)
{
    static const char *const wanted[] = {"<unk>", "<s>", "</s>", "<|endoftext|>"};
    char low[128] = "";
    *yes = true;
    for (size_t i = 0; name[i] && i + 1 < sizeof low; i++) {
        low[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 32 : name[i]);
        low[i + 1] = '\0';
    }
    if ((!strstr(low, "phi3") && !strstr(low, "phi-3")) || !has_tokenizer(x->job->src))
        return QN_OK;
    qn_tokenizer *t = NULL;
    QN_TRY(qn_tokenizer_of_source(x->job->env, x->job->src, &t, err));
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        *yes = *yes && qn_tokenizer_find(t, wanted[i], strlen(wanted[i])) != UINT32_MAX;
    qn_tokenizer_close(t);
    return QN_OK;
}

qn_code qn_ggx_vocab_check(qn_ggx *x, const char *path, qn_err *err)
{
    qn_tokenizer *a = NULL, *b = NULL;
    unsigned differ = 0;
    const char *first = NULL;
    if (!has_tokenizer(x->job->src))
        return QN_OK;
    qn_code rc = qn_tokenizer_of_source(x->job->env, x->job->src, &a, err);
    if (rc == QN_OK)
        rc = qn_tokenizer_open(x->job->env, path, &b, err);
    if (rc == QN_OK)
        rc = qn_tok_agree(a, b, &differ, &first, err);
    if (rc == QN_OK && differ)
        qn_export_say(x->job, "llama.cpp's tokenizer gives other tokens than the model's own to %u of our trial lines, for example '%.60s'", differ, first);
    qn_tokenizer_close(a);
    qn_tokenizer_close(b);
    return rc;
}
