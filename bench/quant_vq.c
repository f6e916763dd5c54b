/* quant_vq.c: distortion of books of centroids on normal numbers of variance 1, and speed of the vq codec. Markdown on stdout.
 *
 *     bench/quant_vq            the tables
 *     bench/quant_vq table      runtime/vq_book_tab.c: the constant books, trained on a million vectors
 *     bench/quant_vq offers     mean squared errors for compress/vq_rate.c: v, bits, error
 *
 * R: bits of index for a weight. D: mean squared error on vectors that the book was not trained on, and on those that it was.
 * gap: ½ log2(D 4^R), bits above the rate-distortion bound. */
#include "base/alloc.h"
#include "base/cpu.h"
#include "compress/vq_kmeans.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(qn_code rc)
{
    if (rc != QN_OK)
        abort();
}

static void *get(size_t n)
{
    void *p = malloc(n);
    if (!p)
        abort();
    return p;
}

static double uniform(uint64_t *s)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return ((double)(*s >> 11) + 0.5) * 0x1p-53;
}

static float *normals(size_t n, uint64_t seed)
{
    float *x = get(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(sqrt(-2 * log(uniform(&seed))) * cos(6.283185307179586 * uniform(&seed)));
    return x;
}

/* Error of a weight for vectors of x; the book is grown on them first when rounds > 0. */
static double error_of(unsigned v, uint32_t k, const float *x, size_t n, float *book, unsigned rounds)
{
    const qn_vq_sample s = {.v = v, .n = n, .ld = n, .x = x};
    qn_ekern_vq kern;
    qn_arena arena;
    double error;
    qn_ekern_vq_init(&kern, qn_cpu_detect());
    qn_arena_init(&arena, NULL);
    if (rounds)
        check(qn_vq_grow(&kern, &s, book, k, rounds, &error, &arena, NULL));
    else
        check(qn_vq_lloyd(&kern, &s, book, k, 0, &error, &arena, NULL));
    qn_arena_release(&arena);
    return error / (double)n / v;
}

static void table(void)
{
    static const unsigned of[] = {2, 4, 8};
    enum { N = 1 << 20 };
    float *x = normals((size_t)N * 8, 1), *book = get(256 * 8 * sizeof *book);
    printf("/* vq_book_tab.c: the constant books of the vq codec: Lloyd's centroids for normal numbers of variance 1, in units of 1/4096. Made by\n"
           " * `bench/quant_vq table`; they are a part of the format. */\n#include \"runtime/vq.h\"\n");
    for (unsigned i = 0; i < 3; i++) {
        const unsigned v = of[i];
        printf("\n/* 2, 4, … 256 centroids of %u coordinates */\nstatic const int16_t book_%u[%u * 510] = {", v, v, v);
        for (unsigned bits = 1, at = 0; bits <= 8; bits++) {
            (void)error_of(v, 1u << bits, x, N, book, 200);
            for (unsigned a = 0; a < v << bits; a++, at++)
                printf("%s%d,", at % 16 ? " " : "\n    ", (int)lrint((double)book[a] * 4096));
        }
        printf("\n};\n");
    }
    printf("\nconst int16_t *qn_vq_constant(unsigned v, unsigned bits)\n{\n    const int16_t *tab = v == 2 ? book_2 : v == 4 ? book_4 : v == 8 ? book_8 : "
           "NULL;\n    return tab && bits >= 1 && bits <= QN_VQ_CONSTANT_BITS ? tab + v * ((1u << bits) - 2) : NULL;\n}\n");
    free(x);
    free(book);
}

static void offers(void)
{
    enum { N = 1 << 18 };
    static const unsigned of[] = {2, 4, 8};
    float *x = normals((size_t)N * 8, 1), *y = normals((size_t)N * 8, 2), *book = get(4096 * 8 * sizeof *book);
    for (unsigned i = 0; i < 3; i++)
        for (unsigned bits = 1; bits <= 12; bits++) {
            (void)error_of(of[i], 1u << bits, x, N, book, 20);
            printf("%u\t%u\t%.6f\n", of[i], bits, error_of(of[i], 1u << bits, y, N, book, 0));
            fflush(stdout);
        }
    free(x);
    free(y);
    free(book);
}

static void distortions(void)
{
    static const struct {
        unsigned v, bits;
        double want; /* of the literature, and of the specification's own runs */
    } some[] = {{2, 4, .1093}, {2, 6, .0298}, {2, 8, .0079}, {4, 4, .3462}, {4, 6, .1845}, {4, 8, .0971}, {8, 8, .3227}, {8, 12, .1710}};
    enum { N = 1 << 18, N12 = 100000 };
    float *x = normals((size_t)N * 8, 3), *y = normals((size_t)N * 8, 4), *book = get(4096 * 8 * sizeof *book);
    printf("| v | centroids | R | D, trained on | D, others | expected | gap |\n|--:|--:|--:|--:|--:|--:|--:|\n");
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
        const unsigned v = some[i].v;
        const uint32_t k = 1u << some[i].bits;
        const double r = (double)some[i].bits / v, train = error_of(v, k, x, k > 256 ? N12 : N, book, 60),
                     d = error_of(v, k, y, N, book, 0);
        printf("| %u | %u | %.3f | %.4f | %.4f | %.4f | %.3f |\n", v, k, r, train, d, some[i].want, 0.5 * log2(d * exp2(2 * r)));
        fflush(stdout);
    }
    free(x);
    free(y);
    free(book);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "table") == 0)
        table();
    else if (argc > 1 && strcmp(argv[1], "offers") == 0)
        offers();
    else
        distortions();
    return 0;
}
