/* tensors.c: one line a tensor: order-0 bound, dense, byte planes + zstd -19, speeds; then one a model. Markdown on stdout.
 *
 *     bench/tensors [MODELS_DIR] [--models] [--no-zstd] [NAME …]
 *
 * --models: only the table of models. NAME: only models whose path contains one of these. */
#include "base/cpu.h"
#include "base/err.h"
#include "bench/packed.h"
#include "bench/timing.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const paths[] = {
    "esrgan-thick-x4/model-bf16.safetensors",
    "bf16-genuine-lora-opt125m/adapter_model.safetensors",
    "babyllama105/hf-bf16",
    "stories260k/hf-bf16",
    "stories-moe8x-upcycled/hf-bf16",
    "use-lite/model-f32.safetensors",
    "bytelm-5m/model.safetensors",
    "retsim/model.safetensors",
    "rwkv5.2-730k/model-f32.safetensors",
    "silero-vad/silero_vad_16k.safetensors",
    "cifar-resnet20/model-f32.safetensors",
    "hybrid-mamba2-248k/model-f32.safetensors",
};

typedef struct totals {
    double raw, bound, dense, best, zstd, enc, dec, copy;
    uint64_t n;
    unsigned lost; /* tensors of 200 weights and more where zstd is smaller than both dense and the selection */
} totals;

typedef struct run {
    bool lines, zstd;
    totals all;
    double sum_pct;
    unsigned n_models;
} run;

static double stored(const bench_tensor *t, unsigned codec, qn_encode_fn encode, totals *timed)
{
    bench_packed p;
    bench_packed_open(&p, t, qn_cpu_detect(), QN_LEVEL_DENSE, codec, encode, NULL);
    bench_packed_encode(&p);
    bench_packed_check(&p);
    if (timed) {
        double d, c;
        bench_copy copy = {.from = t->data, .to = p.back, .n = t->n_bytes};
        timed->enc += bench_time(bench_packed_encode, &p, 1);
        bench_pair(bench_packed_decode, &p, bench_copy_run, &copy, 1, &d, &c);
        timed->dec += d;
        timed->copy += c;
    }
    const double n = (double)p.stored_bytes;
    bench_packed_release(&p);
    return n;
}

static void tensor(const bench_tensor *t, run *r, totals *m)
{
    totals one = {.raw = (double)t->n_bytes, .n = t->n, .bound = bench_order0_bound(t) * (double)t->n / 8};
    one.dense = stored(t, QN_CODEC_DENSE, qn_enc_dense, &one);
    one.best = stored(t, 0, NULL, NULL);
    if (r->zstd) {
        bench_peer p;
        bench_peer_open(&p, t, 19);
        bench_peer_encode(&p);
        one.zstd = (double)p.stored_bytes;
        bench_peer_release(&p);
        m->lost += t->n >= 200 && one.zstd < one.dense && one.zstd < one.best;
    }
    if (r->lines) {
        printf("| %s%s | %s |", t->model, t->derived ? " (rounded)" : "", t->name);
        for (unsigned i = 0; i < t->rank; i++)
            printf("%s%llu", i ? "×" : " ", (unsigned long long)t->dims[i]);
        printf(" | %.0f | %.0f | %+.2f %% | %.0f | %.0f%s | %.3f | %.1f |\n", one.bound, one.dense,
               100 * (one.dense / one.bound - 1), one.best, one.zstd, r->zstd && one.zstd < one.dense ? " <" : "",
               one.raw / one.enc * 1e-9, one.enc * 1e6);
    }
    m->raw += one.raw;
    m->n += one.n;
    m->bound += one.bound;
    m->dense += one.dense;
    m->best += one.best;
    m->zstd += one.zstd;
    m->enc += one.enc;
    m->dec += one.dec;
    m->copy += one.copy;
}

static void model(const bench_corpus *c, run *r, totals *m)
{
    if (r->lines)
        printf("\n| model | tensor | shape | order-0 bound | dense | difference | selection | zstd -19 | encode GB/s | µs |\n"
               "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
    for (size_t i = 0; i < c->n; i++)
        if (c->t[i].dtype == QN_BF16)
            tensor(&c->t[i], r, m);
}

int main(int argc, char **argv)
{
    const char *dir = "../shared/models", *want[16];
    unsigned n_want = 0;
    run r = {.lines = true, .zstd = true};
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--models") == 0)
            r.lines = false;
        else if (strcmp(argv[i], "--no-zstd") == 0)
            r.zstd = false;
        else if (strchr(argv[i], '/'))
            dir = argv[i];
        else if (n_want < 16)
            want[n_want++] = argv[i];
    qn_env env;
    qn_err err;
    qn_err_clear(&err);
    if (qn_env_init(&env, &err) != QN_OK) {
        fprintf(stderr, "bench: %s\n", err.text);
        return (int)err.code;
    }
    totals m[sizeof paths / sizeof paths[0]] = {{0}};
    for (size_t k = 0; k < sizeof paths / sizeof paths[0]; k++) {
        char path[2048];
        bool skip = n_want > 0;
        for (unsigned i = 0; i < n_want; i++)
            skip = skip && !strstr(paths[k], want[i]);
        if (skip)
            continue;
        bench_corpus c = {0};
        snprintf(path, sizeof path, "%s/%s", dir, paths[k]);
        if (bench_corpus_add(&c, &env, path, paths[k])) {
            bench_corpus_round(&c, 0, c.n);
            model(&c, &r, &m[k]);
        }
        bench_corpus_release(&c);
    }
    printf("\n| model | weights | order-0 ratio | dense | difference | selection | difference | zstd -19 | zstd wins | "
           "encode GB/s | decode ÷ memcpy |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
    double sum = 0, sum_best = 0;
    unsigned n = 0;
    for (size_t k = 0; k < sizeof paths / sizeof paths[0]; k++) {
        if (m[k].n == 0)
            continue;
        const double pct = 100 * (m[k].dense / m[k].bound - 1), best = 100 * (m[k].best / m[k].bound - 1);
        printf("| %s | %llu | %.4f | %.4f | %+.2f %% | %.4f | %+.2f %% | %.4f | %u | %.3f | %.2f |\n", paths[k],
               (unsigned long long)m[k].n, m[k].bound / m[k].raw, m[k].dense / m[k].raw, pct, m[k].best / m[k].raw, best,
               m[k].zstd / m[k].raw, m[k].lost, m[k].raw / m[k].enc * 1e-9, m[k].copy / m[k].dec);
        sum += pct;
        sum_best += best;
        n++;
    }
    printf("\nMean over models: dense %+.2f %%, selection %+.2f %%.\n", sum / n, sum_best / n);
    return 0;
}
