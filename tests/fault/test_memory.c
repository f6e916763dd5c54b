/* test_memory.c: every allocation fails once, and from there on; nothing leaks, nothing is written, the code is right. And
 * packing holds no more memory than it said. */
#include "tests/fault/kit.h"
#include "base/num.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static qn_code job_open(qt_world *w)
{
    qn_source *src;
    const qn_code rc = qn_source_open(&w->env, "in", &src, &w->err);
    qn_source_close(src);
    return rc;
}

static qn_code job_pack(qt_world *w)
{
    return qt_pack(w, "in", "out.quern");
}

static qn_code job_unpack(qt_world *w)
{
    return qt_unpack(w, "packed.quern", "restored");
}

static qn_code job_verify(qt_world *w)
{
    return qt_verify(w, "packed.quern");
}

static void make_packed(qt_world *w)
{
    const uint64_t nth = w->heap.nth;
    w->heap.nth = 0;
    cr_assert_eq(qt_pack(w, "in", "packed.quern"), QN_OK, "%s", qt_line(&w->err));
    w->heap.nth = nth;
    atomic_store(&w->heap.n_gets, 0);
}

static unsigned long sweep(qn_code (*job)(qt_world *), bool on, unsigned n_threads)
{
    unsigned long n = 0;
    for (uint64_t nth = 1;; nth++) {
        qt_world w;
        qt_world_open(&w);
        make_packed(&w);
        w.env.n_threads = n_threads;
        w.heap.nth = nth;
        w.heap.on = on;
        const qn_code rc = job(&w);
        const bool reached = atomic_load(&w.heap.n_gets) >= nth;
        w.heap.nth = 0;
        cr_assert_eq(qn_memfs_n_open(w.mem), 0, "allocation %llu: handles left open", (unsigned long long)nth);
        if (rc != QN_OK) {
            cr_assert_eq(rc, QN_E_MEMORY, "allocation %llu: code %d: %s", (unsigned long long)nth, rc, qt_line(&w.err));
            cr_assert_eq(w.err.code, QN_E_MEMORY);
            /* a result whose folder could not be synced for want of memory is there and whole */
            size_t len, n_packed;
            const uint8_t *packed = qn_memfs_get(w.mem, "packed.quern", &n_packed);
            if (qn_memfs_get(w.mem, "out.quern", &len))
                cr_assert(qt_file_is(&w, "out.quern", packed, n_packed), "allocation %llu", (unsigned long long)nth);
            cr_assert(qt_n_paths(&w, "restored/") == 0 || qt_same_tree(&w, "in", "restored"));
            /* and once there is memory again the command does its work */
            w.pack.overwrite = w.unpack.overwrite = true;
            cr_assert_eq(job(&w), QN_OK, "allocation %llu: again: %s", (unsigned long long)nth, qt_line(&w.err));
            if (job == job_pack)
                cr_assert(qt_file_is(&w, "out.quern", packed, n_packed), "allocation %llu", (unsigned long long)nth);
            cr_assert_eq(qt_n_paths(&w, "out.quern."), 0);
            cr_assert_eq(qt_n_paths(&w, "restored."), 0);
        }
        qt_world_close(&w); /* counts what is still held */
        if (!reached) {
            cr_assert_eq(rc, QN_OK);
            return n;
        }
        n += 1;
    }
}

#define SWEEP(name, job)                                                                                       \
    Test(memory, name)                                                                                         \
    {                                                                                                          \
        const unsigned long once = sweep(job, false, 1), on = sweep(job, true, 1), many = sweep(job, false, 3); \
        fprintf(stderr, "# " #name ": %lu allocations failed once, %lu from then on, %lu with three threads, all handled\n", \
                once, on, many);                                                                               \
    }

SWEEP(open_source, job_open)
SWEEP(pack, job_pack)
SWEEP(unpack, job_unpack)
SWEEP(verify, job_verify)

/* A model of many small tensors: tables, not chunks, take the memory. */
static void put_many(qt_world *w, unsigned n_tensors)
{
    const size_t cap = (size_t)n_tensors * 120 + 64;
    char *head = malloc(cap);
    size_t n = 0;
    cr_assert_not_null(head);
    for (unsigned i = 0; i < n_tensors; i++)
        n += (size_t)snprintf(head + n, cap - n,
                              "%s\"model.layers.%u.mlp.experts.%u.weight\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[%u,%u]}",
                              i ? "," : "{", i / 128, i % 128, 4 * i, 4 * i + 4);
    n += (size_t)snprintf(head + n, cap - n, "}");
    uint8_t *file = malloc(8 + n + 4 * (size_t)n_tensors);
    cr_assert_not_null(file);
    qn_store64(file, n);
    memcpy(file + 8, head, n);
    for (unsigned i = 0; i < n_tensors; i++)
        qn_store32(file + 8 + n + 4 * (size_t)i, i);
    cr_assert_eq(qn_memfs_put(w->mem, "many.safetensors", file, 8 + n + 4 * (size_t)n_tensors), 0);
    free(file);
    free(head);
}

Test(memory, as_much_as_was_said)
{
    static const unsigned counts[] = {1, 1000, 100000};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        for (unsigned threads = 1; threads <= 3; threads += 2) {
            qt_world w;
            qn_source *src;
            qt_world_open(&w);
            put_many(&w, counts[i]);
            w.env.n_threads = threads;
            w.pack.checkpoint_bytes = 0;
            cr_assert_eq(qn_source_open(&w.env, "many.safetensors", &src, &w.err), QN_OK, "%s", qt_line(&w.err));
            const uint64_t said = qn_pack_memory(&w.env, src, &w.pack);
            atomic_store(&w.heap.peak_bytes, atomic_load(&w.heap.now_bytes));
            cr_assert_eq(qn_pack(&w.env, src, "out.quern", &w.pack, &w.report, &w.err), QN_OK, "%s", qt_line(&w.err));
            const uint64_t held = atomic_load(&w.heap.peak_bytes);
            qn_pack_report_release(&w.env, &w.report);
            qn_source_close(src);
            fprintf(stderr, "# %u tensors, %u threads: said %llu KiB, held %llu KiB\n", counts[i], threads,
                    (unsigned long long)said >> 10, (unsigned long long)held >> 10);
            cr_assert_leq(held, said);
            qt_world_close(&w);
        }
}
