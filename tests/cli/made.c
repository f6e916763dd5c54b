/* made.c: small models for tests of the command line, with weights from a bell, always the same.
 *
 *   made gpt2 FOLDER    weights stored (in, out); 2 layers of 64, 80 words, no tokenizer
 *   made tokens FILE N  N token ids below 80, as .npy
 *   made onnx FILE      two convolutions, a MatMul and a Gemm; input x (N, 8, 12, 12), output y (N, 40)
 *   made images FILE N  N inputs for it, as .npy
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static uint64_t state = 88172645463325252u;

static double uniform(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (double)(state >> 11) * 0x1p-53;
}

static float bell(void)
{
    double v = 0;
    for (int i = 0; i < 12; i++)
        v += uniform() - 0.5;
    return (float)v;
}

static void put_floats(FILE *f, size_t n, double scale, double mean)
{
    for (size_t i = 0; i < n; i++) {
        const float v = (float)(mean + scale * (double)bell());
        fwrite(&v, 4, 1, f); /* the tests run on little-endian machines */
    }
}

/* --- GPT-2 --------------------------------------------------------------------------------------------------------- */

enum { HIDDEN = 64, WORDS = 80, LAYERS = 2 };

static char header[8192];
static size_t n_header, n_data;
static struct { size_t n; double scale, mean; } list[64];
static unsigned n_list;

static void tensor(const char *name, unsigned rows, unsigned cols, double scale, double mean)
{
    char shape[40];
    const size_t n = (size_t)rows * (cols ? cols : 1);
    if (cols)
        snprintf(shape, sizeof shape, "%u,%u", rows, cols);
    else
        snprintf(shape, sizeof shape, "%u", rows);
    n_header += (size_t)snprintf(header + n_header, sizeof header - n_header, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                                 n_list ? "," : "{", name, shape, n_data, n_data + 4 * n);
    n_data += 4 * n;
    list[n_list].n = n;
    list[n_list].scale = scale;
    list[n_list++].mean = mean;
}

static void linear(unsigned layer, const char *name, unsigned in, unsigned out)
{
    char text[80];
    snprintf(text, sizeof text, "h.%u.%s.weight", layer, name);
    tensor(text, in, out, 1.5 / sqrt(in), 0);
    snprintf(text, sizeof text, "h.%u.%s.bias", layer, name);
    tensor(text, out, 0, 0.05, 0);
}

static void norm(const char *prefix, const char *name)
{
    char text[80];
    snprintf(text, sizeof text, "%s%s.weight", prefix, name);
    tensor(text, HIDDEN, 0, 0.1, 1);
    snprintf(text, sizeof text, "%s%s.bias", prefix, name);
    tensor(text, HIDDEN, 0, 0.05, 0);
}

static int gpt2(const char *folder)
{
    char path[1000], prefix[20];
    (void)mkdir(folder, 0777);
    snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *f = fopen(path, "w");
    if (!f)
        return 1;
    fprintf(f, "{\"architectures\": [\"GPT2LMHeadModel\"], \"model_type\": \"gpt2\", \"n_embd\": %d, \"n_layer\": %d, \"n_head\": 4, \"n_positions\": 64, "
            "\"n_ctx\": 64, \"n_inner\": null, \"vocab_size\": %d, \"layer_norm_epsilon\": 1e-5, \"activation_function\": \"gelu_new\"}\n", HIDDEN, LAYERS, WORDS);
    fclose(f);
    tensor("wte.weight", WORDS, HIDDEN, 0.3, 0);
    tensor("wpe.weight", 64, HIDDEN, 0.1, 0);
    for (unsigned l = 0; l < LAYERS; l++) {
        snprintf(prefix, sizeof prefix, "h.%u.", l);
        norm(prefix, "ln_1");
        linear(l, "attn.c_attn", HIDDEN, 3 * HIDDEN);
        linear(l, "attn.c_proj", HIDDEN, HIDDEN);
        norm(prefix, "ln_2");
        linear(l, "mlp.c_fc", HIDDEN, 4 * HIDDEN);
        linear(l, "mlp.c_proj", 4 * HIDDEN, HIDDEN);
    }
    norm("", "ln_f");
    n_header += (size_t)snprintf(header + n_header, sizeof header - n_header, "}");
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    f = fopen(path, "wb");
    if (!f)
        return 1;
    const uint64_t n = n_header;
    fwrite(&n, 8, 1, f);
    fwrite(header, 1, n_header, f);
    for (unsigned i = 0; i < n_list; i++)
        put_floats(f, list[i].n, list[i].scale, list[i].mean);
    return fclose(f) != 0;
}

/* --- ONNX: a message is written into memory, then with its length into the one around it ------------------------------- */

static void varint(FILE *f, uint64_t v)
{
    for (; v > 127; v >>= 7)
        fputc((int)(v & 127) | 128, f);
    fputc((int)v, f);
}

static void number(FILE *f, unsigned field, uint64_t v)
{
    varint(f, field << 3);
    varint(f, v);
}

static void bytes(FILE *f, unsigned field, const void *p, size_t n)
{
    varint(f, field << 3 | 2);
    varint(f, n);
    fwrite(p, 1, n, f);
}

static void text(FILE *f, unsigned field, const char *s)
{
    bytes(f, field, s, strlen(s));
}

static FILE *begin(char **p, size_t *n)
{
    FILE *f = open_memstream(p, n);
    if (!f)
        exit(1);
    return f;
}

static void end(FILE *inner, char **p, const size_t *n, FILE *outer, unsigned field)
{
    fclose(inner);
    bytes(outer, field, *p, *n);
    free(*p);
}

static void node(FILE *g, const char *type, const char *in, const char *w, const char *out, const char *attr, int64_t value, unsigned n_values)
{
    char *p, *pa;
    size_t n, na;
    FILE *f = begin(&p, &n);
    text(f, 1, in);
    if (w)
        text(f, 1, w);
    text(f, 2, out);
    text(f, 4, type);
    if (attr) {
        FILE *a = begin(&pa, &na);
        text(a, 1, attr);
        for (unsigned i = 0; i < n_values; i++)
            number(a, n_values > 1 ? 8 : 3, (uint64_t)value);
        number(a, 20, n_values > 1 ? 7 : 2);
        end(a, &pa, &na, f, 5);
    }
    end(f, &p, &n, g, 1);
}

static void initializer(FILE *g, const char *name, const unsigned *dims, unsigned rank)
{
    char *p, *pw;
    size_t n, nw, elems = 1;
    FILE *f = begin(&p, &n), *w = begin(&pw, &nw);
    for (unsigned i = 0; i < rank; i++) {
        number(f, 1, dims[i]);
        elems *= dims[i];
    }
    number(f, 2, 1);
    text(f, 8, name);
    put_floats(w, elems, 1.4 / sqrt((double)elems / dims[0]), 0);
    end(w, &pw, &nw, f, 9);
    end(f, &p, &n, g, 5);
}

static void value(FILE *g, unsigned field, const char *name, const unsigned *dims, unsigned rank)
{
    char *p[5];
    size_t n[5];
    FILE *v = begin(&p[0], &n[0]), *type = begin(&p[1], &n[1]), *t = begin(&p[2], &n[2]), *shape = begin(&p[3], &n[3]);
    text(v, 1, name);
    number(t, 1, 1);
    for (unsigned i = 0; i < rank; i++) {
        FILE *d = begin(&p[4], &n[4]);
        if (dims[i])
            number(d, 1, dims[i]);
        else
            text(d, 2, "N");
        end(d, &p[4], &n[4], shape, 1);
    }
    end(shape, &p[3], &n[3], t, 2);
    end(t, &p[2], &n[2], type, 1);
    end(type, &p[1], &n[1], v, 2);
    end(v, &p[0], &n[0], g, field);
}

static int onnx(const char *path)
{
    char *pg, *ps;
    size_t ng, ns;
    FILE *f = fopen(path, "wb");
    if (!f)
        return 1;
    FILE *g = begin(&pg, &ng), *s = begin(&ps, &ns);
    number(f, 1, 8);
    number(s, 2, 13);
    end(s, &ps, &ns, f, 8);
    node(g, "Conv", "x", "conv.5x5", "a", "pads", 2, 4);
    node(g, "Relu", "a", NULL, "b", NULL, 0, 0);
    node(g, "Conv", "b", "conv.3x3", "c", "pads", 1, 4);
    node(g, "Relu", "c", NULL, "d", NULL, 0, 0);
    node(g, "GlobalAveragePool", "d", NULL, "e", NULL, 0, 0);
    node(g, "Flatten", "e", NULL, "f", NULL, 0, 0);
    node(g, "MatMul", "f", "matmul", "g", NULL, 0, 0);
    node(g, "Relu", "g", NULL, "h", NULL, 0, 0);
    node(g, "Gemm", "h", "gemm", "y", "transB", 1, 1);
    text(g, 2, "net");
    initializer(g, "conv.5x5", (const unsigned[]){48, 8, 5, 5}, 4);
    initializer(g, "conv.3x3", (const unsigned[]){64, 48, 3, 3}, 4);
    initializer(g, "matmul", (const unsigned[]){64, 96}, 2);
    initializer(g, "gemm", (const unsigned[]){40, 96}, 2);
    value(g, 11, "x", (const unsigned[]){0, 8, 12, 12}, 4);
    value(g, 12, "y", (const unsigned[]){0, 40}, 2);
    end(g, &pg, &ng, f, 7);
    return fclose(f) != 0;
}

static int npy(const char *path, const char *type, const char *shape, size_t n, int words)
{
    FILE *f = fopen(path, "wb");
    char head[128];
    if (!f)
        return 1;
    snprintf(head, sizeof head, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", type, shape);
    fprintf(f, "\x93NUMPY%c%cv%c%-117s\n", 1, 0, 0, head);
    uint64_t last = 1;
    for (size_t i = 0; words && i < n; i++) {
        const int32_t id = (int32_t)(last = (last * 5 + 3 + (uint64_t)(uniform() * 6)) % WORDS);
        fwrite(&id, 4, 1, f);
    }
    if (!words)
        put_floats(f, n, 1, 0.2);
    return fclose(f) != 0;
}

int main(int argc, char **argv)
{
    char shape[60];
    const unsigned n = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
    if (argc == 3 && strcmp(argv[1], "gpt2") == 0)
        return gpt2(argv[2]);
    if (argc == 3 && strcmp(argv[1], "onnx") == 0)
        return onnx(argv[2]);
    state += n;
    if (argc == 4 && strcmp(argv[1], "tokens") == 0) {
        snprintf(shape, sizeof shape, "(%u,)", n);
        return npy(argv[2], "<i4", shape, n, 1);
    }
    if (argc == 4 && strcmp(argv[1], "images") == 0) {
        snprintf(shape, sizeof shape, "(%u, 8, 12, 12)", n);
        return npy(argv[2], "<f4", shape, (size_t)n * 8 * 12 * 12, 0);
    }
    fprintf(stderr, "see made.c\n");
    return 2;
}
