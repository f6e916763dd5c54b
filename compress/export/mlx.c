/* mlx.c: the target "mlx" (mlx-lm, LM Studio), its affine mode: w = scale × code + bias, with bias = −zero × scale. Of a module:
 *   weight U32 (out, in · b / 32)   codes of a row, a little-endian stream of bits
 *   scales, biases (out, groups)     of the weight's dtype
 * A bias must be a number of that dtype, or the weights would not be those of the solve: at a zero of 2^(b−1) it is one whenever the scale is; with zero points,
 * the scale has so many bits less. */
#include "base/err.h"
#include "base/num.h"
#include "compress/export/quantized.h"
#include <string.h>

enum { GROUP = 64 };

static const char *refuses(const qn_module *m, const qn_scheme *s)
{
    if (s->bits == 7)
        return "codes of 2, 3, 4, 5, 6 or 8 bits only";
    if (s->group != 32 && s->group != 64 && s->group != 128)
        return "groups of 32, 64 or 128 only";
    if (s->asymmetric && s->bits > 6)
        return "zero points of at most 6 bits";
    return m->cols % s->group ? "rows are no multiple of the group" : NULL;
}

static float bias(float scale, float zero)
{
    return -(zero * scale);
}

static bool holds_scale(const qn_module *m, float scale, float zero)
{
    return qn_scale_fits(m->dtype, scale) && qn_scale_fits(m->dtype, bias(scale, zero));
}

static unsigned scale_bits(qn_dtype t, const qn_scheme *s)
{
    const unsigned has = t == QN_BF16 ? 8 : 11;
    return !s->asymmetric ? 8 : has - s->bits < 8 ? has - s->bits : 8;
}

static unsigned parts(const qn_module *m, qn_module_part p[QN_MODULE_PARTS])
{
    p[0] = (qn_module_part){"weight", QN_U32, 2, {m->rows, (uint64_t)m->cols * m->scheme.bits / 32}};
    p[1] = (qn_module_part){"scales", m->dtype, 2, {m->rows, qn_module_groups(m)}};
    p[2] = p[1];
    p[2].suffix = "biases";
    return 3;
}

static void make(const qn_module_codes *c, unsigned part, const qn_module_part *p, uint8_t *dst)
{
    const qn_module *m = c->m;
    const unsigned unit = qn_unit_bytes(m->dtype);
    if (part == 0)
        for (uint32_t i = 0; i < m->rows; i++)
            qn_pack_bits(c->codes + (size_t)i * m->cols, 1, m->cols, m->scheme.bits, 0, dst + i * p->dims[1] * 4);
    else
        for (uint64_t i = 0; i < (uint64_t)m->rows * c->groups; i++)
            qn_put_scale(m->dtype, part == 1 ? c->scales[i] : bias(c->scales[i], c->zeros[i]), dst + i * unit);
}

static const unsigned bits[] = {2, 3, 4, 5, 6, 8};
/* Where nobody says otherwise zero points pay: the format stores a bias anyway. */
static const qn_quantized_format format = {
    .name = "mlx", .kind = QN_CODES_GRID, .bits = bits, .n_bits = 6, .group = GROUP, .zeros_to = 4, .one_group = true,
    .scale_bits = scale_bits, .refuses = refuses, .holds_scale = holds_scale, .parts = parts, .make = make,
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

static qn_code write(qn_export_job *j, qn_err *err)
{
    qn_quantized q;
    qn_scheme s;
    QN_TRY(qn_quantized_open_bits(&q, j, &format, err));
    QN_TRY(qn_quantized_look(&q, err));
    (void)qn_quantized_schemes(&q, &s, 1);
    qn_textbuf t = {.alloc = j->env->alloc};
    qn_textbuf_puts(&t, "{\"group_size\": ");
    qn_textbuf_u64(&t, s.group);
    qn_textbuf_puts(&t, ", \"bits\": ");
    qn_textbuf_u64(&t, s.bits);
    qn_textbuf_puts(&t, ", \"mode\": \"affine\"}");
    qn_export_say(j, "loads in mlx-lm and LM Studio, for models that mlx-lm knows by their config.json");
    return qn_quantized_write(&q, (const char *const[]){"quantization", "quantization_config"}, 2, &t, NULL, err);
}

const qn_export_target qn_export_mlx = {
    .name = "mlx",
    .summary = "mlx-lm and LM Studio: its affine mode, in safetensors",
    .variants = "int2, int3, int4, int5, int6, int8",
    .suffix = "",
    .folder = true,
    .plan = plan,
    .holds = holds,
    .write = write,
};
