/* write_samples.c: writes a safetensors file and a sharded set for the independent reader in safetensors_reader.py.
 *   PROGRAM FOLDER */
#include "base/err.h"
#include "formats/safetensors/write.h"
#include "tests/support/hostile.h"
#include <stdlib.h>
#include <string.h>

enum { N = 60 };

static uint8_t at(const char *name, uint64_t j)
{
    return (uint8_t)(strlen(name) * 7 + j * 31 + (j >> 8));
}

int main(int argc, char **argv)
{
    qt_buf header = {0}, file = {0};
    uint64_t off = 0;
    char names[N][64];
    if (argc != 2)
        return 2;
    qt_addf(&header, "{\"__metadata__\":{\"who\":\"a \\\"quoted\\\" \\u00e4\"}");
    uint64_t begin[N + 1];
    for (unsigned i = 0; i < N; i++) {
        const qn_dtype t = (qn_dtype)(1 + i % (QN_DTYPE_PLAIN - 1));
        const uint64_t rows = i % 7 == 6 ? 0 : 1 + i, n = rows * 8 * qn_dtype_bits(t) / 8;
        snprintf(names[i], sizeof names[i], "layer.%u.%s%s", i, qn_dtype_name(t), i % 5 == 4 ? "\xc3\xa4\"\\" : "");
        qt_addf(&header, ",\"layer.%u.%s%s\":{\"dtype\":\"%s\",\"shape\":[%llu,8],\"data_offsets\":[%llu,%llu]}", i,
                qn_dtype_name(t), i % 5 == 4 ? "\xc3\xa4\\\"\\\\" : "", qn_dtype_name(t), (unsigned long long)rows,
                (unsigned long long)off, (unsigned long long)(off + n));
        begin[i] = off;
        off += n;
    }
    begin[N] = off;
    qt_addf(&header, "}");
    qt_add_safetensors(&file, (char *)header.p, off);
    for (unsigned i = 0; i < N; i++)
        for (uint64_t j = 0; j < begin[i + 1] - begin[i]; j++)
            file.p[8 + header.n + begin[i] + j] = at(names[i], j);

    char path[4096];
    qn_env env;
    qn_err err;
    qn_source *s;
    qn_err_clear(&err);
    qn_code rc = qn_env_init(&env, &err);
    snprintf(path, sizeof path, "%s/in.safetensors", argv[1]);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(file.p, 1, file.n, f) != file.n || fclose(f) != 0)
        return 1;
    if (rc == QN_OK)
        rc = qn_source_open(&env, path, &s, &err);
    if (rc == QN_OK) {
        qn_safetensors_options opt = {.shard_bytes = 2000};
        snprintf(path, sizeof path, "%s/kept.safetensors", argv[1]);
        rc = qn_safetensors_write_file(&env, s, path, &opt, &err);
        if (rc == QN_OK)
            rc = qn_safetensors_write_dir(&env, s, argv[1], &opt, NULL, &err);
        opt.metadata = "{\"format\":\"pt\"}";
        snprintf(path, sizeof path, "%s/given.safetensors", argv[1]);
        if (rc == QN_OK)
            rc = qn_safetensors_write_file(&env, s, path, &opt, &err);
        qn_source_close(s);
    }
    char line[1024];
    qn_err_line(&err, line, sizeof line);
    if (rc != QN_OK)
        fprintf(stderr, "%s\n", line);
    qt_buf_free(&header);
    qt_buf_free(&file);
    return (int)rc;
}
