/* cpu.c: see cpu.h. The only getenv of the libraries is here: QUERN_CPU. */
#include "base/cpu.h"
#include "base/err.h"
#include <stdlib.h>
#include <string.h>

unsigned qn_cpu_detect(void)
{
    unsigned bits = 0;
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
        __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt"))
        bits |= QN_CPU_AVX2;
    if ((bits & QN_CPU_AVX2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512vnni"))
        bits |= QN_CPU_AVX512;
#elif defined(__aarch64__)
    bits |= QN_CPU_NEON;
#endif
    return bits;
}

qn_code qn_cpu_from_env(unsigned *bits, qn_err *err)
{
    const unsigned have = qn_cpu_detect();
    const char *want = getenv("QUERN_CPU");
    unsigned mask;
    if (!want || !*want) {
        *bits = have;
        return QN_OK;
    }
    if (strcmp(want, "scalar") == 0)
        mask = 0;
    else if (strcmp(want, "avx2") == 0)
        mask = QN_CPU_AVX2;
    else if (strcmp(want, "avx512") == 0)
        mask = QN_CPU_AVX2 | QN_CPU_AVX512;
    else if (strcmp(want, "neon") == 0)
        mask = QN_CPU_NEON;
    else
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET,
                       "QUERN_CPU: unknown word '%.40s': allowed are scalar, avx2, avx512, neon", want);
    if (mask & ~have)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "QUERN_CPU: %s wanted, but this processor has only %s",
                       want, qn_cpu_name(have));
    *bits = mask;
    return QN_OK;
}

const char *qn_cpu_name(unsigned bits)
{
    if (bits & QN_CPU_AVX512)
        return "avx512";
    if (bits & QN_CPU_AVX2)
        return "avx2";
    if (bits & QN_CPU_NEON)
        return "neon";
    return "scalar";
}
