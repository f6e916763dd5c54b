/* test_wish.c: what pruning can be told, and what it cannot. */
#include "compress/recipe.h"
#include "tests/support/ok.h"
#include <string.h>

static qn_err err;

static qn_code parse(qn_recipe *r, qn_arena *arena, const char *text)
{
    qn_err_clear(&err);
    const qn_code rc = qn_recipe_parse(r, text, strlen(text), "r.yaml", arena, &err);
    return rc == QN_OK ? qn_recipe_check(r, &err) : rc;
}

Test(wish, of_a_recipe)
{
    qn_arena arena;
    qn_recipe r;
    char text[128];
    qn_arena_init(&arena, NULL);
    OK(parse(&r, &arena, "codec: ect\nbits: 3\nprune: {ratio: 0.3, by: macs, allocate: evolve, generations: 5, saliency: wanda, refit: no, multiple: 8, "
                         "keep: ['*.head.*', 're:^x'], recover: 40, gradual: yes, layout: per-layer}\n"));
    const qn_prune_wish *w = &r.prune;
    cr_expect(w->ratio == 0.3 && w->by == QN_BUDGET_MACS && w->allocate == QN_ALLOCATE_EVOLVE && w->saliency == QN_SALIENCY_WANDA);
    cr_expect(w->no_refit && w->multiple == 8 && w->recover == 40 && w->gradual && w->per_layer && w->generations == 5 && !w->inexact);
    cr_assert_eq(w->n_keep, 2);
    cr_expect_str_eq(w->keep[0], "*.head.*");
    cr_expect_str_eq(w->keep[1], "re:^x");
    (void)qn_prune_wish_text(w, text, sizeof text);
    cr_expect_str_eq(text, "prune 0.3 of macs, evolve, wanda, no refit, recover 40 gradual");
    cr_expect_eq(strncmp(qn_recipe_text(&r, false, &arena, &err), "prune 0.3 of macs, evolve, wanda, no refit, recover 40 gradual; ect bits=3", 73), 0);
    qn_recipe_release(&r);
    OK(parse(&r, &arena, "codec: ect\n"));
    cr_expect(r.prune.ratio == 0 && r.prune.by == QN_BUDGET_PARAMS && r.prune.allocate == QN_ALLOCATE_CURVES);
    qn_recipe_release(&r);
    qn_arena_release(&arena);
}

Test(wish, refused)
{
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"prune: 0.3\n", "found no list of 'key: value'"},
        {"prune: {ratio: 1.5}\n", "ratio: found '1.5', allowed are 0 to 1"},
        {"prune: {ratio: 1}\n", "the ratio must be between 0 and 1"},
        {"prune: {ratio: -0.1}\n", "ratio: found '-0.1'"},
        {"prune: {ratio: nan}\n", "ratio: found 'nan'"},
        {"prune: {ratio: 0.5, by: weight}\n", "by: found 'weight', allowed are groups, params, macs, bytes and latency"},
        {"prune: {ratio: 0.5, saliency: best}\n", "saliency: found 'best'"},
        {"prune: {ratio: 0.5, refit: maybe}\n", "refit: found 'maybe', allowed are no and yes"},
        {"prune: {ratio: 0.5, ratio: 0.6}\n", "'ratio' is given twice"},
        {"prune: {ratio: 0.5, sparsity: 0.6}\n", "prune has no setting called 'sparsity'"},
        {"prune: {ratio: 0.5, multiple: 2.5}\n", "multiple: found '2.5', allowed are whole numbers"},
        {"prune: {ratio: 0.5, gradual: yes}\n", "gradual goes with recover"},
        {"prune: {ratio: 0.5, generations: 4}\n", "generations go with allocate=evolve"},
        {"prune: {ratio: 0.5, keep: [[a]]}\n", "keep: found no single value"},
        {"prune: {ratio: 0.5, layout: mixed}\n", "layout: found 'mixed'"},
    };
    qn_arena arena;
    qn_arena_init(&arena, NULL);
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        qn_recipe r;
        cr_expect_eq(parse(&r, &arena, cases[i].text), QN_E_USAGE, "%s", cases[i].text);
        cr_expect(strstr(err.text, cases[i].words), "%s: %s", cases[i].text, err.text);
        qn_recipe_release(&r);
    }
    qn_arena_release(&arena);
}
