/* lm_data.c: see lm_data.h. */
#include "cli/lm_data.h"
#include "base/err.h"
#include "base/num.h"
#include <inttypes.h>
#include <string.h>

enum { CONTEXT = 512 };

static bool is_tokens(const char *path)
{
    const size_t n = strlen(path);
    return n > 4 && !strcmp(path + n - 4, ".npy");
}

qn_code qn_lm_data_unused(const qn_cli *cli, const qn_lm_data_args *a, qn_err *err)
{
    if (a->context || a->documents || a->tokenizer)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: --%s says how a text is cut, and --inputs is none", cli->command->name,
                       a->context ? "context" : a->documents ? "documents" : "tokenizer");
    return QN_OK;
}

qn_code qn_lm_data_open(qn_cli *cli, const qn_lm_data_args *a, qn_source *model, const qn_graph *g, bool score_all, qn_tokenizer **tok,
                        qn_corpus *c, qn_err *err)
{
    *tok = NULL;
    if (!is_tokens(a->data)) {
        if (a->tokenizer)
            QN_TRY(qn_tokenizer_open(&cli->env, a->tokenizer, tok, err));
        else {
            const qn_code rc = qn_tokenizer_of_source(&cli->env, model, tok, err);
            if (rc == QN_E_UNSUPPORTED)
                qn_hint_set(&cli->hint, "--tokenizer FILE names one, and --data takes token ids as .npy");
            QN_TRY(rc);
        }
    }
    const qn_corpus_options o = {
        .context = a->context ? a->context : g->context ? qn_min_u64(g->context, CONTEXT) : CONTEXT,
        .max_chunks = a->chunks, .separator = a->documents ? a->separator : NULL, .field = a->field, .score_all = score_all};
    const qn_code rc = qn_corpus_open(&cli->env, a->data, *tok, g->n_vocab, &o, c, err);
    if (rc != QN_OK) {
        qn_tokenizer_close(*tok);
        *tok = NULL;
        return rc;
    }
    if (g->context && c->context > g->context)
        qn_cli_note(cli, "warning: the model was made for %" PRIu64 " tokens at a time, it is shown %" PRIu64, g->context, c->context);
    if (a->chunks && c->n_chunks < a->chunks)
        qn_cli_note(cli, "note: the data has %" PRIu64 " %s, not %" PRIu64, c->n_chunks, c->documents ? "documents" : "chunks", a->chunks);
    return QN_OK;
}
