/* dump_tensors.c: a checkpoint's tensors for other programs to compare: for each a line "name<TAB>dtype<TAB>d0,d1,…<TAB>bytes", then the
 * bytes.
 *
 * usage: dump-tensors CHECKPOINT > FILE */
#include "base/err.h"
#include "formats/source.h"
#include <stdio.h>
#include <stdlib.h>

static int fail(const qn_err *err)
{
    char line[1024];
    qn_err_line(err, line, sizeof line);
    fprintf(stderr, "%s\n", line);
    return 1;
}

int main(int argc, char **argv)
{
    qn_env env;
    qn_err err = {.off = QN_NO_OFFSET};
    qn_source *s;
    if (argc != 2)
        return 2;
    if (qn_env_init(&env, &err) != QN_OK || qn_source_open(&env, argv[1], &s, &err) != QN_OK)
        return fail(&err);
    for (uint64_t i = 0; i < s->n_tensors; i++) {
        const qn_source_tensor *t = &s->tensors[i];
        uint8_t *p = malloc(t->n_bytes + 1);
        printf("%s\t%s\t", t->name, qn_dtype_name((qn_dtype)t->dtype));
        for (unsigned k = 0; k < t->rank; k++)
            printf("%s%llu", k ? "," : "", (unsigned long long)t->dims[k]);
        printf("\t%llu\n", (unsigned long long)t->n_bytes);
        if (!p || qn_source_tensor_read(s, i, 0, t->n_bytes, p, &err) != QN_OK)
            return fail(&err);
        fwrite(p, 1, t->n_bytes, stdout);
        free(p);
    }
    qn_source_close(s);
    return fflush(stdout) == 0 ? 0 : 1;
}
