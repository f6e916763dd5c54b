/* ect_train.c: the offsets of runtime/ect_tab.c, from made sources: see quant.h. */
#include "base/cpu.h"
#include "bench/quant.h"
#include "compress/ect_search.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sources of every shape and scale through the trellis with the tables as they are; means of what each level stood for. */
void quant_ect_train(void)
{
    enum { ROUNDS = 4, ROWS_T = 40000 };
    static const unsigned log2_states[3] = {0, 3, 6};
    static double sum[QN_ECT_CLASSES][QN_ECT_OFFSETS], count[QN_ECT_CLASSES][QN_ECT_OFFSETS];
    static float x[ROWS_T], base[ROWS_T];
    static uint8_t class[ROWS_T];
    static int16_t level[ROWS_T];
    qn_ekern_ect k;
    qn_ect_book *b = malloc(sizeof *b);
    void *room = aligned_alloc(64, (qn_ect_search_bytes(6, ROWS_T) + 63) / 64 * 64);
    qn_ekern_ect_init(&k, qn_cpu_detect());
    (void)printf("const int8_t qn_ect_offset_tab[3][QN_ECT_SHAPES][QN_ECT_CLASSES][QN_ECT_OFFSETS] = {\n");
    for (unsigned kind = 0; kind < 3; kind++) {
        (void)printf("    {\n");
        for (unsigned shape = 0; shape < QN_ECT_SHAPES; shape++) {
            qn_ect_book_make(b, log2_states[kind], shape, 0);
            memset(sum, 0, sizeof sum);
            memset(count, 0, sizeof count);
            int off[QN_ECT_CLASSES][QN_ECT_OFFSETS] = {{0}};
            for (int i = 0; i < ROWS_T; i++)
                base[i] = (float)quant_shaped(shape);
            for (int round = 0; round < ROUNDS; round++) {
                for (unsigned tab = 0; tab < QN_ECT_TABS; tab++)
                    for (unsigned u = 0; u < QN_ECT_SYMS; u++) {
                        const int l = 2 * ((int)u - QN_ECT_ZERO) + (int)(tab & 1), m = abs(l) / (kind ? 1 : 2);
                        const int o = m == 0 ? 0 : off[tab / 2][m > QN_ECT_OFFSETS ? QN_ECT_OFFSETS - 1 : m - 1];
                        b->point[tab][u] = (float)l + (float)(l < 0 ? -o : o) / 64;
                    }
                memset(sum, 0, sizeof sum);
                memset(count, 0, sizeof count);
                int start = 0;
                for (int g = 0; g < 60 * 4; g++) {
                    const double scale = 0.4 * exp2(g / 24.0 / 2);
                    for (int i = 0; i < ROWS_T; i++)
                        x[i] = (float)((double)base[i] * scale);
                    double least = 1e300;
                    int best = start;
                    for (int c = start > 1 ? start - 2 : 0; c <= start + 2 && c <= (int)b->top; c++) {
                        double cost = 0;
                        memset(class, c, sizeof class);
                        qn_ect_search(&k, b, x, class, ROWS_T / 4, level, room);
                        for (int i = 0; i < ROWS_T / 4; i++) {
                            const double e = (double)(x[i] - qn_ect_point_of(b, (unsigned)c, level[i]));
                            cost += e * e + (double)(b->lambda * qn_ect_bits_of(b, (unsigned)c, level[i]));
                        }
                        if (cost < least) {
                            least = cost;
                            best = c;
                        }
                    }
                    start = best;
                    memset(class, best, sizeof class);
                    qn_ect_search(&k, b, x, class, ROWS_T, level, room);
                    for (int i = 0; i < ROWS_T; i++) {
                        const int m = abs(level[i]) / (kind ? 1 : 2);
                        if (m == 0)
                            continue;
                        const int o = m > QN_ECT_OFFSETS ? QN_ECT_OFFSETS - 1 : m - 1;
                        sum[best][o] += (double)(level[i] < 0 ? -x[i] : x[i]) - abs(level[i]);
                        count[best][o] += 1;
                    }
                }
                for (unsigned c = 0; c < QN_ECT_CLASSES; c++)
                    for (unsigned o = 0; o < QN_ECT_OFFSETS; o++)
                        off[c][o] = count[c][o] > 100 ? (int)rint(64 * sum[c][o] / count[c][o]) : 0;
            }
            (void)printf("        {\n");
            for (unsigned c = 0; c < QN_ECT_CLASSES; c++)
                (void)printf("%s{%d, %d, %d},%s", c % 6 ? " " : "            ", off[c][0], off[c][1], off[c][2], c % 6 == 5 ? "\n" : "");
            (void)printf("        },\n");
            (void)fflush(stdout);
        }
        (void)printf("    },\n");
    }
    (void)printf("};\n");
    free(room);
    free(b);
}
