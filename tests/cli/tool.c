/* tool.c: what the shell test of the command line cannot do itself.
 *
 *   tool json KEY…      standard input is one JSON object with these keys; "KEY=VALUE" compares a string, number or boolean
 *   tool model N FILE   writes a safetensors file with N BF16 tensors of 1 MiB each: one pattern of normal-like weights
 *   tool flip FILE OFF  inverts a byte
 */
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_key(const json_t *root, const char *arg)
{
    char key[64], got[256] = "";
    const char *eq = strchr(arg, '=');
    const size_t n = eq ? (size_t)(eq - arg) : strlen(arg);
    if (n >= sizeof key)
        return 1;
    memcpy(key, arg, n);
    key[n] = '\0';
    const json_t *v = json_object_get(root, key);
    if (v && json_is_string(v))
        snprintf(got, sizeof got, "%s", json_string_value(v));
    else if (v && json_is_integer(v))
        snprintf(got, sizeof got, "%lld", (long long)json_integer_value(v));
    else if (v && json_is_boolean(v))
        snprintf(got, sizeof got, "%s", json_is_true(v) ? "true" : "false");
    if (v && (!eq || strcmp(got, eq + 1) == 0))
        return 0;
    fprintf(stderr, "json: %s: found '%s'\n", arg, v ? got : "(no such key)");
    return 1;
}

static int check_json(int n, char **keys)
{
    json_error_t e;
    json_t *root = json_loadf(stdin, JSON_REJECT_DUPLICATES, &e);
    int bad = 0;
    if (!root || !json_is_object(root)) {
        fprintf(stderr, "json: line %d: %s\n", e.line, root ? "not an object" : e.text);
        return 1;
    }
    for (int i = 0; i < n; i++)
        bad |= check_key(root, keys[i]);
    json_decref(root);
    return bad;
}

static int make_model(unsigned n, const char *path)
{
    enum { ROWS = 512, COLS = 1024 };
    static uint16_t w[ROWS * COLS];
    FILE *f = fopen(path, "wb");
    if (!f)
        return 1;
    char *head = calloc(n + 1u, 128);
    if (!head)
        return 1;
    size_t len = (size_t)sprintf(head, "{");
    for (unsigned i = 0; i < n; i++)
        len += (size_t)sprintf(head + len, "%s\"t%u\":{\"dtype\":\"BF16\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]}",
                               i ? "," : "", i, ROWS, COLS, i * sizeof w, (i + 1) * sizeof w);
    head[len++] = '}';
    const uint64_t n_head = len;
    for (unsigned i = 0; i < 8; i++)
        fputc((int)(n_head >> 8 * i & 0xff), f);
    fwrite(head, 1, len, f);
    uint64_t x = 88172645463325252u;
    for (unsigned t = 0; t < n; t++) {
        for (size_t i = 0; i < ROWS * COLS; i++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            const unsigned zeros = x ? (unsigned)__builtin_ctzll(x >> 16 | 1u << 12) : 12;
            w[i] = (uint16_t)((x & 0x807f) | (uint64_t)(122 - zeros) << 7); /* exponents fall off by halves */
        }
        fwrite(w, 1, sizeof w, f);
    }
    free(head);
    return fclose(f) != 0;
}

static int flip(const char *path, long off)
{
    FILE *f = fopen(path, "r+b");
    if (!f || fseek(f, off, SEEK_SET) != 0)
        return 1;
    const int c = fgetc(f);
    if (c == EOF || fseek(f, off, SEEK_SET) != 0)
        return 1;
    fputc(c ^ 0xff, f);
    return fclose(f) != 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "json") == 0)
        return check_json(argc - 2, argv + 2);
    if (argc == 4 && strcmp(argv[1], "model") == 0)
        return make_model((unsigned)atoi(argv[2]), argv[3]);
    if (argc == 4 && strcmp(argv[1], "flip") == 0)
        return flip(argv[2], atol(argv[3]));
    return 2;
}
