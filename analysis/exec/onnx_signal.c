/* onnx_signal.c: DFT, STFT, window functions, MelWeightMatrix. */
#include "analysis/exec/onnx_help.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

static const double TAU = 6.283185307179586476925286766559;

/* --- transforms ----------------------------------------------------------------------------------------------------------- */

enum { DFT_MAX = 1 << 24 };

typedef struct dft {
    uint64_t n, n_bins;       /* length, bins that are wanted                */
    bool inverse;
    const double *table;      /* (n, 2): cos and sin of 2π j / n             */
    double *scratch;          /* per slot 4 · n                              */
} dft;

/* Radix 2, in place: z (n, 2), n a power of two (Cooley and Tukey 1965). */
static void fft(const dft *d, double *z)
{
    const uint64_t n = d->n;
    for (uint64_t i = 1, j = 0; i < n; i++) {
        uint64_t bit = n >> 1;
        for (; j & bit; bit >>= 1)
            j ^= bit;
        j ^= bit;
        if (i < j)
            for (unsigned k = 0; k < 2; k++) {
                const double t = z[2 * i + k];
                z[2 * i + k] = z[2 * j + k];
                z[2 * j + k] = t;
            }
    }
    for (uint64_t len = 2; len <= n; len <<= 1)
        for (uint64_t i = 0; i < n; i += len)
            for (uint64_t k = 0; k < len / 2; k++) {
                const double c = d->table[2 * (k * (n / len))], s = d->table[2 * (k * (n / len)) + 1] * (d->inverse ? 1 : -1);
                double *a = z + 2 * (i + k), *b = z + 2 * (i + k + len / 2);
                const double re = b[0] * c - b[1] * s, im = b[0] * s + b[1] * c;
                b[0] = a[0] - re;
                b[1] = a[1] - im;
                a[0] += re;
                a[1] += im;
            }
}

/* z (n, 2) → first n_bins of the transform, at z or behind it. */
static const double *transform(const dft *d, double *z)
{
    const uint64_t n = d->n;
    if (!(n & (n - 1))) {
        fft(d, z);
        return z;
    }
    double *out = z + 2 * n;
    for (uint64_t k = 0; k < d->n_bins; k++) {
        double re = 0, im = 0;
        uint64_t at = 0;
        for (uint64_t j = 0; j < n; j++) {
            const double c = d->table[2 * at], s = d->table[2 * at + 1] * (d->inverse ? 1 : -1);
            re += z[2 * j] * c - z[2 * j + 1] * s;
            im += z[2 * j] * s + z[2 * j + 1] * c;
            at += k;
            at = at >= n ? at - n : at;
        }
        out[2 * k] = re;
        out[2 * k + 1] = im;
    }
    return out;
}

static qn_code begin(qn_exec *x, dft *d, qn_array room[2], qn_err *err)
{
    QN_TRY(qn_exec_new(x, &room[0], QN_F64, (const int64_t[]){(int64_t)d->n, 2}, 2, err));
    const qn_code rc = qn_exec_new(x, &room[1], QN_F64, (const int64_t[]){(int64_t)qn_exec_env(x)->n_threads, (int64_t)(4 * d->n)}, 2, err);
    if (rc != QN_OK) {
        qn_array_release(&room[0]);
        return rc;
    }
    double *t = room[0].data;
    for (uint64_t j = 0; j < d->n; j++) {
        t[2 * j] = cos(TAU * (double)j / (double)d->n);
        t[2 * j + 1] = sin(TAU * (double)j / (double)d->n);
    }
    d->table = t;
    d->scratch = room[1].data;
    return QN_OK;
}

static void put(const qn_array *t, uint64_t i, double v)
{
    if (t->dtype == QN_F64)
        ((double *)t->data)[i] = v;
    else
        ((float *)t->data)[i] = (float)v;
}

static qn_code need_float(const qn_array *t, qn_err *err)
{
    char text[128];
    if (t->dtype == QN_F32 || t->dtype == QN_F64)
        return QN_OK;
    return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the signal is %s; floats are needed", qn_array_text(t, text));
}

typedef struct lines {
    dft d;
    const qn_array *x;
    qn_array *y;
    uint64_t inner, len; /* along the axis: places behind it (without the last dimension), values there are */
    unsigned parts;      /* 1 real, 2 complex */
} lines;

static qn_code dft_line(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)err;
    const lines *l = ctx;
    double *z = l->d.scratch + slot * 4 * l->d.n;
    const uint64_t outer = i / l->inner, in = i % l->inner;
    for (uint64_t j = 0; j < l->d.n; j++) {
        const uint64_t at = ((outer * l->len + j) * l->inner + in) * l->parts;
        z[2 * j] = j < l->len ? qn_elem_float(l->x, at) : 0;
        z[2 * j + 1] = j < l->len && l->parts == 2 ? qn_elem_float(l->x, at + 1) : 0;
    }
    const double *f = transform(&l->d, z), scale = l->d.inverse ? 1 / (double)l->d.n : 1;
    for (uint64_t k = 0; k < l->d.n_bins; k++)
        for (unsigned c = 0; c < 2; c++)
            put(l->y, ((outer * l->d.n_bins + k) * l->inner + in) * 2 + c, f[2 * k + c] * scale);
    return QN_OK;
}

qn_code qn_onnx_dft_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)n;
    (void)err;
    out->dtype = in[0].dtype;
    if (in[0].rank == QN_RANK_UNKNOWN || in[0].rank < 2)
        return QN_OK;
    qn_info_set(out, in[0].dtype, in[0].dims, in[0].rank);
    for (unsigned i = 1; i + 1 < in[0].rank; i++)
        out->dims[i] = QN_DIM_UNKNOWN;
    out->dims[in[0].rank - 1] = 2;
    return QN_OK;
}

qn_code qn_onnx_dft(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    QN_TRY(need_float(&in[0], err));
    QN_TRY(qn_onnx_need_rank(&in[0], "the signal", 2, QN_ARRAY_RANK_MAX, err));
    const unsigned rank = in[0].rank;
    int64_t axis = n->version && n->version < 20 ? qn_node_int(n, "axis", 1) : -2, length;
    unsigned a;
    if (qn_onnx_has(n, in, 2))
        QN_TRY(qn_array_int(&in[2], &axis, err));
    QN_TRY(qn_axis_of(axis, rank, &a, err));
    length = in[0].dims[a];
    if (qn_onnx_has(n, in, 1))
        QN_TRY(qn_array_int(&in[1], &length, err));
    lines l = {.x = &in[0], .y = &out[0], .inner = 1, .len = (uint64_t)in[0].dims[a], .parts = in[0].dims[rank - 1] == 2 ? 2 : 1};
    if (a == rank - 1 || (in[0].dims[rank - 1] != 1 && in[0].dims[rank - 1] != 2) || length < 1 || length > DFT_MAX)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "DFT of length %" PRId64 " along axis %u of %u; the last dimension must be 1 or 2, the length 1 to %d",
                       length, a, rank, DFT_MAX);
    l.d.n = (uint64_t)length;
    l.d.inverse = qn_node_int(n, "inverse", 0) != 0;
    const bool half = qn_node_int(n, "onesided", 0) != 0;
    if (half && (l.d.inverse || l.parts == 2))
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "a one-sided DFT that is inverse or of complex values");
    l.d.n_bins = half ? l.d.n / 2 + 1 : l.d.n;
    l.inner = qn_span(in[0].dims, a + 1, rank - 1);
    int64_t dims[QN_ARRAY_RANK_MAX];
    memcpy(dims, in[0].dims, sizeof dims);
    dims[a] = (int64_t)l.d.n_bins;
    dims[rank - 1] = 2;
    qn_array room[2];
    QN_TRY(qn_exec_new(x, &out[0], (qn_dtype)in[0].dtype, dims, rank, err));
    QN_TRY(begin(x, &l.d, room, err));
    const uint64_t n_lines = qn_span(in[0].dims, 0, a) * l.inner;
    const qn_code rc = qn_exec_parts(x, n_lines, n_lines * l.d.n * 64, dft_line, &l, err);
    qn_array_release(&room[0]);
    qn_array_release(&room[1]);
    return rc;
}

typedef struct frames {
    dft d;
    const qn_array *x, *window;
    qn_array *y;
    uint64_t len, step, n_frames;
    unsigned parts;
} frames;

static qn_code stft_frame(void *ctx, uint64_t i, unsigned slot, qn_err *err)
{
    (void)err;
    const frames *f = ctx;
    double *z = f->d.scratch + slot * 4 * f->d.n;
    const uint64_t batch = i / f->n_frames, first = batch * f->len + i % f->n_frames * f->step;
    for (uint64_t j = 0; j < f->d.n; j++) {
        const double w = f->window ? qn_elem_float(f->window, j) : 1;
        z[2 * j] = w * qn_elem_float(f->x, (first + j) * f->parts);
        z[2 * j + 1] = f->parts == 2 ? w * qn_elem_float(f->x, (first + j) * 2 + 1) : 0;
    }
    const double *t = transform(&f->d, z);
    for (uint64_t k = 0; k < 2 * f->d.n_bins; k++)
        put(f->y, i * 2 * f->d.n_bins + k, t[k]);
    return QN_OK;
}

/* in: signal (batch, samples, 1 or 2) or (batch, samples), frame_step, window, frame_length */
qn_code qn_onnx_stft(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    int64_t step, length;
    QN_TRY(need_float(&in[0], err));
    QN_TRY(qn_onnx_need_rank(&in[0], "the signal", 2, 3, err));
    QN_TRY(qn_array_int(&in[1], &step, err));
    const qn_array *window = qn_onnx_has(n, in, 2) ? &in[2] : NULL;
    length = window ? (int64_t)window->n : in[0].dims[1];
    if (qn_onnx_has(n, in, 3))
        QN_TRY(qn_array_int(&in[3], &length, err));
    frames f = {.x = &in[0], .y = &out[0], .window = window, .len = (uint64_t)in[0].dims[1],
                .parts = in[0].rank == 3 && in[0].dims[2] == 2 ? 2 : 1};
    if (step < 1 || length < 1 || length > DFT_MAX || length > in[0].dims[1] || (window && window->n != (uint64_t)length) ||
        (in[0].rank == 3 && in[0].dims[2] != 1 && in[0].dims[2] != 2))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "frames of %" PRId64 " every %" PRId64 " of a signal of %" PRId64, length, step,
                       in[0].dims[1]);
    if (window)
        QN_TRY(need_float(window, err));
    const bool half = qn_node_int(n, "onesided", 1) != 0 && f.parts == 1;
    f.d.n = (uint64_t)length;
    f.d.n_bins = half ? f.d.n / 2 + 1 : f.d.n;
    f.step = (uint64_t)step;
    f.n_frames = (f.len - f.d.n) / f.step + 1;
    qn_array room[2];
    QN_TRY(qn_exec_new(x, &out[0], (qn_dtype)in[0].dtype,
                       (const int64_t[]){in[0].dims[0], (int64_t)f.n_frames, (int64_t)f.d.n_bins, 2}, 4, err));
    QN_TRY(begin(x, &f.d, room, err));
    const uint64_t all = (uint64_t)in[0].dims[0] * f.n_frames;
    const qn_code rc = qn_exec_parts(x, all, all * f.d.n * 64, stft_frame, &f, err);
    qn_array_release(&room[0]);
    qn_array_release(&room[1]);
    return rc;
}

/* --- windows -------------------------------------------------------------------------------------------------------------- */

static qn_code float_output(const qn_node *n, qn_dtype *t, qn_err *err)
{
    const int64_t want = qn_node_int(n, "output_datatype", 1);
    *t = want == 11 ? QN_F64 : QN_F32;
    if (want != 1 && want != 10 && want != 11 && want != 16)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "output_datatype %" PRId64 "; floats are supported", want);
    return QN_OK;
}

/* a[0] − a[1] cos(2πi/N) + a[2] cos(4πi/N) */
static qn_code window(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, const double a[3], qn_err *err)
{
    int64_t size;
    qn_dtype t;
    QN_TRY(qn_array_int(&in[0], &size, err));
    QN_TRY(float_output(n, &t, err));
    QN_TRY(qn_exec_new(x, &out[0], t, &size, 1, err));
    const double period = (double)(qn_node_int(n, "periodic", 1) ? size : size - 1);
    for (int64_t i = 0; i < size; i++) {
        const double at = period > 0 ? TAU * (double)i / period : 0;
        put(&out[0], (uint64_t)i, a[0] - a[1] * cos(at) + a[2] * cos(2 * at));
    }
    return QN_OK;
}

qn_code qn_onnx_window_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    qn_dtype t;
    int64_t size = QN_DIM_UNKNOWN;
    QN_TRY(float_output(n, &t, err));
    if (in[0].value)
        QN_TRY(qn_array_int(in[0].value, &size, err));
    qn_info_set(out, t, &size, 1);
    return QN_OK;
}

qn_code qn_onnx_hann(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    return window(x, n, in, out, (const double[]){0.5, 0.5, 0}, err);
}

qn_code qn_onnx_hamming(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    return window(x, n, in, out, (const double[]){25.0 / 46, 21.0 / 46, 0}, err);
}

qn_code qn_onnx_blackman(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    return window(x, n, in, out, (const double[]){0.42, 0.5, 0.08}, err);
}

/* in: mel bins, DFT length, sample rate, lower and upper edge in Hz. Triangles whose corners lie evenly on the mel scale,
 * 2595 log10(1 + f / 700), rounded down to bins. */
qn_code qn_onnx_mel(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    int64_t bins, length, rate;
    qn_dtype t;
    QN_TRY(qn_array_int(&in[0], &bins, err));
    QN_TRY(qn_array_int(&in[1], &length, err));
    QN_TRY(qn_array_int(&in[2], &rate, err));
    QN_TRY(float_output(n, &t, err));
    if (in[3].n != 1 || in[4].n != 1)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the edges must be one value each");
    const double lo = qn_elem_float(&in[3], 0), hi = qn_elem_float(&in[4], 0);
    if (bins < 1 || bins > 1 << 20 || length < 1 || length > DFT_MAX || rate < 1 || !(lo >= 0 && hi > lo && hi <= (double)rate / 2))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%" PRId64 " mel bins from %g to %g Hz of a transform of %" PRId64 " at %" PRId64 " Hz", bins,
                       lo, hi, length, rate);
    const int64_t rows = length / 2 + 1;
    QN_TRY(qn_exec_new(x, &out[0], t, (const int64_t[]){rows, bins}, 2, err));
    memset(out[0].data, 0, qn_array_bytes(&out[0]));
    const double mel_lo = 2595 * log10(1 + lo / 700), mel_step = (2595 * log10(1 + hi / 700) - mel_lo) / (double)(bins + 2);
    for (int64_t i = 0; i < bins; i++) {
        int64_t c[3];
        for (int64_t k = 0; k < 3; k++) {
            const double f = 700 * (pow(10, (mel_lo + mel_step * (double)(i + k)) / 2595) - 1);
            const int64_t at = (int64_t)floor((double)(length + 1) * f / (double)rate);
            c[k] = at < 0 ? 0 : at < rows ? at : rows - 1;
        }
        if (c[1] == c[0])
            put(&out[0], (uint64_t)(c[1] * bins + i), 1);
        for (int64_t j = c[0]; c[1] > c[0] && j <= c[1]; j++)
            put(&out[0], (uint64_t)(j * bins + i), (double)(j - c[0]) / (double)(c[1] - c[0]));
        for (int64_t j = c[1]; j < c[2]; j++)
            put(&out[0], (uint64_t)(j * bins + i), (double)(c[2] - j) / (double)(c[2] - c[1]));
    }
    return QN_OK;
}
