/* iq_avx512.c: the search compiled for AVX-512. Same numbers as the C reference. */
#if defined(__x86_64__) && defined(__GNUC__)
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,bmi,bmi2")))
#define ENCODE qn_iq_encode_avx512
#include "compress/blocks/iq_tmpl.h"
#endif
