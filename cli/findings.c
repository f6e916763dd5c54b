/* findings.c: see findings.h. */
#include "cli/findings.h"
#include "base/err.h"

static void keep(qn_findings *f, const qn_err *what)
{
    const qn_alloc *alloc = f->cli->env.alloc;
    if (f->n_kept == QN_FINDINGS_KEPT)
        return;
    qn_err *grown = qn_mem_grow(alloc, f->kept, f->n_kept, &f->cap, f->n_kept + 1, sizeof *grown, NULL);
    if (!grown)
        return; /* the count still tells */
    f->kept = grown;
    f->kept[f->n_kept++] = *what;
}

void qn_findings_add(void *ctx, const qn_err *what)
{
    qn_findings *f = ctx;
    f->n++;
    if (f->cli->common->json) {
        keep(f, what);
    } else if (!f->cli->common->quiet) {
        char line[1024];
        qn_err_line(what, line, sizeof line);
        qn_progress_clear(&f->cli->progress);
        printf("%s%s%s: %s\n", qn_term_red(&f->cli->out), f->label, qn_term_plain(&f->cli->out), line);
    }
}

void qn_findings_json(const qn_findings *f, qn_json_writer *j, const char *key)
{
    char count[64];
    qn_jw_begin(j, key, '[');
    for (uint64_t i = 0; i < f->n_kept; i++) {
        const qn_err *e = &f->kept[i];
        qn_jw_begin(j, NULL, '{');
        qn_jw_text(j, "file", e->path[0] ? e->path : NULL);
        qn_jw_text(j, "tensor", e->tensor[0] ? e->tensor : NULL);
        if (e->off != QN_NO_OFFSET)
            qn_jw_u64(j, "offset", e->off);
        qn_jw_text(j, "text", e->text);
        qn_jw_end(j, '}');
    }
    qn_jw_end(j, ']');
    snprintf(count, sizeof count, "%s_count", key);
    qn_jw_u64(j, count, f->n);
}

void qn_findings_release(qn_findings *f)
{
    qn_mem_put(f->cli->env.alloc, f->kept);
    f->kept = NULL;
}
