/* npy_write.c: see npy_write.h.
 *
 *   "\x93NUMPY" 1 0 │ u16 header length │ {'descr': …, 'fortran_order': False, 'shape': (…), } spaces \n │ elements
 *
 * The magic, the length and the header together are a multiple of 64 bytes. With at most QN_RANK_MAX dimensions a header
 * is always short enough for version 1.0. */
#include "formats/npz/npy_write.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "runtime/container.h"
#include <stdio.h>
#include <string.h>

#define TMP_SUFFIX ".quern-npy"

enum {
    HEADER_MAX = 1024,
    PREFIX_BYTES = 10
};

#define BLOCKS {"|u1", "uint8", true}

/* How a dtype stands in numpy. as_bits: there is no such dtype, the bits go into an unsigned one. */
static const struct {
    const char *descr, *name;
    bool as_bits;
} tab[QN_DTYPE_COUNT] = {
    [QN_BOOL] = {"|b1", "bool", false},
    [QN_F4] = {"|u1", "uint8", true},
    [QN_F6_E2M3] = {"|u1", "uint8", true},
    [QN_F6_E3M2] = {"|u1", "uint8", true},
    [QN_U8] = {"|u1", "uint8", false},
    [QN_I8] = {"|i1", "int8", false},
    [QN_F8_E5M2] = {"|u1", "uint8", true},
    [QN_F8_E4M3] = {"|u1", "uint8", true},
    [QN_F8_E8M0] = {"|u1", "uint8", true},
    [QN_F8_E4M3FNUZ] = {"|u1", "uint8", true},
    [QN_F8_E5M2FNUZ] = {"|u1", "uint8", true},
    [QN_I16] = {"<i2", "int16", false},
    [QN_U16] = {"<u2", "uint16", false},
    [QN_F16] = {"<f2", "float16", false},
    [QN_BF16] = {"<u2", "uint16", true},
    [QN_I32] = {"<i4", "int32", false},
    [QN_U32] = {"<u4", "uint32", false},
    [QN_F32] = {"<f4", "float32", false},
    [QN_C64] = {"<c8", "complex64", false},
    [QN_F64] = {"<f8", "float64", false},
    [QN_I64] = {"<i8", "int64", false},
    [QN_U64] = {"<u8", "uint64", false},
    [QN_Q4_0] = BLOCKS, [QN_Q4_1] = BLOCKS, [QN_Q5_0] = BLOCKS, [QN_Q5_1] = BLOCKS, [QN_Q8_0] = BLOCKS,
    [QN_Q2_K] = BLOCKS, [QN_Q3_K] = BLOCKS, [QN_Q4_K] = BLOCKS, [QN_Q5_K] = BLOCKS, [QN_Q6_K] = BLOCKS,
    [QN_IQ2_XXS] = BLOCKS, [QN_IQ2_XS] = BLOCKS, [QN_IQ3_XXS] = BLOCKS, [QN_IQ1_S] = BLOCKS, [QN_IQ4_NL] = BLOCKS,
    [QN_IQ3_S] = BLOCKS, [QN_IQ2_S] = BLOCKS, [QN_IQ4_XS] = BLOCKS, [QN_IQ1_M] = BLOCKS, [QN_TQ1_0] = BLOCKS,
    [QN_TQ2_0] = BLOCKS, [QN_MXFP4] = BLOCKS, [QN_NVFP4] = BLOCKS, [QN_Q1_0] = BLOCKS, [QN_Q2_0] = BLOCKS,
};

struct job {
    qn_source *src;
    uint64_t tensor, off, n_bytes; /* the bytes of the tensor that are wanted */
    uint64_t piece_bytes;          /* read, converted and written at a time */
    bool widen, halve;
    qn_npy_written w;
    qn_file file;
    uint64_t at; /* in the file */
    uint8_t *raw, *wide; /* `wide`: a piece as doubles, then narrowed to f32 in place */
};

static bool is_narrow_float(qn_dtype t)
{
    return qn_dtype_bits(t) < 32 && (tab[t].as_bits || t == QN_F16);
}

static bool is_float(qn_dtype t)
{
    return t == QN_F32 || t == QN_F64 || is_narrow_float(t);
}

/* Packed elements are written as their bytes: in the innermost dimension when it fills whole bytes, else flat. */
static void shape_of_bytes(qn_npy_written *w, uint64_t n_bytes)
{
    if (w->rank > 0 && w->dims[w->rank - 1] % qn_dtype_block_elems(w->dtype) == 0) {
        w->dims[w->rank - 1] = qn_bytes_of_elems(w->dtype, w->dims[w->rank - 1]);
        return;
    }
    w->rank = 1;
    w->dims[0] = n_bytes;
}

static qn_code plan(struct job *j, const qn_source_tensor *o, const qn_npy_options *opt, qn_err *err)
{
    const qn_dtype t = (qn_dtype)o->dtype;
    const unsigned per = qn_dtype_block_elems(t);
    uint64_t n, n_bytes;
    if (t >= QN_DTYPE_COUNT || !tab[t].descr)
        return QN_BUG(err, "tensor %llu has no dtype", (unsigned long long)j->tensor);
    if (!qn_shape_bytes(t, o->dims, o->rank, &n, &n_bytes))
        return QN_BUG(err, "tensor of impossible shape");
    j->w = (qn_npy_written){.dtype = t, .rank = o->rank};
    memcpy(j->w.dims, o->dims, o->rank * sizeof *o->dims);
    j->n_bytes = n_bytes;
    /* as a packed file is cut: a piece then takes one decode */
    j->piece_bytes = qn_max_u64(1, (uint64_t)qn_chunk_units(t, o->dims, o->rank, n_bytes) * qn_unit_bytes(t));
    if (opt->some_rows) {
        const uint64_t rows = o->rank ? o->dims[0] : 1;
        if (opt->first_row > rows || opt->n_rows > rows - opt->first_row)
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "rows %llu + %llu wanted, the tensor has %llu",
                           (unsigned long long)opt->first_row, (unsigned long long)opt->n_rows, (unsigned long long)rows);
        const uint64_t per_row = rows ? n / rows : 0;
        if (opt->first_row * per_row % per != 0 || opt->n_rows * per_row % per != 0)
            return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "rows of %llu elements: %s lies in blocks of %u",
                           (unsigned long long)per_row, qn_dtype_name(t), per);
        j->off = qn_bytes_of_elems(t, opt->first_row * per_row);
        j->n_bytes = qn_bytes_of_elems(t, opt->n_rows * per_row);
        if (o->rank)
            j->w.dims[0] = opt->n_rows;
    }
    j->halve = opt->halve && is_float(t) && t != QN_F16;
    j->widen = j->halve || (opt->widen && is_narrow_float(t));
    if (j->widen && (t == QN_F6_E2M3 || t == QN_F6_E3M2))
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%s cannot be widened: its bit order is not specified",
                       qn_dtype_name(t));
    const char *descr = j->halve ? "<f2" : j->widen ? "<f4" : tab[t].descr;
    memcpy(j->w.descr, descr, sizeof j->w.descr);
    j->w.numpy_name = j->halve ? "float16" : j->widen ? "float32" : tab[t].name;
    j->w.as_bits = tab[t].as_bits && !j->widen;
    if (per > 1 && !j->widen)
        shape_of_bytes(&j->w, j->n_bytes);
    return QN_OK;
}

/* The whole head of the file; returns its length. */
static size_t make_header(const qn_npy_written *w, uint8_t head[HEADER_MAX])
{
    char *text = (char *)head + PREFIX_BYTES;
    const size_t room = HEADER_MAX - PREFIX_BYTES;
    size_t n = (size_t)snprintf(text, room, "{'descr': '%s', 'fortran_order': False, 'shape': (", w->descr);
    for (unsigned i = 0; i < w->rank; i++)
        n += (size_t)snprintf(text + n, room - n, i ? ", %llu" : "%llu", (unsigned long long)w->dims[i]);
    n += (size_t)snprintf(text + n, room - n, w->rank == 1 ? ",), }" : "), }");
    const size_t total = (PREFIX_BYTES + n + 1 + 63) / 64 * 64;
    memset(text + n, ' ', total - PREFIX_BYTES - n - 1);
    head[total - 1] = '\n';
    memcpy(head, "\x93NUMPY\x01\x00", 8);
    qn_store16(head + 8, (uint16_t)(total - PREFIX_BYTES));
    return total;
}

/* n elements in j->raw → f32 or f16 at the start of j->wide. A bf16 that is widened goes by its bits, so that signalling NaNs survive. */
static qn_code widen_piece(struct job *j, uint64_t n, qn_err *err)
{
    const double *d = (const double *)(const void *)j->wide;
    if (j->w.dtype == QN_BF16 && !j->halve) {
        for (uint64_t i = 0; i < n; i++)
            qn_store32(j->wide + 4 * i, (uint32_t)qn_load16(j->raw + 2 * i) << 16);
        return QN_OK;
    }
    QN_TRY(qn_widen(j->w.dtype, j->raw, n, (double *)(void *)j->wide, err));
    for (uint64_t i = 0; i < n; i++) /* element i lies behind what is stored */
        if (j->halve)
            qn_store16(j->wide + 2 * i, qn_f32_to_f16((float)d[i]));
        else
            qn_store32(j->wide + 4 * i, qn_f32_bits((float)d[i]));
    return QN_OK;
}

static qn_code emit(struct job *j, qn_npy_put_fn put, void *ctx, qn_err *err)
{
    uint8_t head[HEADER_MAX];
    QN_TRY(put(ctx, head, make_header(&j->w, head), err));
    for (uint64_t done = 0; done < j->n_bytes;) {
        QN_TRY(qn_env_check(j->src->env, err));
        const uint64_t off = j->off + done;
        const uint64_t n = qn_min_u64(j->piece_bytes - off % j->piece_bytes, j->n_bytes - done);
        QN_TRY(qn_source_tensor_read(j->src, j->tensor, off, n, j->raw, err));
        uint64_t n_out = n;
        if (j->widen) {
            const uint64_t n_elems = qn_elems_of_bytes(j->w.dtype, n);
            n_out = n_elems * (j->halve ? 2 : 4);
            QN_TRY(widen_piece(j, n_elems, err));
        }
        QN_TRY(put(ctx, j->widen ? j->wide : j->raw, n_out, err));
        done += n;
    }
    return QN_OK;
}

static uint64_t file_bytes(const struct job *j)
{
    uint8_t head[HEADER_MAX];
    const uint64_t n = j->widen ? qn_elems_of_bytes(j->w.dtype, j->n_bytes) * (j->halve ? 2 : 4) : j->n_bytes;
    return make_header(&j->w, head) + n;
}

static qn_code prepare(struct job *j, const qn_npy_options *opt, qn_err *err)
{
    const qn_source_tensor *o = &j->src->tensors[j->tensor];
    QN_TRY(qn_err_in_path(err, qn_err_in_tensor(err, plan(j, o, opt, err), o->name), j->src->path));
    j->w.n_bytes = file_bytes(j);
    return QN_OK;
}

static qn_code get_buffers(struct job *j, qn_err *err)
{
    const qn_alloc *alloc = j->src->env->alloc;
    j->raw = qn_mem_get(alloc, j->piece_bytes, err);
    j->wide = j->raw && j->widen ? qn_mem_get(alloc, qn_elems_of_bytes(j->w.dtype, j->piece_bytes) * sizeof(double), err) : NULL;
    return j->raw && (j->wide || !j->widen) ? QN_OK : QN_E_MEMORY;
}

static void put_buffers(struct job *j)
{
    qn_mem_put(j->src->env->alloc, j->raw);
    qn_mem_put(j->src->env->alloc, j->wide);
}

qn_code qn_npy_emit(qn_source *src, uint64_t tensor, const qn_npy_options *opt, qn_npy_put_fn put, void *ctx, qn_npy_written *out, qn_err *err)
{
    struct job j = {.src = src, .tensor = tensor, .file = QN_FILE_CLOSED};
    QN_TRY(prepare(&j, opt, err));
    if (out)
        *out = j.w;
    if (!put)
        return QN_OK;
    qn_code rc = get_buffers(&j, err);
    if (rc == QN_OK)
        rc = emit(&j, put, ctx, err);
    put_buffers(&j);
    return rc;
}

static qn_code put_in_file(void *ctx, const void *p, uint64_t n, qn_err *err)
{
    struct job *j = ctx;
    QN_TRY(qn_file_write(&j->file, p, n, j->at, err));
    j->at += n;
    return QN_OK;
}

static qn_code write_and_publish(struct job *j, const char *tmp, const char *path, qn_err *err)
{
    const qn_env *env = j->src->env;
    (void)env->fs->unlink(env->fs->ctx, tmp); /* of a run that was cut */
    QN_TRY(qn_file_open(&j->file, env->fs, env->alloc, tmp, QN_OPEN_NEW, err));
    qn_code rc = emit(j, put_in_file, j, err);
    if (rc == QN_OK)
        rc = qn_file_sync(&j->file, err);
    if (rc == QN_OK)
        rc = qn_file_close(&j->file, err);
    if (rc == QN_OK)
        rc = qn_fs_publish(env->fs, env->alloc, tmp, path, err);
    qn_file_drop(&j->file);
    if (rc != QN_OK)
        (void)env->fs->unlink(env->fs->ctx, tmp);
    return rc;
}

static qn_code check_output(const qn_env *env, const char *path, bool overwrite, qn_err *err)
{
    qn_stat st;
    if (env->fs->stat(env->fs->ctx, path, &st) != 0)
        return QN_OK;
    if (st.is_dir)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "is a folder: name the file to write");
    return overwrite ? QN_OK : QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "exists: give --force to replace it");
}

qn_code qn_npy_write(qn_source *src, uint64_t tensor, const char *path, const qn_npy_options *opt, qn_npy_written *out,
                     qn_err *err)
{
    static const qn_npy_options none;
    struct job j = {.src = src, .tensor = tensor, .file = QN_FILE_CLOSED};
    opt = opt ? opt : &none;
    QN_TRY(qn_err_in_path(err, check_output(src->env, path, opt->overwrite, err), path));
    QN_TRY(prepare(&j, opt, err));
    char *tmp = qn_path_cat(src->env->alloc, path, TMP_SUFFIX, err);
    qn_code rc = tmp ? get_buffers(&j, err) : QN_E_MEMORY;
    if (rc == QN_OK)
        rc = write_and_publish(&j, tmp, path, err);
    qn_mem_put(src->env->alloc, tmp);
    put_buffers(&j);
    if (rc == QN_OK && out)
        *out = j.w;
    return rc;
}

qn_code qn_npy_write_check(const qn_env *env, const char *path, const qn_npy_options *opt, qn_err *err)
{
    return qn_err_in_path(err, check_output(env, path, opt && opt->overwrite, err), path);
}

struct array {
    const uint8_t *values;
};

static qn_code read_array(qn_source *s, uint64_t tensor, uint64_t off, uint64_t n, void *dst, qn_err *err)
{
    const struct array *a = s->impl;
    (void)tensor;
    (void)err;
    memcpy(dst, a->values + off, n);
    return QN_OK;
}

/* A source that holds nothing but this array, for as long as it is written. */
qn_code qn_npy_write_array(const qn_env *env, const char *name, qn_dtype dtype, const uint64_t *dims, unsigned rank,
                           const void *values, const char *path, const qn_npy_options *opt, qn_npy_written *out, qn_err *err)
{
    static const qn_source_ops ops = {.format = "array", .read_tensor = read_array};
    struct array a = {.values = values};
    uint64_t n, n_bytes;
    if (rank > QN_RANK_MAX || !qn_shape_bytes(dtype, dims, rank, &n, &n_bytes))
        return QN_BUG(err, "an array of impossible shape");
    qn_source_tensor t = {.name = name, .dims = dims, .n_bytes = n_bytes, .object = QN_NO_OBJECT, .dtype = (uint8_t)dtype,
                          .rank = (uint8_t)rank};
    qn_source s = {.ops = &ops, .env = env, .path = name, .n_tensors = 1, .tensors = &t, .impl = &a};
    return qn_npy_write(&s, 0, path, opt, out, err);
}
