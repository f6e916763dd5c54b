/* test_dfloat11.c: models written as DFloat11 and opened again: every bit of every weight, whatever the number of threads; what stays dense, and why;
 * what config.json says. */
#include "base/num.h"
#include "compress/export/export.h"
#include "tests/support/made.h"
#include "tests/support/ok.h"
#include "tests/support/testkit.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 4, WIDE = 300, NARROW = 96 };

#define CONFIG "{\n  \"model_type\": \"mine\",\n  \"hidden_size\": 96\n}\n"

static uint8_t *normal(qt_rng *r, size_t n)
{
    uint8_t *p = qt_made_keep(malloc(n * 2));
    qt_fill_normal(r, QN_BF16, 0.05, n, p);
    return p;
}

/* Layers of two linear parts and a norm; layer 2 has an infinity in one of them, layer 3 has another shape. */
static const char *make(const char *dir)
{
    qt_rng r = qt_seed(11);
    qt_made_tensor t[3 * LAYERS + 2];
    unsigned n = 0;
    static char names[3 * LAYERS][64];
    for (unsigned i = 0; i < LAYERS; i++) {
        const uint64_t wide = i == 3 ? WIDE / 2 : WIDE;
        snprintf(names[n], 64, "model.layers.%u.mlp.up.weight", i);
        t[n] = (qt_made_tensor){names[n], QN_BF16, 2, {wide, NARROW}, normal(&r, wide * NARROW)};
        n++;
        uint8_t *down = normal(&r, wide * NARROW);
        if (i == 2)
            qn_store16(down + 2000, 0x7f80);
        snprintf(names[n], 64, "model.layers.%u.mlp.down.weight", i);
        t[n] = (qt_made_tensor){names[n], QN_BF16, 2, {NARROW, wide}, down};
        n++;
        snprintf(names[n], 64, "model.layers.%u.norm.weight", i);
        t[n] = (qt_made_tensor){names[n], QN_BF16, 1, {NARROW}, normal(&r, NARROW)};
        n++;
    }
    float *f32 = qt_made_keep(calloc(64, 4));
    t[n++] = (qt_made_tensor){"model.layers.0.gate.weight", QN_F32, 2, {8, 8}, f32};
    t[n++] = (qt_made_tensor){"embed.weight", QN_BF16, 2, {100, NARROW}, normal(&r, 100 * NARROW)};
    char path[128];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    qt_made_safetensors(path, t, n, NULL);
    snprintf(path, sizeof path, "%s/config.json", dir);
    qt_made_file(path, CONFIG, strlen(CONFIG));
    snprintf(path, sizeof path, "%s/more/readme.md", dir);
    qt_made_file(path, "kept", 4);
    return qt_made_path(dir);
}

struct job {
    qn_arena arena;
    qn_export_wish wish;
    qn_export_job j;
};

static qn_code export(struct job *x, const qn_env *env, qn_source *s, const char *out, qn_err *err)
{
    qn_recipe r = QN_RECIPE_EMPTY;
    qn_arena_init(&x->arena, env->alloc);
    x->j = (qn_export_job){.env = env, .src = s, .input = s, .variant = "", .wish = &x->wish, .path = out, .arena = &x->arena};
    qn_code rc = qn_export_dfloat11.plan(&x->j, &r, err);
    cr_assert_not(qn_recipe_is_lossy(&r));
    x->j.n_rows = 0;
    return rc == QN_OK ? qn_export_dfloat11.write(&x->j, err) : rc;
}

static const qn_export_row *row(const struct job *x, const char *name)
{
    for (uint64_t i = 0; i < x->j.n_rows; i++)
        if (!strcmp(x->j.rows[i].name, name))
            return &x->j.rows[i];
    cr_assert(false, "%s is not told of", name);
    return NULL;
}

static void same_tensors(qn_source *a, qn_source *b)
{
    qn_err err = {0};
    cr_assert_eq(a->n_tensors, b->n_tensors);
    for (uint64_t i = 0; i < a->n_tensors; i++) {
        const qn_source_tensor *t = &a->tensors[i];
        const uint64_t k = qn_source_tensor_find(b, t->name);
        cr_assert_neq(k, UINT64_MAX, "%s", t->name);
        const qn_source_tensor *u = &b->tensors[k];
        cr_assert(t->dtype == u->dtype && t->rank == u->rank && memcmp(t->dims, u->dims, t->rank * 8u) == 0, "%s", t->name);
        uint8_t *p = malloc(t->n_bytes), *q = malloc(t->n_bytes);
        OK(qn_source_tensor_read(a, i, 0, t->n_bytes, p, &err));
        OK(qn_source_tensor_read(b, k, 0, t->n_bytes, q, &err));
        cr_assert_eq(memcmp(p, q, t->n_bytes), 0, "%s", t->name);
        free(p);
        free(q);
    }
}

static char *text_of(const char *dir, const char *name, size_t *n)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    cr_assert_not_null(f, "%s", path);
    char *p = qt_made_keep(calloc(1, 1 << 20));
    *n = fread(p, 1, (1 << 20) - 1, f);
    fclose(f);
    return p;
}

Test(dfloat11, there_and_back)
{
    qn_err err = {0};
    const char *in = make("model"), *outs[2];
    char *weights[2];
    size_t n_weights[2];
    for (unsigned k = 0; k < 2; k++) {
        struct job x = {0};
        const qn_env *env = qt_made_env(k ? 3 : 1);
        qn_source *s = qt_made_open(env, in);
        outs[k] = qt_made_path(k ? "out3" : "out1");
        OK(export(&x, env, s, outs[k], &err));
        qn_source *back = qt_made_open(env, outs[k]);
        same_tensors(s, back);
        cr_assert_eq(back->n_warnings, 0u);
        qn_source_close(back);
        cr_assert_str_eq(row(&x, "model.layers.0")->given, "DFloat11");
        cr_assert_eq(row(&x, "model.layers.0")->n_weights, 2u * WIDE * NARROW);
        const double bits = 8.0 * (double)row(&x, "model.layers.0")->n_bytes / (2.0 * WIDE * NARROW);
        cr_assert(bits > 10.5 && bits < 11.5, "%g bits", bits); /* normal weights: 8 + 2.55 and 5/64 of them, tables and a part of a block */
        cr_assert_not_null(strstr(row(&x, "model.layers.2.mlp.down.weight")->why, "infinity"));
        cr_assert_eq(row(&x, "model.layers.2")->n_weights, WIDE * NARROW);
        cr_assert_str_eq(row(&x, "model.layers.0.gate.weight")->why, "not BF16");
        cr_assert_str_eq(row(&x, "embed.weight")->given, "BF16"); /* no graph tells what it is */
        qn_arena_release(&x.arena);
        qn_source_close(s);
        weights[k] = text_of(outs[k], "model.safetensors", &n_weights[k]);
    }
    cr_assert_eq(n_weights[0], n_weights[1]);
    cr_assert_eq(memcmp(weights[0], weights[1], n_weights[0]), 0);
    size_t n;
    const char *config = text_of(outs[0], "config.json", &n);
    cr_assert_not_null(strstr(config, "\"model\\\\.layers\\\\.(?:0|1)\": [\"mlp.down\", \"mlp.up\"]"), "%s", config);
    cr_assert_not_null(strstr(config, "\"model\\\\.layers\\\\.(?:2)\": [\"mlp.up\"]"), "%s", config);
    cr_assert_not_null(strstr(config, "\"model\\\\.layers\\\\.(?:3)\": [[96, 150], [150, 96]]"), "%s", config);
    cr_assert_str_eq(strstr(config, "\"model_type\""), strstr(CONFIG, "\"model_type\"")); /* all else as it was */
    cr_assert_str_eq(text_of(outs[0], "more/readme.md", &n), "kept");
}

Test(dfloat11, several_files)
{
    qn_err err = {0};
    struct job x = {.wish = {.shard_bytes = 50000}};
    const qn_env *env = qt_made_env(2);
    qn_source *s = qt_made_open(env, make("model"));
    const char *out = qt_made_path("sharded");
    OK(export(&x, env, s, out, &err));
    qn_source *back = qt_made_open(env, out);
    same_tensors(s, back);
    cr_assert_gt(back->n_files, 5u);
    cr_assert_neq(export(&x, env, s, out, &err), QN_OK); /* it is there */
    cr_assert_eq(err.code, QN_E_USAGE);
    qn_source_close(back);
    qn_source_close(s);
}

Test(dfloat11, refused)
{
    qn_err err = {0};
    const qn_env *env = qt_made_env(1);
    static const float one[4] = {0};
    const qt_made_tensor t = {"layers.0.a.weight", QN_F32, 2, {2, 2}, one};
    qn_source *s = qt_made_open(env, qt_made_safetensors("f32.safetensors", &t, 1, NULL));
    struct job x = {0};
    cr_assert_eq(export(&x, env, s, qt_made_path("no"), &err), QN_E_UNSUPPORTED);
    qn_err_clear(&err);
    x.wish.bits = 4;
    cr_assert_eq(export(&x, env, s, qt_made_path("no"), &err), QN_E_USAGE);
    qn_source_close(s);
}
