/* fuzz_hf_index.c: an index.json over two fixed shards, given as a folder and by itself. */
#include "tests/fuzz/opened.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static qt_buf a, b;
    if (!a.n) {
        qt_add_safetensors(&a, "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"c\":{\"dtype\":\"U8\","
                               "\"shape\":[0],\"data_offsets\":[8,8]}}", 8);
        qt_add_safetensors(&b, "{\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8);
    }
    qt_files t;
    qt_files_init(&t);
    qt_files_add(&t, "m/1.safetensors", a.p, a.n);
    qt_files_add(&t, "m/2.safetensors", b.p, b.n);
    qt_files_add(&t, "m/model.safetensors.index.json", p, n);
    qf_open_source(&t, "m", 2 * n + (1 << 20), NULL);
    qf_open_source(&t, "m/model.safetensors.index.json", 2 * n + (1 << 20), NULL);
    return 0;
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const char *const seeds[] = {
        "{\"metadata\":{\"total_size\":16},\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\",\"c\":\"1.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"1.safetensors\",\"c\":\"1.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"../1.safetensors\"}}",
        "{\"weight_map\":{}}",
    };
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++)
        emit(ctx, (const uint8_t *)seeds[i], strlen(seeds[i]));
}
