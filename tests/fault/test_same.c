/* test_same.c: what must not change the bytes: threads, processor, place and time; and what must not spoil them: an output
 * that is the input, two runs at once, an input that changes while it is read. */
#define _GNU_SOURCE
#include "compress/lockfile.h"
#include "tests/fault/kit.h"
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <errno.h>
#include <locale.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

/* ---- same bytes ---- */

Test(same, threads_processors_places)
{
    static const unsigned threads[] = {1, 2, 3, 8};
    static const char *const places[] = {"C", "C.UTF-8", "de_DE.UTF-8"}, *const zones[] = {"UTC", "Asia/Kolkata"};
    unsigned variants[4], n_runs = 0;
    const unsigned n_variants = qt_cpu_variants(variants);
    for (qn_level level = QN_LEVEL_FAST; level <= QN_LEVEL_MAX; level++) {
        uint8_t *first = NULL;
        size_t n = 0;
        for (unsigned t = 0; t < 4; t++)
            for (unsigned v = 0; v < n_variants; v++, n_runs++) {
                qt_world w;
                qt_world_open(&w);
                w.pack.level = level;
                w.env.n_threads = threads[t];
                w.env.cpu = variants[v];
                setenv("TZ", zones[t % 2], 1);
                setenv("LC_ALL", places[(t + v) % 3], 1);
                (void)setlocale(LC_ALL, "");
                tzset();
                cr_assert_eq(qt_pack(&w, "in", "out.quern"), QN_OK, "%s", qt_line(&w.err));
                if (!first)
                    first = qt_copy_file(&w, "out.quern", &n);
                cr_assert(qt_file_is(&w, "out.quern", first, n), "level %d, %u threads, cpu %u", (int)level, threads[t],
                          variants[v]);
                w.pack.overwrite = true;
                cr_assert_eq(qt_pack(&w, "in", "out.quern"), QN_OK);
                cr_assert(qt_file_is(&w, "out.quern", first, n), "the second run differs");
                cr_assert_eq(qt_unpack(&w, "out.quern", "restored"), QN_OK);
                cr_assert(qt_same_tree(&w, "in", "restored"));
                qt_world_close(&w);
            }
        free(first);
    }
    fprintf(stderr, "# %u runs over threads, processors, places: one result for each level\n", n_runs);
}

/* ---- no threads to be had ---- */

#ifndef SANITIZED
static atomic_int threads_left = INT32_MAX;
static atomic_uint threads_refused;

static int real_create(pthread_t *id, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    int (*f)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    void *p = dlsym(RTLD_NEXT, "pthread_create");
    memcpy(&f, &p, sizeof f);
    return f(id, attr, fn, arg);
}

/* Stands before the C library's. */
int pthread_create(pthread_t *id, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    if (atomic_fetch_sub(&threads_left, 1) > 0)
        return real_create(id, attr, fn, arg);
    atomic_fetch_add(&threads_refused, 1);
    return EAGAIN;
}

Test(same, threads_that_cannot_be_started)
{
    uint8_t *first = NULL;
    size_t n = 0;
    for (int left = 7; left >= 0; left--) {
        qt_world w;
        qt_world_open(&w);
        w.env.n_threads = 8;
        atomic_store(&threads_left, left);
        cr_assert_eq(qt_pack(&w, "in", "out.quern"), QN_OK, "%s", qt_line(&w.err));
        atomic_store(&threads_left, left);
        cr_assert_eq(qt_unpack(&w, "out.quern", "restored"), QN_OK, "%s", qt_line(&w.err));
        atomic_store(&threads_left, INT32_MAX);
        if (!first)
            first = qt_copy_file(&w, "out.quern", &n);
        cr_assert(qt_file_is(&w, "out.quern", first, n));
        cr_assert(qt_same_tree(&w, "in", "restored"));
        qt_world_close(&w);
    }
    free(first);
    cr_assert_gt(atomic_load(&threads_refused), 0);
    fprintf(stderr, "# threads refused: %u, all done by fewer\n", atomic_load(&threads_refused));
}
#endif

/* ---- the output is an input ---- */

static bool disk_file_is(const char *path, const uint8_t *want, size_t n)
{
    size_t have;
    uint8_t *p = qt_read_disk(path, &have);
    const bool same = p && have == n && memcmp(p, want, n) == 0;
    free(p);
    return same;
}

/* Without force refused; with it the name is given to the complete new file and every other name keeps the old one. */
Test(same, output_is_input)
{
    static const char *const outs[] = {"in/m-1.safetensors", "hard", "soft", "./in/../in/m-1.safetensors"};
    uint8_t *old = NULL, *new = NULL;
    size_t n_old, n_new;
    for (size_t i = 0; i < sizeof outs / sizeof outs[0]; i++) {
        qt_world w;
        char in[128], hard[128], soft[128], spare[128], out[128];
        qt_world_open(&w);
        const char *dir = qt_to_disk(&w);
        snprintf(in, sizeof in, "%s/in/m-1.safetensors", dir);
        snprintf(hard, sizeof hard, "%s/hard", dir);
        snprintf(soft, sizeof soft, "%s/soft", dir);
        snprintf(spare, sizeof spare, "%s/spare", dir);
        snprintf(out, sizeof out, "%s/%s", dir, outs[i]);
        cr_assert(link(in, hard) == 0 && link(in, spare) == 0 && symlink(in, soft) == 0);
        if (!old) {
            old = qt_read_disk(in, &n_old);
            cr_assert_eq(qt_pack(&w, in, spare), QN_E_USAGE);
            cr_assert_eq(unlink(spare), 0);
            cr_assert_eq(qt_pack(&w, in, spare), QN_OK, "%s", qt_line(&w.err));
            new = qt_read_disk(spare, &n_new);
            cr_assert(unlink(spare) == 0 && link(in, spare) == 0);
        }
        cr_assert_eq(qt_pack(&w, in, out), QN_E_USAGE, "%s", outs[i]);
        cr_assert(disk_file_is(in, old, n_old));
        w.pack.overwrite = w.unpack.overwrite = true;
        cr_assert_eq(qt_pack(&w, in, out), QN_OK, "%s: %s", outs[i], qt_line(&w.err));
        cr_assert(disk_file_is(out, new, n_new), "%s", outs[i]);
        cr_assert(disk_file_is(spare, old, n_old), "another name of the input is changed through %s", outs[i]);
        cr_assert_eq(qt_unpack(&w, out, out), QN_OK, "%s", qt_line(&w.err));
        cr_assert(disk_file_is(out, old, n_old), "%s", outs[i]);
        qt_remove_disk(dir);
        qt_world_close(&w);
    }
    free(old);
    free(new);
}

/* ---- two runs at once ---- */

struct rival {
    qt_world *w;
    bool pack;
    qn_code rc;
    char text[320];
};

static void run_rival(void *ctx)
{
    struct rival *r = ctx;
    qn_env env = r->w->env;
    qn_source *src;
    qn_err err = {0};
    uint64_t n;
    env.fs = qn_memfs_fs(r->w->mem);
    r->rc = qn_source_open(&env, r->pack ? "in" : "packed.quern", &src, &err);
    if (r->rc == QN_OK && r->pack) {
        qn_pack_report report;
        r->rc = qn_pack(&env, src, "out.quern", &r->w->pack, &report, &err);
        if (r->rc == QN_OK)
            qn_pack_report_release(&env, &report);
    } else if (r->rc == QN_OK) {
        r->rc = qn_unpack(&env, src, "restored", &r->w->unpack, &n, &err);
    }
    qn_source_close(src);
    memcpy(r->text, err.text, sizeof r->text);
}

static void two_runs(bool pack)
{
    uint8_t *packed;
    size_t n;
    unsigned long n_runs = 0, n_refused = 0;
    qt_world w;
    qt_world_open(&w);
    cr_assert_eq(qt_pack(&w, "in", "packed.quern"), QN_OK);
    packed = qt_copy_file(&w, "packed.quern", &n);
    qt_world_close(&w);
    for (uint64_t nth = 1;; nth++, n_runs++) {
        qt_world_open(&w);
        cr_assert_eq(qn_memfs_put(w.mem, "packed.quern", packed, n), 0);
        w.pack.overwrite = w.unpack.overwrite = true;
        struct rival r = {.w = &w, .pack = pack, .rc = QN_E_BUG};
        w.fault.hook = run_rival;
        w.fault.hook_ctx = &r;
        qt_arm(&w, QN_OPS_ALL, nth, QN_FAULT_HOOK, 0, false);
        const qn_code rc = pack ? qt_pack(&w, "in", "out.quern") : qt_unpack(&w, "packed.quern", "restored");
        const bool hit = atomic_load(&w.fault.n_hit) > 0;
        qt_disarm(&w);
        cr_assert(rc == QN_OK || rc == QN_E_USAGE, "%s", qt_line(&w.err));
        cr_assert(rc == QN_OK || r.rc == QN_OK, "call %llu: one of the two succeeds: %s / %s", (unsigned long long)nth,
                  qt_line(&w.err), r.text);
        cr_assert(r.rc == QN_OK || r.rc == QN_E_USAGE || !hit, "call %llu: %s", (unsigned long long)nth, r.text);
        n_refused += strstr(r.text, "another run") != NULL;
        cr_assert(pack ? qt_file_is(&w, "out.quern", packed, n) : qt_same_tree(&w, "in", "restored"), "call %llu",
                  (unsigned long long)nth);
        cr_assert_eq(qt_n_paths(&w, "out.quern.") + qt_n_paths(&w, "restored."), 0, "call %llu", (unsigned long long)nth);
        qt_world_close(&w);
        if (!hit)
            break;
    }
    cr_assert_gt(n_refused, n_runs / 2);
    fprintf(stderr, "# second runs: %lu, %lu refused, the others before or after the first\n", n_runs, n_refused);
    free(packed);
}

Test(same, two_runs_packing)
{
    two_runs(true);
}

Test(same, two_runs_unpacking)
{
    two_runs(false);
}

static void unlink_lock(void *ctx)
{
    const qn_fs *fs = qn_memfs_fs(ctx);
    (void)fs->unlink(fs->ctx, "lock");
}

/* The file that is locked may have lost its name meanwhile: holding it would keep nobody out. */
Test(same, lock_of_a_removed_file)
{
    for (uint64_t nth = 1; nth <= 2; nth++) {
        qt_world w;
        qn_file f;
        qn_stat named, held;
        bool is_new;
        qt_world_open(&w);
        cr_assert_eq(qn_memfs_put(w.mem, "lock", "", 0), 0);
        w.fault.hook = unlink_lock;
        w.fault.hook_ctx = w.mem;
        qt_arm(&w, 1u << QN_OP_OPEN | 1u << QN_OP_LOCK, nth, QN_FAULT_HOOK, 0, false);
        cr_assert_eq(qn_lockfile_open(&f, &w.env, "lock", &is_new, &w.err), QN_OK, "%s", qt_line(&w.err));
        cr_assert_eq(qn_file_stat(&f, &held, &w.err), QN_OK);
        cr_assert_eq(qn_fs_stat(w.env.fs, "lock", &named, &w.err), QN_OK);
        cr_assert_eq(held.ino, named.ino);
        cr_assert(is_new);
        qn_file_drop(&f);
        qt_world_close(&w);
    }
}

/* ---- the input changes ---- */

struct change {
    qt_world *w;
    bool shrink;
};

static void change_input(void *ctx)
{
    const struct change *c = ctx;
    const qn_fs *fs = qn_memfs_fs(c->w->mem);
    static const char *const names[] = {"in/m-1.safetensors", "in/m-2.safetensors"};
    for (int i = 0; i < 2; i++) {
        uint8_t last[8];
        qn_stat st;
        const int fd = fs->open(fs->ctx, names[i], QN_OPEN_RDWR);
        cr_assert(fd >= 0 && fs->fstat(fs->ctx, fd, &st) == 0);
        if (c->shrink) {
            cr_assert_eq(fs->truncate(fs->ctx, fd, st.n_bytes - 9), 0);
        } else {
            cr_assert_eq(fs->pread(fs->ctx, fd, last, sizeof last, st.n_bytes - sizeof last), sizeof last);
            for (size_t k = 0; k < sizeof last; k++)
                last[k] ^= 0x11;
            cr_assert_eq(fs->pwrite(fs->ctx, fd, last, sizeof last, st.n_bytes - sizeof last), sizeof last);
        }
        (void)fs->close(fs->ctx, fd);
    }
}

static void copy_tree(qt_world *w, const char *from, const char *to)
{
    char *tree = qn_memfs_tree(w->mem), *save = NULL, path[256];
    for (char *p = strtok_r(tree, "\n", &save); p; p = strtok_r(NULL, "\n", &save)) {
        size_t n;
        if (strncmp(p, from, strlen(from)) != 0 || !qn_memfs_get(w->mem, p, &n))
            continue;
        uint8_t *bytes = qt_copy_file(w, p, &n);
        snprintf(path, sizeof path, "%s%s", to, p + strlen(from));
        cr_assert_eq(qn_memfs_put(w->mem, path, bytes, n), 0);
        free(bytes);
    }
    free(tree);
}

static void changing(bool shrink)
{
    unsigned long n_refused = 0, n_old = 0, n_new = 0;
    for (uint64_t nth = 1;; nth++) {
        qt_world w;
        qt_world_open(&w);
        copy_tree(&w, "in", "old");
        struct change c = {&w, shrink};
        w.fault.hook = change_input;
        w.fault.hook_ctx = &c;
        qt_arm(&w, QN_OPS_ALL, nth, QN_FAULT_HOOK, 0, false);
        const qn_code rc = qt_pack(&w, "in", "out.quern");
        const bool hit = atomic_load(&w.fault.n_hit) > 0;
        qt_disarm(&w);
        if (rc == QN_OK) {
            cr_assert_eq(qt_unpack(&w, "out.quern", "restored"), QN_OK, "%s", qt_line(&w.err));
            const bool old = qt_same_tree(&w, "old", "restored");
            cr_assert(old || qt_same_tree(&w, "in", "restored"), "call %llu: a mixture", (unsigned long long)nth);
            n_old += hit && old;
            n_new += hit && !old;
        } else {
            cr_assert(rc == QN_E_INPUT, "call %llu: %s", (unsigned long long)nth, qt_line(&w.err));
            cr_assert_eq(qt_n_paths(&w, "out.quern"), 0, "call %llu", (unsigned long long)nth);
            n_refused++;
        }
        qt_world_close(&w);
        if (!hit)
            break;
    }
    cr_assert_gt(n_refused, 10);
    fprintf(stderr, "# input %s at every call: %lu refused, %lu packed the old state, %lu the new one\n",
            shrink ? "shrinks" : "changes", n_refused, n_old, n_new);
}

Test(same, input_changes)
{
    changing(false);
}

Test(same, input_shrinks)
{
    changing(true);
}
