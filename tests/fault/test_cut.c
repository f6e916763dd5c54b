/* test_cut.c: the process is killed, or the power fails, at every call; then the same command is given again. The result is
 * the same bytes as if nothing had happened, and at no time does the final name stand for anything but the old or
 * the complete new output. */
#include "tests/fault/kit.h"
#include "base/hash.h"
#include "base/num.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct result {
    uint8_t *packed;
    size_t n_packed;
    uint64_t n_pack_calls, n_unpack_calls;
};

static struct result undisturbed(void)
{
    struct result r;
    qt_world w;
    qt_world_open(&w);
    qt_disarm(&w);
    cr_assert_eq(qt_pack(&w, "in", "out.quern"), QN_OK, "%s", qt_line(&w.err));
    r.n_pack_calls = atomic_load(&w.fault.n_counted);
    r.packed = qt_copy_file(&w, "out.quern", &r.n_packed);
    qt_disarm(&w);
    cr_assert_eq(qt_unpack(&w, "out.quern", "restored"), QN_OK, "%s", qt_line(&w.err));
    r.n_unpack_calls = atomic_load(&w.fault.n_counted);
    cr_assert(qt_same_tree(&w, "in", "restored"));
    qt_world_close(&w);
    return r;
}

static unsigned n_seeds(void)
{
    const char *s = getenv("QUERN_FAULT_SEEDS");
    return s ? (unsigned)strtoul(s, NULL, 10) : qt_rounds(8);
}

/* The process ends at call `nth`; seed 0: files stay as they are, else the power fails too. */
static void die(qt_world *w, qn_code (*job)(qt_world *), uint64_t nth, uint64_t seed)
{
    qt_arm(w, QN_OPS_ALL, nth, QN_FAULT_DEAD, EIO, false);
    (void)job(w);
    qt_disarm(w);
    if (seed)
        qn_memfs_cut(w->mem, seed * 7919 + nth);
    else
        qn_memfs_kill(w->mem);
}

static qn_code job_pack(qt_world *w)
{
    return qt_pack(w, "in", "out.quern");
}

static qn_code job_unpack(qt_world *w)
{
    return qt_unpack(w, "packed.quern", "restored");
}

static void check_pack(qt_world *w, const struct result *r, bool old, const char *where)
{
    size_t n;
    if (qn_memfs_get(w->mem, "out.quern", &n))
        cr_assert(qt_file_is(w, "out.quern", r->packed, r->n_packed) ||
                      (old && qt_file_is(w, "out.quern", (const uint8_t *)"old", 3)),
                  "%s: something partial has the final name", where);
    else
        cr_assert(!old, "%s: the old output is gone", where);
}

static void finish_pack(qt_world *w, const struct result *r, const char *where)
{
    w->pack.overwrite = true;
    cr_assert_eq(qt_pack(w, "in", "out.quern"), QN_OK, "%s: again: %s", where, qt_line(&w->err));
    cr_assert(qt_file_is(w, "out.quern", r->packed, r->n_packed), "%s: again: other bytes", where);
    cr_assert_eq(qt_n_paths(w, "out.quern."), 0, "%s: a temporary stays behind", where);
}

static void pack_sweep(bool old)
{
    const struct result r = undisturbed();
    unsigned long n = 0, n_resumed = 0;
    for (uint64_t nth = 1; nth <= r.n_pack_calls; nth++)
        for (uint64_t seed = 0; seed < n_seeds(); seed++, n++) {
            char where[64];
            qt_world w;
            snprintf(where, sizeof where, "call %llu, seed %llu", (unsigned long long)nth, (unsigned long long)seed);
            qt_world_open(&w);
            if (old)
                cr_assert_eq(qn_memfs_put(w.mem, "out.quern", "old", 3), 0);
            w.pack.overwrite = old;
            die(&w, job_pack, nth, seed);
            check_pack(&w, &r, old, where);
            finish_pack(&w, &r, where);
            n_resumed += w.report.n_resumed > 0;
            qt_world_close(&w);
        }
    cr_assert_gt(n_resumed, n / 4, "only %lu of %lu resumed", n_resumed, n);
    fprintf(stderr, "# cuts while packing: %lu, all handled, %lu went on from a checkpoint\n", n, n_resumed);
    free(r.packed);
}

Test(cut, pack)
{
    pack_sweep(false);
}

Test(cut, pack_over_old)
{
    pack_sweep(true);
}

Test(cut, pack_again_and_again)
{
    const struct result r = undisturbed();
    unsigned long n = 0;
    for (uint64_t chain = 0; chain < 40 * n_seeds(); chain++) {
        qt_world w;
        qt_rng rng = qt_seed(chain);
        qt_world_open(&w);
        w.pack.overwrite = true;
        const uint64_t links = 2 + qt_below(&rng, 5);
        for (uint64_t i = 0; i < links; i++, n++) {
            die(&w, job_pack, 1 + qt_below(&rng, r.n_pack_calls), qt_below(&rng, 4) ? chain * 8 + i + 1 : 0);
            check_pack(&w, &r, false, "chain");
        }
        finish_pack(&w, &r, "chain");
        qt_world_close(&w);
    }
    fprintf(stderr, "# chains of cuts: %u, %lu cuts, all handled\n", 40 * n_seeds(), n);
    free(r.packed);
}

Test(cut, unpack)
{
    const struct result r = undisturbed();
    unsigned long n = 0;
    for (uint64_t nth = 1; nth <= r.n_unpack_calls; nth++)
        for (uint64_t seed = 0; seed < n_seeds(); seed++, n++) {
            char where[64];
            qt_world w;
            snprintf(where, sizeof where, "call %llu, seed %llu", (unsigned long long)nth, (unsigned long long)seed);
            qt_world_open(&w);
            cr_assert_eq(qn_memfs_put(w.mem, "packed.quern", r.packed, r.n_packed), 0);
            die(&w, job_unpack, nth, seed);
            cr_assert(qt_n_paths(&w, "restored") == qt_n_paths(&w, "restored.") || qt_same_tree(&w, "in", "restored"),
                      "%s: something partial has the final name", where);
            w.unpack.overwrite = true;
            cr_assert_eq(qt_unpack(&w, "packed.quern", "restored"), QN_OK, "%s: again: %s", where, qt_line(&w.err));
            cr_assert(qt_same_tree(&w, "in", "restored"), "%s: again: other bytes", where);
            cr_assert_eq(qt_n_paths(&w, "restored."), 0, "%s: a temporary stays behind", where);
            qt_world_close(&w);
        }
    fprintf(stderr, "# cuts while unpacking: %lu, all handled\n", n);
    free(r.packed);
}

/* ---- stopping on request ---- */

static void set_flag(void *ctx)
{
    atomic_store((atomic_int *)ctx, 1);
}

Test(cut, cancel_at_every_call)
{
    const struct result r = undisturbed();
    unsigned long n = 0, n_resumed = 0;
    for (uint64_t nth = 1; nth <= r.n_pack_calls; nth++) {
        atomic_int flag = 0;
        qt_world w;
        qt_world_open(&w);
        w.pack.checkpoint_bytes = 0; /* only the stop itself keeps the work */
        w.env.cancel = &flag;
        w.fault.hook = set_flag;
        w.fault.hook_ctx = &flag;
        qt_arm(&w, QN_OPS_ALL, nth, QN_FAULT_HOOK, 0, false);
        const qn_code rc = job_pack(&w);
        cr_assert(rc == QN_E_CANCELLED || rc == QN_OK, "call %llu: %s", (unsigned long long)nth, qt_line(&w.err));
        qt_disarm(&w);
        w.env.cancel = NULL;
        if (rc == QN_E_CANCELLED) {
            check_pack(&w, &r, false, "cancel");
            finish_pack(&w, &r, "cancel");
            n_resumed += w.report.n_resumed > 0;
            n++;
        }
        qt_world_close(&w);
    }
    cr_assert_gt(n, 10);
    cr_assert_gt(n_resumed, n / 3);
    fprintf(stderr, "# stopped on request: %lu times, %lu went on where they were stopped\n", n, n_resumed);
    free(r.packed);
}

/* ---- what another run has left ---- */

/* A world with an unfinished run that has some checkpoints. */
static void unfinished(qt_world *w, const struct result *r)
{
    qt_world_open(w);
    die(w, job_pack, r->n_pack_calls * 6 / 10, 0);
    cr_assert_eq(qt_n_paths(w, "out.quern."), 2);
}

static void refused(qt_world *w, const char *word)
{
    size_t n;
    uint8_t *before = qt_copy_file(w, "out.quern.partial", &n);
    cr_assert_eq(qt_pack(w, "in", "out.quern"), QN_E_USAGE, "%s", word);
    cr_assert_not_null(strstr(qt_line(&w->err), word), "'%s' expected in: %s", word, qt_line(&w->err));
    cr_assert_not_null(before);
    size_t n_after = 0;
    const uint8_t *after = qn_memfs_get(w->mem, "out.quern.partial", &n_after);
    /* what no checkpoint covers may have been cut off */
    cr_assert(after && n_after > 0 && n_after <= n && memcmp(before, after, n_after) == 0, "%s: work is lost", word);
    free(before);
}

Test(cut, other_runs_work_is_refused)
{
    const struct result r = undisturbed();
    qt_world w;
    size_t n;

    unfinished(&w, &r);
    w.pack.level = QN_LEVEL_MAX;
    refused(&w, "the level");
    w.pack.level = QN_LEVEL_FAST;
    finish_pack(&w, &r, "after a refusal");
    cr_assert_gt(w.report.n_resumed, 0);
    qt_world_close(&w);

    unfinished(&w, &r);
    cr_assert_eq(qn_memfs_put(w.mem, "in/config.json", "{}", 2), 0);
    refused(&w, "the input");
    w.pack.restart = true;
    cr_assert_eq(qt_pack(&w, "in", "out.quern"), QN_OK, "%s", qt_line(&w.err));
    cr_assert_eq(qt_verify(&w, "out.quern"), QN_OK);
    qt_world_close(&w);

    unfinished(&w, &r);
    uint8_t *config = qt_copy_file(&w, "in/config.json", &n);
    config[3] ^= 1; /* same lengths: only the digest of the chunk can tell */
    cr_assert_eq(qn_memfs_put(w.mem, "in/config.json", config, n), 0);
    free(config);
    refused(&w, "changed since");
    qt_world_close(&w);

    unfinished(&w, &r);
    uint8_t *journal = qt_copy_file(&w, "out.quern.journal", &n);
    journal[16] ^= 1;
    qn_store64(journal + 88, qn_hash64(journal, 88));
    cr_assert_eq(qn_memfs_put(w.mem, "out.quern.journal", journal, n), 0);
    refused(&w, "version");
    journal[0] ^= 1; /* now it is no journal at all */
    cr_assert_eq(qn_memfs_put(w.mem, "out.quern.journal", journal, n), 0);
    refused(&w, "not ours");
    free(journal);
    qt_world_close(&w);
    free(r.packed);
}

Test(cut, foreign_files_are_left_alone)
{
    qt_world w;
    qt_world_open(&w);
    cr_assert_eq(qn_memfs_put(w.mem, "out.quern.partial", "mine", 4), 0);
    for (int i = 0; i < 2; i++) { /* the refusal leaves nothing that makes the second one succeed */
        refused(&w, "not ours");
        cr_assert_eq(qt_n_paths(&w, "out.quern."), 1);
    }
    w.pack.restart = true;
    cr_assert_eq(qt_pack(&w, "in", "out.quern"), QN_OK, "%s", qt_line(&w.err));

    cr_assert_eq(qn_memfs_put(w.mem, "restored.quern-unpack/thesis.txt", "mine", 4), 0);
    cr_assert_eq(qt_unpack(&w, "out.quern", "restored"), QN_E_USAGE);
    cr_assert(qt_file_is(&w, "restored.quern-unpack/thesis.txt", (const uint8_t *)"mine", 4));
    cr_assert_eq(qt_n_paths(&w, "restored.quern-unpack/"), 1);
    qt_world_close(&w);
}

/* A journal that outlived its run stands for no work and must not get in the way. */
Test(cut, journal_without_partial_is_harmless)
{
    const struct result r = undisturbed();
    qt_world w;
    unfinished(&w, &r);
    const qn_fs *fs = qn_memfs_fs(w.mem);
    cr_assert_eq(fs->unlink(fs->ctx, "out.quern.partial"), 0);
    w.pack.level = QN_LEVEL_DENSE;
    cr_assert_eq(qt_pack(&w, "in", "out.quern"), QN_OK, "%s", qt_line(&w.err));
    cr_assert_eq(w.report.n_resumed, 0);
    qt_world_close(&w);
    free(r.packed);
}

/* The leftovers of a run are replaced (--restart), or removed after a stop with nothing done, and the power fails
 * meanwhile: what stays must never look like somebody else's. */
Test(cut, leftovers_while_they_go)
{
    const struct result r = undisturbed();
    unsigned long n = 0;
    for (int restart = 0; restart < 2; restart++)
        for (uint64_t nth = 1; nth <= (restart ? r.n_pack_calls : 70); nth++)
            for (uint64_t seed = 0; seed < n_seeds(); seed++, n++) {
                atomic_int stop = !restart;
                qt_world w;
                if (restart)
                    unfinished(&w, &r);
                else
                    qt_world_open(&w);
                w.env.cancel = &stop;
                w.pack.restart = restart;
                w.pack.level = restart ? QN_LEVEL_DENSE : QN_LEVEL_FAST;
                die(&w, job_pack, nth, seed);
                w.env.cancel = NULL;
                w.pack.restart = false;
                w.pack.overwrite = true;
                qn_code rc = qt_pack(&w, "in", "out.quern");
                if (rc == QN_E_USAGE) {
                    cr_assert(restart && strstr(w.err.text, "the level"), "call %llu, seed %llu: %s", (unsigned long long)nth,
                              (unsigned long long)seed, qt_line(&w.err));
                    w.pack.level = QN_LEVEL_FAST;
                    rc = qt_pack(&w, "in", "out.quern");
                    cr_assert(qt_file_is(&w, "out.quern", r.packed, r.n_packed));
                }
                cr_assert_eq(rc, QN_OK, "call %llu, seed %llu: %s", (unsigned long long)nth, (unsigned long long)seed,
                             qt_line(&w.err));
                cr_assert_eq(qt_verify(&w, "out.quern"), QN_OK);
                cr_assert_eq(qt_n_paths(&w, "out.quern."), 0);
                qt_world_close(&w);
            }
    fprintf(stderr, "# cuts while leftovers go: %lu, all handled\n", n);
    free(r.packed);
}

/* Every byte of the journal and of the partial changed: the work is lost or refused, the result never wrong. */
Test(cut, damaged_leftovers)
{
    const struct result r = undisturbed();
    static const char *const names[] = {"out.quern.journal", "out.quern.partial"};
    unsigned long n_damaged = 0, n_again = 0;
    for (size_t k = 0; k < 2; k++) {
        size_t n = 1;
        for (size_t at = 0; at < n; at++, n_damaged++) {
            qt_world w;
            unfinished(&w, &r);
            uint8_t *bytes = qt_copy_file(&w, names[k], &n);
            bytes[at] ^= 0x40;
            cr_assert_eq(qn_memfs_put(w.mem, names[k], bytes, n), 0);
            free(bytes);
            qn_code rc = qt_pack(&w, "in", "out.quern");
            if (rc == QN_E_VERIFY) {
                rc = qt_pack(&w, "in", "out.quern");
                n_again++;
            } else if (rc == QN_E_USAGE) {
                w.pack.restart = true;
                rc = qt_pack(&w, "in", "out.quern");
                n_again++;
            }
            cr_assert_eq(rc, QN_OK, "%s at %zu: %s", names[k], at, qt_line(&w.err));
            cr_assert(qt_file_is(&w, "out.quern", r.packed, r.n_packed));
            qt_world_close(&w);
        }
    }
    fprintf(stderr, "# bytes of journal and partial damaged: %lu, all handled (%lu by a second run)\n", n_damaged, n_again);
    free(r.packed);
}
