/* safetensors.c: the target "safetensors": every tensor decoded, into a model folder whose other files are the source's. f32, f16 and bf16 change the type of
 * floating-point tensors and what config.json says of it; tensors of ggml's block types, which safetensors do not have, become F32 where no type is asked for. */
#include "base/err.h"
#include "base/ggml.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/export/codes.h"
#include "compress/export/folder.h"
#include "formats/hf/config.h"
#include <math.h>
#include <string.h>

struct dense {
    qn_export_job *j;
    qn_out_tensor *t;
    uint64_t n;
    bool convert;
    qn_dtype to;
};

static bool is_float(qn_dtype t)
{
    return t == QN_F32 || t == QN_F16 || t == QN_BF16 || t == QN_F64 || qn_dtype_is_block(t);
}

static qn_dtype type_of(const struct dense *d, qn_dtype t)
{
    return d->convert && is_float(t) ? d->to : qn_dtype_is_block(t) ? QN_F32 : t;
}

static qn_code find_variant(struct dense *d, qn_err *err)
{
    static const char *const names[] = {"", "f32", "f16", "bf16"};
    static const qn_dtype types[] = {QN_BYTES, QN_F32, QN_F16, QN_BF16};
    const qn_export_wish *w = d->j->wish;
    if (w->bits > 0 || w->group || w->asymmetric)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "safetensors: weights are dense: --bits, --group and --asymmetric do not go with it");
    for (unsigned i = 0; i < 4; i++)
        if (strcmp(d->j->variant, names[i]) == 0) {
            d->convert = i > 0;
            d->to = types[i];
            return QN_OK;
        }
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "safetensors: no variant '%.40s': f32, f16 and bf16 are known, and none for types as they are", d->j->variant);
}

/* --- contents ------------------------------------------------------------------------------------------------------------ */

/* n numbers as f32; of F64 rounded. */
static qn_code widen(qn_dtype t, const uint8_t *src, uint64_t n, float *dst, qn_err *err)
{
    if (qn_dtype_is_block(t))
        return qn_ggml_f32(t, src, n, dst, err);
    for (uint64_t i = 0; i < n; i++) {
        double v;
        if (t == QN_F64) {
            const uint64_t u = qn_load64(src + 8 * i);
            memcpy(&v, &u, sizeof v);
            dst[i] = (float)v;
        } else {
            dst[i] = t == QN_F32 ? qn_bits_f32(qn_load32(src + 4 * i)) : t == QN_F16 ? qn_f16_to_f32(qn_load16(src + 2 * i)) : qn_bf16_to_f32(qn_load16(src + 2 * i));
        }
    }
    return QN_OK;
}

static qn_code narrow(qn_dtype t, const float *v, uint64_t n, uint8_t *dst, qn_err *err)
{
    for (uint64_t i = 0; i < n; i++) {
        if (t == QN_F32) {
            qn_store32(dst + 4 * i, qn_f32_bits(v[i]));
            continue;
        }
        const uint16_t h = t == QN_F16 ? qn_f32_to_f16(v[i]) : qn_f32_to_bf16(v[i]);
        const uint16_t top = t == QN_F16 ? 0x7c00 : 0x7f80;
        if ((h & top) == top && isfinite(v[i]))
            return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%g is beyond what %s holds", (double)v[i], qn_dtype_name(t));
        qn_store16(dst + 2 * i, h);
    }
    return QN_OK;
}

/* Bytes [off, off + n) of the tensor as it is written: whole elements of 2 or 4 bytes; whole blocks of what is read around them. */
static qn_code convert(const struct dense *d, uint64_t tensor, qn_dtype from, qn_dtype to, uint64_t off, uint64_t n, uint8_t *dst, qn_err *err)
{
    const qn_alloc *alloc = d->j->env->alloc;
    const unsigned unit = qn_unit_bytes(to), per = qn_dtype_block_elems(from);
    const uint64_t first = off / unit, end = qn_ceil_div(off + n, unit), e0 = first / per * per, e1 = qn_ceil_div(end, per) * per;
    const uint64_t raw_bytes = qn_bytes_of_elems(from, e1 - e0);
    uint8_t *raw = qn_mem_get(alloc, raw_bytes, err);
    float *wide = raw ? qn_mem_get(alloc, (e1 - e0) * sizeof *wide, err) : NULL;
    uint8_t *out = wide ? qn_mem_get(alloc, (end - first) * unit, err) : NULL;
    qn_code rc = out ? qn_source_tensor_read(d->j->src, tensor, qn_bytes_of_elems(from, e0), raw_bytes, raw, err) : QN_E_MEMORY;
    if (rc == QN_OK)
        rc = widen(from, raw, e1 - e0, wide, err);
    if (rc == QN_OK)
        rc = narrow(to, wide + (first - e0), end - first, out, err);
    if (rc == QN_OK)
        memcpy(dst, out + off % unit, n);
    qn_mem_put(alloc, out);
    qn_mem_put(alloc, wide);
    qn_mem_put(alloc, raw);
    return rc;
}

static qn_code read_out(void *ctx, uint64_t id, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    const struct dense *d = ctx;
    const qn_dtype from = (qn_dtype)d->j->src->tensors[id].dtype, to = type_of(d, from);
    if (from == to)
        return qn_source_tensor_read(d->j->src, id, off, n, dst, err);
    return convert(d, id, from, to, off, n, dst, err);
}

/* --- the list ------------------------------------------------------------------------------------------------------------ */

static bool loses(qn_dtype from, qn_dtype to)
{
    return from != to && to != QN_F32;
}

static qn_code list(struct dense *d, qn_err *err)
{
    qn_source *s = d->j->src;
    d->t = qn_arena_get(d->j->arena, (s->n_tensors + 1) * sizeof *d->t, 8, err);
    if (!d->t)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < s->n_tensors; i++) {
        const qn_source_tensor *t = &s->tensors[i];
        const qn_dtype from = (qn_dtype)t->dtype, to = type_of(d, from);
        qn_out_tensor *o = &d->t[d->n++];
        uint64_t elems;
        *o = (qn_out_tensor){.name = t->name, .dims = t->dims, .n_bytes = t->n_bytes, .id = i, .dtype = (uint8_t)to, .rank = t->rank};
        if (!qn_shape_bytes(to, t->dims, t->rank, &elems, &o->n_bytes))
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "its shape does not go with %s", qn_dtype_name(to)), t->name);
        const char *asked = qn_dtype_name(d->convert && is_float(from) ? d->to : from);
        const qn_export_row row = {.name = t->name, .asked = asked, .given = qn_dtype_name(to), .n_weights = elems, .n_bytes = o->n_bytes,
                                   .why = to != from && !d->convert ? "safetensors have no blocks" : NULL,
                                   .rounded_again = loses(from, to) && qn_codes_approximated(s, i)};
        QN_TRY(qn_export_note(d->j, &row, err));
    }
    return QN_OK;
}

/* What config.json calls the type: "dtype" in new ones, "torch_dtype" in most. */
static qn_code config(const struct dense *d, qn_config_change *c, uint32_t *n, qn_err *err)
{
    char *text = NULL;
    uint64_t n_bytes;
    *n = 0;
    if (!d->convert || !qn_config_exists(d->j->src))
        return QN_OK;
    QN_TRY(qn_config_text(d->j->src, &text, &n_bytes, err));
    *c = (qn_config_change){strstr(text, "\"dtype\"") && !strstr(text, "\"torch_dtype\"") ? "dtype" : "torch_dtype",
                            d->to == QN_F32 ? "\"float32\"" : d->to == QN_F16 ? "\"float16\"" : "\"bfloat16\""};
    *n = 1;
    qn_mem_put(d->j->src->env->alloc, text);
    return QN_OK;
}

static qn_code plan(qn_export_job *j, qn_recipe *r, qn_err *err)
{
    struct dense d = {.j = j};
    (void)r;
    QN_TRY(find_variant(&d, err));
    return list(&d, err);
}

static qn_code holds(qn_export_job *j, bool *yes, qn_err *err)
{
    struct dense d = {.j = j};
    *yes = true;
    return find_variant(&d, err);
}

static qn_code write(qn_export_job *j, qn_err *err)
{
    struct dense d = {.j = j};
    qn_config_change change;
    uint32_t n;
    QN_TRY(find_variant(&d, err));
    QN_TRY(list(&d, err));
    QN_TRY(config(&d, &change, &n, err));
    qn_export_say(j, "%s", qn_config_exists(j->src) ? "loads wherever the model itself does: transformers, vLLM, SGLang, mlx-lm, candle"
                                                        : "there is no config.json: programs that want one will not load the folder");
    return qn_export_folder_write(j, &(qn_export_folder){.tensors = d.t, .n = d.n, .read = read_out, .ctx = &d, .changes = &change, .n_changes = n}, err);
}

const qn_export_target qn_export_safetensors = {
    .name = "safetensors",
    .summary = "dense weights in a model folder: transformers, vLLM, SGLang, mlx-lm, candle",
    .variants = "f32, f16, bf16",
    .suffix = "",
    .folder = true,
    .plan = plan,
    .holds = holds,
    .write = write,
};
