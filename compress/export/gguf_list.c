/* gguf_list.c: the tensors of a model folder under GGUF's names, in the order that loaders read: embedding, head, layers. What changes on the way:
 *
 *   llama, mistral, mixtral   rows of q and k: rotary pairs (i, i + h/2) → (2i, 2i + 1) in each head
 *   experts                   one tensor each, or gate and up fused → one of three dimensions
 *   gemma                     norms + 1
 *   gpt2                      (in, out) → (out, in);  gpt_neox: q, k, v of each head → all q, all k, all v
 *   mamba                     A_log → −exp A_log, convolution (n, 1, k) → (n, k);  mamba2: A and D get a second dimension, its norm one for groups */
#include "base/err.h"
#include "base/num.h"
#include "compress/export/gguf_impl.h"
#include "formats/gguf/names.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One tensor of the folder on its way. */
struct item {
    uint64_t tensor;
    char name[QN_GGUF_NAME_CAP];
    uint32_t expert, layer; /* layer: UINT32_MAX before and behind them */
};

static bool ends(const char *s, const char *tail)
{
    const size_t n = strlen(s), k = strlen(tail);
    return n >= k && !strcmp(s + n - k, tail);
}

/* Buffers that old files carry: not weights. */
static bool is_buffer(const char *name)
{
    static const char *const tails[] = {".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias"};
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++)
        if (ends(name, tails[i]))
            return true;
    return false;
}

/* Names that do not end in .weight or .bias, as mamba's. */
static bool bare_name(const qn_ggx *x, const char *hf, char out[QN_GGUF_NAME_CAP])
{
    static const char *const names[][2] = {{"mixer.A_log", "ssm_a"}, {"mixer.D", "ssm_d"}, {"mixer.dt_bias", "ssm_dt.bias"}};
    unsigned layer;
    int at = 0;
    if (strncmp(x->arch, "mamba", 5) || sscanf(hf, "backbone.layers.%u.%n", &layer, &at) != 1 || !at)
        return false;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!strcmp(hf + at, names[i][0]))
            return snprintf(out, QN_GGUF_NAME_CAP, "blk.%u.%s", layer, names[i][1]) > 0;
    return false;
}

/* All experts' gate and up, or down, in one tensor (E, rows, cols): transformers 5. *from: of the name ".mlp.experts.gate_up_proj". */
static bool fused_name(const char *hf, bool *gate_up, char layer[QN_GGUF_NAME_CAP])
{
    static const char *const middles[] = {".mlp.experts.", ".block_sparse_moe.experts."};
    for (size_t i = 0; i < 2; i++) {
        const char *at = strstr(hf, middles[i]), *tail = at ? at + strlen(middles[i]) : NULL;
        if (!at)
            continue;
        *gate_up = !strcmp(tail, "gate_up_proj") || !strcmp(tail, "gate_up_proj.weight");
        if (*gate_up || !strcmp(tail, "down_proj") || !strcmp(tail, "down_proj.weight"))
            return snprintf(layer, QN_GGUF_NAME_CAP, "%.*s", (int)(at - hf), hf) > 0;
    }
    return false;
}

static uint32_t layer_of(const char *name)
{
    unsigned v;
    return sscanf(name, "blk.%u.", &v) == 1 ? v : UINT32_MAX;
}

static qn_ggx_tensor *find(qn_ggx *x, const char *name)
{
    for (uint32_t i = x->n; i-- > 0;)
        if (!strcmp(x->list[i].name, name))
            return &x->list[i];
    return NULL;
}

/* The shape that the tensor will have, without what changes its rows. */
static void shape(qn_ggx_tensor *t, const qn_source_tensor *from)
{
    t->rank = from->rank;
    memcpy(t->dims, from->dims, (from->rank < 4 ? from->rank : 4) * sizeof t->dims[0]);
    t->cols = from->rank > 1 ? from->dims[from->rank - 1] : 1;
    t->rows = 1;
    for (unsigned d = from->rank > 1; d < from->rank; d++)
        t->rows *= from->dims[d - (from->rank > 1)];
    t->stack = 1;
    t->src_rows = t->take = t->rows;
    t->n_parts = 1;
}

static void two_dims(qn_ggx_tensor *t, uint64_t a, uint64_t b)
{
    t->rank = 2;
    t->dims[0] = a;
    t->dims[1] = b;
}

/* What becomes of this one. */
static void change(const qn_ggx *x, qn_ggx_tensor *t, const char *hf)
{
    const char *n = t->name;
    const uint64_t rows = t->rows;
    if (!strcmp(x->arch, "llama") && (strstr(n, ".attn_q.") || strstr(n, ".attn_k."))) {
        t->move = QN_GGX_HEADS;
        t->heads = (uint32_t)(strstr(n, ".attn_q.") ? x->heads : x->kv_heads);
    }
    if (!strncmp(x->arch, "gemma", 5) && ends(n, "norm.weight"))
        t->value = QN_GGX_PLUS_ONE;
    if (!strcmp(x->arch, "gptneox") && strstr(n, ".attn_qkv.")) {
        t->move = QN_GGX_THIRDS;
        t->heads = (uint32_t)x->heads;
    }
    if (!strcmp(x->arch, "gpt2") && t->rank == 2 && (strstr(n, ".attn_") || strstr(n, ".ffn_"))) {
        t->move = QN_GGX_TURN;
        t->rows = t->cols;
        t->cols = rows;
        t->src_rows = t->take = t->rows;
        two_dims(t, t->rows, t->cols);
    }
    if (ends(hf, ".A_log"))
        t->value = QN_GGX_MINUS_EXP;
    if (strstr(n, ".ssm_conv1d.weight") && t->rank == 3)
        two_dims(t, t->dims[0], t->dims[2]);
    if (!strcmp(x->arch, "mamba2") && t->rank == 1 && (ends(n, ".ssm_a") || ends(n, ".ssm_d")))
        two_dims(t, t->dims[0], 1);
    if (strstr(n, ".ssm_norm.weight") && x->kv_heads)
        two_dims(t, x->kv_heads, rows / x->kv_heads);
}

static qn_code add_plain(qn_ggx *x, const struct item *m, qn_err *err)
{
    const qn_source_tensor *from = &x->job->src->tensors[m->tensor];
    qn_ggx_tensor *t = qn_ggx_add(x, err);
    uint64_t *part = t ? qn_arena_get(x->arena, sizeof *part, 8, err) : NULL;
    char *name = part ? qn_arena_str(x->arena, m->name, strlen(m->name), err) : NULL;
    if (!name)
        return QN_E_MEMORY;
    if (from->rank < 1 || from->rank > 4)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%u dimensions: 1 to 4 are expected", from->rank), from->name);
    *part = m->tensor;
    shape(t, from);
    t->name = name;
    t->parts = part;
    change(x, t, from->name);
    return QN_OK;
}

/* An expert's matrix: with those of the others one tensor (E, rows, cols). */
static qn_code add_expert(qn_ggx *x, const struct item *m, qn_err *err)
{
    const qn_source_tensor *from = &x->job->src->tensors[m->tensor];
    qn_ggx_tensor *t = find(x, m->name);
    if (from->rank != 2 || m->expert >= x->n_experts)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a matrix of one of %" PRIu64 " experts is expected", x->n_experts), from->name);
    if (!t) {
        uint64_t *parts = qn_arena_get(x->arena, x->n_experts * sizeof *parts, 8, err);
        char *name = parts ? qn_arena_str(x->arena, m->name, strlen(m->name), err) : NULL;
        t = name ? qn_ggx_add(x, err) : NULL;
        if (!t)
            return QN_E_MEMORY;
        for (uint64_t e = 0; e < x->n_experts; e++)
            parts[e] = UINT64_MAX;
        shape(t, from);
        t->name = name;
        t->parts = parts;
        t->n_parts = (uint32_t)x->n_experts;
        t->rank = 3;
        t->dims[2] = t->cols;
        t->dims[1] = t->rows;
        t->dims[0] = x->n_experts;
        t->rows *= x->n_experts;
    }
    if (from->dims[0] != t->dims[1] || from->dims[1] != t->dims[2])
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "experts differ in shape"), from->name);
    ((uint64_t *)(uintptr_t)t->parts)[m->expert] = m->tensor;
    return QN_OK;
}

/* One of the halves of a fused tensor, or all of it. */
static qn_code add_fused(qn_ggx *x, uint64_t tensor, const char *hf_layer, const char *part_name, uint64_t from_row, uint64_t take, qn_err *err)
{
    const qn_source_tensor *from = &x->job->src->tensors[tensor];
    unsigned layer;
    const char *at = strstr(hf_layer, "layers.");
    if (!at || sscanf(at, "layers.%u", &layer) != 1)
        return QN_BUG(err, "experts outside of a layer");
    struct item m = {.tensor = tensor};
    snprintf(m.name, sizeof m.name, "blk.%u.%s.weight", layer, part_name);
    QN_TRY(add_plain(x, &m, err));
    qn_ggx_tensor *t = &x->list[x->n - 1];
    t->stack = from->dims[0];
    t->src_rows = from->dims[1];
    t->from = from_row;
    t->take = take;
    t->dims[1] = take;
    t->rows = t->stack * take;
    return QN_OK;
}

static qn_code add_fused_parts(qn_ggx *x, uint64_t tensor, bool gate_up, const char *layer, qn_err *err)
{
    const qn_source_tensor *from = &x->job->src->tensors[tensor];
    if (from->rank != 3 || (gate_up && from->dims[1] % 2))
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "experts in one tensor have three dimensions"), from->name);
    if (!gate_up)
        return add_fused(x, tensor, layer, "ffn_down_exps", 0, from->dims[1], err);
    QN_TRY(add_fused(x, tensor, layer, "ffn_gate_exps", 0, from->dims[1] / 2, err));
    return add_fused(x, tensor, layer, "ffn_up_exps", from->dims[1] / 2, from->dims[1] / 2, err);
}

/* --- the head ---------------------------------------------------------------------------------------------------------------- */

static qn_code same_content(qn_source *s, uint64_t a, uint64_t b, bool *same, qn_err *err)
{
    enum { PIECE = 1 << 16 };
    const uint64_t n = s->tensors[a].n_bytes;
    *same = s->tensors[a].dtype == s->tensors[b].dtype && n == s->tensors[b].n_bytes;
    uint8_t *p = *same ? qn_mem_get(s->env->alloc, 2 * PIECE, err) : NULL;
    qn_code rc = *same && !p ? QN_E_MEMORY : QN_OK;
    for (uint64_t at = 0; rc == QN_OK && *same && at < n; at += PIECE) {
        const uint64_t k = qn_min_u64(PIECE, n - at);
        rc = qn_source_tensor_read(s, a, at, k, p, err);
        if (rc == QN_OK)
            rc = qn_source_tensor_read(s, b, at, k, p + PIECE, err);
        *same = !memcmp(p, p + PIECE, k);
    }
    qn_mem_put(s->env->alloc, p);
    return rc;
}

/* A head that is a copy of the embedding goes: readers then use the embedding. GPT-NeoX and phi want one of its own; gemma's loaders know none. */
static qn_code settle_head(qn_ggx *x, qn_err *err)
{
    qn_ggx_tensor *head = find(x, "output.weight");
    const qn_ggx_tensor *embed = find(x, "token_embd.weight");
    const bool must = !strcmp(x->arch, "gptneox") || !strcmp(x->arch, "phi2"), never = !strcmp(x->arch, "gemma") || !strcmp(x->arch, "gemma2");
    bool tie, same = false;
    if (!embed)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the model has no embedding");
    if (!head && must) {
        head = qn_ggx_add(x, err);
        if (!head)
            return QN_E_MEMORY;
        *head = *find(x, "token_embd.weight");
        head->name = "output.weight";
    }
    if (!head || must)
        return QN_OK;
    QN_TRY(qn_config_bool_or(&x->config, "tie_word_embeddings", never, &tie, err));
    if (tie || never)
        QN_TRY(same_content(x->job->src, head->parts[0], embed->parts[0], &same, err));
    if (same) {
        *head = x->list[--x->n];
        return QN_OK;
    }
    return never ? QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "the head is not the embedding: llama.cpp's \"%s\" has no head of its own", x->arch) : QN_OK;
}

/* --- all of them --------------------------------------------------------------------------------------------------------------- */

/* Order in the file: what stands outside of layers first, then layer by layer; inside as in the folder. */
static int order(const void *a, const void *b)
{
    const qn_ggx_tensor *p = a, *q = b;
    const uint32_t u = layer_of(p->name) + 1, v = layer_of(q->name) + 1; /* UINT32_MAX + 1 is 0 */
    return u != v ? (u < v ? -1 : 1) : strcmp(p->name, q->name);
}

static qn_code check(const qn_ggx *x, qn_err *err)
{
    for (uint32_t i = 0; i < x->n; i++) {
        const qn_ggx_tensor *t = &x->list[i];
        if (i && !strcmp(t->name, x->list[i - 1].name))
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "two tensors of the folder would have this name"), t->name);
        for (uint32_t p = 0; t->parts && p < t->n_parts; p++)
            if (t->parts[p] == UINT64_MAX)
                return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the matrix of expert %u is missing", p), t->name);
        if ((t->move == QN_GGX_HEADS && (!t->heads || t->rows % (2 * (uint64_t)t->heads))) ||
            (t->move == QN_GGX_THIRDS && (!t->heads || t->rows % (3 * (uint64_t)t->heads))))
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRIu64 " rows do not divide into %u heads", t->rows, t->heads), t->name);
    }
    return QN_OK;
}

qn_code qn_ggx_list(qn_ggx *x, qn_err *err)
{
    const qn_source *s = x->job->src;
    const uint32_t bit = qn_gguf_arch_bit(x->family);
    uint64_t left_out = 0;
    for (uint64_t i = 0; i < s->n_tensors; i++) {
        struct item m = {.tensor = i, .expert = QN_GGUF_NO_EXPERT};
        const char *hf = s->tensors[i].name;
        char layer[QN_GGUF_NAME_CAP];
        bool gate_up;
        if (x->n_experts && fused_name(hf, &gate_up, layer))
            QN_TRY(add_fused_parts(x, i, gate_up, layer, err));
        else if (bare_name(x, hf, m.name) || qn_gguf_name_from_hf(bit, hf, m.name, &m.expert))
            QN_TRY(m.expert == QN_GGUF_NO_EXPERT ? add_plain(x, &m, err) : add_expert(x, &m, err));
        else if (!is_buffer(hf) && left_out++ == 0)
            qn_export_say(x->job, "'%.120s' has no counterpart in GGUF and is left out", hf);
    }
    if (left_out > 1)
        qn_export_say(x->job, "%" PRIu64 " tensors were left out like that", left_out);
    QN_TRY(settle_head(x, err));
    qsort(x->list, x->n, sizeof *x->list, order);
    return check(x, err);
}
