/* levels_avx512.c: the search compiled for AVX-512: the same bits as the plain one. */
#if defined(__x86_64__) && defined(__GNUC__)
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,bmi,bmi2,prefer-vector-width=512")))
#define ENCODE qn_levels_encode_avx512
#include "compress/blocks/levels_tmpl.h"
#endif
