/* test_kern_fast.c: every variant of the fast codec's kernels against the C reference, between
 * guard pages.
 *
 * Any bytes are a valid code, so tables, states, code, raw bits and escapes are random. A variant
 * may stop early: then the reference finishes, as runtime/dec_fast.c does, and the outcome must be
 * what the reference alone gives. */
#include "compress/ekern_fast.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <string.h>

static const unsigned raw_bytes[QN_FAST_KINDS] = {0, 1, 1, 3},
                      dst_bytes[QN_FAST_KINDS] = {1, 2, 2, 4};

/* n symbols below n_values, distinct mod 64, in random order; skew 0: about equal frequencies, 1:
 * random, 2: one has nearly everything. */
static void random_table(qt_rng *r, unsigned n, unsigned n_values, unsigned skew, bool esc,
                         qn_fast_tab *t)
{
    uint8_t sym[64], freq[64];
    unsigned left = 256 - n;
    for (unsigned i = 0; i < 64; i++) {
        const unsigned j = (unsigned)qt_below(r, i + 1);
        sym[i] = sym[j];
        sym[j] = (uint8_t)((i + 64 * qt_below(r, 4)) % n_values);
    }
    memset(freq, 1, sizeof freq);
    if (skew == 2) {
        freq[qt_below(r, n)] = (uint8_t)(left + 1);
        left = 0;
    }
    for (unsigned i = 0; left > 0; i = (i + 1) % n) {
        const unsigned f = skew == 0 ? 1 : (unsigned)qt_below(r, left + 1);
        freq[i] = (uint8_t)(freq[i] + f);
        left -= f;
    }
    cr_assert(qn_fast_tab_build(t, sym, freq, n, esc ? sym[qt_below(r, n)] : QN_FAST_NO_ESC));
}

typedef struct room {
    qt_guarded code, raw, raw2, esc, dst;
} room;

static size_t go(qn_fast_run_fn run, qn_fast_kind kind, const qn_fast_tab *t, qn_fast_state *st,
                 size_t n_rounds, const room *m, uint8_t *dst)
{
    size_t done = 0;
    st->p = m->code.p;
    st->end = m->code.p + m->code.n;
    st->esc = m->esc.p;
    st->esc_end = m->esc.p + m->esc.n;
    if (run)
        done = run(t, st, n_rounds, m->raw.p, m->raw2.p, dst);
    const size_t at = done * st->n_streams;
    if (!st->failed && done < n_rounds)
        done += qn_fast_run_c(kind, t, st, n_rounds - done, m->raw.p + at * raw_bytes[kind],
                              m->raw2.p + at / 4, dst + at * dst_bytes[kind]);
    return done;
}

static void compare(qt_rng *r, const qn_kern_fast *k, qn_fast_kind kind, unsigned log_s,
                    unsigned n_syms, unsigned skew, bool esc, bool starve)
{
    qn_fast_tab t;
    qn_fast_state a = {.n_streams = 1u << log_s}, b;
    const size_t n_rounds = 1 + qt_below(r, 12), n = n_rounds << log_s;
    uint8_t *want = malloc(n * dst_bytes[kind]);
    room m = {.code = qt_guard_tail(starve ? n / 2 : n + qt_below(r, 100)),
              .raw = qt_guard_tail(n * raw_bytes[kind]),
              .raw2 = qt_guard_tail((n + 3) / 4),
              .esc = qt_guard_tail(starve ? n / 64 : n),
              .dst = qt_guard_tail(n * dst_bytes[kind])};
    random_table(r, n_syms, kind == QN_FAST_F16 ? 64 : 256, skew, esc, &t);
    for (unsigned j = 0; j < 256; j++) {
        a.lo[j] = (uint8_t)qt_next(r);
        a.hi[j] = (uint8_t)(1 + qt_below(r, 255));
    }
    for (size_t i = 0; i < m.code.n; i++)
        m.code.p[i] = (uint8_t)qt_next(r);
    for (size_t i = 0; i < m.raw.n; i++)
        m.raw.p[i] = (uint8_t)qt_next(r);
    for (size_t i = 0; i < m.raw2.n; i++)
        m.raw2.p[i] = (uint8_t)qt_next(r);
    for (size_t i = 0; i < m.esc.n; i++)
        m.esc.p[i] = (uint8_t)qt_below(r, kind == QN_FAST_F16 ? 64 : 256);
    b = a;
    const size_t done_a = go(NULL, kind, &t, &a, n_rounds, &m, want),
                 done_b = go(k->run[kind], kind, &t, &b, n_rounds, &m, m.dst.p);
    cr_assert_eq(a.failed, b.failed, "kind %d streams %u symbols %u", kind, 1u << log_s, n_syms);
    if (!a.failed) {
        cr_assert(done_a == n_rounds && done_b == n_rounds);
        cr_assert(a.p == b.p && a.esc == b.esc);
        cr_assert_eq(memcmp(a.lo, b.lo, a.n_streams), 0);
        cr_assert_eq(memcmp(a.hi, b.hi, a.n_streams), 0);
        cr_assert_eq(memcmp(want, m.dst.p, m.dst.n), 0, "kind %d streams %u symbols %u", kind,
                     1u << log_s, n_syms);
    }
    free(want);
    qt_guard_free(&m.code);
    qt_guard_free(&m.raw);
    qt_guard_free(&m.raw2);
    qt_guard_free(&m.esc);
    qt_guard_free(&m.dst);
}

Test(kern_fast, decoders_agree)
{
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    qt_rng r = qt_seed(1);
    for (unsigned i = 1; i < n_cpu; i++) {
        qn_kern_fast k;
        qn_kern_fast_init(&k, cpu[i]);
        for (unsigned kind = 0; kind < QN_FAST_KINDS; kind++)
            for (unsigned log_s = 0; log_s <= 8; log_s++)
                for (unsigned n_syms = 2; n_syms <= 64; n_syms += n_syms < 20 ? 1 : 11)
                    for (unsigned skew = 0; skew < 3; skew++)
                        for (unsigned flags = 0; flags < 4; flags++)
                            compare(&r, &k, (qn_fast_kind)kind, log_s, n_syms, skew, flags & 1,
                                    flags & 2);
    }
}

Test(kern_fast, encoders_agree)
{
    enum { N = 40000 };
    static uint8_t src[4 * N], sym[N], raw[3 * N], raw2[N];
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    qt_rng r = qt_seed(2);
    qn_ekern_fast c;
    qn_ekern_fast_init(&c, 0);
    for (size_t i = 0; i < sizeof src; i++)
        src[i] = (uint8_t)qt_next(&r);
    for (unsigned i = 1; i < n_cpu; i++) {
        qn_ekern_fast k;
        qn_ekern_fast_init(&k, cpu[i]);
        for (unsigned kind = QN_FAST_BF16; kind < QN_FAST_KINDS; kind++)
            for (size_t n = 1; n <= N; n += 1 + n / 3) {
                qt_guarded in = qt_guard_tail(n * dst_bytes[kind]),
                           out = qt_guard_tail(n * raw_bytes[kind]),
                           out2 = qt_guard_tail((n + 3) / 4), out_sym = qt_guard_tail(n);
                const size_t n_raw = out.n - qt_below(&r, n);
                memcpy(in.p, src, in.n);
                c.symbols((qn_fast_kind)kind, src, n, sym);
                c.raws((qn_fast_kind)kind, src, n, raw2, raw, n_raw);
                k.symbols((qn_fast_kind)kind, in.p, n, out_sym.p);
                k.raws((qn_fast_kind)kind, in.p, n, out2.p, out.p, n_raw);
                cr_assert_eq(memcmp(sym, out_sym.p, n), 0);
                cr_assert_eq(memcmp(raw, out.p, n_raw), 0);
                cr_assert(kind != QN_FAST_F16 || memcmp(raw2, out2.p, out2.n) == 0);
                qt_guard_free(&in);
                qt_guard_free(&out);
                qt_guard_free(&out2);
                qt_guard_free(&out_sym);
            }
        /* counting: from flat, where no symbol is common, to a few that are and rarities between
         * them */
        for (unsigned spread = 1; spread <= 256; spread *= 2)
            for (size_t n = 16000; n < N; n += 4111) {
                uint32_t a[256] = {0}, b[256] = {0};
                for (size_t j = 0; j < n; j++)
                    sym[j] =
                        (uint8_t)(qt_below(&r, 1000) ? 60 + qt_below(&r, spread) : qt_next(&r));
                c.count(sym, n, a);
                k.count(sym, n, b);
                cr_assert_eq(memcmp(a, b, sizeof a), 0);
            }
    }
}
