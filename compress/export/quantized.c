/* quantized.c: writing modules: their codes are read once, and each of their tensors is made whole when its first byte is asked for; all other tensors are streamed
 * as they are. See quantized.h. */
#include "compress/export/quantized.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include <string.h>

enum { ID_PARTS = 8 };

struct writer {
    qn_quantized *q;
    qn_out_tensor *t;
    uint64_t n;
    /* the module whose codes are here, and the part that was made of them */
    const qn_module *codes_of;
    qn_module_codes codes;
    qn_arena arena, scratch;
    const qn_module *made_of;
    unsigned made_part;
    uint8_t *made;
    uint64_t made_cap;
};

void qn_pack_bits(const uint8_t *src, size_t step, uint32_t n, unsigned bits, uint8_t add, uint8_t *dst)
{
    const uint32_t mask = (1u << bits) - 1;
    uint32_t word = 0;
    unsigned held = 0;
    for (uint32_t i = 0; i < n; i++) {
        word |= ((uint32_t)(uint8_t)(src[i * step] + add) & mask) << held;
        for (held += bits; held >= 8; held -= 8, word >>= 8)
            *dst++ = (uint8_t)word;
    }
    if (held)
        *dst = (uint8_t)word;
}

void qn_put_scale(qn_dtype t, float v, uint8_t *dst)
{
    if (t == QN_F32)
        qn_store32(dst, qn_f32_bits(v));
    else
        qn_store16(dst, t == QN_F16 ? qn_f32_to_f16(v) : qn_f32_to_bf16(v));
}

bool qn_scale_fits(qn_dtype t, float v)
{
    const float back = t == QN_F32 ? v : t == QN_F16 ? qn_f16_to_f32(qn_f32_to_f16(v)) : qn_bf16_to_f32(qn_f32_to_bf16(v));
    return back == v;
}

static qn_code load(struct writer *w, const qn_module *m, qn_err *err)
{
    if (w->codes_of == m)
        return QN_OK;
    const bool blocks = m->codes.kind == QN_CODES_BLOCKS;
    w->codes_of = NULL;
    qn_arena_reset(&w->arena);
    if (blocks) {
        uint8_t *bytes = qn_arena_get(&w->arena, qn_bytes_of_elems(m->codes.block, (uint64_t)m->rows * m->cols), 64, err);
        if (!bytes)
            return QN_E_MEMORY;
        QN_TRY(qn_codes_blocks(&m->codes, 0, m->rows, bytes, &w->scratch, err));
        w->codes = (qn_module_codes){.m = m, .codes = bytes};
        w->codes_of = m;
        return QN_OK;
    }
    const uint32_t groups = qn_codes_groups(&m->codes);
    uint8_t *codes = qn_arena_get(&w->arena, (uint64_t)m->rows * m->cols, 64, err);
    float *scales = codes ? qn_arena_get(&w->arena, 2 * (uint64_t)m->rows * groups * sizeof *scales, 64, err) : NULL;
    if (!scales)
        return QN_E_MEMORY;
    float *zeros = scales + (uint64_t)m->rows * groups;
    QN_TRY(qn_codes_grid(&m->codes, 0, m->rows, codes, scales, zeros, &w->scratch, err));
    w->codes = (qn_module_codes){.m = m, .groups = groups, .codes = codes, .scales = scales, .zeros = zeros};
    w->codes_of = m;
    return QN_OK;
}

static qn_code make(struct writer *w, const qn_module *m, unsigned part, qn_err *err)
{
    qn_module_part parts[QN_MODULE_PARTS];
    uint64_t elems, bytes;
    if (w->made_of == m && w->made_part == part)
        return QN_OK;
    (void)w->q->format->parts(m, parts);
    if (!qn_shape_bytes(parts[part].dtype, parts[part].dims, parts[part].rank, &elems, &bytes))
        return QN_BUG(err, "export: shape of %s", parts[part].suffix);
    QN_TRY(load(w, m, err));
    QN_TRY(qn_env_check(w->q->job->env, err));
    w->made_of = NULL;
    uint8_t *p = qn_mem_grow(w->q->job->env->alloc, w->made, 0, &w->made_cap, bytes, 1, err);
    if (!p)
        return QN_E_MEMORY;
    w->made = p;
    memset(p, 0, bytes);
    w->q->format->make(&w->codes, part, &parts[part], p);
    w->made_of = m;
    w->made_part = part;
    return QN_OK;
}

static qn_code read_out(void *ctx, uint64_t id, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    struct writer *w = ctx;
    const uint64_t tensor = id / ID_PARTS;
    const unsigned part = (unsigned)(id % ID_PARTS);
    if (part == 0)
        return qn_source_tensor_read(w->q->job->src, tensor, off, n, dst, err);
    QN_TRY(make(w, qn_quantized_find(w->q, tensor), part - 1, err));
    memcpy(dst, w->made + off, n);
    return QN_OK;
}

static qn_code add_module(struct writer *w, const qn_module *m, qn_err *err)
{
    qn_module_part parts[QN_MODULE_PARTS];
    const unsigned n = w->q->format->parts(m, parts);
    qn_arena *ar = w->q->job->arena;
    const size_t len = strlen(m->name);
    for (unsigned i = 0; i < n; i++) {
        const size_t more = strlen(parts[i].suffix);
        char *name = qn_arena_get(ar, len + more + 2, 1, err);
        uint64_t *dims = name ? qn_arena_get(ar, sizeof parts[i].dims, 8, err) : NULL, elems;
        if (!dims)
            return QN_E_MEMORY;
        memcpy(name, m->name, len);
        name[len] = '.';
        memcpy(name + len + 1, parts[i].suffix, more + 1);
        memcpy(dims, parts[i].dims, sizeof parts[i].dims);
        qn_out_tensor *o = &w->t[w->n++];
        *o = (qn_out_tensor){.name = name, .dims = dims, .rank = (uint8_t)parts[i].rank, .dtype = (uint8_t)parts[i].dtype, .id = m->tensor * ID_PARTS + 1 + i};
        if (!qn_shape_bytes(parts[i].dtype, dims, parts[i].rank, &elems, &o->n_bytes))
            return QN_BUG(err, "export: shape of %s", name);
    }
    return QN_OK;
}

static qn_code list(struct writer *w, qn_err *err)
{
    const qn_source *s = w->q->job->src;
    w->t = qn_mem_get(w->q->job->env->alloc, (s->n_tensors + w->q->n * QN_MODULE_PARTS + 1) * sizeof *w->t, err);
    if (!w->t)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < s->n_tensors; i++) {
        const qn_source_tensor *t = &s->tensors[i];
        const qn_module *m = qn_quantized_find(w->q, i);
        if (qn_dtype_is_block((qn_dtype)t->dtype) || t->dtype == QN_BYTES)
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%s: safetensors have no %s", w->q->format->name,
                                                 qn_dtype_name((qn_dtype)t->dtype)), t->name);
        if (m)
            QN_TRY(add_module(w, m, err));
        else
            w->t[w->n++] = (qn_out_tensor){.name = t->name, .dims = t->dims, .n_bytes = t->n_bytes, .dtype = t->dtype, .rank = t->rank, .id = i * ID_PARTS};
    }
    return QN_OK;
}

qn_code qn_quantized_write(qn_quantized *q, const char *const *keys, unsigned n_keys, qn_textbuf *config, const char *extra, qn_err *err)
{
    enum { KEYS_MAX = 2 };
    struct writer w = {.q = q};
    qn_config_change c[KEYS_MAX];
    qn_arena_init(&w.arena, q->job->env->alloc);
    qn_arena_init(&w.scratch, q->job->env->alloc);
    qn_textbuf_add(config, "", 1);
    for (unsigned i = 0; i < n_keys && i < KEYS_MAX; i++)
        c[i] = (qn_config_change){keys[i], config->text};
    qn_code rc = qn_textbuf_failed(config) ? QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory: a configuration wanted") : list(&w, err);
    const qn_export_folder f = {.tensors = w.t, .n = w.n, .read = read_out, .ctx = &w, .changes = c, .n_changes = n_keys, .extra = extra, .extra_text = config->text};
    if (rc == QN_OK)
        rc = qn_export_folder_write(q->job, &f, err);
    qn_mem_put(q->job->env->alloc, w.made);
    qn_mem_put(q->job->env->alloc, w.t);
    qn_mem_put(config->alloc, config->text);
    qn_arena_release(&w.arena);
    qn_arena_release(&w.scratch);
    return rc;
}
