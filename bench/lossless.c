/* lossless.c: the lossless codecs against memcpy, order-0 bounds, zstd, zlib: Markdown tables of ratios on stdout.
 *
 *     bench/lossless [MODELS_DIR] [--quick | --peers]
 *
 * One core, thread CPU time, medians, each measured beside its reference in the same run. */
#include "base/cpu.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "bench/packed.h"
#include "bench/timing.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SPEED_BYTES = 128 << 20, SAMPLES = 9 };

/* ---- data ---- */

static uint64_t next(uint64_t *s)
{
    uint64_t z = *s += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static double normal(uint64_t *s)
{
    const double u = ((double)(next(s) >> 11) + 0.5) * 0x1p-53, v = (double)(next(s) >> 11) * 0x1p-53;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

static const struct {
    const char *path, *model;
} models[] = {
    {"esrgan-thick-x4/model-bf16.safetensors", "esrgan bf16"},
    {"bf16-genuine-lora-opt125m/adapter_model.safetensors", "lora bf16"},
    {"babyllama105/hf-bf16", "babyllama bf16"},
    {"stories260k/hf-bf16", "stories260k bf16"},
    {"stories-moe8x-upcycled/hf-bf16", "stories-moe bf16"},
    {"use-lite/model-f32.safetensors", "use-lite"},
    {"bytelm-5m/model.safetensors", "bytelm"},
    {"retsim/model.safetensors", "retsim"},
    {"rwkv5.2-730k/model-f32.safetensors", "rwkv5.2"},
    {"silero-vad/silero_vad_16k.safetensors", "silero"},
    {"cifar-resnet20/model-f32.safetensors", "resnet20"},
    {"hybrid-mamba2-248k/model-f32.safetensors", "mamba2"},
};

static void load(bench_corpus *c, const qn_env *env, const char *dir)
{
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        char path[2048];
        snprintf(path, sizeof path, "%s/%s", dir, models[i].path);
        bench_corpus_add(c, env, path, models[i].model);
    }
    bench_corpus_round(c, 0, c->n);
}

/* ---- speed ---- */

struct way {
    const char *name;
    unsigned cpu;
};

static unsigned ways(struct way out[3])
{
    const unsigned have = qn_cpu_detect();
    unsigned n = 0;
    if (have & QN_CPU_AVX512)
        out[n++] = (struct way){"AVX-512", QN_CPU_AVX2 | QN_CPU_AVX512};
    if (have & QN_CPU_AVX2)
        out[n++] = (struct way){"AVX2", QN_CPU_AVX2};
    out[n++] = (struct way){"C", 0};
    return n;
}

static void speed_rows(const bench_tensor *t, unsigned codec, qn_encode_fn encode, qn_level level, const char *name,
                       bench_copy *copy)
{
    struct way w[3];
    const unsigned n = ways(w);
    for (unsigned i = 0; i < n; i++) {
        bench_packed p;
        double sec, ref, esec, eref;
        bench_packed_open(&p, t, w[i].cpu, level, codec, encode, copy->to);
        bench_packed_encode(&p);
        bench_packed_check(&p);
        bench_pair(bench_packed_decode, &p, bench_copy_run, copy, SAMPLES, &sec, &ref);
        bench_pair(bench_packed_encode, &p, bench_copy_run, copy, 3, &esec, &eref);
        printf("| %s | %s | %.4f | %.2f | %.2f | %.2f | %.2f |\n", name, w[i].name,
               (double)p.stored_bytes / (double)t->n_bytes, ref / sec, (double)t->n_bytes / sec * 1e-9, eref / esec,
               (double)t->n_bytes / esec * 1e-9);
        bench_packed_release(&p);
    }
}

static void speed(void)
{
    const uint64_t n = SPEED_BYTES / 2;
    uint64_t s = 1;
    uint8_t *data = aligned_alloc(64, SPEED_BYTES), *to = aligned_alloc(64, SPEED_BYTES);
    for (uint64_t i = 0; i < n; i++)
        qn_store16(data + 2 * i, qn_f32_to_bf16((float)(0.02 * normal(&s))));
    memset(to, 1, SPEED_BYTES);
    bench_corpus c = {0};
    bench_corpus_take(&c, "N(0, 0.02)", "bf16", QN_BF16, 16384, n / 16384, data);
    bench_copy copy = {.from = data, .to = to, .n = SPEED_BYTES};
    printf("### Speed: bf16, 128 MiB, DRAM to DRAM\n\n| codec | kernels | size | decode ÷ memcpy | GB/s | "
           "encode ÷ memcpy | GB/s |\n| --- | --- | ---: | ---: | ---: | ---: | ---: |\n");
    speed_rows(&c.t[0], QN_CODEC_FAST, qn_enc_fast, QN_LEVEL_FAST, "fast", &copy);
    speed_rows(&c.t[0], QN_CODEC_DENSE, qn_enc_dense, QN_LEVEL_DENSE, "dense", &copy);
    speed_rows(&c.t[0], 0, NULL, QN_LEVEL_FAST, "level fast (selection)", &copy);
    speed_rows(&c.t[0], 0, NULL, QN_LEVEL_DENSE, "level dense (selection)", &copy);
    printf("\n");
    free(to);
    bench_corpus_release(&c);
}

/* ---- sizes against the order-0 bound ---- */

static size_t stored(const bench_tensor *t, unsigned codec, qn_encode_fn encode, qn_level level)
{
    bench_packed p;
    bench_packed_open(&p, t, qn_cpu_detect(), level, codec, encode, NULL);
    bench_packed_encode(&p);
    bench_packed_check(&p);
    const size_t n = p.stored_bytes;
    bench_packed_release(&p);
    return n;
}

static void fast_sizes(const bench_corpus *c)
{
    enum { LARGE = 256 << 10 };
    printf("### fast: every bf16 tensor of at least 256 Ki weights, bits per weight\n\n| tensor | order-0 bound | fast | over |\n"
           "| --- | ---: | ---: | ---: |\n");
    unsigned n = 0, within = 0;
    for (size_t i = 0; i < c->n; i++) {
        const bench_tensor *t = &c->t[i];
        if (t->dtype != QN_BF16 || t->n < LARGE)
            continue;
        const double bound = bench_order0_bound(t);
        const double got = 8.0 * (double)stored(t, QN_CODEC_FAST, qn_enc_fast, QN_LEVEL_FAST) / (double)t->n;
        printf("| %s%s %s | %.4f | %.4f | %+.4f |\n", t->model, t->derived ? " (rounded)" : "", t->name, bound, got,
               got - bound);
        n++;
        within += got <= bound + 0.03;
    }
    printf("\n%u of %u within 0.03 bits of the bound.\n\n", within, n);
}

static void level_sizes(const bench_corpus *c)
{
    printf("### Levels against the order-0 bound, whole models, payloads with tables and states\n\n"
           "| model | weights | order-0 ratio | fast | dense | max | dense below bound | tensors ≥ 64 Ki with dense ≥ 0.5 %% below |\n"
           "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
    double sum_pct = 0, all_bound = 0, all_dense = 0;
    unsigned n_models = 0;
    for (size_t i = 0; i < c->n;) {
        size_t end = i;
        double bound = 0, raw = 0, size[3] = {0};
        uint64_t n = 0;
        unsigned big = 0, good = 0;
        for (; end < c->n && strcmp(c->t[end].model, c->t[i].model) == 0 && c->t[end].derived == c->t[i].derived; end++) {
            const bench_tensor *t = &c->t[end];
            const double b = bench_order0_bound(t) * (double)t->n / 8;
            double d = 0;
            for (int level = 0; level < 3; level++) {
                const double got = (double)stored(t, 0, NULL, (qn_level)(QN_LEVEL_FAST + level));
                size[level] += got;
                d = level == 1 ? got : d;
            }
            bound += b;
            raw += (double)t->n_bytes;
            n += t->n;
            if (t->n >= 64 << 10) {
                big++;
                good += d <= 0.995 * b;
            }
        }
        const double pct = 100 * (1 - size[1] / bound);
        printf("| %s%s | %llu | %.4f | %.4f | %.4f | %.4f | %.2f %% | %u of %u |\n", c->t[i].model,
               c->t[i].derived ? " as bf16" : "", (unsigned long long)n, bound / raw, size[0] / raw, size[1] / raw,
               size[2] / raw, pct, good, big);
        sum_pct += pct;
        all_bound += bound;
        all_dense += size[1];
        n_models++;
        i = end;
    }
    printf("\ndense below the bound: %.2f %% as the mean over models, %.2f %% over all bytes.\n\n", sum_pct / n_models,
           100 * (1 - all_dense / all_bound));
}

/* ---- peers ---- */

static void peers(const bench_corpus *c, qn_level level, const char *level_name)
{
    static const struct {
        int zstd;
        const char *name;
    } row[] = {{1, "zstd -1"}, {3, "zstd -3"}, {19, "zstd -19"}, {0, "zlib -6"}};
    printf("### %s against byte planes + zstd or zlib, and copy; all %zu float tensors\n\n| peer | our size ÷ its | smaller on | "
           "largest other | decode speed ÷ its | faster on | largest other | encode speed ÷ its | faster on |\n| --- | ---: | "
           "---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
           level_name, c->n);
    double our_size = 0, our_dec = 0, our_enc = 0, raw = 0, copy_sec = 0;
    size_t worst = 0, *size = calloc(c->n, sizeof *size), below_raw = 0;
    double *dec = calloc(c->n, sizeof *dec), *enc = calloc(c->n, sizeof *enc);
    for (size_t i = 0; i < c->n; i++) {
        const bench_tensor *t = &c->t[i];
        bench_packed p;
        bench_packed_open(&p, t, qn_cpu_detect(), level, 0, NULL, NULL);
        bench_packed_encode(&p);
        bench_packed_check(&p);
        bench_copy copy = {.from = t->data, .to = p.back, .n = t->n_bytes};
        double sec;
        bench_pair(bench_packed_decode, &p, bench_copy_run, &copy, 3, &dec[i], &sec);
        enc[i] = bench_time(bench_packed_encode, &p, 3);
        size[i] = p.stored_bytes;
        bench_packed_release(&p);
        our_size += (double)size[i];
        our_dec += dec[i];
        our_enc += enc[i];
        copy_sec += sec;
        raw += (double)t->n_bytes;
        below_raw += size[i] < t->n_bytes;
    }
    for (size_t k = 0; k < sizeof row / sizeof row[0]; k++) {
        double its_size = 0, its_dec = 0, its_enc = 0;
        size_t smaller = 0, faster = 0, efaster = 0;
        uint64_t not_smaller = 0, not_faster = 0; /* weights of the largest tensor where we are not */
        for (size_t i = 0; i < c->n; i++) {
            bench_peer p;
            bench_peer_open(&p, &c->t[i], row[k].zstd);
            const double e = bench_time(bench_peer_encode, &p, 1);
            bench_peer_check(&p);
            const double d = bench_time(bench_peer_decode, &p, 3);
            its_size += (double)p.stored_bytes;
            its_dec += d;
            its_enc += e;
            smaller += size[i] < p.stored_bytes;
            not_smaller = size[i] < p.stored_bytes ? not_smaller : qn_max_u64(not_smaller, c->t[i].n);
            not_faster = dec[i] < d ? not_faster : qn_max_u64(not_faster, c->t[i].n);
            if (size[i] >= p.stored_bytes && worst++ < 12)
                fprintf(stderr, "%s not smaller than %s: %s%s %s %s %llu units: %zu, peer %zu\n", level_name, row[k].name,
                        c->t[i].model, c->t[i].derived ? " (rounded)" : "", c->t[i].name, qn_dtype_name(c->t[i].dtype),
                        (unsigned long long)c->t[i].n, size[i], p.stored_bytes);
            faster += dec[i] < d;
            efaster += enc[i] < e;
            bench_peer_release(&p);
        }
        printf("| %s | %.4f | %zu | %llu | %.2f | %zu | %llu | %.2f | %zu |\n", row[k].name, our_size / its_size, smaller,
               (unsigned long long)not_smaller, its_dec / our_dec, faster, (unsigned long long)not_faster,
               its_enc / our_enc, efaster);
    }
    printf("| plain copy | %.4f | %zu | | %.2f | | | %.2f | |\n\n", our_size / raw, below_raw, copy_sec / our_dec,
           copy_sec / our_enc);
    free(size);
    free(dec);
    free(enc);
}

/* ---- data that is secretly narrower ---- */

static void made(bench_corpus *out, const bench_corpus *c, const char *model, const char *name, qn_dtype dtype,
                 void (*make)(const float *src, uint64_t n, uint8_t *dst))
{
    for (size_t i = 0; i < c->n; i++) {
        const bench_tensor *t = &c->t[i];
        if (t->dtype != QN_F32 || t->n < 128 << 10 || strcmp(t->model, model) != 0)
            continue;
        const uint64_t cols = t->dims[t->rank - 1], n = t->n;
        uint8_t *data = aligned_alloc(64, (n * qn_unit_bytes(dtype) + 63) / 64 * 64);
        float *f = malloc(n * 4);
        for (uint64_t k = 0; k < n; k++)
            f[k] = qn_bits_f32(qn_load32(t->data + 4 * k));
        make(f, n, data);
        free(f);
        bench_corpus_take(out, name, t->name, dtype, n / cols, cols, data);
    }
}

/* Q8_0: blocks of 32, scale = absmax/127 in f16, round to nearest. */
static void make_q8(const float *src, uint64_t n, uint8_t *dst)
{
    for (uint64_t i = 0; i < n; i += 32) {
        const uint64_t m = n - i < 32 ? n - i : 32;
        float top = 0;
        for (uint64_t k = 0; k < m; k++)
            top = fabsf(src[i + k]) > top ? fabsf(src[i + k]) : top;
        const float d = top / 127.0f, stored_d = qn_f16_to_f32(qn_f32_to_f16(d));
        for (uint64_t k = 0; k < m; k++) {
            const float q = d > 0 ? roundf(src[i + k] / d) : 0;
            qn_store32(dst + 4 * (i + k), qn_f32_bits(stored_d * q));
        }
    }
}

/* Q4_0: blocks of 32, scale = (signed absmax)/−8 in f16, levels −8 … 7. */
static void make_q4(const float *src, uint64_t n, uint8_t *dst)
{
    for (uint64_t i = 0; i < n; i += 32) {
        const uint64_t m = n - i < 32 ? n - i : 32;
        float top = 0;
        for (uint64_t k = 0; k < m; k++)
            top = fabsf(src[i + k]) > fabsf(top) ? src[i + k] : top;
        const float d = top / -8.0f, stored_d = qn_f16_to_f32(qn_f32_to_f16(d));
        for (uint64_t k = 0; k < m; k++) {
            float q = d != 0 ? floorf(src[i + k] / d + 8.5f) : 8;
            q = q > 15 ? 15 : q;
            qn_store32(dst + 4 * (i + k), qn_f32_bits(stored_d * (q - 8)));
        }
    }
}

static void make_bf16_in_f32(const float *src, uint64_t n, uint8_t *dst)
{
    for (uint64_t i = 0; i < n; i++)
        qn_store32(dst + 4 * i, (uint32_t)qn_f32_to_bf16(src[i]) << 16);
}

static void make_bf16_in_f16(const float *src, uint64_t n, uint8_t *dst)
{
    for (uint64_t i = 0; i < n; i++)
        qn_store16(dst + 2 * i, qn_f32_to_f16(qn_bf16_to_f32(qn_f32_to_bf16(src[i]))));
}

static void see_through(const bench_corpus *c)
{
    static const struct {
        const char *name;
        qn_dtype dtype;
        void (*make)(const float *, uint64_t, uint8_t *);
        double bar;
    } row[] = {
        {"fp32 that is dequantised Q8_0", QN_F32, make_q8, 0.27},
        {"fp32 that is dequantised Q4_0", QN_F32, make_q4, 0},
        {"fp32 that is bf16", QN_F32, make_bf16_in_f32, 0.33},
        {"fp16 that was bf16", QN_F16, make_bf16_in_f16, 0.66},
    };
    static const char *const from[] = {"use-lite", "bytelm"};
    printf("### Data that is secretly narrower, made from real tensors: size ÷ original\n\n| what | from | fast | dense | "
           "planes + zstd -19 | bar |\n| --- | --- | ---: | ---: | ---: | ---: |\n");
    for (size_t r = 0; r < sizeof row / sizeof row[0]; r++)
        for (size_t m = 0; m < 2; m++) {
            bench_corpus out = {0};
            double raw = 0, fast = 0, dense = 0, peer = 0;
            made(&out, c, from[m], row[r].name, row[r].dtype, row[r].make);
            for (size_t i = 0; i < out.n; i++) {
                bench_peer p;
                raw += (double)out.t[i].n_bytes;
                fast += (double)stored(&out.t[i], 0, NULL, QN_LEVEL_FAST);
                dense += (double)stored(&out.t[i], 0, NULL, QN_LEVEL_DENSE);
                bench_peer_open(&p, &out.t[i], 19);
                bench_peer_encode(&p);
                peer += (double)p.stored_bytes;
                bench_peer_release(&p);
            }
            if (out.n)
                printf("| %s | %s | %.4f | %.4f | %.4f | %.*f |\n", row[r].name, from[m], fast / raw, dense / raw, peer / raw,
                       row[r].bar > 0 ? 2 : 0, row[r].bar);
            bench_corpus_release(&out);
        }
    printf("\n");
}

static void print_cpu(void)
{
    char line[256], name[200] = "unknown";
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "model name : %199[^\n]", name) == 1)
            break;
    if (f)
        fclose(f);
    printf("CPU: %s, kernels up to %s, one core, thread CPU time, medians.\n\n", name, qn_cpu_name(qn_cpu_detect()));
}

int main(int argc, char **argv)
{
    const char *dir = "../shared/models";
    bool quick = false, only_peers = false;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--quick") == 0)
            quick = true;
        else if (strcmp(argv[i], "--peers") == 0)
            only_peers = true;
        else
            dir = argv[i];
    qn_env env;
    qn_err err;
    qn_err_clear(&err);
    if (qn_env_init(&env, &err) != QN_OK) {
        fprintf(stderr, "bench: %s\n", err.text);
        return (int)err.code;
    }
    bench_corpus c = {0};
    setvbuf(stdout, NULL, _IOLBF, 0);
    print_cpu();
    if (!only_peers)
        speed();
    load(&c, &env, dir);
    if (c.n == 0) {
        fprintf(stderr, "bench: no models in %s: name the folder that holds them\n", dir);
        return 3;
    }
    if (!only_peers) {
        fast_sizes(&c);
        see_through(&c);
    }
    if (!quick) {
        if (!only_peers)
            level_sizes(&c);
        peers(&c, QN_LEVEL_FAST, "fast");
        peers(&c, QN_LEVEL_DENSE, "dense");
    }
    bench_corpus_release(&c);
    return 0;
}
