/* test_vptq.c: a solve with `vptq` has one book, short numbers and no scales of strips, and says of the indices what its decoder says of the weights; what is
 * written holds just that; codes of any other solve are not taken for such. */
#include "base/half.h"
#include "base/num.h"
#include "compress/export/codes.h"
#include "compress/export/run.h"
#include "tests/support/made.h"
#include "tests/support/ok.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL QT_SOURCE_ROOT "/testdata/stories260k-bf16"

static void run_export(const char *in, const char *out, const char *keep, double bits, const char *variant, qn_export_row *row)
{
    qn_err err = {0};
    const qn_env *env = qt_made_env(2);
    const qn_export_options o = {.wish = {.bits = bits}, .keep = keep};
    const qn_export_request r = {&qn_export_vptq, variant, out};
    qn_export_run x = {0};
    qn_source *s = qt_made_open(env, in);
    OK(qn_export_open(&x, env, s, &r, 1, &o, &err));
    OK(qn_export_all(&x, &err));
    for (uint64_t i = 0; i < x.jobs[0].n_rows; i++)
        if (!strcmp(x.jobs[0].rows[i].name, "model.layers.2.mlp.up_proj.weight")) {
            *row = x.jobs[0].rows[i];
            cr_assert_not(row->rounded_again);
            cr_assert_null(row->why);
        }
    qn_export_close(&x);
    qn_source_close(s);
}

static void pack_with(const char *out, const qn_quant_settings *set)
{
    qn_err err = {0};
    qn_session s = QN_SESSION_CLOSED;
    const qn_env *env = qt_made_env(2);
    qn_source *src = qt_made_open(env, MODEL);
    const qn_session_options so = {0};
    s.recipe = QN_RECIPE_EMPTY;
    s.recipe.all = (qn_recipe_part){.codec = "vq", .set = *set};
    OK(qn_session_open(&s, env, src, &so, &err));
    qn_pack_options po = {.lossy = s.lossy, .overwrite = true};
    qn_pack_report report = {0};
    OK(qn_pack(env, src, out, &po, &report, &err));
    qn_pack_report_release(env, &report);
    qn_session_close(&s);
    qn_source_close(src);
}

static bool is_short(float v)
{
    return qn_f16_to_f32(qn_f32_to_f16(v)) == v && qn_bf16_to_f32(qn_f32_to_bf16(v)) == v;
}

/* Every linear layer: weights by indices, computed here, against decoded ones. Returns how many. */
static unsigned check_codes(qn_source *s)
{
    qn_err err = {0};
    qn_arena keep, scratch;
    unsigned n = 0;
    qn_arena_init(&keep, NULL);
    qn_arena_init(&scratch, NULL);
    for (uint64_t i = 0; i < s->n_tensors; i++) {
        qn_codes c;
        qn_codes_book b;
        bool is;
        OK(qn_codes_open(&c, s, i, &scratch, &err));
        OK(qn_codes_vq(&c, &b, &is, &keep, &scratch, &err));
        if (!is)
            continue;
        n++;
        const unsigned bits = b.main_bits + b.residual_bits;
        uint8_t *codes = calloc(b.n_strips, b.strip_bytes + 8);
        float *w = malloc((size_t)c.rows * c.cols * sizeof *w);
        OK(qn_codes_vq_strips(&c, &b, 0, b.n_strips, codes, b.strip_bytes + 8, &scratch, &err));
        OK(qn_codes_dense(&c, 0, c.rows, w, &scratch, &err));
        for (uint32_t r = 0; r < c.rows; r++)
            for (uint32_t j = 0; j < c.cols; j++) {
                const uint8_t *strip = codes + r / b.v * (b.strip_bytes + 8);
                uint32_t index = 0;
                for (unsigned k = 0; k < bits; k++)
                    index |= (uint32_t)(strip[(j * bits + k) / 8] >> (j * bits + k) % 8 & 1) << k;
                float v = b.main[(index & ((1u << b.main_bits) - 1)) * b.v + r % b.v];
                v += b.residual ? b.residual[(index >> b.main_bits) * b.v + r % b.v] : 0;
                v = qn_bf16_to_f32(qn_f32_to_bf16(v * b.scale[j]));
                cr_assert(v == w[(size_t)r * c.cols + j], "%s: row %u, column %u", s->tensors[i].name, r, j);
                cr_assert(is_short(b.scale[j]));
            }
        for (size_t k = 0; k < (size_t)b.v << b.main_bits; k++)
            cr_assert(is_short(b.main[k]) && (b.main[k] != 0 || !signbit(b.main[k])));
        free(codes);
        free(w);
    }
    qn_arena_release(&keep);
    qn_arena_release(&scratch);
    return n;
}

Test(vptq, solve_and_file_say_the_same)
{
    const char *out = qt_made_path("vptq"), *solve = qt_made_path("solve.quern"), *again = qt_made_path("again");
    qn_export_row row = {0};
    run_export(MODEL, out, solve, 5, "", &row);
    cr_assert(row.given[0] == 'v' && 8.0 * (double)row.n_bytes / (172 * 64) <= 5, "%s, %u bytes", row.given, (unsigned)row.n_bytes);
    qn_source *s = qt_made_open(qt_made_env(1), solve), *f = qt_made_open(qt_made_env(1), out);
    cr_assert_eq(check_codes(s), 35u);
    qn_err err = {0};
    qn_arena ar;
    qn_arena_init(&ar, NULL);
    qn_codes c;
    qn_codes_book b;
    bool is;
    OK(qn_codes_open(&c, s, qn_source_tensor_find(s, "model.layers.2.mlp.up_proj.weight"), &ar, &err));
    OK(qn_codes_vq(&c, &b, &is, &ar, &ar, &err));
    const uint64_t at = qn_source_tensor_find(f, "model.layers.2.mlp.up_proj.weight_scale");
    uint8_t two[128];
    OK(qn_source_tensor_read(f, at, 0, sizeof two, two, &err));
    for (unsigned j = 0; j < 64; j++)
        cr_assert(qn_bf16_to_f32(qn_load16(two + 2 * j)) == b.scale[j]);
    cr_assert_eq(qn_source_tensor_find(f, "model.layers.2.mlp.up_proj.weight"), UINT64_MAX);
    run_export(solve, again, NULL, 5, "", &row); /* taken over: nothing is solved again */
    qn_source *g = qt_made_open(qt_made_env(1), again);
    cr_assert_eq(f->n_tensors, g->n_tensors);
    qn_arena_release(&ar);
    qn_source_close(s);
    qn_source_close(f);
    qn_source_close(g);
}

Test(vptq, residual_books)
{
    const char *solve = qt_made_path("v6.quern");
    pack_with(solve, &(qn_quant_settings){.bits = 6, .vector = 2, .vptq = true});
    qn_source *s = qt_made_open(qt_made_env(1), solve);
    cr_assert_geq(check_codes(s), 35u);
    qn_source_close(s);
}

Test(vptq, other_solves_are_not_taken_over)
{
    const char *solve = qt_made_path("plain.quern");
    pack_with(solve, &(qn_quant_settings){.bits = 4});
    qn_source *s = qt_made_open(qt_made_env(1), solve);
    cr_assert_eq(check_codes(s), 0u);
    qn_source_close(s);
}
