/* timing.c: see timing.h. */
#include "bench/timing.h"
#include <stdlib.h>
#include <time.h>

enum { SAMPLES_MAX = 64 };
static const double SAMPLE_MIN_SEC = 2e-4;

double bench_cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, unsigned n)
{
    qsort(v, n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}

static double sample(bench_fn fn, void *ctx, unsigned repeats)
{
    const double begin = bench_cpu_now();
    for (unsigned i = 0; i < repeats; i++)
        fn(ctx);
    return (bench_cpu_now() - begin) / repeats;
}

/* How often fn must run for a sample to be long enough; the call is also the warm-up. */
static unsigned repeats_for(bench_fn fn, void *ctx)
{
    double sec = sample(fn, ctx, 1);
    if (sec < SAMPLE_MIN_SEC)
        sec = sample(fn, ctx, 1);
    if (sec >= SAMPLE_MIN_SEC)
        return 1;
    const double want = SAMPLE_MIN_SEC / (sec > 1e-8 ? sec : 1e-8);
    return (unsigned)want + 1;
}

double bench_time(bench_fn fn, void *ctx, unsigned n_samples)
{
    double t[SAMPLES_MAX];
    const unsigned repeats = repeats_for(fn, ctx), n = n_samples < SAMPLES_MAX ? n_samples : SAMPLES_MAX;
    for (unsigned i = 0; i < n; i++)
        t[i] = sample(fn, ctx, repeats);
    return median(t, n);
}

void bench_pair(bench_fn a, void *a_ctx, bench_fn b, void *b_ctx, unsigned n_samples, double *a_sec, double *b_sec)
{
    double ta[SAMPLES_MAX], tb[SAMPLES_MAX];
    const unsigned ra = repeats_for(a, a_ctx), rb = repeats_for(b, b_ctx);
    const unsigned n = n_samples < SAMPLES_MAX ? n_samples : SAMPLES_MAX;
    for (unsigned i = 0; i < n; i++) {
        ta[i] = sample(a, a_ctx, ra);
        tb[i] = sample(b, b_ctx, rb);
    }
    *a_sec = median(ta, n);
    *b_sec = median(tb, n);
}
