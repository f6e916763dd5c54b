/* The first tensor of a .quern file, decoded to f64 and added up: cc sum.c $(pkg-config --cflags --libs libquern-runtime) */
#include <quern/runtime.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    qn_err err = {0};
    qn_reader *r = NULL;
    qn_tensor t;
    if (argc != 2 || qn_reader_open(argv[1], NULL, &r, &err) || qn_reader_tensor(r, 0, &t, &err))
        return fprintf(stderr, "%s: %s\n", err.path, err.text), 1;
    double *v = malloc(t.n_elems * sizeof *v), sum = 0;
    if (!v || qn_reader_rows(r, 0, 0, t.n_rows, QN_F64, v, t.n_elems * sizeof *v, &err))
        return fprintf(stderr, "%s: %s\n", err.tensor, err.text), 1;
    for (uint64_t i = 0; i < t.n_elems; i++)
        sum += v[i];
    printf("%s: %s, %llu elements, sum %.9g\n", t.name, qn_dtype_name(t.dtype), (unsigned long long)t.n_elems, sum);
    free(v);
    qn_reader_close(r);
    return 0;
}
