/* test_against.c: a checkpoint against copies of itself with one thing changed each. */
#include "base/err.h"
#include "compress/against.h"
#include "compress/pack.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char plain[] = "{\"a\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[0,12]},"
                            "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]}}";

static char dir[64];
static qn_env env;

static char *path_of(const char *name)
{
    static char paths[4][128];
    static unsigned at;
    char *p = paths[at++ % 4];
    snprintf(p, 128, "%s/%s", dir, name);
    return p;
}

static void write_file(const char *name, const char *head, int change)
{
    uint8_t body[16];
    const uint64_t n = strlen(head);
    FILE *f = fopen(path_of(name), "wb");
    cr_assert_not_null(f);
    for (unsigned i = 0; i < 16; i++)
        body[i] = (uint8_t)(i + 1);
    if (change >= 0)
        body[change] ^= 0x80;
    for (unsigned i = 0; i < 8; i++)
        fputc((int)(n >> 8 * i & 0xff), f);
    fputs(head, f);
    fwrite(body, 1, 16, f);
    fclose(f);
}

static void set_up(void)
{
    strcpy(dir, "/tmp/against-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    cr_assert_eq(qn_env_init(&env, NULL), QN_OK);
    write_file("l", plain, -1);
}

static void tear_down(void)
{
    static const char *const names[] = {"l", "r", "l.quern"};
    for (size_t i = 0; i < 3; i++)
        unlink(path_of(names[i]));
    rmdir(dir);
}

TestSuite(against, .init = set_up, .fini = tear_down);

static qn_code compare(const char *left, const char *right, qn_against_report *r, qn_err *err)
{
    qn_source *a, *b;
    qn_err_clear(err);
    cr_assert_eq(qn_source_open(&env, path_of(left), &a, err), QN_OK, "%s", err->text);
    cr_assert_eq(qn_source_open(&env, path_of(right), &b, err), QN_OK, "%s", err->text);
    const qn_code rc = qn_against(&env, a, b, NULL, NULL, r, err);
    qn_source_close(a);
    qn_source_close(b);
    return rc;
}

Test(against, equal)
{
    qn_against_report r;
    qn_err err;
    write_file("r", plain, -1);
    cr_assert_eq(compare("l", "r", &r, &err), QN_OK);
    cr_assert(r.n_tensors == 2 && r.n_files == 1 && r.n_different == 0 && r.n_bytes == 8 + strlen(plain) + 16);
}

Test(against, every_bit_of_the_data_counts)
{
    for (int i = 0; i < 16; i++) {
        qn_against_report r;
        qn_err err;
        write_file("r", plain, i);
        cr_assert_eq(compare("l", "r", &r, &err), QN_E_DIFFERENT);
        cr_assert_eq(r.n_different, 1);
        cr_assert_str_eq(err.tensor, i < 12 ? "a" : "b");
        cr_assert_eq(err.off, (uint64_t)(i < 12 ? i : i - 12));
    }
}

Test(against, headers_names_and_shapes_count)
{
    static const struct {
        const char *head, *text;
        uint64_t n_different;
    } rows[] = {
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[3,2],\"data_offsets\":[0,12]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]}}", "is BF16 (2, 3), in ", 2},
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[0,12]},"
         "\"c\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]}}", "is not in ", 3},
        {"{\"a\":{\"dtype\":\"BF16\", \"shape\":[2,3],\"data_offsets\":[0,12]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]}}", "has ", 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        qn_against_report r;
        qn_err err;
        write_file("r", rows[i].head, -1);
        cr_assert_eq(compare("l", "r", &r, &err), QN_E_DIFFERENT);
        cr_assert_eq(strncmp(err.text, rows[i].text, strlen(rows[i].text)), 0, "%s", err.text);
        cr_assert_eq(r.n_different, rows[i].n_different, "%zu: %llu", i, (unsigned long long)r.n_different);
    }
}

Test(against, packed_is_equal_to_its_source)
{
    qn_against_report r;
    qn_err err;
    qn_source *s;
    qn_pack_report pr;
    const qn_pack_options opt = {.level = QN_LEVEL_DENSE};
    cr_assert_eq(qn_source_open(&env, path_of("l"), &s, NULL), QN_OK);
    cr_assert_eq(qn_pack(&env, s, path_of("l.quern"), &opt, &pr, NULL), QN_OK);
    qn_pack_report_release(&env, &pr);
    qn_source_close(s);
    cr_assert_eq(compare("l.quern", "l", &r, &err), QN_OK);
    cr_assert_eq(compare("l", "l.quern", &r, &err), QN_OK);
    cr_assert_eq(r.n_tensors, 2);
    write_file("r", plain, 13);
    cr_assert_eq(compare("l.quern", "r", &r, &err), QN_E_DIFFERENT);
    cr_assert_str_eq(err.tensor, "b");
}
