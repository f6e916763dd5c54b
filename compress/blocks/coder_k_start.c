/* coder_k_start.c: from pairs of real numbers, one for each part, to d, dmin and whole multiples of them. */
#include "compress/blocks/coder_k.h"
#include "base/half.h"
#include <math.h>
#include <string.h>

uint16_t qn_k_to_half(float v)
{
    const float most = 65504, size = v < 0 ? -v : v;
    uint16_t h = qn_f32_to_f16(size > most ? most : size);
    if (h == 0 && size > 0)
        h = 1;
    return (uint16_t)(v < 0 ? h | 0x8000 : h);
}

static int whole(float x, int lo, int hi)
{
    return x <= (float)lo ? lo : x >= (float)hi ? hi : (int)floorf(x + 0.5f);
}

enum { STEPS = 28 };

/* The half of which whole multiples lo … hi come nearest to x, distances weighed: rank 0 the best, 1 the next, … */
static uint16_t common(const float *x, const float *weight, uint32_t n, int lo, int hi, unsigned rank)
{
    float most = 0, least = 0;
    for (uint32_t i = 0; i < n; i++) {
        most = x[i] > most ? x[i] : most;
        least = x[i] < least ? x[i] : least;
    }
    if (most == 0 && least == 0)
        return 0;
    const float size = most > -least ? most : -least;
    uint16_t at[4] = {0};
    float loss[4] = {INFINITY, INFINITY, INFINITY, INFINITY};
    for (int k = 0; k < STEPS * (lo < 0 ? 2 : 1); k++) {
        const bool flip = k >= STEPS; /* the largest meets lo */
        const float end = (float)(flip == (most > -least) ? -lo : hi), step = (float)(hi + 1) / 64;
        const uint16_t h = qn_k_to_half((flip ? -size : size) / ((end > 0 ? end : 1) + step * (float)(2 - k % STEPS)));
        const float d = qn_f16_to_f32(h), inv = 1 / d;
        float sum = 0;
        for (uint32_t i = 0; i < n; i++) {
            float s = x[i] * inv;
            s = s < (float)lo ? (float)lo : s > (float)hi ? (float)hi : s;
            const float off = x[i] - d * ((s + 12582912.0f) - 12582912.0f);
            sum += weight[i] * (off * off);
        }
        for (unsigned p = 0; p < 4; p++) {
            if (at[p] == h && loss[p] < INFINITY)
                break;
            if (!(sum < loss[p]))
                continue;
            memmove(at + p + 1, at + p, (3 - p) * sizeof *at);
            memmove(loss + p + 1, loss + p, (3 - p) * sizeof *loss);
            at[p] = h;
            loss[p] = sum;
            break;
        }
    }
    return at[rank] || !rank ? at[rank] : at[0];
}

void qn_k_round_pair(const qn_k_layout *y, const qn_k_pair *p, float d, float dmin, int16_t *scale, uint8_t *min)
{
    *scale = (int16_t)(d == 0 ? 0 : whole(p->scale / d, y->scale_lo, y->scale_hi));
    float offset = p->offset;
    if (p->w > 0)
        offset += (d * (float)*scale - p->scale) * p->l / p->w;
    *min = (uint8_t)(dmin == 0 ? 0 : whole(offset / dmin, 0, y->min_hi));
}

void qn_k_choose(const qn_k_layout *y, const qn_k_pair *pair, unsigned rank, qn_k_fields *f)
{
    float x[QN_K_PARTS], weight[QN_K_PARTS];
    for (uint32_t p = 0; p < y->parts; p++) {
        x[p] = pair[p].scale;
        weight[p] = pair[p].ll;
        if (y->min_hi && pair[p].w > 0)
            weight[p] = pair[p].ll - pair[p].l * pair[p].l / pair[p].w;
    }
    f->d = common(x, weight, y->parts, y->scale_lo, y->scale_hi, rank);
    f->dmin = 0;
    const float d = qn_f16_to_f32(f->d);
    for (uint32_t p = 0; p < y->parts; p++) {
        qn_k_round_pair(y, &pair[p], d, 0, &f->scale[p], &f->min[p]);
        x[p] = pair[p].offset;
        weight[p] = pair[p].w;
        if (pair[p].w > 0)
            x[p] += (d * (float)f->scale[p] - pair[p].scale) * pair[p].l / pair[p].w;
        x[p] = x[p] > 0 ? x[p] : 0;
    }
    if (!y->min_hi)
        return;
    f->dmin = common(x, weight, y->parts, 0, y->min_hi, 0);
    for (uint32_t p = 0; p < y->parts; p++)
        qn_k_round_pair(y, &pair[p], d, qn_f16_to_f32(f->dmin), &f->scale[p], &f->min[p]);
}
