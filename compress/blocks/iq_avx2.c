/* iq_avx2.c: the search compiled for AVX2. Same numbers as the C reference. */
#if defined(__x86_64__) && defined(__GNUC__)
#define TARGET __attribute__((target("avx2,bmi,bmi2")))
#define ENCODE qn_iq_encode_avx2
#include "compress/blocks/iq_tmpl.h"
#endif
