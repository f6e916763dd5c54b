/* test_torch_good.c: checkpoints that must open: what their tensors are called, how they lie, and every byte of them. */
#include "base/num.h"
#include "formats/source.h"
#include "tests/support/testkit.h"
#include "tests/support/torch_build.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static qn_source *open_in(qt_files *t, const qt_counter *c, qn_env *env, const char *path)
{
    qn_err err;
    qn_source *s;
    *env = qt_env(t, c);
    qn_err_clear(&err);
    cr_assert_eq(qn_source_open(env, path, &s, &err), QN_OK, "%s: %s at 0x%llx", path, err.text, (unsigned long long)err.off);
    return s;
}

/* The concatenation of all objects is the file. */
static void expect_cover(qn_source *s, const uint8_t *p, size_t n)
{
    uint8_t *back = malloc(n);
    size_t at = 0;
    qn_err err;
    for (uint64_t i = 0; i < s->n_objects; i++) {
        cr_assert_leq(s->objects[i].n_bytes, n - at);
        cr_assert_eq(qn_source_read(s, i, 0, s->objects[i].n_bytes, back + at, &err), QN_OK);
        at += s->objects[i].n_bytes;
    }
    cr_expect(at == n && memcmp(back, p, n) == 0, "objects are not the file");
    free(back);
}

/* One tensor of a checkpoint: shape as "2,4", content as the first bytes of its elements (storage bytes are 0, 1, 2, …). */
struct want {
    const char *name, *shape;
    uint8_t dtype;
    bool is_object;
    uint8_t n_elem, n;
    uint8_t first_byte[32];
};

static void expect_tensor(qn_source *s, const struct want *w)
{
    const uint64_t i = qn_source_tensor_find(s, w->name);
    qn_err err;
    cr_assert_neq(i, UINT64_MAX, "no tensor '%s'", w->name);
    const qn_source_tensor *t = &s->tensors[i];
    char shape[64] = "";
    for (unsigned k = 0; k < t->rank; k++)
        snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%s%llu", k ? "," : "", (unsigned long long)t->dims[k]);
    cr_expect_str_eq(shape, w->shape, "%s", w->name);
    cr_expect_eq(t->dtype, w->dtype, "%s", w->name);
    cr_expect_eq(t->object != QN_NO_OBJECT, w->is_object, "%s", w->name);
    cr_assert_eq(t->n_bytes, (uint64_t)w->n * w->n_elem, "%s", w->name);
    uint8_t all[1024];
    cr_assert_eq(qn_source_tensor_read(s, i, 0, t->n_bytes, all, &err), QN_OK);
    for (unsigned k = 0; k < w->n; k++)
        for (unsigned b = 0; b < w->n_elem; b++)
            cr_expect_eq(all[k * w->n_elem + b], w->first_byte[k] + b, "%s: element %u byte %u", w->name, k, b);
    for (uint64_t from = 0; from < t->n_bytes; from++) /* any range, also through the middle of elements */
        for (uint64_t n = 1; n <= t->n_bytes - from; n++) {
            uint8_t part[1024];
            cr_assert_eq(qn_source_tensor_read(s, i, from, n, part, &err), QN_OK);
            cr_assert(memcmp(part, all + from, n) == 0, "%s: bytes %llu … %llu", w->name, (unsigned long long)from, (unsigned long long)(from + n));
        }
}

/* Views of all kinds over one storage, in nested dicts and lists, with keys of all kinds. */
static const char views[] =
    "\x80\2}("
    "X\1\0\0\0w" PT_W
    "X\1\0\0\0t" PT_TENSOR("K\0", "K\4K\2", "K\1K\4")
    "X\1\0\0\0c" PT_TENSOR("K\1", "K\2K\2", "K\4K\2")
    "X\1\0\0\0e" PT_TENSOR("K\3", "K\3K\2", "K\0K\1")
    "X\1\0\0\0f" PT_TENSOR("K\4", "K\4", "K\1")
    "X\1\0\0\0z" PT_TENSOR("K\0", "K\0K\4", "K\4K\1")
    "X\1\0\0\0s" PT_TENSOR("K\7", "", "")
    "X\1\0\0\0r" PT_TENSOR("K\0", "K\2K\2K\2", "K\4K\2K\1")
    "X\1\0\0\0n" "]}X\1\0\0\0k" PT_W "sa"
    "K\7" "(" PT_TENSOR("K\2", "K\1", "K\1") "N" PT_TENSOR("K\3", "K\1", "K\1") "t"
    "N" PT_TENSOR("K\5", "K\1", "K\1")
    "X\0\0\0\0" PT_TENSOR("K\6", "K\1", "K\1")
    "u.";

Test(torch_good, views)
{
    static const struct want want[] = {
        {"w", "2,4", QN_F32, true, 4, 8, {0, 4, 8, 12, 16, 20, 24, 28}},
        {"t", "4,2", QN_F32, false, 4, 8, {0, 16, 4, 20, 8, 24, 12, 28}},
        {"c", "2,2", QN_F32, false, 4, 4, {4, 12, 20, 28}},
        {"e", "3,2", QN_F32, false, 4, 6, {12, 16, 12, 16, 12, 16}},
        {"f", "4", QN_F32, false, 4, 4, {16, 20, 24, 28}},
        {"z", "0,4", QN_F32, false, 4, 0, {0}},
        {"s", "", QN_F32, false, 4, 1, {28}},
        {"r", "2,2,2", QN_F32, true, 4, 8, {0, 4, 8, 12, 16, 20, 24, 28}},
        {"n.0.k", "2,4", QN_F32, true, 4, 8, {0, 4, 8, 12, 16, 20, 24, 28}},
        {"7.0", "1", QN_F32, false, 4, 1, {8}},
        {"7.2", "1", QN_F32, false, 4, 1, {12}},
        {"#10", "1", QN_F32, false, 4, 1, {20}},
        {"#11", "1", QN_F32, false, 4, 1, {24}},
    };
    for (int legacy = 0; legacy < 2; legacy++) {
        qt_buf b = {0};
        qt_zip z = {0};
        qt_files t;
        qn_env env;
        qt_counter c;
        if (legacy) {
            qt_torch_legacy(&b, views, sizeof views - 1);
        } else {
            qt_torch_zip(&z, views, sizeof views - 1);
            qt_add(&b, z.file.p, z.file.n);
        }
        qt_files_init(&t);
        qt_files_add(&t, "m.bin", b.p, b.n);
        qt_counter_init(&c);
        qn_source *s = open_in(&t, &c, &env, "m.bin");
        cr_expect_str_eq(s->ops->format, "torch");
        cr_expect_eq(s->n_tensors, sizeof want / sizeof want[0]);
        cr_expect_eq(s->n_tensor_objects, 1);
        cr_expect_str_eq(s->objects[qn_source_find(s, "w")].name, "w");
        for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
            expect_tensor(s, &want[i]);
        expect_cover(s, b.p, b.n);
        qn_source_close(s);
        cr_expect(c.n_live == 0 && t.n_open == 0);
        qt_zip_free(&z);
        qt_buf_free(&b);
    }
}

/* A storage that no tensor fills is an object by the name of its record. */
Test(torch_good, partly_used)
{
    static const char p[] = "\x80\2]" PT_TENSOR("K\1", "K\2", "K\1") "a.";
    static const struct want want = {"0", "2", QN_F32, false, 4, 2, {4, 8}};
    qt_zip z;
    qt_files t;
    qn_env env;
    qt_torch_zip(&z, p, sizeof p - 1);
    qt_files_init(&t);
    qt_files_add(&t, "m.pt", z.file.p, z.file.n);
    qn_source *s = open_in(&t, NULL, &env, "m.pt");
    expect_tensor(s, &want);
    const uint64_t o = qn_source_find(s, "m/data/0");
    cr_assert_neq(o, UINT64_MAX);
    cr_expect(s->objects[o].dtype == QN_F32 && s->objects[o].rank == 1 && s->objects[o].dims[0] == 8);
    expect_cover(s, z.file.p, z.file.n);
    qn_source_close(s);
    qt_zip_free(&z);
}

/* Forms of tensors and of what may surround them. */
Test(torch_good, forms)
{
    static const struct {
        const char *name, *p;
        size_t n;
        struct want want;
    } f[] = {
#define FORM(name, p, ...) {name, "\x80\2" p ".", sizeof "\x80\2" p "." - 1, __VA_ARGS__}
        FORM("a tensor alone", PT_W, {"tensor", "2,4", QN_F32, true, 4, 8, {0, 4, 8, 12, 16, 20, 24, 28}}),
        FORM("_rebuild_tensor", "}" PT_KEY("a") "ctorch._utils\n_rebuild_tensor\n(" PT_STORE "K\0(K\x08t(K\1ttRs", {"a", "8", QN_F32, true, 4, 8, {0, 4, 8, 12, 16, 20, 24, 28}}),
        FORM("a parameter", "}" PT_KEY("a") "ctorch._utils\n_rebuild_parameter\n(" PT_W "\x88" "ccollections\nOrderedDict\n)RtRs", {"a", "2,4", QN_F32, true, 4, 8, {0, 4, 8, 12, 16, 20, 24, 28}}),
        FORM("a tensor of a class", "}" PT_KEY("a") "ctorch._tensor\n_rebuild_from_type_v2\n(" PT_V2 "ctorch.nn.parameter\nParameter\n(" PT_STORE "K\0(K\x08t(K\1t" PT_HOOKS "t}tRs", {"a", "8", QN_F32, true, 4, 8, {0, 4, 8, 12, 16, 20, 24, 28}}),
        FORM("untyped storage, dtype beside", "}" PT_KEY("a") "ctorch._utils\n_rebuild_tensor_v3\n((X\7\0\0\0storagectorch.storage\nUntypedStorage\nX\1\0\0\0" "0X\3\0\0\0cpuK\x20tQK\0(K\x08t(K\1t\x89Nctorch\nfloat32\ntRs", {"a", "8", QN_F32, true, 4, 8, {0, 4, 8, 12, 16, 20, 24, 28}}),
        FORM("bf16", "}" PT_KEY("a") PT_V2 "(" PT_ID("BFloat16Storage", "0", "\x10") "K\0(K\4K\4t(K\4K\1t" PT_HOOKS "tRs", {"a", "4,4", QN_BF16, true, 2, 16, {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30}}),
        FORM("complex64", "}" PT_KEY("a") PT_V2 "(" PT_ID("ComplexFloatStorage", "0", "\4") "K\0(K\4t(K\1t" PT_HOOKS "tRs", {"a", "4", QN_C64, true, 8, 4, {0, 8, 16, 24}}),
        FORM("size as torch.Size", "}" PT_KEY("a") PT_V2 "(" PT_STORE "K\0ctorch\nSize\n(K\x08t\x85R(K\1t" PT_HOOKS "tRs", {"a", "8", QN_F32, true, 4, 8, {0, 4, 8, 12, 16, 20, 24, 28}}),
        FORM("OrderedDict with attributes", "ccollections\nOrderedDict\n)R(" PT_KEY("a") PT_W "u}X\x09\0\0\0_metadataccollections\nOrderedDict\n)Rsb", {"a", "2,4", QN_F32, true, 4, 8, {0, 4, 8, 12, 16, 20, 24, 28}}),
        FORM("OrderedDict of pairs", "ccollections\nOrderedDict\n](" "](" PT_KEY("a") PT_W "ee\x85R", {"a", "2,4", QN_F32, true, 4, 8, {0, 4, 8, 12, 16, 20, 24, 28}}),
        FORM("strings of Python 2", "}U\1a" PT_W "s", {"a", "2,4", QN_F32, true, 4, 8, {0, 4, 8, 12, 16, 20, 24, 28}}),
        FORM("numpy beside", "}(" PT_KEY("a") PT_W PT_KEY("l") "cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\2\0\0\0f8\x89\x88\x87R(K\3X\1\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tbc_codecs\nencode\nX\2\0\0\0abX\6\0\0\0latin1\x86R\x86Ru", {"a", "2,4", QN_F32, true, 4, 8, {0, 4, 8, 12, 16, 20, 24, 28}}),
        FORM("dtype, device and Namespace beside", "}(" PT_KEY("a") PT_W PT_KEY("d") "ctorch\nbfloat16\n" PT_KEY("e") "ctorch\ndevice\nX\3\0\0\0cpu\x85R" PT_KEY("n") "cargparse\nNamespace\n)\x81}bu", {"a", "2,4", QN_F32, true, 4, 8, {0, 4, 8, 12, 16, 20, 24, 28}}),
    };
    for (size_t i = 0; i < sizeof f / sizeof f[0]; i++) {
        qt_zip z;
        qt_files t;
        qn_env env;
        qt_torch_zip(&z, f[i].p, f[i].n);
        qt_files_init(&t);
        qt_files_add(&t, "m.pt", z.file.p, z.file.n);
        t.max_read = 7; /* short reads, interrupted ones */
        qn_source *s = open_in(&t, NULL, &env, "m.pt");
        cr_expect_eq(s->n_tensors, 1, "%s", f[i].name);
        expect_tensor(s, &f[i].want);
        expect_cover(s, z.file.p, z.file.n);
        qn_source_close(s);
        qt_zip_free(&z);
    }
    fprintf(stderr, "# %zu forms of checkpoints\n", sizeof f / sizeof f[0]);
}

static uint64_t same_as_twin(const char *torch, const char *twin, const char *prefix)
{
    qn_env env, env2;
    qn_err err;
    char path[4096];
    const char *p = qt_shared(torch);
    if (!p)
        return 0;
    snprintf(path, sizeof path, "%s", p);
    qn_source *s = open_in(NULL, NULL, &env, path), *w = open_in(NULL, NULL, &env2, qt_shared(twin));
    for (uint64_t i = 0; i < w->n_tensors; i++) {
        const qn_source_tensor *a = &w->tensors[i];
        char name[512];
        snprintf(name, sizeof name, "%s%s", prefix, a->name);
        const uint64_t k = qn_source_tensor_find(s, name);
        cr_assert_neq(k, UINT64_MAX, "%s: no '%s'", torch, name);
        const qn_source_tensor *b = &s->tensors[k];
        cr_assert(a->dtype == b->dtype && a->rank == b->rank && a->n_bytes == b->n_bytes, "%s", name);
        cr_assert(memcmp(a->dims, b->dims, a->rank * sizeof *a->dims) == 0, "%s", name);
        uint8_t *x = malloc(a->n_bytes + 1), *y = malloc(a->n_bytes + 1);
        cr_assert_eq(qn_source_tensor_read(w, i, 0, a->n_bytes, x, &err) | qn_source_tensor_read(s, k, 0, a->n_bytes, y, &err), QN_OK);
        cr_assert(memcmp(x, y, a->n_bytes) == 0, "%s", name);
        free(x);
        free(y);
    }
    const uint64_t n = w->n_tensors;
    fprintf(stderr, "# %s: %llu tensors, %llu of them as in its safetensors twin\n", torch, (unsigned long long)s->n_tensors,
            (unsigned long long)n);
    qn_source_close(s);
    qn_source_close(w);
    return n;
}

/* Real files, written by PyTorch 1.0 (a stream) and 2.x. */
Test(torch_good, real)
{
    const uint64_t a = same_as_twin("models/cifar-resnet20/resnet20-12fca82f.th", "models/cifar-resnet20/model-f32.safetensors", "state_dict.module.");
    const uint64_t b = same_as_twin("models/hybrid-mamba2-248k/best.pt", "models/hybrid-mamba2-248k/model-f32.safetensors", "model.");
    cr_expect(a + b == 0 || (a > 0 && b > 0));
    const char *p = qt_shared("models/tinystories-gru-0.2m/tinystoriesgru-0.2M.pt");
    qn_env env;
    qn_source *s = p ? open_in(NULL, NULL, &env, p) : NULL;
    cr_expect(!s || (s->n_tensors == 19 && s->n_tensor_objects == 19));
    qn_source_close(s);
}
