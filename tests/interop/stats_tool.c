/* stats_tool.c: statistics for tests/interop/stats_numpy.py.
 *
 *     stats_tool add OUT THREADS BATCH N      rows of N f32 on stdin → OUT, entry "w", also known as "v"
 *     stats_tool diag OUT THREADS BATCH N     the same, without H
 *     stats_tool dump FILE NAME               count u64; H f64 (n, n), when it is there; Σx², Σx, Σ|x| f64; min, max f32
 */
#include "analysis/stats/file.h"
#include "analysis/stats/stats.h"
#include "base/err.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static qn_env env;
static qn_err err;
static float *x;  /* a batch; the process's, whatever fails */
static double *h;

static int fail(void)
{
    char line[1024];
    qn_err_line(&err, line, sizeof line);
    fprintf(stderr, "%s\n", line);
    return (int)err.code;
}

static qn_code add(char **argv, qn_stats *s, qn_stats_writer **w)
{
    const size_t batch = strtoull(argv[4], NULL, 10), n = strtoull(argv[5], NULL, 10);
    const qn_stats_source data = {.digest = qn_hash128(argv[2], strlen(argv[2])), .tokens = 1, .label = "rows"};
    const qn_stats_meta meta = {.tokens = 1, .sequences = 1, .context = 1, .n_sources = 1, .sources = &data};
    qn_stats_entry *e;
    x = malloc(batch * n * sizeof *x);
    if (!x)
        abort();
    QN_TRY(qn_stats_writer_open(w, &env, argv[2], &meta, &(qn_stats_write_options){.overwrite = true}, &err));
    QN_TRY(qn_stats_open(s, "w", QN_STATS_NO_EXPERT, (uint32_t)n, argv[1][0] == 'a' ? QN_STATS_H : QN_STATS_DIAG, &e, &err));
    QN_TRY(qn_stats_alias(s, e, "v", &err));
    for (size_t rows; (rows = fread(x, n * sizeof *x, batch, stdin)) > 0;)
        QN_TRY(qn_stats_add(s, e, x, rows, n, &err));
    QN_TRY(qn_stats_flush(s, *w, &err));
    return qn_stats_writer_finish(*w, NULL, &err);
}

static qn_code dump(const char *name, const qn_stats_file *f)
{
    const qn_stats_item *it = qn_stats_find(f, name, QN_STATS_NO_EXPERT);
    if (!it)
        return QN_FAIL(&err, QN_E_USAGE, QN_NO_OFFSET, "no such entry");
    const qn_stats_input *in = &f->inputs[it->input];
    const size_t n = in->n;
    qn_stats_vectors v;
    fwrite(&in->count, 8, 1, stdout);
    if (in->parts & QN_STATS_HAS_H) {
        h = malloc(n * n * sizeof *h);
        if (!h)
            abort();
        QN_TRY(qn_stats_h_read_f64(f, it->input, h, n, &err));
        fwrite(h, sizeof *h, n * n, stdout);
    }
    QN_TRY(qn_stats_vectors_read(f, it->input, &v, &err));
    fwrite(v.sum_sq, 8, n, stdout);
    fwrite(v.sum, 8, n, stdout);
    fwrite(v.sum_abs, 8, n, stdout);
    fwrite(v.min, 4, n, stdout);
    fwrite(v.max, 4, n, stdout);
    qn_stats_vectors_release(f, &v);
    return QN_OK;
}

int main(int argc, char **argv)
{
    qn_err_clear(&err);
    if (argc < 4 || qn_env_init(&env, &err) != QN_OK)
        return 2;
    if (strcmp(argv[1], "dump") == 0) {
        qn_stats_file f;
        if (qn_stats_file_open(&f, &env, argv[2], &err) != QN_OK || dump(argv[3], &f) != QN_OK)
            return fail();
        qn_stats_file_close(&f);
        return 0;
    }
    if (argc < 6)
        return 2;
    env.n_threads = (unsigned)strtoul(argv[3], NULL, 10);
    qn_stats *s;
    qn_stats_writer *w = NULL;
    qn_code rc = qn_stats_new(&env, NULL, &s, &err);
    if (rc == QN_OK)
        rc = add(argv, s, &w);
    qn_stats_writer_close(w);
    qn_stats_free(s);
    return rc == QN_OK ? 0 : fail();
}
