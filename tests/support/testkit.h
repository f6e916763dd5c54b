/* testkit.h: what tests share: repeatable random data, guard pages, CPU variants, and the two checks that every
 * codec must pass. Names begin with qt_. Failures are Criterion's. */
#ifndef QN_TESTS_TESTKIT_H
#define QN_TESTS_TESTKIT_H

#include "compress/encode.h"

/* xoshiro256**: the same numbers everywhere. */
typedef struct qt_rng {
    uint64_t s[4];
} qt_rng;
qt_rng qt_seed(uint64_t seed);
uint64_t qt_next(qt_rng *r);
uint64_t qt_below(qt_rng *r, uint64_t n); /* 0 … n−1 */
double qt_normal(qt_rng *r);              /* mean 0, variance 1 */

/* n units of dtype t, normal with this standard deviation (integers: rounded and clamped). */
void qt_fill_normal(qt_rng *r, qn_dtype t, double sigma, size_t n, uint8_t *dst);
/* One f64 as an element of dtype t (F16, BF16, F32, F64, E4M3, E5M2, integers), little-endian at dst. */
void qt_put(qn_dtype t, double v, uint8_t *dst);

/* n bytes whose last one touches an inaccessible page (tail) or whose first one does (head). */
typedef struct qt_guarded {
    uint8_t *p;
    size_t n;
    void *map;
    size_t map_bytes;
} qt_guarded;
qt_guarded qt_guard_tail(size_t n);
qt_guarded qt_guard_head(size_t n);
void qt_guard_free(qt_guarded *g);

/* Masks for qn_kern_init/qn_ekern_init that this machine can run, C reference first; returns how many (≤ 4). */
unsigned qt_cpu_variants(unsigned out[4]);

/* Encodes under every CPU variant (the payloads must be equal) and decodes each under every variant between guard pages
 * (the bytes must be src's). Returns the payload's size, 0 when the codec does not apply. `payload` (room for cap
 * bytes) receives it when not NULL. */
size_t qt_codec_round_trip(unsigned codec, qn_encode_fn encode, qn_level level, const qn_block *b, const uint8_t *src,
                           const uint8_t *base, uint8_t *payload, size_t cap);
/* Damages a valid payload n_rounds times (bytes changed, cut, extended, zeroed) and decodes it under every variant: no
 * crash, no byte outside dst, the same code from each, and the same bytes when that is QN_OK. Returns how many
 * damaged payloads were refused. */
size_t qt_codec_mutate(unsigned codec, const qn_block *b, const uint8_t *payload, size_t n_bytes, const uint8_t *base,
                       uint64_t seed, unsigned n_rounds);

/* Path of a file below the measured models and texts (QUERN_SHARED, else ../shared beside the source tree), or NULL:
 * then a line says that the test is skipped. Static storage. */
const char *qt_shared(const char *rel);

/* Built with a sanitizer, which makes everything several times slower. */
bool qt_sanitized(void);
/* Of n random rounds, how many to run: a quarter where a sanitizer watches. */
unsigned qt_rounds(unsigned n);

#endif
