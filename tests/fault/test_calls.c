/* test_calls.c: every call to the operating system fails once, at every place where it is made, in every way; and the
 * disk is full after every byte. What comes out is the right bytes or a clean error. */
#include "tests/fault/kit.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef qn_code (*job_fn)(qt_world *w);

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

struct result {
    uint8_t *packed;
    size_t n_packed;
};

static struct result undisturbed(void)
{
    struct result r;
    qt_world w;
    qt_world_open(&w);
    cr_assert_eq(qt_pack(&w, "in", "out.quern"), QN_OK, "%s", qt_line(&w.err));
    r.packed = qt_copy_file(&w, "out.quern", &r.n_packed);
    cr_assert_eq(qt_n_paths(&w, "out"), 1, "no temporary stays behind");
    qt_world_close(&w);
    return r;
}

static void begin(qt_world *w, const struct result *r, bool old_output)
{
    qt_world_open(w);
    cr_assert_eq(qn_memfs_put(w->mem, "packed.quern", r->packed, r->n_packed), 0);
    if (old_output) {
        cr_assert_eq(qn_memfs_put(w->mem, "out.quern", "old", 3), 0);
        cr_assert_eq(qn_memfs_put(w->mem, "restored/config.json", "old", 3), 0);
        w->pack.overwrite = w->unpack.overwrite = true;
    }
}

/* What must hold whatever has happened. */
static void check(qt_world *w, const struct result *r, qn_code rc, bool old_output, job_fn job, const char *where)
{
    const bool failed = rc != QN_OK;
    if (failed) {
        cr_assert(rc == QN_E_IO || rc == QN_E_VERIFY || rc == QN_E_INPUT, "%s: code %d: %s", where, rc, qt_line(&w->err));
        cr_assert_eq(w->err.code, rc, "%s", where);
        cr_assert(w->err.text[0] != '\0' && w->err.path[0] != '\0', "%s: %s", where, qt_line(&w->err));
    }
    cr_assert_eq(qn_memfs_n_open(w->mem), 0, "%s: handles left open", where);
    qt_disarm(w);
    cr_assert(qt_file_is(w, "packed.quern", r->packed, r->n_packed), "%s: input changed", where);
    if (job == job_pack) {
        const bool whole = qt_file_is(w, "out.quern", r->packed, r->n_packed);
        cr_assert(whole || failed, "%s: success, but not the right bytes", where);
        cr_assert(whole || (old_output ? qt_file_is(w, "out.quern", (const uint8_t *)"old", 3) : qt_n_paths(w, "out.quern") == qt_n_paths(w, "out.quern.")),
                  "%s: something partial has the final name", where);
        w->pack.overwrite = true;
        cr_assert_eq(qt_pack(w, "in", "out.quern"), QN_OK, "%s: again: %s", where, qt_line(&w->err));
        cr_assert(qt_file_is(w, "out.quern", r->packed, r->n_packed), "%s: again: other bytes", where);
        cr_assert_eq(qt_n_paths(w, "out.quern."), 0, "%s: again: a temporary stays behind", where);
    }
    if (job == job_unpack) {
        if (!old_output)
            cr_assert(qt_same_tree(w, "in", "restored") || (failed && qt_n_paths(w, "restored/") == 0),
                      "%s: something partial has the final name", where);
        w->unpack.overwrite = true;
        cr_assert_eq(qt_unpack(w, "packed.quern", "restored"), QN_OK, "%s: again: %s", where, qt_line(&w->err));
        cr_assert(qt_same_tree(w, "in", "restored"), "%s: again: other bytes", where);
        cr_assert_eq(qt_n_paths(w, "restored."), 0, "%s: again: a temporary stays behind", where);
    }
    qt_world_close(w);
}

static void sweep(job_fn job, bool old_output, bool on)
{
    static const struct {
        int sys;
        const char *name;
    } ways[] = {{EIO, "EIO"}, {ENOSPC, "ENOSPC"}, {EINTR, "EINTR"}, {0, "short"}};
    const struct result r = undisturbed();
    unsigned long n_faults = 0, n_ok = 0, n_left = 0;
    for (unsigned op = 0; op < QN_OP_COUNT; op++)
        for (size_t way = 0; way < sizeof ways / sizeof ways[0]; way++) {
            if (on && ways[way].sys == EINTR)
                continue; /* for ever interrupted is no state of a system */
            for (uint64_t nth = 1;; nth++) {
                char where[100];
                qt_world w;
                snprintf(where, sizeof where, "%s %llu %s%s", qn_fault_op_name((qn_fault_op)op), (unsigned long long)nth,
                         ways[way].name, on ? " on" : "");
                begin(&w, &r, old_output);
                qt_arm(&w, 1u << op, nth, ways[way].sys ? QN_FAULT_ERROR : QN_FAULT_SHORT, ways[way].sys, on);
                const qn_code rc = job(&w);
                const bool hit = atomic_load(&w.fault.n_hit) > 0, reached = atomic_load(&w.fault.n_counted) >= nth;
                n_faults += hit;
                n_ok += hit && rc == QN_OK;
                n_left += hit && rc != QN_OK && qt_n_paths(&w, "out.quern.") + qt_n_paths(&w, "restored.") > 0;
                if (!hit)
                    cr_assert_eq(rc, QN_OK, "%s: %s", where, qt_line(&w.err));
                check(&w, &r, rc, old_output, job, where);
                if (!reached)
                    break;
            }
        }
    fprintf(stderr, "# faults injected: %lu, all handled: %lu survived, %lu clean errors (%lu leave something to resume)\n", n_faults,
           n_ok, n_faults - n_ok, n_left);
    free(r.packed);
}

Test(calls, pack_once)
{
    sweep(job_pack, false, false);
}

Test(calls, pack_once_over_old)
{
    sweep(job_pack, true, false);
}

Test(calls, pack_from_then_on)
{
    sweep(job_pack, true, true);
}

Test(calls, unpack_once)
{
    sweep(job_unpack, false, false);
}

Test(calls, unpack_once_into_old)
{
    sweep(job_unpack, true, false);
}

Test(calls, unpack_from_then_on)
{
    sweep(job_unpack, false, true);
}

Test(calls, verify)
{
    sweep(job_verify, false, false);
    sweep(job_verify, false, true);
}

/* Room for nothing, a byte more, …, everything. */
static void full_disk(job_fn job, const char *temporary)
{
    const struct result r = undisturbed();
    unsigned long n = 0;
    uint64_t room = 0;
    for (qn_code rc = QN_E_IO; rc != QN_OK; room += 7, n++) {
        qt_world w;
        begin(&w, &r, false);
        size_t in_bytes = r.n_packed, len;
        char *tree = qn_memfs_tree(w.mem), *save = NULL;
        for (char *p = strtok_r(tree, "\n", &save); p; p = strtok_r(NULL, "\n", &save))
            if (strncmp(p, "in/", 3) == 0 && qn_memfs_get(w.mem, p, &len))
                in_bytes += len;
        free(tree);
        qn_memfs_limit(w.mem, in_bytes + room);
        rc = job(&w);
        if (rc != QN_OK) {
            cr_assert_eq(rc, QN_E_IO);
            cr_assert_eq(w.err.sys, ENOSPC, "%s", qt_line(&w.err));
            cr_assert_eq(qt_n_paths(&w, temporary), 0, "the room is given back");
        }
        qn_memfs_limit(w.mem, UINT64_MAX);
        check(&w, &r, rc, false, job, "full disk");
    }
    fprintf(stderr, "# disk full at %lu sizes up to %llu bytes, all handled\n", n - 1, (unsigned long long)room - 7);
    free(r.packed);
}

Test(calls, pack_on_full_disk)
{
    full_disk(job_pack, "out.quern");
}

Test(calls, unpack_on_full_disk)
{
    full_disk(job_unpack, "restored");
}
