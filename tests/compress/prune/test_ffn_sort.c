/* test_ffn_sort.c: sorted feed-forward channels: the same model, and its first channels are the model without the others. */
#include "compress/prune/ffn_sort.h"
#include "tests/support/lm_cut.h"
#include "tests/support/lm_made.h"
#include "tests/support/ok.h"

static const int64_t tokens[] = {1, 5, 10, 0, 3, 7, 7, 2, 9};
enum { TOKENS = sizeof tokens / sizeof tokens[0] };

Test(ffn_sort, a_prefix_is_a_model)
{
    static const uint32_t first[6] = {3, 0, 5, 2, 1, 4}, second[6] = {1, 2, 0, 4, 5, 3};
    const uint32_t *going[] = {first, NULL, second};
    qt_lm_model x = qt_lm_open(qt_lm_made("llama", qt_lm_llama_config, qt_lm_llama_tensors, 2, 1));
    qn_groups *s = qt_groups_new(x.g);
    qn_cut *before, *after;
    qn_overlay *w, *plain;
    qn_err err = {0};
    uint64_t n;
    uint32_t n_sorted;
    uint8_t can[3];
    qt_groups_add(s, "ffn", 6, "model.layers.*.mlp.gate_proj.weight/0; model.layers.*.mlp.up_proj.weight/0; model.layers.*.mlp.down_proj.weight/1", 0);
    qt_groups_add(s, "heads", 1, "model.layers.*.self_attn.o_proj.weight/1", 0);
    qt_groups_add(s, "ffn", 6, "model.layers.*.mlp.gate_proj.weight/0; model.layers.*.mlp.up_proj.weight/0; model.layers.*.mlp.down_proj.weight/1", 1);
    OK(qn_ffn_sort_can(s, can, &err));
    cr_assert(can[0] && !can[1] && can[2]);
    OK(qn_overlay_new(qt_made_env(1), x.g, &w, &err));
    OK(qn_ffn_sort_all(s, going, w, &n_sorted, &err));
    cr_assert_eq(n_sorted, 2u);
    const float *dense = qt_lm_run(x.g, NULL, tokens, TOKENS, &n), *sorted = qt_lm_run(x.g, w, tokens, TOKENS, &n);
    cr_assert_leq(qt_lm_apart(sorted, dense, n), 1e-6);
    /* the most important first: channel 4 of the first layer */
    const float *gate = w->data[qn_graph_find(x.g, "model.layers.0.mlp.gate_proj.weight")], *down = w->data[qn_graph_find(x.g, "model.layers.0.mlp.down_proj.weight")];
    float own[48];
    OK(qn_weight_from_source(qt_made_env(1), x.s, x.g, qn_graph_find(x.g, "model.layers.0.mlp.gate_proj.weight"), 0, 6, own, &err));
    for (unsigned k = 0; k < 8; k++)
        cr_assert_eq(gate[k], own[4 * 8 + k]);
    OK(qn_weight_from_source(qt_made_env(1), x.s, x.g, qn_graph_find(x.g, "model.layers.0.mlp.down_proj.weight"), 0, 8, own, &err));
    for (unsigned k = 0; k < 8; k++)
        cr_assert_eq(down[k * 6 + 5], own[k * 6 + 3]);
    /* without the last two places, and without the two that go first */
    OK(qn_cut_new(qt_made_env(1), s, &before, &err));
    OK(qn_cut_new(qt_made_env(1), s, &after, &err));
    for (uint32_t f = 0; f < 3; f += 2)
        for (uint32_t k = 0; k < 2; k++) {
            qn_cut_set(before, f, going[f][k], true);
            qn_cut_set(after, f, 5 - k, true);
        }
    plain = qt_lm_zeroed(x.g, before);
    for (uint32_t v = 0; v < x.g->n_values; v++)
        if (w->data[v])
            OK(qn_cut_zero(after, v, w->data[v], &err));
    const float *want = qt_lm_run(x.g, plain, tokens, TOKENS, &n), *found = qt_lm_run(x.g, w, tokens, TOKENS, &n);
    cr_assert_leq(qt_lm_apart(found, want, n), 1e-6);
    cr_assert_gt(qt_lm_apart(found, dense, n), 1e-3);
    qn_overlay_free(w);
    qn_overlay_free(plain);
    qn_cut_free(before);
    qn_cut_free(after);
    qt_lm_close(&x);
}
