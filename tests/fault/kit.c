/* kit.c: see kit.h. */
#include "tests/fault/kit.h"
#include "base/err.h"
#include "base/num.h"
#include "formats/source.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the heap ---- */

enum { HEAD = 64 };

static void *heap_get(void *ctx, size_t n)
{
    qt_heap *h = ctx;
    const uint64_t call = atomic_fetch_add(&h->n_gets, 1) + 1;
    void *p = NULL;
    if (h->nth && (call == h->nth || (h->on && call > h->nth)))
        return NULL;
    if (posix_memalign(&p, 64, n + HEAD) != 0)
        return NULL;
    memcpy(p, &n, sizeof n);
    atomic_fetch_add(&h->n_out, 1);
    const uint64_t now = atomic_fetch_add(&h->now_bytes, n) + n;
    if (now > atomic_load(&h->peak_bytes)) /* a race loses a peak, never invents one */
        atomic_store(&h->peak_bytes, now);
    return (uint8_t *)p + HEAD;
}

static void heap_put(void *ctx, void *p)
{
    qt_heap *h = ctx;
    size_t n;
    uint8_t *base = (uint8_t *)p - HEAD;
    memcpy(&n, base, sizeof n);
    atomic_fetch_sub(&h->n_out, 1);
    atomic_fetch_sub(&h->now_bytes, n);
    free(base);
}

void qt_heap_init(qt_heap *h)
{
    *h = (qt_heap){.alloc = {heap_get, heap_put, h}};
}

/* ---- the model ---- */

struct part {
    const char *name, *dtype, *shape;
    qn_dtype t;
    size_t n_units;
};

static void put_shard(qn_memfs *mem, const char *path, const struct part *parts, size_t n_parts, uint64_t seed)
{
    static const uint8_t zeros[64];
    uint8_t file[8192];
    char head[2048];
    size_t n_head = 0, n_data = 0;
    for (size_t i = 0; i < n_parts; i++) {
        const size_t n = parts[i].n_units * qn_unit_bytes(parts[i].t);
        n_head += (size_t)snprintf(head + n_head, sizeof head - n_head,
                                   "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}", i ? "," : "{",
                                   parts[i].name, parts[i].dtype, parts[i].shape, n_data, n_data + n);
        n_data += n;
    }
    n_head += (size_t)snprintf(head + n_head, sizeof head - n_head, "}");
    qn_store64(file, n_head);
    memcpy(file + 8, head, n_head);
    uint8_t *p = file + 8 + n_head;
    for (size_t i = 0; i < n_parts; i++) {
        qt_rng r = qt_seed(strcmp(parts[i].name, "b.twin") == 0 ? 3 : seed + i);
        const size_t n = parts[i].n_units * qn_unit_bytes(parts[i].t);
        if (strcmp(parts[i].name, "zero") == 0)
            memcpy(p, zeros, n < sizeof zeros ? n : sizeof zeros);
        else if (n)
            qt_fill_normal(&r, parts[i].t, 0.05, parts[i].n_units, p);
        p += n;
    }
    cr_assert_eq(qn_memfs_put(mem, path, file, (size_t)(p - file)), 0);
}

static void put_model(qn_memfs *mem)
{
    static const struct part one[] = {
        {"a.bf16", "BF16", "[8,32]", QN_BF16, 256}, {"a.f32", "F32", "[3,17]", QN_F32, 51},
        {"zero", "U8", "[64]", QN_U8, 64},          {"b.weight", "F16", "[4,32]", QN_F16, 128},
        {"empty", "F32", "[0,4]", QN_F32, 0},
    };
    static const struct part two[] = {
        {"b.twin", "F16", "[4,32]", QN_F16, 128}, {"c.f64", "F64", "[]", QN_F64, 1},
        {"c.i8", "I8", "[9,11]", QN_I8, 99},      {"c.fp8", "F8_E4M3", "[5,13]", QN_F8_E4M3, 65},
    };
    static const char config[] = "{\"architectures\": [\"TestModel\"], \"hidden_size\": 32}\n";
    static const char index[] =
        "{\"metadata\":{},\"weight_map\":{\"a.bf16\":\"m-1.safetensors\",\"a.f32\":\"m-1.safetensors\",\"zero\":"
        "\"m-1.safetensors\",\"b.weight\":\"m-1.safetensors\",\"empty\":\"m-1.safetensors\",\"b.twin\":\"m-2.safetensors\","
        "\"c.f64\":\"m-2.safetensors\",\"c.i8\":\"m-2.safetensors\",\"c.fp8\":\"m-2.safetensors\"}}";
    put_shard(mem, "in/m-1.safetensors", one, sizeof one / sizeof one[0], 0);
    put_shard(mem, "in/m-2.safetensors", two, sizeof two / sizeof two[0], 50);
    cr_assert_eq(qn_memfs_put(mem, "in/config.json", config, sizeof config - 1), 0);
    cr_assert_eq(qn_memfs_put(mem, "in/model.safetensors.index.json", index, sizeof index - 1), 0);
    cr_assert_eq(qn_memfs_put(mem, "in/added_tokens.json", "", 0), 0);
    cr_assert_eq(qn_memfs_put(mem, "in/sub/notes.txt", "made for tests\n", 15), 0);
}

/* ---- the world ---- */

void qt_world_open(qt_world *w)
{
    *w = (qt_world){.mem = qn_memfs_new(), .pack = {.level = QN_LEVEL_FAST, .checkpoint_bytes = 200}};
    cr_assert_not_null(w->mem);
    put_model(w->mem);
    qt_heap_init(&w->heap);
    cr_assert_eq(qn_env_init(&w->env, NULL), QN_OK);
    w->fault.inner = qn_memfs_fs(w->mem);
    qt_disarm(w);
    w->env.fs = &w->fault.fs;
    w->env.alloc = &w->heap.alloc;
    w->env.n_threads = 1;
}

void qt_world_close(qt_world *w)
{
    cr_assert_eq(atomic_load(&w->heap.n_out), 0, "%llu allocations leaked", (unsigned long long)w->heap.n_out);
    qn_memfs_free(w->mem);
}

void qt_arm(qt_world *w, unsigned ops, uint64_t nth, qn_fault_how how, int sys, bool on)
{
    w->fault.ops = ops;
    w->fault.nth = nth;
    w->fault.how = how;
    w->fault.sys = sys;
    w->fault.on = on;
    qn_fault_init(&w->fault);
}

void qt_disarm(qt_world *w)
{
    qt_arm(w, QN_OPS_ALL, 0, QN_FAULT_ERROR, 0, false);
}

qn_code qt_pack(qt_world *w, const char *in, const char *out)
{
    qn_source *src;
    qn_err_clear(&w->err);
    qn_code rc = qn_source_open(&w->env, in, &src, &w->err);
    if (rc == QN_OK)
        rc = qn_pack(&w->env, src, out, &w->pack, &w->report, &w->err);
    if (rc == QN_OK) {
        qn_pack_report kept = w->report;
        qn_pack_report_release(&w->env, &w->report);
        kept.rows = NULL;
        w->report = kept;
    }
    qn_source_close(src);
    return rc;
}

qn_code qt_unpack(qt_world *w, const char *in, const char *out)
{
    qn_source *src;
    uint64_t n;
    qn_err_clear(&w->err);
    qn_code rc = qn_source_open(&w->env, in, &src, &w->err);
    if (rc == QN_OK)
        rc = qn_unpack(&w->env, src, out, &w->unpack, &n, &w->err);
    qn_source_close(src);
    return rc;
}

qn_code qt_verify(qt_world *w, const char *in)
{
    qn_source *src;
    qn_err_clear(&w->err);
    qn_code rc = qn_source_open(&w->env, in, &src, &w->err);
    if (rc == QN_OK)
        rc = qn_verify(&w->env, src, NULL, NULL, &w->err);
    qn_source_close(src);
    return rc;
}

uint8_t *qt_copy_file(qt_world *w, const char *path, size_t *n)
{
    const uint8_t *p = qn_memfs_get(w->mem, path, n);
    uint8_t *copy = p ? malloc(*n + 1) : NULL;
    if (copy)
        memcpy(copy, p, *n);
    return copy;
}

bool qt_file_is(qt_world *w, const char *path, const uint8_t *bytes, size_t n)
{
    size_t have;
    const uint8_t *p = qn_memfs_get(w->mem, path, &have);
    return p && have == n && memcmp(p, bytes, n) == 0;
}

/* Every file below a is below b, with the same bytes; *n counts paths. */
static bool is_part(qt_world *w, const char *a, const char *b, unsigned *n)
{
    char *tree = qn_memfs_tree(w->mem), *save = NULL;
    const size_t na = strlen(a);
    bool same = tree != NULL;
    *n = 0;
    for (char *p = tree ? strtok_r(tree, "\n", &save) : NULL; p && same; p = strtok_r(NULL, "\n", &save)) {
        char other[512];
        size_t len;
        if (strncmp(p, a, na) != 0 || p[na] != '/')
            continue;
        snprintf(other, sizeof other, "%s%s", b, p + na);
        const uint8_t *bytes = qn_memfs_get(w->mem, p, &len);
        same = !bytes || qt_file_is(w, other, bytes, len);
        ++*n;
    }
    free(tree);
    return same;
}

bool qt_same_tree(qt_world *w, const char *a, const char *b)
{
    unsigned na, nb;
    return is_part(w, a, b, &na) && is_part(w, b, a, &nb) && na == nb && na > 0;
}

unsigned qt_n_paths(qt_world *w, const char *begin)
{
    char *tree = qn_memfs_tree(w->mem), *save = NULL;
    unsigned n = 0;
    for (char *p = tree ? strtok_r(tree, "\n", &save) : NULL; p; p = strtok_r(NULL, "\n", &save))
        n += strncmp(p, begin, strlen(begin)) == 0;
    free(tree);
    return n;
}

const char *qt_to_disk(qt_world *w)
{
    static char dir[64];
    char *tree = qn_memfs_tree(w->mem), *save = NULL, path[512];
    snprintf(dir, sizeof dir, "%s/quern-fault-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    cr_assert_not_null(mkdtemp(dir));
    for (char *p = strtok_r(tree, "\n", &save); p; p = strtok_r(NULL, "\n", &save)) {
        size_t n;
        const uint8_t *bytes = qn_memfs_get(w->mem, p, &n);
        snprintf(path, sizeof path, "%s/%s", dir, p);
        if (!bytes) {
            cr_assert_eq(mkdir(path, 0777), 0);
            continue;
        }
        FILE *f = fopen(path, "wb");
        cr_assert_not_null(f);
        cr_assert_eq(fwrite(bytes, 1, n, f), n);
        cr_assert_eq(fclose(f), 0);
    }
    free(tree);
    w->fault.inner = &qn_fs_posix;
    qt_disarm(w);
    return dir;
}

void qt_remove_disk(const char *dir)
{
    char command[128];
    cr_assert_not_null(strstr(dir, "/quern-fault-"));
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    cr_assert_eq(system(command), 0);
}

uint8_t *qt_read_disk(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    uint8_t *p = malloc(1 << 20);
    *n = f && p ? fread(p, 1, 1 << 20, f) : 0;
    if (f)
        fclose(f);
    else
        free(p);
    return f ? p : NULL;
}

const char *qt_line(const qn_err *err)
{
    static char line[1024];
    qn_err_line(err, line, sizeof line);
    return line;
}
