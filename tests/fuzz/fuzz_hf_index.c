/* fuzz_hf_index.c: an index.json over two fixed shards, given as a folder and by itself. */
#include "formats/source.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/hostile.h"
#include <string.h>

static void open_one(qt_files *t, const char *path, size_t n)
{
    qt_counter c;
    qn_err err;
    qn_source *s;
    qt_counter_init(&c);
    const qn_env env = qt_env(t, &c);
    qn_err_clear(&err);
    const qn_code rc = qn_source_open(&env, path, &s, &err);
    QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_IO || rc == QN_E_UNSUPPORTED);
    QF_CHECK(rc == QN_OK || (err.code == rc && err.text[0] && err.path[0]));
    QF_CHECK(c.peak <= 2 * n + (1 << 20));
    if (rc == QN_OK)
        qn_source_close(s);
    QF_CHECK(c.n_live == 0 && t->n_open == 0);
}

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
    open_one(&t, "m", n);
    open_one(&t, "m/model.safetensors.index.json", n);
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
