/* vptq.c: the target vptq: linear layers as indices of centroids, in the layout that the vptq package and transformers load. Of a module with out × in weights,
 * vectors of v outputs and books of 2^b centroids (and 2^r residual ones):
 *   centroids.weight      (1, 2^b · v)     res_centroids.weight  (1, 2^r · v)
 *   indices               I32 (1, ⌈out / v⌉, ⌈in · (b + r) / 32⌉): strings of bits, for each input the index and above it the residual one
 *   weight_scale, weight_bias (in)         w = (centroid + residual) × scale + bias, bias 0
 * Nothing is permuted and no columns are outliers: feedback needs no order of columns when vectors run down them, and scales are exact
 * powers of 2^(1/32) in 8 bits, so F16 and BF16 hold what the solve decided (docs/codecs/vq.md, `vptq`). */
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/export/codes.h"
#include "compress/export/folder.h"
#include "compress/lossy.h"
#include "formats/hf/config.h"
#include "formats/json/write.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CENTROIDS, INDICES, RESIDUALS, BIAS, SCALE, PARTS };
#define DEFAULT_BITS 3
#define PART_BITS    3  /* of an id, above them the module + 1; … */
#define SOURCE_SHIFT 32 /* … or above these a tensor of the source + 1 */

struct module {
    uint64_t tensor;
    const char *name, *why; /* why: dense */
    uint32_t rows, cols;
    qn_dtype dtype;         /* of what is written */
    bool quantized;
    qn_codes codes;
    qn_codes_book book;
};

struct out {
    qn_export_job *j;
    qn_arena scratch;
    unsigned v;
    struct module *m;
    uint64_t n;
    uint64_t *of; /* by tensor: module + 1, or 0 */
};

static qn_code read_wishes(struct out *x, qn_err *err)
{
    const qn_export_job *j = x->j;
    const qn_export_wish *w = j->wish;
    char *end = NULL;
    if (!j->graph || !qn_config_exists(j->src))
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "vptq: only for model folders with a config.json whose model is known");
    if (w->size_bytes || w->group || w->asymmetric > 0)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "vptq: has no groups and no zero points, and --bits instead of a size");
    x->v = *j->variant == 'v' ? (unsigned)strtoul(j->variant + 1, &end, 10) : 0;
    if (*j->variant && (!end || *end || !(x->v == 2 || x->v == 4 || x->v == 6 || x->v == 8 || x->v == 12 || x->v == 16)))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "vptq: the variant is '%.40s': v2, v4, v6, v8, v12 and v16 (weights of a vector) are allowed", j->variant);
    return QN_OK;
}

/* Linear layers, and which of them are modules of their own, out by in. */
static qn_code list_modules(struct out *x, qn_err *err)
{
    qn_source *s = x->j->src;
    const qn_alloc *a = x->j->env->alloc;
    qn_lossy_pick *picks = qn_mem_zeros(a, s->n_objects + 1, sizeof *picks, err);
    x->m = qn_arena_get(x->j->arena, (s->n_tensors + 1) * sizeof *x->m, 16, err);
    x->of = x->m ? qn_arena_get(x->j->arena, (s->n_tensors + 1) * sizeof *x->of, 8, err) : NULL;
    qn_code rc = picks && x->of ? QN_OK : QN_E_MEMORY;
    if (rc == QN_OK)
        qn_lossy_pick_all(s, x->j->graph, picks);
    for (uint64_t i = 0; i < s->n_tensors && rc == QN_OK; i++) {
        const qn_source_tensor *t = &s->tensors[i];
        const qn_lossy_pick *p = t->object == QN_NO_OBJECT ? NULL : &picks[t->object];
        x->of[i] = 0;
        if (!p || (p->role != QN_ROLE_LINEAR && p->role != QN_ROLE_HEAD))
            continue;
        struct module *m = &x->m[x->n++];
        const bool named = qn_text_ends(t->name, ".weight");
        *m = (struct module){.tensor = i, .name = qn_arena_str(x->j->arena, t->name, strlen(t->name) - (named ? 7 : 0), err), .rows = p->view.rows, .cols = p->view.cols,
                             .dtype = t->dtype == QN_F16 ? QN_F16 : QN_BF16, .why = p->kept};
        if (!m->why && (!named || t->rank != 2 || p->view.turned || p->view.parts != 1))
            m->why = "not the weight of a linear module, out by in";
        if (!m->why && p->role == QN_ROLE_HEAD)
            m->why = p->tied ? "the embedding too" : "the output layer stays dense";
        rc = m->name ? QN_OK : QN_E_MEMORY;
        x->of[i] = x->n;
    }
    qn_mem_put(a, picks);
    return rc;
}

static qn_code plan(qn_export_job *j, qn_recipe *r, qn_err *err)
{
    struct out x = {.j = j};
    uint64_t n = 0;
    const qn_recipe_part lossless = {.codec = QN_RECIPE_LOSSLESS};
    QN_TRY(read_wishes(&x, err));
    QN_TRY(list_modules(&x, err));
    r->all = (qn_recipe_part){.codec = "vq", .set = {.bits = j->wish->bits > 0 ? j->wish->bits : DEFAULT_BITS, .vector = x.v, .vptq = true}};
    r->role[QN_ROLE_HEAD] = r->role[QN_ROLE_EMBEDDING] = lossless;
    for (uint64_t i = 0; i < x.n; i++) {
        const struct module *m = &x.m[i];
        n += !m->why;
        if (m->why && strcmp(m->why, "the embedding too") && strcmp(m->why, "the output layer stays dense"))
            QN_TRY(qn_recipe_add(r, j->src->tensors[m->tensor].name, &lossless, j->arena, err));
        QN_TRY(qn_export_note(j, &(qn_export_row){.name = j->src->tensors[m->tensor].name, .asked = "vptq", .given = m->why ? "dense" : "vptq", .why = m->why,
                                                  .n_weights = (uint64_t)m->rows * m->cols}, err));
    }
    return n ? QN_OK : QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "vptq: the model has no linear layers whose weights are stored out by in");
}

/* Reads what the .quern has of each module. */
static qn_code look(struct out *x, qn_err *err)
{
    for (uint64_t i = 0; i < x->n; i++) {
        struct module *m = &x->m[i];
        if (m->why)
            continue;
        QN_TRY(qn_codes_open(&m->codes, x->j->src, m->tensor, &x->scratch, err));
        QN_TRY(qn_codes_vq(&m->codes, &m->book, &m->quantized, x->j->arena, &x->scratch, err));
        for (uint32_t k = 0; m->quantized && m->dtype == QN_F16 && k < m->cols; k++)
            m->quantized = qn_f16_to_f32(qn_f32_to_f16(m->book.scale[k])) == m->book.scale[k];
        if (!m->quantized)
            m->why = m->codes.kind == QN_CODES_VQ ? "its books are not those of a solve for vptq" : "no codes that vptq has";
    }
    return QN_OK;
}

static qn_code holds(qn_export_job *j, bool *yes, qn_err *err)
{
    struct out x = {.j = j};
    uint64_t n = 0, wrong = 0;
    qn_arena_init(&x.scratch, j->env->alloc);
    qn_code rc = list_modules(&x, err);
    for (uint64_t i = 0; i < x.n; i++) /* those that are to be quantized */
        wrong += !x.m[i].why;
    if (rc == QN_OK)
        rc = look(&x, err);
    for (uint64_t i = 0; i < x.n; i++)
        n += x.m[i].quantized;
    *yes = rc == QN_OK && n > 0 && n == wrong;
    qn_arena_release(&x.scratch);
    return rc;
}

/* ---- tensors ---- */

static uint64_t words(const struct module *m)
{
    return qn_ceil_div((uint64_t)m->cols * (m->book.main_bits + m->book.residual_bits), 32);
}

static qn_code add_part(struct out *x, uint64_t module, unsigned part, qn_out_tensor *t, qn_err *err)
{
    static const char *const suffix[PARTS] = {".centroids.weight", ".indices", ".res_centroids.weight", ".weight_bias", ".weight_scale"};
    const struct module *m = &x->m[module];
    const size_t n = strlen(m->name), k = strlen(suffix[part]);
    char *name = qn_arena_get(x->j->arena, n + k + 1, 1, err);
    uint64_t *dims = name ? qn_arena_get(x->j->arena, 3 * sizeof *dims, 8, err) : NULL, elems;
    if (!dims)
        return QN_E_MEMORY;
    memcpy(name, m->name, n);
    memcpy(name + n, suffix[part], k + 1);
    *t = (qn_out_tensor){.name = name, .dims = dims, .id = ((module + 1) << PART_BITS) | part, .dtype = (uint8_t)m->dtype, .rank = 1};
    dims[0] = m->cols;
    if (part == INDICES) {
        t->dtype = QN_I32;
        t->rank = 3;
        dims[0] = 1;
        dims[1] = m->book.n_strips;
        dims[2] = words(m);
    } else if (part == CENTROIDS || part == RESIDUALS) {
        t->rank = 2;
        dims[0] = 1;
        dims[1] = (uint64_t)m->book.v << (part == CENTROIDS ? m->book.main_bits : m->book.residual_bits);
    }
    return qn_shape_bytes((qn_dtype)t->dtype, dims, t->rank, &elems, &t->n_bytes) ? QN_OK : QN_BUG(err, "vptq: shape of %s", name);
}

static qn_code list_tensors(struct out *x, qn_out_tensor *t, uint64_t *n, qn_err *err)
{
    const qn_source *s = x->j->src;
    for (uint64_t i = 0; i < s->n_tensors; i++) {
        const qn_source_tensor *from = &s->tensors[i];
        const struct module *m = x->of[i] ? &x->m[x->of[i] - 1] : NULL;
        const uint64_t before = *n;
        uint64_t bytes = 0;
        if (m && m->quantized) {
            for (unsigned p = 0; p < PARTS; p++)
                if (p != RESIDUALS || m->book.residual_bits)
                    QN_TRY(add_part(x, x->of[i] - 1, p, &t[(*n)++], err));
        } else {
            t[(*n)++] = (qn_out_tensor){.name = from->name, .dims = from->dims, .n_bytes = from->n_bytes, .id = (i + 1) << SOURCE_SHIFT, .dtype = from->dtype, .rank = from->rank};
        }
        for (uint64_t k = before; k < *n; k++)
            bytes += t[k].n_bytes;
        if (!m)
            continue;
        char *given = qn_arena_get(x->j->arena, 64, 1, err);
        if (!given)
            return QN_E_MEMORY;
        snprintf(given, 64, m->book.residual_bits ? "v%u k%u k%u" : "v%u k%u", m->book.v, 1u << m->book.main_bits, 1u << m->book.residual_bits);
        QN_TRY(qn_export_note(x->j, &(qn_export_row){.name = from->name, .asked = "vptq", .given = m->quantized ? given : qn_dtype_name((qn_dtype)from->dtype),
                                                     .why = m->why, .n_weights = (uint64_t)m->rows * m->cols, .n_bytes = bytes,
                                                     .rounded_again = !m->quantized && m->codes.codec}, err));
    }
    return QN_OK;
}

static void put_number(qn_dtype t, float v, uint8_t *dst)
{
    qn_store16(dst, t == QN_F16 ? qn_f32_to_f16(v) : qn_f32_to_bf16(v));
}

/* Rows of words, of which [off, off + n) bytes are wanted. */
static qn_code read_indices(struct out *x, const struct module *m, uint64_t off, uint64_t n, uint8_t *dst, qn_err *err)
{
    const uint64_t row = words(m) * 4, first = off / row, end = qn_ceil_div(off + n, row);
    const qn_arena_mark mark = qn_arena_tell(&x->scratch);
    uint8_t *p = qn_arena_get(&x->scratch, (end - first) * row, 64, err);
    if (!p)
        return QN_E_MEMORY;
    memset(p, 0, (end - first) * row);
    const qn_code rc = qn_codes_vq_strips(&m->codes, &m->book, (uint32_t)first, (uint32_t)(end - first), p, row, &x->scratch, err);
    if (rc == QN_OK)
        memcpy(dst, p + (off - first * row), n);
    qn_arena_rewind(&x->scratch, mark);
    return rc;
}

static qn_code read_out(void *ctx, uint64_t id, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    struct out *x = ctx;
    if (id >> SOURCE_SHIFT)
        return qn_source_tensor_read(x->j->src, (id >> SOURCE_SHIFT) - 1, off, n, dst, err);
    const struct module *m = &x->m[(id >> PART_BITS) - 1];
    const unsigned part = id & ((1u << PART_BITS) - 1);
    if (part == INDICES)
        return read_indices(x, m, off, n, dst, err);
    const float *from = part == CENTROIDS ? m->book.main : part == RESIDUALS ? m->book.residual : part == SCALE ? m->book.scale : NULL;
    for (uint64_t i = 0; i < n; i++) { /* off and n are even, but for the sake of callers that are not */
        uint8_t two[2];
        put_number(m->dtype, from ? from[(off + i) / 2] : 0, two);
        ((uint8_t *)dst)[i] = two[(off + i) % 2];
    }
    return QN_OK;
}

/* ---- configuration ---- */

static void put_layer(qn_textbuf *t, const struct module *m, bool has_bias)
{
    char text[640];
    const qn_codes_book *b = &m->book;
    const int residual = b->residual_bits ? 1 << b->residual_bits : -1;
    snprintf(text, sizeof text,
             ": {\"in_features\": %u, \"out_features\": %u, \"vector_lens\": [-1, %u], \"num_centroids\": [-1, %u], \"num_res_centroids\": [-1, %d], \"group_num\": 1, "
             "\"group_size\": %u, \"outlier_size\": 0, \"indices_as_float\": false, \"enable_norm\": true, \"norm_dim\": 0, \"enable_perm\": false, "
             "\"is_indice_packed\": true, \"bias\": %s, \"vector_quant_dim\": \"out\", \"enable_proxy_error\": false}",
             m->cols, m->rows, b->v, 1u << b->main_bits, residual, m->cols, has_bias ? "true" : "false");
    qn_textbuf_puts(t, text);
}

static bool has_bias(const struct out *x, const struct module *m)
{
    char name[4096];
    snprintf(name, sizeof name, "%s.bias", m->name);
    return qn_source_tensor_find(x->j->src, name) != UINT64_MAX;
}

static void put_config(const struct out *x, qn_textbuf *t)
{
    bool more = false;
    qn_textbuf_puts(t, "{\"quant_method\": \"vptq\", \"config_for_layers\": {");
    for (uint64_t i = 0; i < x->n; i++) {
        if (!x->m[i].quantized)
            continue;
        qn_textbuf_puts(t, more ? ",\n    " : "\n    ");
        qn_json_string(t, x->m[i].name);
        put_layer(t, &x->m[i], has_bias(x, &x->m[i]));
        more = true;
    }
    qn_textbuf_puts(t, "\n  }, \"shared_layer_config\": {}, \"modules_to_not_convert\": [\"lm_head\"");
    for (uint64_t i = 0; i < x->n; i++)
        if (!x->m[i].quantized && strcmp(x->m[i].name, "lm_head")) {
            qn_textbuf_puts(t, ", ");
            qn_json_string(t, x->m[i].name);
        }
    qn_textbuf_puts(t, "]}");
}

static qn_code write_folder(struct out *x, qn_err *err)
{
    const qn_alloc *a = x->j->env->alloc;
    uint64_t n = 0;
    qn_textbuf config = {.alloc = a};
    qn_out_tensor *t = qn_mem_zeros(a, x->j->src->n_tensors + x->n * PARTS + 1, sizeof *t, err);
    qn_code rc = t ? list_tensors(x, t, &n, err) : QN_E_MEMORY;
    put_config(x, &config);
    if (rc == QN_OK && qn_textbuf_failed(&config))
        rc = QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory: a configuration wanted");
    const qn_config_change change = {"quantization_config", config.text};
    const qn_export_folder f = {.tensors = t, .n = n, .read = read_out, .ctx = x, .changes = &change, .n_changes = 1};
    if (rc == QN_OK)
        rc = qn_export_folder_write(x->j, &f, err);
    qn_mem_put(a, config.text);
    qn_mem_put(a, t);
    return rc;
}

static qn_code write_it(qn_export_job *j, qn_err *err)
{
    struct out x = {.j = j};
    qn_arena_init(&x.scratch, j->env->alloc);
    qn_code rc = read_wishes(&x, err);
    if (rc == QN_OK)
        rc = list_modules(&x, err);
    if (rc == QN_OK)
        rc = look(&x, err);
    if (rc == QN_OK)
        rc = write_folder(&x, err);
    qn_arena_release(&x.scratch);
    if (rc == QN_OK)
        qn_export_say(j, "loads: the vptq package, and transformers with it, on CUDA; not vLLM, not llama.cpp");
    return rc;
}

const qn_export_target qn_export_vptq = {
    .name = "vptq", .summary = "linear layers as centroids of vectors, for the vptq package", .variants = "v2, v4, v6, v8, v12, v16: weights of a vector (else the best)",
    .suffix = "", .folder = true, .plan = plan, .holds = holds, .write = write_it,
};
