/* packed.h: one tensor through our codecs and through the peers, as functions that can be timed. */
#ifndef QN_BENCH_PACKED_H
#define QN_BENCH_PACKED_H

#include "bench/corpus.h"
#include "compress/encode.h"

/* A tensor cut into chunks as the container cuts it, encoded and decoded on one core with buffers that are reused. */
typedef struct bench_packed {
    const bench_tensor *t;
    qn_encode_fn encode; /* NULL: qn_encode_best at `level` */
    unsigned codec;      /* of `encode` */
    qn_level level;
    qn_ekern ekern;
    qn_kern kern;
    qn_arena scratch;
    uint32_t chunk_units;
    size_t n_chunks;
    uint8_t *room;       /* payloads, each at its chunk's own place */
    uint8_t *back;       /* decoded                                 */
    struct bench_chunk {
        unsigned codec;
        size_t n;
    } *chunks;
    size_t stored_bytes; /* after bench_packed_encode */
    bool own_back;
} bench_packed;

/* cpu: kernel variant; encode: one codec (raw where it does not apply), or NULL for the selection of `level`. `back` receives
 * the decoded bytes, NULL: own memory. */
void bench_packed_open(bench_packed *p, const bench_tensor *t, unsigned cpu, qn_level level, unsigned codec,
                       qn_encode_fn encode, uint8_t *back);
void bench_packed_encode(void *packed); /* a bench_fn */
void bench_packed_decode(void *packed); /* a bench_fn */
/* Ends the program when the decoded bytes are not the tensor's. */
void bench_packed_check(bench_packed *p);
void bench_packed_release(bench_packed *p);

/* zstd over byte planes (shuffle) of blocks as large as our chunks; zlib over the same with level −1 … */
typedef struct bench_peer {
    const bench_tensor *t;
    int zstd_level; /* 0: zlib level 6 */
    size_t block_bytes, n_blocks, bound;
    uint8_t *planes, *room, *back;
    size_t *sizes, stored_bytes;
    void *cctx, *dctx;
} bench_peer;
void bench_peer_open(bench_peer *p, const bench_tensor *t, int zstd_level);
void bench_peer_encode(void *peer); /* a bench_fn */
void bench_peer_decode(void *peer); /* a bench_fn */
void bench_peer_check(bench_peer *p);
void bench_peer_release(bench_peer *p);

/* Plain copy of a tensor. */
typedef struct bench_copy {
    const uint8_t *from;
    uint8_t *to;
    size_t n;
} bench_copy;
void bench_copy_run(void *copy); /* a bench_fn */

#endif
