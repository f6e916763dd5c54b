/* vq.c: scales of the vq codec. */
#include "runtime/vq.h"

/* round(2^24 · 2^(−i/32)) */
static const uint32_t root[32] = {
    16777216, 16417715, 16065917, 15721658, 15384775, 15055111, 14732511, 14416824,
    14107901, 13805598, 13509772, 13220286, 12937002, 12659789, 12388516, 12123055,
    11863283, 11609078, 11360319, 11116891, 10878679, 10645571, 10417458, 10194234,
    9975792, 9762032, 9552851, 9348154, 9147842, 8951823, 8760003, 8572295,
};

float qn_vq_scale(uint8_t code, unsigned fine)
{
    if (code == 0)
        return 0;
    const unsigned down = (255u - code) << (fine ? 0 : 1); /* in 1/32 octaves */
    const uint32_t r = fine == QN_VQ_SHORT ? (root[down % 32] + 0x8000u) & ~UINT32_C(0xffff) : root[down % 32];
    union {
        uint32_t u;
        float f;
    } power = {.u = (127u - 24 - down / 32) << 23};
    return (float)r * power.f;
}
