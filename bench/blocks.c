/* blocks.c: what bench/gguf_types.py needs of block types.
 *
 *   blocks dump FILE.quern          each tensor in blocks: a line "name type rows cols", then its bytes as a GGUF file has them
 *   blocks speed TYPE [diagonal]    weights a second of one core on rows from a bell, with the second moment of a correlated input, or its diagonal */
#include "base/cpu.h"
#include "base/env.h"
#include "base/err.h"
#include "bench/must.h"
#include "bench/timing.h"
#include "compress/blocks/block.h"
#include "compress/feedback.h"
#include "runtime/blocks.h"
#include "runtime/reader.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int dump(const char *path)
{
    qn_env env;
    qn_reader *r;
    qn_worker w;
    must(qn_env_init(&env, NULL));
    must(qn_reader_open_env(&env, path, &r, NULL));
    qn_worker_init(&w, env.alloc);
    const qn_index *x = qn_reader_index(r);
    for (uint64_t i = 0; i < x->n_objects; i++) {
        const qn_index_object *o = &x->objects[i];
        const uint64_t n_chunks = x->objects[i + 1].first_chunk - o->first_chunk;
        if (!o->is_tensor || n_chunks == 0 || x->chunks[o->first_chunk].codec != QN_CODEC_BLOCKS)
            continue;
        for (uint64_t c = 0; c < n_chunks; c++) {
            const qn_index_chunk *k = &x->chunks[o->first_chunk + c];
            qn_blocks_parts p;
            if (k->codec != QN_CODEC_BLOCKS) {
                fprintf(stderr, "%s: chunk %llu is in codec %u\n", o->name, (unsigned long long)c, k->codec);
                return 1;
            }
            must(qn_reader_check_payload(r, &w, i, c, NULL));
            const qn_block b = qn_index_block(o, c);
            must(qn_blocks_open(&b, w.payload, k->stored_bytes, &p, NULL));
            if (c == 0)
                printf("%s %s %llu %u\n", o->name, qn_dtype_name(p.type), (unsigned long long)o->dims[0], p.cols);
            fwrite(p.blocks, p.row_bytes, p.rows, stdout);
        }
    }
    qn_worker_release(&w);
    qn_reader_close(r);
    return 0;
}

enum { COLS = 1024, ROWS = 512, SEEN = 2048 };

static float bell(uint64_t *s)
{
    float v = 0;
    for (int k = 0; k < 12; k++) {
        *s = *s * UINT64_C(6364136223846793005) + 1442695040888963407u;
        v += (float)(*s >> 40) * 0x1p-24f - 0.5f;
    }
    return v;
}

/* Σ x xᵀ of inputs that share a few directions, of columns of unlike size. */
static double *moment(uint64_t *s)
{
    double *h = calloc((size_t)COLS * COLS, sizeof *h);
    float *x = calloc(COLS, sizeof *x), *size = calloc(COLS, sizeof *size), *way = calloc((size_t)16 * COLS, sizeof *way);
    if (!h || !x || !size || !way)
        abort();
    for (unsigned j = 0; j < COLS; j++)
        size[j] = expf(0.7f * bell(s));
    for (unsigned j = 0; j < 16 * COLS; j++)
        way[j] = bell(s);
    for (unsigned t = 0; t < SEEN; t++) {
        for (unsigned j = 0; j < COLS; j++)
            x[j] = bell(s);
        for (unsigned k = 0; k < 16; k++) {
            const float by = 0.5f * bell(s);
            for (unsigned j = 0; j < COLS; j++)
                x[j] += by * way[k * COLS + j];
        }
        for (unsigned j = 0; j < COLS; j++)
            x[j] *= size[j];
        for (unsigned i = 0; i < COLS; i++)
            for (unsigned j = 0; j < COLS; j++)
                h[(size_t)i * COLS + j] += (double)(x[i] * x[j]);
    }
    free(x);
    free(size);
    free(way);
    return h;
}

static int speed(const char *type, bool diagonal)
{
    uint64_t s = 7;
    qn_arena a;
    qn_ldl l = QN_LDL_EMPTY;
    const qn_quantizer *q;
    const void *plan;
    const size_t n = (size_t)ROWS * COLS;
    qn_arena_init(&a, NULL);
    unsigned cpu = 0;
    must(qn_cpu_from_env(&cpu, NULL));
    must(qn_quantizer_open(type, &(qn_quant_settings){0}, cpu, &a, &q, NULL));
    double *h = moment(&s), *d = calloc(COLS, sizeof *d);
    float *w = calloc(n, sizeof *w), *recon = calloc(n, sizeof *recon);
    uint8_t *payload = calloc(4, n);
    if (!d || !w || !recon || !payload)
        abort();
    for (unsigned j = 0; j < COLS; j++)
        d[j] = h[(size_t)j * COLS + j];
    for (size_t i = 0; i < n; i++)
        w[i] = 0.02f * bell(&s);
    must(qn_ldl_make(&l, NULL, COLS, diagonal ? NULL : h, diagonal ? d : NULL, q->group_cols, QN_ORDER_ACT, 0, NULL));
    const qn_quant_layer layer = {.name = "", .rows = ROWS, .cols = COLS, .dtype = QN_F32, .weight = l.weight, .ldl = &l, .sample = w, .n_sample = 16};
    const double start = bench_cpu_now();
    must(q->ops->begin(q, &layer, &a, &plan, NULL));
    const double prepared = bench_cpu_now() - start;
    const qn_feedback_job job = {.q = q, .layer = &layer, .plan = plan, .ldl = &l, .rows = ROWS, .w = w, .compare = !q->costly, .want_energy = true};
    qn_feedback_loss loss;
    size_t n_out;
    const double began = bench_cpu_now();
    must(qn_feedback_segment(&job, recon, payload, n * 4, &n_out, &loss, &a, NULL));
    const double took = bench_cpu_now() - began;
    printf("%s\t%.3f\tMw/s\tloss\t%.6f\tnearest\t%.6f\tfed\t%.6f\tplain error\t%.6f\tprepare %.3f s\n", type, (double)n / took * 1e-6, loss.loss / loss.energy,
           loss.nearest / loss.energy, loss.fed / loss.energy, loss.error / loss.square, prepared);
    return n_out == 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "dump") == 0)
        return dump(argv[2]);
    if (argc >= 3 && strcmp(argv[1], "speed") == 0)
        return speed(argv[2], argc > 3);
    fprintf(stderr, "usage: blocks dump FILE.quern | blocks speed TYPE [diagonal]\n");
    return 2;
}
