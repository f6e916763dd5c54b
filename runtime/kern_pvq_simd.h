/* kern_pvq_simd.h: the walk of kern_pvq.c with a group in each lane. A template: included once for each word and instruction
 * set by kern_pvq_avx2.c and kern_pvq_avx512.c, which define
 *   WALK      name of the function         WORD      uint32_t or uint64_t, the table's
 *   VEC       vector of LANES words        LANES_8   vector of LANES int8_t
 *   PACKS     vectors that are walked together
 *   LOOK(row, at, stride)            row[at] lane by lane, at < stride
 *   EVERY_8(row, stride)             something of type VEC from which
 *   LOOK_8(every, row, at, stride)   finds row[at] for multiples of 8
 * The search is binary and without branches: all lanes take as many steps.
 * Included a last time with FILL, the name of the function that puts walk32, walk64 and what the compiler makes of the C code for
 * this instruction set into the table. */
#if defined(WALK)

/* PACKS·LANES or LANES groups. stride: t->stride, as a constant where that saves work. */
INLINE void GLUE(WALK, _some)(const WORD *w, const uint32_t stride, uint32_t m, uint32_t j, WORD last, const uint64_t *index,
                              const unsigned packs, int8_t *y, size_t ld)
{
    enum { LANES = sizeof(VEC) / sizeof(WORD) };
    VEC r[PACKS], k[PACKS];
    for (unsigned u = 0; u < packs; u++) {
        WORD from_end[LANES];
        for (unsigned l = 0; l < LANES; l++)
            from_end[l] = (WORD)(last - index[u * LANES + l]);
        memcpy(&r[u], from_end, sizeof r[u]);
        k[u] = (VEC){0} + (WORD)j;
    }
    for (uint32_t left = m; left > 0; left--) {
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
}

/* PACKS vectors at once hide each other's latency: what is left over is filled up with index 0, unless one is enough. */
TARGET static void WALK(const qn_pvq_tab *t, const uint32_t stride, uint32_t m, uint32_t j, const uint64_t *index, size_t count,
                        int8_t *y, size_t ld)
{
    enum { LANES = sizeof(VEC) / sizeof(WORD), ALL = PACKS * LANES };
    const WORD last = (WORD)qn_u128_sub(qn_pvq_tab_size(t, m, j), qn_u128_of(1)).lo;
    for (size_t at = 0; at < count; at += ALL) {
        const size_t n = count - at < ALL ? count - at : ALL;
        uint64_t some[ALL];
        int8_t part[QN_PVQ_KERN_N * ALL];
        const uint64_t *from = index + at;
        int8_t *to = y + at;
        size_t to_ld = ld;
        if (n < ALL) {
            memset(some, 0, sizeof some);
            memcpy(some, from, n * sizeof *some);
            from = some;
            to = part;
            to_ld = ALL;
        }
        if (n <= LANES)
            GLUE(WALK, _some)(t->w, stride, m, j, last, from, 1, to, to_ld);
        else if (stride == 16)
            GLUE(WALK, _some)(t->w, 16, m, j, last, from, PACKS, to, to_ld);
        else if (stride == 32)
            GLUE(WALK, _some)(t->w, 32, m, j, last, from, PACKS, to, to_ld);
        else if (stride == 64)
            GLUE(WALK, _some)(t->w, 64, m, j, last, from, PACKS, to, to_ld);
        else
            GLUE(WALK, _some)(t->w, stride, m, j, last, from, PACKS, to, to_ld);
        for (uint32_t i = 0; n < ALL && i < m; i++)
            memcpy(y + i * ld + at, part + i * ALL, n);
    }
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

TARGET static void points(const qn_pvq_tab *t, uint32_t m, uint32_t j, const uint64_t *index, size_t count, int8_t *y, size_t ld)
{
    if (t->word == 4)
        walk32(t, t->stride, m, j, index, count, y, ld);
    else
        walk64(t, t->stride, m, j, index, count, y, ld);
}

TARGET static void norms(const int8_t *y, size_t ld, uint32_t m, size_t count, uint32_t *norm2)
{
    qn_pvq_norms_any(y, ld, m, count, norm2);
}

TARGET static void row(qn_dtype t, const int8_t *y, const float *scale, const uint32_t *pos, size_t n, uint8_t *dst)
{
    qn_pvq_row_any(t, y, scale, pos, n, dst);
}

void FILL(qn_kern_pvq *k)
{
    k->points = points;
    k->norms = norms;
    k->row = row;
}

#undef FILL
#endif
