/* test_process.c: real processes on the real file system, ended without warning at every call; then the same job again. */
#include "tests/fault/kit.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void end_now(void *ctx)
{
    (void)ctx;
    _exit(9); /* no handler runs, no buffer is flushed */
}

/* Runs the job in a child that ends at call nth; true when it got that far. */
static bool run_child(qt_world *w, bool pack, const char *in, const char *out, uint64_t nth)
{
    const pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        w->fault.hook = end_now;
        qt_arm(w, QN_OPS_ALL, nth, QN_FAULT_HOOK, 0, false);
        const qn_code rc = pack ? qt_pack(w, in, out) : qt_unpack(w, in, out);
        _exit(rc == QN_OK ? 0 : 1);
    }
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && (WEXITSTATUS(status) == 9 || WEXITSTATUS(status) == 0), "call %llu: %d",
              (unsigned long long)nth, status);
    return WEXITSTATUS(status) == 9;
}

static void check_file(const char *path, const uint8_t *want, size_t n)
{
    size_t have;
    uint8_t *p = qt_read_disk(path, &have);
    cr_assert(p && have == n && memcmp(p, want, n) == 0, "%s", path);
    free(p);
}

Test(process, ended_at_every_call)
{
    qt_world w;
    char in[128], out[128], temporary[160], back[128], command[1024];
    size_t n;
    unsigned long n_ends = 0, n_resumed = 0;
    qt_world_open(&w);
    const char *dir = qt_to_disk(&w);
    snprintf(in, sizeof in, "%s/in", dir);
    snprintf(out, sizeof out, "%s/out.quern", dir);
    snprintf(temporary, sizeof temporary, "%s.partial", out);
    snprintf(back, sizeof back, "%s/back", dir);
    cr_assert_eq(qt_pack(&w, in, out), QN_OK, "%s", qt_line(&w.err));
    uint8_t *want = qt_read_disk(out, &n);
    cr_assert_not_null(want);
    w.pack.overwrite = true;
    for (uint64_t nth = 1; run_child(&w, true, in, out, nth); nth++, n_ends++) {
        if (access(out, F_OK) == 0)
            check_file(out, want, n);
        cr_assert_eq(qt_pack(&w, in, out), QN_OK, "call %llu: %s", (unsigned long long)nth, qt_line(&w.err));
        n_resumed += w.report.n_resumed > 0;
        check_file(out, want, n);
        cr_assert_neq(access(temporary, F_OK), 0);
        cr_assert_eq(unlink(out), 0);
    }
    cr_assert_gt(n_resumed, n_ends / 4);
    fprintf(stderr, "# processes ended while packing: %lu, %lu went on from a checkpoint\n", n_ends, n_resumed);

    w.unpack.overwrite = true;
    n_ends = 0;
    for (uint64_t nth = 1; run_child(&w, false, out, back, nth); nth++, n_ends++) {
        cr_assert_eq(qt_unpack(&w, out, back), QN_OK, "call %llu: %s", (unsigned long long)nth, qt_line(&w.err));
        snprintf(command, sizeof command, "diff -r '%s' '%s' && rm -rf '%s' && test ! -e '%s.quern-unpack'", in, back, back,
                 back);
        cr_assert_eq(system(command), 0, "call %llu", (unsigned long long)nth);
    }
    fprintf(stderr, "# processes ended while unpacking: %lu\n", n_ends);
    free(want);
    qt_remove_disk(dir);
    qt_world_close(&w);
}
