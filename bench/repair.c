/* repair.c: what choosing and refitting keep of a model: shares of every family's groups go, by several saliencies, with and without a refit.
 *
 *     repair MODEL CALIBRATION TEST [LABELS.npy|-] [share …]
 * MODEL an ONNX file with .npz inputs for calibration and test, or a language model's folder with two texts. Printed per share and method: accuracy when there are labels, the
 * mean KL divergence from the dense model, the worst family after the refit, seconds. */
#include "analysis/eval/io_feed.h"
#include "analysis/eval/lm_feed.h"
#include "analysis/tokenize/tokenizer.h"
#include "bench/must.h"
#include "compress/prune/repair.h"
#include "base/err.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A model's data: batches of arrays, or chunks of a text. */
struct data {
    qn_io_feed io;
    qn_lm_feed lm;
    qn_corpus corpus;
    qn_calibrate_feed feed;
    bool text;
};

static void stop(const qn_err *err)
{
    char line[512];
    qn_err_line(err, line, sizeof line);
    fprintf(stderr, "%s\n", line);
    exit(1);
}

#define CHECK(expr)            \
    do {                       \
        if ((expr) != QN_OK)   \
            stop(err);         \
    } while (0)

static void open_data(struct data *d, const qn_env *env, const qn_graph *g, qn_source *s, const char *path, uint64_t chunks, qn_err *err)
{
    memset(d, 0, sizeof *d);
    d->text = g->n_vocab > 0;
    if (!d->text) {
        CHECK(qn_io_feed_open(&d->io, env, g, path, 256, 0, err));
        d->feed = (qn_calibrate_feed){.n_batches = d->io.n_batches, .n_tokens = d->io.n_samples, .feed = qn_io_feed_batch, .ctx = &d->io, .pool = &d->io.pool};
        return;
    }
    qn_tokenizer *tok = NULL;
    const qn_corpus_options o = {.context = 256, .max_chunks = chunks, .score_all = true};
    CHECK(qn_tokenizer_of_source(env, s, &tok, err));
    CHECK(qn_corpus_open(env, path, tok, g->n_vocab, &o, &d->corpus, err));
    CHECK(qn_lm_feed_open(&d->lm, env, &d->corpus, 1024, true, err));
    d->feed = (qn_calibrate_feed){.n_batches = d->lm.n_batches, .n_tokens = d->lm.n_tokens, .feed = qn_lm_feed_batch, .ctx = &d->lm, .pool = &d->lm.pool};
}

/* The first output of every batch, one behind the other: what distances and accuracy are taken from. */
struct outputs {
    float *y;
    uint64_t n, width;
};

static struct outputs run(const qn_env *env, const qn_graph *g, const struct data *d, const qn_overlay *w, qn_err *err)
{
    struct outputs out = {0};
    qn_exec *x;
    qn_overlay copy = w ? *w : (qn_overlay){0};
    const qn_exec_options o = {.read = w ? qn_overlay_read : NULL, .read_ctx = &copy};
    CHECK(qn_exec_open(env, g, &o, &x, err));
    *d->feed.pool = qn_exec_pool(x);
    uint64_t cap = 0;
    for (uint64_t b = 0; b < d->feed.n_batches; b++) {
        qn_array in[QN_IO_INPUTS_MAX] = {0}, y[16] = {0};
        CHECK(d->feed.feed(d->feed.ctx, b, in, err));
        CHECK(qn_exec_run(x, in, y, err));
        out.width = y[0].rank ? (uint64_t)y[0].dims[y[0].rank - 1] : 1;
        if (out.n + y[0].n > cap) {
            cap = 2 * cap + y[0].n;
            float *grown = realloc(out.y, cap * sizeof *grown);
            if (!grown)
                abort();
            out.y = grown;
        }
        memcpy(out.y + out.n, y[0].data, y[0].n * sizeof(float));
        out.n += y[0].n;
        for (uint32_t i = 0; i < g->n_inputs; i++)
            qn_array_release(&in[i]);
        for (uint32_t i = 0; i < g->n_outputs; i++)
            qn_array_release(&y[i]);
    }
    qn_exec_close(x);
    return out;
}

static uint64_t top(const float *y, uint64_t n)
{
    uint64_t best = 0;
    for (uint64_t i = 1; i < n; i++)
        best = y[i] > y[best] ? i : best;
    return best;
}

static double log_sum(const float *y, uint64_t n)
{
    double most = (double)y[top(y, n)], sum = 0;
    for (uint64_t i = 0; i < n; i++)
        sum += exp((double)y[i] - most);
    return most + log(sum);
}

/* Mean KL(dense ‖ pruned) per row of logits. */
static double divergence(const struct outputs *p, const struct outputs *q)
{
    double sum = 0;
    const uint64_t n = p->n / p->width;
    for (uint64_t r = 0; r < n; r++) {
        const float *a = p->y + r * p->width, *b = q->y + r * p->width;
        const double la = log_sum(a, p->width), lb = log_sum(b, p->width);
        for (uint64_t i = 0; i < p->width; i++)
            sum += exp((double)a[i] - la) * ((double)a[i] - la - (double)b[i] + lb);
    }
    return sum / (double)n;
}

/* int64 values of a .npy, or NULL. */
static int64_t *labels(const char *path, uint64_t *n)
{
    FILE *f = path && strcmp(path, "-") ? fopen(path, "rb") : NULL;
    unsigned char head[10];
    if (!f || fread(head, 1, 10, f) != 10)
        return NULL;
    const long from = 10 + head[8] + 256 * head[9];
    fseek(f, 0, SEEK_END);
    *n = (uint64_t)(ftell(f) - from) / 8;
    int64_t *p = must_get(*n * 8 + 1);
    fseek(f, from, SEEK_SET);
    *n = fread(p, 8, *n, f);
    fclose(f);
    return p;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct bench {
    qn_env env;
    qn_graph *g;
    qn_groups *s;
    struct data cal, test;
    struct outputs dense;
    int64_t *labels;
    uint64_t n_labels;
};

static double accuracy(const struct bench *b, const struct outputs *o)
{
    uint64_t right = 0, n = o->n / o->width;
    for (uint64_t i = 0; i < n && i < b->n_labels; i++)
        right += (int64_t)top(o->y + i * o->width, o->width) == b->labels[i];
    return 100.0 * (double)right / (double)n;
}

static void one(struct bench *b, double share, qn_saliency kind, bool refit, double ridge, const char *name, qn_err *err)
{
    qn_cut *cut;
    qn_overlay *w;
    qn_repair_family *report = must_get((b->s->n_families + 1) * sizeof *report);
    uint32_t *keep = must_get((b->s->n_families + 1) * sizeof *keep);
    const qn_repair_options o = {.saliency = kind, .refit = refit, .ridge = ridge, .seed = 1};
    for (uint32_t f = 0; f < b->s->n_families; f++) {
        const uint32_t n = b->s->families[f].n_groups;
        keep[f] = n - (uint32_t)(share * n + 0.5);
        keep[f] = keep[f] ? keep[f] : 1;
    }
    CHECK(qn_cut_new(&b->env, b->s, &cut, err));
    CHECK(qn_overlay_new(&b->env, b->g, &w, err));
    const double began = now();
    CHECK(qn_repair(&b->env, b->g, &b->cal.feed, keep, &o, cut, w, report, err));
    const double took = now() - began;
    struct outputs y = run(&b->env, b->g, &b->test, w, err);
    double worst = 0;
    for (uint32_t f = 0; f < b->s->n_families; f++)
        worst = report[f].after > worst ? report[f].after : worst;
    printf("%4.0f %%  %-16s", 100 * share, name);
    if (b->labels)
        printf("  %6.2f %%", accuracy(b, &y));
    printf("  KLD %8.5f  worst %7.4f  %6.2f s\n", divergence(&b->dense, &y), worst, took);
    if (getenv("REPAIR_FAMILIES"))
        for (uint32_t f = 0; f < b->s->n_families; f++)
            printf("      %-40s %u of %u  before %.5f after %.5f %s\n", b->s->families[f].name, b->s->families[f].n_groups - cut->n_gone[f],
                   b->s->families[f].n_groups, report[f].before, report[f].after, report[f].note ? report[f].note : "");
    fflush(stdout);
    free(y.y);
    free(keep);
    free(report);
    qn_overlay_free(w);
    qn_cut_free(cut);
}

int main(int argc, char **argv)
{
    struct bench b = {0};
    qn_err e = {.off = QN_NO_OFFSET}, *err = &e;
    qn_source *s;
    if (argc < 4)
        return 2;
    CHECK(qn_env_init(&b.env, err));
    CHECK(qn_source_open(&b.env, argv[1], &s, err));
    CHECK(qn_graph_open(&b.env, s, &b.g, err));
    CHECK(qn_groups_find(&b.env, b.g, &(qn_groups_options){0}, &b.s, err));
    open_data(&b.cal, &b.env, b.g, s, argv[2], 64, err);
    open_data(&b.test, &b.env, b.g, s, argv[3], 32, err);
    b.labels = argc > 4 ? labels(argv[4], &b.n_labels) : NULL;
    b.dense = run(&b.env, b.g, &b.test, NULL, err);
    printf("%u families; dense", b.s->n_families);
    if (b.labels)
        printf(" %.2f %%", accuracy(&b, &b.dense));
    printf("\n");
    const double ridge = getenv("REPAIR_RIDGE") ? atof(getenv("REPAIR_RIDGE")) : 0;
    static const struct method {
        const char *name;
        qn_saliency kind;
        bool refit;
    } methods[] = {{"OBS+refit", QN_SALIENCY_OBS, true}, {"magnitude", QN_SALIENCY_MAGNITUDE, false}, {"wanda", QN_SALIENCY_WANDA, false},
                   {"magnitude+refit", QN_SALIENCY_MAGNITUDE, true}, {"variance+refit", QN_SALIENCY_VARIANCE, true}, {"random+refit", QN_SALIENCY_RANDOM, true}};
    const int n = getenv("REPAIR_METHODS") ? atoi(getenv("REPAIR_METHODS")) : 6; /* the first so many */
    for (int i = 5; i < argc; i++)
        for (int k = 0; k < n && k < 6; k++)
            one(&b, atof(argv[i]), methods[k].kind, methods[k].refit, ridge, methods[k].name, err);
    qn_groups_free(b.s);
    qn_graph_close(b.g);
    qn_source_close(s);
    return 0;
}
