/* num.h: arithmetic on numbers that came from a file, and a cursor that cannot leave its buffer.
 *
 * Sizes from files are uint64_t and go through qn_mul/qn_add with one sticky overflow flag, tested once
 * at the end. Zero dimensions are decided before products (0 × anything is 0, never "wrapped to 0"). */
#ifndef QN_BASE_NUM_H
#define QN_BASE_NUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t qn_mul(uint64_t a, uint64_t b, bool *ovf)
{
    uint64_t r;
    if (__builtin_mul_overflow(a, b, &r)) {
        *ovf = true;
        return 0;
    }
    return r;
}

static inline uint64_t qn_add(uint64_t a, uint64_t b, bool *ovf)
{
    uint64_t r;
    if (__builtin_add_overflow(a, b, &r)) {
        *ovf = true;
        return 0;
    }
    return r;
}

/* Next multiple of `align`, a power of two. */
static inline uint64_t qn_align_up(uint64_t a, uint64_t align, bool *ovf)
{
    return qn_add(a, align - 1, ovf) & ~(align - 1);
}

static inline uint64_t qn_ceil_div(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

static inline uint64_t qn_min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t qn_max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Unaligned little-endian loads and stores; compilers turn each into one instruction. */
static inline uint16_t qn_load16(const void *p)
{
    const uint8_t *b = p;
    return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t qn_load32(const void *p)
{
    const uint8_t *b = p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline uint64_t qn_load64(const void *p)
{
    const uint8_t *b = p;
    return (uint64_t)qn_load32(b) | (uint64_t)qn_load32(b + 4) << 32;
}

static inline void qn_store16(void *p, uint16_t v)
{
    uint8_t *b = p;
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
}

static inline void qn_store32(void *p, uint32_t v)
{
    uint8_t *b = p;
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
    b[2] = (uint8_t)(v >> 16);
    b[3] = (uint8_t)(v >> 24);
}

static inline void qn_store64(void *p, uint64_t v)
{
    qn_store32(p, (uint32_t)v);
    qn_store32((uint8_t *)p + 4, (uint32_t)(v >> 32));
}

/* Bounded reader. A getter past the end returns zero and sets `failed`, which stays set:
 * read a whole record, then test once. */
typedef struct qn_cur {
    const uint8_t *p;
    size_t n_bytes, at;
    bool failed;
} qn_cur;

static inline qn_cur qn_cur_over(const void *p, size_t n_bytes)
{
    return (qn_cur){.p = p ? p : (const uint8_t *)"", .n_bytes = n_bytes}; /* p may be NULL when n_bytes is 0 */
}

static inline size_t qn_cur_left(const qn_cur *c)
{
    return c->failed ? 0 : c->n_bytes - c->at;
}

/* Borrowed pointer to the next n bytes, or NULL (and failed). */
static inline const uint8_t *qn_cur_take(qn_cur *c, size_t n)
{
    if (c->failed || n > c->n_bytes - c->at) {
        c->failed = true;
        return NULL;
    }
    const uint8_t *r = c->p + c->at;
    c->at += n;
    return r;
}

static inline uint8_t qn_cur_u8(qn_cur *c)
{
    const uint8_t *p = qn_cur_take(c, 1);
    return p ? *p : 0;
}

static inline uint16_t qn_cur_u16(qn_cur *c)
{
    const uint8_t *p = qn_cur_take(c, 2);
    return p ? qn_load16(p) : 0;
}

static inline uint32_t qn_cur_u32(qn_cur *c)
{
    const uint8_t *p = qn_cur_take(c, 4);
    return p ? qn_load32(p) : 0;
}

static inline uint64_t qn_cur_u64(qn_cur *c)
{
    const uint8_t *p = qn_cur_take(c, 8);
    return p ? qn_load64(p) : 0;
}

/* LEB128, at most 10 bytes, shortest form only (so that every value has one spelling). */
static inline uint64_t qn_cur_varint(qn_cur *c)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        const uint8_t b = qn_cur_u8(c);
        if (c->failed)
            return 0;
        if (shift == 63 && b > 1)
            break;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) {
            if (b == 0 && shift != 0)
                break;
            return v;
        }
    }
    c->failed = true;
    return 0;
}

/* Writes v at p (room for 10 bytes); returns the length. */
static inline size_t qn_put_varint(uint8_t *p, uint64_t v)
{
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        p[n++] = (uint8_t)(v | 0x80);
    p[n++] = (uint8_t)v;
    return n;
}

#endif
