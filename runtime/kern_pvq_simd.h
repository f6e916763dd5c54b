/* kern_pvq_simd.h: the walk of kern_pvq.c with a group in each lane. A template: included once for each word and instruction
 * set by kern_pvq_avx2.c and kern_pvq_avx512.c, which define
 *   WALK      name of the function         WORD      uint32_t or uint64_t, the table's
 *   VEC       vector of LANES words        LANES_8   vector of LANES int8_t
 *   PACKS     vectors that are walked together: PACKS32 or PACKS64
 *   LOOK(row, at, stride)            row[at] lane by lane, at < stride
 *   EVERY_8(row, stride)             something of type VEC from which
 *   LOOK_8(every, row, at, stride)   finds row[at] for multiples of 8
 * The search is binary and without branches: all lanes take as many steps.
 * Included a last time with FILL, the name of the function that puts the walk, first of 64 then of 32 bits, and what the compiler
 * makes of the C code for this instruction set into the table. */
#if defined(WALK)

/* `packs` vectors of groups: rows m … stop + 1 of the table w. Unless stop is 0, what is left of r and k is written back. stride is a
 * constant where that saves work. */
INLINE void GLUE(WALK, _some)(const WORD *w, const uint32_t stride, uint32_t m, uint32_t stop, const uint64_t *from_end,
                              const uint8_t *of, const unsigned packs, int8_t *y, size_t ld, uint64_t *r_left, uint8_t *k_left)
{
    enum { LANES = sizeof(VEC) / sizeof(WORD) };
    VEC r[PACKS], k[PACKS];
    for (unsigned u = 0; u < packs; u++) {
        WORD words[LANES], counts[LANES];
        for (unsigned l = 0; l < LANES; l++) {
            words[l] = (WORD)from_end[u * LANES + l];
            counts[l] = of[u * LANES + l];
        }
        memcpy(&r[u], words, sizeof r[u]);
        memcpy(&k[u], counts, sizeof k[u]);
    }
    for (uint32_t left = m; left > stop; left--) {
        const WORD *const row = w + (size_t)left * stride;
        const VEC every = EVERY_8(row, stride);
        VEC pos[PACKS];
        for (unsigned u = 0; u < packs; u++)
            pos[u] = (VEC){0};
        for (uint32_t step = stride / 2; step > 0; step /= 2)
            for (unsigned u = 0; u < packs; u++) {
                const VEC at = pos[u] + step;
                const VEC there = step < 8 ? LOOK(row, at, stride) : LOOK_8(every, row, at, stride);
                pos[u] += (VEC)(there <= r[u]) & step;
            }
        for (unsigned u = 0; u < packs; u++) {
            const VEC some = (VEC)(pos[u] < k[u]); /* all ones where the coordinate is not 0 */
            const VEC rest = (pos[u] & some) | (k[u] & ~some);
            const VEC base = LOOK(row, rest, stride);
            const VEC half = (LOOK(row, rest - some, stride) - base) >> 1; /* 0 where the coordinate is */
            const VEC over = r[u] - base;
            const VEC minus = (VEC)(over < half);
            const VEC value = ((k[u] - rest) ^ minus) - minus;
            r[u] = over - (half & ~minus);
            k[u] = rest;
            const LANES_8 narrow = __builtin_convertvector(value, LANES_8);
            memcpy(y + (size_t)(m - left) * ld + u * LANES, &narrow, LANES);
        }
    }
    for (unsigned u = 0; stop > 0 && u < packs; u++) {
        WORD words[LANES];
        memcpy(words, &r[u], sizeof words);
        for (unsigned l = 0; l < LANES; l++)
            r_left[u * LANES + l] = words[l];
        const LANES_8 narrow = __builtin_convertvector(k[u], LANES_8);
        memcpy(k_left + u * LANES, &narrow, LANES);
    }
}

TARGET static void GLUE(WALK, _all)(const WORD *w, const uint32_t stride, uint32_t m, uint32_t stop, const uint64_t *from_end,
                                    const uint8_t *of, const unsigned packs, int8_t *y, size_t ld, uint64_t *r_left, uint8_t *k_left)
{
    if (packs == 1)
        GLUE(WALK, _some)(w, stride, m, stop, from_end, of, 1, y, ld, r_left, k_left);
    else if (stride == 16)
        GLUE(WALK, _some)(w, 16, m, stop, from_end, of, PACKS, y, ld, r_left, k_left);
    else if (stride == 32)
        GLUE(WALK, _some)(w, 32, m, stop, from_end, of, PACKS, y, ld, r_left, k_left);
    else if (stride == 64)
        GLUE(WALK, _some)(w, 64, m, stop, from_end, of, PACKS, y, ld, r_left, k_left);
    else
        GLUE(WALK, _some)(w, stride, m, stop, from_end, of, PACKS, y, ld, r_left, k_left);
}

#undef WALK
#undef WORD
#undef VEC
#undef LANES_8
#undef LOOK
#undef LOOK_8
#undef EVERY_8
#undef PACKS
#elif defined(FILL)

/* BATCH groups at once hide each other's latency; what is left over is filled up with zeros, unless one vector is enough. */
TARGET static void points(const qn_pvq_tab *t, uint32_t m, const uint64_t *from_end, const uint8_t *k, size_t count, int8_t *y, size_t ld)
{
    enum { LANES = sizeof(vec32) / 4, WIDE = sizeof(vec64) / 8, BATCH = PACKS32 * LANES, HALF = PACKS64 * WIDE };
    const uint32_t stop = t->word == 4 ? m : m < t->n_low ? m : t->n_low, stride = t->stride;
    for (size_t at = 0; at < count; at += BATCH) {
        const size_t n = count - at < BATCH ? count - at : BATCH;
        uint64_t r_in[BATCH], r_left[BATCH];
        uint8_t k_in[BATCH], k_left[BATCH];
        int8_t part[QN_PVQ_KERN_N * BATCH];
        const uint64_t *r = from_end + at;
        const uint8_t *of = k + at;
        int8_t *to = y + at;
        size_t to_ld = ld;
        if (n < BATCH) {
            memset(r_in, 0, sizeof r_in);
            memset(k_in, 0, sizeof k_in);
            memcpy(r_in, r, n * sizeof *r_in);
            memcpy(k_in, of, n);
            r = r_in;
            of = k_in;
            to = part;
            to_ld = BATCH;
        }
        if (stop < m) {
            if (n < BATCH) {
                memset(r_left, 0, sizeof r_left);
                memset(k_left, 0, sizeof k_left);
            }
            for (size_t i = 0; i < n; i += HALF)
                walk64_all(t->w, stride, m, stop, r + i, of + i, n - i <= WIDE ? 1 : PACKS64, to + i, to_ld, r_left + i, k_left + i);
            r = r_left;
            of = k_left;
        }
        walk32_all(t->low, stride, stop, 0, r, of, n <= LANES ? 1 : PACKS32, to + (size_t)(m - stop) * to_ld, to_ld, NULL, NULL);
        for (uint32_t i = 0; n < BATCH && i < m; i++)
            memcpy(y + i * ld + at, part + i * BATCH, n);
    }
}

TARGET static void norms(const int8_t *y, size_t ld, uint32_t m, size_t count, uint32_t *norm2)
{
    qn_pvq_norms_any(y, ld, m, count, norm2);
}

TARGET static void row(qn_dtype t, const int8_t *y, const float shift[2], const float *scale, const uint32_t *pos, size_t n, uint8_t *dst)
{
    qn_pvq_row_any(t, y, shift, scale, pos, n, dst);
}

void FILL(qn_kern_pvq *k)
{
    k->points = points;
    k->norms = norms;
    k->row = row;
}

#undef FILL
#endif
