/* recipe.c: see recipe.h. */
#include "compress/recipe.h"
#include "base/err.h"
#include "base/sizes.h"
#include "compress/blocks/quant_blocks.h"
#include "compress/quantizer.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_lossless(const char *codec)
{
    return !codec || strcmp(codec, QN_RECIPE_LOSSLESS) == 0;
}

/* --- filling ------------------------------------------------------------------------------------------------------- */

static qn_code put_codec(const char **codec, const char *value, qn_err *err)
{
    char list[160] = QN_RECIPE_LOSSLESS;
    if (strcmp(value, QN_RECIPE_LOSSLESS) == 0) {
        *codec = QN_RECIPE_LOSSLESS;
        return QN_OK;
    }
    for (unsigned i = 0; i < qn_quantizer_count; i++) {
        const char *name = qn_quantizer_tab[i].name;
        if (strcmp(value, name) == 0) {
            *codec = name;
            return QN_OK;
        }
        const size_t n = strlen(list);
        (void)snprintf(list + n, sizeof list - n, "%s%s", i + 1 == qn_quantizer_count ? " and " : ", ", name);
    }
    const qn_block_coder *c = qn_block_coder_find(value);
    if (c) {
        *codec = c->name;
        return QN_OK;
    }
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "codec: found '%.40s', allowed are %s, and the block types of ggml (q4_0, q4_k, …)", value, list);
}

qn_code qn_recipe_part_put(qn_recipe_part *part, const char *key, const char *value, qn_err *err)
{
    if (strcmp(key, "codec") == 0)
        return put_codec(&part->codec, value, err);
    const qn_setting *s = qn_setting_find(key);
    if (!s)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "no setting called '%.40s'", key);
    return qn_setting_read(s, value, &part->set, err);
}

static qn_code put_real(double *v, const char *key, const char *value, double least, double most, qn_err *err)
{
    char *end = NULL;
    *v = (*value >= '0' && *value <= '9') || *value == '.' ? strtod(value, &end) : (double)NAN;
    if (!end || *end || !(*v >= least && *v <= most))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: found '%.40s', allowed are %g to %g", key, value, least, most);
    return QN_OK;
}

static qn_code put_word(unsigned *v, const char *key, const char *value, const char *zero, const char *one, qn_err *err)
{
    *v = strcmp(value, one) == 0;
    if (!*v && strcmp(value, zero) != 0)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: found '%.40s', allowed are %s and %s", key, value, zero, one);
    return QN_OK;
}

qn_code qn_recipe_put(qn_recipe *r, const char *key, const char *value, qn_err *err)
{
    unsigned word = 0;
    if (strcmp(key, "order") == 0) {
        QN_TRY(put_word(&word, key, value, "act", "natural", err));
        r->order = word ? QN_ORDER_NATURAL : QN_ORDER_ACT;
        return QN_OK;
    }
    if (strcmp(key, "feedback") == 0) {
        QN_TRY(put_word(&word, key, value, "yes", "no", err));
        r->no_feedback = word;
        return QN_OK;
    }
    if (strcmp(key, "damping") == 0)
        return put_real(&r->damping, key, value, 0, 1, err);
    if (strcmp(key, "spread") == 0)
        return put_real(&r->spread, key, value, 0, 1, err);
    if (strcmp(key, "bits_per_weight") == 0)
        return put_real(&r->bits_per_weight, key, value, 0.05, 32, err);
    if (strcmp(key, "size") == 0) {
        if (!qn_parse_size(value, &r->size_bytes) || r->size_bytes == 0)
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "size: found '%.40s', allowed are bytes with a unit, like 40MB", value);
        return QN_OK;
    }
    return qn_recipe_part_put(&r->all, key, value, err);
}

/* Room for one more rule; the array of a file that was read has none to spare. */
static qn_code make_room(qn_recipe *r, qn_arena *arena, qn_err *err)
{
    if (r->n_rules < r->cap_rules)
        return QN_OK;
    const uint64_t cap = 2 * (uint64_t)r->n_rules + 18;
    qn_recipe_rule *rules = qn_arena_get(arena, cap * sizeof *rules, 16, err);
    if (!rules)
        return QN_E_MEMORY;
    if (r->n_rules)
        memcpy(rules, r->rules, r->n_rules * sizeof *rules);
    r->rules = rules;
    r->cap_rules = (uint32_t)cap;
    return QN_OK;
}

qn_code qn_recipe_add(qn_recipe *r, const char *match, const qn_recipe_part *part, qn_arena *arena, qn_err *err)
{
    QN_TRY(make_room(r, arena, err));
    qn_recipe_rule rule = {.part = *part};
    QN_TRY(qn_pattern_open(&rule.match, match, err));
    r->rules[r->n_rules++] = rule;
    return QN_OK;
}

void qn_recipe_release(qn_recipe *r)
{
    for (uint32_t i = 0; i < r->n_rules; i++)
        qn_pattern_close(&r->rules[i].match);
    *r = QN_RECIPE_EMPTY;
}

/* --- checking ------------------------------------------------------------------------------------------------------- */

bool qn_recipe_is_lossy(const qn_recipe *r)
{
    bool any = !is_lossless(r->all.codec);
    for (unsigned i = 0; i < QN_N_ROLES; i++)
        any = any || !is_lossless(r->role[i].codec);
    for (uint32_t i = 0; i < r->n_rules; i++)
        any = any || !is_lossless(r->rules[i].part.codec);
    return any;
}

static bool is_empty(const qn_quant_settings *set)
{
    char any[8];
    return qn_settings_write(set, any, sizeof any) == 0;
}

static qn_code check_part(const qn_recipe_part *p, const char *codec, const char *of, unsigned line, qn_err *err)
{
    qn_err why;
    qn_err_clear(&why);
    qn_code rc = QN_OK;
    if (p->codec ? is_lossless(p->codec) && !is_empty(&p->set) : false)
        rc = QN_FAIL(&why, QN_E_USAGE, QN_NO_OFFSET, "the codec lossless has no settings");
    else if (!is_lossless(codec))
        rc = qn_settings_check(&p->set, codec, &why);
    if (rc == QN_OK && p->set.bits > 0 && p->set.bits < 16 && qn_blocks_bits(codec) > 0)
        rc = QN_FAIL(&why, QN_E_USAGE, QN_NO_OFFSET, "%s has %g bits, none can be given", codec, qn_blocks_bits(codec));
    if (rc == QN_OK)
        return QN_OK;
    if (line)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "line %u: %s: %s", line, of, why.text);
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s%s%s", of, *of ? ": " : "", why.text);
}

qn_code qn_recipe_check(const qn_recipe *r, qn_err *err)
{
    static const char *const names[QN_N_ROLES] = {"", "", "head", "embedding"};
    if (r->size_bytes && r->bits_per_weight > 0)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "a size and bits per weight of the whole file: one of them is enough");
    if ((r->size_bytes || r->bits_per_weight > 0) && r->all.set.bits > 0)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "bits follow from the size that is asked for: give one of them");
    if ((r->size_bytes || r->bits_per_weight > 0) && qn_blocks_bits(r->all.codec) > 0)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "no size can be asked for: %s has %g bits", r->all.codec, qn_blocks_bits(r->all.codec));
    if (qn_prune_wish_any(&r->prune))
        QN_TRY(qn_prune_wish_check(&r->prune, err));
    QN_TRY(check_part(&r->all, r->all.codec, "", 0, err));
    for (unsigned i = QN_ROLE_HEAD; i < QN_N_ROLES; i++)
        QN_TRY(check_part(&r->role[i], r->role[i].codec || qn_blocks_bits(r->all.codec) == 0 ? r->role[i].codec : r->all.codec, names[i], 0, err));
    /* a rule without a codec may meet tensors of several */
    for (uint32_t i = 0; i < r->n_rules; i++)
        QN_TRY(check_part(&r->rules[i].part, r->rules[i].part.codec, r->rules[i].match.text, r->rules[i].line, err));
    return QN_OK;
}

void qn_recipe_forget_hits(qn_recipe *r)
{
    for (uint32_t i = 0; i < r->n_rules; i++)
        r->rules[i].n_hits = 0;
}

qn_code qn_recipe_check_hits(const qn_recipe *r, qn_err *err)
{
    for (uint32_t i = 0; i < r->n_rules; i++)
        if (r->rules[i].n_hits == 0)
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "recipe, line %u: '%s' matches none of the tensors that can be approximated",
                           r->rules[i].line, r->rules[i].match.text);
    return QN_OK;
}

/* --- choosing ------------------------------------------------------------------------------------------------------- */

static void apply(qn_recipe_choice *c, const qn_recipe_part *p)
{
    if (p->codec) {
        c->codec = p->codec;
        if (!is_lossless(p->codec))
            qn_settings_keep(&c->set, p->codec);
    }
    qn_settings_merge(&c->set, &p->set);
    c->explicit_bits = c->explicit_bits || p->set.bits > 0;
}

/* Heads and embeddings have more bits unless it is said otherwise, and a codec that suits so many. */
static void apply_role(qn_recipe_choice *c, const qn_recipe_part *p, qn_lossy_role role, double share)
{
    const double b = c->set.bits, more = b + (share > QN_RECIPE_LARGE_SHARE ? 1 : 2);
    c->set.bits = more < 8 ? more : b > 8 ? b : 8;
    apply(c, p);
    if (c->set.bits >= 16)
        c->codec = QN_RECIPE_LOSSLESS;
    const qn_quantizer_row *row = is_lossless(c->codec) || qn_blocks_bits(c->codec) > 0 ? NULL : qn_quantizer_find(c->codec);
    if (row && !p->codec && c->set.bits > (role == QN_ROLE_HEAD ? row->head_bits_most : row->embedding_bits_most)) {
        c->codec = "grid";
        qn_settings_keep(&c->set, c->codec);
        c->set.bits = ceil(c->set.bits);
    }
}

qn_recipe_choice qn_recipe_choose(qn_recipe *r, const char *name, qn_lossy_role role, double share)
{
    qn_recipe_choice c = {.codec = r->all.codec ? r->all.codec : QN_RECIPE_LOSSLESS, .set = r->all.set};
    if (c.set.bits == 0)
        c.set.bits = QN_RECIPE_BITS;
    if (role == QN_ROLE_HEAD || role == QN_ROLE_EMBEDDING)
        apply_role(&c, &r->role[role], role, share);
    for (uint32_t i = 0; i < r->n_rules; i++) {
        if (!qn_pattern_match(&r->rules[i].match, name))
            continue;
        r->rules[i].n_hits++;
        apply(&c, &r->rules[i].part);
    }
    if (!is_lossless(c.codec))
        qn_settings_keep(&c.set, c.codec);
    if (qn_blocks_bits(c.codec) > 0) {
        c.set.bits = qn_blocks_bits(c.codec);
        c.explicit_bits = true;
    }
    return c;
}

/* --- telling -------------------------------------------------------------------------------------------------------- */

struct text {
    char *buf;
    size_t n, room;
};

static void add(struct text *t, const char *s)
{
    const size_t n = strlen(s);
    if (t->n + n < t->room)
        memcpy(t->buf + t->n, s, n + 1);
    t->n += n;
}

static void add_part(struct text *t, const qn_recipe_part *p)
{
    if (p->codec) {
        add(t, " ");
        add(t, p->codec);
    }
    if (t->n < t->room)
        t->n += qn_settings_write(&p->set, t->buf + t->n, t->room - t->n);
}

const char *qn_recipe_text(const qn_recipe *r, bool measured, qn_arena *arena, qn_err *err)
{
    char one[256];
    size_t room = 1024;
    for (uint32_t i = 0; i < r->n_rules; i++)
        room += strlen(r->rules[i].match.text) + 256;
    struct text t = {.buf = qn_arena_get(arena, room, 1, err), .room = room};
    if (!t.buf)
        return NULL;
    qn_recipe_part all = r->all;
    if (!is_lossless(all.codec) && all.set.bits == 0 && qn_blocks_bits(all.codec) == 0)
        all.set.bits = QN_RECIPE_BITS;
    if (qn_prune_wish_any(&r->prune)) {
        (void)qn_prune_wish_text(&r->prune, one, sizeof one);
        add(&t, one);
        add(&t, "; ");
    }
    add(&t, all.codec ? all.codec : QN_RECIPE_LOSSLESS);
    all.codec = NULL;
    add_part(&t, &all);
    for (unsigned i = QN_ROLE_HEAD; i < QN_N_ROLES; i++) {
        if (!r->role[i].codec && is_empty(&r->role[i].set))
            continue;
        add(&t, i == QN_ROLE_HEAD ? "; head:" : "; embedding:");
        add_part(&t, &r->role[i]);
    }
    for (uint32_t i = 0; i < r->n_rules; i++) {
        add(&t, "; ");
        add(&t, r->rules[i].match.text);
        add(&t, ":");
        add_part(&t, &r->rules[i].part);
    }
    add(&t, r->order == QN_ORDER_ACT ? "; order=act" : "; order=natural");
    if (measured && !r->no_feedback)
        add(&t, " feedback");
    if (r->damping > 0) {
        (void)snprintf(one, sizeof one, " damping=%.9g", r->damping);
        add(&t, one);
    }
    if (r->spread != QN_RECIPE_SPREAD) {
        (void)snprintf(one, sizeof one, " spread=%.9g", r->spread);
        add(&t, one);
    }
    return t.buf;
}
