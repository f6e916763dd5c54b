/* fuzz_tfjs.c: a model.json over two fixed shards, given as a folder and by itself. What opens must read. */
#include "formats/source.h"
#include "tests/fuzz/opened.h"
#include "tests/support/hostile.h"
#include <string.h>

static void read_all(qn_source *s)
{
    qn_err err = {0};
    uint8_t *p = malloc(1 << 16);
    for (uint64_t i = 0; i < s->n_tensors; i++) {
        const uint64_t n = s->tensors[i].n_bytes;
        QF_CHECK(n <= 1 << 10); /* 100 bytes of shards, at most four times as wide */
        QF_CHECK(qn_source_tensor_read(s, i, 0, n, p, &err) == QN_OK);
        if (n > 2)
            QF_CHECK(qn_source_tensor_read(s, i, 1, n - 2, p, &err) == QN_OK);
    }
    for (uint64_t i = 0; i < s->n_objects; i++)
        QF_CHECK(s->objects[i].n_bytes <= 1 << 16 && qn_source_read(s, i, 0, s->objects[i].n_bytes, p, &err) == QN_OK);
    free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static uint8_t shards[100];
    qt_files t;
    if (n > 1 << 15)
        return 0;
    for (size_t i = 0; i < sizeof shards; i++)
        shards[i] = (uint8_t)(i % 7 ? 0 : i);
    qt_files_init(&t);
    qt_files_add(&t, "m/1.bin", shards, 41);
    qt_files_add(&t, "m/2.bin", shards + 41, 59);
    qt_files_add(&t, "m/model.json", p, n);
    qf_open_source(&t, "m", 16 * n + (1 << 20), read_all);
    qf_open_source(&t, "m/model.json", 16 * n + (1 << 20), read_all);
    return 0;
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const char *const seeds[] = {
        "{\"weightsManifest\":[{\"paths\":[\"1.bin\",\"2.bin\"],\"weights\":[{\"name\":\"a\",\"shape\":[9],\"dtype\":\"float32\"},{\"name\":\"b\","
        "\"shape\":[3,2],\"dtype\":\"float32\",\"quantization\":{\"dtype\":\"uint16\",\"scale\":0.5,\"min\":-1e3}},{\"name\":\"s\",\"shape\":[2],\"dtype\":\"string\"},"
        "{\"name\":\"c\",\"shape\":[],\"dtype\":\"complex64\"}]}]}",
        "{\"modelTopology\":{\"x\":[1,{}]},\"weightsManifest\":[{\"paths\":[\"1.bin\"],\"weights\":[{\"name\":\"i\",\"shape\":[20],\"dtype\":\"int32\","
        "\"quantization\":{\"dtype\":\"uint8\",\"scale\":1e300,\"min\":0}},{\"name\":\"h\",\"shape\":[2],\"dtype\":\"float32\",\"quantization\":{\"dtype\":\"float16\"}}]},"
        "{\"paths\":[\"2.bin\"],\"weights\":[{\"name\":\"k\",\"shape\":[0,281474976710656],\"dtype\":\"bool\"}]}]}",
        "{\"weightsManifest\":[{\"paths\":[\"../1.bin\"],\"weights\":[]}]}",
    };
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++)
        emit(ctx, (const uint8_t *)seeds[i], strlen(seeds[i]));
}
