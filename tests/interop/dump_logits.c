/* dump_logits.c: logits of a language model for other programs to compare: f32 (T, vocabulary) of all sequences, raw, on standard
 * output.
 *
 * usage: dump-logits CHECKPOINT SEQUENCE…      SEQUENCE: ids with commas between, "1,5,3" */
#include "analysis/exec/exec.h"
#include "base/err.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const qn_err *err)
{
    char line[1024];
    qn_err_line(err, line, sizeof line);
    fprintf(stderr, "%s\n", line);
    return (int)err->code;
}

int main(int argc, char **argv)
{
    enum { TOKENS_MAX = 1 << 16, SEQUENCES_MAX = 256 };
    static int64_t tokens[TOKENS_MAX], starts[SEQUENCES_MAX + 1];
    int64_t n = 0;
    if (argc < 3 || argc - 2 > SEQUENCES_MAX)
        return 2;
    for (int i = 2; i < argc; i++) {
        for (char *p = argv[i]; *p && n < TOKENS_MAX; p += *p == ',')
            tokens[n++] = strtoll(p, &p, 10);
        starts[i - 1] = n;
    }
    qn_env env;
    qn_err err = {.off = QN_NO_OFFSET};
    qn_source *s = NULL;
    qn_graph *g = NULL;
    qn_exec *x = NULL;
    qn_array feeds[2], out = {0};
    const int64_t n_starts = argc - 1;
    int rc = 0;
    if (qn_env_init(&env, &err) != QN_OK || qn_source_open(&env, argv[1], &s, &err) != QN_OK ||
        qn_graph_open(&env, s, &g, &err) != QN_OK || qn_exec_open(&env, g, &(qn_exec_options){0}, &x, &err) != QN_OK ||
        qn_array_wrap(&feeds[0], QN_I64, &n, 1, tokens, &err) != QN_OK ||
        qn_array_wrap(&feeds[1], QN_I64, &n_starts, 1, starts, &err) != QN_OK || qn_exec_run(x, feeds, &out, &err) != QN_OK)
        rc = fail(&err);
    else if (fwrite(out.data, sizeof(float), out.n, stdout) != out.n)
        rc = 1;
    qn_array_release(&out);
    qn_exec_close(x);
    qn_graph_close(g);
    if (s)
        qn_source_close(s);
    return rc;
}
