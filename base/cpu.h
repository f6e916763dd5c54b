/* cpu.h: what the processor can do, in the three steps that our kernels come in. */
#ifndef QN_BASE_CPU_H
#define QN_BASE_CPU_H

#include "quern/base.h"

enum {
    QN_CPU_AVX2 = 1u << 0,   /* AVX2, BMI1/2, FMA, F16C, POPCNT, LZCNT (x86-64-v3)              */
    QN_CPU_AVX512 = 1u << 1, /* AVX-512 F, BW, VL, DQ, VBMI, VBMI2, VNNI; implies AVX2 here      */
    QN_CPU_NEON = 1u << 2
};

/* All bits the machine (and its operating system) supports. */
unsigned qn_cpu_detect(void);
/* qn_cpu_detect limited by the environment variable QUERN_CPU (scalar, avx2, avx512; unset = all).
 * An unknown word is QN_E_USAGE; asking for more than the machine has is QN_E_UNSUPPORTED. */
qn_code qn_cpu_from_env(unsigned *bits, qn_err *err) QN_MUST_CHECK;
/* "scalar", "avx2", "avx512", "neon". */
const char *qn_cpu_name(unsigned bits);

#endif
