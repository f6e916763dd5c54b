/* awq.c: the target "awq", the layout "gemm" of AutoAWQ (vLLM, SGLang, TGI, LMDeploy): 4 bits, along the outputs. Of a module with in × out weights:
 *   qweight I32 (in, out / 8)       eight outputs of one input in a word
 *   qzeros  I32 (groups, out / 8)   zero points likewise, as they are
 *   scales  F16 (groups, out)
 * Nibble k of a word holds output 8c + order[k]. The whole model has one width of groups. */
#include "base/err.h"
#include "base/num.h"
#include "compress/export/quantized.h"
#include <string.h>

enum { GROUP = 128 };

static const uint8_t order[8] = {0, 2, 4, 6, 1, 3, 5, 7};

static const char *refuses(const qn_module *m, const qn_scheme *s)
{
    if (s->bits != 4)
        return "codes of 4 bits only";
    if (s->group == UINT32_MAX)
        return "scales for a group of inputs only";
    if (m->cols % s->group || s->group % 8)
        return "rows are no multiple of the group";
    return m->rows % 8 ? "its outputs do not fill whole words" : NULL;
}

static bool holds_scale(const qn_module *m, float scale, float zero)
{
    (void)m;
    (void)zero;
    return qn_scale_fits(QN_F16, scale);
}

static unsigned parts(const qn_module *m, qn_module_part p[QN_MODULE_PARTS])
{
    const uint32_t groups = qn_module_groups(m);
    p[0] = (qn_module_part){"qweight", QN_I32, 2, {m->cols, m->rows / 8}};
    p[1] = (qn_module_part){"qzeros", QN_I32, 2, {groups, m->rows / 8}};
    p[2] = (qn_module_part){"scales", QN_F16, 2, {groups, m->rows}};
    return 3;
}

static void make(const qn_module_codes *c, unsigned part, const qn_module_part *p, uint8_t *dst)
{
    const qn_module *m = c->m;
    for (uint32_t i = 0; i < p->dims[0]; i++) /* inputs, or groups of them */
        for (uint32_t w = 0; w < m->rows / 8; w++) {
            uint32_t word = 0;
            for (unsigned k = 0; k < 8; k++) {
                const size_t o = (size_t)w * 8 + order[k], at = (size_t)w * 8 + k;
                if (part == 2)
                    qn_put_scale(QN_F16, c->scales[at * c->groups + i], dst + ((size_t)i * m->rows + at) * 2);
                else
                    word |= (part ? (uint32_t)c->zeros[o * c->groups + i] : c->codes[o * m->cols + i]) << 4 * k;
            }
            if (part != 2)
                qn_store32(dst + ((size_t)i * (m->rows / 8) + w) * 4, word);
        }
}

static const unsigned bits[] = {4};
static const qn_quantized_format format = {
    .name = "awq", .kind = QN_CODES_GRID, .bits = bits, .n_bits = 1, .group = GROUP, .zeros_to = 4, .one_group = true,
    .refuses = refuses, .holds_scale = holds_scale, .parts = parts, .make = make,
};

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

static void put_config(qn_textbuf *t, const qn_quantized *q)
{
    qn_scheme s;
    (void)qn_quantized_schemes(q, &s, 1);
    qn_textbuf_puts(t, "{\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": ");
    qn_textbuf_u64(t, s.group);
    qn_textbuf_puts(t, ", \"zero_point\": true, \"version\": \"gemm\", \"modules_to_not_convert\": ");
    qn_quantized_dense_list(q, t);
    qn_textbuf_puts(t, "}");
}

static qn_code write(qn_export_job *j, qn_err *err)
{
    qn_quantized q;
    QN_TRY(qn_quantized_open_bits(&q, j, &format, err));
    QN_TRY(qn_quantized_look(&q, err));
    qn_textbuf t = {.alloc = j->env->alloc};
    put_config(&t, &q);
    qn_export_say(j, "loads in vLLM, SGLang, TGI, LMDeploy and transformers; vLLM prefers compressed-tensors for new models");
    return qn_quantized_write(&q, (const char *const[]){"quantization_config"}, 1, &t, NULL, err);
}

const qn_export_target qn_export_awq = {
    .name = "awq",
    .summary = "AWQ's layout (gemm) in safetensors: vLLM, SGLang, TGI, LMDeploy",
    .variants = "int4",
    .suffix = "",
    .folder = true,
    .plan = plan,
    .holds = holds,
    .write = write,
};
