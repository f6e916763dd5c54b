/* pattern.c: see pattern.h. */
#include "cli/pattern.h"
#include "base/err.h"
#include "cli/suggest.h"
#include <fnmatch.h>
#include <regex.h>
#include <string.h>

static const char *regex_of(const char *text)
{
    return strncmp(text, "re:", 3) == 0 ? text + 3 : NULL;
}

qn_code qn_patterns_open(qn_patterns *p, const qn_alloc *alloc, const qn_texts *texts, qn_err *err)
{
    *p = (qn_patterns){.texts = texts, .alloc = alloc};
    p->used = qn_mem_zeros(alloc, texts->n, sizeof *p->used, err);
    regex_t *re = p->compiled = qn_mem_zeros(alloc, texts->n, sizeof *re, err);
    if (!p->used || !re) {
        qn_mem_put(alloc, p->used);
        qn_mem_put(alloc, re);
        p->compiled = NULL;
        return QN_E_MEMORY;
    }
    for (unsigned i = 0; i < texts->n; i++) {
        const char *source = regex_of(texts->items[i]);
        const int bad = source ? regcomp(&re[i], source, REG_EXTENDED | REG_NOSUB) : 0;
        if (!bad)
            continue;
        char why[160];
        regerror(bad, &re[i], why, sizeof why);
        for (unsigned k = 0; k < i; k++)
            if (regex_of(texts->items[k]))
                regfree(&re[k]);
        qn_mem_put(alloc, p->used);
        qn_mem_put(alloc, re);
        p->compiled = NULL;
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "--tensor '%s': %s", texts->items[i], why);
    }
    return QN_OK;
}

bool qn_patterns_want(void *ctx, const char *name)
{
    const qn_patterns *p = ctx;
    const regex_t *re = p->compiled;
    bool any = p->texts->n == 0;
    for (unsigned i = 0; i < p->texts->n; i++) {
        const bool hit = regex_of(p->texts->items[i]) ? regexec(&re[i], name, 0, NULL, 0) == 0
                                                      : fnmatch(p->texts->items[i], name, 0) == 0;
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
    regex_t *re = p->compiled;
    for (unsigned i = 0; re && i < p->texts->n; i++)
        if (regex_of(p->texts->items[i]))
            regfree(&re[i]);
    if (!re)
        return;
    qn_mem_put(p->alloc, re);
    qn_mem_put(p->alloc, p->used);
    p->compiled = NULL;
}
