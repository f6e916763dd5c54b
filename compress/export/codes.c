/* codes.c: see codes.h. A chunk is looked through to the payload that holds the approximation; what it says about rows and columns is put
 * against the tensor's dims. */
#include "compress/export/codes_impl.h"
#include "base/err.h"
#include "base/ggml.h"
#include "base/half.h"
#include "base/num.h"
#include "runtime/blocks.h"
#include "runtime/fp8.h"
#include "runtime/grid.h"
#include "runtime/rowdup.h"
#include "runtime/turn.h"
#include <math.h>
#include <string.h>

static void eye_open(qn_codes_eye *e, qn_source *src, qn_arena *scratch)
{
    e->reader = qn_quern_source_reader(src);
    e->scratch = scratch;
    e->mark = qn_arena_tell(scratch);
    qn_worker_init(&e->worker, src->env->alloc);
    qn_kern_init(&e->kern, src->env->cpu);
}

static void eye_close(qn_codes_eye *e)
{
    qn_worker_release(&e->worker);
    qn_arena_rewind(e->scratch, e->mark);
}

/* What the chunk before left in scratch is gone. */
static qn_code look(qn_codes_eye *e, uint64_t object, uint64_t chunk, qn_codes_view *v, qn_err *err)
{
    qn_payload p;
    qn_arena_rewind(e->scratch, e->mark);
    QN_TRY(qn_reader_payload(e->reader, &e->worker, object, chunk, &p, err));
    *v = (qn_codes_view){.codec = p.codec, .block = p.block, .bytes = p.bytes, .n_bytes = p.n_bytes};
    if (v->codec == QN_CODEC_TURN) {
        const qn_dec_ctx cx = qn_codes_context(e, 0);
        qn_turn_parts t;
        QN_TRY(qn_turn_open(&cx, &v->block, v->bytes, v->n_bytes, &t, err));
        v->codec = t.codec;
        v->block = t.matrix;
        v->bytes = t.payload;
        v->n_bytes = t.n_bytes;
        v->turned = t.turned;
    }
    v->rows = (v->block.n - 1) / v->block.cols + 1;
    if (v->codec == QN_CODEC_ROWS) {
        const qn_dec_ctx cx = qn_codes_context(e, 0);
        qn_rowdup_parts r;
        QN_TRY(qn_rowdup_open(&cx, &v->block, v->bytes, v->n_bytes, &r, err));
        v->codec = r.codec;
        v->block = r.rows;
        v->bytes = r.payload;
        v->n_bytes = r.n_bytes;
        v->map = r.map;
        v->depth = 1;
    }
    return QN_OK;
}

/* --- opening ------------------------------------------------------------------------------------------------------- */

static qn_codes_kind kind_of(unsigned codec)
{
    switch (codec) {
    case QN_CODEC_FP8: return QN_CODES_FP8;
    case QN_CODEC_GRID: return QN_CODES_GRID;
    case QN_CODEC_BLOCKS: return QN_CODES_BLOCKS;
    case QN_CODEC_VQ: return QN_CODES_VQ;
    case QN_CODEC_TRELLIS: return QN_CODES_TRELLIS;
    default: return qn_codec_is_lossy(codec) ? QN_CODES_OTHER : QN_CODES_DENSE;
    }
}

/* What one chunk alone says. */
static qn_code describe(const qn_codes_eye *e, const qn_codes_view *v, qn_codes *c, qn_err *err)
{
    static const qn_codes_zero zero[QN_GRID_ZEROS] = {QN_ZERO_LEVEL, QN_ZERO_MIDDLE, QN_ZERO_STORED};
    c->kind = kind_of(v->codec);
    c->rows = v->rows;
    c->cols = v->block.cols;
    c->turned = v->turned;
    if (c->kind != QN_CODES_DENSE && v->block.n % v->block.cols)
        c->kind = QN_CODES_OTHER;
    if (c->kind == QN_CODES_GRID) {
        const qn_dec_ctx cx = qn_codes_context(e, v->depth);
        qn_grid_parts g;
        QN_TRY(qn_grid_open(&cx, &v->block, v->bytes, v->n_bytes, &g, err));
        c->bits = g.head.bits;
        c->group = g.head.group;
        c->zero = zero[g.head.zero];
        if (g.head.columnwise)
            c->kind = QN_CODES_OTHER;
    } else if (c->kind == QN_CODES_FP8) {
        const qn_dec_ctx cx = qn_codes_context(e, v->depth);
        qn_fp8_parts p;
        QN_TRY(qn_fp8_open(&cx, &v->block, v->bytes, v->n_bytes, &p, err));
        c->bits = 8;
        c->group = p.groups.group;
        c->zero = QN_ZERO_LEVEL;
    } else if (c->kind == QN_CODES_BLOCKS) {
        qn_blocks_parts p;
        QN_TRY(qn_blocks_open(&v->block, v->bytes, v->n_bytes, &p, err));
        c->block = p.type;
    }
    return QN_OK;
}

/* A turned tensor is cut between columns: groups go on from one chunk to the next only when each but the last holds whole ones. */
static bool goes_on(const qn_codes *all, const qn_codes *one, bool first, bool last)
{
    if (one->kind != all->kind || one->bits != all->bits || one->zero != all->zero || one->block != all->block || one->turned != all->turned)
        return false;
    if (!one->turned)
        return one->cols == all->cols && one->group == all->group;
    if (one->rows != all->rows)
        return false;
    const bool grouped = one->kind == QN_CODES_GRID || one->kind == QN_CODES_FP8;
    if (!grouped || (first && last))
        return true;
    return (one->group == all->group || (last && one->group < all->group && one->group == one->cols)) && all->cols % all->group == 0;
}

/* How the rows of a matrix of so many columns lie in the dims: all one above the other, or in parts. False: they do not. */
static bool fit(qn_codes *c, const qn_source_tensor *t, uint64_t n)
{
    if (c->cols == 0 || n % c->cols || n / c->cols > UINT32_MAX)
        return false;
    const uint64_t rows = n / c->cols;
    c->parts = 1;
    c->rows = (uint32_t)rows;
    if (t->rank >= 3 && !c->turned && rows != t->dims[0] && rows == t->dims[0] * t->dims[1]) {
        c->parts = (uint32_t)t->dims[0];
        c->rows = (uint32_t)t->dims[1];
    }
    return true;
}

/* As it is when nothing is known of it but its dims. False: it has no rows that can be counted. */
static bool plain(qn_codes *c, const qn_source_tensor *t, uint64_t n)
{
    const uint64_t rows = t->rank > 1 ? t->dims[0] : 1;
    c->turned = false;
    c->parts = 1;
    c->chunk_rows = 0;
    if (rows == 0 || rows > UINT32_MAX || n / rows > UINT32_MAX)
        return false;
    c->rows = (uint32_t)rows;
    c->cols = (uint32_t)(n / rows);
    c->chunk_rows = c->rows;
    return true;
}

static qn_code open_chunks(qn_codes_eye *e, qn_codes *c, uint64_t n_elems, const qn_source_tensor *t, qn_err *err)
{
    const qn_index *ix = qn_reader_index(e->reader);
    const uint64_t n = qn_index_n_chunks(ix, c->object);
    bool same = n > 0;
    uint64_t cols = 0;
    qn_codes first = *c;
    for (uint64_t i = 0; i < n; i++) {
        qn_codes_view v;
        qn_codes one = *c;
        QN_TRY(look(e, c->object, i, &v, err));
        QN_TRY(describe(e, &v, &one, err));
        if (qn_codec_is_lossy(v.codec) && !c->codec)
            c->codec = qn_codec_tab[v.codec].name;
        if (i == 0)
            first = one;
        same = same && goes_on(&first, &one, i == 0, i + 1 == n);
        cols += one.cols;
    }
    const qn_codes was = *c;
    if (same && first.kind != QN_CODES_DENSE) {
        *c = first;
        c->codec = was.codec;
        if (c->turned) /* a row that is one group is one only where a chunk holds it all */
            c->cols = cols > UINT32_MAX ? 0 : (uint32_t)cols;
        c->chunk_rows = c->turned || !c->cols ? 0 : ix->objects[c->object].chunk_units / c->cols;
        if (fit(c, t, n_elems)) {
            c->chunk_rows = c->turned ? c->rows : c->chunk_rows;
            return c->chunk_rows ? QN_OK : QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "chunks of less than a row of %u", c->cols);
        }
    }
    *c = was;
    return QN_OK;
}

qn_code qn_codes_open(qn_codes *c, qn_source *src, uint64_t tensor, qn_arena *scratch, qn_err *err)
{
    const qn_source_tensor *t = &src->tensors[tensor];
    *c = (qn_codes){.src = src, .tensor = tensor, .dtype = (qn_dtype)t->dtype, .object = QN_NO_OBJECT};
    uint64_t n_elems, n_bytes;
    if (!qn_shape_bytes(c->dtype, t->dims, t->rank, &n_elems, &n_bytes) || !plain(c, t, n_elems))
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "no matrix"), t->name);
    if (!qn_quern_source_reader(src) || t->object == QN_NO_OBJECT || !n_bytes)
        return QN_OK;
    qn_codes_eye e;
    c->object = t->object;
    eye_open(&e, src, scratch);
    const qn_code rc = open_chunks(&e, c, n_elems, t, err);
    eye_close(&e);
    return rc == QN_OK ? QN_OK : qn_err_in_tensor(err, rc, t->name);
}

bool qn_codes_approximated(qn_source *src, uint64_t tensor)
{
    const qn_reader *r = qn_quern_source_reader(src);
    const uint64_t object = src->tensors[tensor].object;
    if (!r || object == QN_NO_OBJECT)
        return false;
    const qn_index *ix = qn_reader_index(r);
    for (uint64_t i = ix->objects[object].first_chunk; i < ix->objects[object + 1].first_chunk; i++) {
        const qn_index_chunk *k = &ix->chunks[i];
        if (qn_codec_is_lossy(k->codec == QN_CODEC_SHARED ? ix->chunks[k->off].codec : k->codec))
            return true;
    }
    return false;
}

/* --- reading ------------------------------------------------------------------------------------------------------- */

static qn_code in_range(const qn_codes *c, qn_codes_kind kind, uint64_t row0, uint32_t n, qn_err *err)
{
    const uint64_t rows = (uint64_t)c->rows * c->parts;
    if (kind != QN_CODES_DENSE && c->kind != kind)
        return QN_BUG(err, "codes: of another kind");
    return row0 <= rows && n <= rows - row0 ? QN_OK : QN_BUG(err, "codes: rows %llu + %u of %llu", (unsigned long long)row0, n, (unsigned long long)rows);
}

qn_code qn_codes_each(const qn_codes *c, uint64_t row0, uint32_t n, qn_codes_take_fn take, void *ctx, qn_arena *scratch, qn_err *err)
{
    qn_codes_eye e;
    qn_code rc = QN_OK;
    eye_open(&e, c->src, scratch);
    const qn_index *ix = qn_reader_index(e.reader);
    const uint32_t units = ix->objects[c->object].chunk_units;
    const uint64_t chunks = qn_index_n_chunks(ix, c->object);
    const uint64_t first = c->turned ? 0 : row0 / c->chunk_rows, end = c->turned ? chunks : qn_ceil_div(row0 + n, c->chunk_rows);
    for (uint64_t i = first; n && i < end && rc == QN_OK; i++) {
        qn_codes_view v;
        rc = look(&e, c->object, i, &v, err);
        if (rc != QN_OK)
            break;
        qn_codes_part p = {.from = (uint32_t)row0, .n = n};
        if (c->turned) {
            p.col0 = (uint32_t)(i * (units / c->rows));
        } else {
            const uint64_t begin = i * c->chunk_rows, from = qn_max_u64(begin, row0), to = qn_min_u64(begin + v.rows, row0 + n);
            p = (qn_codes_part){.from = (uint32_t)(from - begin), .to = (uint32_t)(from - row0), .n = (uint32_t)(to - from)};
        }
        rc = take(ctx, &e, &v, &p, err);
    }
    eye_close(&e);
    return rc == QN_OK ? QN_OK : qn_err_in_tensor(err, rc, c->src->tensors[c->tensor].name);
}

struct grid_out {
    const qn_codes *c;
    uint8_t *codes;
    float *scales, *zeros;
};

static void unpack(const uint8_t *src, uint32_t n, unsigned bits, uint8_t *dst)
{
    const uint32_t mask = (1u << bits) - 1;
    uint32_t word = 0;
    unsigned held = 0;
    for (uint32_t j = 0; j < n; j++) {
        if (held < bits) {
            word |= (uint32_t)*src++ << held;
            held += 8;
        }
        dst[j] = (uint8_t)(word & mask);
        word >>= bits;
        held -= bits;
    }
}

static qn_code take_grid(void *ctx, const qn_codes_eye *e, const qn_codes_view *v, const qn_codes_part *p, qn_err *err)
{
    const struct grid_out *o = ctx;
    const qn_codes *c = o->c;
    const qn_dec_ctx cx = qn_codes_context(e, v->depth);
    qn_grid_parts g;
    QN_TRY(qn_grid_open(&cx, &v->block, v->bytes, v->n_bytes, &g, err));
    const uint32_t groups = qn_codes_groups(c), group0 = p->col0 / c->group;
    const float unit = ldexpf(1, g.head.exponent);
    for (uint32_t i = 0; i < p->n; i++) {
        const uint32_t row = v->map ? v->map[p->from + i] : p->from + i;
        const size_t at = (size_t)row * g.groups.per_row, to = (size_t)(p->to + i) * groups + group0;
        if (o->codes)
            unpack(g.codes + row * g.row_bytes, v->block.cols, g.bits, o->codes + (size_t)(p->to + i) * c->cols + p->col0);
        for (uint32_t k = 0; k < g.groups.per_row; k++) {
            if (o->scales)
                o->scales[to + k] = qn_f16_to_f32(qn_load16(g.scales + 2 * (at + k))) * unit;
            if (o->zeros)
                o->zeros[to + k] = g.zeros ? (float)g.zeros[at + k] : 0.5f * (float)qn_grid_zero2(&g.head);
        }
    }
    return QN_OK;
}

static qn_code take_fp8(void *ctx, const qn_codes_eye *e, const qn_codes_view *v, const qn_codes_part *p, qn_err *err)
{
    const struct grid_out *o = ctx;
    const qn_codes *c = o->c;
    const qn_dec_ctx cx = qn_codes_context(e, v->depth);
    qn_fp8_parts f;
    QN_TRY(qn_fp8_open(&cx, &v->block, v->bytes, v->n_bytes, &f, err));
    const uint32_t groups = qn_codes_groups(c), group0 = p->col0 / c->group;
    for (uint32_t i = 0; i < p->n; i++) {
        const uint32_t row = v->map ? v->map[p->from + i] : p->from + i;
        const size_t at = (size_t)row * f.groups.per_row, to = (size_t)(p->to + i) * groups + group0;
        if (o->codes)
            memcpy(o->codes + (size_t)(p->to + i) * c->cols + p->col0, f.codes + (size_t)row * v->block.cols, v->block.cols);
        for (uint32_t k = 0; k < f.groups.per_row; k++) {
            if (o->scales)
                o->scales[to + k] = qn_bits_f32(qn_load32(f.scales + 4 * (at + k)));
            if (o->zeros)
                o->zeros[to + k] = 0;
        }
    }
    return QN_OK;
}

qn_code qn_codes_grid(const qn_codes *c, uint64_t row0, uint32_t n, uint8_t *codes, float *scales, float *zeros, qn_arena *scratch, qn_err *err)
{
    struct grid_out o = {.c = c, .codes = codes, .scales = scales, .zeros = zeros};
    const bool fp8 = c->kind == QN_CODES_FP8;
    QN_TRY(in_range(c, fp8 ? QN_CODES_FP8 : QN_CODES_GRID, row0, n, err));
    return qn_codes_each(c, row0, n, fp8 ? take_fp8 : take_grid, &o, scratch, err);
}

struct blocks_out {
    const qn_codes *c;
    uint8_t *bytes;
};

static qn_code take_blocks(void *ctx, const qn_codes_eye *e, const qn_codes_view *v, const qn_codes_part *p, qn_err *err)
{
    const struct blocks_out *o = ctx;
    const size_t all = (size_t)qn_bytes_of_elems(o->c->block, o->c->cols), at = (size_t)qn_bytes_of_elems(o->c->block, p->col0);
    qn_blocks_parts b;
    (void)e;
    QN_TRY(qn_blocks_open(&v->block, v->bytes, v->n_bytes, &b, err));
    for (uint32_t i = 0; i < p->n; i++)
        memcpy(o->bytes + (p->to + i) * all + at, b.blocks + (v->map ? v->map[p->from + i] : p->from + i) * b.row_bytes, b.row_bytes);
    return QN_OK;
}

qn_code qn_codes_blocks(const qn_codes *c, uint64_t row0, uint32_t n, uint8_t *bytes, qn_arena *scratch, qn_err *err)
{
    QN_TRY(in_range(c, QN_CODES_BLOCKS, row0, n, err));
    return qn_codes_each(c, row0, n, take_blocks, &(struct blocks_out){c, bytes}, scratch, err);
}

/* --- decoded ------------------------------------------------------------------------------------------------------- */

static qn_code to_f32(qn_dtype t, const uint8_t *src, uint64_t n, float *dst, qn_arena *scratch, qn_err *err)
{
    enum { RUN = 4096 };
    if (t == QN_F32 || t == QN_F16 || t == QN_BF16) {
        for (uint64_t i = 0; i < n; i++)
            dst[i] = t == QN_F32   ? qn_bits_f32(qn_load32(src + 4 * i))
                     : t == QN_F16 ? qn_f16_to_f32(qn_load16(src + 2 * i))
                                   : qn_bf16_to_f32(qn_load16(src + 2 * i));
        return QN_OK;
    }
    if (qn_dtype_is_block(t))
        return qn_ggml_f32(t, src, n, dst, err);
    double *wide = qn_arena_get(scratch, RUN * sizeof *wide, 64, err);
    if (!wide)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < n; i += RUN) { /* RUN elements of any dtype are whole bytes */
        const uint64_t m = qn_min_u64(RUN, n - i);
        QN_TRY(qn_widen(t, src + qn_bytes_of_elems(t, i), m, wide, err));
        for (uint64_t k = 0; k < m; k++)
            dst[i + k] = (float)wide[k];
    }
    return QN_OK;
}

/* Input channels of a turned tensor one after the other, as many as a chunk holds: each is a run of all rows. */
static qn_code dense_turned(const qn_codes *c, uint64_t row0, uint32_t n, float *w, qn_arena *scratch, qn_err *err)
{
    const unsigned unit = qn_unit_bytes(c->dtype);
    const uint64_t row_bytes = (uint64_t)c->rows * unit;
    const uint32_t run = (uint32_t)qn_max_u64(1, qn_reader_index(qn_quern_source_reader(c->src))->objects[c->object].chunk_units / c->rows);
    uint8_t *raw = qn_arena_get(scratch, run * row_bytes, 64, err);
    float *wide = raw ? qn_arena_get(scratch, (uint64_t)c->rows * sizeof *wide, 64, err) : NULL;
    if (!wide)
        return QN_E_MEMORY;
    for (uint32_t j0 = 0; j0 < c->cols; j0 += run) {
        const uint32_t m = c->cols - j0 < run ? c->cols - j0 : run;
        QN_TRY(qn_source_tensor_read(c->src, c->tensor, j0 * row_bytes, m * row_bytes, raw, err));
        for (uint32_t j = 0; j < m; j++) {
            QN_TRY(to_f32(c->dtype, raw + j * row_bytes, c->rows, wide, scratch, err));
            for (uint32_t i = 0; i < n; i++)
                w[(size_t)i * c->cols + j0 + j] = wide[row0 + i];
        }
    }
    return QN_OK;
}

qn_code qn_codes_dense(const qn_codes *c, uint64_t row0, uint32_t n, float *w, qn_arena *scratch, qn_err *err)
{
    QN_TRY(in_range(c, QN_CODES_DENSE, row0, n, err));
    const qn_arena_mark mark = qn_arena_tell(scratch);
    qn_code rc = QN_OK;
    if (c->turned) {
        rc = dense_turned(c, row0, n, w, scratch, err);
    } else {
        const uint64_t from = qn_bytes_of_elems(c->dtype, row0 * c->cols), bytes = qn_bytes_of_elems(c->dtype, (uint64_t)n * c->cols);
        uint8_t *raw = qn_arena_get(scratch, bytes, 64, err);
        rc = raw ? qn_source_tensor_read(c->src, c->tensor, from, bytes, raw, err) : QN_E_MEMORY;
        if (rc == QN_OK)
            rc = to_f32(c->dtype, raw, (uint64_t)n * c->cols, w, scratch, err);
    }
    qn_arena_rewind(scratch, mark);
    return rc == QN_OK ? QN_OK : qn_err_in_tensor(err, rc, c->src->tensors[c->tensor].name);
}
