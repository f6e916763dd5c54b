/* compressed_tensors.c: the target "compressed-tensors" (vLLM, transformers). Linear layers as
 *   pack-quantized   int4, int8: codes in words of 32 bits along a row, the scale for groups of columns or the row, zero points packed along the columns of their tensor
 *   int-quantized    w8a8: int8 and a scale for each row; inputs are quantized by the runtime, token by token
 *   float-quantized  fp8: E4M3 and a scale for each row; inputs likewise
 *   mxfp4-pack-quantized  mxfp4: E2M1, two in a byte, the even column in the low half; E8M0 for 32 columns
 * u = q + 2^(bits − 1) are our codes as they stand; w = scale (u − zero). Scales are of the weight's dtype. */
#include "base/err.h"
#include "base/num.h"
#include "compress/export/quantized.h"
#include "formats/json/write.h"
#include <stdio.h>
#include <string.h>

enum { GROUP = 128, SCHEMES = 32 };

enum form { PACK, INT8, FP8, MXFP4 };

struct variant {
    const char *name;
    enum form form;
    unsigned bits;
};
static const struct variant variants[] = {{"int4", PACK, 4}, {"int8", PACK, 8}, {"w8a8", INT8, 8}, {"fp8", FP8, 8}, {"mxfp4", MXFP4, 4}};

static const char *const format_names[] = {"pack-quantized", "int-quantized", "float-quantized", "mxfp4-pack-quantized"};

/* --- what it can hold ------------------------------------------------------------------------------------------------- */

static const char *refuses_pack(const qn_module *m, const qn_scheme *s)
{
    if (s->bits != 2 && s->bits != 4 && s->bits != 8)
        return "codes of 2, 4 or 8 bits: others are packed in two ways, by the loader's age";
    if (s->group != UINT32_MAX && m->cols % s->group)
        return "rows are no multiple of the group";
    return NULL;
}

static const char *refuses_int8(const qn_module *m, const qn_scheme *s)
{
    (void)m;
    return s->bits != 8 ? "codes of 8 bits only" : s->group != UINT32_MAX ? "one scale for each row only" : s->asymmetric ? "no zero points" : NULL;
}

static const char *refuses_fp8(const qn_module *m, const qn_scheme *s)
{
    (void)m;
    return s->group != UINT32_MAX ? "one scale for each row only" : NULL;
}

static const char *refuses_mxfp4(const qn_module *m, const qn_scheme *s)
{
    return s->group != 32 || m->cols % 32 ? "rows are no multiple of 32" : NULL;
}

static bool holds_scale(const qn_module *m, float scale, float zero)
{
    (void)zero;
    return qn_scale_fits(m->dtype, scale);
}

/* --- tensors ------------------------------------------------------------------------------------------------------------ */

static unsigned parts_pack(const qn_module *m, qn_module_part p[QN_MODULE_PARTS])
{
    const unsigned b = m->scheme.bits;
    p[0] = (qn_module_part){"weight_packed", QN_I32, 2, {m->rows, qn_ceil_div((uint64_t)m->cols * b, 32)}};
    p[1] = (qn_module_part){"weight_scale", m->dtype, 2, {m->rows, qn_module_groups(m)}};
    p[2] = (qn_module_part){"weight_shape", QN_I64, 1, {2}};
    if (!m->scheme.asymmetric)
        return 3;
    p[3] = (qn_module_part){"weight_zero_point", QN_I32, 2, {qn_ceil_div((uint64_t)m->rows * b, 32), qn_module_groups(m)}};
    return 4;
}

static unsigned parts_whole(const qn_module *m, qn_module_part p[QN_MODULE_PARTS])
{
    p[0] = (qn_module_part){"weight", QN_I8, 2, {m->rows, m->cols}};
    p[1] = (qn_module_part){"weight_scale", m->dtype, 2, {m->rows, 1}};
    return 2;
}

static unsigned parts_fp8(const qn_module *m, qn_module_part p[QN_MODULE_PARTS])
{
    const unsigned n = parts_whole(m, p);
    p[0].dtype = QN_F8_E4M3;
    return n;
}

static unsigned parts_mxfp4(const qn_module *m, qn_module_part p[QN_MODULE_PARTS])
{
    p[0] = (qn_module_part){"weight_packed", QN_U8, 2, {m->rows, m->cols / 2}};
    p[1] = (qn_module_part){"weight_scale", QN_U8, 2, {m->rows, m->cols / 32}};
    return 2;
}

static void put_scales(const qn_module_codes *c, uint8_t *dst)
{
    const unsigned unit = qn_unit_bytes(c->m->dtype);
    for (uint64_t i = 0; i < (uint64_t)c->m->rows * c->groups; i++)
        qn_put_scale(c->m->dtype, c->scales[i], dst + i * unit);
}

/* Zero points of one group of columns are one stream down the rows, its words `groups` apart. */
static void put_zeros(const qn_module_codes *c, uint64_t words, uint8_t *dst)
{
    const unsigned bits = c->m->scheme.bits, per = 32 / bits;
    for (uint32_t g = 0; g < c->groups; g++)
        for (uint64_t w = 0; w < words; w++) {
            uint32_t word = 0;
            for (unsigned k = 0; k < per && w * per + k < c->m->rows; k++)
                word |= (uint32_t)c->zeros[(w * per + k) * c->groups + g] << (k * bits);
            qn_store32(dst + (w * c->groups + g) * 4, word);
        }
}

static void make_pack(const qn_module_codes *c, unsigned part, const qn_module_part *p, uint8_t *dst)
{
    const qn_module *m = c->m;
    switch (part) {
    case 0:
        for (uint32_t i = 0; i < m->rows; i++)
            qn_pack_bits(c->codes + (size_t)i * m->cols, 1, m->cols, m->scheme.bits, 0, dst + i * p->dims[1] * 4);
        break;
    case 1:
        put_scales(c, dst);
        break;
    case 2:
        qn_store64(dst, m->rows);
        qn_store64(dst + 8, m->cols);
        break;
    default:
        put_zeros(c, p->dims[0], dst);
    }
}

static void make_int8(const qn_module_codes *c, unsigned part, const qn_module_part *p, uint8_t *dst)
{
    (void)p;
    if (part == 1)
        put_scales(c, dst);
    else
        for (uint64_t i = 0; i < (uint64_t)c->m->rows * c->m->cols; i++)
            dst[i] = c->codes[i] ^ 0x80; /* less 128, as int8 */
}

static void make_fp8(const qn_module_codes *c, unsigned part, const qn_module_part *p, uint8_t *dst)
{
    (void)p;
    if (part == 1)
        put_scales(c, dst);
    else
        memcpy(dst, c->codes, (size_t)c->m->rows * c->m->cols);
}

/* ggml's block: the exponent, then 16 bytes with column j in the low half and column j + 16 in the high one. */
static void make_mxfp4(const qn_module_codes *c, unsigned part, const qn_module_part *p, uint8_t *dst)
{
    const uint8_t *block = c->codes;
    (void)p;
    for (uint64_t i = 0; i < (uint64_t)c->m->rows * c->m->cols / 32; i++, block += 17) {
        for (unsigned j = 0; part == 0 && j < 16; j++) {
            const unsigned shift = j < 8 ? 0 : 4, at = 1 + j % 8 * 2;
            dst[16 * i + j] = (uint8_t)((block[at] >> shift & 15) | (block[at + 1] >> shift & 15) << 4);
        }
        if (part == 1)
            dst[i] = block[0];
    }
}

static const qn_quantized_format formats[] = {
    {.name = "compressed-tensors", .kind = QN_CODES_GRID, .refuses = refuses_pack, .holds_scale = holds_scale, .parts = parts_pack, .make = make_pack},
    {.name = "compressed-tensors:w8a8", .kind = QN_CODES_GRID, .refuses = refuses_int8, .holds_scale = holds_scale, .parts = parts_whole, .make = make_int8},
    {.name = "compressed-tensors:fp8", .codec = "fp8", .kind = QN_CODES_FP8, .refuses = refuses_fp8, .holds_scale = holds_scale, .parts = parts_fp8, .make = make_fp8},
    {.name = "compressed-tensors:mxfp4", .codec = "mxfp4", .kind = QN_CODES_BLOCKS, .block = QN_MXFP4, .refuses = refuses_mxfp4, .parts = parts_mxfp4, .make = make_mxfp4},
};

/* --- configuration --------------------------------------------------------------------------------------------------------- */

static void put_weights_args(qn_textbuf *t, enum form form, const qn_scheme *s)
{
    const bool row = s->group == UINT32_MAX;
    qn_textbuf_puts(t, "{\"num_bits\": ");
    qn_textbuf_u64(t, s->bits);
    qn_textbuf_puts(t, form >= FP8 ? ", \"type\": \"float\"" : ", \"type\": \"int\"");
    qn_textbuf_puts(t, s->asymmetric ? ", \"symmetric\": false" : ", \"symmetric\": true");
    qn_textbuf_puts(t, row ? ", \"strategy\": \"channel\", \"group_size\": null" : ", \"strategy\": \"group\", \"group_size\": ");
    if (!row)
        qn_textbuf_u64(t, s->group);
    if (form == MXFP4)
        qn_textbuf_puts(t, ", \"scale_dtype\": \"torch.uint8\", \"zp_dtype\": \"torch.uint8\"");
    qn_textbuf_puts(t, ", \"block_structure\": null, \"dynamic\": false, \"actorder\": null, \"observer\": \"minmax\", \"observer_kwargs\": {}}");
}

/* Layers of the first scheme are named by their class, those of others one by one: a name is looked for before a class. */
static void put_targets(qn_textbuf *t, const qn_quantized *q, const qn_scheme *s, bool all)
{
    bool any = false;
    if (all) {
        qn_textbuf_puts(t, "[\"Linear\"]");
        return;
    }
    qn_textbuf_puts(t, "[");
    for (uint64_t i = 0; i < q->n; i++)
        if (q->m[i].quantized && qn_scheme_equal(&q->m[i].scheme, s)) {
            qn_textbuf_puts(t, any ? ", " : "");
            qn_json_string(t, q->m[i].name);
            any = true;
        }
    qn_textbuf_puts(t, "]");
}

static void put_group(qn_textbuf *t, const qn_quantized *q, enum form form, const qn_scheme *s, unsigned number)
{
    qn_textbuf_puts(t, number ? ", \"group_" : "\"group_");
    qn_textbuf_u64(t, number);
    qn_textbuf_puts(t, "\": {\"targets\": ");
    put_targets(t, q, s, number == 0);
    qn_textbuf_puts(t, ", \"weights\": ");
    put_weights_args(t, form, s);
    if (form == PACK || form == MXFP4) {
        qn_textbuf_puts(t, ", \"input_activations\": null");
    } else {
        qn_textbuf_puts(t, ", \"input_activations\": {\"num_bits\": 8, \"type\": ");
        qn_textbuf_puts(t, form == FP8 ? "\"float\"" : "\"int\"");
        qn_textbuf_puts(t, ", \"symmetric\": true, \"strategy\": \"token\", \"group_size\": null, \"block_structure\": null, \"dynamic\": true, \"actorder\": null, "
                        "\"observer\": null, \"observer_kwargs\": {}}");
    }
    qn_textbuf_puts(t, ", \"output_activations\": null, \"format\": ");
    qn_json_string(t, format_names[form]);
    qn_textbuf_puts(t, "}");
}

static void put_config(qn_textbuf *t, const qn_quantized *q, enum form form)
{
    qn_scheme s[SCHEMES];
    const unsigned n = qn_quantized_schemes(q, s, SCHEMES);
    qn_textbuf_puts(t, "{\"quant_method\": \"compressed-tensors\", \"version\": \"0.13.0\", \"format\": ");
    qn_json_string(t, format_names[form]);
    qn_textbuf_puts(t, ", \"quantization_status\": \"compressed\", \"config_groups\": {");
    for (unsigned i = 0; i < n; i++)
        put_group(t, q, form, &s[i], i);
    qn_textbuf_puts(t, "}, \"ignore\": ");
    qn_quantized_dense_list(q, t);
    qn_textbuf_puts(t, ", \"kv_cache_scheme\": null, \"global_compression_ratio\": null, \"sparsity_config\": {}, \"transform_config\": {}}");
}

/* --- the target -------------------------------------------------------------------------------------------------------------- */

static qn_code open_job(qn_export_job *j, qn_quantized *q, enum form *form, qn_err *err)
{
    const struct variant *v = NULL;
    for (unsigned i = 0; i < sizeof variants / sizeof variants[0]; i++)
        if (strcmp(j->variant, variants[i].name) == 0)
            v = &variants[i];
    if (*j->variant && !v)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "compressed-tensors: no variant '%.40s': int4, int8, w8a8, fp8 and mxfp4 are known", j->variant);
    *form = v ? v->form : PACK;
    if (*form != PACK && j->wish->group && j->wish->group != (*form == MXFP4 ? 32 : UINT32_MAX))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "compressed-tensors:%s has one scale for %s: --group does not go with it", j->variant,
                       *form == MXFP4 ? "32 columns" : "each row");
    const qn_scheme want = {.bits = v ? v->bits : 4, .group = *form == PACK ? GROUP : *form == MXFP4 ? 32 : UINT32_MAX};
    return qn_quantized_open(q, j, &formats[*form], &want, v != NULL, err);
}

static qn_code plan(qn_export_job *j, qn_recipe *r, qn_err *err)
{
    qn_quantized q;
    enum form form;
    QN_TRY(open_job(j, &q, &form, err));
    return qn_quantized_plan(&q, r, err);
}

static qn_code holds(qn_export_job *j, bool *yes, qn_err *err)
{
    qn_quantized q;
    enum form form;
    QN_TRY(open_job(j, &q, &form, err));
    return qn_quantized_holds(&q, yes, err);
}

static qn_code write(qn_export_job *j, qn_err *err)
{
    qn_quantized q;
    enum form form;
    QN_TRY(open_job(j, &q, &form, err));
    QN_TRY(qn_quantized_look(&q, err));
    qn_textbuf t = {.alloc = j->env->alloc};
    put_config(&t, &q, form);
    qn_export_say(j, "%s", form == PACK || form == MXFP4 ? "loads in vLLM (weights only; widest with groups of 128 or rows) and transformers with compressed-tensors"
                           : form == INT8 ? "loads in vLLM, which quantizes inputs to int8 token by token, and in transformers with compressed-tensors"
                                          : "loads in vLLM, which quantizes inputs to fp8 token by token, and in transformers with compressed-tensors");
    return qn_quantized_write(&q, (const char *const[]){"quantization_config"}, 1, &t, NULL, err);
}

const qn_export_target qn_export_compressed_tensors = {
    .name = "compressed-tensors",
    .summary = "vLLM and transformers: integers or fp8 with scales, in safetensors",
    .variants = "int4, int8, w8a8, fp8, mxfp4",
    .suffix = "",
    .folder = true,
    .plan = plan,
    .holds = holds,
    .write = write,
};
