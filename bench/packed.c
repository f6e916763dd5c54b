/* packed.c: see packed.h. */
#include "bench/packed.h"
#include "base/err.h"
#include "base/num.h"
#include "runtime/container.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die(const bench_tensor *t, const char *what, const char *why)
{
    fprintf(stderr, "bench: %s %s: %s %s\n", t->model, t->name, what, why);
    exit(70);
}

static qn_block block_of(const bench_packed *p, size_t i)
{
    const bench_tensor *t = p->t;
    const qn_index_object o = {.dims = t->dims, .n_bytes = t->n_bytes, .chunk_units = p->chunk_units, .is_tensor = 1,
                               .dtype = (uint8_t)t->dtype, .rank = (uint8_t)t->rank};
    return qn_index_block(&o, i);
}

void bench_packed_open(bench_packed *p, const bench_tensor *t, unsigned cpu, qn_level level, unsigned codec,
                       qn_encode_fn encode, uint8_t *back)
{
    *p = (bench_packed){.t = t, .encode = encode, .codec = codec, .level = level, .back = back, .own_back = !back};
    qn_ekern_init(&p->ekern, cpu);
    qn_kern_init(&p->kern, cpu);
    qn_arena_init(&p->scratch, NULL);
    p->chunk_units = qn_chunk_units(t->dtype, t->dims, t->rank, t->n_bytes);
    p->n_chunks = (size_t)qn_ceil_div(t->n, p->chunk_units);
    p->chunks = calloc(p->n_chunks, sizeof *p->chunks);
    p->room = aligned_alloc(64, (t->n_bytes + 63) / 64 * 64);
    if (!back)
        p->back = aligned_alloc(64, (t->n_bytes + 63) / 64 * 64);
    memset(p->room, 1, t->n_bytes); /* no page faults while timing */
    memset(p->back, 1, t->n_bytes);
}

void bench_packed_encode(void *packed)
{
    bench_packed *p = packed;
    const unsigned unit = qn_unit_bytes(p->t->dtype);
    p->stored_bytes = 0;
    for (size_t i = 0; i < p->n_chunks; i++) {
        const qn_block b = block_of(p, i);
        const size_t off = i * p->chunk_units * unit, n = (size_t)b.n * unit;
        const qn_enc_ctx cx = {.ekern = &p->ekern, .kern = &p->kern, .scratch = &p->scratch, .level = p->level};
        qn_err err;
        qn_err_clear(&err);
        qn_arena_reset(&p->scratch);
        qn_code rc;
        if (p->encode) {
            p->chunks[i].codec = p->codec;
            rc = p->encode(&cx, &b, p->t->data + off, p->room + off, n - 1, &p->chunks[i].n, &err);
            if (rc == QN_OK && p->chunks[i].n == 0) {
                p->chunks[i].codec = QN_CODEC_RAW;
                p->chunks[i].n = n;
                memcpy(p->room + off, p->t->data + off, n);
            }
        } else {
            rc = qn_encode_best(&cx, &b, p->t->data + off, p->room + off, n, &p->chunks[i].codec, &p->chunks[i].n, &err);
        }
        if (rc != QN_OK)
            die(p->t, "encode:", err.text);
        p->stored_bytes += p->chunks[i].n;
    }
}

void bench_packed_decode(void *packed)
{
    bench_packed *p = packed;
    const unsigned unit = qn_unit_bytes(p->t->dtype);
    for (size_t i = 0; i < p->n_chunks; i++) {
        const qn_block b = block_of(p, i);
        const size_t off = i * p->chunk_units * unit;
        const qn_dec_ctx cx = {.kern = &p->kern, .scratch = &p->scratch};
        qn_err err;
        qn_err_clear(&err);
        qn_arena_reset(&p->scratch);
        if (qn_codec_decode(&cx, p->chunks[i].codec, &b, p->room + off, p->chunks[i].n, p->back + off, &err) != QN_OK)
            die(p->t, "decode:", err.text);
    }
}

void bench_packed_check(bench_packed *p)
{
    memset(p->back, 0x5a, p->t->n_bytes);
    bench_packed_decode(p);
    if (memcmp(p->back, p->t->data, p->t->n_bytes) != 0)
        die(p->t, "decodes to other bytes", "");
}

void bench_packed_release(bench_packed *p)
{
    free(p->room);
    if (p->own_back)
        free(p->back);
    free(p->chunks);
    qn_arena_release(&p->scratch);
}

void bench_copy_run(void *copy)
{
    bench_copy *c = copy;
    memcpy(c->to, c->from, c->n);
}
