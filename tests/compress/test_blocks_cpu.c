/* test_blocks_cpu.c: the kernels of all processors give the same blocks: every type, with and without what a metric feeds back, for ordinary targets and for
 * large, tiny, equal and vanishing ones. */
#include "base/num.h"
#include "compress/blocks/span.h"
#include "tests/compress/span_made.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = QN_SPAN_MAX, BYTES_MOST = 9 * N / 8 + 64 };

struct metrics {
    float m[N * N], feed[N * N], weight[N], diag[N];
    uint16_t order[N], natural[N];
};

static struct metrics *make(uint64_t seed, unsigned dead)
{
    struct metrics *k = calloc(1, sizeof *k);
    double *work = malloc(N * N * sizeof *work);
    span_moment(seed, dead, k->m, k->diag);
    cr_assert(qn_span_order(N, k->m, k->diag, k->order, k->feed, k->weight, work));
    for (unsigned j = 0; j < N; j++)
        k->natural[j] = (uint16_t)j;
    free(work);
    return k;
}

static void targets(unsigned kind, float *t)
{
    qt_rng r = qt_seed(40 + kind);
    for (unsigned j = 0; j < N; j++) {
        t[j] = (float)(0.02 * qt_normal(&r));
        if (kind == 1)
            t[j] = j % 32 == 3 ? 300 : t[j] * 1e-3f;
        else if (kind == 2)
            t[j] = j < N / 2 ? 0 : 1e-40f * (float)j;
        else if (kind == 3)
            t[j] = 0.5f;
        else if (kind == 4)
            t[j] *= 1e38f; /* sums of products overflow */
    }
}

/* One type, one metric, one kind of targets, under every variant. */
static void check(const qn_block_coder *c, const qn_span_metric *metric, unsigned kind)
{
    unsigned cpu[4];
    const unsigned n_cpu = qt_cpu_variants(cpu);
    const size_t n_bytes = (size_t)qn_bytes_of_elems(c->dtype, N), room = (c->scratch_bytes + 63) / 64 * 64 + 64, more = (c->prepared_bytes + 63) / 64 * 64 + 64;
    uint8_t first[BYTES_MOST], block[BYTES_MOST];
    float t[N], r[N], first_r[N];
    void *scratch = aligned_alloc(64, room), *prepared = aligned_alloc(64, more);
    cr_assert(scratch && prepared && n_bytes <= sizeof first);
    targets(kind, t);
    for (unsigned v = 0; v < n_cpu; v++) {
        qn_span_kern kern;
        qn_span_metric m = *metric;
        qn_ekern_span_init(&kern, cpu[v]);
        m.kern = &kern;
        memset(prepared, 0, more);
        memset(scratch, 0xa5, room); /* what was there before does not matter */
        if (c->prepare && m.m) {
            c->prepare(&m, prepared);
            m.prepared = prepared;
        }
        c->encode(&m, t, v ? block : first, v ? r : first_r, scratch);
        cr_assert(!v || memcmp(first, block, n_bytes) == 0, "%s, targets %u, variant %x: other blocks", c->name, kind, cpu[v]);
        cr_assert(!v || memcmp(first_r, r, sizeof r) == 0, "%s, targets %u, variant %x: other numbers", c->name, kind, cpu[v]);
    }
    float y[N];
    cr_assert_eq(qn_ggml_f32(c->dtype, first, N, y, NULL), QN_OK);
    for (unsigned j = 0; j < N; j++)
        cr_assert(isfinite(y[j]) && y[j] == first_r[j], "%s, targets %u, column %u: %g decodes to %g", c->name, kind, j, (double)first_r[j], (double)y[j]);
    free(scratch);
    free(prepared);
}

Test(blocks_cpu, the_same_blocks)
{
    struct metrics *k = make(11, 7);
    const qn_span_metric full = {.n = N, .m = k->m, .weight = k->weight, .diag = k->diag, .order = k->order, .feed = k->feed};
    const qn_span_metric alone = {.n = N, .weight = k->diag, .diag = k->diag, .order = k->natural};
    cr_assert_eq(qn_block_coder_count, 25);
    for (unsigned i = 0; i < qn_block_coder_count; i++)
        for (unsigned kind = 0; kind < 5; kind++) {
            check(qn_block_coders[i], &full, kind);
            check(qn_block_coders[i], &alone, kind);
        }
    free(k);
}
