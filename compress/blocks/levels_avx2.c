/* levels_avx2.c: the search compiled for AVX2: the same bits as the plain one. */
#if defined(__x86_64__) && defined(__GNUC__)
#define TARGET __attribute__((target("avx2,bmi,bmi2")))
#define ENCODE qn_levels_encode_avx2
#include "compress/blocks/levels_tmpl.h"
#endif
