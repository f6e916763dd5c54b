/* dense_shape.c: tables of the dense codec made from a distribution's shape and scale. Codes divide an octave at 1, 5/4, 3/2 and
 * 7/4: at 0, 82, 150 and 207 of 256 parts of its logarithm. */
#include "runtime/dense.h"
#include "runtime/rans_tab.h"

static uint32_t below(const uint16_t *shape, int at)
{
    const unsigned g = (unsigned)(at + 256 * QN_DENSE_SHAPE_BELOW) >> 4, part = (unsigned)at & 15;
    return 16u * shape[g] + (uint32_t)(shape[g + 1] - shape[g]) * part;
}

void qn_dense_shape_weights(unsigned shape, unsigned place, uint16_t weight[256])
{
    static const uint8_t cut[4] = {0, 82, 150, 207};
    uint32_t last = 0;
    for (int i = 0; i <= 64 - QN_DENSE_FIRST; i++) {
        const int at = 256 * (i / 4 - QN_DENSE_SHAPE_WINDOW) + cut[i & 3] - 16 * (int)place;
        const uint32_t p = below(qn_dense_shape[shape], at);
        if (i > 0) {
            const uint32_t w = (p - last) / 16;
            weight[QN_DENSE_FIRST + i - 1] = (uint16_t)(w < 8 ? 8 : w);
        }
        last = p;
    }
    weight[QN_DENSE_ESCAPE] = weight[QN_DENSE_ZERO] = 8;
    for (unsigned i = 64; i < 256; i++)
        weight[i] = 0;
}

void qn_dense_shape_freq(unsigned shape, unsigned place, uint16_t freq[256])
{
    uint16_t weight[256];
    qn_dense_shape_weights(shape, place, weight);
    qn_rans_normalise(weight, 64, freq);
}
