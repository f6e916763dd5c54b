/* test_cut.c: what a cut leaves of weights, against plain loops over every element. Groups are made by hand. */
#include "analysis/groups/cut.h"
#include "base/io.h"
#include "tests/support/ok.h"
#include "tests/support/testkit.h"
#include <string.h>

static qn_err err;
static qn_env env;

/* Two families over three values: w (4, 6) with rows of family 0 and columns of family 1, b (4) with family 0, and v (5), untouched. Family 1 has two
 * columns a group. */
static qn_value values[3];
static const uint32_t one_start[] = {0, 1, 2, 3, 4}, one_index[] = {0, 1, 2, 3};
static const uint32_t two_start[] = {0, 2, 4, 6}, two_index[] = {0, 3, 1, 4, 2, 5};
static const qn_member rows[] = {{0, 0, QN_MEMBER_PRODUCER, one_start, one_index}, {1, 0, QN_MEMBER_PARAMETER, one_start, one_index}};
static const qn_member cols[] = {{0, 1, QN_MEMBER_CONSUMER, two_start, two_index}};
static qn_family families[] = {{.name = "a", .n_groups = 4, .n_members = 2, .members = rows}, {.name = "b", .n_groups = 3, .n_members = 1, .members = cols}};
static qn_source_tensor tensors[3];
static qn_source source = {.tensors = tensors, .n_tensors = 3};
static qn_graph graph = {.values = values, .n_values = 3, .source = &source};
static const int64_t dims[3 * QN_ARRAY_RANK_MAX] = {[0] = 4, [1] = 6, [QN_ARRAY_RANK_MAX] = 4, [2 * QN_ARRAY_RANK_MAX] = 5};
static const int64_t weight_dims[3][2] = {{4, 6}, {4, 0}, {5, 0}};
static const uint8_t rank[] = {2, 1, 1};
static qn_groups groups = {.graph = &graph, .families = families, .n_families = 2, .dims = dims, .rank = rank};
static qn_cut *cut;

static void set_up(void)
{
    OK(qn_env_init(&env, &err));
    for (unsigned i = 0; i < 3; i++) {
        values[i] = (qn_value){.name = &"wbv"[i], .kind = QN_VALUE_WEIGHT, .dtype = QN_F32, .rank = rank[i], .dims = weight_dims[i], .tensor = i};
        tensors[i].n_bytes = 2 * (i == 0 ? 24 : i == 1 ? 4 : 5); /* half floats */
    }
    OK(qn_cut_new(&env, &groups, &cut, &err));
    qn_cut_set(cut, 0, 2, true);
    qn_cut_set(cut, 1, 1, true);
}

static void tear_down(void)
{
    qn_cut_free(cut);
}

TestSuite(cut, .init = set_up, .fini = tear_down);

/* Row 2 goes, and columns 1 and 4. */
static bool stays(unsigned r, unsigned c)
{
    return r != 2 && c != 1 && c != 4;
}

Test(cut, zeroes_what_goes)
{
    float w[24], b[4] = {1, 1, 1, 1};
    for (unsigned i = 0; i < 24; i++)
        w[i] = (float)i + 1;
    OK(qn_cut_zero(cut, 0, w, &err));
    OK(qn_cut_zero(cut, 1, b, &err));
    for (unsigned i = 0; i < 24; i++)
        cr_expect_eq(w[i], stays(i / 6, i % 6) ? (float)i + 1 : 0.0f, "%u", i);
    cr_expect(b[0] == 1 && b[1] == 1 && b[2] == 0 && b[3] == 1);
    cr_expect(qn_cut_touches(cut, 0) && qn_cut_touches(cut, 1) && !qn_cut_touches(cut, 2));
}

Test(cut, takes_what_stays)
{
    uint16_t full[24], out[24];
    int64_t got[QN_ARRAY_RANK_MAX];
    for (unsigned i = 0; i < 24; i++)
        full[i] = (uint16_t)(100 + i);
    OK(qn_cut_take(cut, 0, 2, full, out, got, &err));
    cr_assert(got[0] == 3 && got[1] == 4);
    unsigned n = 0;
    for (unsigned i = 0; i < 24; i++)
        if (stays(i / 6, i % 6))
            cr_expect_eq(out[n++], 100 + i);
    cr_expect_eq(n, 12);
    OK(qn_cut_dims(cut, 0, got, &err));
    cr_expect(got[0] == 3 && got[1] == 4);
}

Test(cut, counts_what_is_left)
{
    qn_cost c;
    OK(qn_cut_cost(cut, &c, &err));
    cr_expect_eq(c.params, 12 + 3 + 5);
    cr_expect_eq(c.bytes, 2 * (12 + 3 + 5));
}

Test(cut, can_be_taken_back_and_copied)
{
    qn_cut *other;
    qn_cost c;
    OK(qn_cut_new(&env, &groups, &other, &err));
    qn_cut_copy(other, cut);
    qn_cut_set(cut, 0, 2, false);
    qn_cut_set(cut, 0, 2, false); /* twice is once */
    qn_cut_set(cut, 1, 1, false);
    cr_expect_eq(cut->n_gone[0] + cut->n_gone[1], 0);
    OK(qn_cut_cost(cut, &c, &err));
    cr_expect_eq(c.params, 24 + 4 + 5);
    OK(qn_cut_cost(other, &c, &err));
    cr_expect_eq(c.params, 20);
    qn_cut_free(other);
}

Test(cut, something_must_stay)
{
    OK(qn_cut_check(cut, &err));
    for (uint32_t i = 0; i < 4; i++)
        qn_cut_set(cut, 0, i, true);
    cr_expect_eq(qn_cut_check(cut, &err), QN_E_INPUT);
    cr_expect(strstr(err.text, "nothing would be left of axis 0 of 'wbv'"), "%s", err.text);
}
