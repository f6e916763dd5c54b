/* runs.c: see runs.h, and qn_onnx_decode in model.h. */
#include "formats/onnx/runs.h"
#include "base/err.h"
#include "base/num.h"

enum { FLOATS = 4, DOUBLES = 10 };

unsigned qn_onnx_field_width(unsigned field)
{
    return field == FLOATS ? 4 : field == DOUBLES ? 8 : 0;
}

/* One value at *at, which moves behind it. */
static qn_code step(qn_wire *w, const qn_onnx_run *r, unsigned width, uint64_t *at, uint64_t *v, qn_err *err)
{
    const uint64_t end = r->span.off + r->span.n_bytes;
    uint8_t b[8] = {0};
    if (!r->packed) {
        QN_TRY(qn_wire_varint(w, at, end, v, err)); /* its tag */
    }
    if (width == 0)
        return qn_wire_varint(w, at, end, v, err);
    if (width > end - *at)
        return qn_onnx_changed(*at, err);
    QN_TRY(qn_wire_bytes(w, *at, width, b, err));
    *at += width;
    *v = qn_load64(b);
    return QN_OK;
}

/* Counts and checks a run's values. With marks: notes where every MARK_ELEMS-th one stands, n_marks at most. */
static qn_code scan(qn_onnx_parse *p, qn_onnx_run *r, unsigned width, const qn_onnx_dtype_info *info, uint64_t *marks,
                    uint64_t n_marks, qn_err *err)
{
    const uint64_t end = r->span.off + r->span.n_bytes;
    uint64_t n = 0, v;
    for (uint64_t at = r->span.off; at < end; n++) {
        const uint64_t here = at;
        if (marks && n && n % QN_ONNX_MARK_ELEMS == 0) {
            if (n / QN_ONNX_MARK_ELEMS > n_marks)
                return qn_onnx_changed(at, err);
            marks[n / QN_ONNX_MARK_ELEMS - 1] = at;
        }
        QN_TRY(step(&p->wire, r, width, &at, &v, err));
        if (width == 0 && ((int64_t)v < info->least || (int64_t)v > info->most))
            return QN_FAIL(err, QN_E_INPUT, here, "value %lld: %s has %lld to %lld", (long long)v, info->name,
                           (long long)info->least, (long long)info->most);
    }
    r->n = n;
    return QN_OK;
}

static qn_code finish_run(qn_onnx_parse *p, qn_onnx_run *r, unsigned width, const qn_onnx_dtype_info *info, qn_err *err)
{
    uint64_t *marks = NULL;
    if (r->packed && width) {
        r->n = r->span.n_bytes / width;
        if (r->span.n_bytes % width)
            return QN_FAIL(err, QN_E_INPUT, r->span.off, "%llu bytes are no whole number of values",
                           (unsigned long long)r->span.n_bytes);
        return QN_OK;
    }
    QN_TRY(scan(p, r, width, info, NULL, 0, err));
    if (r->n <= QN_ONNX_MARK_ELEMS)
        return QN_OK;
    const uint64_t n = r->n, n_marks = (n - 1) / QN_ONNX_MARK_ELEMS;
    QN_TRY(qn_onnx_take(p, n_marks, sizeof *marks, &marks, err));
    QN_TRY(scan(p, r, width, info, marks, n_marks, err));
    if (r->n != n)
        return qn_onnx_changed(r->span.off, err);
    r->marks = marks;
    return QN_OK;
}

/* The runs of a field: each packed one, and single values that touch as one. out NULL: only counts. */
static qn_code find_runs(qn_onnx_parse *p, qn_wire_msg m, unsigned number, qn_onnx_run *out, uint32_t room, uint32_t *n,
                         qn_err *err)
{
    qn_wire_field f;
    bool more;
    uint64_t end = UINT64_MAX; /* of the singles before */
    const unsigned width = qn_onnx_field_width(number);
    const qn_wire_type single = width == 4 ? QN_WIRE_FIXED32 : width == 8 ? QN_WIRE_FIXED64 : QN_WIRE_VARINT;
    for (*n = 0;;) {
        QN_TRY(qn_wire_next(&p->wire, &m, &f, &more, err));
        if (!more)
            return QN_OK;
        if (f.number != number || (f.type == QN_WIRE_BYTES && f.n == 0))
            continue;
        const bool packed = f.type == QN_WIRE_BYTES, joins = !packed && f.off == end;
        if (!packed)
            QN_TRY(qn_onnx_expect(&f, single, err));
        end = packed ? UINT64_MAX : m.at;
        if (!joins && ++*n > (out ? room : UINT32_MAX - 1))
            return qn_onnx_changed(f.off, err);
        if (out && joins)
            out[*n - 1].span.n_bytes = m.at - out[*n - 1].span.off;
        else if (out)
            out[*n - 1] = (qn_onnx_run){.span = {packed ? f.at : f.off, packed ? f.n : m.at - f.off}, .packed = packed};
    }
}

qn_code qn_onnx_read_runs(qn_onnx_parse *p, qn_wire_msg m, unsigned number, const qn_onnx_dtype_info *info,
                          qn_onnx_tensor *t, uint64_t *n_values, qn_err *err)
{
    qn_onnx_run *runs = NULL;
    uint32_t n, n_again;
    QN_TRY(find_runs(p, m, number, NULL, 0, &n, err));
    QN_TRY(qn_onnx_take(p, n, sizeof *runs, &runs, err));
    QN_TRY(find_runs(p, m, number, runs, n, &n_again, err));
    if (n_again != n)
        return qn_onnx_changed(m.at, err);
    *n_values = 0;
    for (uint32_t i = 0; i < n; i++) {
        runs[i].first = *n_values;
        QN_TRY(finish_run(p, &runs[i], qn_onnx_field_width(number), info, err));
        *n_values += runs[i].n;
    }
    t->runs = runs;
    t->n_runs = n;
    return QN_OK;
}

/* ---- reading them ---- */

static uint32_t run_of(const qn_onnx_tensor *t, uint64_t value)
{
    uint32_t lo = 0, hi = t->n_runs;
    while (hi - lo > 1) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (t->runs[mid].first <= value)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/* The part of [off, off + n) that one run holds; *done: how much. Values are `size` bytes each. */
static qn_code decode_run(const qn_onnx_run *r, unsigned width, unsigned size, qn_wire *w, uint64_t off, uint64_t n,
                          uint8_t *dst, uint64_t *done, qn_err *err)
{
    const uint64_t begin = r->first * size, end = (r->first + r->n) * size;
    const uint64_t take = qn_min_u64(n, end - off);
    *done = take;
    if (r->packed && width) /* as they lie in the file */
        return w->read(w->ctx, dst, take, r->span.off + (off - begin), err);
    uint64_t i = (off - begin) / size, at = r->span.off, k = 0;
    if (r->marks && i >= QN_ONNX_MARK_ELEMS) {
        k = i / QN_ONNX_MARK_ELEMS;
        at = r->marks[k - 1];
        k *= QN_ONNX_MARK_ELEMS;
    }
    for (uint64_t put = 0; put < take; k++) {
        uint64_t v;
        uint8_t b[8];
        QN_TRY(step(w, r, width, &at, &v, err));
        if (k < i)
            continue;
        qn_store64(b, v);
        const uint64_t skip = put == 0 ? (off - begin) % size : 0, some = qn_min_u64(size - skip, take - put);
        memcpy(dst + put, b + skip, (size_t)some);
        put += some;
    }
    return QN_OK;
}

qn_code qn_onnx_decode(const qn_onnx_tensor *t, qn_wire_read_fn read, void *ctx, uint64_t n_file_bytes, uint64_t off,
                       uint64_t n, void *dst, qn_err *err)
{
    uint8_t window[4096], *p = dst;
    const qn_onnx_dtype_info *info = qn_onnx_dtype_get(t->data_type);
    const unsigned width = qn_onnx_field_width(info->field);
    const unsigned size = width ? width : info->bits < 8 ? 1 : info->bits / 8;
    qn_wire w;
    qn_wire_init(&w, read, ctx, n_file_bytes, window, sizeof window);
    for (uint32_t i = run_of(t, off / size); n && i < t->n_runs; i++) {
        uint64_t done;
        QN_TRY(decode_run(&t->runs[i], width, size, &w, off, n, p, &done, err));
        off += done;
        p += done;
        n -= done;
    }
    return n ? QN_BUG(err, "values end %llu bytes early", (unsigned long long)n) : QN_OK;
}
