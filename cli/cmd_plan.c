/* cmd_plan.c: quern plan INPUT: what `compress` with the same options would do to every tensor, before any work. */
#include "base/err.h"
#include "cli/commands.h"
#include "cli/json_write.h"
#include "cli/lossy_options.h"
#include "cli/pruned.h"
#include "cli/table.h"
#include "cli/units.h"
#include "compress/forecast.h"
#include <string.h>
#include <unistd.h>

struct args {
    qn_common common;
    qn_lossy_args lossy;
    qn_data_args data;
    double prune;
    bool all;
};

static const qn_option options[] = {
    {.name = "prune", .type = QN_OPT_REAL, .at = offsetof(struct args, prune), .arg = "R", .max = 1,
     .help = "plan for the model with this share of its parameters cut away: its shapes are found, no weight is refitted"},
    QN_DATA_OPTIONS(struct args, data),
    {.name = "all", .letter = 'a', .type = QN_OPT_FLAG, .at = offsetof(struct args, all),
     .help = "list also every tensor that stays lossless"},
};

static const char *const roles[QN_N_ROLES] = {"", "linear", "head", "embedding"};

/* Why a tensor that no layer multiplies with keeps every bit. */
static const char *const not_multiplied = "a norm, bias, scale or table: few bytes, and each of them counts";

static const char *settings_of(const qn_lossy_row *r, char *buf, size_t n_bytes)
{
    (void)qn_settings_write(&r->set, buf, n_bytes);
    return *buf ? buf + 1 : buf;
}

/* Is this object one of the rows? Objects are asked for in order, as the rows are; *at begins at 0. */
static bool in_rows(const qn_lossy *l, uint64_t object, uint64_t *at)
{
    while (l && *at < qn_lossy_count(l) && qn_lossy_report(l, *at).object < object)
        (*at)++;
    return l && *at < qn_lossy_count(l) && qn_lossy_report(l, *at).object == object;
}

static qn_code row(qn_table *t, const qn_lossy_row *r, qn_err *err)
{
    char settings[256], bytes[32], seen[32];
    qn_human_bytes(bytes, sizeof bytes, qn_forecast_row(r));
    qn_human_count(seen, sizeof seen, r->seen);
    QN_TRY(qn_table_cell(t, err, "%s", r->name));
    QN_TRY(qn_table_cell(t, err, "%s", roles[r->role]));
    QN_TRY(qn_table_cell(t, err, "%u x %u", r->rows, r->cols));
    QN_TRY(qn_table_cell(t, err, "%s", r->codec));
    QN_TRY(qn_table_cell(t, err, "%s", settings_of(r, settings, sizeof settings)));
    QN_TRY(qn_table_cell(t, err, "%s", bytes));
    return qn_table_cell(t, err, "%s", r->seen ? seen : "-");
}

static qn_code print_rows(qn_cli *cli, const qn_lossy *l, qn_err *err)
{
    static const qn_column columns[] = {{.title = "approximated", .shrink = true}, {.title = "as"}, {"shape", .right = true}, {.title = "codec"},
                                        {.title = "settings"}, {"bytes", .right = true}, {"rows", .right = true}};
    qn_table table;
    qn_code rc = QN_OK;
    qn_table_init(&table, &cli->out, &cli->arena, columns, 7, 2);
    for (uint64_t i = 0; l && i < qn_lossy_count(l) && rc == QN_OK; i++) {
        const qn_lossy_row r = qn_lossy_report(l, i);
        if (!r.kept)
            rc = row(&table, &r, err);
    }
    if (rc == QN_OK && table.n_cells)
        qn_table_print(&table);
    qn_table_release(&table);
    return rc;
}

static void print_kept(const struct args *a, const qn_source *src, const qn_lossy *l)
{
    uint64_t n_more = 0, bytes = 0, at = 0;
    char size[32];
    for (uint64_t i = 0; l && i < qn_lossy_count(l); i++) {
        const qn_lossy_row r = qn_lossy_report(l, i);
        if (r.kept)
            printf("  kept      %s: %s\n", r.name, r.kept);
    }
    for (uint64_t i = 0; i < src->n_objects; i++) {
        const qn_object *o = &src->objects[i];
        if (o->kind != QN_OBJECT_TENSOR || in_rows(l, i, &at))
            continue;
        if (a->all)
            printf("  kept      %s: %s\n", o->name, l ? not_multiplied : "lossless was asked for");
        n_more++;
        bytes += o->n_bytes;
    }
    qn_human_bytes(size, sizeof size, bytes);
    if (n_more && !a->all)
        printf("  kept      %llu more, %s: %s\n", (unsigned long long)n_more, size, l ? not_multiplied : "lossless was asked for");
}

static void print_totals(const qn_env *env, const qn_source *src, const qn_session *s, const qn_forecast *f, uint64_t memory)
{
    uint64_t before = 0;
    char a[32], b[32], c[32];
    for (uint64_t i = 0; i < src->n_files; i++)
        before += src->files[i].n_bytes;
    qn_human_bytes(a, sizeof a, before);
    qn_human_bytes(b, sizeof b, f->approximated_bytes);
    qn_human_bytes(c, sizeof c, f->lossless_bytes);
    printf("\n  bytes     %s now; then about %s approximated, and %s that are packed without loss\n", a, b, c);
    if (s->budget) {
        qn_human_bytes(a, sizeof a, s->budget);
        printf("  budget    %s: about %.3g bits; compress finds out exactly\n", a, s->recipe.all.set.bits);
    }
    qn_human_seconds(a, sizeof a, f->seconds);
    printf("  time      about %s with %u thread%s\n", a, env->n_threads, env->n_threads == 1 ? "" : "s");
    qn_human_bytes(a, sizeof a, memory);
    printf("  memory    at most %s\n", a);
}

static void print_json(const qn_source *src, const qn_session *s, const qn_forecast *f, uint64_t memory)
{
    qn_json_writer j;
    uint64_t at = 0;
    qn_jw_open(&j, stdout, "plan");
    qn_jw_text(&j, "recipe", s->lossy ? qn_lossy_recipe(s->lossy) : QN_RECIPE_LOSSLESS);
    qn_jw_begin(&j, "tensors", '[');
    for (uint64_t i = 0; s->lossy && i < qn_lossy_count(s->lossy); i++) {
        const qn_lossy_row r = qn_lossy_report(s->lossy, i);
        char settings[256];
        qn_jw_begin(&j, NULL, '{');
        qn_jw_text(&j, "tensor", r.name);
        qn_jw_text(&j, "role", roles[r.role]);
        qn_jw_text(&j, "codec", r.kept ? QN_RECIPE_LOSSLESS : r.codec);
        qn_jw_text(&j, "kept", r.kept);
        if (!r.kept) {
            qn_jw_text(&j, "settings", settings_of(&r, settings, sizeof settings));
            qn_jw_u64(&j, "rows", r.rows);
            qn_jw_u64(&j, "cols", r.cols);
            qn_jw_real(&j, "bits", r.set.bits);
            qn_jw_u64(&j, "bytes", qn_forecast_row(&r));
            qn_jw_u64(&j, "rows_seen", r.seen);
        }
        qn_jw_end(&j, '}');
    }
    for (uint64_t i = 0; i < src->n_objects; i++) {
        const qn_object *o = &src->objects[i];
        if (o->kind != QN_OBJECT_TENSOR || in_rows(s->lossy, i, &at))
            continue;
        qn_jw_begin(&j, NULL, '{');
        qn_jw_text(&j, "tensor", o->name);
        qn_jw_text(&j, "role", NULL);
        qn_jw_text(&j, "codec", QN_RECIPE_LOSSLESS);
        qn_jw_text(&j, "kept", s->lossy ? not_multiplied : "lossless was asked for");
        qn_jw_end(&j, '}');
    }
    qn_jw_end(&j, ']');
    qn_jw_u64(&j, "approximated_bytes", f->approximated_bytes);
    qn_jw_u64(&j, "lossless_bytes", f->lossless_bytes);
    qn_jw_u64(&j, "memory_bytes", memory);
    qn_jw_real(&j, "seconds", f->seconds);
    qn_jw_close(&j);
}

static qn_code show(qn_cli *cli, const struct args *a, qn_source *src, qn_session *s, qn_err *err)
{
    qn_pack_options opt = {.level = QN_LEVEL_DENSE};
    qn_forecast f;
    if (qn_recipe_is_lossy(&s->recipe))
        QN_TRY(qn_lossy_session_open(s, cli, &a->lossy, src, &opt, true, err));
    opt.lossy = s->lossy;
    QN_TRY(qn_forecast_all(&cli->env, src, s->lossy, &f, err));
    const uint64_t memory = qn_pack_memory(&cli->env, src, &opt);
    qn_progress_clear(&cli->progress);
    if (cli->common->json) {
        print_json(src, s, &f, memory);
        return QN_OK;
    }
    if (s->lossy)
        printf("recipe: %s\n\n", qn_lossy_recipe(s->lossy));
    QN_TRY(print_rows(cli, s->lossy, err));
    print_kept(a, src, s->lossy);
    print_totals(&cli->env, src, s, &f, memory);
    return QN_OK;
}

/* Where a copy with cut shapes can grow: beside nothing that exists, in the folder of temporary files. */
static qn_code prune_first(qn_cli *cli, const struct args *a, const qn_recipe *r, qn_pruned *x, const char **in, qn_err *err)
{
    char place[300];
    (void)snprintf(place, sizeof place, "%.200s/quern-plan-%ld", cli->env.tmp_dir ? cli->env.tmp_dir : "/tmp", (long)getpid());
    const qn_pruned_options o = {.wish = &r->prune, .data = &a->data, .shapes_only = true};
    QN_TRY(qn_pruned_open(x, cli, *in, place, &o, err));
    *in = x->path;
    return QN_OK;
}

static qn_code run(qn_cli *cli, const void *args, qn_err *err)
{
    const struct args *a = args;
    qn_session session = QN_SESSION_CLOSED;
    qn_source *src = NULL;
    qn_pruned pruned = {0};
    const char *in = cli->operands.items[0];
    qn_code rc = qn_lossy_recipe_of(&session.recipe, cli, &a->lossy, err);
    if (a->prune > 0)
        session.recipe.prune.ratio = a->prune;
    if (rc == QN_OK)
        rc = qn_data_check(cli, &a->data, err);
    if (rc == QN_OK && session.recipe.prune.ratio > 0)
        rc = qn_prune_wish_check(&session.recipe.prune, err);
    if (rc == QN_OK && session.recipe.prune.ratio > 0)
        rc = prune_first(cli, a, &session.recipe, &pruned, &in, err);
    if (rc == QN_OK)
        rc = qn_cli_open(cli, in, &src, err);
    if (rc == QN_OK)
        rc = show(cli, a, src, &session, err);
    qn_session_close(&session);
    qn_source_close(src);
    qn_pruned_close(&pruned);
    return rc;
}

static const qn_example examples[] = {
    {"quern plan model/ --bits=3 --stats model.qstats", "what each tensor would get with 3 bits"},
    {"quern plan model/ --recipe recipe.yaml", "what a recipe means for this model"},
    {"quern plan model/ --size=40MB --all", "… for a size, with every tensor"},
    {NULL, NULL},
};

static const qn_json_key keys[] = {
    {"recipe", "the recipe, in one line"},
    {"tensors[]", "tensor, role, codec, kept (why it is lossless, or null); if approximated settings, rows, cols, bits, bytes, rows_seen"},
    {"approximated_bytes, lossless_bytes", "bytes of what is approximated, afterwards; and of everything else, before it is packed"},
    {"memory_bytes, seconds", "planned peak memory; expected time, to a factor of two"},
    {NULL, NULL},
};

const qn_command qn_cmd_plan = {
    .name = "plan",
    .summary = "tell what compress would do to each tensor",
    .synopsis = "INPUT [--codec=CODEC] [--bits=N | --size=SIZE] [--recipe=FILE] [--stats=FILE] [options]",
    .description =
        "Reads the same options and recipes as 'quern compress' and tells what every tensor would get: codec, settings, bytes, and for those that "
        "stay lossless why; and how long the work would take and how much memory. Nothing is written and no weight is quantized; "
        "the time comes from a moment's trial on made-up weights.",
    .options = {options, sizeof options / sizeof options[0]},
    .lossy_options = &qn_lossy_options_table,
    .min_operands = 1,
    .max_operands = 1,
    .operand = "the checkpoint to plan for",
    .examples = examples,
    .json = keys,
    .args_bytes = sizeof(struct args),
    .run = run,
};
