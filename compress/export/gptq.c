/* gptq.c: the target "gptq", version 1 of its layout (vLLM, SGLang, transformers with gptqmodel, exllama). Of a module with in × out weights of b bits:
 *   qweight I32 (in · b / 32, out)   codes of one output down the column, a little-endian stream of bits through its words
 *   qzeros  I32 (groups, out · b / 32)  zero points less one, the same along the row
 *   scales  F16 (groups, out)
 *   g_idx   I32 (in)                 the group of each input
 * A zero point of 0 would be stored as −1, which loaders take for 2^b − 1: the grid never has it (`keepzero`). */
#include "base/err.h"
#include "base/num.h"
#include "compress/export/quantized.h"
#include "formats/json/write.h"
#include <string.h>

enum { GROUP = 128, SCHEMES = 32 };

static const char *refuses(const qn_module *m, const qn_scheme *s)
{
    if (s->bits != 2 && s->bits != 3 && s->bits != 4 && s->bits != 8)
        return "codes of 2, 3, 4 or 8 bits only";
    if ((uint64_t)m->cols * s->bits % 32 || (s->bits == 3 && m->cols % 32))
        return "its inputs do not fill whole words";
    if ((uint64_t)m->rows * s->bits % 32)
        return "its outputs do not fill whole words";
    if (s->group != UINT32_MAX && m->cols % s->group)
        return "rows are no multiple of the group";
    return NULL;
}

static bool holds_scale(const qn_module *m, float scale, float zero)
{
    (void)m;
    return qn_scale_fits(QN_F16, scale) && zero >= 1;
}

static unsigned parts(const qn_module *m, qn_module_part p[QN_MODULE_PARTS])
{
    const unsigned b = m->scheme.bits;
    const uint32_t groups = qn_module_groups(m);
    p[0] = (qn_module_part){"qweight", QN_I32, 2, {(uint64_t)m->cols * b / 32, m->rows}};
    p[1] = (qn_module_part){"qzeros", QN_I32, 2, {groups, (uint64_t)m->rows * b / 32}};
    p[2] = (qn_module_part){"scales", QN_F16, 2, {groups, m->rows}};
    p[3] = (qn_module_part){"g_idx", QN_I32, 1, {m->cols}};
    return 4;
}

/* Bit i·b of the stream is bit (i·b) mod 32 of word ⌊i·b / 32⌋; words of one stream are `step` apart. */
static void put_code(uint8_t *stream, uint64_t step, uint64_t i, unsigned bits, uint32_t code)
{
    const uint64_t at = i * bits, word = at / 32;
    const unsigned shift = at % 32;
    uint8_t *p = stream + word * step * 4;
    qn_store32(p, qn_load32(p) | code << shift);
    if (shift + bits > 32)
        qn_store32(p + step * 4, qn_load32(p + step * 4) | code >> (32 - shift));
}

static void make(const qn_module_codes *c, unsigned part, const qn_module_part *p, uint8_t *dst)
{
    const qn_module *m = c->m;
    const unsigned b = m->scheme.bits;
    const uint32_t group = m->scheme.group < m->cols ? m->scheme.group : m->cols;
    switch (part) {
    case 0:
        for (uint32_t o = 0; o < m->rows; o++)
            for (uint32_t i = 0; i < m->cols; i++)
                put_code(dst + (size_t)o * 4, m->rows, i, b, c->codes[(size_t)o * m->cols + i]);
        break;
    case 1:
        for (uint32_t g = 0; g < c->groups; g++)
            for (uint32_t o = 0; o < m->rows; o++)
                put_code(dst + g * p->dims[1] * 4, 1, o, b, (uint32_t)c->zeros[(size_t)o * c->groups + g] - 1);
        break;
    case 2:
        for (uint32_t g = 0; g < c->groups; g++)
            for (uint32_t o = 0; o < m->rows; o++)
                qn_put_scale(QN_F16, c->scales[(size_t)o * c->groups + g], dst + ((size_t)g * m->rows + o) * 2);
        break;
    default:
        for (uint32_t i = 0; i < m->cols; i++)
            qn_store32(dst + (size_t)i * 4, i / group);
    }
}

static const unsigned bits[] = {2, 3, 4, 8};
static const qn_quantized_format format = {
    .name = "gptq", .kind = QN_CODES_GRID, .bits = bits, .n_bits = 4, .group = GROUP, .refuses = refuses,
    .holds_scale = holds_scale, .parts = parts, .make = make,
};

/* --- configuration ------------------------------------------------------------------------------------------------------ */

static void put_group_size(qn_textbuf *t, uint32_t group)
{
    qn_textbuf_puts(t, ", \"group_size\": ");
    if (group == UINT32_MAX)
        qn_textbuf_puts(t, "-1");
    else
        qn_textbuf_u64(t, group);
}

/* A module's name as a regular expression of its own. */
static void put_rule(qn_textbuf *t, const char *sign, const char *name, bool *any)
{
    char text[1100];
    size_t n = 0;
    for (const char *s = sign; *s; s++)
        text[n++] = *s;
    text[n++] = '^';
    for (; *name && n + 4 < sizeof text; name++) {
        if (*name == '.')
            text[n++] = '\\';
        text[n++] = *name;
    }
    text[n++] = '$';
    text[n] = '\0';
    qn_textbuf_puts(t, *any ? ", " : "");
    qn_json_string(t, text);
    *any = true;
}

/* Linear modules that are dense ("-:"), and those whose scheme is another one ("+:"). */
static void put_dynamic(qn_textbuf *t, const qn_quantized *q, const qn_scheme *main)
{
    bool any = false;
    qn_textbuf_puts(t, "{");
    for (uint64_t i = 0; i < q->n; i++) {
        const qn_module *m = &q->m[i];
        if (m->quantized && qn_scheme_equal(&m->scheme, main))
            continue;
        if (m->role == QN_ROLE_HEAD && !m->quantized) /* "lm_head": false says so */
            continue;
        put_rule(t, m->quantized ? "+:" : "-:", m->name, &any);
        qn_textbuf_puts(t, ": {");
        if (m->quantized) {
            qn_textbuf_puts(t, "\"bits\": ");
            qn_textbuf_u64(t, m->scheme.bits);
            put_group_size(t, m->scheme.group);
            qn_textbuf_puts(t, m->scheme.asymmetric ? ", \"sym\": false" : ", \"sym\": true");
        }
        qn_textbuf_puts(t, "}");
    }
    qn_textbuf_puts(t, "}");
}

static void put_config(qn_textbuf *t, const qn_quantized *q)
{
    qn_scheme s[SCHEMES];
    bool head = false;
    (void)qn_quantized_schemes(q, s, SCHEMES);
    for (uint64_t i = 0; i < q->n; i++)
        head = head || (q->m[i].role == QN_ROLE_HEAD && q->m[i].quantized);
    qn_textbuf_puts(t, "{\"bits\": ");
    qn_textbuf_u64(t, s[0].bits);
    put_group_size(t, s[0].group);
    qn_textbuf_puts(t, ", \"desc_act\": false");
    qn_textbuf_puts(t, s[0].asymmetric ? ", \"sym\": false" : ", \"sym\": true");
    qn_textbuf_puts(t, head ? ", \"lm_head\": true" : ", \"lm_head\": false");
    qn_textbuf_puts(t, ", \"quant_method\": \"gptq\", \"checkpoint_format\": \"gptq\", \"pack_dtype\": \"int32\", \"dynamic\": ");
    put_dynamic(t, q, &s[0]);
    qn_textbuf_puts(t, ", \"meta\": {\"quantizer\": [\"quern\"], \"damp_percent\": 0.01, \"static_groups\": false, \"true_sequential\": false, \"mse\": 0}}");
}

/* --- the target ----------------------------------------------------------------------------------------------------------- */

static qn_code plan(qn_export_job *j, qn_recipe *r, qn_err *err)
{
    qn_quantized q;
    QN_TRY(qn_quantized_open_bits(&q, j, &format, err));
    return qn_quantized_plan(&q, r, err);
}

static qn_code holds(qn_export_job *j, bool *yes, qn_err *err)
{
    qn_quantized q;
    QN_TRY(qn_quantized_open_bits(&q, j, &format, err));
    return qn_quantized_holds(&q, yes, err);
}

static qn_code write(qn_export_job *j, qn_err *err)
{
    qn_quantized q;
    QN_TRY(qn_quantized_open_bits(&q, j, &format, err));
    QN_TRY(qn_quantized_look(&q, err));
    qn_textbuf t = {.alloc = j->env->alloc};
    put_config(&t, &q);
    qn_export_say(j, "loads in vLLM, SGLang, exllama, and transformers with gptqmodel; vLLM prefers compressed-tensors for new models");
    return qn_quantized_write(&q, (const char *const[]){"quantization_config"}, 1, &t, "quantize_config.json", err);
}

const qn_export_target qn_export_gptq = {
    .name = "gptq",
    .summary = "GPTQ's layout in safetensors: vLLM, SGLang, exllama, transformers",
    .variants = "int2, int3, int4, int8",
    .suffix = "",
    .folder = true,
    .plan = plan,
    .holds = holds,
    .write = write,
};
