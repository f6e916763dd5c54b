/* df11_pick.h: which weights of a model become which DFloat11 groups, and what config.json says of them. */
#ifndef QN_COMPRESS_EXPORT_DF11_PICK_H
#define QN_COMPRESS_EXPORT_DF11_PICK_H

#include "analysis/graph/graph.h"
#include "compress/export/df11_group.h"
#include "formats/safetensors/write.h"

/* A module that is one group: a block of the model with linear layers inside, or a linear layer or an embedding alone. In the arena. */
typedef struct qn_df11_module {
    qn_df11_group group;
    const char *stem;      /* "model.layers." of a block; NULL: alone                              */
    uint64_t number;       /* of the block                                                         */
    const char **inner;    /* by part: "self_attn.q_proj"; "" of a module alone                    */
} qn_df11_module;

typedef struct qn_df11_pick {
    qn_df11_module *modules;
    uint32_t n;
    uint32_t *module_of;   /* by tensor of the source; UINT32_MAX: it stays dense */
    const char **why;      /* the reason, where one might ask; else NULL          */
} qn_df11_pick;

/* Looks at names, shapes and uses; no weight is read. g may be NULL: then only weights within numbered blocks are taken. */
qn_code qn_df11_pick_make(qn_df11_pick *p, qn_source *src, const qn_graph *g, qn_arena *arena, qn_err *err) QN_MUST_CHECK;
/* A part leaves its module, or (UINT32_MAX) all of them do, for this reason. Surveys of the module have to be released before. */
void qn_df11_pick_drop(qn_df11_pick *p, uint32_t module, uint32_t part, const char *why);
/* The value of dfloat11_config: version, constants of the layout, pattern_dict (a regular expression over module paths, and the inner paths), and the
 * shapes of the weights under the same expressions: the files themselves do not hold them. */
void qn_df11_pick_config(const qn_df11_pick *p, const qn_source *src, qn_textbuf *t);

#endif
