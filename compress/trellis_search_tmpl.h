/* trellis_search_tmpl.h: rows of a trellis, one after the other, with K known to the compiler. To be set: TARGET, ROWS (the name), LOG2_LANES,
 * and `row`, which does one. */
#define ROW(k) case k: row(w->value, bits, k, x[i], cost, other, decision); break

TARGET void ROWS(const qn_trellis_walk *w, const float *x, uint32_t rows, float *cost, float *other, uint8_t *decision)
{
    const unsigned bits = w->log2_windows - w->k;
    if (bits < LOG2_LANES) {
        qn_trellis_rows_c(w, x, rows, cost, other, decision);
        return;
    }
    for (uint32_t i = 0; i < rows; i++, decision += (size_t)1 << bits) {
        switch (w->k) {
            ROW(1);
            ROW(2);
            ROW(3);
            ROW(4);
            ROW(5);
            ROW(6);
            ROW(7);
            ROW(8);
        }
        float *swap = cost;
        cost = other;
        other = swap;
    }
}
