/* test_lossy.c: a whole model packed with approximated weights: what is approximated and what is not, the same bytes for every
 * number of threads, runs that were stopped, weights that are no numbers, and that everything else stays bit for bit. */
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/lossy.h"
#include "compress/pack.h"
#include "quern/quern.h"
#include "formats/quern/source.h"
#include "tests/support/made.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define MODEL QT_SOURCE_ROOT "/testdata/stories260k-bf16"

struct opened {
    qn_source *src;
    qn_graph *graph;
    qn_recipe *recipe;
    qn_lossy *lossy;
};

static qn_recipe grid_of(double bits)
{
    qn_recipe r = QN_RECIPE_EMPTY;
    r.all = (qn_recipe_part){.codec = "grid", .set = {.bits = bits}};
    return r;
}

static struct opened open_model(const qn_env *env, const char *path, double bits)
{
    struct opened o;
    qn_err err;
    qn_err_clear(&err);
    o.src = qt_made_open(env, path);
    cr_assert_eq(qn_graph_open(env, o.src, &o.graph, &err), QN_OK, "%s", err.text);
    o.recipe = qn_mem_get(NULL, sizeof *o.recipe, &err);
    *o.recipe = grid_of(bits);
    const qn_lossy_options opt = {.recipe = o.recipe};
    cr_assert_eq(qn_lossy_open(&o.lossy, env, o.src, o.graph, &opt, &err), QN_OK, "%s", err.text);
    return o;
}

static void close_model(struct opened *o)
{
    qn_lossy_close(o->lossy);
    qn_mem_put(NULL, o->recipe);
    qn_graph_close(o->graph);
    qn_source_close(o->src);
}

static uint8_t *file_bytes(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    cr_assert_not_null(f, "%s", path);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    uint8_t *p = qt_made_keep(malloc(*n + 1));
    cr_assert_eq(fread(p, 1, *n, f), *n);
    fclose(f);
    return p;
}

static uint8_t *pack(const qn_env *env, const char *model, double bits, const char *name, qn_pack_report *report, size_t *n)
{
    qn_err err;
    qn_err_clear(&err);
    struct opened o = open_model(env, model, bits);
    const char *out = qt_made_path(name);
    const qn_pack_options opt = {.level = QN_LEVEL_DENSE, .lossy = o.lossy, .overwrite = true};
    qn_pack_report own;
    cr_assert_eq(qn_pack(env, o.src, out, &opt, report ? report : &own, &err), QN_OK, "%s", err.text);
    if (!report)
        qn_pack_report_release(env, &own);
    close_model(&o);
    return file_bytes(out, n);
}

Test(lossy, what_is_approximated)
{
    const qn_env *env = qt_made_env(2);
    qn_pack_report report;
    size_t n;
    uint64_t roles[4] = {0};
    (void)pack(env, MODEL, 4, "what.quern", &report, &n);
    struct opened o = open_model(env, MODEL, 4);
    qn_source *packed = qt_made_open(env, qt_made_path("what.quern"));
    cr_assert_eq(packed->n_objects, o.src->n_objects);
    for (uint64_t i = 0; i < qn_lossy_count(o.lossy); i++) {
        const qn_lossy_row r = qn_lossy_report(o.lossy, i);
        cr_assert_null(r.kept, "%s: %s", r.name, r.kept);
        roles[r.role]++;
        cr_assert(qn_lossy_has(o.lossy, r.object));
        cr_assert_gt(report.rows[r.object].stored_by_codec[QN_CODEC_GRID] + report.rows[r.object].stored_by_codec[QN_CODEC_ROWS], 0);
    }
    cr_assert(roles[QN_ROLE_LINEAR] == 35 && roles[QN_ROLE_HEAD] + roles[QN_ROLE_EMBEDDING] > 0, "%llu linear",
              (unsigned long long)roles[QN_ROLE_LINEAR]);
    cr_assert_eq(qn_index_n_lossy(qn_reader_index(qn_quern_source_reader(packed))), qn_lossy_count(o.lossy));
    cr_assert_eq(qn_verify(env, packed, NULL, NULL, NULL), QN_OK);
    for (uint64_t i = 0; i < o.src->n_objects; i++) {
        const qn_object *a = &o.src->objects[i];
        uint8_t *x = malloc(a->n_bytes), *y = malloc(a->n_bytes);
        cr_assert_eq(qn_source_read(o.src, i, 0, a->n_bytes, x, NULL), QN_OK);
        cr_assert_eq(qn_source_read(packed, i, 0, a->n_bytes, y, NULL), QN_OK);
        if (qn_lossy_has(o.lossy, i)) {
            double e2 = 0, w2 = 0;
            for (uint64_t k = 0; k < a->n_bytes; k += 2) {
                const float u = qn_bf16_to_f32(qn_load16(x + k)), v = qn_bf16_to_f32(qn_load16(y + k));
                e2 += (double)(u - v) * (double)(u - v);
                w2 += (double)u * (double)u;
            }
            cr_assert(e2 > 0 && e2 < 0.02 * w2, "%s: %g", a->name, e2 / w2); /* 4 bits in groups of 32 on a bell: 0.009 */
        } else {
            cr_assert_eq(memcmp(x, y, a->n_bytes), 0, "%s", a->name);
        }
        free(x);
        free(y);
    }
    qn_source_close(packed);
    close_model(&o);
    qn_pack_report_release(env, &report);
}

Test(lossy, threads_make_no_difference)
{
    size_t n, m;
    const uint8_t *first = pack(qt_made_env(1), MODEL, 3, "one.quern", NULL, &n);
    for (unsigned t = 2; t <= 8; t *= 2) {
        const uint8_t *other = pack(qt_made_env(t), MODEL, 3, "other.quern", NULL, &m);
        cr_assert(n == m && memcmp(first, other, n) == 0, "%u threads", t);
    }
}

/* ---- stopped and taken up again ---- */

static unsigned calls_left;
static atomic_int stop;

static void count_down(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    (void)ctx, (void)done, (void)total;
    if (strcmp(what, "compressing") == 0 && calls_left > 0 && --calls_left == 0)
        atomic_store(&stop, 1);
}

Test(lossy, stopped_and_resumed)
{
    size_t n, m;
    const uint8_t *whole = pack(qt_made_env(2), MODEL, 4, "whole.quern", NULL, &n);
    const char *out = qt_made_path("part.quern");
    uint64_t most = 0;
    for (unsigned k = 1; k < 48; k += 7) {
        qn_env env = *qt_made_env(2);
        qn_pack_report report;
        qn_err err;
        qn_err_clear(&err);
        env.progress = count_down;
        env.cancel = &stop;
        calls_left = k;
        atomic_store(&stop, 0);
        struct opened o = open_model(&env, MODEL, 4);
        const qn_pack_options opt = {.level = QN_LEVEL_DENSE, .lossy = o.lossy, .overwrite = true, .checkpoint_bytes = 1};
        cr_assert_eq(qn_pack(&env, o.src, out, &opt, &report, &err), QN_E_CANCELLED, "%u: %s", k, err.text);
        close_model(&o);
        env.progress = NULL;
        atomic_store(&stop, 0);

        /* other settings may not go on from there */
        o = open_model(&env, MODEL, 5);
        const qn_pack_options other = {.level = QN_LEVEL_DENSE, .lossy = o.lossy, .overwrite = true};
        qn_err_clear(&err);
        cr_assert_eq(qn_pack(&env, o.src, out, &other, &report, &err), QN_E_USAGE);
        cr_assert_not_null(strstr(err.text, "approximated"), "%s", err.text);
        close_model(&o);

        o = open_model(&env, MODEL, 4);
        const qn_pack_options again = {.level = QN_LEVEL_DENSE, .lossy = o.lossy, .overwrite = true};
        qn_err_clear(&err);
        cr_assert_eq(qn_pack(&env, o.src, out, &again, &report, &err), QN_OK, "%u: %s", k, err.text);
        cr_assert_gt(report.n_resumed, 0);
        most = report.n_resumed > most ? report.n_resumed : most;
        qn_pack_report_release(&env, &report);
        close_model(&o);
        const uint8_t *now = file_bytes(out, &m);
        cr_assert(n == m && memcmp(whole, now, n) == 0, "stopped after %u", k);
        cr_assert_eq(remove(out), 0);
    }
    cr_assert_gt(most, 30);
}

/* ---- weights that are no numbers stay as they are ---- */

Test(lossy, not_finite)
{
    size_t n, m;
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"};
    const qn_env *env = qt_made_env(2);
    qn_source *src = qt_made_open(env, MODEL);
    const uint64_t t = qn_source_find(src, "model.layers.2.mlp.up_proj.weight");
    cr_assert_neq(t, UINT64_MAX);
    const uint64_t at = src->objects[t].off, bytes = src->objects[t].n_bytes;
    qn_source_close(src);
    const char *folder = NULL;
    for (unsigned i = 0; i < 4; i++) {
        char from[600], to[100];
        (void)snprintf(from, sizeof from, "%s/%s", MODEL, files[i]);
        (void)snprintf(to, sizeof to, "nan/%s", files[i]);
        uint8_t *p = file_bytes(from, &n);
        if (i == 1)
            qn_store16(p + at + 200, 0x7fc1);
        (void)qt_made_file(to, p, n);
    }
    folder = qt_made_path("nan");
    qn_pack_report report;
    (void)pack(env, folder, 4, "nan.quern", &report, &m);
    cr_assert_eq(report.rows[t].stored_by_codec[QN_CODEC_GRID], 0);
    qn_source *packed = qt_made_open(env, qt_made_path("nan.quern"));
    src = qt_made_open(env, folder);
    uint8_t *x = malloc(bytes), *y = malloc(bytes);
    cr_assert_eq(qn_source_read(packed, t, 0, bytes, x, NULL), QN_OK);
    cr_assert_eq(qn_source_read(src, t, 0, bytes, y, NULL), QN_OK);
    cr_assert_eq(memcmp(x, y, bytes), 0);
    free(x);
    free(y);
    qn_source_close(src);
    qn_source_close(packed);
    qn_pack_report_release(env, &report);
}

/* ---- memory that runs out, anywhere ---- */

Test(lossy, out_of_memory)
{
    unsigned n_failed = 0, n_survived = 0;
    bool failed = true;
    for (uint64_t nth = 1; failed; nth += 1 + nth / 8) {
        const qn_env *env = qt_made_env_short(nth);
        qn_source *src = NULL;
        qn_graph *graph = NULL;
        qn_lossy *lossy = NULL;
        qn_pack_report report;
        qn_err err;
        qn_err_clear(&err);
        qn_recipe recipe = grid_of(4);
        const qn_lossy_options opt = {.recipe = &recipe};
        qn_code rc = qn_source_open(env, MODEL, &src, &err);
        if (rc == QN_OK)
            rc = qn_graph_open(env, src, &graph, &err);
        if (rc == QN_OK)
            rc = qn_lossy_open(&lossy, env, src, graph, &opt, &err);
        if (rc == QN_OK) {
            const qn_pack_options po = {.level = QN_LEVEL_FAST, .lossy = lossy, .overwrite = true};
            rc = qn_pack(env, src, qt_made_path("short.quern"), &po, &report, &err);
            if (rc == QN_OK)
                qn_pack_report_release(env, &report);
        }
        qn_lossy_close(lossy);
        qn_graph_close(graph);
        qn_source_close(src);
        failed = qt_made_memory_failed();
        n_failed += rc == QN_E_MEMORY;
        n_survived += failed && rc == QN_OK; /* an arena that cannot get one large block goes on with small ones */
        cr_assert(rc == QN_OK || (failed && rc == QN_E_MEMORY), "request %llu: %d, %s", (unsigned long long)nth, (int)rc, err.text);
        if (rc == QN_OK)
            cr_assert_eq(qn_verify_file(qt_made_path("short.quern"), NULL, NULL), QN_OK);
    }
    cr_assert_gt(n_failed, 20);
    cr_assert_lt(n_survived, 10);
}
