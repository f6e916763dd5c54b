/* coder_k_lanes.c: see coder_k.h. Plain loops over lanes that compilers make vector code of, compiled for several processors; a lane's sums
 * have one order. */
#include "base/cpu.h"
#include "compress/blocks/coder_k.h"
#include <float.h>
#include <string.h>

enum { L = QN_K_LANES };

#define INLINE static inline __attribute__((always_inline))

#define EACH for (unsigned c = 0; c < L; c++)

INLINE void inverse(const float *scale, float *inv)
{
    EACH
        inv[c] = scale[c] < FLT_MIN && scale[c] > -FLT_MIN ? 0 : 1 / scale[c]; /* never infinite */
}

/* Levels nearest to x, in place; the lowest for what is no number (the difference of two infinities: targets near the end of binary32). */
INLINE void nearest(const qn_k_layout *y, float *x)
{
    const float lo = y->lo, hi = y->hi;
    EACH {
        x[c] = x[c] > lo ? x[c] : lo;
        x[c] = x[c] > hi ? hi : x[c];
    }
    if (y->table) {
        EACH
            x[c] = y->table[(int)(2 * x[c] + QN_K_LEVELS / 2)];
    } else {
        EACH
            x[c] = (x[c] + 12582912.0f) - 12582912.0f; /* as qn_k_nearest */
    }
}

INLINE void round_part(const qn_k_layout *y, const qn_k_part *p, qn_k_lanes *l)
{
    float inv[L], loss[L], u[QN_K_WIDTH][L], x[L];
    const uint32_t n = p->n;
    inverse(l->scale, inv);
    EACH
        loss[c] = 0;
    for (uint32_t i = 0; i < n; i++)
        EACH
            u[i][c] = p->u[i];
    for (uint32_t i = 0; i < n; i++) {
        EACH
            x[c] = (u[i][c] + l->offset[c]) * inv[c];
        nearest(y, x);
        const float t = p->t[i], w = p->weight[i];
        float *restrict e = l->e[i];
        EACH {
            const float r = l->scale[c] * x[c] - l->offset[c], off = u[i][c] - r;
            l->level[i][c] = x[c];
            e[c] = t - r;
            loss[c] += w * (off * off);
        }
        for (uint32_t k = i + 1; p->feed && k < n; k++) {
            const float f = p->feed[(size_t)i * n + k];
            float *restrict to = u[k];
            EACH
                to[c] += f * e[c];
        }
    }
    memcpy(l->loss, loss, sizeof loss);
}

/* Ranges to begin with. */
INLINE void ranges(const qn_k_layout *y, float least, float most, float *scale, float *offset)
{
    const float span = y->hi - y->lo;
    if (y->min_hi) { /* some of it is cut off below and above */
        least = least < 0 ? least : 0;
        const float step = 0.5f / span;
        EACH {
            const float a = least + (most - least) * step * (float)(c % 4), b = most - (most - least) * step * (float)(c / 4 % 8);
            scale[c] = (b - a) / span;
            offset[c] = -a;
        }
        return;
    }
    /* The largest at the end of the levels, or beyond or within it. */
    const bool up = most > -least;
    const float size = up ? most : -least;
    EACH {
        const bool turned = y->scale_lo < 0 && c >= L / 2;
        const float end = up == !turned ? y->hi : -y->lo, reach = (end > 0 ? end : 1) * (0.8f + 0.035f * (float)(c % (L / 2)));
        scale[c] = (turned ? -size : size) / reach;
        offset[c] = 0;
    }
}

INLINE qn_k_pair guess_pair(const qn_k_layout *y, uint32_t n, const float *x, const float *weight)
{
    float least = x[0], most = x[0], w = 0;
    for (uint32_t i = 0; i < n; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
        w += weight[i];
    }
    qn_k_pair best = {.w = w};
    if (!(w > 0) || (least == 0 && most == 0))
        return best;
    float scale[L], offset[L], inv[L], l1[L], l2[L], xl[L], lv[L], loss[L];
    ranges(y, least, most, scale, offset);
    float sx = 0, xx = 0;
    for (uint32_t i = 0; i < n; i++) {
        sx += weight[i] * x[i];
        xx += weight[i] * (x[i] * x[i]);
    }
    for (unsigned turn = 0; turn < 3; turn++) {
        inverse(scale, inv);
        EACH
            l1[c] = l2[c] = xl[c] = 0;
        for (uint32_t i = 0; i < n; i++) {
            const float v = x[i], u = weight[i];
            EACH
                lv[c] = (v + offset[c]) * inv[c];
            nearest(y, lv);
            EACH {
                const float wl = u * lv[c];
                l1[c] += wl;
                l2[c] += wl * lv[c];
                xl[c] += wl * v;
            }
        }
        EACH {
            /* min Σ w (x − a l + b)²:  a Σwl² − b Σwl = Σwxl,  a Σwl − b Σw = Σwx. b < 0 is out of reach: b = 0. */
            const float det = w * l2[c] - l1[c] * l1[c];
            float a = l2[c] > 0 ? xl[c] / l2[c] : 0, b = 0;
            if (y->min_hi) {
                const float a2 = det > 0 ? (w * xl[c] - l1[c] * sx) / det : 0, b2 = (a2 * l1[c] - sx) / w;
                const bool in = b2 > 0;
                a = in ? a2 : a;
                b = in ? b2 : b;
            }
            scale[c] = a;
            offset[c] = b;
            loss[c] = xx - 2 * (a * xl[c] - b * sx) + a * a * l2[c] - 2 * a * b * l1[c] + b * b * w;
        }
    }
    unsigned at = 0;
    for (unsigned c = 1; c < L; c++)
        at = loss[c] < loss[at] ? c : at;
    return (qn_k_pair){.scale = scale[at], .offset = offset[at], .ll = l2[at], .l = l1[at], .w = w, .loss = loss[at] > 0 ? loss[at] : 0};
}

INLINE void move_levels(const qn_k_layout *y, const qn_k_block *b, unsigned sweeps, qn_k_lanes *l)
{
    float inv[L], g[QN_K_WIDTH][L], x[L], d[L];
    const uint32_t n = b->n;
    inverse(l->scale, inv);
    /* With levels as they are, M (r_new − r) is scale (M level) − offset (M 1) − M r. */
    for (uint32_t i = 0; i < n; i++) {
        const float *row = b->m + (size_t)i * n, start = b->start[i];
        float ml[4] = {0}, m1[4] = {0}, mr[4] = {0};
        for (uint32_t k = 0; k < n; k += 4)
            for (unsigned q = 0; q < 4; q++) {
                ml[q] += row[k + q] * b->start[k + q];
                m1[q] += row[k + q];
                mr[q] += row[k + q] * b->r[k + q];
            }
        const float by_level = (ml[0] + ml[1]) + (ml[2] + ml[3]), by_one = (m1[0] + m1[1]) + (m1[2] + m1[3]);
        const float rest = b->g[i] + ((mr[0] + mr[1]) + (mr[2] + mr[3]));
        EACH {
            l->level[i][c] = start;
            l->e[i][c] = l->scale[c] * start - l->offset[c] - b->r[i];
            g[i][c] = rest - (l->scale[c] * by_level - l->offset[c] * by_one);
        }
    }
    for (unsigned s = 0; s < sweeps; s++)
        for (uint32_t i = 0; i < n; i++) {
            const float diag = b->m[(size_t)i * n + i], back = diag > 0 ? 1 / diag : 0;
            EACH
                x[c] = ((b->r[i] + l->e[i][c]) + g[i][c] * back + l->offset[c]) * inv[c];
            nearest(y, x);
            float moved = 0;
            EACH {
                const float e = (l->scale[c] * x[c] - l->offset[c]) - b->r[i];
                d[c] = diag > 0 ? e - l->e[i][c] : 0;
                l->e[i][c] = diag > 0 ? e : l->e[i][c];
                l->level[i][c] = diag > 0 ? x[c] : l->level[i][c];
                moved += d[c] * d[c];
            }
            if (moved == 0)
                continue;
            for (uint32_t k = 0; k < n; k++) {
                const float m = b->m[(size_t)i * n + k];
                EACH
                    g[k][c] -= m * d[c];
            }
        }
    EACH
        d[c] = 0;
    for (uint32_t i = 0; i < n; i++)
        EACH
            d[c] -= l->e[i][c] * (b->g[i] + g[i][c]);
    memcpy(l->loss, d, sizeof d);
}

#define VARIANT(name, attributes)                                                                                       \
    attributes static void round_##name(const qn_k_layout *y, const qn_k_part *p, qn_k_lanes *l)                          \
    {                                                                                                                     \
        round_part(y, p, l);                                                                                              \
    }                                                                                                                     \
    attributes static qn_k_pair guess_##name(const qn_k_layout *y, uint32_t n, const float *x, const float *weight)       \
    {                                                                                                                     \
        return guess_pair(y, n, x, weight);                                                                               \
    }                                                                                                                     \
    attributes static void move_##name(const qn_k_layout *y, const qn_k_block *b, unsigned sweeps, qn_k_lanes *l)         \
    {                                                                                                                     \
        move_levels(y, b, sweeps, l);                                                                                     \
    }                                                                                                                     \
    static const qn_k_kern kern_##name = {round_##name, guess_##name, move_##name};

VARIANT(c, )
#if defined(__x86_64__) && defined(__GNUC__)
VARIANT(avx2, __attribute__((target("avx2"))))
VARIANT(avx512, __attribute__((target("avx512f,avx512vl,avx512dq"))))
#endif

const qn_k_kern *qn_k_kern_for(unsigned cpu)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if (cpu & QN_CPU_AVX512)
        return &kern_avx512;
    if (cpu & QN_CPU_AVX2)
        return &kern_avx2;
#endif
    (void)cpu;
    return &kern_c;
}
