/* lossy_options.c: see lossy_options.h. */
#include "cli/lossy_options.h"
#include "base/err.h"
#include "cli/graph_report.h"
#include "cli/units.h"
#include <string.h>

/* In the order of the help: what a user tries first comes first. 0 stands for not given. */
static const char *const codecs[] = {
    "lossless", "ect", "grid", "pvq", "vq", "trellis", "fp8", "q1_0", "tq1_0", "tq2_0", "q2_0", "q2_k", "q3_k", "q4_0", "q4_1", "q4_k", "q5_0", "q5_1", "q5_k",
    "q6_k", "q8_0", "iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_nl", "iq4_xs", "mxfp4", "nvfp4", NULL};
static const char *const orders[] = {"act", "natural", NULL};

#define AT(field) offsetof(qn_lossy_command_args, lossy.field)

static const qn_option rows[] = {
    {.name = "codec", .type = QN_OPT_CHOICE, .at = AT(codec), .arg = "CODEC", .choices = codecs, .fallback = "lossless",
     .help = "how to approximate the weights of layers, head and embedding: ect (an entropy-coded trellis: the smallest, slower to "
             "read), grid (integers of 2 to 8 bits, with a scale for each group), pvq (points of pyramids), vq "
             "(centroids of vectors), trellis (paths at a fixed rate, fast to read), fp8 (E4M3), or a block type of GGUF (q4_k, iq2_xs, mxfp4, …), whose bits are fixed. Everything else stays lossless. With --bits or --size and no codec it is ect"},
    {.name = "size", .type = QN_OPT_SIZE, .at = AT(size), .arg = "SIZE", .help = "choose the bits so that the whole output has at most SIZE bytes (40MB, 1.5G)"},
    {.name = "bpw", .type = QN_OPT_REAL, .at = AT(bits_per_weight), .arg = "N", .max = 32,
     .help = "the same, as bits of the whole output for each weight of the model"},
    {.name = "stats", .type = QN_OPT_PATH, .at = AT(stats), .arg = "FILE",
     .help = "statistics of this model, from 'quern calibrate'. They tell which errors matter; without them all count alike"},
    {.name = "recipe", .type = QN_OPT_PATH, .at = AT(recipe), .arg = "FILE",
     .help = "read codec and settings, also those for tensors by name, from a YAML file (see below); options of the command line come on top"},
#define QN_SETTING(field, name_, kind, least, most, codecs_, arg_, help_) \
    {.name = name_, .type = QN_OPT_TEXT, .at = AT(setting) + QN_SETTING_AT_##field * sizeof(const char *), .arg = arg_, \
     .implied = QN_SETTING_##kind == QN_SETTING_FLAG ? "yes" : NULL, .help = sizeof(codecs_) > 1 ? "of " codecs_ ": " help_ : help_},
#include "compress/settings_tmpl.h"
#undef QN_SETTING
    {.name = "head-bits", .type = QN_OPT_REAL, .at = AT(head_bits), .arg = "N", .max = 32,
     .help = "bits of the head's weights; without it two more than --bits (one when it is a large part of the model), 8 at most. 16 or more: lossless"},
    {.name = "embedding-bits", .type = QN_OPT_REAL, .at = AT(embedding_bits), .arg = "N", .max = 32,
     .help = "the same of the embedding"},
    {.name = "order", .type = QN_OPT_CHOICE, .at = AT(order), .arg = "ORDER", .choices = orders, .fallback = "act",
     .help = "with --stats: which columns are rounded first, those with the largest input (act) or the first ones (natural)"},
    {.name = "damping", .type = QN_OPT_REAL, .at = AT(damping), .arg = "X", .max = 1,
     .help = "with --stats: add X times its mean to the diagonal of the second moment (0.001); more trusts the calibration less"},
    {.name = "spread", .type = QN_OPT_TEXT, .at = AT(spread), .arg = "X",
     .help = "with --stats that hold sensitivities: give more bits to weights whose errors cost more, from 0 (all the same) to 1 "
             "(as far as theory goes). It helps some models and hurts others: compare with eval. Takes one more run over the model"},
    {.name = "no-feedback", .type = QN_OPT_FLAG, .at = AT(no_feedback),
     .help = "with --stats: round every weight for itself; the statistics still weigh errors"},
};
const qn_option_table qn_lossy_options_table = {rows, sizeof rows / sizeof rows[0]};

/* The first option that only makes sense when something is approximated. */
static const char *any_given(const qn_lossy_args *a)
{
    for (unsigned i = 0; i < QN_N_SETTINGS; i++)
        if (a->setting[i])
            return qn_setting_tab[i].name;
    return a->stats ? "stats" : a->no_feedback ? "no-feedback" : a->head_bits > 0 ? "head-bits" : a->embedding_bits > 0 ? "embedding-bits"
         : a->damping > 0 ? "damping" : a->spread ? "spread" : a->order ? "order" : a->size ? "size" : a->bits_per_weight > 0 ? "bpw" : NULL;
}

static qn_code put_options(qn_recipe *r, const qn_lossy_args *a, qn_err *err)
{
    for (unsigned i = 0; i < QN_N_SETTINGS; i++)
        if (a->setting[i])
            QN_TRY(qn_setting_read(&qn_setting_tab[i], a->setting[i], &r->all.set, err));
    if (a->codec)
        r->all.codec = codecs[a->codec];
    if (a->head_bits > 0)
        r->role[QN_ROLE_HEAD].set.bits = a->head_bits;
    if (a->embedding_bits > 0)
        r->role[QN_ROLE_EMBEDDING].set.bits = a->embedding_bits;
    if (a->order)
        r->order = QN_ORDER_NATURAL;
    if (a->spread)
        QN_TRY(qn_recipe_put(r, "spread", a->spread, err));
    if (a->damping > 0)
        r->damping = a->damping;
    r->no_feedback = r->no_feedback || a->no_feedback;
    if (a->size || a->bits_per_weight > 0) {
        r->size_bytes = a->size;
        r->bits_per_weight = a->bits_per_weight;
    }
    if (!r->all.codec && (r->all.set.bits > 0 || r->size_bytes || r->bits_per_weight > 0))
        r->all.codec = "ect";
    return QN_OK;
}

qn_code qn_lossy_recipe_of(qn_recipe *r, qn_cli *cli, const qn_lossy_args *a, qn_err *err)
{
    if (a->recipe)
        QN_TRY(qn_recipe_read(r, &cli->env, a->recipe, &cli->arena, err));
    QN_TRY(put_options(r, a, err));
    if (!qn_recipe_is_lossy(r) && any_given(a))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: --%s goes with --codec", cli->command->name, any_given(a));
    return qn_recipe_check(r, err);
}

static void tell_try(void *ctx, double bits, uint64_t n_bytes)
{
    char size[32];
    qn_grouped(size, sizeof size, n_bytes);
    qn_cli_note(ctx, "note: with %.4g bits the output would have %s bytes", bits, size);
}

qn_code qn_lossy_session_open(qn_session *s, qn_cli *cli, const qn_lossy_args *a, qn_source *src, const qn_pack_options *pack, bool guess,
                              qn_err *err)
{
    const qn_session_options o = {.statistics = a->stats, .pack = pack, .guess = guess, .tried = tell_try, .ctx = cli};
    const qn_code rc = qn_session_open(s, &cli->env, src, &o, err);
    if (s->graph)
        qn_cli_graph_warnings(cli, s->graph);
    return rc;
}
