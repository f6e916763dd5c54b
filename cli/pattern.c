/* pattern.c: see pattern.h. */
#include "cli/pattern.h"
#include "base/err.h"
#include "base/pattern.h"
#include "cli/suggest.h"
#include <string.h>

qn_code qn_patterns_open(qn_patterns *p, const qn_alloc *alloc, const qn_texts *texts, qn_err *err)
{
    *p = (qn_patterns){.texts = texts, .alloc = alloc};
    p->used = qn_mem_zeros(alloc, texts->n, sizeof *p->used, err);
    p->items = p->used ? qn_mem_zeros(alloc, texts->n, sizeof *p->items, err) : NULL;
    qn_code rc = p->items ? QN_OK : QN_E_MEMORY;
    for (unsigned i = 0; i < texts->n && rc == QN_OK; i++) {
        qn_err why;
        qn_err_clear(&why);
        rc = qn_pattern_open(&p->items[i], texts->items[i], &why);
        if (rc != QN_OK)
            rc = QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "--tensor %s", why.text);
    }
    if (rc != QN_OK)
        qn_patterns_release(p);
    return rc;
}

bool qn_patterns_want(void *ctx, const char *name)
{
    const qn_patterns *p = ctx;
    bool any = p->texts->n == 0;
    for (unsigned i = 0; i < p->texts->n; i++) {
        const bool hit = qn_pattern_match(&p->items[i], name);
        p->used[i] = p->used[i] || hit;
        any = any || hit;
    }
    return any;
}

qn_code qn_patterns_check(qn_patterns *p, qn_source *const *sources, unsigned n_sources, qn_hint *hint, qn_err *err)
{
    for (unsigned s = 0; s < n_sources && p->texts->n; s++)
        for (uint64_t i = 0; i < sources[s]->n_tensors; i++)
            (void)qn_patterns_want(p, sources[s]->tensors[i].name);
    for (unsigned i = 0; i < p->texts->n; i++) {
        if (p->used[i])
            continue;
        const char *text = p->texts->items[i];
        qn_suggest near = qn_suggest_for(text, strlen(text));
        for (unsigned s = 0; s < n_sources; s++)
            for (uint64_t k = 0; k < sources[s]->n_tensors; k++)
                qn_suggest_try(&near, sources[s]->tensors[k].name);
        if (near.best)
            qn_hint_set(hint, "did you mean '%s'?", near.best);
        else
            qn_hint_set(hint, "'quern inspect' lists the names; * and ? stand for anything, re: begins a regular expression");
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "--tensor '%s' matches none of the tensors", text);
    }
    return QN_OK;
}

void qn_patterns_release(qn_patterns *p)
{
    for (unsigned i = 0; p->items && i < p->texts->n; i++)
        qn_pattern_close(&p->items[i]);
    qn_mem_put(p->alloc, p->items);
    qn_mem_put(p->alloc, p->used);
    p->items = NULL;
    p->used = NULL;
}
