/* test_folder_torch.c: PyTorch files in model folders: names, views and ties across shards, who wins, and indexes. */
#include "formats/source.h"
#include "tests/support/torch_build.h"
#include <criterion/criterion.h>
#include <string.h>

#define PICKLE(items) "\x80\2}(" items "u."

static const char first[] = PICKLE(PT_KEY("w") PT_W PT_KEY("v") PT_W), /* tied: one object, two tensors */
    second[] = PICKLE(PT_KEY("t") PT_TENSOR("K\0", "K\4K\2", "K\1K\4")), /* transposed: the storage is an object of its own */
    again[] = PICKLE(PT_KEY("w") PT_W), other[] = "\x80\2cos\nsystem\n.";

static qt_zip zips[3];
static qt_buf old;

static void make(qt_files *t)
{
    const size_t n[] = {sizeof first - 1, sizeof second - 1, sizeof again - 1};
    const char *const p[] = {first, second, again};
    for (size_t i = 0; i < 3 && !zips[i].file.n; i++)
        qt_torch_zip(&zips[i], p[i], n[i]);
    if (!old.n)
        qt_torch_legacy(&old, second, sizeof second - 1);
    qt_files_init(t);
    qt_files_add(t, "m/pytorch_model-1.bin", zips[0].file.p, zips[0].file.n);
    qt_files_add(t, "m/pytorch_model-2.bin", zips[1].file.p, zips[1].file.n);
}

static qn_code open_in(qt_files *t, const char *path, qn_env *env, qn_source **s, qn_err *err)
{
    *env = qt_env(t, NULL);
    qn_err_clear(err);
    const qn_code rc = qn_source_open(env, path, s, err);
    if (rc != QN_OK) {
        cr_assert_eq(t->n_open, 0, "a file stays open");
        *s = NULL;
    }
    return rc;
}

static void expect(qn_source *s, const char *name, unsigned rank, const uint8_t first_byte[3])
{
    uint8_t got[32];
    qn_err err;
    const uint64_t i = qn_source_tensor_find(s, name);
    cr_assert_neq(i, UINT64_MAX, "%s", name);
    cr_expect(s->tensors[i].rank == rank && s->tensors[i].dtype == QN_F32 && s->tensors[i].n_bytes == 32);
    cr_assert_eq(qn_source_tensor_read(s, i, 0, 32, got, &err), QN_OK);
    for (unsigned k = 0; k < 3; k++)
        cr_expect_eq(got[4 * k], first_byte[k], "%s[%u]", name, k);
}

#define MAP(a, b) "{\"weight_map\":{\"w\":\"pytorch_model-1.bin\",\"v\":\"pytorch_model-" a ".bin\",\"t\":\"pytorch_model-" b ".bin\"}}"

Test(folder_torch, shards)
{
    static const uint8_t in_order[3] = {0, 4, 8}, transposed[3] = {0, 16, 4};
    static const char *const paths[] = {"m", "m/pytorch_model.bin.index.json"};
    qt_files t;
    qn_env env;
    qn_source *s;
    qn_err err;
    for (unsigned i = 0; i < 4; i++) {
        make(&t);
        if (i & 1) { /* the older stream beside a zip */
            t.f[1].p = old.p;
            t.f[1].n = old.n;
        }
        qt_files_add(&t, "m/pytorch_model.bin.index.json", MAP("1", "2"), strlen(MAP("1", "2")));
        cr_assert_eq(open_in(&t, paths[i / 2], &env, &s, &err), QN_OK, "%s", err.text);
        cr_expect(strcmp(s->ops->format, "hf") == 0 && s->n_tensors == 3 && s->n_tensor_objects == 2 && s->n_warnings == 0);
        expect(s, "w", 2, in_order);
        expect(s, "v", 2, in_order);
        expect(s, "t", 2, transposed);
        cr_expect_neq(qn_source_find(s, i & 1 ? "pytorch_model-2.bin:data/0" : "pytorch_model-2.bin:m/data/0"), UINT64_MAX);
        qn_source_close(s);
        cr_expect_eq(t.n_open, 0);
    }
    static const struct {
        const char *map, *tensor, *text;
    } bad[] = {{MAP("2", "2"), "v", "the index says it is in pytorch_model-2.bin: it is in pytorch_model-1.bin"},
               {"{\"weight_map\":{\"w\":\"pytorch_model-1.bin\"}}", "v", "is in pytorch_model-1.bin but not in the index"},
               {"{\"weight_map\":{\"x\":\"pytorch_model-1.bin\"}}", "x", "it is in no file"}};
    for (size_t i = 0; i < 3; i++) {
        make(&t);
        qt_files_add(&t, "m/pytorch_model.bin.index.json", bad[i].map, strlen(bad[i].map));
        cr_expect_eq(open_in(&t, "m", &env, &s, &err), QN_E_INPUT);
        cr_expect(strcmp(err.tensor, bad[i].tensor) == 0 && strstr(err.text, bad[i].text), "%s: %s", err.tensor, err.text);
    }
}

/* The same name in two files, as with safetensors: the later one is qualified. */
Test(folder_torch, same_names)
{
    qt_files t;
    qn_env env;
    qn_source *s;
    qn_err err;
    make(&t);
    qt_files_add(&t, "m/pytorch_model-3.bin", zips[2].file.p, zips[2].file.n);
    cr_assert_eq(open_in(&t, "m", &env, &s, &err), QN_OK, "%s", err.text);
    cr_expect_eq(s->n_tensors, 4);
    cr_expect_neq(qn_source_tensor_find(s, "pytorch_model-3.bin:w"), UINT64_MAX);
    cr_expect_neq(qn_source_find(s, "pytorch_model-3.bin:w"), UINT64_MAX);
    qn_source_close(s);
}

Test(folder_torch, who_wins)
{
    qt_files t;
    qn_env env;
    qn_source *s;
    qn_err err;
    qt_buf safe = {0};
    qt_add_safetensors(&safe, "{\"w\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2);
    make(&t); /* beside safetensors a .bin is a file like others, and its index is not looked at */
    qt_files_add(&t, "m/pytorch_model.bin.index.json", "{", 1);
    qt_files_add(&t, "m/x.safetensors", safe.p, safe.n);
    cr_assert_eq(open_in(&t, "m", &env, &s, &err), QN_OK, "%s", err.text);
    cr_expect(s->n_tensors == 1 && s->tensors[0].dtype == QN_U8);
    qn_source_close(s);
    make(&t); /* each folder by itself */
    qt_files_add(&t, "m/sub/x.safetensors", safe.p, safe.n);
    cr_assert_eq(open_in(&t, "m", &env, &s, &err), QN_OK, "%s", err.text);
    cr_expect_eq(s->n_tensors, 4);
    cr_expect_neq(qn_source_tensor_find(s, "sub/x.safetensors:w"), UINT64_MAX);
    qn_source_close(s);
    make(&t); /* other names are not tried */
    t.f[0].path = "m/training_args.bin";
    cr_assert_eq(open_in(&t, "m", &env, &s, &err), QN_OK, "%s", err.text);
    cr_expect_eq(s->n_tensors, 1);
    qn_source_close(s);
    qt_buf_free(&safe);
}

/* One that cannot be read is kept, and told; when it is all there is, it is the error. */
Test(folder_torch, unreadable)
{
    qt_files t;
    qn_env env;
    qn_source *s;
    qn_err err;
    qt_zip evil;
    qt_torch_zip(&evil, other, sizeof other - 1);
    make(&t);
    t.f[1].p = evil.file.p;
    t.f[1].n = evil.file.n;
    qt_files_add(&t, "m/pytorch_model.bin.index.json", "{", 1);
    cr_assert_eq(open_in(&t, "m", &env, &s, &err), QN_OK, "%s", err.text);
    cr_expect_eq(s->n_tensors, 2);
    cr_assert_eq(s->n_warnings, 1);
    cr_expect(strstr(s->warnings[0], "pytorch_model-2.bin is kept but not read: global 'os.system'"), "%s", s->warnings[0]);
    cr_expect_eq(s->files[1].n_objects, 1);
    qn_source_close(s);
    t.f[0] = t.f[1];
    t.n = 1;
    cr_expect_eq(open_in(&t, "m", &env, &s, &err), QN_E_UNSUPPORTED);
    cr_expect(strstr(err.text, "global 'os.system'") && strcmp(err.path, "m/pytorch_model-2.bin") == 0, "%s: %s", err.path, err.text);
    t.f[0].p = (const uint8_t *)"GGML";
    t.f[0].n = 4;
    cr_expect_eq(open_in(&t, "m", &env, &s, &err), QN_E_UNSUPPORTED);
    cr_expect(strstr(err.text, "not what torch.save writes"), "%s", err.text);
    qt_zip_free(&evil);
}
