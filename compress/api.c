/* api.c: the calls of quern/quern.h: settings become an env, paths become sources. */
#include "base/err.h"
#include "compress/session.h"
#include "formats/quern/source.h"
#include "quern/quern.h"
#include <string.h>

struct call {
    qn_env env;
    qn_pack_settings set;
    atomic_int cancel;
};

static void on_progress(void *ctx, const char *what, uint64_t done_bytes, uint64_t total_bytes)
{
    struct call *c = ctx;
    if (c->set.progress(c->set.progress_ctx, what, done_bytes, total_bytes) != 0)
        atomic_store_explicit(&c->cancel, 1, memory_order_relaxed);
}

static qn_code call_init(struct call *c, const qn_pack_settings *set, qn_err *err)
{
    const qn_pack_settings defaults = QN_PACK_SETTINGS_INIT;
    if (set && set->struct_bytes != sizeof *set)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "settings of %zu bytes found, %zu expected: begin with "
                                                      "QN_PACK_SETTINGS_INIT", set->struct_bytes, sizeof *set);
    c->set = set ? *set : defaults;
    if (c->set.level == 0)
        c->set.level = QN_PACK_DENSE;
    if (c->set.level < QN_PACK_FAST || c->set.level > QN_PACK_MAX)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "level %d: allowed are 1 to 3", (int)c->set.level);
    QN_TRY(qn_env_init(&c->env, err));
    atomic_init(&c->cancel, 0);
    c->env.alloc = c->set.alloc;
    c->env.memory_bytes = c->set.memory_bytes;
    c->env.cancel = &c->cancel;
    if (c->set.n_threads)
        c->env.n_threads = c->set.n_threads;
    if (c->set.progress) {
        c->env.progress = on_progress;
        c->env.progress_ctx = c;
    }
    return QN_OK;
}

/* The base first: a packed source may need it. */
static qn_code open_both(const struct call *c, const char *input, qn_source **src, qn_source **base, qn_err *err)
{
    *src = *base = NULL;
    if (c->set.base)
        QN_TRY(qn_source_open(&c->env, c->set.base, base, err));
    const qn_code rc = qn_source_open(&c->env, input, src, err);
    if (rc != QN_OK) {
        qn_source_close(*base);
        *base = NULL;
    }
    return rc;
}

/* What the recipe asks for; *s stays closed without one. */
static qn_code open_session(qn_session *s, const struct call *c, qn_source *src, const qn_pack_options *opt, qn_arena *arena, qn_err *err)
{
    if (!c->set.recipe)
        return c->set.statistics ? QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "statistics go with a recipe") : QN_OK;
    QN_TRY(qn_recipe_parse(&s->recipe, c->set.recipe, strlen(c->set.recipe), "recipe", arena, err));
    QN_TRY(qn_recipe_check(&s->recipe, err));
    if (!qn_recipe_is_lossy(&s->recipe))
        return QN_OK;
    if (c->set.base)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "a base does not go with an approximation");
    const qn_session_options o = {.statistics = c->set.statistics, .pack = opt};
    return qn_session_open(s, &c->env, src, &o, err);
}

static qn_code pack(const struct call *c, qn_source *src, qn_source *base, const char *output, qn_pack_totals *totals, qn_err *err)
{
    qn_pack_options opt = {.level = (qn_level)c->set.level, .base = base, .overwrite = c->set.overwrite, .restart = c->set.restart};
    qn_session s = QN_SESSION_CLOSED;
    qn_pack_report report;
    qn_arena arena;
    qn_arena_init(&arena, c->env.alloc);
    qn_code rc = open_session(&s, c, src, &opt, &arena, err);
    if (rc == QN_OK) {
        opt.lossy = s.lossy;
        rc = qn_pack(&c->env, src, output, &opt, &report, err);
    }
    if (rc == QN_OK) {
        if (totals)
            *totals = (qn_pack_totals){.source_bytes = report.source_bytes, .packed_bytes = report.packed_bytes,
                                       .n_tensors = src->n_tensors, .n_chunks = report.n_chunks,
                                       .n_shared = report.n_shared, .n_resumed = report.n_resumed};
        qn_pack_report_release(&c->env, &report);
    }
    qn_session_close(&s);
    qn_arena_release(&arena);
    return rc;
}

qn_code qn_pack_file(const char *input, const char *output, const qn_pack_settings *settings, qn_pack_totals *totals,
                     qn_err *err)
{
    struct call c;
    qn_source *src, *base;
    QN_TRY(call_init(&c, settings, err));
    QN_TRY(open_both(&c, input, &src, &base, err));
    const qn_code rc = pack(&c, src, base, output, totals, err);
    qn_source_close(src);
    qn_source_close(base);
    return rc;
}

qn_code qn_unpack_file(const char *input, const char *output, const qn_pack_settings *settings, qn_err *err)
{
    struct call c;
    qn_source *src, *base;
    uint64_t n_bytes;
    QN_TRY(call_init(&c, settings, err));
    QN_TRY(open_both(&c, input, &src, &base, err));
    if (base && qn_quern_source_reader(src))
        qn_quern_source_set_base(src, base);
    const qn_unpack_options opt = {.overwrite = c.set.overwrite};
    const qn_code rc = qn_unpack(&c.env, src, output, &opt, &n_bytes, err);
    qn_source_close(src);
    qn_source_close(base);
    return rc;
}

qn_code qn_verify_file(const char *path, const qn_pack_settings *settings, qn_err *err)
{
    struct call c;
    qn_source *src, *base;
    QN_TRY(call_init(&c, settings, err));
    QN_TRY(open_both(&c, path, &src, &base, err));
    if (base && qn_quern_source_reader(src))
        qn_quern_source_set_base(src, base);
    const qn_code rc = qn_verify(&c.env, src, NULL, NULL, err);
    qn_source_close(src);
    qn_source_close(base);
    return rc;
}
