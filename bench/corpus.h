/* corpus.h: float tensors to measure on, from real checkpoints, and what is made from them. */
#ifndef QN_BENCH_CORPUS_H
#define QN_BENCH_CORPUS_H

#include "base/env.h"
#include "formats/source.h"

typedef struct bench_tensor {
    char *model, *name; /* owned */
    qn_dtype dtype;
    unsigned rank;
    uint64_t dims[QN_RANK_MAX];
    uint64_t n, n_bytes; /* units, bytes */
    uint8_t *data;       /* owned */
    bool derived;        /* rounded from a wider type here */
} bench_tensor;

typedef struct bench_corpus {
    bench_tensor *t;
    size_t n, cap;
} bench_corpus;

/* Appends every float tensor of a checkpoint; false (and a line on stderr) when it cannot be read. */
bool bench_corpus_add(bench_corpus *c, const qn_env *env, const char *path, const char *model);
/* Appends bf16 copies (round to nearest even) of the f32 tensors in [first, end). */
void bench_corpus_round(bench_corpus *c, size_t first, size_t end);
/* Appends one tensor of the corpus' own: data is taken over. */
void bench_corpus_take(bench_corpus *c, const char *model, const char *name, qn_dtype dtype, uint64_t rows, uint64_t cols,
                       uint8_t *data);
void bench_corpus_release(bench_corpus *c);

/* Bits per unit when the exponent is coded at its order-0 entropy over the whole tensor and the rest is raw;
 * for 8-bit floats the entropy of the whole byte. */
double bench_order0_bound(const bench_tensor *t);

#endif
