/* emit_config.c: see emit_config.h. Beside widths: what a configuration says of each layer goes with the layers, and what it says of layers by their
 * number is said anew. */
#include "compress/prune/emit_config.h"
#include "base/err.h"
#include "formats/hf/config.h"
#include "formats/hf/config_edit.h"
#include "formats/json/write.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHANGES_MAX = 32 };

struct changes {
    qn_emit_plan *p;
    const qn_config *config;
    qn_config_change list[CHANGES_MAX];
    uint32_t n;
};

static bool is_family(const struct changes *x, const char *start)
{
    return !strncmp(x->p->g->family, start, strlen(start));
}

static qn_code set(struct changes *x, const char *key, size_t n_key, const char *json, qn_err *err)
{
    qn_config_change *c = &x->list[x->n];
    if (x->n == CHANGES_MAX)
        return QN_BUG(err, "more than %d changes of a configuration", (int)CHANGES_MAX);
    c->key = qn_arena_str(&x->p->arena, key, n_key, err);
    c->json = c->key ? qn_arena_str(&x->p->arena, json, strlen(json), err) : NULL;
    if (!c->json)
        return QN_E_MEMORY;
    x->n++;
    return QN_OK;
}

/* Every key of the list that says `old`; the first one when none does. */
static qn_code set_number(struct changes *x, const char *keys, uint64_t old, uint64_t now, qn_err *err)
{
    char text[24];
    bool done = false;
    snprintf(text, sizeof text, "%" PRIu64, now);
    for (const char *k = keys; *k; k += strcspn(k, "|"), k += *k == '|') {
        char one[64];
        uint64_t v;
        snprintf(one, sizeof one, "%.*s", (int)strcspn(k, "|"), k);
        if (!qn_config_has(x->config, one))
            continue;
        QN_TRY(qn_config_u64(x->config, one, 0, UINT64_MAX, &v, err));
        if (v == old) {
            QN_TRY(set(x, one, strlen(one), text, err));
            done = true;
        }
    }
    return done ? QN_OK : set(x, keys, strcspn(keys, "|"), text, err);
}

/* The shortest decimal that is read back as the same number. */
static qn_code set_real(struct changes *x, const char *key, double v, qn_err *err)
{
    char text[40];
    for (int digits = 3; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    return set(x, key, strlen(key), text, err);
}

static qn_code set_widths(struct changes *x, qn_err *err)
{
    const qn_emit_plan *p = x->p;
    const qn_emit_arch *a = p->arch;
    const struct {
        const char *keys;
        qn_emit_width w;
    } rows[] = {{a->ffn, QN_EMIT_FFN},         {a->heads, QN_EMIT_HEADS},         {a->hidden, QN_EMIT_HIDDEN},
                {a->experts, QN_EMIT_EXPERTS}, {a->expert_ffn, QN_EMIT_EXPERT_FFN}, {a->shared_ffn, QN_EMIT_SHARED_FFN}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (p->now[rows[i].w] != p->old[rows[i].w])
            QN_TRY(set_number(x, rows[i].keys, p->old[rows[i].w], p->now[rows[i].w], err));
    if (p->kv_now != p->kv_old && (qn_config_has(x->config, a->kv_heads) || p->kv_now != p->now[QN_EMIT_HEADS]))
        QN_TRY(set_number(x, a->kv_heads, p->kv_old, p->kv_now, err));
    /* loaders take hidden / heads where nothing is said */
    if (a->head_dim && p->head_dim && (p->now[QN_EMIT_HEADS] != p->old[QN_EMIT_HEADS] || p->now[QN_EMIT_HIDDEN] != p->old[QN_EMIT_HIDDEN]))
        QN_TRY(set_number(x, a->head_dim, p->head_dim, p->head_dim, err));
    return p->eps >= 0 ? set_real(x, a->eps, p->eps, err) : QN_OK;
}

/* ---- lists with one element for each layer ---- */

/* Text of a list of what `item` says of every layer that stays. */
static qn_code set_list(struct changes *x, const char *key, qn_code (*item)(struct changes *x, const char *key, uint32_t layer, qn_textbuf *t, qn_err *err),
                        qn_err *err)
{
    qn_textbuf t = {.alloc = x->p->env->alloc};
    qn_code rc = QN_OK;
    bool first = true;
    qn_textbuf_puts(&t, "[");
    for (uint32_t i = 0; i < x->p->n_layers && rc == QN_OK; i++) {
        if (x->p->layers[i].to == QN_EMIT_GONE)
            continue;
        qn_textbuf_puts(&t, first ? "" : ", ");
        first = false;
        rc = item(x, key, i, &t, err);
    }
    qn_textbuf_puts(&t, "]");
    if (rc == QN_OK)
        rc = qn_textbuf_failed(&t) ? QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory: a configuration wanted") : set(x, key, strlen(key), t.text, err);
    qn_mem_put(t.alloc, t.text);
    return rc;
}

static qn_code old_string(struct changes *x, const char *key, uint32_t layer, qn_textbuf *t, qn_err *err)
{
    const char *s;
    QN_TRY(qn_config_item_str(x->config, key, layer, &s, err));
    qn_json_string(t, s);
    return QN_OK;
}

static qn_code old_number(struct changes *x, const char *key, uint32_t layer, qn_textbuf *t, qn_err *err)
{
    uint64_t v;
    QN_TRY(qn_config_item_u64(x->config, key, layer, 0, UINT64_MAX, &v, err));
    qn_textbuf_u64(t, v);
    return QN_OK;
}

static qn_code by_window(struct changes *x, const char *key, uint32_t layer, qn_textbuf *t, qn_err *err)
{
    (void)key;
    (void)err;
    qn_json_string(t, x->p->layers[layer].window ? "sliding_attention" : "full_attention");
    return QN_OK;
}

static qn_code neo_kind(struct changes *x, const char *key, uint32_t layer, qn_textbuf *t, qn_err *err)
{
    (void)key;
    (void)err;
    qn_textbuf_puts(t, x->p->layers[layer].window ? "[[\"local\"], 1]" : "[[\"global\"], 1]");
    return QN_OK;
}

static qn_code shorten_lists(struct changes *x, qn_err *err)
{
    static const char *const strings[] = {"layer_types", "attention_layers", "mlp_layer_types"};
    uint64_t n;
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
        QN_TRY(qn_config_list(x->config, strings[i], &n, err));
        if (n)
            QN_TRY(set_list(x, strings[i], old_string, err));
    }
    QN_TRY(qn_config_list(x->config, "no_rope_layers", &n, err));
    return n ? set_list(x, "no_rope_layers", old_number, err) : QN_OK;
}

/* ---- layers named by their number ---- */

/* Of the layers below the number, those that stay. */
static uint64_t stay_below(const qn_emit_plan *p, uint64_t n)
{
    uint64_t kept = 0;
    for (uint32_t i = 0; i < p->n_layers && i < n; i++)
        kept += p->layers[i].to != QN_EMIT_GONE;
    return kept;
}

/* qwen: layers from that number on see a window. */
static qn_code set_first_window(struct changes *x, qn_err *err)
{
    uint64_t first;
    bool slides = false;
    QN_TRY(qn_config_u64_or(x->config, "max_window_layers", 0, UINT32_MAX, 28, &first, err));
    for (uint32_t i = 0; i < x->p->n_layers; i++)
        slides |= x->p->layers[i].window != 0;
    if (!slides && !qn_config_has(x->config, "max_window_layers"))
        return QN_OK;
    return set_number(x, "max_window_layers", first, stay_below(x->p, first), err);
}

/* qwen: every decoder_sparse_step-th layer has experts, but those in mlp_only_layers; then: all but those. */
static qn_code set_dense_layers(struct changes *x, qn_err *err)
{
    qn_textbuf t = {.alloc = x->p->env->alloc};
    bool any = false;
    uint64_t n;
    QN_TRY(qn_config_list(x->config, "mlp_only_layers", &n, err));
    qn_textbuf_puts(&t, "[");
    for (uint32_t i = 0; i < x->p->n_layers; i++) {
        if (x->p->layers[i].to == QN_EMIT_GONE || x->p->layers[i].experts != QN_NO_NODE)
            continue;
        qn_textbuf_puts(&t, any ? ", " : "");
        qn_textbuf_u64(&t, x->p->layers[i].to);
        any = true;
    }
    qn_textbuf_puts(&t, "]");
    qn_code rc = qn_textbuf_failed(&t) ? QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory: a configuration wanted") : QN_OK;
    if (rc == QN_OK && (any || n))
        rc = set(x, "mlp_only_layers", 15, t.text, err);
    if (rc == QN_OK && qn_config_has(x->config, "decoder_sparse_step"))
        rc = set(x, "decoder_sparse_step", 19, "1", err);
    qn_mem_put(t.alloc, t.text);
    return rc;
}

/* gemma: all but each pth layer see a window, where no list says it. */
static qn_code set_pattern(struct changes *x, qn_err *err)
{
    const qn_emit_plan *p = x->p;
    uint64_t pattern;
    bool same = true;
    if (qn_config_has(x->config, "layer_types"))
        return QN_OK;
    QN_TRY(qn_config_u64_or(x->config, "sliding_window_pattern|_sliding_window_pattern", 1, 10000, is_family(x, "gemma3") ? 6 : 2, &pattern, err));
    for (uint32_t i = 0; i < p->n_layers; i++)
        same &= p->layers[i].to == QN_EMIT_GONE || ((p->layers[i].to + 1) % pattern == 0) == ((i + 1) % pattern == 0);
    return same ? QN_OK : set_list(x, "layer_types", by_window, err);
}

static qn_code set_layers(struct changes *x, qn_err *err)
{
    const qn_emit_plan *p = x->p;
    QN_TRY(set_number(x, p->arch->layers, p->n_layers, p->n_kept, err));
    QN_TRY(shorten_lists(x, err));
    if (is_family(x, "qwen"))
        QN_TRY(set_first_window(x, err));
    if (p->arch->experts && is_family(x, "qwen"))
        QN_TRY(set_dense_layers(x, err));
    if (is_family(x, "gemma2") || is_family(x, "gemma3"))
        QN_TRY(set_pattern(x, err));
    return !strcmp(p->g->family, "gpt_neo") ? set_list(x, "attention_types", neo_kind, err) : QN_OK;
}

qn_code qn_emit_config(qn_emit_plan *p, qn_textbuf *out, qn_err *err)
{
    struct changes x = {.p = p};
    qn_config config;
    char *text = NULL;
    uint64_t n;
    QN_TRY(qn_config_open(&config, p->g->source, err));
    x.config = &config;
    qn_code rc = p->arch ? set_widths(&x, err) : QN_OK;
    if (rc == QN_OK && p->n_kept < p->n_layers)
        rc = set_layers(&x, err);
    if (rc == QN_OK)
        rc = qn_config_text(p->g->source, &text, &n, err);
    if (rc == QN_OK)
        rc = qn_config_edit(text, n, x.list, x.n, out, err);
    qn_mem_put(p->g->source->env->alloc, text);
    qn_config_release(&config);
    return rc;
}
