/* gguf_types.c: which tensor gets which type. What llama-quantize never quantizes stays in F32; rows that are no whole blocks get a type of smaller blocks, as
 * there; what our solve cannot approximate (a convolution, a matrix of a few columns) stays in F16. */
#include "base/err.h"
#include "base/num.h"
#include "compress/blocks/block.h"
#include "compress/export/gguf_mix.h"
#include "compress/export/gguf_size.h"
#include "compress/lossy.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

bool qn_ggx_is_matrix(const qn_ggx_tensor *t)
{
    static const char *const never[] = {"_norm.weight", "ffn_gate_inp", "ssm_conv1d", "position_embd", "token_types", "rope_f"};
    unsigned rank = 0; /* without dimensions of one at the outside, as ggml counts */
    for (unsigned i = 0; i < t->rank; i++)
        rank = rank || t->dims[i] > 1 ? rank + 1 : 0;
    const size_t n = strlen(t->name);
    if (rank < 2 || n < 6 || strcmp(t->name + n - 6, "weight") || t->made || t->value != QN_GGX_SAME)
        return false;
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        if (strstr(t->name, never[i]))
            return false;
    return true;
}

qn_dtype qn_ggx_fallback(qn_dtype t, uint64_t cols)
{
    qn_dtype smaller = t;
    if (cols % qn_dtype_block_elems(t) == 0)
        return t;
    switch (t) {
    case QN_IQ1_S: case QN_IQ1_M: case QN_IQ2_XXS: case QN_IQ2_XS: case QN_IQ2_S: case QN_IQ3_XXS: case QN_IQ3_S: case QN_IQ4_XS: case QN_NVFP4:
        smaller = QN_IQ4_NL;
        break;
    case QN_Q2_0: case QN_Q2_K: case QN_Q3_K: case QN_TQ1_0: case QN_TQ2_0: case QN_Q1_0:
        smaller = QN_Q4_0;
        break;
    case QN_Q4_K:
        smaller = QN_Q5_0;
        break;
    case QN_Q5_K:
        smaller = QN_Q5_1;
        break;
    case QN_Q6_K:
        smaller = QN_Q8_0;
        break;
    default:
        break;
    }
    return cols % qn_dtype_block_elems(smaller) ? QN_F16 : smaller;
}

static qn_dtype source_type(const qn_ggx *x, const qn_ggx_tensor *t)
{
    return t->parts ? (qn_dtype)x->job->src->tensors[t->parts[0]].dtype : QN_F32;
}

static bool is_float(qn_dtype t)
{
    return t == QN_F32 || t == QN_F16 || t == QN_BF16 || t == QN_F64 || qn_dtype_is_block(t);
}

/* --- dense --------------------------------------------------------------------------------------------------------------------- */

static void dense(qn_ggx *x, qn_dtype type)
{
    for (uint32_t i = 0; i < x->n; i++) {
        qn_ggx_tensor *t = &x->list[i];
        if (x->is_gguf && !is_float(source_type(x, t)))
            continue; /* tables of whole numbers */
        t->wanted = qn_ggx_is_matrix(t) ? type : QN_BYTES;
        t->dtype = t->wanted == QN_BYTES ? QN_F32 : type;
        t->again = qn_dtype_is_block(source_type(x, t)) && t->dtype != QN_F32;
    }
}

/* --- blocks -------------------------------------------------------------------------------------------------------------------- */

/* Why a matrix cannot be approximated; NULL: it can. */
static const char *obstacle(const qn_ggx *x, const qn_lossy_pick *picks, const qn_ggx_tensor *t)
{
    const qn_source *s = x->job->src;
    for (uint32_t p = 0; p < t->n_parts; p++) {
        const uint64_t o = s->tensors[t->parts[p]].object;
        const qn_dtype type = source_type(x, t);
        if (type != QN_F32 && type != QN_F16 && type != QN_BF16)
            return "is not stored as F32, F16 or BF16";
        if (o == QN_NO_OBJECT || picks[o].role == QN_ROLE_NONE)
            return "is no layer's weight";
        if (picks[o].kept)
            return picks[o].kept;
    }
    return NULL;
}

static qn_code find_picks(const qn_ggx *x, qn_lossy_pick **picks, qn_err *err)
{
    qn_source *s = x->job->src;
    if (!x->job->graph)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "what is to be rounded cannot be told: the architecture of this model is not known");
    *picks = qn_arena_get(x->arena, (s->n_objects + 1) * sizeof **picks, 8, err);
    if (!*picks)
        return QN_E_MEMORY;
    memset(*picks, 0, (s->n_objects + 1) * sizeof **picks);
    qn_lossy_pick_all(s, x->job->graph, *picks);
    return QN_OK;
}

/* For the report, from the arena; "" when there is no memory for it. */
static const char *odd_rows(const qn_ggx *x, uint64_t cols, unsigned block)
{
    char text[120];
    qn_err ignored = {0};
    snprintf(text, sizeof text, "rows of %llu are no multiple of %u", (unsigned long long)cols, block);
    const char *kept = qn_arena_str(x->arena, text, strlen(text), &ignored);
    return kept ? kept : "";
}

/* t->wanted is set: dtype and the reason. */
static qn_code settle(const qn_ggx *x, qn_ggx_tensor *t, const char *why_not, qn_err *err)
{
    const qn_dtype from = source_type(x, t);
    if (x->is_gguf && qn_dtype_is_block(from)) { /* rounded before: once is enough */
        t->dtype = from;
        t->why = from == t->wanted ? NULL : "is quantized in the file already";
        return QN_OK;
    }
    t->dtype = why_not ? QN_F16 : qn_ggx_fallback(t->wanted, t->cols);
    t->why = why_not ? why_not : t->dtype == t->wanted ? NULL : odd_rows(x, t->cols, qn_dtype_block_elems(t->wanted));
    if (qn_dtype_is_block(t->dtype) && !qn_block_coder_of(t->dtype))
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%s cannot be written yet", qn_dtype_name(t->dtype));
    return QN_OK;
}

static qn_code blocks(qn_ggx *x, const qn_ggx_mix *mix, qn_dtype type, qn_err *err)
{
    qn_lossy_pick *picks;
    qn_ggx_seen seen = {0};
    QN_TRY(find_picks(x, &picks, err));
    for (uint32_t i = 0; i < x->n; i++) {
        qn_ggx_tensor *t = &x->list[i];
        t->wanted = QN_BYTES;
        if (!qn_ggx_is_matrix(t)) {
            t->dtype = x->is_gguf && !is_float(source_type(x, t)) ? t->dtype : QN_F32;
            continue;
        }
        t->wanted = mix ? qn_ggx_mix_of(x, mix, t, x->job->stats != NULL, &seen) : type;
        QN_TRY(settle(x, t, obstacle(x, picks, t), err));
    }
    return QN_OK;
}

/* The type of most weights, as the file's. */
static uint32_t file_type_of(const qn_ggx *x)
{
    uint64_t most = 0;
    uint32_t found = 1;
    for (const qn_ggx_type *k = qn_ggx_type_tab; k->type != QN_BYTES; k++) {
        uint64_t n = 0;
        for (uint32_t i = 0; i < x->n; i++)
            n += x->list[i].dtype == k->type ? x->list[i].rows * x->list[i].cols : 0;
        if (n > most) {
            most = n;
            found = k->file_type;
        }
    }
    return found;
}

static qn_code chosen(qn_ggx *x, qn_err *err)
{
    qn_lossy_pick *picks;
    QN_TRY(find_picks(x, &picks, err));
    for (uint32_t i = 0; i < x->n; i++) {
        qn_ggx_tensor *t = &x->list[i];
        const bool matrix = qn_ggx_is_matrix(t);
        t->wanted = QN_BYTES;
        t->dtype = matrix ? QN_F16 : x->is_gguf && !is_float(source_type(x, t)) ? t->dtype : QN_F32;
        if (!matrix)
            continue;
        if (x->is_gguf && qn_dtype_is_block(source_type(x, t)))
            t->dtype = source_type(x, t);
        else if (!obstacle(x, picks, t))
            t->wanted = QN_F16; /* any */
    }
    QN_TRY(qn_ggx_choose(x, err));
    x->file_type = file_type_of(x);
    return QN_OK;
}

/* --- the variant ------------------------------------------------------------------------------------------------------------------ */

static qn_code unknown(const char *variant, qn_err *err)
{
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "gguf: %s%.40s%s: allowed are f32, f16, bf16, a type of ggml for all matrices (q4_k, iq2_xs, …), a mix of llama-quantize "
                                                  "(Q4_K_M, IQ3_M, …), or nothing with --bits or --size", *variant ? "no variant called '" : "no variant given",
                   variant, *variant ? "'" : "");
}

qn_code qn_ggx_types(qn_ggx *x, const char *variant, qn_err *err)
{
    static const struct {
        const char *name;
        qn_dtype type;
        uint32_t file_type;
    } plain[] = {{"f32", QN_F32, 0}, {"f16", QN_F16, 1}, {"bf16", QN_BF16, 32}};
    const qn_export_wish *wish = x->job->wish;
    const bool sized = wish && (wish->bits > 0 || wish->size_bytes);
    if (!*variant && sized)
        return chosen(x, err);
    if (sized)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "gguf:%.40s says all types: --bits and --size go with plain gguf", variant);
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (!strcasecmp(variant, plain[i].name)) {
            x->file_type = plain[i].file_type;
            dense(x, plain[i].type);
            return QN_OK;
        }
    const bool like = wish && wish->like && !strcasecmp(wish->like, variant);
    for (const qn_ggx_type *k = qn_ggx_type_tab; !like && k->type != QN_BYTES; k++)
        if (!strcasecmp(variant, qn_dtype_name(k->type))) {
            x->file_type = k->file_type;
            return blocks(x, NULL, k->type, err);
        }
    for (const qn_ggx_mix *m = qn_ggx_mixes; m->name; m++)
        if (!strcasecmp(variant, m->name)) {
            x->file_type = m->file_type;
            return blocks(x, m, QN_BYTES, err);
        }
    return unknown(variant, err);
}
