/* kern_grid_mul_tmpl.h: rows with the width of codes known to the compiler. To be set: TARGET, and `all_rows`, which does them. */
TARGET static void rows(const qn_grid_mul *m, const qn_grid_x *x, uint32_t r0, uint32_t r1, float *y)
{
    switch (m->bits) {
    case 2: all_rows(2, m, x, r0, r1, y); break;
    case 3: all_rows(3, m, x, r0, r1, y); break;
    case 4: all_rows(4, m, x, r0, r1, y); break;
    case 5: all_rows(5, m, x, r0, r1, y); break;
    case 6: all_rows(6, m, x, r0, r1, y); break;
    case 7: all_rows(7, m, x, r0, r1, y); break;
    default: all_rows(8, m, x, r0, r1, y); break;
    }
}
