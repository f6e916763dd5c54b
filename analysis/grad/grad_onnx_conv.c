/* grad_onnx_conv.c: Conv and ConvTranspose: both multiply a weight with patches of an image (im2col), in one direction or the other.
 *     image (N, C, …in) → patches (C / groups · taps, places);   places P (N, M, …out);   W (M, C / groups · taps)
 * Conv: P = W · patches: dW = Σ dP · patchesᵀ, and Wᵀ · dP are the patches' derivatives, added up where they came from.
 * ConvTranspose goes from P to the image: dP = W · patches(d image), dW = Σ P · patches(d image)ᵀ.
 * Images are dealt out in shares whose number follows from shapes; each share sums its own dW, and these are added in order. A channel by itself
 * (depthwise) is summed directly. */
#include "analysis/exec/onnx_window.h"
#include "analysis/grad/backs.h"
#include "base/num.h"
#include <cblas.h>
#include <string.h>

typedef struct conv {
    qn_window win;
    bool transposed, direct;         /* direct: patches are the image itself (1 × 1, no stride) */
    uint64_t n, c, m, groups, cg, mg;
    uint64_t n_in, n_out, taps, k;   /* k: cg · taps */
    uint64_t step, together;         /* places worked on at a time: part of an image, or this many whole images */
    uint64_t per_share, n_shares;
    const float *image, *places, *w; /* Conv: x, dy; ConvTranspose: dy, x */
    float *d_image, *d_places, *dw;  /* NULL: not wanted; dw: (shares, M, k) */
    float *scratch;
    uint64_t scratch_elems;
} conv;

/* --- patches ---------------------------------------------------------------------------------------------------------------- */

/* n columns of one group: places [from, …) of image i, or whole images from i on. */
static void work_columns(const conv *c, uint64_t i, uint64_t g, uint64_t from, uint64_t n, float *dw, float *scratch)
{
    const uint64_t images = c->together > 1 ? n / c->n_out : 1, len = n / images;
    float *cols = scratch, *rows = scratch + c->k * c->step;
    const uint64_t image_at = (i * c->c + g * c->cg) * c->n_in, places_at = (i * c->m + g * c->mg) * c->n_out + from;
    const uint64_t next_image = c->c * c->n_in, next_places = c->m * c->n_out;
    const float *patches = cols, *p = c->places + places_at, *w = c->w + g * c->mg * c->k;
    uint64_t ld = n, ldp = c->n_out;
    const bool in_place = c->direct && images == 1;
    if (in_place) {
        patches = c->image + image_at + from;
        ld = c->n_in;
    } else if (dw || c->d_places)
        for (uint64_t k = 0; k < images; k++)
            qn_window_unroll(&c->win, c->cg, c->image + image_at + k * next_image, from, from + len, cols + k * len, n);
    if (images > 1 && (dw || c->d_image)) { /* rows of several images side by side */
        for (uint64_t r = 0; r < c->mg; r++)
            for (uint64_t k = 0; k < images; k++)
                memcpy(rows + r * n + k * len, p + k * next_places + r * c->n_out, len * sizeof *rows);
        p = rows;
        ldp = n;
    }
    const blasint mg = (blasint)c->mg, k = (blasint)c->k, w_n = (blasint)n;
    if (dw)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, mg, k, w_n, 1.0f, p, (blasint)ldp, patches, (blasint)ld, 1.0f, dw + g * c->mg * c->k, k);
    if (c->d_image && in_place) {
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, k, w_n, mg, 1.0f, w, k, p, (blasint)ldp, 0.0f, c->d_image + image_at + from,
                    (blasint)c->n_in);
    } else if (c->d_image) {
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, k, w_n, mg, 1.0f, w, k, p, (blasint)ldp, 0.0f, cols, w_n);
        for (uint64_t q = 0; q < images; q++)
            qn_window_roll(&c->win, c->cg, cols + q * len, n, from, from + len, c->d_image + image_at + q * next_image);
    }
    if (c->d_places && images == 1) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, mg, w_n, k, 1.0f, w, k, patches, (blasint)ld, 0.0f, c->d_places + places_at,
                    (blasint)c->n_out);
    } else if (c->d_places) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, mg, w_n, k, 1.0f, w, k, patches, (blasint)ld, 0.0f, rows, w_n);
        for (uint64_t r = 0; r < c->mg; r++)
            for (uint64_t q = 0; q < images; q++)
                memcpy(c->d_places + places_at + q * next_places + r * c->n_out, rows + r * n + q * len, len * sizeof *rows);
    }
}

/* Task: one share of the images. */
static qn_code work_share(void *ctx, uint64_t share, unsigned slot, qn_err *err)
{
    (void)err;
    const conv *c = ctx;
    const uint64_t first = share * c->per_share, last = qn_min_u64(first + c->per_share, c->n);
    float *dw = c->dw ? c->dw + share * c->m * c->k : NULL, *scratch = c->scratch + slot * c->scratch_elems;
    if (dw)
        memset(dw, 0, c->m * c->k * sizeof *dw);
    if (c->d_image && !(c->direct && c->together == 1))
        memset(c->d_image + first * c->c * c->n_in, 0, (last - first) * c->c * c->n_in * sizeof(float));
    for (uint64_t g = 0; g < c->groups; g++)
        for (uint64_t i = first; i < last; i += c->together)
            if (c->together > 1)
                work_columns(c, i, g, 0, qn_min_u64(c->together, last - i) * c->n_out, dw, scratch);
            else
                for (uint64_t from = 0; from < c->n_out; from += c->step)
                    work_columns(c, i, g, from, qn_min_u64(c->step, c->n_out - from), dw, scratch);
    return QN_OK;
}

struct fold {
    const float *shares;
    float *dw;
    uint64_t n_shares, n;
};

static void fold_shares(void *ctx, uint64_t from, uint64_t to)
{
    const struct fold *f = ctx;
    memcpy(f->dw + from, f->shares + from, (to - from) * sizeof *f->dw);
    for (uint64_t s = 1; s < f->n_shares; s++)
        for (uint64_t i = from; i < to; i++)
            f->dw[i] += f->shares[s * f->n + i];
}

/* About 256 KiB of patches at a time, at least 128 columns; shares: eight, fewer when their sums would be large. */
static void set_steps(conv *c)
{
    enum { COLUMNS = 1 << 16, LEAST = 128, SHARES = 8, SUMS = 1 << 22 };
    const uint64_t fit = qn_max_u64(COLUMNS / c->k & ~UINT64_C(15), LEAST);
    c->together = c->n_out > fit / 2 ? 1 : fit / c->n_out;
    c->step = c->together > 1 ? c->together * c->n_out : qn_min_u64(fit, c->n_out);
    c->n_shares = c->dw ? qn_min_u64(qn_max_u64(SUMS / (c->m * c->k), 2), SHARES) : 2 * SHARES;
    c->per_share = qn_ceil_div(c->n, qn_min_u64(c->n_shares, c->n));
    c->n_shares = qn_ceil_div(c->n, c->per_share);
}

static qn_code by_patches(qn_exec *x, conv *c, qn_err *err)
{
    qn_array scratch = {0}, shares = {0};
    float *const dw = c->dw;
    set_steps(c);
    c->scratch_elems = (c->k + c->mg) * c->step;
    qn_code rc = qn_exec_new(x, &scratch, QN_F32, (const int64_t[]){(int64_t)qn_exec_env(x)->n_threads, (int64_t)c->scratch_elems}, 2, err);
    if (rc == QN_OK && dw && c->n_shares > 1) {
        rc = qn_exec_new(x, &shares, QN_F32, (const int64_t[]){(int64_t)c->n_shares, (int64_t)(c->m * c->k)}, 2, err);
        c->dw = shares.data;
    }
    c->scratch = scratch.data;
    if (rc == QN_OK)
        rc = qn_exec_parts(x, c->n_shares, 2 * c->n * c->m * c->n_out * c->k, work_share, c, err);
    struct fold f = {.shares = shares.data, .dw = dw, .n_shares = c->n_shares, .n = c->m * c->k};
    if (rc == QN_OK && f.shares)
        rc = qn_grad_each(x, f.n, f.n_shares, fold_shares, &f, err);
    qn_array_release(&scratch);
    qn_array_release(&shares);
    return rc;
}

/* --- depthwise ----------------------------------------------------------------------------------------------------------------- */

typedef struct depthwise {
    const conv *c;
    double *sums; /* (M, taps), or NULL */
} depthwise;

/* One output channel of one image. */
static void direct_plane(const conv *c, const float *x, const float *dy, const float *k, float *dx, double *sums)
{
    const qn_window *w = &c->win;
    const int64_t s = w->stride[2];
    for (int64_t od = 0; od < w->out[0]; od++)
        for (int64_t oh = 0; oh < w->out[1]; oh++, dy += w->out[2]) {
            int64_t d0, d1, h0, h1;
            qn_window_inside(w, 0, od, &d0, &d1);
            qn_window_inside(w, 1, oh, &h0, &h1);
            for (int64_t kd = d0; kd < d1; kd++)
                for (int64_t kh = h0; kh < h1; kh++) {
                    const int64_t id = od * w->stride[0] - w->pad[0] + kd * w->dilation[0];
                    const int64_t ih = oh * w->stride[1] - w->pad[1] + kh * w->dilation[1];
                    const int64_t row = (id * w->in[1] + ih) * w->in[2];
                    for (int64_t kw = 0; kw < w->kernel[2]; kw++) {
                        /* outputs whose tap kw lies inside: ow·s + at in [0, size) */
                        const int64_t at = kw * w->dilation[2] - w->pad[2];
                        const int64_t o0 = at < 0 ? (-at + s - 1) / s : 0;
                        int64_t o1 = at >= w->in[2] ? 0 : (w->in[2] - at + s - 1) / s;
                        o1 = o1 < w->out[2] ? o1 : w->out[2];
                        const int64_t tap = (kd * w->kernel[1] + kh) * w->kernel[2] + kw;
                        if (o1 <= o0)
                            continue;
                        if (dx && s == 1)
                            for (int64_t o = o0; o < o1; o++)
                                dx[row + at + o] += k[tap] * dy[o];
                        else if (dx)
                            for (int64_t o = o0; o < o1; o++)
                                dx[row + at + o * s] += k[tap] * dy[o];
                        if (sums && s == 1)
                            sums[tap] += qn_grad_dot(x + row + at + o0, dy + o0, (uint64_t)(o1 - o0));
                        else if (sums)
                            for (int64_t o = o0; o < o1; o++)
                                sums[tap] += (double)x[row + at + o * s] * (double)dy[o];
                    }
                }
        }
}

/* Task: one input channel, with the outputs that see it, of all images in order. */
static qn_code direct_channel(void *ctx, uint64_t ch, unsigned slot, qn_err *err)
{
    (void)slot;
    (void)err;
    const depthwise *d = ctx;
    const conv *c = d->c;
    for (uint64_t i = 0; i < c->n; i++) {
        float *dx = c->d_image ? c->d_image + (i * c->c + ch) * c->n_in : NULL;
        if (dx)
            memset(dx, 0, c->n_in * sizeof *dx);
        for (uint64_t m = ch * c->mg; m < (ch + 1) * c->mg; m++)
            direct_plane(c, c->image + (i * c->c + ch) * c->n_in, c->places + (i * c->m + m) * c->n_out, c->w + m * c->taps, dx,
                         d->sums ? d->sums + m * c->taps : NULL);
    }
    return QN_OK;
}

static qn_code by_channel(qn_exec *x, conv *c, qn_err *err)
{
    depthwise d = {.c = c};
    qn_array sums = {0};
    if (c->dw) {
        QN_TRY(qn_exec_new(x, &sums, QN_F64, (const int64_t[]){(int64_t)c->m, (int64_t)c->taps}, 2, err));
        d.sums = sums.data;
        memset(d.sums, 0, sums.n * sizeof *d.sums);
    }
    const qn_code rc = qn_exec_parts(x, c->c, 2 * c->n * c->m * c->n_out * c->taps, direct_channel, &d, err);
    for (uint64_t i = 0; i < sums.n; i++)
        c->dw[i] = (float)d.sums[i];
    qn_array_release(&sums);
    return rc;
}

/* --- the operators ---------------------------------------------------------------------------------------------------------------- */

static bool is_direct(const qn_window *w)
{
    for (unsigned i = 0; i < 3; i++)
        if (w->kernel[i] != 1 || w->stride[i] != 1 || w->pad[i] || w->pad_end[i])
            return false;
    return true;
}

/* The bias: sums by channel. */
static qn_code bias(qn_exec *x, const qn_array *dy, const qn_array *b, qn_array *d_in, qn_err *err)
{
    qn_array like = {.rank = dy->rank, .n = b->n}, sum = {0};
    for (unsigned k = 0; k < dy->rank; k++)
        like.dims[k] = k == 1 ? dy->dims[1] : 1;
    qn_code rc = qn_grad_reduce(x, dy, NULL, &like, &sum, err);
    if (rc == QN_OK)
        rc = qn_array_view(&sum, d_in, b->dims, b->rank, err);
    qn_array_release(&sum);
    return rc;
}

static qn_code run(qn_exec *x, conv *c, const qn_array *image, const qn_array *places, const qn_array *w, qn_err *err)
{
    c->n = (uint64_t)image->dims[0];
    c->c = (uint64_t)image->dims[1];
    c->m = (uint64_t)places->dims[1];
    c->cg = c->c / c->groups;
    c->mg = c->m / c->groups;
    c->n_in = qn_window_in(&c->win);
    c->n_out = qn_window_out(&c->win);
    c->taps = qn_window_taps(&c->win);
    c->k = c->cg * c->taps;
    c->direct = is_direct(&c->win);
    c->image = image->data;
    c->places = places->data;
    c->w = w->data;
    if (!c->n || !c->m || !c->k || !c->n_in || !c->n_out) { /* nothing has met anything */
        if (c->d_image)
            memset(c->d_image, 0, image->n * sizeof(float));
        if (c->d_places)
            memset(c->d_places, 0, places->n * sizeof(float));
        if (c->dw)
            memset(c->dw, 0, w->n * sizeof(float));
        return QN_OK;
    }
    return !c->transposed && c->cg == 1 && c->mg <= 4 ? by_channel(x, c, err) : by_patches(x, c, err);
}

qn_code qn_back_conv(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                     qn_array *d_in, qn_err *err)
{
    (void)out;
    conv c = {.groups = (uint64_t)qn_node_int(n, "group", 1)};
    QN_TRY(qn_window_init(&c.win, n, in[0].rank - 2u, in[0].dims + 2, in[1].dims + 2, false, err));
    if (n->n_in > 2 && want[2])
        QN_TRY(bias(x, &d_out[0], &in[2], &d_in[2], err));
    if (want[0])
        QN_TRY(qn_grad_like(x, &in[0], false, &d_in[0], err));
    if (want[1])
        QN_TRY(qn_grad_like(x, &in[1], false, &d_in[1], err));
    c.d_image = d_in[0].data;
    c.dw = d_in[1].data;
    return want[0] || want[1] ? run(x, &c, &in[0], &d_out[0], &in[1], err) : QN_OK;
}

qn_code qn_back_conv_transpose(qn_exec *x, const qn_node *n, const qn_array *in, const qn_array *out, const qn_array *d_out, const bool *want,
                               qn_array *d_in, qn_err *err)
{
    (void)out;
    conv c = {.groups = (uint64_t)qn_node_int(n, "group", 1), .transposed = true};
    QN_TRY(qn_window_transposed(&c.win, n, in[0].rank, in[0].dims, in[1].dims, err));
    for (unsigned i = 0; i < 3; i++) { /* seen from the image, which is the output */
        const int64_t size = c.win.in[i];
        c.win.in[i] = c.win.out[i];
        c.win.out[i] = size;
    }
    if (n->n_in > 2 && want[2])
        QN_TRY(bias(x, &d_out[0], &in[2], &d_in[2], err));
    if (want[0])
        QN_TRY(qn_grad_like(x, &in[0], false, &d_in[0], err));
    if (want[1])
        QN_TRY(qn_grad_like(x, &in[1], false, &d_in[1], err));
    c.d_places = d_in[0].data;
    c.dw = d_in[1].data;
    return want[0] || want[1] ? run(x, &c, &d_out[0], &in[0], &in[1], err) : QN_OK;
}
