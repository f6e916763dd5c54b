/* onnx_feeds.c: see onnx_feeds.h. */
#include "tests/interop/onnx_feeds.h"
#include "base/err.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *qt_read_whole(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0)
        return NULL;
    *n = (size_t)ftell(f);
    rewind(f);
    void *p = malloc(*n + 1);
    const size_t got = p ? fread(p, 1, *n, f) : 0;
    fclose(f);
    return got == *n ? p : NULL;
}

static qn_dtype dtype_of(const char *name)
{
    for (unsigned t = 0; t < QN_DTYPE_PLAIN; t++)
        if (qn_dtype_name((qn_dtype)t) && !strcmp(qn_dtype_name((qn_dtype)t), name))
            return (qn_dtype)t;
    return QN_BYTES;
}

qn_code qt_read_inputs(const qn_graph *g, const char *dir, qn_array *feeds, qn_err *err)
{
    char path[4096], line[2048];
    snprintf(path, sizeof path, "%s/inputs", dir);
    FILE *f = fopen(path, "r");
    for (unsigned k = 0; f && fgets(line, sizeof line, f); k++) {
        char *save = NULL;
        const char *name = strtok_r(line, "\t\n", &save), *type = strtok_r(NULL, "\t\n", &save), *rank = strtok_r(NULL, "\t\n", &save);
        int64_t dims[QN_ARRAY_RANK_MAX] = {0};
        const unsigned n_dims = rank ? (unsigned)atoi(rank) : 0;
        for (unsigned i = 0; i < n_dims && i < QN_ARRAY_RANK_MAX; i++) {
            const char *d = strtok_r(NULL, "\t\n", &save);
            dims[i] = d ? atoll(d) : 0;
        }
        size_t n;
        snprintf(path, sizeof path, "%s/in%u", dir, k);
        void *data = qt_read_whole(path, &n);
        for (uint32_t i = 0; name && type && data && i < g->n_inputs; i++)
            if (!strcmp(g->values[g->inputs[i]].name, name) && i < QT_TENSORS_MAX) {
                const qn_code rc = qn_array_wrap(&feeds[i], dtype_of(type), dims, n_dims, data, err);
                if (rc != QN_OK)
                    return rc;
            }
    }
    if (f)
        fclose(f);
    for (uint32_t i = 0; i < g->n_inputs; i++)
        if (i >= QT_TENSORS_MAX || feeds[i].dtype == QN_BYTES) {
            snprintf(err->text, sizeof err->text, "no data for input '%s'", g->values[g->inputs[i]].name);
            return QN_E_USAGE;
        }
    return QN_OK;
}
