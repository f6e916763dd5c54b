/* codes.c: see codes.h. A chunk is looked through to the payload that holds the approximation; what it says about rows and columns is put
 * against the tensor's dims. */
#include "compress/export/codes.h"
#include "base/err.h"
#include "base/ggml.h"
#include "base/half.h"
#include "base/num.h"
#include "formats/quern/source.h"
#include "runtime/grid.h"
#include "runtime/rowdup.h"
#include "runtime/turn.h"
#include <math.h>
#include <string.h>

enum { CODEC_BLOCKS = 19 };

/* One chunk: the payload of its rows, and which of them each row is. */
struct view {
    unsigned codec;
    qn_block block;      /* of the innermost payload: cols are those of the matrix */
    const uint8_t *bytes;
    size_t n_bytes;
    const uint32_t *map; /* NULL: rows are as they lie */
    uint32_t rows;       /* of the chunk               */
    bool turned;
    unsigned depth;      /* for its decoder            */
};

/* What is needed to look at chunks. */
struct eye {
    qn_reader *reader;
    qn_worker worker;
    qn_kern kern;
    qn_arena *scratch;
    qn_arena_mark mark;
};

static void eye_open(struct eye *e, qn_source *src, qn_arena *scratch)
{
    e->reader = qn_quern_source_reader(src);
    e->scratch = scratch;
    e->mark = qn_arena_tell(scratch);
    qn_worker_init(&e->worker, src->env->alloc);
    qn_kern_init(&e->kern, src->env->cpu);
}

static void eye_close(struct eye *e)
{
    qn_worker_release(&e->worker);
    qn_arena_rewind(e->scratch, e->mark);
}

static qn_dec_ctx context(const struct eye *e, unsigned depth)
{
    return (qn_dec_ctx){.kern = &e->kern, .scratch = e->scratch, .depth = depth};
}

/* What the chunk before left in scratch is gone. */
static qn_code look(struct eye *e, uint64_t object, uint64_t chunk, struct view *v, qn_err *err)
{
    qn_payload p;
    qn_arena_rewind(e->scratch, e->mark);
    QN_TRY(qn_reader_payload(e->reader, &e->worker, object, chunk, &p, err));
    *v = (struct view){.codec = p.codec, .block = p.block, .bytes = p.bytes, .n_bytes = p.n_bytes};
    if (v->codec == QN_CODEC_TURN) {
        const qn_dec_ctx cx = context(e, 0);
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
        const qn_dec_ctx cx = context(e, 0);
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

/* The payload of BLOCKS: a type and whole rows of its blocks. */
static qn_code open_blocks(const struct view *v, qn_dtype *type, const uint8_t **rows, size_t *row_bytes, qn_err *err)
{
    const unsigned per = v->n_bytes ? qn_dtype_block_elems((qn_dtype)v->bytes[0]) : 0;
    if (!per || !qn_dtype_is_block((qn_dtype)v->bytes[0]) || v->block.cols % per)
        return QN_FAIL(err, QN_E_INPUT, 0, "blocks: no block type, or rows of %u that are no whole blocks", v->block.cols);
    *type = (qn_dtype)v->bytes[0];
    *rows = v->bytes + 1;
    *row_bytes = (size_t)qn_bytes_of_elems(*type, v->block.cols);
    if (v->block.n % v->block.cols || v->n_bytes - 1 != v->block.n / v->block.cols * *row_bytes)
        return QN_FAIL(err, QN_E_INPUT, 0, "blocks: %zu bytes for %u weights in rows of %u", v->n_bytes, v->block.n, v->block.cols);
    return QN_OK;
}

/* --- opening ------------------------------------------------------------------------------------------------------- */

static qn_codes_kind kind_of(unsigned codec)
{
    switch (codec) {
    case QN_CODEC_GRID: return QN_CODES_GRID;
    case CODEC_BLOCKS: return QN_CODES_BLOCKS;
    case QN_CODEC_VQ: return QN_CODES_VQ;
    case QN_CODEC_TRELLIS: return QN_CODES_TRELLIS;
    default: return qn_codec_is_lossy(codec) ? QN_CODES_OTHER : QN_CODES_DENSE;
    }
}

/* What one chunk alone says. */
static qn_code describe(const struct eye *e, const struct view *v, qn_codes *c, qn_err *err)
{
    static const int zero[QN_GRID_ZEROS] = {QN_ZERO_LEVEL, QN_ZERO_MIDDLE, QN_ZERO_STORED};
    c->kind = kind_of(v->codec);
    c->rows = v->rows;
    c->cols = v->block.cols;
    c->turned = v->turned;
    if (c->kind != QN_CODES_DENSE && v->block.n % v->block.cols)
        c->kind = QN_CODES_OTHER;
    if (c->kind == QN_CODES_GRID) {
        const qn_dec_ctx cx = context(e, v->depth);
        qn_grid_parts g;
        QN_TRY(qn_grid_open(&cx, &v->block, v->bytes, v->n_bytes, &g, err));
        c->bits = g.head.bits;
        c->group = g.head.group;
        c->zero = zero[g.head.zero];
        if (g.head.columnwise)
            c->kind = QN_CODES_OTHER;
    } else if (c->kind == QN_CODES_BLOCKS) {
        const uint8_t *rows;
        size_t row_bytes;
        QN_TRY(open_blocks(v, &c->block, &rows, &row_bytes, err));
    }
    return QN_OK;
}

/* A turned tensor is cut between columns: groups go on from one chunk to the next only when each holds whole ones. */
static bool goes_on(const qn_codes *all, const qn_codes *one, bool last)
{
    if (one->kind != all->kind || one->bits != all->bits || one->zero != all->zero || one->block != all->block || one->turned != all->turned)
        return false;
    if (!one->turned)
        return one->cols == all->cols && one->group == all->group;
    if (one->kind != QN_CODES_GRID || one->rows != all->rows)
        return false;
    return (last ? one->group <= all->group && (one->group == all->group || one->group == one->cols) : one->group == all->group) &&
           all->cols % all->group == 0;
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

static qn_code open_chunks(struct eye *e, qn_codes *c, uint64_t n_elems, const qn_source_tensor *t, qn_err *err)
{
    const qn_index *ix = qn_reader_index(e->reader);
    const uint64_t n = qn_index_n_chunks(ix, c->object);
    bool same = n > 0;
    uint64_t cols = 0;
    qn_codes first = *c;
    for (uint64_t i = 0; i < n; i++) {
        struct view v;
        qn_codes one = *c;
        QN_TRY(look(e, c->object, i, &v, err));
        QN_TRY(describe(e, &v, &one, err));
        if (qn_codec_is_lossy(v.codec) && !c->codec)
            c->codec = qn_codec_tab[v.codec].name;
        if (i == 0)
            first = one;
        same = same && goes_on(&first, &one, i + 1 == n);
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
    struct eye e;
    c->object = t->object;
    eye_open(&e, src, scratch);
    const qn_code rc = open_chunks(&e, c, n_elems, t, err);
    eye_close(&e);
    return rc == QN_OK ? QN_OK : qn_err_in_tensor(err, rc, t->name);
}

/* --- reading ------------------------------------------------------------------------------------------------------- */

/* Rows [row0, row0 + n) of the tensor as a chunk has them: its rows from `from`, `n` of them, are the caller's from `to`; its columns begin at col0. */
struct part {
    uint32_t from, to, n, col0;
};

static qn_code in_range(const qn_codes *c, qn_codes_kind kind, uint64_t row0, uint32_t n, qn_err *err)
{
    const uint64_t rows = (uint64_t)c->rows * c->parts;
    if (kind != QN_CODES_DENSE && c->kind != kind)
        return QN_BUG(err, "codes: of another kind");
    return row0 <= rows && n <= rows - row0 ? QN_OK : QN_BUG(err, "codes: rows %llu + %u of %llu", (unsigned long long)row0, n, (unsigned long long)rows);
}

typedef qn_code (*take_fn)(void *ctx, const struct eye *e, const struct view *v, const struct part *p, qn_err *err);

static qn_code each_chunk(const qn_codes *c, uint64_t row0, uint32_t n, take_fn take, void *ctx, qn_arena *scratch, qn_err *err)
{
    struct eye e;
    qn_code rc = QN_OK;
    eye_open(&e, c->src, scratch);
    const qn_index *ix = qn_reader_index(e.reader);
    const uint32_t units = ix->objects[c->object].chunk_units;
    const uint64_t chunks = qn_index_n_chunks(ix, c->object);
    const uint64_t first = c->turned ? 0 : row0 / c->chunk_rows, end = c->turned ? chunks : qn_ceil_div(row0 + n, c->chunk_rows);
    for (uint64_t i = first; n && i < end && rc == QN_OK; i++) {
        struct view v;
        rc = look(&e, c->object, i, &v, err);
        if (rc != QN_OK)
            break;
        struct part p = {.from = (uint32_t)row0, .n = n};
        if (c->turned) {
            p.col0 = (uint32_t)(i * (units / c->rows));
        } else {
            const uint64_t begin = i * c->chunk_rows, from = qn_max_u64(begin, row0), to = qn_min_u64(begin + v.rows, row0 + n);
            p = (struct part){.from = (uint32_t)(from - begin), .to = (uint32_t)(from - row0), .n = (uint32_t)(to - from)};
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

static qn_code take_grid(void *ctx, const struct eye *e, const struct view *v, const struct part *p, qn_err *err)
{
    const struct grid_out *o = ctx;
    const qn_codes *c = o->c;
    const qn_dec_ctx cx = context(e, v->depth);
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

qn_code qn_codes_grid(const qn_codes *c, uint64_t row0, uint32_t n, uint8_t *codes, float *scales, float *zeros, qn_arena *scratch, qn_err *err)
{
    struct grid_out o = {.c = c, .codes = codes, .scales = scales, .zeros = zeros};
    QN_TRY(in_range(c, QN_CODES_GRID, row0, n, err));
    return each_chunk(c, row0, n, take_grid, &o, scratch, err);
}

static qn_code take_blocks(void *ctx, const struct eye *e, const struct view *v, const struct part *p, qn_err *err)
{
    uint8_t *to = ctx;
    const uint8_t *rows;
    size_t row_bytes;
    qn_dtype type;
    (void)e;
    QN_TRY(open_blocks(v, &type, &rows, &row_bytes, err));
    for (uint32_t i = 0; i < p->n; i++)
        memcpy(to + (p->to + i) * row_bytes, rows + (v->map ? v->map[p->from + i] : p->from + i) * row_bytes, row_bytes);
    return QN_OK;
}

qn_code qn_codes_blocks(const qn_codes *c, uint64_t row0, uint32_t n, uint8_t *bytes, qn_arena *scratch, qn_err *err)
{
    QN_TRY(in_range(c, QN_CODES_BLOCKS, row0, n, err));
    return each_chunk(c, row0, n, take_blocks, bytes, scratch, err);
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
