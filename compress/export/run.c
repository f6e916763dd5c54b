/* run.c: see run.h. */
#include "compress/export/run.h"
#include "base/err.h"
#include "base/num.h"
#include "formats/quern/source.h"
#include "runtime/reader.h"
#include <string.h>

/* --- planning ------------------------------------------------------------------------------------------------------- */

static bool is_approximated(qn_source *s)
{
    const qn_reader *r = qn_quern_source_reader(s);
    return r && qn_reader_property(r, "lossy");
}

/* What the user says beside the target: how to feed back, and rules, which come last and so win. */
static qn_code add_wishes(qn_export_run *x, qn_recipe *r, qn_err *err)
{
    const qn_recipe *from = x->o->rules;
    if (!from)
        return QN_OK;
    r->order = from->order;
    r->damping = from->damping;
    r->no_feedback = from->no_feedback;
    for (uint32_t i = 0; i < from->n_rules; i++)
        QN_TRY(qn_recipe_add(r, from->rules[i].match.text, &from->rules[i].part, &x->arena, err));
    return QN_OK;
}

static qn_code open_session(qn_export_run *x, qn_session *s, qn_recipe *r, qn_err *err)
{
    const qn_session_options so = {.statistics = x->o->statistics};
    *s = QN_SESSION_CLOSED;
    s->recipe = *r;
    *r = QN_RECIPE_EMPTY;
    if (s != &x->solves[0].session) { /* the model was read for it once */
        s->model = qn_lossy_model(x->solves[0].session.lossy);
        s->has_model = true;
    }
    return qn_session_open(s, x->env, x->input, &so, err);
}

/* Finds the solve that has this recipe, or adds it. The recipe is taken over. */
static qn_code need_solve(qn_export_run *x, uint32_t job, qn_recipe *r, qn_err *err)
{
    const char *text = qn_recipe_text(r, x->o->statistics != NULL, &x->arena, err);
    if (!text)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < x->n_solves; i++)
        if (strcmp(x->solves[i].recipe, text) == 0) {
            x->solve_of[job] = i + 1;
            return QN_OK;
        }
    qn_export_solve *s = &x->solves[x->n_solves++];
    *s = (qn_export_solve){.recipe = text, .session = QN_SESSION_CLOSED};
    x->solve_of[job] = x->n_solves;
    return open_session(x, &s->session, r, err);
}

static qn_code plan_one(qn_export_run *x, uint32_t i, qn_err *err)
{
    qn_recipe r = QN_RECIPE_EMPTY;
    qn_export_job *j = &x->jobs[i];
    bool holds = false;
    qn_code rc = x->targets[i]->plan(j, &r, err);
    if (rc == QN_OK && qn_recipe_is_lossy(&r) && is_approximated(x->input) && x->targets[i]->holds && !(x->o->rules && x->o->rules->n_rules))
        rc = x->targets[i]->holds(j, &holds, err);
    if (rc == QN_OK && qn_recipe_is_lossy(&r) && !holds) {
        if (!x->graph) /* what is to be rounded cannot be told */
            rc = (*err = x->why).code;
        if (rc == QN_OK)
            rc = add_wishes(x, &r, err);
        if (rc == QN_OK)
            rc = qn_recipe_check(&r, err);
        if (rc == QN_OK)
            rc = need_solve(x, i, &r, err);
        if (rc == QN_OK && is_approximated(x->input))
            qn_export_say(j, "the weights were approximated before, and are rounded again: export from the dense model is better");
    }
    qn_recipe_release(&r);
    return rc;
}

static qn_code allocate(qn_export_run *x, uint32_t n, qn_err *err)
{
    x->jobs = qn_arena_get(&x->arena, (n + 1) * sizeof *x->jobs, 8, err);
    x->targets = qn_arena_get(&x->arena, (n + 1) * sizeof *x->targets, 8, err);
    x->solve_of = qn_arena_get(&x->arena, (n + 1) * sizeof *x->solve_of, 8, err);
    x->solves = qn_arena_get(&x->arena, (n + 1) * sizeof *x->solves, 8, err);
    if (!x->jobs || !x->targets || !x->solve_of || !x->solves)
        return QN_E_MEMORY;
    memset(x->solve_of, 0, (n + 1) * sizeof *x->solve_of);
    return QN_OK;
}

/* A model that no builder knows can still be exported dense. */
static qn_code open_graph(qn_export_run *x, qn_err *err)
{
    const qn_code rc = qn_graph_open(x->env, x->input, &x->graph, &x->why);
    if (rc == QN_OK || rc == QN_E_UNSUPPORTED || rc == QN_E_INPUT)
        return QN_OK;
    *err = x->why;
    return rc;
}

/* Before hours of work, not after. */
static qn_code check_path(const qn_export_run *x, const qn_export_target *t, const char *path, qn_err *err)
{
    qn_stat st;
    bool there;
    if (!t->folder)
        return qn_fs_check_target(x->env->fs, path, x->o->overwrite, err);
    QN_TRY(qn_fs_find(x->env->fs, path, &st, &there, err));
    if (there && !st.is_dir)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "is a file, and %s is a folder", t->name), path);
    if (there && !x->o->overwrite)
        return qn_err_in_path(err, QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "exists: give --force to replace it"), path);
    return QN_OK;
}

qn_code qn_export_open(qn_export_run *x, const qn_env *env, qn_source *input, const qn_export_request *r, uint32_t n, const qn_export_options *o,
                       qn_err *err)
{
    *x = (qn_export_run){.env = env, .o = o, .input = input, .stats = QN_STATS_FILE_CLOSED};
    qn_arena_init(&x->arena, env->alloc);
    QN_TRY(allocate(x, n, err));
    QN_TRY(open_graph(x, err));
    if (o->statistics)
        QN_TRY(qn_stats_file_open(&x->stats, env, o->statistics, err));
    for (uint32_t i = 0; i < n; i++) {
        x->targets[i] = r[i].target;
        x->jobs[i] = (qn_export_job){.env = env, .src = input, .input = input, .graph = x->graph, .stats = o->statistics ? &x->stats : NULL,
                                     .variant = r[i].variant, .wish = &o->wish, .path = r[i].path, .overwrite = o->overwrite, .arena = &x->arena};
        x->n = i + 1;
        QN_TRY(check_path(x, r[i].target, r[i].path, err));
        QN_TRY(plan_one(x, i, err));
    }
    return QN_OK;
}

/* --- solving -------------------------------------------------------------------------------------------------------- */

static bool property_is(qn_source *s, const char *key, const char *value)
{
    const char *v = qn_reader_property(qn_quern_source_reader(s), key);
    return v && strcmp(v, value) == 0;
}

/* Is that the finished solve of an export that was interrupted? */
static bool is_same(const qn_export_solve *s, qn_source *found)
{
    char model[33], stats[33];
    const qn_digest m = qn_lossy_model(s->session.lossy), d = qn_lossy_statistics(s->session.lossy);
    qn_digest_hex(&m, model);
    qn_digest_hex(&d, stats);
    return qn_quern_source_reader(found) && property_is(found, "lossy", qn_lossy_recipe(s->session.lossy)) && property_is(found, "model", model) &&
           (qn_digest_equal(&d, &(qn_digest){{0}}) || property_is(found, "statistics", stats));
}

static qn_code reuse(qn_export_run *x, qn_export_solve *s, qn_err *err)
{
    qn_source *found = NULL;
    qn_err ignored = {0};
    if (!qn_fs_exists(x->env->fs, s->path))
        return QN_OK;
    if (qn_source_open(x->env, s->path, &found, &ignored) == QN_OK && is_same(s, found)) {
        s->src = found;
        s->reused = true;
        return QN_OK;
    }
    qn_source_close(found);
    return s->ours ? QN_OK : QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "is there, and is not what this export would keep: remove it, or name another");
}

static qn_code solve_path(qn_export_run *x, qn_export_solve *s, const qn_export_job *j, uint32_t number, qn_err *err)
{
    const bool keep = x->o->keep && number == 0;
    const char *base = keep ? x->o->keep : j->path, *tail = keep ? "" : ".quern-solve";
    size_t n = strlen(base);
    while (!keep && n > 1 && base[n - 1] == '/')
        n--;
    s->path = qn_arena_get(&x->arena, n + strlen(tail) + 1, 1, err);
    if (!s->path)
        return QN_E_MEMORY;
    memcpy(s->path, base, n);
    memcpy(s->path + n, tail, strlen(tail) + 1);
    s->ours = !keep;
    return QN_OK;
}

static qn_code solve(qn_export_run *x, uint32_t job, qn_err *err)
{
    qn_export_solve *s = &x->solves[x->solve_of[job] - 1];
    qn_pack_report report;
    if (s->src)
        return QN_OK;
    QN_TRY(solve_path(x, s, &x->jobs[job], x->solve_of[job] - 1, err));
    QN_TRY(qn_err_in_path(err, reuse(x, s, err), s->path));
    if (!s->src) {
        const qn_pack_options o = {.level = QN_LEVEL_FAST, .lossy = s->session.lossy, .overwrite = s->ours};
        QN_TRY(qn_pack(x->env, x->input, s->path, &o, &report, err));
        qn_pack_report_release(x->env, &report);
        QN_TRY(qn_source_open(x->env, s->path, &s->src, err));
    }
    return qn_graph_open(x->env, s->src, &s->graph, err);
}

static qn_code write_one(qn_export_run *x, uint32_t i, qn_err *err)
{
    qn_export_job *j = &x->jobs[i];
    if (x->solve_of[i]) {
        QN_TRY(solve(x, i, err));
        j->src = x->solves[x->solve_of[i] - 1].src;
        j->graph = x->solves[x->solve_of[i] - 1].graph;
    }
    j->n_rows = 0;
    return qn_err_in_path(err, x->targets[i]->write(j, err), j->path);
}

static void remove_solves(qn_export_run *x)
{
    for (uint32_t i = 0; i < x->n_solves; i++) {
        qn_export_solve *s = &x->solves[i];
        if (!s->ours || !s->src)
            continue;
        qn_graph_close(s->graph);
        qn_source_close(s->src);
        s->graph = NULL;
        s->src = NULL;
        (void)x->env->fs->unlink(x->env->fs->ctx, s->path);
    }
}

qn_code qn_export_all(qn_export_run *x, qn_err *err)
{
    qn_code rc = QN_OK;
    for (uint32_t i = 0; i < x->n && rc == QN_OK; i++)
        rc = write_one(x, i, err);
    if (rc != QN_E_CANCELLED && rc != QN_E_IO && rc != QN_E_MEMORY) /* after those the same command can go on with it */
        remove_solves(x);
    return rc;
}

void qn_export_close(qn_export_run *x)
{
    for (uint32_t i = 0; i < x->n_solves; i++) {
        qn_graph_close(x->solves[i].graph);
        qn_source_close(x->solves[i].src);
        qn_session_close(&x->solves[i].session);
    }
    qn_stats_file_close(&x->stats);
    qn_graph_close(x->graph);
    qn_arena_release(&x->arena);
}
