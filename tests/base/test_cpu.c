/* test_cpu.c: QUERN_CPU words and what they leave of the machine. */
#define _GNU_SOURCE
#include "base/cpu.h"
#include "base/env.h"
#include "base/err.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

Test(cpu, words)
{
    const unsigned have = qn_cpu_detect();
    static const struct {
        const char *word;
        unsigned bits;
    } rows[] = {{"scalar", 0}, {"avx2", QN_CPU_AVX2}, {"avx512", QN_CPU_AVX2 | QN_CPU_AVX512}, {"neon", QN_CPU_NEON}};
    cr_assert(!(have & QN_CPU_AVX512) || (have & QN_CPU_AVX2), "AVX-512 implies AVX2");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        unsigned bits = 99;
        qn_err err;
        qn_err_clear(&err);
        setenv("QUERN_CPU", rows[i].word, 1);
        const qn_code rc = qn_cpu_from_env(&bits, &err);
        if (rows[i].bits & ~have) {
            cr_expect_eq(rc, QN_E_UNSUPPORTED);
            cr_expect(strstr(err.text, rows[i].word) && strstr(err.text, qn_cpu_name(have)), "%s", err.text);
            continue;
        }
        cr_expect(rc == QN_OK && bits == rows[i].bits, "%s", rows[i].word);
        cr_expect_str_eq(qn_cpu_name(bits), rows[i].word);
    }
    static const char *const wrong[] = {"AVX2", "sse", "avx2 ", "avx", "x\x1b[2J", "1"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        unsigned bits;
        qn_env env;
        qn_err err;
        qn_err_clear(&err);
        setenv("QUERN_CPU", wrong[i], 1);
        cr_expect_eq(qn_cpu_from_env(&bits, &err), QN_E_USAGE, "%s", wrong[i]);
        cr_expect(strstr(err.text, "allowed are scalar, avx2, avx512, neon") && !strchr(err.text, 0x1b), "%s", err.text);
        cr_expect_eq(qn_env_init(&env, NULL), QN_E_USAGE);
    }
    unsigned bits;
    setenv("QUERN_CPU", "", 1);
    cr_expect(qn_cpu_from_env(&bits, NULL) == QN_OK && bits == have);
    unsetenv("QUERN_CPU");
    cr_expect(qn_cpu_from_env(&bits, NULL) == QN_OK && bits == have);
}

Test(cpu, cancel)
{
    qn_env env;
    atomic_int stop = 0;
    unsetenv("QUERN_CPU");
    cr_assert_eq(qn_env_init(&env, NULL), QN_OK);
    cr_assert(env.fs && env.n_threads >= 1);
    cr_assert_eq(qn_env_check(&env, NULL), QN_OK);
    env.cancel = &stop;
    cr_assert_eq(qn_env_check(&env, NULL), QN_OK);
    atomic_store(&stop, 1);
    cr_assert_eq(qn_env_check(&env, NULL), QN_E_CANCELLED);
}
