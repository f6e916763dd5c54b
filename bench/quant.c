/* quant.c: what the codecs that approximate are worth: distortion on made sources, a made layer, speed. Markdown on stdout.
 *
 *     bench/quant [--sources] [--layer] [--speed [--small] [--alike]] [--peer LIBGGML_BASE] [--only CODEC]
 *     bench/quant --train-ect            prints qn_ect_offset_tab of runtime/ect_tab.c
 *     bench/quant --pvq-points GROUPS N  tab-separated, for compress/pvq_rate_tab.c: all K up to 127, all gains
 *
 * Without any table named: the first three. Every row of qn_quantizer_tab is measured, at the bits that it takes. R is all bytes of
 * the payloads, tables included; D the mean squared error of what the decoder gives; the gap ½ log2(D) + R, which for the
 * normal source is the distance to Shannon's bound. For the other sources it is only a reference: their bound is lower, so
 * that it may be negative. "known": what the method has without side information, by other programs' figures. */
#include "base/cpu.h"
#include "base/err.h"
#include "bench/quant.h"
#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 4096, COLS = 256 };

const double quant_rate[QUANT_RATES] = {0.5, 1, 1.5, 2, 3, 4};

/* Known gaps: quantizers of ours without containers, and the papers of each method. For pvq N = 16 and its gain, for vq k-means
 * of four weights, for trellis a bitshift trellis of 2^12 states. */
static const quant_variant variants[] = {
    {"ect", "states=1", {0, .239, .253, .254, .255, .254}, {0, 0, 0, .280, 0, 0}, true},
    {"ect", "states=4", {0, .089, .089, .090, .090, .089}, {0}, true},
    {"ect", "states=8", {0, .073, .074, .074, .074, .075}, {0, .150, .127, .107, .089, 0}, false},
    {"ect", "states=32", {0, .053, .054, .054, .052, .054}, {0, .135, 0, .087, .068, 0}, true},
    {"ect", "states=256", {0, .033, .033, .033, .034, .034}, {0, .120, .091, .067, .048, 0}, false},
    {"grid", "", {0}, {0}, false},
    {"grid", "packed=yes", {0}, {0}, false},
    {"pvq", "", {0, .228, .295, .323, .344, .341}, {0}, false},
    {"pvq", "shells=yes", {0, 0, 0, .325, 0, 0}, {0}, false},
    {"vq", "", {0, .235, .281, .318, .368, .400}, {0}, false},
    {"trellis", "window=12", {0, .067, 0, .119, .172, .238}, {0, 0, 0, .232, 0, 0}, false},
    {"trellis", "window=16", {0, .044, 0, .065, .086, .109}, {0}, true},
};

bool quant_next(unsigned *at, const char *only, quant_variant *v)
{
    const unsigned n = sizeof variants / sizeof variants[0];
    for (;;) {
        const unsigned i = (*at)++;
        if (i >= qn_quantizer_count * (n + 1))
            return false;
        const char *name = qn_quantizer_tab[i / (n + 1)].name;
        const unsigned k = i % (n + 1);
        if (only && strcmp(only, name) != 0)
            continue;
        if (k < n) {
            qn_quant_settings set;
            if (strcmp(variants[k].codec, name) != 0 || !quant_set(&variants[k], 2, &set))
                continue;
            *v = variants[k];
            return true;
        }
        bool any = false;
        for (unsigned j = 0; j < n; j++)
            any |= strcmp(variants[j].codec, name) == 0;
        if (any)
            continue;
        *v = (quant_variant){.codec = name, .settings = ""};
        return true;
    }
}

bool quant_set(const quant_variant *v, double bits, qn_quant_settings *set)
{
    char text[128], *save = NULL;
    qn_err e = {0};
    *set = (qn_quant_settings){.bits = bits};
    (void)snprintf(text, sizeof text, "%s", v->settings);
    for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        char *value = strchr(word, '=');
        *value++ = 0;
        const qn_setting *s = qn_setting_find(word);
        if (!s || qn_setting_read(s, value, set, &e) != QN_OK)
            return false;
    }
    return true;
}

const char *quant_label(const quant_variant *v)
{
    static char text[160];
    (void)snprintf(text, sizeof text, "%s%s%s", v->codec, *v->settings ? " " : "", v->settings);
    return text;
}

void quant_sources_table(const quant_options *o)
{
    float *w = malloc(sizeof *w * ROWS * COLS);
    for (unsigned s = 0; s < quant_n_sources; s++) {
        quant_variant v;
        (void)printf("\n### Source: %s, %d × %d\n\n| codec | asked | R | D | gap to %s | known |\n| --- | --: | --: | --: | --: | --: |\n",
                     quant_sources[s].name, ROWS, COLS, s == 0 ? "Shannon" : "the normal bound");
        quant_fill(w, (size_t)ROWS * COLS, quant_sources[s].draw);
        for (unsigned at = 0; quant_next(&at, o->only, &v);)
            for (unsigned r = 0; r < QUANT_RATES; r++) {
                qn_ldl ldl;
                quant_coded c;
                quant_ldl(&v, quant_rate[r], COLS, NULL, &ldl);
                const quant_job j = {.v = &v, .bits = quant_rate[r], .cpu = o->cpu, .w = w, .rows = ROWS, .cols = COLS, .ldl = &ldl};
                if (quant_encode(&j, &c)) {
                    quant_check(&c, o->cpu);
                    const double d = quant_mse(w, c.recon, (size_t)ROWS * COLS);
                    (void)printf("| %s | %g | %.4f | %.5f | %+.4f |", quant_label(&v), quant_rate[r], c.bits, d, 0.5 * log2(d) + c.bits);
                    if (s == 0 && v.normal_gap[r] > 0)
                        (void)printf(" %.3f", v.normal_gap[r]);
                    (void)printf(" |\n");
                    (void)fflush(stdout);
                    quant_free(&c);
                }
                qn_ldl_release(&ldl);
            }
    }
    free(w);
}

static int usage(void)
{
    (void)fprintf(stderr, "usage: quant [--sources] [--layer] [--speed [--small] [--alike]] [--peer LIBGGML_BASE] [--only CODEC] | --train-ect | "
                          "--pvq-points GROUPS N\n");
    return 2;
}

int main(int argc, char **argv)
{
    qn_err e = {0};
    quant_options o = {.side = 4096};
    openblas_set_num_threads(1);
    bool sources = false, layer = false, speed = false;
    if (qn_cpu_from_env(&o.cpu, &e) != QN_OK)
        return usage();
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (strcmp(a, "--sources") == 0)
            sources = true;
        else if (strcmp(a, "--layer") == 0)
            layer = true;
        else if (strcmp(a, "--speed") == 0)
            speed = true;
        else if (strcmp(a, "--small") == 0)
            o.side = 1024;
        else if (strcmp(a, "--alike") == 0)
            o.alike = true;
        else if (strcmp(a, "--peer") == 0 && i + 1 < argc)
            o.peer = argv[++i];
        else if (strcmp(a, "--only") == 0 && i + 1 < argc)
            o.only = argv[++i];
        else if (strcmp(a, "--train-ect") == 0)
            return quant_ect_train(), 0;
        else if (strcmp(a, "--pvq-points") == 0 && i + 2 < argc)
            return quant_pvq_points((uint32_t)strtoul(argv[i + 1], NULL, 10), (uint32_t)strtoul(argv[i + 2], NULL, 10)), 0;
        else
            return usage();
    }
    if (o.only && !qn_quantizer_find(o.only))
        return usage();
    const bool all = !sources && !layer && !speed && !o.peer;
    if (sources || all)
        quant_sources_table(&o);
    if (layer || all)
        quant_layer_table(&o);
    if (speed || all)
        quant_speed_table(&o);
    if (o.peer)
        quant_peer_table(&o);
    return 0;
}
