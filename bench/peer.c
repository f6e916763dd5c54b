/* peer.c: what a user would try otherwise: byte planes and zstd, or zlib; see packed.h. */
#include "base/num.h"
#include "bench/packed.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum { BLOCK_BYTES = 2 << 20 };

/* Byte j of every unit together. Plain loops: compilers vectorise them. */
static void shuffle(const uint8_t *src, uint8_t *dst, size_t n, unsigned unit)
{
    if (unit == 1)
        memcpy(dst, src, n);
    else if (unit == 2)
        for (size_t i = 0, m = n / 2; i < m; i++) {
            dst[i] = src[2 * i];
            dst[m + i] = src[2 * i + 1];
        }
    else
        for (unsigned j = 0; j < unit; j++)
            for (size_t i = 0, m = n / unit; i < m; i++)
                dst[j * m + i] = src[unit * i + j];
}

static void unshuffle(const uint8_t *src, uint8_t *dst, size_t n, unsigned unit)
{
    const size_t m = n / unit;
    if (unit == 1)
        memcpy(dst, src, n);
    else if (unit == 2)
        for (size_t i = 0; i < m; i++) {
            dst[2 * i] = src[i];
            dst[2 * i + 1] = src[m + i];
        }
    else if (unit == 4)
        for (size_t i = 0; i < m; i++) {
            dst[4 * i] = src[i];
            dst[4 * i + 1] = src[m + i];
            dst[4 * i + 2] = src[2 * m + i];
            dst[4 * i + 3] = src[3 * m + i];
        }
    else
        for (unsigned j = 0; j < unit; j++)
            for (size_t i = 0; i < m; i++)
                dst[unit * i + j] = src[j * m + i];
}

void bench_peer_open(bench_peer *p, const bench_tensor *t, int zstd_level)
{
    *p = (bench_peer){.t = t, .zstd_level = zstd_level, .block_bytes = BLOCK_BYTES};
    p->n_blocks = (size_t)qn_ceil_div(t->n_bytes, BLOCK_BYTES);
    p->bound = zstd_level ? ZSTD_compressBound(BLOCK_BYTES) : compressBound(BLOCK_BYTES);
    p->planes = malloc(BLOCK_BYTES);
    p->room = malloc(p->bound * p->n_blocks);
    p->back = malloc(t->n_bytes);
    p->sizes = calloc(p->n_blocks, sizeof *p->sizes);
    p->cctx = ZSTD_createCCtx();
    p->dctx = ZSTD_createDCtx();
    memset(p->planes, 1, BLOCK_BYTES);
    memset(p->room, 1, p->bound * p->n_blocks);
    memset(p->back, 1, t->n_bytes);
}

static size_t block_bytes(const bench_peer *p, size_t i)
{
    return (size_t)qn_min_u64(BLOCK_BYTES, p->t->n_bytes - (uint64_t)i * BLOCK_BYTES);
}

void bench_peer_encode(void *peer)
{
    bench_peer *p = peer;
    const unsigned unit = qn_unit_bytes(p->t->dtype);
    p->stored_bytes = 0;
    for (size_t i = 0; i < p->n_blocks; i++) {
        const size_t n = block_bytes(p, i);
        uLongf z = p->bound;
        shuffle(p->t->data + i * BLOCK_BYTES, p->planes, n, unit);
        if (p->zstd_level)
            p->sizes[i] = ZSTD_compressCCtx(p->cctx, p->room + i * p->bound, p->bound, p->planes, n, p->zstd_level);
        else if (compress2(p->room + i * p->bound, &z, p->planes, n, 6) == Z_OK)
            p->sizes[i] = z;
        p->stored_bytes += p->sizes[i];
    }
}

void bench_peer_decode(void *peer)
{
    bench_peer *p = peer;
    const unsigned unit = qn_unit_bytes(p->t->dtype);
    for (size_t i = 0; i < p->n_blocks; i++) {
        const size_t n = block_bytes(p, i);
        uLongf z = n;
        if (p->zstd_level)
            ZSTD_decompressDCtx(p->dctx, p->planes, n, p->room + i * p->bound, p->sizes[i]);
        else
            uncompress(p->planes, &z, p->room + i * p->bound, p->sizes[i]);
        unshuffle(p->planes, p->back + i * BLOCK_BYTES, n, unit);
    }
}

void bench_peer_check(bench_peer *p)
{
    bench_peer_decode(p);
    if (memcmp(p->back, p->t->data, p->t->n_bytes) != 0) {
        fprintf(stderr, "bench: a peer does not restore %s %s\n", p->t->model, p->t->name);
        exit(70);
    }
}

void bench_peer_release(bench_peer *p)
{
    free(p->planes);
    free(p->room);
    free(p->back);
    free(p->sizes);
    ZSTD_freeCCtx(p->cctx);
    ZSTD_freeDCtx(p->dctx);
}
