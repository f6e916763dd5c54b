/* testkit.c: random data, guard pages, CPU variants; see testkit.h. */
#define _GNU_SOURCE
#include "tests/support/testkit.h"
#include "base/cpu.h"
#include "base/half.h"
#include "base/num.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

qt_rng qt_seed(uint64_t seed)
{
    qt_rng r;
    for (int i = 0; i < 4; i++) { /* splitmix64 */
        seed += 0x9e3779b97f4a7c15u;
        uint64_t z = seed;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        r.s[i] = z ^ z >> 31;
    }
    return r;
}

static uint64_t rotl(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

uint64_t qt_next(qt_rng *r)
{
    uint64_t *s = r->s;
    const uint64_t result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

uint64_t qt_below(qt_rng *r, uint64_t n)
{
    return n ? qt_next(r) % n : 0;
}

/* Sum of twelve uniforms is too thin in the tails; Box-Muller is not. */
double qt_normal(qt_rng *r)
{
    const double u = ((double)(qt_next(r) >> 11) + 0.5) * 0x1p-53, v = (double)(qt_next(r) >> 11) * 0x1p-53;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

static int64_t clamp(double v, double lo, double hi)
{
    return (int64_t)(v < lo ? lo : v > hi ? hi : nearbyint(v));
}

void qt_put(qn_dtype t, double v, uint8_t *dst)
{
    uint64_t u;
    switch (t) {
    case QN_F16:
        qn_store16(dst, qn_f32_to_f16((float)v));
        return;
    case QN_BF16:
        qn_store16(dst, qn_f32_to_bf16((float)v));
        return;
    case QN_F32:
    case QN_C64:
        qn_store32(dst, qn_f32_bits((float)v));
        return;
    case QN_F64:
        memcpy(&u, &v, 8);
        qn_store64(dst, u);
        return;
    case QN_F8_E4M3:
        *dst = qn_f32_to_e4m3((float)v);
        return;
    case QN_F8_E5M2:
        *dst = qn_f32_to_e5m2((float)v);
        return;
    default:
        break;
    }
    const unsigned n = qn_unit_bytes(t);
    const double top = ldexp(1.0, (int)(8 * n - 1));
    qn_store64((uint8_t *)&u, (uint64_t)clamp(v, -top, n == 8 ? 0x1p62 : top - 1));
    memcpy(dst, &u, n);
}

void qt_fill_normal(qt_rng *r, qn_dtype t, double sigma, size_t n, uint8_t *dst)
{
    const unsigned unit = qn_unit_bytes(t);
    for (size_t i = 0; i < n; i++)
        qt_put(t, sigma * qt_normal(r), dst + i * unit);
}

static qt_guarded guard(size_t n, bool tail)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (n + page - 1) / page * page;
    qt_guarded g = {.n = n, .map_bytes = body + 2 * page};
    uint8_t *m = mmap(NULL, g.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(m != MAP_FAILED, "no memory for guard pages");
    if (body)
        cr_assert_eq(mprotect(m + page, body, PROT_READ | PROT_WRITE), 0);
    g.map = m;
    g.p = tail ? m + page + body - n : m + page;
    return g;
}

qt_guarded qt_guard_tail(size_t n)
{
    return guard(n, true);
}

qt_guarded qt_guard_head(size_t n)
{
    return guard(n, false);
}

void qt_guard_free(qt_guarded *g)
{
    munmap(g->map, g->map_bytes);
    *g = (qt_guarded){0};
}

unsigned qt_cpu_variants(unsigned out[4])
{
    const unsigned have = qn_cpu_detect();
    unsigned n = 0;
    out[n++] = 0;
    if (have & QN_CPU_AVX2)
        out[n++] = QN_CPU_AVX2;
    if (have & QN_CPU_AVX512)
        out[n++] = QN_CPU_AVX2 | QN_CPU_AVX512;
    if (have & QN_CPU_NEON)
        out[n++] = QN_CPU_NEON;
    return n;
}

const char *qt_shared(const char *rel)
{
    static char path[4096];
    const char *root = getenv("QUERN_SHARED");
    snprintf(path, sizeof path, "%s/%s", root ? root : QT_SOURCE_ROOT "/../shared", rel);
    if (access(path, R_OK) == 0)
        return path;
    fprintf(stderr, "skipped: %s is not here\n", path);
    return NULL;
}

unsigned qt_rounds(unsigned n)
{
    return qt_sanitized() ? (n + 3) / 4 : n;
}
