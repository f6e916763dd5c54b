/* test_public.c: the public calls as a stranger uses them: pack, verify, list, find, files, properties, unpack. */
#define _GNU_SOURCE
#include "quern/quern.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t slurp(const char *path, char *p, size_t cap)
{
    FILE *f = fopen(path, "rb");
    cr_assert(f, "%s", path);
    const size_t n = fread(p, 1, cap, f);
    fclose(f);
    return n;
}

Test(public, there_and_back)
{
    static const char file[] = "\x39\0\0\0\0\0\0\0{\"w\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}"
                               "\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40";
    static char back[4096];
    char dir[] = "/tmp/quern-public-XXXXXX", in[64], packed[64], out[64];
    qn_pack_settings set = QN_PACK_SETTINGS_INIT;
    qn_pack_totals totals;
    qn_packed_file listed;
    qn_reader *r;
    qn_tensor t;
    qn_err err = {0};
    float w[2];
    cr_assert(mkdtemp(dir));
    snprintf(in, sizeof in, "%s/w.safetensors", dir);
    snprintf(packed, sizeof packed, "%s/w.quern", dir);
    snprintf(out, sizeof out, "%s/back.safetensors", dir);
    FILE *f = fopen(in, "wb");
    cr_assert(f && fwrite(file, 1, sizeof file - 1, f) == sizeof file - 1 && fclose(f) == 0);
    cr_assert_eq(qn_pack_file(in, packed, &set, &totals, &err), QN_OK, "%s", err.text);
    cr_assert(totals.source_bytes == sizeof file - 1 && totals.n_tensors == 1);
    cr_assert_eq(qn_verify_file(packed, NULL, &err), QN_OK, "%s", err.text);
    cr_assert_eq(qn_reader_open(packed, NULL, &r, &err), QN_OK, "%s", err.text);
    cr_assert(qn_reader_n_tensors(r) == 1 && qn_reader_find(r, "w") == 0 && qn_reader_find(r, "v") == UINT64_MAX);
    cr_assert(qn_reader_tensor(r, 0, &t, &err) == QN_OK && t.n_rows == 2 && strcmp(t.name, "w") == 0);
    cr_assert(qn_reader_rows(r, 0, 1, 1, QN_F32, w, sizeof w, &err) == QN_OK && w[0] == 3 && w[1] == 4);
    cr_assert_eq(qn_reader_n_files(r), 1);
    cr_assert(qn_reader_file(r, 0, &listed, &err) == QN_OK && listed.n_bytes == sizeof file - 1);
    cr_assert_str_eq(listed.path, "w.safetensors");
    cr_assert_eq(qn_reader_file(r, 1, &listed, &err), QN_E_USAGE);
    cr_assert_str_eq(qn_reader_property(r, "recipe"), "lossless=dense");
    cr_assert_null(qn_reader_property(r, "no such key"));
    qn_reader_close(r);
    err = (qn_err){0};
    cr_assert_eq(qn_unpack_file(packed, out, NULL, &err), QN_OK, "%s", err.text);
    cr_assert_eq(slurp(out, back, sizeof back), sizeof file - 1);
    cr_assert_eq(memcmp(back, file, sizeof file - 1), 0);
    cr_assert_eq(qn_verify_file(in, NULL, &err), QN_E_USAGE, "a checkpoint is no packed file");
    err = (qn_err){0};
    set.struct_bytes = 1;
    cr_assert_eq(qn_pack_file(in, packed, &set, NULL, &err), QN_E_USAGE);
    unlink(in);
    unlink(packed);
    unlink(out);
    rmdir(dir);
}

/* A recipe in the settings: a small model in half the bytes of 8 bits a weight, to a size, and what is wrong with others. */
Test(public, recipe)
{
    char dir[] = "/tmp/quern-public-XXXXXX", packed[64];
    qn_pack_settings set = QN_PACK_SETTINGS_INIT;
    qn_pack_totals totals;
    qn_reader *r;
    qn_err err = {0};
    cr_assert(mkdtemp(dir));
    snprintf(packed, sizeof packed, "%s/m.quern", dir);
    set.recipe = "{codec: ect, states: 8, size: 120000}";
    cr_assert_eq(qn_pack_file(QT_SOURCE_ROOT "/testdata/stories260k-bf16", packed, &set, &totals, &err), QN_OK, "%s", err.text);
    cr_assert(totals.packed_bytes <= 120000 && totals.packed_bytes > 119000);
    cr_assert_eq(qn_verify_file(packed, NULL, &err), QN_OK, "%s", err.text);
    cr_assert_eq(qn_reader_open(packed, NULL, &r, &err), QN_OK, "%s", err.text);
    const char *recipe = qn_reader_property(r, "lossy");
    cr_assert(recipe && strncmp(recipe, "ect bits=", 9) == 0);
    qn_reader_close(r);
    static const struct {
        const char *recipe, *statistics, *base;
        qn_code code;
    } bad[] = {{"{codec: ect, bits: lots}", NULL, NULL, QN_E_USAGE}, {NULL, "m.qstats", NULL, QN_E_USAGE},
               {"{codec: ect}", NULL, QT_SOURCE_ROOT "/testdata/stories260k-bf16", QN_E_USAGE}, {"{codec: ect}", "/nowhere/m.qstats", NULL, QN_E_IO}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        err = (qn_err){0};
        set.recipe = bad[i].recipe;
        set.statistics = bad[i].statistics;
        set.base = bad[i].base;
        set.overwrite = true;
        cr_expect_eq(qn_pack_file(QT_SOURCE_ROOT "/testdata/stories260k-bf16", packed, &set, NULL, &err), bad[i].code, "%zu: %s", i, err.text);
    }
    unlink(packed);
    rmdir(dir);
}
