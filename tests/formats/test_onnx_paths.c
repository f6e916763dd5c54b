/* test_onnx_paths.c: models whose weights are in other files: found, covered, restored; and every way to be led elsewhere. On a
 * real folder, because it is the kernel that must refuse. */
#define _GNU_SOURCE
#include "base/num.h"
#include "formats/onnx/onnx.h"
#include "tests/support/proto.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64];

static char *in(const char *name)
{
    static char path[4][512];
    static unsigned turn;
    char *p = path[turn++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

static void spill(const char *name, const void *p, size_t n)
{
    FILE *f = fopen(in(name), "wb");
    cr_assert(f && fwrite(p, 1, n, f) == n);
    fclose(f);
}

static void begin(void)
{
    snprintf(dir, sizeof dir, "/tmp/qt-onnx-XXXXXX");
    cr_assert(mkdtemp(dir));
    cr_assert_eq(mkdir(in("m"), 0777) | mkdir(in("m/sub"), 0777) | mkdir(in("out"), 0777), 0);
    spill("m/data", "0123456789abcdef", 16);
    spill("m/sub/data", "0123456789abcdef", 16);
    spill("out/data", "0123456789abcdef", 16);
}

static void end(void)
{
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    cr_assert_eq(system(cmd), 0);
}

/* A tensor of 8 bytes at a place of a file. */
static void add_tensor(qt_buf *graph, const char *name, const char *location, int offset)
{
    char text[400];
    snprintf(text, sizeof text, "@5{@8{'%s'} #1=2 #2=1 @13{@1{'location'} @2{'%s'}} @13{@1{'offset'} @2{'%d'}}"
             "@13{@1{'length'} @2{'8'}} #14=1}", name, location, offset);
    qt_add_proto(graph, text, NULL);
}

static qn_code open_graph(const qt_buf *graph, qn_source **s, qn_err *err)
{
    static qn_env env;
    qt_buf file = {0};
    uint8_t len[10];
    qt_add_proto(&file, "#1=8 @8{#2=13} 3a", NULL);
    qt_add(&file, len, qn_put_varint(len, graph->n));
    qt_add(&file, graph->p, graph->n);
    spill("m/model.onnx", file.p, file.n);
    qt_buf_free(&file);
    env = qt_env(NULL, NULL);
    qn_err_clear(err);
    return qn_source_open(&env, in("m/model.onnx"), s, err);
}

static qn_code open_one(const char *location, qn_err *err)
{
    qt_buf graph = {0};
    qn_source *s;
    add_tensor(&graph, "w", location, 8);
    const qn_code rc = open_graph(&graph, &s, err);
    if (rc == QN_OK)
        qn_source_close(s);
    qt_buf_free(&graph);
    return rc;
}

Test(onnx_paths, several_files, .init = begin, .fini = end)
{
    static const char *const files[] = {"data", "model.onnx", "sub/data"};
    qt_buf graph = {0};
    qn_source *s;
    qn_err err;
    char got[8];
    add_tensor(&graph, "b", "sub/data", 4);
    add_tensor(&graph, "a2", "data", 8);
    add_tensor(&graph, "a1", "data", 0);
    add_tensor(&graph, "same", "data", 8);
    cr_assert_eq(open_graph(&graph, &s, &err), QN_OK, "%s: %s", err.path, err.text);
    cr_expect(s->is_dir && !s->whole_dir && strcmp(s->path, in("m")) == 0);
    cr_assert_eq(s->n_files, 3u);
    for (unsigned i = 0; i < 3; i++)
        cr_expect_str_eq(s->files[i].path, files[i]);
    cr_expect_eq(s->n_tensors, 4u);
    cr_expect_eq(s->n_tensor_objects, 3u, "one object stands for identical places");
    cr_assert_eq(qn_source_tensor_read(s, qn_source_tensor_find(s, "same"), 0, 8, got, &err), QN_OK);
    cr_expect(memcmp(got, "89abcdef", 8) == 0);
    cr_assert_eq(qn_source_tensor_read(s, qn_source_tensor_find(s, "b"), 0, 8, got, &err), QN_OK);
    cr_expect(memcmp(got, "456789ab", 8) == 0);
    qn_source_close(s);

    add_tensor(&graph, "over", "data", 4);
    qn_code rc = open_graph(&graph, &s, &err);
    cr_expect(qt_err_is("overlap", &err, rc, QN_E_INPUT, 4, "over", "overlap those of another tensor"));
    cr_expect_str_eq(err.path, in("m/data"));
    graph.n = 0;
    add_tensor(&graph, "w", "data", 9);
    rc = open_graph(&graph, &s, &err);
    cr_expect(qt_err_is("past the end", &err, rc, QN_E_INPUT, 9, "w", "not inside the 16 bytes of the file"));
    graph.n = 0;
    qt_add_proto(&graph, "@5{@8{'w'} #1=2 #2=1 @13{@1{'location'} @2{'data'}} #14=1}", NULL);
    rc = open_graph(&graph, &s, &err);
    cr_expect(qt_err_is("to the end", &err, rc, QN_E_INPUT, 0, "w", "has the 16 bytes to the end of the file"));
    graph.n = 0;
    qt_add_proto(&graph, "@5{@8{'w'} #1=2 #2=1 @13{@1{'location'} @2{'data'}} @13{@1{'offset'} @2{'9223372036854775807'}} #14=1}",
                 NULL);
    rc = open_graph(&graph, &s, &err);
    cr_expect(qt_err_is("offset 2^63-1", &err, rc, QN_E_INPUT, INT64_MAX, "w", "not inside"));
    qt_buf_free(&graph);
}

/* More files than are kept open: the others are opened for each read, by the same rules. */
Test(onnx_paths, hundreds_of_files, .init = begin, .fini = end)
{
    enum { N = 300 };
    qt_buf graph = {0};
    qn_source *s;
    qn_err err;
    char name[32], data[17], got[8];
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "m/d%03d", i);
        snprintf(data, sizeof data, "%016d", i);
        spill(name, data, 16);
        add_tensor(&graph, name, name + 2, 8);
    }
    cr_assert_eq(open_graph(&graph, &s, &err), QN_OK, "%s: %s", err.path, err.text);
    cr_assert_eq(s->n_files, N + 1u);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "m/d%03d", i);
        snprintf(data, sizeof data, "%08d", i);
        cr_assert_eq(qn_source_tensor_read(s, qn_source_tensor_find(s, name), 0, 8, got, &err), QN_OK, "%s", err.text);
        cr_assert(memcmp(got, data, 8) == 0, "%s", name);
    }
    cr_assert_eq(unlink(in("m/d299")) | symlink("../out/data", in("m/d299")), 0);
    const qn_code rc = qn_source_tensor_read(s, qn_source_tensor_find(s, "m/d299"), 0, 8, got, &err);
    cr_expect(qt_err_is("a link since", &err, rc, QN_E_INPUT, QN_NO_OFFSET, "m/d299", "a symlink lies on the way"));
    qn_source_close(s);
    qt_buf_free(&graph);
}

static void gauntlet(void)
{
    static const struct {
        const char *location;
        qn_code code;
        const char *text;
    } rows[] = {
        {"sub/data", QN_OK, NULL},
        {"gone", QN_E_IO, "cannot be opened"},
        {"data/x", QN_E_IO, "cannot be opened"},
        {"sub", QN_E_INPUT, "is not a regular file"},
        {"pipe", QN_E_INPUT, "is not a regular file"},
        {"link", QN_E_INPUT, "a symlink lies on the way"},
        {"link_in", QN_E_INPUT, "a symlink lies on the way"},
        {"link_dir/data", QN_E_INPUT, "a symlink lies on the way"},
        {"link_up/out/data", QN_E_INPUT, "a symlink lies on the way"},
        {"link_proc", QN_E_INPUT, "a symlink lies on the way"},
        {"hard", QN_E_INPUT, "has a second name"},
        {"model_twin", QN_E_INPUT, "has a second name"},
        {"../out/data", QN_E_INPUT, "a relative path"},
        {"sub/../../out/data", QN_E_INPUT, "a relative path"},
        {"/dev/zero", QN_E_INPUT, "a relative path"},
        {"sub//data", QN_E_INPUT, "a relative path"},
        {"sub/./data", QN_E_INPUT, "a relative path"},
        {"model.onnx", QN_E_INPUT, "another file"},
    };
    qn_err err;
    cr_assert_eq(symlink("../out/data", in("m/link")) | symlink("data", in("m/link_in")) | symlink("../out", in("m/link_dir")) |
                 symlink("..", in("m/link_up")) | symlink("/proc/self/exe", in("m/link_proc")) | mkfifo(in("m/pipe"), 0666) |
                 link(in("out/data"), in("m/hard")), 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].location, "model_twin") == 0) {
            cr_assert_eq(link(in("m/model.onnx"), in("m/model_twin")), 0);
        }
        const qn_code rc = open_one(rows[i].location, &err);
        cr_expect_eq(rc, rows[i].code, "%s: %d: %s: %s", rows[i].location, rc, err.path, err.text);
        cr_expect(!rows[i].text || strstr(err.text, rows[i].text), "%s: %s", rows[i].location, err.text);
        cr_expect(rc == QN_OK || (err.path[0] && strcmp(err.tensor, "w") == 0), "%s", rows[i].location);
    }
    fprintf(stderr, "# %zu places to be led to\n", sizeof rows / sizeof rows[0]);
}

Test(onnx_paths, gauntlet, .init = begin, .fini = end, .timeout = 60)
{
    gauntlet();
}

/* The same on a kernel that has no openat2. */
Test(onnx_paths, gauntlet_step_by_step, .init = begin, .fini = end, .timeout = 60)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog prog = {.len = 4, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) != 0) {
        fprintf(stderr, "# skipped: no seccomp here\n");
        return;
    }
    gauntlet();
}

/* A folder that turns into a link and back while models are opened: whatever happens, nothing outside is read. */
Test(onnx_paths, race, .init = begin, .fini = end, .timeout = 60)
{
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    spill("out/data", "outside outside!", 16);
    if (child == 0) {
        char real[512], away[512], fake[512];
        snprintf(real, sizeof real, "%s/m/sub", dir);
        snprintf(away, sizeof away, "%s/m/away", dir);
        snprintf(fake, sizeof fake, "%s/m/fake", dir);
        if (symlink("../out", fake))
            _exit(1);
        for (;;) {
            (void)rename(real, away);
            (void)rename(fake, real);
            (void)rename(real, fake);
            (void)rename(away, real);
        }
    }
    qt_buf graph = {0};
    unsigned n_opened = 0;
    add_tensor(&graph, "w", "sub/data", 8);
    for (int i = 0; i < 2000; i++) {
        qn_source *s;
        qn_err err;
        char got[8];
        if (open_graph(&graph, &s, &err) != QN_OK)
            continue;
        n_opened++;
        cr_assert_eq(qn_source_tensor_read(s, 0, 0, 8, got, &err), QN_OK);
        cr_assert(memcmp(got, "89abcdef", 8) == 0, "read outside");
        qn_source_close(s);
    }
    qt_buf_free(&graph);
    kill(child, SIGKILL);
    cr_expect_eq(waitpid(child, NULL, 0), child);
    fprintf(stderr, "# opened %u of 2000 times\n", n_opened);
}
