/* infos.c (gguf): tensor infos → objects. Tensors lie in the order in which they are listed, each at the next multiple of the
 * alignment: anything else (a hole, an overlap, another order) is refused, as llama.cpp does. */
#include "base/err.h"
#include "base/num.h"
#include "formats/fileset.h"
#include "formats/gguf/gguf.h"
#include <string.h>

enum { NAME_BYTES_MAX = 4096, GGML_NAME_MAX = 63, GGML_RANK_MAX = 4 };

struct infos {
    const qn_gguf *g;
    qn_source *s;
    qn_gguf_in in;
    uint64_t next;    /* where the data of the next tensor must begin, from the start of the data */
    uint64_t end;     /* where those of the last one end, without padding                         */
    uint64_t first;   /* the first object that is a tensor                                        */
    uint64_t long_names;
};

qn_dtype qn_gguf_dtype(uint32_t type, const char **why)
{
    *why = "";
    switch (type) {
    case 0:
        return QN_F32;
    case 1:
        return QN_F16;
    case 24:
        return QN_I8;
    case 25:
        return QN_I16;
    case 26:
        return QN_I32;
    case 27:
        return QN_I64;
    case 28:
        return QN_F64;
    case 30:
        return QN_BF16;
    case 9:
    case 15:
        *why = ", a type for computing that files do not hold";
        return QN_BYTES;
    case 4:
    case 5:
    case 31:
    case 32:
    case 33:
    case 36:
    case 37:
    case 38:
        *why = ", which ggml has given up";
        return QN_BYTES;
    default:
        break;
    }
    if (type < QN_DTYPE_COUNT - 64 && qn_dtype_name((qn_dtype)(64 + type)))
        return (qn_dtype)(64 + type);
    return QN_BYTES;
}

static qn_code take_shape(struct infos *t, qn_object *o, uint64_t dims[GGML_RANK_MAX], qn_err *err)
{
    uint64_t at = t->in.at;
    uint32_t rank;
    QN_TRY(qn_gguf_in_u32(&t->in, &rank, "number of dimensions", err));
    if (rank > GGML_RANK_MAX)
        return QN_FAIL(err, QN_E_INPUT, at, "%lu dimensions: at most %d are allowed", (unsigned long)rank, GGML_RANK_MAX);
    o->rank = (uint8_t)rank;
    for (unsigned i = 0; i < rank; i++) { /* the file has the innermost first */
        at = t->in.at;
        QN_TRY(qn_gguf_in_u64(&t->in, &dims[rank - 1 - i], "dimension", err));
        if (dims[rank - 1 - i] > QN_DIM_MAX)
            return QN_FAIL(err, QN_E_INPUT, at, "dimension %llu: at most 2^48 is allowed",
                           (unsigned long long)dims[rank - 1 - i]);
    }
    return QN_OK;
}

static qn_code take_type(struct infos *t, qn_object *o, const uint64_t *dims, uint64_t shape_at, qn_err *err)
{
    const uint64_t at = t->in.at;
    uint32_t type;
    const char *why;
    uint64_t n_elems;
    QN_TRY(qn_gguf_in_u32(&t->in, &type, "tensor type", err));
    const qn_dtype d = qn_gguf_dtype(type, &why);
    if (d == QN_BYTES)
        return QN_FAIL(err, QN_E_UNSUPPORTED, at, "type %lu%s: F32, F16, BF16, F64, integers and ggml's quantized types are read",
                       (unsigned long)type, why);
    o->dtype = (uint8_t)d;
    const unsigned block = qn_dtype_block_elems(d);
    if (qn_dtype_is_block(d) && (o->rank == 0 || dims[o->rank - 1] % block != 0))
        return QN_FAIL(err, QN_E_INPUT, shape_at, "rows of %llu elements in %s: multiples of %u are allowed",
                       (unsigned long long)(o->rank ? dims[o->rank - 1] : 1), qn_dtype_name(d), block);
    if (!qn_shape_bytes(d, dims, o->rank, &n_elems, &o->n_bytes))
        return QN_FAIL(err, QN_E_INPUT, shape_at, "shape: its size overflows");
    return QN_OK;
}

static qn_code take_offset(struct infos *t, qn_object *o, qn_err *err)
{
    const uint64_t at = t->in.at;
    bool ovf = false;
    QN_TRY(qn_gguf_in_u64(&t->in, &o->off, "tensor offset", err));
    if (o->off != t->next)
        return QN_FAIL(err, QN_E_INPUT, at, "data %s: begins at %llu, %llu is expected (tensors lie as listed, padded to %llu)",
                       o->off < t->next ? "overlaps" : "leaves a hole", (unsigned long long)o->off,
                       (unsigned long long)t->next, (unsigned long long)t->g->alignment);
    t->end = qn_add(o->off, o->n_bytes, &ovf);
    t->next = qn_align_up(t->end, t->g->alignment, &ovf);
    /* more than the file, whatever the header still takes: said here, where the tensor is known */
    if (ovf || t->end > t->g->n_bytes)
        return QN_FAIL(err, QN_E_INPUT, at, "data of %llu bytes at %llu: the file has %llu bytes in all",
                       (unsigned long long)o->n_bytes, (unsigned long long)o->off, (unsigned long long)t->g->n_bytes);
    return QN_OK;
}

static qn_code take_info(struct infos *t, qn_err *err)
{
    qn_object o = {.kind = QN_OBJECT_TENSOR};
    uint64_t dims[GGML_RANK_MAX];
    QN_TRY(qn_gguf_in_name(&t->in, &t->s->arena, NAME_BYTES_MAX, "tensor name", &o.name, err));
    t->long_names += strlen(o.name) > GGML_NAME_MAX;
    const uint64_t shape_at = t->in.at;
    qn_code rc = take_shape(t, &o, dims, err);
    if (rc == QN_OK)
        rc = take_type(t, &o, dims, shape_at, err);
    if (rc == QN_OK)
        rc = take_offset(t, &o, err);
    QN_TRY(qn_err_in_tensor(err, rc, o.name));
    uint64_t *own = qn_arena_get(&t->s->arena, o.rank * sizeof *own, 8, err);
    if (!own)
        return QN_E_MEMORY;
    memcpy(own, dims, o.rank * sizeof *own);
    o.dims = own;
    return qn_fileset_add_object(t->s, &o, err);
}

/* The tensors found: moved behind the header, with their paddings between. */
static qn_code lay_out(struct infos *t, uint64_t data_off, qn_err *err)
{
    qn_source *s = t->s;
    const uint64_t n = t->g->n_tensors, n_file = t->g->n_bytes;
    uint64_t n_gaps = 0;
    for (uint64_t i = 0; i < n; i++) {
        const qn_object *o = &s->objects[t->first + i];
        n_gaps += (o->n_bytes & (t->g->alignment - 1)) != 0;
    }
    for (uint64_t i = 0; i < n_gaps; i++)
        QN_TRY(qn_fileset_add_object(s, &(qn_object){.name = ""}, err));
    qn_object *to = s->objects + t->first + n + n_gaps;
    for (uint64_t i = n; i > 0; i--) { /* from the back: nothing is overwritten before it has moved */
        qn_object o = s->objects[t->first + i - 1];
        o.off += data_off;
        const uint64_t end = o.off + o.n_bytes, pad = -end & (t->g->alignment - 1);
        if (pad)
            *--to = (qn_object){.name = "", .off = end, .n_bytes = qn_min_u64(pad, n_file - end), .file = o.file};
        *--to = o;
    }
    const qn_object *last = &s->objects[s->n_objects - 1];
    if (n_gaps && last->kind == QN_OBJECT_BLOB && last->n_bytes == 0) { /* the file ends without the last padding */
        s->n_objects--;
        s->files[s->n_files - 1].n_objects--;
    }
    return QN_OK;
}

static qn_code check_end(const struct infos *t, uint64_t data_off, qn_err *err)
{
    const uint64_t n_file = t->g->n_bytes, n = t->g->n_tensors;
    if (n == 0) /* a vocabulary alone: with or without the padding before data that are not there */
        return n_file == t->in.at || n_file == data_off ? QN_OK
               : QN_FAIL(err, QN_E_INPUT, t->in.at, "%llu bytes at the end belong to no tensor",
                         (unsigned long long)(n_file - t->in.at));
    const uint64_t end = data_off + t->end;
    const qn_object *last = &t->s->objects[t->s->n_objects - 1];
    if (n_file < data_off || n_file < end)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, n_file, "data end at byte %llu, the file at %llu",
                                             (unsigned long long)end, (unsigned long long)n_file), last->name);
    if (n_file != end && n_file != data_off + t->next)
        return QN_FAIL(err, QN_E_INPUT, end, "%llu bytes at the end belong to no tensor: 0, or %llu of padding, are allowed",
                       (unsigned long long)(n_file - end), (unsigned long long)(t->next - t->end));
    return QN_OK;
}

qn_code qn_gguf_add_tensors(const qn_gguf *g, qn_source *s, qn_err *err)
{
    struct infos t = {.g = g, .s = s};
    bool ovf = false;
    qn_gguf_in_begin(&t.in, g, g->infos_off);
    QN_TRY(qn_fileset_add_object(s, &(qn_object){.name = ""}, err));
    t.first = s->n_objects;
    for (uint64_t i = 0; i < g->n_tensors; i++)
        QN_TRY(take_info(&t, err));
    const uint64_t data_off = qn_align_up(t.in.at, g->alignment, &ovf);
    QN_TRY(check_end(&t, data_off, err));
    s->objects[t.first - 1].n_bytes = g->n_tensors ? data_off : g->n_bytes;
    if (t.long_names)
        qn_source_warn(s, "%llu tensor names are longer than the %d bytes that ggml takes", (unsigned long long)t.long_names,
                       GGML_NAME_MAX);
    return lay_out(&t, data_off, err);
}
