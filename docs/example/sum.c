/* Adds up the elements of every tensor of a .quern file: open, list, decode. */
#include <quern/runtime.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    qn_err err = {0};
    qn_reader *r = NULL;
    qn_tensor t;
    char line[600];
    qn_code rc = argc == 2 ? qn_reader_open(argv[1], NULL, &r, &err) : QN_E_USAGE;
    for (uint64_t i = 0; rc == QN_OK && i < qn_reader_n_tensors(r); i++) {
        rc = qn_reader_tensor(r, i, &t, &err);
        double *v = malloc((t.n_elems + 1) * sizeof *v), sum = 0;
        if (rc == QN_OK)
            rc = qn_reader_rows(r, i, 0, t.n_rows, QN_F64, v, t.n_elems * sizeof *v, &err);
        for (uint64_t k = 0; rc == QN_OK && k < t.n_elems; k++)
            sum += v[k];
        if (rc == QN_OK)
            printf("%s %s %.17g\n", t.name, qn_dtype_name(t.dtype), sum);
        free(v);
    }
    qn_err_format(&err, line, sizeof line);
    if (rc != QN_OK)
        fprintf(stderr, "%s\n", line);
    qn_reader_close(r);
    return (int)rc;
}
