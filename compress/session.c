/* session.c: see session.h. */
#include "compress/session.h"
#include "base/err.h"
#include "compress/budget.h"
#include "compress/forecast.h"
#include "compress/spread.h"
#include <math.h>
#include <string.h>

static qn_code open_inputs(qn_session *s, const qn_env *env, qn_source *src, const char *statistics, qn_err *err)
{
    QN_TRY(qn_graph_open(env, src, &s->graph, err));
    if (statistics) {
        QN_TRY(qn_stats_file_open(&s->stats, env, statistics, err));
        s->has_stats = true;
        if (!s->stats.complete)
            return qn_err_in_path(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "is not complete: its calibration was stopped"), statistics);
    }
    s->budget = qn_budget_bytes(&s->recipe, src);
    return QN_OK;
}

static qn_code open_lossy(qn_session *s, const qn_env *env, qn_source *src, qn_err *err)
{
    const qn_lossy_options o = {.recipe = &s->recipe, .stats = s->has_stats ? &s->stats : NULL, .more_bits = s->more_bits, .model = s->has_model ? &s->model : NULL};
    qn_recipe_forget_hits(&s->recipe);
    return qn_lossy_open(&s->lossy, env, src, s->graph, &o, err);
}

/* Heads and embeddings that follow are limited to 8 bits, so the first answer may be a little off. */
static qn_code guess_bits(qn_session *s, const qn_env *env, qn_source *src, qn_err *err)
{
    s->recipe.all.set.bits = QN_RECIPE_BITS;
    for (unsigned round = 0; round < 2; round++) {
        QN_TRY(open_lossy(s, env, src, err));
        s->model = qn_lossy_model(s->lossy);
        s->has_model = true;
        double bits = qn_forecast_bits(src, s->lossy, s->recipe.all.set.bits, s->budget);
        if (s->recipe.all.codec && strcmp(s->recipe.all.codec, "grid") == 0)
            bits = floor(bits);
        qn_lossy_close(s->lossy);
        s->lossy = NULL;
        s->recipe.all.set.bits = rint(1e3 * fmax(0.3, fmin(8, bits))) / 1e3;
    }
    return QN_OK;
}

static qn_code find_bits(qn_session *s, const qn_env *env, qn_source *src, const qn_session_options *o, qn_err *err)
{
    const qn_budget b = {.src = src, .graph = s->graph, .stats = s->has_stats ? &s->stats : NULL, .arena = &s->arena, .pack = o->pack, .n_bytes = s->budget,
                         .tried = o->tried, .ctx = o->ctx};
    s->has_model = true;
    return qn_budget_find(&b, env, &s->recipe, &s->model, &s->more_bits, err);
}

qn_code qn_session_open(qn_session *s, const qn_env *env, qn_source *src, const qn_session_options *o, qn_err *err)
{
    qn_arena_init(&s->arena, env->alloc);
    QN_TRY(open_inputs(s, env, src, o->statistics, err));
    if (s->budget || (qn_spread_applies(&s->recipe, s->has_stats ? &s->stats : NULL) && !o->guess))
        QN_TRY(o->guess ? guess_bits(s, env, src, err) : find_bits(s, env, src, o, err));
    return open_lossy(s, env, src, err);
}

void qn_session_close(qn_session *s)
{
    qn_lossy_close(s->lossy);
    qn_stats_file_close(&s->stats);
    qn_graph_close(s->graph);
    qn_recipe_release(&s->recipe);
    qn_arena_release(&s->arena);
    *s = QN_SESSION_CLOSED;
}
