/* Scores of tokens and the intervals over chunks, against values from closed forms and from R's and scipy's documentation of the
 * same quantities (t quantiles from the usual tables). */
#include "analysis/eval/score.h"
#include "base/err.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

Test(score, token)
{
    /* q = (1/2, 1/4, 1/4), p = (1/4, 1/4, 1/2), both shifted, which changes nothing */
    const float q[3] = {(float)log(2) + 5, 5, 5}, p[3] = {-3, -3, (float)log(2) - 3};
    qn_token_score s;
    qn_err err = {0};
    cr_assert_eq(qn_score_token(q, p, 3, 0, &s, &err), QN_OK);
    cr_assert_float_eq(s.nll, log(2), 1e-6);
    cr_assert_float_eq(s.nll_ref, log(4), 1e-6);
    cr_assert_float_eq(s.kl, 0.25 * log(2), 1e-6); /* ¼ ln(½) + ½ ln 2 */
    cr_assert_float_eq(s.dp, 0.25, 1e-6);
    cr_assert(s.top && !s.same_top);
    cr_assert_eq(qn_score_token(q, NULL, 3, 2, &s, &err), QN_OK);
    cr_assert_float_eq(s.nll, log(4), 1e-6);
    cr_assert(!s.top);
}

Test(score, equal_logits_take_the_lowest_id)
{
    const float q[4] = {0, 1, 1, 0}, p[4] = {0, 1, 0.5f, 0};
    qn_token_score s;
    cr_assert_eq(qn_score_token(q, p, 4, 1, &s, NULL), QN_OK);
    cr_assert(s.top && s.same_top);
}

Test(score, refuses_what_is_not_finite)
{
    qn_token_score s;
    float q[3] = {0, NAN, 1};
    qn_err err = {0};
    cr_assert_eq(qn_score_token(q, NULL, 3, 0, &s, &err), QN_E_INPUT);
    cr_assert(strstr(err.text, "not finite") && strstr(err.text, "token 1"), "%s", err.text);
    q[1] = INFINITY;
    cr_assert_eq(qn_score_token(q, NULL, 3, 0, &s, NULL), QN_E_INPUT);
    q[1] = -INFINITY; /* a token that cannot come: allowed, the sum is finite */
    cr_assert_eq(qn_score_token(q, NULL, 3, 0, &s, NULL), QN_OK);
}

Test(score, tokens_that_cannot_come)
{
    /* p = (½, 0, ½), q = (¼, 0, ¾): the second token adds nothing, although its logits are infinite */
    const float p[3] = {0, -INFINITY, 0}, q[3] = {0, -INFINITY, (float)log(3)}, none[2] = {-INFINITY, -INFINITY};
    qn_token_score s;
    qn_err err = {0};
    cr_assert_eq(qn_score_token(q, p, 3, 0, &s, &err), QN_OK);
    cr_assert_float_eq(s.kl, 0.5 * log(2) + 0.5 * log(2.0 / 3), 1e-6);
    /* p > 0 where q = 0: infinitely far */
    const float r[3] = {0, 0, 0};
    cr_assert_eq(qn_score_token(q, r, 3, 0, &s, &err), QN_OK);
    cr_assert(isinf(s.kl) && s.kl > 0);
    cr_assert_eq(qn_score_token(none, NULL, 2, 0, &s, &err), QN_E_INPUT);
    cr_assert_str_eq(err.text, "the model's logits are not finite: -inf for every token");
}

Test(score, student)
{
    static const struct { uint64_t df; double t; } known[] = {
        {1, 12.7062}, {2, 4.30265}, {3, 3.18245}, {4, 2.77645}, {5, 2.57058}, {9, 2.26216}, {10, 2.22814}, {29, 2.04523},
        {30, 2.04227}, {99, 1.98422}, {119, 1.98010}, {1000, 1.96234}, {20000, 1.95996}};
    for (unsigned i = 0; i < sizeof known / sizeof known[0]; i++)
        cr_assert_float_eq(qn_student95(known[i].df), known[i].t, 3e-4 + 1e-5, "df %lu: %f", (unsigned long)known[i].df, qn_student95(known[i].df));
    cr_assert_float_eq(qn_student95(29), 2.0452296, 1e-6);
}

/* Equal chunks: the ratio estimator is the plain mean with its plain standard error. */
Test(score, mean_over_chunks)
{
    qn_chunk_score c[4] = {{.n = 10, .nll = 10}, {.n = 10, .nll = 20}, {.n = 10, .nll = 30}, {.n = 10, .nll = 40}};
    const qn_estimate e = qn_mean_of(c, 4, offsetof(qn_chunk_score, nll));
    cr_assert_float_eq(e.value, 2.5, 1e-12);
    cr_assert_float_eq(e.se, sqrt(5.0 / 3 / 4), 1e-12); /* s² of 1, 2, 3, 4 is 5/3 */
    cr_assert_float_eq(e.high - e.value, 3.182446 * e.se, 1e-5);
    const qn_estimate one = qn_mean_of(c, 1, offsetof(qn_chunk_score, nll));
    cr_assert(isnan(one.se) && isnan(one.low) && isnan(one.high));
    cr_assert_float_eq(one.value, 1, 1e-12);
    /* Unequal chunks weigh by their tokens. */
    c[0].n = 30, c[0].nll = 90;
    cr_assert_float_eq(qn_mean_of(c, 2, offsetof(qn_chunk_score, nll)).value, 110.0 / 40, 1e-12);
}

Test(score, share)
{
    /* 80 of 100, spread over chunks as chance would: Wilson's interval is (0.7112, 0.8666). */
    qn_chunk_score c[10] = {{0}};
    static const uint64_t hits[10] = {8, 8, 8, 8, 8, 8, 8, 8, 8, 8};
    for (unsigned i = 0; i < 10; i++)
        c[i] = (qn_chunk_score){.n = 10, .n_same_top = hits[i]};
    qn_estimate e = qn_share_of(c, 10, true);
    cr_assert_float_eq(e.value, 0.8, 1e-12);
    cr_assert_float_eq(e.low, 0.71117, 1e-4);
    cr_assert_float_eq(e.high, 0.86663, 1e-4);
    /* All or nothing by chunk: the hundred tokens are worth ten, and the interval is wider. */
    for (unsigned i = 0; i < 10; i++)
        c[i].n_same_top = i < 8 ? 10 : 0;
    const qn_estimate wide = qn_share_of(c, 10, true);
    cr_assert_float_eq(wide.value, 0.8, 1e-12);
    cr_assert_lt(wide.low, 0.5);
}

Test(score, quantiles)
{
    float v[101];
    for (unsigned i = 0; i < 101; i++)
        v[(i * 37) % 101] = (float)i;
    cr_assert_float_eq(qn_quantile(v, 101, 0.5), 50, 1e-12);
    cr_assert_float_eq(qn_quantile(v, 101, 0), 0, 1e-12);
    cr_assert_float_eq(qn_quantile(v, 101, 1), 100, 1e-12);
    cr_assert_float_eq(qn_quantile(v, 101, 0.955), 95.5, 1e-9);
    float same[9] = {2, 2, 2, 2, 2, 2, 2, 2, 2}, two[2] = {3, 1};
    cr_assert_float_eq(qn_quantile(same, 9, 0.3), 2, 1e-12);
    cr_assert_float_eq(qn_quantile(two, 2, 0.25), 1.5, 1e-12);
    cr_assert(isnan(qn_quantile(two, 0, 0.5)));
}
