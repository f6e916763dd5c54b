/* seeds.h: seeds that are written down as text and made into bytes (qt_add_gguf, qt_add_proto). */
#ifndef QN_TESTS_FUZZ_SEEDS_H
#define QN_TESTS_FUZZ_SEEDS_H

#include "tests/support/hostile.h"

static inline void qf_emit_built(void (*emit)(void *, const uint8_t *, size_t), void *ctx,
                                 void (*build)(qt_buf *, const char *, uint64_t *), const char *const *texts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        qt_buf b = {0};
        uint64_t mark;
        build(&b, texts[i], &mark);
        emit(ctx, b.p, b.n);
        qt_buf_free(&b);
    }
}

#endif
