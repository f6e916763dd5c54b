/* recipe.h: what a user wants done to the tensors of a model, and what that means for one of them.
 *
 * A recipe comes from the command line, from a file (recipe_yaml.c), or both. For a tensor that can be approximated it is read from the general to the
 * particular: the codec and settings for all, those for its role (head, embedding), then every rule whose pattern matches its name, in order. Whatever
 * a later one gives replaces what an earlier one gave. Naming another codec forgets settings that it does not know. */
#ifndef QN_COMPRESS_RECIPE_H
#define QN_COMPRESS_RECIPE_H

#include "base/env.h"
#include "base/pattern.h"
#include "compress/ldl.h"
#include "compress/prune/wish.h"
#include "compress/settings.h"

typedef enum qn_lossy_role { QN_ROLE_NONE, QN_ROLE_LINEAR, QN_ROLE_HEAD, QN_ROLE_EMBEDDING, QN_N_ROLES } qn_lossy_role;

#define QN_RECIPE_LOSSLESS "lossless" /* the codec of tensors that keep every bit */
#define QN_RECIPE_BITS     4          /* when none are given                      */
#define QN_RECIPE_SPREAD   0          /* the same; docs/recipes.md tells why      */

typedef struct qn_recipe_part {
    const char *codec; /* of qn_quantizer_tab, or QN_RECIPE_LOSSLESS; NULL: not given */
    qn_quant_settings set;
} qn_recipe_part;

typedef struct qn_recipe_rule {
    qn_pattern match;
    qn_recipe_part part;
    unsigned line;   /* in the file, for messages; 0: none */
    uint64_t n_hits; /* tensors that it was applied to     */
} qn_recipe_rule;

typedef struct qn_recipe {
    qn_recipe_part all;           /* codec NULL: lossless                                              */
    qn_recipe_part role[QN_N_ROLES]; /* head and embedding; without bits: more than all */
    qn_recipe_rule *rules;
    uint32_t n_rules, cap_rules; /* cap: of an array that was made for adding to */
    qn_ldl_order order;
    double damping;               /* 0: the default                                                    */
    bool no_feedback;             /* statistics weigh columns, errors stay where they are              */
    /* Bits are chosen so that the whole output is as large as one of these says; 0: not asked for. Not both. */
    uint64_t size_bytes;
    double bits_per_weight;       /* 8 × output bytes over weights of the model */
    qn_prune_wish prune;          /* before all else; ratio 0: no                                       */
    double spread;                /* of bits over layers by their sensitivity, where the statistics hold it (spread.h): 0 none … 1 as far as
                                     theory goes */
} qn_recipe;

#define QN_RECIPE_EMPTY ((qn_recipe){.order = QN_ORDER_ACT, .prune = QN_PRUNE_WISH_NONE, .spread = QN_RECIPE_SPREAD})

/* Reads a file into *r, strings from `arena`. QN_E_USAGE with path, line and what is allowed. Released whatever it returns. */
qn_code qn_recipe_read(qn_recipe *r, const qn_env *env, const char *path, qn_arena *arena, qn_err *err) QN_MUST_CHECK;
/* The same from text; `name` stands for the path in messages. */
qn_code qn_recipe_parse(qn_recipe *r, const char *text, size_t n_bytes, const char *name, qn_arena *arena, qn_err *err) QN_MUST_CHECK;
void qn_recipe_release(qn_recipe *r);

/* One key of the topmost level, as in a file: codec, order, damping, feedback, size, bits_per_weight, spread, or a setting.
 * QN_E_USAGE: unknown, or a value that is not allowed. */
qn_code qn_recipe_put(qn_recipe *r, const char *key, const char *value, qn_err *err) QN_MUST_CHECK;
/* The same for codec and settings of a part. */
qn_code qn_recipe_part_put(qn_recipe_part *part, const char *key, const char *value, qn_err *err) QN_MUST_CHECK;

/* One more rule, behind those that are there: `match` as in a file; both from `arena` or longer-lived. A name that holds * ? [ or begins with re: is
 * not meant literally. What most tensors get belongs in r->all: rules are tried one after the other for each tensor. */
qn_code qn_recipe_add(qn_recipe *r, const char *match, const qn_recipe_part *part, qn_arena *arena, qn_err *err) QN_MUST_CHECK;

/* Is anything approximated at all? */
bool qn_recipe_is_lossy(const qn_recipe *r);
/* Refuses settings that their codec does not know, and contradictions. QN_E_USAGE. */
qn_code qn_recipe_check(const qn_recipe *r, qn_err *err) QN_MUST_CHECK;

/* Heads and embeddings without bits of their own have two more than the rest, 8 at most; one more when they are more than this share of all
 * weights, as in small models with large vocabularies, where two cost the rest too much. */
#define QN_RECIPE_LARGE_SHARE 0.05

/* What one tensor gets: a codec, never NULL, and its settings with bits. Counts the rules that matched. `explicit_bits`: its bits were
 * given for it, by role or rule, and do not follow those for all. `share`: of all weights that can be approximated. */
typedef struct qn_recipe_choice {
    const char *codec;
    qn_quant_settings set;
    bool explicit_bits;
} qn_recipe_choice;
qn_recipe_choice qn_recipe_choose(qn_recipe *r, const char *name, qn_lossy_role role, double share);

/* Before choosing for all tensors once more. */
void qn_recipe_forget_hits(qn_recipe *r);
/* QN_E_USAGE when a rule matched none of the tensors. */
qn_code qn_recipe_check_hits(const qn_recipe *r, qn_err *err) QN_MUST_CHECK;

/* The recipe in one line, for provenance, from `arena`: "ect bits=3 head: bits=5; model.layers.0.*: lossless; order=act". NULL when
 * there is no memory. */
const char *qn_recipe_text(const qn_recipe *r, bool measured, qn_arena *arena, qn_err *err);

#endif
