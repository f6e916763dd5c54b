/* fuzz_recipe.c: recipes of any bytes: read or refused with a line, and what is read can be asked about any tensor. */
#include "base/err.h"
#include "compress/recipe.h"
#include "tests/fuzz/fuzz.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    qn_recipe r;
    qn_err err;
    qn_arena arena;
    qn_err_clear(&err);
    qn_arena_init(&arena, NULL);
    const qn_code rc = qn_recipe_parse(&r, (const char *)p, n, "recipe", &arena, &err);
    QF_CHECK(rc == QN_OK || rc == QN_E_USAGE);
    QF_CHECK(rc == QN_OK || (err.text[0] && r.n_rules == 0));
    if (rc == QN_OK && qn_recipe_check(&r, NULL) == QN_OK)
        for (unsigned role = QN_ROLE_LINEAR; role < QN_N_ROLES; role++) {
            const qn_recipe_choice c = qn_recipe_choose(&r, "model.layers.0.mlp.down_proj.weight", (qn_lossy_role)role, 0.3);
            QF_CHECK(c.codec && c.set.bits > 0);
        }
    if (rc == QN_OK)
        QF_CHECK(qn_recipe_text(&r, true, &arena, NULL));
    qn_recipe_release(&r);
    qn_arena_release(&arena);
    return 0;
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const char *const seeds[] = {
        ("codec: grid\nbits: 3\ngroup: 64\nasymmetric: yes\nhead: {bits: 6}\nembedding: {codec: ect, bits: 5.5}\n"
        "tensors:\n  - match: '*.down*.weight'\n    bits: 4\n  - {match: 're:^model[.]', codec: ect, states: 8}\n"),
        "codec: ect\nsize: 40MB\norder: natural\ndamping: 0.01\nfeedback: no\n",
        "codec: pvq\nbits_per_weight: 2.8\ntensors: [{match: \"a?\", codec: lossless}]\n",
    };
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++)
        emit(ctx, (const uint8_t *)seeds[i], strlen(seeds[i]));
}
