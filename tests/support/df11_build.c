/* df11_build.c: see df11_build.h. */
#define _GNU_SOURCE
#include "tests/support/df11_build.h"
#include <stdlib.h>
#include <string.h>

static const struct {
    unsigned exponent;
    const char *code;
} table[] = {{127, "0"}, {126, "10"}, {125, "110"}, {100, "1110000001"}, {99, "111000001111111101"}};
enum { CODES = sizeof table / sizeof table[0] };
static const char end_code[] = "1111111111";

uint16_t qt_df11_weight(uint64_t random)
{
    static const unsigned often[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 4};
    return (uint16_t)((random >> 8 & 0x807f) | table[often[random & 15]].exponent << 7);
}

static bool begins(const char *code, const char *with)
{
    return strncmp(code, with, strlen(with)) == 0;
}

/* The row that a byte-wise prefix has, made when new. */
static unsigned row_of(char rows[][40], unsigned *n, const char *prefix)
{
    for (unsigned i = 0; i < *n; i++)
        if (!strcmp(rows[i], prefix))
            return i;
    strcpy(rows[*n], prefix);
    return (*n)++;
}

static void make_luts(qt_df11 *d)
{
    char rows[18][40] = {""};
    unsigned n = 1;
    uint8_t lengths[256] = {0};
    for (unsigned r = 0; r < n; r++) {
        uint8_t row[256];
        for (unsigned byte = 0; byte < 256; byte++) {
            char bits[48];
            unsigned value = 127;
            strcpy(bits, rows[r]);
            for (unsigned k = 0; k < 8; k++)
                strcat(bits, byte >> (7 - k) & 1 ? "1" : "0");
            for (unsigned i = 0; i < CODES; i++)
                if (begins(bits, table[i].code))
                    value = table[i].exponent;
                else if (begins(table[i].code, bits))
                    value = 256 - row_of(rows, &n, bits);
            row[byte] = (uint8_t)value;
        }
        qt_add(&d->luts, row, 256);
    }
    for (unsigned i = 0; i < CODES; i++)
        lengths[table[i].exponent] = (uint8_t)strlen(table[i].code);
    qt_add(&d->luts, lengths, 256);
    d->n_luts = n + 1;
}

static void put_bit(qt_buf *b, uint64_t at, bool bit)
{
    if (at / 8 >= b->n)
        qt_add_zeros(b, 1);
    b->p[at / 8] |= (uint8_t)(bit << (7 - at % 8));
}

void qt_df11_make(qt_df11 *d, const uint16_t *w, unsigned n, unsigned threads, unsigned slice, const char *version)
{
    *d = (qt_df11){0};
    const uint64_t slice_bits = 8u * slice, block_bits = slice_bits * threads;
    uint64_t at = 0, slices = 0, blocks = 0;
    const uint64_t split = 10;
    make_luts(d);
    for (unsigned i = 0; i < n; i++) {
        const unsigned e = w[i] >> 7 & 255;
        const char *code = NULL;
        for (unsigned k = 0; k < CODES; k++)
            code = table[k].exponent == e ? table[k].code : code;
        for (; slices * slice_bits <= at; slices++) /* the first code that begins in a slice */
            for (unsigned k = 0; k < 5; k++)
                put_bit(&d->gaps, slices * 5 + k, (at - slices * slice_bits) >> (4 - k) & 1);
        for (; blocks * block_bits <= at; blocks++)
            qt_add(&d->positions, &(uint32_t){i}, 4);
        for (; *code; code++)
            put_bit(&d->codes, at++, *code == '1');
        qt_add(&d->rest, &(uint8_t){(uint8_t)((w[i] >> 8 & 128) | (w[i] & 127))}, 1);
    }
    for (unsigned k = 0; at % 8; k++)
        put_bit(&d->codes, at++, end_code[k] == '1');
    const uint64_t all = (d->codes.n * 8 + block_bits - 1) / block_bits;
    for (; blocks <= all; blocks++)
        qt_add(&d->positions, &(uint32_t){n}, 4);
    while (d->gaps.n * 8 < all * threads * 5)
        qt_add_zeros(&d->gaps, 1);
    qt_add(&d->splits, &split, 8);
    if (asprintf(&d->config, "{\"dfloat11_config\": {\"version\": \"%s\", \"threads_per_block\": [%u], \"bytes_per_thread\": %u, \"pattern_dict\": "
                 "{\"net\\\\.\\\\d+\": [\"a.q_proj\", \"down_proj\"]}, \"shapes\": {\"net\\\\.\\\\d+\": [[2, 5], [3, %u]]}}}", version, threads, slice,
                 (n - 10) / 3) < 0)
        abort();
}

void qt_df11_file(const qt_df11 *d, qt_buf *out)
{
    qt_buf text = {0};
    size_t at = 0;
    uint8_t eight[8];
    const struct {
        const char *name;
        const qt_buf *data;
    } t[] = {{"encoded_exponent", &d->codes}, {"gaps", &d->gaps}, {"luts", &d->luts}, {"output_positions", &d->positions}, {"sign_mantissa", &d->rest},
             {"split_positions", &d->splits}};
    qt_addf(&text, "{");
    for (unsigned i = 0; i < 6; i++) {
        const size_t n = t[i].data->n;
        qt_addf(&text, "\"net.0.%s\":{\"dtype\":\"%s\",\"shape\":[", t[i].name, i == 5 ? "I64" : "U8");
        if (i == 2)
            qt_addf(&text, "%zu,256", n / 256);
        else
            qt_addf(&text, "%zu", i == 5 ? n / 8 : n);
        qt_addf(&text, "],\"data_offsets\":[%zu,%zu]},", at, at + n);
        at += n;
    }
    qt_addf(&text, "\"norm.weight\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[%zu,%zu]}}", at, at + 4);
    for (unsigned i = 0; i < 8; i++)
        eight[i] = (uint8_t)((uint64_t)text.n >> (8 * i));
    qt_add(out, eight, 8);
    qt_add(out, text.p, text.n);
    for (unsigned i = 0; i < 6; i++)
        qt_add(out, t[i].data->p, t[i].data->n);
    qt_add(out, "\0\0\x80?", 4);
    qt_buf_free(&text);
}

void qt_df11_free(qt_df11 *d)
{
    free(d->config);
    qt_buf *const b[] = {&d->luts, &d->codes, &d->rest, &d->positions, &d->gaps, &d->splits};
    for (unsigned i = 0; i < 6; i++)
        qt_buf_free(b[i]);
}
