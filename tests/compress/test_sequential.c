/* test_sequential.c: statistics measured behind compressed blocks are those that the packed model's own weights give, block by block; the
 * same for every number of threads, and after a stop. */
#include "analysis/model_digest.h"
#include "analysis/stats/file.h"
#include "compress/lossy.h"
#include "compress/pack.h"
#include "compress/sequential.h"
#include "tests/support/made.h"
#include "tests/support/ok.h"
#include "tests/support/testkit.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL QT_SOURCE_ROOT "/testdata/stories260k-bf16"

enum { TOKENS = 96, BATCHES = 2 };

static qn_err err;

struct model {
    const qn_env *env;
    qn_source *src;
    qn_graph *graph;
    qn_digest digest;
    qn_pool *pool;
    qn_calibrate_feed feed;
    uint32_t n_fed, fail_at;
};

static qn_code feed(void *ctx, uint64_t batch, qn_array *in, qn_err *e)
{
    struct model *m = ctx;
    const int64_t n = TOKENS, two = 2;
    if (m->fail_at && ++m->n_fed == m->fail_at)
        return QN_FAIL(e, QN_E_CANCELLED, QN_NO_OFFSET, "stopped");
    QN_TRY(qn_array_new(m->pool, &in[0], QN_I64, &n, 1, e));
    QN_TRY(qn_array_new(m->pool, &in[1], QN_I64, &two, 1, e));
    for (int64_t i = 0; i < n; i++)
        ((int64_t *)in[0].data)[i] = (int64_t)(((uint64_t)(i * i) * 7 + batch * 5 + (uint64_t)i * 31) % 500);
    ((int64_t *)in[1].data)[0] = 0;
    ((int64_t *)in[1].data)[1] = n;
    return QN_OK;
}

static void open_model(struct model *m, unsigned n_threads)
{
    *m = (struct model){.env = qt_made_env(n_threads)};
    m->src = qt_made_open(m->env, MODEL);
    OK(qn_graph_open(m->env, m->src, &m->graph, &err));
    OK(qn_model_digest(m->env, m->src, &m->digest, &err));
    m->feed = (qn_calibrate_feed){.n_batches = BATCHES, .n_tokens = BATCHES * TOKENS, .feed = feed, .ctx = m, .pool = &m->pool};
}

static void close_model(struct model *m)
{
    qn_graph_close(m->graph);
    qn_source_close(m->src);
}

static qn_code calibrate(struct model *m, const char *name, qn_calibrate_options o)
{
    const qn_stats_meta meta = {.model = m->digest, .tokens = BATCHES * TOKENS};
    qn_calibration c;
    o.overwrite = true;
    qn_err_clear(&err);
    return qn_calibrate(m->env, m->graph, &m->feed, &meta, qt_made_path(name), &o, &c, &err);
}

/* The head is the embedding too, and stays as it is: its statistics come after its first use. */
static qn_recipe recipe_of(const char *codec, double bits)
{
    qn_recipe r = QN_RECIPE_EMPTY;
    r.all = (qn_recipe_part){.codec = codec, .set = {.bits = bits}};
    r.role[QN_ROLE_HEAD].codec = r.role[QN_ROLE_EMBEDDING].codec = QN_RECIPE_LOSSLESS;
    return r;
}

static qn_code sequential(struct model *m, const char *name, const char *codec, double bits)
{
    qn_recipe r = recipe_of(codec, bits);
    qn_sequential *s;
    qn_calibrate_options o = {0};
    OK(qn_sequential_open(&s, m->env, m->src, m->graph, &r, &m->digest, &err));
    qn_sequential_join(s, &o);
    const qn_code rc = calibrate(m, name, o);
    qn_sequential_close(s);
    return rc;
}

static void pack(struct model *m, const char *name, const char *stats, const char *codec, double bits)
{
    qn_recipe r = recipe_of(codec, bits);
    qn_stats_file f;
    qn_lossy *l;
    qn_pack_report report;
    OK(qn_stats_file_open(&f, m->env, qt_made_path(stats), &err));
    const qn_lossy_options lo = {.recipe = &r, .stats = &f};
    OK(qn_lossy_open(&l, m->env, m->src, m->graph, &lo, &err));
    const qn_pack_options po = {.level = QN_LEVEL_FAST, .lossy = l, .overwrite = true};
    OK(qn_pack(m->env, m->src, qt_made_path(name), &po, &report, &err));
    qn_pack_report_release(m->env, &report);
    qn_lossy_close(l);
    qn_stats_file_close(&f);
}

/* Blocks before `block` have the packed weights, the others their own. */
struct mixed {
    qn_source *packed;
    uint32_t block;
};

static qn_code read_mixed(void *ctx, const qn_graph *g, uint32_t value, uint64_t first, uint64_t n, void *dst, qn_err *e)
{
    const struct mixed *x = ctx;
    uint32_t at = UINT32_MAX;
    for (uint32_t k = 0; k < g->n_nodes; k++)
        for (unsigned j = 0; j < g->nodes[k].n_in; j++)
            if (g->nodes[k].in[j] == value && g->nodes[k].block < at)
                at = g->nodes[k].block;
    return qn_weight_from_source(qt_made_env(1), at < x->block ? x->packed : g->source, g, value, first, n, dst, e);
}

static void check_codec(const char *codec, double bits)
{
    struct model m;
    open_model(&m, 2);
    OK(sequential(&m, "seq", codec, bits));
    pack(&m, "seq.quern", "seq", codec, bits);
    qn_stats_file f, want;
    OK(qn_stats_file_open(&f, m.env, qt_made_path("seq"), &err));
    qn_source *packed = qt_made_open(m.env, qt_made_path("seq.quern"));
    unsigned n_checked = 0;
    for (uint32_t b = 1; b < m.graph->n_blocks; b++) {
        struct mixed x = {packed, b};
        OK(calibrate(&m, "mixed", (qn_calibrate_options){.read = read_mixed, .read_ctx = &x}));
        OK(qn_stats_file_open(&want, m.env, qt_made_path("mixed"), &err));
        for (uint32_t i = 0; i < f.n_items; i++) {
            const uint32_t value = qn_graph_find(m.graph, f.items[i].name);
            for (uint32_t k = m.graph->blocks[b].first_node; k < m.graph->blocks[b].first_node + m.graph->blocks[b].n_nodes; k++)
                if (m.graph->nodes[k].n_in > 1 && m.graph->nodes[k].in[1] == value && strcmp(m.graph->nodes[k].type, "Linear") == 0) {
                    const qn_stats_item *it = qn_stats_find(&want, f.items[i].name, f.items[i].expert);
                    cr_expect(qn_digest_equal(&want.inputs[it->input].h_digest, &f.inputs[f.items[i].input].h_digest), "block %u, %s", b, it->name);
                    n_checked++;
                }
        }
        qn_stats_file_close(&want);
    }
    cr_expect_eq(n_checked, f.n_items);
    /* and they are not those of the model itself */
    OK(calibrate(&m, "plain", (qn_calibrate_options){0}));
    OK(qn_stats_file_open(&want, m.env, qt_made_path("plain"), &err));
    unsigned n_same = 0;
    for (uint32_t i = 0; i < f.n_items; i++)
        n_same += qn_digest_equal(&want.inputs[want.items[i].input].h_digest, &f.inputs[f.items[i].input].h_digest);
    cr_expect_eq(n_same, 7, "the first layer only: %u", n_same);
    cr_expect(!qn_digest_equal(&want.meta.settings, &f.meta.settings));
    qn_stats_file_close(&want);
    qn_stats_file_close(&f);
    qn_source_close(packed);
    close_model(&m);
}

Test(sequential, grid)
{
    check_codec("grid", 3);
}

Test(sequential, trellis)
{
    check_codec("ect", 2);
}

static uint8_t *slurp(const char *name, size_t *n)
{
    uint8_t *b = qt_made_keep(malloc(1 << 22));
    FILE *f = fopen(qt_made_path(name), "rb");
    cr_assert_not_null(f, "%s", name);
    *n = fread(b, 1, 1 << 22, f);
    fclose(f);
    return b;
}

Test(sequential, threads_and_stops)
{
    struct model m;
    size_t n, k;
    open_model(&m, 1);
    OK(sequential(&m, "one", "grid", 3));
    const uint8_t *one = slurp("one", &n);
    for (uint32_t stop = 2; stop < 24; stop += 5) {
        m.n_fed = 0;
        m.fail_at = stop;
        const qn_code rc = sequential(&m, "stop", "grid", 3);
        cr_expect(rc == QN_E_CANCELLED || stop > 12);
        m.fail_at = 0;
        if (rc != QN_OK)
            OK(sequential(&m, "stop", "grid", 3));
        const uint8_t *again = slurp("stop", &k);
        cr_expect(n == k && memcmp(one, again, n) == 0, "stopped at %u", stop);
    }
    close_model(&m);
    open_model(&m, 3);
    OK(sequential(&m, "three", "grid", 3));
    const uint8_t *three = slurp("three", &k);
    cr_expect(n == k && memcmp(one, three, n) == 0);
    close_model(&m);
}
