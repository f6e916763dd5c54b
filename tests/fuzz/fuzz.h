/* fuzz.h: a fuzz target is two functions. With libFuzzer (meson -Dfuzz=true, clang) it searches; always it is built with
 * replay.c too, which runs seeds, their simple mutations and the regression files in the test suite.
 *
 * A target aborts when something that must hold does not hold: a crash is a finding. */
#ifndef QN_TESTS_FUZZ_H
#define QN_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
/* Calls emit for each seed: inputs that reach deep, made by code so that no binary files are kept. */
void qf_seeds(void (*emit)(void *ctx, const uint8_t *data, size_t n), void *ctx);

#define QF_CHECK(cond)                                                        \
    do {                                                                      \
        if (!(cond)) {                                                        \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #cond); \
            abort();                                                          \
        }                                                                     \
    } while (0)

#endif
